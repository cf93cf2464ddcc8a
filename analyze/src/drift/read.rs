//! Reading one side: raw values from a view, stored histogram points, or what counters counted by category.

mod categories;
mod windows;

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::{
    feature_state::FeatureState,
    histogram::{Exponential, MergedHistogram},
    observed::{Observed, Values},
    request::{Side, Subject, VALUES_MAX},
    score::SideSummary,
    sort::sort_values,
    statistics::{mean, moments_binned, quantile},
};
use crate::{
    error::{Error, Result},
    rows::{Rows, SIMULATED, literal},
};
pub(crate) use categories::categories;
use windows::{SLOTS, Windows, slot_us};

/// Most histogram points read per side.
const HISTOGRAM_POINTS_MAX: usize = 200_000;
const FINITE: &str = "value IS NOT NULL AND abs(value) <= 1.7976931348623157e308";

fn refuse_mixed(name: &'static str, subject: &Subject, simulated: u64, real: u64) -> Result<bool> {
    if simulated > 0 && real > 0 {
        return Err(Error::MixedSimulated { side: name, metric: subject.name().to_owned() });
    }
    Ok(simulated > 0)
}

/// The finite values of a side, also by windows of `length_us` if that is given.
pub(crate) async fn samples(
    ctx: &SessionContext,
    name: &'static str,
    subject: &Subject,
    side: &Side,
    length_us: Option<i64>,
) -> Result<Observed> {
    let (view, selects) = subject.samples();
    let from = format!("FROM {view} WHERE {selects} AND {}{}", side.time_sql("time"), side.filter_sql());
    let (start, slot) = (side.span().start_us, slot_us(side));
    let count_query = format!(
        "SELECT count(*) AS row_count, sum(CASE WHEN {FINITE} THEN 1 ELSE 0 END) AS value_count, \
         sum(CASE WHEN {SIMULATED} THEN 1 ELSE 0 END) AS simulated_count, \
         count(DISTINCT CASE WHEN {FINITE} THEN (CAST(time AS BIGINT) - {start}) / {slot} END) AS slot_count {from}"
    );
    let counts = Rows::query(ctx, &count_query).await?;
    let count = |column: &str| -> Result<u64> {
        Ok(counts.integers(column)?.first().copied().flatten().unwrap_or(0).unsigned_abs())
    };
    let (row_count, value_count) = (count("row_count")?, count("value_count")?);
    let simulated_count = count("simulated_count")?;
    let simulated = refuse_mixed(name, subject, simulated_count, row_count - simulated_count)?;
    let stride = value_count.div_ceil(VALUES_MAX).max(1);
    let parts = Windows::new(side, length_us);
    let columns = if parts.is_empty() { "value" } else { "value, CAST(time AS BIGINT) AS time_us" };
    let query = if stride == 1 {
        format!("SELECT {columns} {from} AND {FINITE}")
    } else {
        // Every k-th in time order keeps the window's shape, where a plain limit would keep its beginning.
        format!(
            "SELECT {columns} FROM (SELECT time, value, row_number() OVER (ORDER BY time, value) AS position {from} \
             AND {FINITE}) WHERE position % {stride} = 0"
        )
    };
    let rows = Rows::query(ctx, &query).await?;
    let mut values: Vec<f64> = rows.numbers("value")?.into_iter().flatten().collect();
    let (mut windows, mut keys) = (vec![vec![]; parts.len()], vec![]);
    if !parts.is_empty() {
        for (value, time_us) in values.iter().zip(rows.integers("time_us")?) {
            parts.of(&mut windows, time_us).into_iter().for_each(|window| window.push(*value));
        }
        windows.iter_mut().for_each(|window| sort_values(window, &mut keys));
    }
    sort_values(&mut values, &mut keys);
    let summary = SideSummary {
        row_count,
        value_count,
        used_count: values.len() as u64,
        covered: (count("slot_count")? as f64 / SLOTS as f64).min(1.0),
        simulated,
        mean: mean(&values),
        median: quantile(&values, 0.5),
        p95: quantile(&values, 0.95),
        query,
        ..SideSummary::empty(side)
    };
    Ok(Observed {
        values: Values::Samples(values),
        windows: windows.into_iter().map(Values::Samples).collect(),
        summary,
    })
}

/// One stored point, as read.
#[derive(Clone)]
struct Point {
    start_us: Option<i64>,
    explicit: Option<Vec<u64>>,
    exponential: Option<Exponential>,
}

/// The merged histogram points of a side, also by windows of `length_us` if that is given.
pub(crate) async fn histograms(
    ctx: &SessionContext,
    name: &'static str,
    subject: &Subject,
    side: &Side,
    length_us: Option<i64>,
) -> Result<Observed> {
    let metric = literal(subject.name());
    let (start, slot) = (side.span().start_us, slot_us(side));
    let query = format!(
        "SELECT h.series_id, CAST(h.start_time AS BIGINT) AS start_us, h.min, h.max, h.bucket_counts, h.scale, \
         h.zero_count, h.zero_threshold, h.positive_offset, h.positive_counts, h.negative_offset, h.negative_counts, \
         s.temporality, s.bounds, s.simulated, CAST(h.time AS BIGINT) AS time_us, \
         (CAST(h.time AS BIGINT) - {start}) / {slot} AS slot \
         FROM raw.histograms h JOIN (SELECT series_id, date, temporality, bounds, {SIMULATED} AS simulated \
         FROM raw.series WHERE metric = {metric}{}) s ON s.series_id = h.series_id AND s.date = h.date \
         WHERE h.metric = {metric} AND {} AND h.count IS NOT NULL ORDER BY h.series_id, h.time LIMIT {}",
        side.filter_sql(),
        side.time_sql("h.time"),
        HISTOGRAM_POINTS_MAX + 1
    );
    let rows = Rows::query(ctx, &query).await?;
    if rows.len() > HISTOGRAM_POINTS_MAX {
        return Err(Error::TooManyHistograms { metric: subject.name().to_owned(), limit: HISTOGRAM_POINTS_MAX });
    }
    let simulated_count = rows.flags("simulated")?.into_iter().filter(|flag| *flag).count() as u64;
    let simulated = refuse_mixed(name, subject, simulated_count, rows.len() as u64 - simulated_count)?;
    let (merged, windows) = merge(&rows, side, &Windows::new(side, length_us))?;
    let mut slots: Vec<i64> = rows.integers("slot")?.into_iter().flatten().collect();
    slots.sort_unstable();
    slots.dedup();
    // Of bins spread evenly between their edges, which the histogram has where it is laid beside itself.
    let bins = merged.clone().align(merged.clone()).ok();
    let moments = bins.and_then(|bins| moments_binned(&bins.edges, &bins.reference));
    let summary = SideSummary {
        row_count: rows.len() as u64,
        value_count: merged.count(),
        used_count: merged.count(),
        mean: moments.map(|(mean, _)| mean),
        covered: (slots.len() as f64 / SLOTS as f64).min(1.0),
        simulated,
        query,
        ..SideSummary::empty(side)
    };
    let of = |histogram| Values::Histograms(Box::new(FeatureState { histogram, ..FeatureState::default() }));
    Ok(Observed { values: of(merged), windows: windows.into_iter().map(of).collect(), summary })
}

fn counts(list: Vec<i64>) -> Vec<u64> {
    list.into_iter().map(|count| count.max(0).unsigned_abs()).collect()
}

fn points(rows: &Rows) -> Result<Vec<Point>> {
    let starts = rows.integers("start_us")?;
    let mut buckets = rows.integer_lists("bucket_counts")?;
    let (scales, zero_counts) = (rows.integers("scale")?, rows.integers("zero_count")?);
    let thresholds = rows.numbers("zero_threshold")?;
    let (positive_offsets, negative_offsets) = (rows.integers("positive_offset")?, rows.integers("negative_offset")?);
    let (mut positives, mut negatives) =
        (rows.integer_lists("positive_counts")?, rows.integer_lists("negative_counts")?);
    let indexed = |offset: Option<i64>, list: Option<Vec<i64>>| -> BTreeMap<i64, u64> {
        let counts = counts(list.unwrap_or_default()).into_iter().enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(at, count)| (offset.unwrap_or(0) + at as i64, count)).collect()
    };
    Ok((0..rows.len())
        .map(|row| Point {
            start_us: starts[row],
            explicit: buckets[row].take().filter(|list| !list.is_empty()).map(counts),
            exponential: scales[row].and_then(|scale| i32::try_from(scale).ok()).map(|scale| Exponential {
                scale,
                zero_count: zero_counts[row].unwrap_or(0).max(0).unsigned_abs(),
                zero_threshold: thresholds[row].unwrap_or(0.0),
                positive: indexed(positive_offsets[row], positives[row].take()),
                negative: indexed(negative_offsets[row], negatives[row].take()),
            }),
        })
        .collect())
}

/// All of them, and by windows: a point belongs to that of its time.
fn merge(rows: &Rows, side: &Side, parts: &Windows) -> Result<(MergedHistogram, Vec<MergedHistogram>)> {
    let (series, temporalities) = (rows.integers("series_id")?, rows.texts("temporality")?);
    let (bounds, mins, maxes) = (rows.number_lists("bounds")?, rows.numbers("min")?, rows.numbers("max")?);
    let (points, times) = (points(rows)?, rows.integers("time_us")?);
    let mut merged = MergedHistogram::default();
    let mut windows = vec![MergedHistogram::default(); parts.len()];
    for (row, point) in points.iter().enumerate() {
        let cumulative = temporalities[row].as_deref() == Some("cumulative");
        let window_of = |row: usize| times[row].and_then(|time_us: i64| side.window_of(time_us));
        // The last point of one window is no base for the first of the next, which may be a week later.
        let follows = |before: &usize| series[*before] == series[row] && window_of(*before) == window_of(row);
        let previous = row.checked_sub(1).filter(follows).map(|before| &points[before]);
        let start_us = window_of(row).map_or(i64::MAX, |window| window.start_us);
        let Some(change) = (if cumulative { increase(previous, point, start_us) } else { Some(point.clone()) }) else {
            continue;
        };
        let window = parts.of(&mut windows, times[row]);
        for merged in std::iter::once(&mut merged).chain(window) {
            if let (Some(counts), Some(bounds)) = (&change.explicit, &bounds[row])
                && counts.len() == bounds.len() + 1
            {
                merged.add_explicit(bounds, counts);
            }
            if let Some(exponential) = &change.exponential {
                merged.add_exponential(exponential.clone());
            }
            merged.widen(mins[row], maxes[row]);
        }
    }
    Ok((merged, windows))
}

/// What a cumulative point added since the point before it in the window.
///
/// The first point of a series adds everything if its interval started in the window, else nothing: it is the base. A new
/// start, a falling count or a changed scale is a restart, whose point adds everything it has.
fn increase(previous: Option<&Point>, point: &Point, window_start_us: i64) -> Option<Point> {
    let started_inside = point.start_us.is_some_and(|start| start >= window_start_us);
    let Some(previous) = previous else {
        return started_inside.then(|| point.clone());
    };
    if previous.start_us != point.start_us {
        return Some(point.clone());
    }
    let explicit = match (&previous.explicit, &point.explicit) {
        (Some(before), Some(after)) if before.len() == after.len() => {
            Some(before.iter().zip(after).map(|(before, after)| after.checked_sub(*before)).collect::<Option<Vec<_>>>())
        }
        (None, None) => None,
        _ => Some(None),
    };
    let exponential = match (&previous.exponential, &point.exponential) {
        (Some(before), Some(after)) => Some(after.since(before)),
        (None, None) => None,
        _ => Some(None),
    };
    let reset = explicit == Some(None) || exponential == Some(None);
    if reset {
        return Some(point.clone());
    }
    Some(Point { start_us: point.start_us, explicit: explicit.flatten(), exponential: exponential.flatten() })
}
