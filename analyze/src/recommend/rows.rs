//! The answer for programs: JSON, and rows of the result table.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use serde::Serialize;

use super::{NOT_KNOWN, RecommendReport, ServiceManifests, ServiceVerdict};
use crate::{error::Result, gpu_state::GpuState, recommendation::Recommendation, result_table::ResultTable};

/// A service in the JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    service: &'a str,
    simulated: bool,
    gpu_count: usize,
    replica_count: u32,
    mean: Option<f64>,
    coverage: f64,
    gpu_hours_by_state: &'a BTreeMap<GpuState, f64>,
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation: Option<&'a Recommendation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a ServiceManifests>,
}

impl RecommendReport {
    /// The report as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let services: Vec<_> = self.services.iter().map(ServiceVerdict::row).collect();
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.as_str());
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "window": self.request.window, "time_zone": self.request.zone.name(), "currency": currency,
            "services": services, "unnamed_gpu_count": self.unnamed_gpu_count, "not_known": NOT_KNOWN,
            "row_count": self.row_count, "queries": self.queries, "settled": self.settled,
        }))?)
    }

    pub(crate) fn to_batch(&self) -> Result<RecordBatch> {
        let rows = || self.services.iter();
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.to_string()).unwrap_or_default();
        let mut table = ResultTable::new(self.request.now_us, self.services.len());
        table
            .time("window_from", self.request.window.start_us)
            .time("window_to", self.request.window.end_us)
            .texts("service_name", rows().map(|row| Some(row.service.clone())))
            .flags("simulated", rows().map(|row| row.simulated))
            .texts("id", rows().map(|row| row.id.clone()))
            .texts("verdict", rows().map(|row| Some(row.verdict_name().to_owned())))
            .texts("why", rows().map(|row| Some(row.why())))
            .integers("gpu_count", rows().map(|row| i64::try_from(row.gpu_count).ok()))
            .integers("replica_count", rows().map(|row| Some(i64::from(row.replica_count))))
            .integers("proposed_count", rows().map(|row| row.proposed().map(i64::from)))
            .integers("gpus_per_replica", rows().map(|row| Some(i64::from(row.gpus_per_replica))))
            .moments("expires", rows().map(|row| row.recommendation().map(|found| found.expires_us)))
            .numbers("confidence", rows().map(|row| row.recommendation().map(|found| found.confidence)))
            .numbers("gpu_hours_saved", rows().map(|row| row.recommendation().map(|found| found.gpu_hours.expected)))
            .numbers("saving_low", rows().map(|row| row.saving().map(|saving| saving.low)))
            .numbers("saving_expected", rows().map(|row| row.saving().map(|saving| saving.expected)))
            .numbers("saving_high", rows().map(|row| row.saving().map(|saving| saving.high)))
            .text("currency", &currency)
            .numbers("utilization_mean", rows().map(|row| row.mean))
            .numbers("coverage", rows().map(|row| Some(row.coverage)))
            .numbers("peak_gpus", rows().map(|row| row.recommendation().map(|found| found.numbers[1])))
            .numbers("over_share", rows().map(|row| row.recommendation().map(|found| found.numbers[2])))
            .text("time_zone", self.request.zone.name())
            .text("query", &self.queries.join(";\n"));
        table.finish()
    }
}

impl ServiceVerdict {
    fn row(&self) -> Row<'_> {
        Row {
            id: self.id.as_deref(),
            service: &self.service,
            simulated: self.simulated,
            gpu_count: self.gpu_count,
            replica_count: self.replica_count,
            mean: self.mean,
            coverage: self.coverage,
            gpu_hours_by_state: &self.hours,
            verdict: self.verdict_name(),
            why: self.why(),
            recommendation: self.recommendation(),
            manifests: self.manifests.as_ref(),
        }
    }
}
