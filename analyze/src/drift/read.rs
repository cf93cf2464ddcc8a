//! Reading one side: raw values from a view, or stored histogram points.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::{
    histogram::{Exponential, MergedHistogram},
    request::{Side, Subject, VALUES_MAX},
    score::SideSummary,
    statistics::{mean, quantile},
};
use crate::{
    error::{Error, Result},
    rows::{Rows, SIMULATED, literal},
};

/// Most histogram points read per side.
const HISTOGRAM_POINTS_MAX: usize = 200_000;
/// A window is cut in this many slots to say how much of it has data.
const SLOTS: i64 = 100;

const FINITE: &str = "value IS NOT NULL AND abs(value) <= 1.7976931348623157e308";

fn slot_us(side: &Side) -> i64 {
    ((side.window.end_us - side.window.start_us) / SLOTS).max(1)
}

fn refuse_mixed(name: &'static str, subject: &Subject, simulated: u64, real: u64) -> Result<bool> {
    if simulated > 0 && real > 0 {
        return Err(Error::MixedSimulated { side: name, metric: subject.name().to_owned() });
    }
    Ok(simulated > 0)
}

/// The finite values of a side, sorted, and where they came from.
pub(crate) async fn samples(
    ctx: &SessionContext,
    name: &'static str,
    subject: &Subject,
    side: &Side,
) -> Result<(Vec<f64>, SideSummary)> {
    let (view, selects) = subject.samples();
    let from = format!("FROM {view} WHERE {selects} AND {}{}", side.window.condition("time"), side.filter_sql());
    let (start, slot) = (side.window.start_us, slot_us(side));
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
    let query = if stride == 1 {
        format!("SELECT value {from} AND {FINITE}")
    } else {
        // Every k-th in time order keeps the window's shape, where a plain limit would keep its beginning.
        format!(
            "SELECT value FROM (SELECT value, row_number() OVER (ORDER BY time, value) AS position {from} AND {FINITE}) \
             WHERE position % {stride} = 0"
        )
    };
    let mut values: Vec<f64> = Rows::query(ctx, &query).await?.numbers("value")?.into_iter().flatten().collect();
    values.sort_by(f64::total_cmp);
    let summary = SideSummary {
        row_count,
        value_count,
        used_count: values.len() as u64,
        covered: count("slot_count")? as f64 / SLOTS as f64,
        simulated,
        mean: mean(&values),
        median: quantile(&values, 0.5),
        p95: quantile(&values, 0.95),
        query,
        ..SideSummary::empty(side)
    };
    Ok((values, summary))
}

/// One stored point, as read.
#[derive(Clone)]
struct Point {
    start_us: Option<i64>,
    explicit: Option<Vec<u64>>,
    exponential: Option<Exponential>,
}

/// Merges the histogram points of a side.
pub(crate) async fn histograms(
    ctx: &SessionContext,
    name: &'static str,
    subject: &Subject,
    side: &Side,
) -> Result<(MergedHistogram, SideSummary)> {
    let metric = literal(subject.name());
    let (start, slot) = (side.window.start_us, slot_us(side));
    let query = format!(
        "SELECT h.series_id, CAST(h.start_time AS BIGINT) AS start_us, h.min, h.max, h.bucket_counts, h.scale, \
         h.zero_count, h.zero_threshold, h.positive_offset, h.positive_counts, h.negative_offset, h.negative_counts, \
         s.temporality, s.bounds, s.simulated, (CAST(h.time AS BIGINT) - {start}) / {slot} AS slot \
         FROM raw.histograms h JOIN (SELECT series_id, date, temporality, bounds, {SIMULATED} AS simulated \
         FROM raw.series WHERE metric = {metric}{}) s ON s.series_id = h.series_id AND s.date = h.date \
         WHERE h.metric = {metric} AND {} AND h.count IS NOT NULL ORDER BY h.series_id, h.time LIMIT {}",
        side.filter_sql(),
        side.window.condition("h.time"),
        HISTOGRAM_POINTS_MAX + 1
    );
    let rows = Rows::query(ctx, &query).await?;
    if rows.len() > HISTOGRAM_POINTS_MAX {
        return Err(Error::TooManyHistograms { metric: subject.name().to_owned(), limit: HISTOGRAM_POINTS_MAX });
    }
    let simulated_count = rows.flags("simulated")?.into_iter().filter(|flag| *flag).count() as u64;
    let simulated = refuse_mixed(name, subject, simulated_count, rows.len() as u64 - simulated_count)?;
    let merged = merge(&rows, side)?;
    let mut slots: Vec<i64> = rows.integers("slot")?.into_iter().flatten().collect();
    slots.sort_unstable();
    slots.dedup();
    let summary = SideSummary {
        row_count: rows.len() as u64,
        value_count: merged.count(),
        used_count: merged.count(),
        covered: slots.len() as f64 / SLOTS as f64,
        simulated,
        query,
        ..SideSummary::empty(side)
    };
    Ok((merged, summary))
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

fn merge(rows: &Rows, side: &Side) -> Result<MergedHistogram> {
    let (series, temporalities) = (rows.integers("series_id")?, rows.texts("temporality")?);
    let (bounds, mins, maxes) = (rows.number_lists("bounds")?, rows.numbers("min")?, rows.numbers("max")?);
    let points = points(rows)?;
    let mut merged = MergedHistogram::default();
    for (row, point) in points.iter().enumerate() {
        let cumulative = temporalities[row].as_deref() == Some("cumulative");
        let previous = row.checked_sub(1).filter(|before| series[*before] == series[row]).map(|before| &points[before]);
        let Some(change) = (if cumulative { increase(previous, point, side) } else { Some(point.clone()) }) else {
            continue;
        };
        if let (Some(counts), Some(bounds)) = (&change.explicit, &bounds[row])
            && counts.len() == bounds.len() + 1
        {
            merged.add_explicit(bounds, counts);
        }
        if let Some(exponential) = change.exponential {
            merged.add_exponential(exponential);
        }
        merged.widen(mins[row], maxes[row]);
    }
    Ok(merged)
}

/// What a cumulative point added since the point before it in the window.
///
/// The first point of a series adds everything if its interval started in the window, else nothing: it is the base. A new
/// start, a falling count or a changed scale is a restart, whose point adds everything it has.
fn increase(previous: Option<&Point>, point: &Point, side: &Side) -> Option<Point> {
    let started_inside = point.start_us.is_some_and(|start| start >= side.window.start_us);
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
