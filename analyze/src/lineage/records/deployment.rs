//! Table `deployments`: what ran where, one row for each moment from which something else ran.

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};

use crate::{
    error::Result,
    lineage::{
        deployment::{Release, Target},
        timeline::{Basis, Confidence, Interval, Status, Timeline, UnknownReason},
    },
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
};

/// Moments of one service that are read back, the newest.
const ROWS_MAX: usize = 10_000;

/// What ran from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`; null where telemetry does not say.
    pub environment: Option<String>,
    /// Start, inclusive.
    pub from_us: i64,
    /// End as it was known when the row was written, exclusive; null for what ran then.
    pub to_us: Option<i64>,
    /// `known`, `mixed`, `flapping`, `uncertain` or `unknown`.
    pub status: String,
    /// Why there is no release: `no_evidence`, `not_seen`, `withdrawn`; null unless the status is `unknown`.
    pub reason: Option<String>,
    /// Name of the model; null unless the status is `known`.
    pub model: Option<String>,
    /// Its version; null unless the status is `known`.
    pub version: Option<String>,
    /// `telemetry`, `mark` or `alias`; null unless the status is `known`.
    pub basis: Option<String>,
    /// `confirmed`, `stated` or `inferred`; null unless the status is `known`.
    pub confidence: Option<String>,
    /// Releases in question, sorted; empty where the status is `known` or `unknown`.
    pub candidates: Vec<Release>,
    /// Release that the last statement names, where instances report another.
    pub claimed: Option<Release>,
}

impl DeploymentRecord {
    /// The result table.
    pub const TABLE: &str = "deployments";

    /// The rows of one timeline, in order of time.
    pub fn of_timeline(target: &Target, timeline: &Timeline) -> Vec<Self> {
        timeline.intervals.iter().map(|interval| Self::of_interval(target, interval)).collect()
    }

    /// The row of one interval.
    pub fn of_interval(target: &Target, interval: &Interval) -> Self {
        let (mut basis_name, mut confidence_name, mut reason) = (None, None, None);
        let status = match &interval.status {
            Status::Known { basis, confidence, .. } => {
                (basis_name, confidence_name) = (Some(basis_text(*basis)), Some(confidence_text(*confidence)));
                "known"
            }
            Status::Mixed(_) => "mixed",
            Status::Flapping(_) => "flapping",
            Status::Uncertain(_) => "uncertain",
            Status::Unknown(why) => {
                reason = Some(match why {
                    UnknownReason::NoEvidence => "no_evidence",
                    UnknownReason::NotSeen => "not_seen",
                    UnknownReason::Withdrawn => "withdrawn",
                    UnknownReason::Future => "future",
                });
                "unknown"
            }
        };
        let release = interval.status.release();
        let in_question = if release.is_some() { &[] } else { interval.status.candidates() };
        Self {
            service: target.service.clone(),
            environment: target.environment.clone(),
            from_us: interval.from_us,
            to_us: interval.to_us,
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            model: release.map(|release| release.model.clone()),
            version: release.map(|release| release.version.clone()),
            basis: basis_name.map(str::to_owned),
            confidence: confidence_name.map(str::to_owned),
            candidates: in_question.to_vec(),
            claimed: interval.claimed.clone(),
        }
    }

    /// What both say, whenever they say it.
    fn says_the_same(&self, other: &Self) -> bool {
        let bare = |record: &Self| Self { from_us: 0, to_us: None, ..record.clone() };
        bare(self) == bare(other)
    }

    /// The rows of the table, written at `recorded_us`.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if candidates cannot be written.
    pub fn to_batch(records: &[Self], recorded_us: i64) -> Result<RecordBatch> {
        let rows = || records.iter();
        let text = |of: fn(&Self) -> Option<String>| rows().map(of).collect::<Vec<_>>();
        let candidates = rows().map(|row| {
            let versions: Vec<(&str, &str)> =
                row.candidates.iter().map(|one| (one.model.as_str(), one.version.as_str())).collect();
            Ok(Some(serde_json::to_string(&versions)?))
        });
        let mut table = ResultTable::at(rows().map(|row| row.from_us).collect());
        table
            .time("recorded_time", recorded_us)
            .moments("until", rows().map(|row| row.to_us))
            .texts("service_name", text(|row| Some(row.service.clone())))
            .texts("environment", text(|row| row.environment.clone()))
            .texts("status", text(|row| Some(row.status.clone())))
            .texts("reason", text(|row| row.reason.clone()))
            .texts("model", text(|row| row.model.clone()))
            .texts("version", text(|row| row.version.clone()))
            .texts("basis", text(|row| row.basis.clone()))
            .texts("confidence", text(|row| row.confidence.clone()))
            .texts("candidates", candidates.collect::<Result<Vec<_>>>()?)
            .texts("claimed_model", rows().map(|row| row.claimed.as_ref().map(|release| release.model.clone())))
            .texts("claimed_version", rows().map(|row| row.claimed.as_ref().map(|release| release.version.clone())));
        table.finish()
    }

    /// The newest row of each moment of `service`, in order of environment and time.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_service(ctx: &SessionContext, service: &str) -> Result<Vec<Self>> {
        if !has_result(ctx, Self::TABLE) {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY environment, time ORDER BY recorded_time DESC) AS place \
             FROM reports.{} WHERE service_name = {}) WHERE place = 1 ORDER BY time DESC LIMIT {ROWS_MAX}",
            Self::TABLE,
            literal(service)
        );
        let rows = Rows::query(ctx, &query).await?;
        let (from, until) = (rows.integers("time")?, rows.integers("until")?);
        let text = |name: &str| rows.texts(name);
        let (environment, status, reason) = (text("environment")?, text("status")?, text("reason")?);
        let (model, version) = (text("model")?, text("version")?);
        let (basis, confidence, candidates) = (text("basis")?, text("confidence")?, text("candidates")?);
        let (claimed_model, claimed_version) = (text("claimed_model")?, text("claimed_version")?);
        let release = |(model, version): (String, String)| Release { model, version };
        let mut records: Vec<Self> = (0..rows.len())
            .map(|row| {
                let pairs: Vec<(String, String)> =
                    candidates[row].as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                Self {
                    service: service.to_owned(),
                    environment: environment[row].clone(),
                    from_us: from[row].unwrap_or_default(),
                    to_us: until[row],
                    status: status[row].clone().unwrap_or_default(),
                    reason: reason[row].clone(),
                    model: model[row].clone(),
                    version: version[row].clone(),
                    basis: basis[row].clone(),
                    confidence: confidence[row].clone(),
                    candidates: pairs.into_iter().map(release).collect(),
                    claimed: claimed_model[row].clone().zip(claimed_version[row].clone()).map(release),
                }
            })
            .collect();
        records.sort_by(|a, b| (&a.environment, a.from_us).cmp(&(&b.environment, b.from_us)));
        Ok(records)
    }
}

pub(in crate::lineage) fn basis_text(basis: Basis) -> &'static str {
    match basis {
        Basis::Alias => "alias",
        Basis::Mark => "mark",
        Basis::Telemetry => "telemetry",
    }
}

pub(in crate::lineage) fn confidence_text(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Inferred => "inferred",
        Confidence::Stated => "stated",
        Confidence::Confirmed => "confirmed",
    }
}

/// Rows that make `recorded` say what `computed` says, both of one environment and in order of time.
///
/// Read as-of, that is by the last row at or before a moment (of several at one moment the newest), the table then says of every
/// moment from the first of `computed` on what the timeline says. A moment from which nothing changes any more gets a row with what
/// holds there, since rows are never taken away. Nothing is written where the table says it already.
pub fn corrections(recorded: &[DeploymentRecord], computed: &[DeploymentRecord]) -> Vec<DeploymentRecord> {
    let Some(first) = computed.first() else { return Vec::new() };
    let as_of = |rows: &[DeploymentRecord], time_us: i64| -> Option<DeploymentRecord> {
        let after = rows.partition_point(|row| row.from_us <= time_us);
        after.checked_sub(1).map(|index| rows[index].clone())
    };
    let mut moments: Vec<i64> = computed.iter().map(|row| row.from_us).collect();
    moments.extend(recorded.iter().map(|row| row.from_us).filter(|from_us| *from_us > first.from_us));
    moments.sort_unstable();
    moments.dedup();
    let mut table = recorded.to_vec();
    let mut missing = Vec::new();
    for from_us in moments {
        let Some(held) = as_of(computed, from_us) else { continue };
        if as_of(&table, from_us).is_some_and(|said| said.says_the_same(&held)) {
            continue;
        }
        let row = DeploymentRecord { from_us, ..held };
        match table.binary_search_by_key(&from_us, |row| row.from_us) {
            Ok(at) => table[at] = row.clone(),
            Err(at) => table.insert(at, row.clone()),
        }
        missing.push(row);
    }
    missing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        lineage::{
            deployment::{Evidence, Observation},
            timeline::{TimelineRules, timelines},
        },
        test_session::{add_result, session},
    };

    fn target() -> Target {
        Target { service: "resize".to_owned(), environment: None }
    }

    fn mark(time_us: i64, version: &str) -> Observation {
        let release = Release { model: "resnet".to_owned(), version: version.to_owned() };
        Observation { target: target(), time_us, evidence: Evidence::Mark { release }, received_us: time_us }
    }

    fn rows(observations: &[Observation]) -> Vec<DeploymentRecord> {
        let built = timelines(observations, &TimelineRules::default(), 1_000);
        built.get(&target()).map(|timeline| DeploymentRecord::of_timeline(&target(), timeline)).unwrap_or_default()
    }

    #[test]
    fn a_row_has_a_version_only_where_one_is_known() {
        let rows = rows(&[mark(5, "1"), mark(9, "2"), mark(9, "3")]);
        assert_eq!(
            (rows[0].version.as_deref(), rows[0].basis.as_deref(), rows[0].to_us),
            (Some("1"), Some("mark"), Some(9))
        );
        let versions: Vec<&str> = rows[1].candidates.iter().map(|release| release.version.as_str()).collect();
        assert_eq!((rows[1].status.as_str(), &rows[1].version, versions), ("uncertain", &None, vec!["2", "3"]));
    }

    #[tokio::test]
    async fn the_table_reads_back_with_its_corrections() {
        let first = rows(&[mark(5, "1"), mark(9, "2"), mark(9, "3")]);
        let ctx = session(&[], &[]);
        add_result(&ctx, DeploymentRecord::TABLE, DeploymentRecord::to_batch(&first, 10).unwrap());
        assert_eq!(DeploymentRecord::of_service(&ctx, "resize").await.unwrap(), first);
        assert_eq!(DeploymentRecord::of_service(&ctx, "chat").await.unwrap(), []);
        assert_eq!(corrections(&first, &first), []);
        // A mark that comes late for a moment before.
        let late = rows(&[mark(5, "1"), mark(7, "2"), mark(9, "2"), mark(9, "3")]);
        let more = corrections(&first, &late);
        assert_eq!(more.iter().map(|row| (row.from_us, row.version.as_deref())).collect::<Vec<_>>(), [(7, Some("2"))]);
    }

    proptest! {
        #[test]
        fn as_of_any_moment_the_table_says_what_the_last_timeline_says(
            readings in prop::collection::vec(prop::collection::vec((1i64..60, 1u8..5), 1..8), 1..5)
        ) {
            let mut table: Vec<DeploymentRecord> = Vec::new();
            for reading in readings {
                let marks: Vec<Observation> =
                    reading.iter().map(|(time_us, version)| mark(*time_us, &version.to_string())).collect();
                let computed = rows(&marks);
                for row in corrections(&table, &computed) {
                    table.retain(|old| old.from_us != row.from_us);
                    table.push(row);
                }
                table.sort_by_key(|row| row.from_us);
                for time_us in computed[0].from_us..70 {
                    let said = table.iter().rfind(|row| row.from_us <= time_us).unwrap();
                    let held = computed.iter().rfind(|row| row.from_us <= time_us).unwrap();
                    prop_assert!(said.says_the_same(held), "at {time_us}: {said:?} is not {held:?}");
                }
                prop_assert_eq!(corrections(&table, &computed), []);
            }
        }
    }
}
