//! What a counter counted, by the values of one of its attributes.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;

use super::{
    refuse_mixed,
    windows::{SLOTS, Windows, slot_us},
};
use crate::{
    drift::{
        category_counts::CategoryCounts,
        hourly::HourlyState,
        label::label_sql,
        observed::{Observed, Values},
        request::{Side, Subject},
        score::SideSummary,
    },
    error::{Error, Result},
    rows::{Rows, SIMULATED, literal},
    window::{HOUR_US, MINUTE_US},
};

/// Most rows of one answer: categories × windows × slots.
const ROWS_MAX: usize = 2_000_000;

/// The name of what was counted without the attribute.
const UNLABELLED: &str = "(none)";

/// Counts by category of a side, also by windows of `length_us` if that is given.
///
/// Of a cumulative counter they are its increases, resets included. A point that follows none counts whole where its counter
/// began inside the window and since the point that could have been before it; else it is only the base, as after a gap. Each
/// category's sum is rounded to whole counts once.
pub(crate) async fn categories(
    ctx: &SessionContext,
    name: &'static str,
    subject: &Subject,
    key: &str,
    side: &Side,
    length_us: Option<i64>,
) -> Result<Observed> {
    let parts = Windows::new(side, length_us);
    let mut merged = Sums::default();
    let mut windows = vec![Sums::default(); parts.len()];
    let (mut slots, mut read, mut queries) = (BTreeSet::new(), Counted::default(), vec![]);
    let slots_of = (side.span().start_us, slot_us(side));
    for window in &side.windows {
        let one = Side { windows: vec![*window], filters: side.filters.clone() };
        // Groups that begin where the windows of this length do, so that each lies in one of them.
        let step_us = length_us.unwrap_or(i64::MAX).min(window.end_us - window.start_us).max(1);
        let query = sql(subject, key, &one, step_us, slots_of, window.start_us);
        each_group(ctx, subject, &query, |group| {
            read.add(&group);
            slots.extend(group.slot);
            merged.add(group.category, group.count);
            let start_us = group.step.map(|step| window.end_us + step * step_us);
            parts.of(&mut windows, start_us).into_iter().for_each(|window| window.add(group.category, group.count));
        })
        .await?;
        queries.push(query);
    }
    let simulated = refuse_mixed(name, subject, read.simulated, read.rows - read.simulated)?;
    let merged = merged.rounded();
    let summary = SideSummary {
        row_count: read.rows,
        value_count: merged.total(),
        used_count: merged.total(),
        covered: (slots.len() as f64 / SLOTS as f64).min(1.0),
        simulated,
        query: queries.join(";\n"),
        ..SideSummary::empty(side)
    };
    let of = |counts| Values::Categories(Box::new(counts));
    let windows = windows.into_iter().map(|window| of(window.rounded())).collect();
    Ok(Observed { values: of(merged), windows, summary })
}

/// Counts by category of each of `hours`, each category's sum rounded to whole counts in each of them. A counter that began in the ten
/// minutes before its first point counts whole, also where that was the hour before.
pub(crate) async fn categories_by_hour(
    ctx: &SessionContext,
    subject: &Subject,
    key: &str,
    side: &Side,
    hours: &mut BTreeMap<i64, HourlyState>,
) -> Result<()> {
    let span = side.span();
    let query = sql(subject, key, side, HOUR_US, (span.start_us, MINUTE_US), span.start_us - HOUR_US);
    let mut sums: BTreeMap<i64, Sums> = BTreeMap::new();
    each_group(ctx, subject, &query, |group| {
        let Some(hour_us) = group.step.map(|step| span.end_us + step * HOUR_US) else { return };
        let Some(hourly) = hours.get_mut(&hour_us) else { return };
        hourly.row_count += group.points;
        hourly.simulated_count += group.simulated;
        group.slot.into_iter().for_each(|minute| hourly.see_minute(span.start_us + minute * MINUTE_US));
        sums.entry(hour_us).or_default().add(group.category, group.count);
    })
    .await?;
    for (hour_us, sums) in sums {
        hours.entry(hour_us).or_default().state.categories = sums.rounded();
    }
    Ok(())
}

/// Points of one category in one step and slot.
struct Group<'a> {
    category: &'a str,
    step: Option<i64>,
    slot: Option<i64>,
    points: u64,
    simulated: u64,
    count: f64,
}

/// Points read.
#[derive(Debug, Default)]
struct Counted {
    rows: u64,
    simulated: u64,
}

impl Counted {
    fn add(&mut self, group: &Group<'_>) {
        self.rows += group.points;
        self.simulated += group.simulated;
    }
}

/// Hands on every group that `query` finds.
///
/// # Errors
/// [`Error::TooManyCategories`] past [`ROWS_MAX`], [`Error::Incomparable`] for what is no counter.
async fn each_group(
    ctx: &SessionContext,
    subject: &Subject,
    query: &str,
    mut add: impl FnMut(Group<'_>),
) -> Result<()> {
    let rows = Rows::query(ctx, query).await?;
    if rows.len() > ROWS_MAX {
        return Err(Error::TooManyCategories { metric: subject.name().to_owned(), limit: ROWS_MAX });
    }
    let (names, counts) = (rows.texts("category")?, rows.numbers("counted")?);
    let (steps, slots) = (rows.integers("step")?, rows.integers("slot")?);
    let (points, marked) = (rows.integers("points")?, rows.integers("simulated_points")?);
    let no_counters = rows.integers("no_counters")?;
    if no_counters.iter().flatten().any(|count| *count > 0) {
        let reason = "it is no counter that only goes up; categories of other metrics are not counted".to_owned();
        return Err(Error::Incomparable { metric: subject.name().to_owned(), reason });
    }
    for row in 0..rows.len() {
        add(Group {
            category: names[row].as_deref().unwrap_or(UNLABELLED),
            step: steps[row],
            slot: slots[row],
            points: points[row].unwrap_or(0).unsigned_abs(),
            simulated: marked[row].unwrap_or(0).unsigned_abs(),
            count: counts[row].filter(|count| count.is_finite() && *count > 0.0).unwrap_or(0.0),
        });
    }
    Ok(())
}

/// What was counted by category, before it is rounded: many small parts of a count together are counts.
#[derive(Debug, Clone, Default)]
struct Sums(BTreeMap<String, f64>);

impl Sums {
    fn add(&mut self, category: &str, count: f64) {
        match self.0.get_mut(category) {
            Some(sum) => *sum += count,
            None => _ = self.0.insert(category.to_owned(), count),
        }
    }

    fn rounded(self) -> CategoryCounts {
        let mut counts = CategoryCounts::default();
        for (category, sum) in self.0 {
            counts.add(&category, sum.round() as u64);
        }
        counts
    }
}

/// `step` counts groups of `step_us` from the end of the window, the last one is -1; `slot` those of a length from a start. A counter that
/// began before `begun_us` does not count whole.
fn sql(
    subject: &Subject,
    key: &str,
    one: &Side,
    step_us: i64,
    (slots_from, slot_us): (i64, i64),
    begun_us: i64,
) -> String {
    let (metric, span) = (literal(subject.name()), one.span());
    let since_end = format!("CAST(p.time AS BIGINT) - {}", span.end_us);
    // Integer division rounds towards zero: all differences are below zero, so the last group is 0 without the - 1.
    format!(
        "SELECT s.category, ({since_end} + 1) / {step_us} - 1 AS step, \
         (CAST(p.time AS BIGINT) - {slots_from}) / {slot_us} AS slot, count(*) AS points, \
         sum(CASE WHEN s.simulated THEN 1 ELSE 0 END) AS simulated_points, \
         sum(CASE WHEN s.kind = 'sum' AND s.monotonic THEN 0 ELSE 1 END) AS no_counters, \
         sum(CASE WHEN s.temporality = 'delta' THEN p.value WHEN p.increase IS NOT NULL THEN p.increase \
         WHEN p.begun AND CAST(p.start_time AS BIGINT) >= {begun_us} THEN p.value END) AS counted \
         FROM raw.increases p JOIN (SELECT series_id, date, kind, temporality, monotonic, {label} AS category, \
         {SIMULATED} AS simulated FROM raw.series WHERE metric = {metric}{filters}) s \
         ON s.series_id = p.series_id AND s.date = p.date \
         WHERE p.metric = {metric} AND {time} AND p.value IS NOT NULL GROUP BY 1, 2, 3 LIMIT {limit}",
        label = label_sql(key),
        filters = one.filter_sql(),
        time = one.time_sql("p.time"),
        limit = ROWS_MAX + 1,
    )
}
