//! Why a point is refused, and the count of refusals in one request.

use std::collections::HashMap;

use driftwatt_store::Rejection;

/// A stable code and a sentence that says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason {
    /// Stable code, `snake_case`.
    pub code: &'static str,
    /// What to do.
    pub message: &'static str,
}

macro_rules! reasons {
    ($($name:ident $code:literal $message:literal)*) => {
        impl Reason {
            $(pub(crate) const $name: Self = Self { code: $code, message: $message };)*

            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

impl Reason {
    /// Whether the same point may be taken when it is sent again later.
    pub(crate) fn is_passing(code: &str) -> bool {
        code == Self::NEW_SERIES_RATE.code
    }
}

reasons! {
    TIMESTAMP_MISSING "timestamp_missing" "time_unix_nano is 0; set it to the time of the measurement"
    TIMESTAMP_TOO_NEW "timestamp_too_new" "time_unix_nano is too far in the future; set the sender's clock"
    TIMESTAMP_TOO_OLD "timestamp_too_old" "time_unix_nano is before the retention horizon; raise retention_days to keep it"
    START_AFTER_TIME "start_after_time" "start_time_unix_nano is after time_unix_nano; send the start of the interval"
    VALUE_NOT_FINITE "value_not_finite" "the value is NaN or infinite; leave the point out or set the NoRecordedValue flag"
    VALUE_MISSING "value_missing" "the point has no value; set as_double or as_int, or the NoRecordedValue flag"
    METRIC_NAME_EMPTY "metric_name_empty" "the metric has no name; give the instrument a name"
    METRIC_NAME_TOO_LONG "metric_name_too_long" "the metric name is over 1024 bytes; move its variable parts to attributes"
    METRIC_TYPE_MISSING "metric_type_missing" "the metric has no data of a known type; send a gauge, sum, histogram, exponential histogram or summary"
    TEMPORALITY_MISSING "temporality_missing" "aggregation_temporality is unspecified; set delta or cumulative"
    INVALID_UTF8 "invalid_utf8" "a name, unit or attribute is not valid UTF-8; send binary data as bytes_value"
    ATTRIBUTE_KEY_EMPTY "attribute_key_empty" "an attribute has an empty key; give it a name"
    ATTRIBUTE_KEY_TOO_LONG "attribute_key_too_long" "an attribute key is over 1024 bytes; shorten it"
    ATTRIBUTE_VALUE_TOO_LONG "attribute_value_too_long" "an attribute value is over attribute_value_size_max; shorten it, or set an attribute value limit in the SDK"
    ATTRIBUTE_TOO_DEEP "attribute_too_deep" "an attribute value is nested more than 16 levels; flatten it"
    ATTRIBUTES_TOO_MANY "attributes_too_many" "resource, scope and point have more than attributes_max attributes together; drop some"
    COUNT_TOO_LARGE "count_too_large" "a count is over 9223372036854775807; check the sender"
    BUCKET_COUNT_MISMATCH "bucket_count_mismatch" "count is not the sum of the bucket counts; mend the sender"
    BUCKET_BOUNDS_MISMATCH "bucket_bounds_mismatch" "bucket_counts must have one element more than explicit_bounds; mend the sender"
    BOUNDS_NOT_INCREASING "bounds_not_increasing" "explicit_bounds must increase strictly; sort them and drop repeated ones"
    BOUNDS_NOT_FINITE "bounds_not_finite" "explicit_bounds must be finite; leave out the infinite bound, it is implied"
    BUCKETS_TOO_MANY "buckets_too_many" "the point has more than 10000 buckets or quantiles; use fewer, or a smaller scale"
    SCALE_OUT_OF_RANGE "scale_out_of_range" "scale must be from -10 to 20; lower the resolution"
    BUCKET_OFFSET_OUT_OF_RANGE "bucket_offset_out_of_range" "offset plus the number of buckets leaves the 32-bit range; mend the sender"
    ZERO_THRESHOLD_OUT_OF_RANGE "zero_threshold_out_of_range" "zero_threshold must be finite and not negative; mend the sender"
    QUANTILE_OUT_OF_RANGE "quantile_out_of_range" "quantiles must be from 0 to 1; mend the sender"
    LABEL_REPEATED "label_repeated" "a label name is given more than once; send each once"
    LABELS_ODD "labels_odd" "labels_refs has an odd number of elements; send the name and the value of each label"
    SYMBOL_OUT_OF_RANGE "symbol_out_of_range" "a reference is beyond the end of symbols; mend the sender"
    NATIVE_SCHEMA_UNKNOWN "native_schema_unknown" "the schema of a native histogram must be from -4 to 8, or -53 for custom buckets"
    NATIVE_COUNT_INVALID "native_count_invalid" "a count of a native histogram is negative or not whole, as in a rate of histograms; send the histogram itself"
    NATIVE_SPANS_MISMATCH "native_spans_mismatch" "the spans of a native histogram do not fit its buckets; mend the sender"
    CARDINALITY_LIMIT "cardinality_limit" "too many series; drop attributes with unbounded values, or raise series_per_metric_max or series_max"
    NEW_SERIES_RATE "new_series_rate" "too many new series within one minute; send them again later, drop attributes with changing values, or raise new_series_per_minute_max"
    SERIES_ID_COLLISION "series_id_collision" "another series has the same 64-bit id; change any attribute of this one"
}

/// Distinct metrics kept per request; the rest is counted under an empty name.
const METRICS_MAX: usize = 100;
/// Bytes of a metric name kept in a rejection.
const METRIC_SIZE_MAX: usize = 256;

/// Refused points of one request, by metric and reason.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    by_metric: HashMap<String, Vec<(Reason, u64)>>,
    total: u64,
}

impl Rejections {
    /// Counts `count` points of `metric`. A count of 0 is a warning.
    pub(crate) fn add(&mut self, reason: Reason, metric: &str, count: u64) {
        self.total += count;
        let end = metric.floor_char_boundary(METRIC_SIZE_MAX);
        let mut name = metric.get(..end).unwrap_or_default();
        if !self.by_metric.contains_key(name) {
            if self.by_metric.len() >= METRICS_MAX {
                name = "";
            }
            self.by_metric.entry(name.to_owned()).or_default();
        }
        let Some(counts) = self.by_metric.get_mut(name) else { return };
        match counts.iter_mut().find(|(known, _)| known.code == reason.code) {
            Some((_, known)) => *known += count,
            None => counts.push((reason, count)),
        }
    }

    /// Number of refused points.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The rows of the `rejections` table, in a stable order.
    pub(crate) fn into_rows(self, time: i64) -> Vec<Rejection> {
        let mut rows: Vec<_> = self
            .by_metric
            .into_iter()
            .flat_map(|(metric, counts)| counts.into_iter().map(move |(reason, count)| (metric.clone(), reason, count)))
            .map(|(metric, reason, count)| Rejection {
                time,
                reason: reason.code.to_owned(),
                metric,
                count,
                message: reason.message.to_owned(),
            })
            .collect();
        rows.sort_by(|a, b| (&a.metric, &a.reason).cmp(&(&b.metric, &b.reason)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_past_the_limit_are_counted_without_their_name() {
        let mut rejections = Rejections::default();
        for index in 0..150 {
            rejections.add(Reason::VALUE_MISSING, &format!("m{index}"), 2);
        }
        assert_eq!(rejections.total(), 300);
        let rows = rejections.into_rows(7);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 300);
        assert_eq!(rows.len(), 101);
        assert_eq!((rows[0].metric.as_str(), rows[0].count, rows[0].time), ("", 100, 7));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut rejections = Rejections::default();
        rejections.add(Reason::METRIC_NAME_TOO_LONG, &format!("a{}", "é".repeat(600)), 1);
        assert_eq!(rejections.into_rows(0)[0].metric.len(), 255);
    }
}
