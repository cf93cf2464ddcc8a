//! What checked points say about a window of drift: no drift is judged on data that did not pass.

use std::collections::BTreeMap;

use chrono::DateTime;
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::dataset::TABLE;
use crate::{
    drift::{Filter, segment_filters, segment_text},
    error::Result,
    rows::{Rows, has_result},
    window::{Window, time_literal},
};

/// Records that are looked at, newest first.
const RECORDS_MAX: usize = 20_000;
/// Broken rules that a reason names.
const RULES_SHOWN: usize = 3;

/// One check of the points of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamRecord {
    metric: String,
    /// Texts of the filters.
    filters: Vec<String>,
    window: Window,
    accepted: bool,
    /// Names of the rules that are broken.
    broken: Vec<String>,
}

/// The newest check of each window of each selection of points.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamGates(Vec<StreamRecord>);

/// What they say of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamVerdict {
    /// Nothing was checked there, or not all of it.
    Unknown,
    /// All of it was checked and may be used.
    Passed,
    /// Something in it may not be used; what.
    Failed(String),
}

impl StreamRecord {
    /// Metric, filters and window of what [`StreamBatch::file`](super::StreamBatch::file) wrote; none for other files.
    fn parse(file: &str) -> Option<(String, Vec<String>, Window)> {
        let (selection, times) = file.strip_prefix("metrics:")?.rsplit_once(' ')?;
        let (metric, filters) = selection.strip_suffix('}')?.split_once('{')?;
        let (from, to) = times.split_once('/')?;
        let time = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros());
        Some((metric.to_owned(), segment_filters(filters), Window::new(time(from)?, time(to)?).ok()?))
    }
}

impl StreamGates {
    /// The checks recorded since `since_us`: a window is checked when it is over.
    ///
    /// # Errors
    /// Query errors.
    pub(crate) async fn load(ctx: &SessionContext, since_us: i64) -> Result<Self> {
        if !has_result(ctx, TABLE) {
            return Ok(Self::default());
        }
        let query = format!(
            "SELECT file, accepted, results FROM reports.{TABLE} WHERE kind = 'points' AND time >= {} \
             ORDER BY time DESC LIMIT {RECORDS_MAX}",
            time_literal(since_us)
        );
        let rows = Rows::query(ctx, &query).await?;
        let mut newest = BTreeMap::new();
        let columns = rows.texts("file")?.into_iter().zip(rows.flags("accepted")?).zip(rows.texts("results")?);
        for ((file, accepted), results) in columns {
            let Some(file) = file else { continue };
            let Some((metric, filters, window)) = StreamRecord::parse(&file) else { continue };
            let broken = broken(&results.unwrap_or_default());
            newest.entry(file).or_insert(StreamRecord { metric, filters, window, accepted, broken });
        }
        Ok(Self(newest.into_values().collect()))
    }

    /// What the checks say of `metric` in `window`, of the series that `filters` leave: those of all its series, or of more than these.
    pub(crate) fn verdict(&self, metric: &str, filters: &[Filter], window: Window) -> StreamVerdict {
        let own = segment_filters(&segment_text(filters));
        let applies = |record: &&StreamRecord| {
            record.metric == metric
                && record.filters.iter().all(|filter| own.contains(filter))
                && record.window.start_us < window.end_us
                && window.start_us < record.window.end_us
        };
        let mut records: Vec<&StreamRecord> = self.0.iter().filter(applies).collect();
        if let Some(failed) = records.iter().find(|record| !record.accepted) {
            let rules = failed.broken.iter().take(RULES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
            return StreamVerdict::Failed(if rules.is_empty() {
                "points that may not be used".to_owned()
            } else {
                rules
            });
        }
        records.sort_by_key(|record| record.window.start_us);
        let mut covered_us = window.start_us;
        for record in records.iter().filter(|record| record.window.start_us <= window.end_us) {
            if record.window.start_us <= covered_us {
                covered_us = covered_us.max(record.window.end_us);
            }
        }
        if covered_us >= window.end_us { StreamVerdict::Passed } else { StreamVerdict::Unknown }
    }
}

/// Names of the rules in `results` that are broken.
fn broken(results: &str) -> Vec<String> {
    let results: Value = serde_json::from_str(results).unwrap_or_default();
    let is_broken = |rule: &&Value| matches!(rule["status"].as_str(), Some("fail" | "error"));
    let rules = results.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter(is_broken);
    rules.filter_map(|rule| rule["rule"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gates::StreamBatch, window::HOUR_US};

    fn window(from: i64, to: i64) -> Window {
        Window { start_us: from * HOUR_US, end_us: to * HOUR_US }
    }

    fn filter(key: &str, value: &str) -> Filter {
        Filter { key: key.into(), value: value.into() }
    }

    #[test]
    fn a_batch_is_read_back_from_what_it_is_recorded_under() {
        let filters = vec![filter("region", "eu,1"), filter("a b", "c} {\\")];
        let batch = StreamBatch { metric: "driftwatt.input.tokens".into(), filters, window: window(10, 11) };
        let (metric, filters, read) = StreamRecord::parse(&batch.file()).unwrap();
        assert_eq!((metric.as_str(), read), ("driftwatt.input.tokens", window(10, 11)));
        assert_eq!(filters, segment_filters(&segment_text(&batch.filters)));
        assert_eq!(filters.len(), 2);
        assert_eq!(StreamRecord::parse("in/train.csv"), None);
    }

    #[test]
    fn a_window_passes_where_all_of_it_did_and_fails_where_any_of_it_did_not() {
        let record = |from, to, filters: &[Filter], accepted| StreamRecord {
            metric: "m".into(),
            filters: segment_filters(&segment_text(filters)),
            window: window(from, to),
            accepted,
            broken: if accepted { vec![] } else { vec!["value.missingValues".into()] },
        };
        let gates = StreamGates(vec![
            record(0, 1, &[], true),
            record(1, 2, &[], true),
            record(3, 4, &[], false),
            record(4, 5, &[filter("region", "eu")], true),
        ]);
        let eu = [filter("region", "eu"), filter("tenant", "a")];
        assert_eq!(gates.verdict("m", &[], window(0, 2)), StreamVerdict::Passed);
        assert_eq!(gates.verdict("m", &eu, window(0, 2)), StreamVerdict::Passed);
        assert_eq!(gates.verdict("m", &[], window(0, 3)), StreamVerdict::Unknown);
        assert_eq!(gates.verdict("n", &[], window(0, 2)), StreamVerdict::Unknown);
        assert_eq!(gates.verdict("m", &eu, window(2, 4)), StreamVerdict::Failed("value.missingValues".into()));
        assert_eq!(gates.verdict("m", &eu, window(4, 5)), StreamVerdict::Passed);
        assert_eq!(gates.verdict("m", &[], window(4, 5)), StreamVerdict::Unknown);
    }
}
