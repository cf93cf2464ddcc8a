//! States as rows of the table `drift_states`: the hour, what the state is of, figures for people, and its bytes.

use std::collections::HashMap;

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};

use super::{HourlyState, PointKind, hour_of};
use crate::{
    drift::feature_state::{FeatureState, StateKey},
    error::Result,
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
    window::HOUR_US,
};

/// Result table of hourly states.
pub(crate) const STATES: &str = "drift_states";

/// A state on its way to the table.
#[derive(Debug, Clone)]
pub(super) struct StateRow {
    pub(super) key: StateKey,
    pub(super) kind: PointKind,
    /// Log sequence up to which its points were read.
    pub(super) written_through: u64,
    pub(super) hourly: HourlyState,
}

/// A stored state, not decoded.
#[derive(Debug, Clone)]
pub(super) struct StoredState {
    computed_us: i64,
    row_count: u64,
    simulated_count: u64,
    minutes: u64,
    pub(super) written_through: u64,
    bytes: Vec<u8>,
}

/// Stored states by the start of their hour.
pub(super) type StoredHours = HashMap<i64, StoredState>;

impl StoredState {
    /// The state; none where the bytes are damaged or of another version, so that it is built anew.
    pub(super) fn decode(&self) -> Option<HourlyState> {
        let state = FeatureState::from_bytes(&self.bytes);
        let state = state.inspect_err(|error| tracing::warn!(%error, "a stored drift state is not used")).ok()?;
        Some(HourlyState {
            row_count: self.row_count,
            simulated_count: self.simulated_count,
            minutes: self.minutes,
            state,
        })
    }
}

fn integer(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

/// Rows of the table, computed at `now_us`.
pub(super) fn state_batch(rows: &[StateRow], now_us: i64) -> Result<RecordBatch> {
    let state = |of: fn(&FeatureState) -> Option<f64>| rows.iter().map(move |row| of(&row.hourly.state));
    let count = |of: fn(&HourlyState) -> u64| rows.iter().map(move |row| integer(of(&row.hourly)));
    // Of categories the counts, of numbers the finite values.
    let values = |hourly: &HourlyState| hourly.state.count().saturating_add(hourly.state.categories().total());
    let mut table = ResultTable::at(rows.iter().map(|row| row.key.hour * HOUR_US).collect());
    table
        .time("computed", now_us)
        .texts("feature", rows.iter().map(|row| Some(row.key.feature.clone())))
        .texts("segment", rows.iter().map(|row| Some(row.key.segment.clone())))
        .texts("source", rows.iter().map(|row| Some(row.kind.as_str().to_owned())))
        .integers("row_count", count(|hourly| hourly.row_count))
        .integers("simulated_row_count", count(|hourly| hourly.simulated_count))
        .integers("value_count", rows.iter().map(|row| integer(values(&row.hourly))))
        .integers("null_count", count(|hourly| hourly.state.null()))
        .integers("non_finite_count", count(|hourly| hourly.state.non_finite()))
        .integers("zero_count", count(|hourly| hourly.state.zero()))
        .numbers("sum", state(FeatureState::sum))
        .numbers("sum_of_squares", state(FeatureState::sum_of_squares))
        .numbers("min", state(FeatureState::min))
        .numbers("max", state(FeatureState::max))
        .integers("scale", rows.iter().map(|row| row.hourly.state.scale().map(i64::from)))
        .integers("minutes", count(|hourly| hourly.minutes))
        .integers("written_through", rows.iter().map(|row| integer(row.written_through)))
        .bytes("state", rows.iter().map(|row| row.hourly.state.to_bytes()));
    table.finish()
}

/// The SQL that reads the states of `features` in `segment` where `time_condition` holds.
pub(super) fn load_sql(features: &[String], segment: &str, time_condition: &str) -> String {
    let features: Vec<String> = features.iter().map(|feature| literal(feature)).collect();
    format!(
        "SELECT CAST(time AS BIGINT) AS hour_us, CAST(computed AS BIGINT) AS computed_us, feature, source, row_count, \
         simulated_row_count, minutes, written_through, state FROM reports.{STATES} \
         WHERE feature IN ({}) AND segment = {} AND {time_condition}",
        features.join(", "),
        literal(segment)
    )
}

/// The newest state of each hour, by feature and kind.
pub(super) async fn load(ctx: &SessionContext, sql: &str) -> Result<HashMap<(String, String), StoredHours>> {
    let mut loaded: HashMap<(String, String), StoredHours> = HashMap::new();
    if !has_result(ctx, STATES) {
        return Ok(loaded);
    }
    let rows = Rows::query(ctx, sql).await?;
    let (hours, computed) = (rows.integers("hour_us")?, rows.integers("computed_us")?);
    let (features, sources) = (rows.texts("feature")?, rows.texts("source")?);
    let (row_counts, simulated) = (rows.integers("row_count")?, rows.integers("simulated_row_count")?);
    let (minutes, written) = (rows.integers("minutes")?, rows.integers("written_through")?);
    let states = rows.bytes("state")?;
    let count = |value: Option<i64>| value.unwrap_or(0).max(0).unsigned_abs();
    for (row, bytes) in states.into_iter().enumerate() {
        let (Some(hour_us), Some(feature), Some(source)) = (hours[row], &features[row], &sources[row]) else {
            continue;
        };
        let stored = StoredState {
            computed_us: computed[row].unwrap_or(i64::MIN),
            row_count: count(row_counts[row]),
            simulated_count: count(simulated[row]),
            minutes: count(minutes[row]),
            written_through: count(written[row]),
            bytes,
        };
        let of_feature = loaded.entry((feature.clone(), source.clone())).or_default();
        match of_feature.get(&hour_of(hour_us)) {
            // Of two of one moment that which has seen more points.
            Some(kept) if (kept.computed_us, kept.written_through) >= (stored.computed_us, stored.written_through) => {}
            _ => _ = of_feature.insert(hour_of(hour_us), stored),
        }
    }
    Ok(loaded)
}
