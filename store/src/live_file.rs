//! One live Parquet file of a table, with the key range that prunes it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat};
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array},
        compute::{max, max_string, min, min_string},
        datatypes::{Int64Type, TimestampMicrosecondType},
    },
    common::{Column, ScalarValue, pruning::PruningStatistics},
};
use serde_json::{Value, json};

use crate::{checksum::Checksum, file_name::FileName, memtable::day_of, overlap::Span};

/// Smallest and largest key of some rows; `None` where the table has no such column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) metric: Option<(String, String)>,
    pub(crate) series_id: Option<(i64, i64)>,
    /// UTC microseconds.
    pub(crate) time: Option<(i64, i64)>,
    /// `Date32` days.
    pub(crate) date: Option<(i32, i32)>,
}

fn widen<T: Ord + Clone>(range: &mut Option<(T, T)>, low: Option<T>, high: Option<T>) {
    if let (Some(low), Some(high)) = (low, high) {
        *range = Some(match range.take() {
            Some((from, to)) => (from.min(low), to.max(high)),
            None => (low, high),
        });
    }
}

impl KeyRange {
    /// Of rows of which only the metric is known.
    pub(crate) fn of_metric(metric: &str) -> Self {
        Self { metric: Some((metric.to_owned(), metric.to_owned())), ..Self::default() }
    }

    /// Widens the range by the rows of `batch`.
    pub(crate) fn extend(&mut self, batch: &RecordBatch) {
        if let Some(metric) = batch.column_by_name("metric").and_then(|column| column.as_string_opt::<i32>()) {
            widen(&mut self.metric, min_string(metric).map(str::to_owned), max_string(metric).map(str::to_owned));
        }
        if let Some(ids) = batch.column_by_name("series_id").and_then(|column| column.as_primitive_opt::<Int64Type>()) {
            widen(&mut self.series_id, min(ids), max(ids));
        }
        let time = batch.column_by_name("time");
        if let Some(time) = time.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()) {
            widen(&mut self.time, min(time), max(time));
        }
    }
}

/// A file that a table's current version refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveFile {
    /// Path below the table's directory, as in the Delta log.
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) row_count: u64,
    /// Partition: UTC day.
    pub(crate) date: i32,
    /// How often the rows were merged: 0 a flush, 1 a window of flushes, 2 a whole day.
    pub(crate) level: u8,
    /// Highest log sequence of the rows; of two rows of one identity the one of the higher sequence is newer.
    pub(crate) sequence: u64,
    /// Rows may repeat an identity that a file of a lower sequence holds.
    pub(crate) repeats: bool,
    /// First and last time of the rows that may, UTC microseconds; `None` is not known, as after a restart.
    pub(crate) repeated_times: Option<(i64, i64)>,
    /// When it was added to the table, Unix milliseconds.
    pub(crate) added_ms: i64,
    pub(crate) keys: KeyRange,
    pub(crate) checksum: Checksum,
}

/// `2026-11-24` for a `Date32` day.
pub(crate) fn date_text(day: i32) -> String {
    let date = DateTime::from_timestamp(i64::from(day) * 86_400, 0).unwrap_or_default();
    date.format("%Y-%m-%d").to_string()
}

/// The `Date32` day of `2026-11-24`.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day_of(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros()))
}

fn time_text(time_us: i64) -> String {
    DateTime::from_timestamp_micros(time_us).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn parse_time(value: &Value) -> Option<i64> {
    Some(DateTime::parse_from_rfc3339(value.as_str()?).ok()?.timestamp_micros())
}

/// The clock, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

impl LiveFile {
    /// A file without rows, added now.
    pub(crate) fn new(path: String, date: i32, name: FileName) -> Self {
        Self {
            path,
            size_bytes: 0,
            row_count: 0,
            date,
            level: name.level,
            sequence: name.sequence,
            repeats: name.repeats,
            repeated_times: None,
            added_ms: now_ms(),
            keys: KeyRange { date: Some((date, date)), ..KeyRange::default() },
            checksum: Checksum::default(),
        }
    }

    /// Older files first; between files of unknown sequence the order is arbitrary but always the same.
    pub(crate) fn age_order(&self) -> (u64, &str) {
        (self.sequence, &self.path)
    }

    /// What its rows may share with other sources.
    pub(crate) fn span(&self) -> Span {
        let repeats =
            self.repeats.then(|| KeyRange { time: self.repeated_times.or(self.keys.time), ..self.keys.clone() });
        Span { sequence: self.sequence, keys: self.keys.clone(), repeats }
    }

    /// The `stats` text of a Delta `add` action.
    pub(crate) fn stats(&self) -> String {
        let mut low = serde_json::Map::new();
        let mut high = serde_json::Map::new();
        if let Some((from, to)) = &self.keys.metric {
            low.insert("metric".into(), json!(from));
            high.insert("metric".into(), json!(to));
        }
        if let Some((from, to)) = self.keys.series_id {
            low.insert("series_id".into(), json!(from));
            high.insert("series_id".into(), json!(to));
        }
        if let Some((from, to)) = self.keys.time {
            low.insert("time".into(), json!(time_text(from)));
            high.insert("time".into(), json!(time_text(to)));
        }
        json!({ "numRecords": self.row_count, "minValues": low, "maxValues": high }).to_string()
    }

    /// Reads back what [`LiveFile::stats`] wrote; anything else leaves the range open.
    pub(crate) fn from_stats(
        path: String,
        size_bytes: u64,
        date: i32,
        added_ms: i64,
        stats: &str,
        checksum: Checksum,
    ) -> Self {
        let stats: Value = serde_json::from_str(stats).unwrap_or_default();
        let ends = |name: &str| (stats["minValues"][name].clone(), stats["maxValues"][name].clone());
        let (metric, series_id, time) = (ends("metric"), ends("series_id"), ends("time"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let keys = KeyRange {
            metric: text(&metric.0).zip(text(&metric.1)),
            series_id: series_id.0.as_i64().zip(series_id.1.as_i64()),
            time: parse_time(&time.0).zip(parse_time(&time.1)),
            date: Some((date, date)),
        };
        let row_count = stats["numRecords"].as_u64().unwrap_or(0);
        let name = FileName::of_path(&path);
        Self { size_bytes, row_count, added_ms, keys, checksum, ..Self::new(path, date, name) }
    }
}

/// Key ranges as DataFusion's pruning statistics, one container each.
pub(crate) struct KeyRanges<'a>(pub(crate) &'a [KeyRange]);

impl KeyRanges<'_> {
    fn ends(&self, column: &Column, pick: fn((ScalarValue, ScalarValue)) -> ScalarValue) -> Option<ArrayRef> {
        let scalars = self.0.iter().map(|keys| keys.scalars(&column.name).map(pick));
        ScalarValue::iter_to_array(scalars.collect::<Option<Vec<_>>>()?).ok()
    }
}

impl KeyRange {
    fn scalars(&self, column: &str) -> Option<(ScalarValue, ScalarValue)> {
        let time = |value| ScalarValue::TimestampMicrosecond(Some(value), Some(Arc::from("UTC")));
        match column {
            "metric" => {
                let (low, high) = self.metric.clone()?;
                Some((ScalarValue::Utf8(Some(low)), ScalarValue::Utf8(Some(high))))
            }
            "series_id" => self.series_id.map(|(low, high)| (low.into(), high.into())),
            "time" => self.time.map(|(low, high)| (time(low), time(high))),
            "date" => self.date.map(|(low, high)| (ScalarValue::Date32(Some(low)), ScalarValue::Date32(Some(high)))),
            _ => None,
        }
    }
}

impl PruningStatistics for KeyRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |(low, _)| low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |(_, high)| high)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let keys = ["metric", "series_id", "time", "date"];
        keys.contains(&column.name.as_str()).then(|| Arc::new(UInt64Array::from_value(0, self.0.len())) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_survive_the_log() {
        let day = parse_date("2026-11-24").unwrap();
        let name = FileName { level: 1, sequence: 7, repeats: true };
        let file = LiveFile {
            size_bytes: 10,
            row_count: 3,
            keys: KeyRange {
                metric: Some(("a".into(), "b".into())),
                series_id: Some((i64::MIN, i64::MAX)),
                time: Some((1_795_000_000_000_001, 1_795_000_000_000_002)),
                date: Some((day, day)),
            },
            checksum: Checksum::written(0x0000_beef),
            ..LiveFile::new(format!("date=2026-11-24/{}", name.to_text()), day, name)
        };
        let tag = file.checksum.tag();
        assert_eq!(tag.as_deref(), Some("0000beef"));
        let checksum = Checksum::recorded(tag.as_deref());
        assert_eq!(LiveFile::from_stats(file.path.clone(), 10, day, file.added_ms, &file.stats(), checksum), file);
        assert_eq!(date_text(file.date), "2026-11-24");
    }
}
