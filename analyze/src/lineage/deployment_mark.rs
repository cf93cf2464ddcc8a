//! Marks of deployments: what a script or a person said was deployed, as rows of the table `deployment_marks`.

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;

use super::deployment::{Evidence, Observation, Release, Target};
use crate::{
    error::{Error, Result},
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
};

/// The table.
pub const TABLE: &str = "deployment_marks";

/// One mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentMark {
    /// When it was, or will be, deployed, UTC microseconds.
    pub time_us: i64,
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`; none is every environment.
    pub environment: Option<String>,
    /// Name of the model; none is what the telemetry of the service says.
    pub model: Option<String>,
    /// Version.
    pub version: String,
    /// When the mark reached us, UTC microseconds.
    pub received_us: i64,
}

impl DeploymentMark {
    /// Checks the mark and adds it to the table.
    ///
    /// # Errors
    /// [`Error::Mark`] with what is missing; those of the store.
    pub async fn write(&self, store: &Store) -> Result<()> {
        let target = Target { service: self.service.clone(), environment: self.environment.clone() };
        self.observation(&target, &self.service).check().map_err(Error::Mark)?;
        store.write_result(TABLE, self.to_batch()?).await?;
        Ok(())
    }

    /// The mark as evidence of what runs at `target`, where the model is called `model` unless the mark says otherwise.
    pub fn observation(&self, target: &Target, model: &str) -> Observation {
        let model = self.model.clone().unwrap_or_else(|| model.to_owned());
        let release = Release { model, version: self.version.clone() };
        let (time_us, received_us) = (self.time_us, self.received_us);
        Observation { target: target.clone(), time_us, evidence: Evidence::Mark { release }, received_us }
    }

    fn to_batch(&self) -> Result<RecordBatch> {
        let mut table = ResultTable::new(self.time_us, 1);
        table
            .time("received_time", self.received_us)
            .text("service_name", self.service.trim())
            .texts("environment", [self.environment.clone()])
            .texts("model", [self.model.clone()])
            .text("version", self.version.trim());
        table.finish()
    }
}

/// The marks of a service, in order of time; none where nobody ever marked anything.
///
/// # Errors
/// Those of queries.
pub async fn read(ctx: &SessionContext, service: &str) -> Result<Vec<DeploymentMark>> {
    if !has_result(ctx, TABLE) {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT CAST(time AS BIGINT) AS time_us, CAST(received_time AS BIGINT) AS received_us, environment, model, version \
         FROM reports.{TABLE} WHERE service_name = {} ORDER BY time, received_time",
        literal(service)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (times, received) = (rows.integers("time_us")?, rows.integers("received_us")?);
    let (environments, models, versions) = (rows.texts("environment")?, rows.texts("model")?, rows.texts("version")?);
    Ok((0..rows.len())
        .map(|row| DeploymentMark {
            time_us: times[row].unwrap_or_default(),
            service: service.to_owned(),
            environment: environments[row].clone(),
            model: models[row].clone(),
            version: versions[row].clone().unwrap_or_default(),
            received_us: received[row].unwrap_or_default(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_evidence_of_the_model_that_telemetry_names() {
        let mark = DeploymentMark {
            time_us: 5,
            service: "resize".into(),
            environment: None,
            model: None,
            version: "2.10".into(),
            received_us: 9,
        };
        let target = Target { service: "resize".into(), environment: Some("prod".into()) };
        let observation = mark.observation(&target, "resnet");
        assert_eq!(observation.release().unwrap().model, "resnet");
        assert_eq!((observation.time_us, observation.received_us, observation.check()), (5, 9, Ok(())));
        assert_eq!(mark.to_batch().unwrap().num_rows(), 1);
    }
}
