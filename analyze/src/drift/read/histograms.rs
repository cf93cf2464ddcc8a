//! Stored histogram points: merged into one histogram per window, or per hour.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::{
    refuse_mixed,
    windows::{SLOTS, Windows, slot_us},
};
use crate::{
    drift::{
        buckets::Buckets,
        feature_state::FeatureState,
        histogram::{Exponential, MergedHistogram},
        hourly::HourlyState,
        observed::{Observed, Values},
        request::{Side, Subject},
        score::SideSummary,
        statistics::moments_binned,
    },
    error::{Error, Result},
    rows::{Rows, SIMULATED, literal},
    window::{HOUR_US, Window},
};

/// Most histogram points read per side, or per hours that are built together.
const HISTOGRAM_POINTS_MAX: usize = 200_000;
/// How far before an hour the point may lie that its first point is counted from.
const LOOKBACK_US: i64 = HOUR_US;

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
    let rows = read(ctx, subject, side, side).await?;
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
        query: sql(subject, side, side),
        ..SideSummary::empty(side)
    };
    let of = |histogram| Values::Histograms(Box::new(FeatureState { histogram, ..FeatureState::default() }));
    Ok(Observed { values: of(merged), windows: windows.into_iter().map(of).collect(), summary })
}

/// The points of `side` in order of series and time.
///
/// # Errors
/// [`Error::TooManyHistograms`] past [`HISTOGRAM_POINTS_MAX`].
async fn read(ctx: &SessionContext, subject: &Subject, side: &Side, slots: &Side) -> Result<Rows> {
    let rows = Rows::query(ctx, &sql(subject, side, slots)).await?;
    if rows.len() > HISTOGRAM_POINTS_MAX {
        return Err(Error::TooManyHistograms { metric: subject.name().to_owned(), limit: HISTOGRAM_POINTS_MAX });
    }
    Ok(rows)
}

fn sql(subject: &Subject, side: &Side, slots: &Side) -> String {
    let metric = literal(subject.name());
    let (start, slot) = (slots.span().start_us, slot_us(slots));
    format!(
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
    )
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
    let indexed = |offset: Option<i64>, list: Option<Vec<i64>>| -> Buckets {
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
    let mut merged = MergedHistogram::default();
    let mut windows = vec![MergedHistogram::default(); parts.len()];
    // The last point of one window is no base for the first of the next, which may be a week later.
    let from = |time_us| side.window_of(time_us).map(|window| window.start_us);
    changes(rows, from, |time_us, change| {
        let window = parts.of(&mut windows, Some(time_us));
        std::iter::once(&mut merged).chain(window).for_each(|merged| change.add_to(merged));
    })?;
    Ok((merged, windows))
}

/// The points of each of `hours`. What a cumulative one added counts from the point before it, if that lies at most an hour before
/// its hour: hours of states meet without a gap, in whatever pieces they are built.
pub(crate) async fn histograms_by_hour(
    ctx: &SessionContext,
    subject: &Subject,
    side: &Side,
    hours: &mut BTreeMap<i64, HourlyState>,
) -> Result<()> {
    let hour_of = |time_us: i64| time_us.div_euclid(HOUR_US) * HOUR_US;
    let span = side.span();
    let before = Side::new(Window { start_us: span.start_us - LOOKBACK_US, ..span }, side.filters.clone());
    let rows = read(ctx, subject, &before, side).await?;
    let times = rows.integers("time_us")?;
    for (time_us, simulated) in times.into_iter().zip(rows.flags("simulated")?) {
        let Some(time_us) = time_us else { continue };
        hours.get_mut(&hour_of(time_us)).into_iter().for_each(|hourly| hourly.count_row(time_us, simulated));
    }
    let from = |time_us: i64| Some(hour_of(time_us) - LOOKBACK_US);
    changes(&rows, from, |time_us, change| {
        let hourly = hours.get_mut(&hour_of(time_us));
        hourly.into_iter().for_each(|hourly| change.add_to(&mut hourly.state.histogram));
    })
}

/// What a point added.
struct Change<'a> {
    point: Point,
    bounds: Option<&'a Vec<f64>>,
    range: (Option<f64>, Option<f64>),
}

impl Change<'_> {
    fn add_to(&self, merged: &mut MergedHistogram) {
        if let (Some(counts), Some(bounds)) = (&self.point.explicit, self.bounds)
            && counts.len() == bounds.len() + 1
        {
            merged.add_explicit(bounds, counts);
        }
        if let Some(exponential) = &self.point.exponential {
            merged.add_exponential(exponential.clone());
        }
        merged.widen(self.range.0, self.range.1);
    }
}

/// Hands on what each of `rows`, by series and time, added. Cumulative points count from the point before them, where that is not before
/// `from` of their time; where that says nothing, the point is not asked for.
fn changes(rows: &Rows, from: impl Fn(i64) -> Option<i64>, mut add: impl FnMut(i64, &Change<'_>)) -> Result<()> {
    let (series, temporalities) = (rows.integers("series_id")?, rows.texts("temporality")?);
    let (bounds, mins, maxes) = (rows.number_lists("bounds")?, rows.numbers("min")?, rows.numbers("max")?);
    let (points, times) = (points(rows)?, rows.integers("time_us")?);
    for (row, point) in points.iter().enumerate() {
        let Some(time_us) = times[row] else { continue };
        let Some(from_us) = from(time_us) else { continue };
        let follows = |before: &usize| series[*before] == series[row] && times[*before] >= Some(from_us);
        let previous = row.checked_sub(1).filter(follows).map(|before| &points[before]);
        let is_cumulative = temporalities[row].as_deref() == Some("cumulative");
        let change = if is_cumulative { increase(previous, point, from_us) } else { Some(point.clone()) };
        let range = (mins[row], maxes[row]);
        if let Some(point) = change {
            add(time_us, &Change { point, bounds: bounds[row].as_ref(), range });
        }
    }
    Ok(())
}

/// What a cumulative point added since the point before it, which is not before `from_us`.
///
/// A point without one adds everything if its interval started since then, else nothing: it is the base. A new
/// start, a falling count or a changed scale is a restart, whose point adds everything it has.
fn increase(previous: Option<&Point>, point: &Point, from_us: i64) -> Option<Point> {
    let started_inside = point.start_us.is_some_and(|start| start >= from_us);
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
