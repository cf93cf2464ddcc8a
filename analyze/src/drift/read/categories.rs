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
        label::label_sql,
        observed::{Observed, Values},
        request::{Side, Subject},
        score::SideSummary,
    },
    error::{Error, Result},
    rows::{Rows, SIMULATED, literal},
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
    let (mut slots, mut rows_read, mut simulated, mut real, mut queries) = (BTreeSet::new(), 0, 0, 0, vec![]);
    for window in &side.windows {
        let one = Side { windows: vec![*window], filters: side.filters.clone() };
        // Groups that begin where the windows of this length do, so that each lies in one of them.
        let step_us = length_us.unwrap_or(i64::MAX).min(window.end_us - window.start_us).max(1);
        let query = sql(subject, key, &one, step_us, side);
        let rows = Rows::query(ctx, &query).await?;
        if rows.len() > ROWS_MAX {
            return Err(Error::TooManyCategories { metric: subject.name().to_owned(), limit: ROWS_MAX });
        }
        let (names, counts) = (rows.texts("category")?, rows.numbers("counted")?);
        let (steps, of_slots) = (rows.integers("step")?, rows.integers("slot")?);
        let (points, marked) = (rows.integers("points")?, rows.integers("simulated_points")?);
        let no_counters = rows.integers("no_counters")?;
        if no_counters.iter().flatten().any(|count| *count > 0) {
            let reason = "it is no counter that only goes up; categories of other metrics are not counted".to_owned();
            return Err(Error::Incomparable { metric: subject.name().to_owned(), reason });
        }
        for row in 0..rows.len() {
            let category = names[row].as_deref().unwrap_or(UNLABELLED);
            let count = counts[row].filter(|count| count.is_finite() && *count > 0.0).unwrap_or(0.0);
            let (all, sim) = (points[row].unwrap_or(0), marked[row].unwrap_or(0));
            (rows_read, simulated, real) = (rows_read + all, simulated + sim, real + all - sim);
            slots.extend(of_slots[row]);
            merged.add(category, count);
            let start_us = steps[row].map(|step| window.end_us + step * step_us);
            parts.of(&mut windows, start_us).into_iter().for_each(|window| window.add(category, count));
        }
        queries.push(query);
    }
    let simulated = refuse_mixed(name, subject, simulated.unsigned_abs(), real.unsigned_abs())?;
    let merged = merged.rounded();
    let summary = SideSummary {
        row_count: rows_read.unsigned_abs(),
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

/// `step` counts groups of `step_us` from the end of the window, the last one is -1.
fn sql(subject: &Subject, key: &str, one: &Side, step_us: i64, side: &Side) -> String {
    let (metric, span, slot) = (literal(subject.name()), one.span(), slot_us(side));
    let since_end = format!("CAST(p.time AS BIGINT) - {}", span.end_us);
    // Integer division rounds towards zero: all differences are below zero, so the last group is 0 without the - 1.
    format!(
        "SELECT s.category, ({since_end} + 1) / {step_us} - 1 AS step, \
         (CAST(p.time AS BIGINT) - {from}) / {slot} AS slot, count(*) AS points, \
         sum(CASE WHEN s.simulated THEN 1 ELSE 0 END) AS simulated_points, \
         sum(CASE WHEN s.kind = 'sum' AND s.monotonic THEN 0 ELSE 1 END) AS no_counters, \
         sum(CASE WHEN s.temporality = 'delta' THEN p.value WHEN p.increase IS NOT NULL THEN p.increase \
         WHEN p.begun AND CAST(p.start_time AS BIGINT) >= {start} THEN p.value END) AS counted \
         FROM raw.increases p JOIN (SELECT series_id, date, kind, temporality, monotonic, {label} AS category, \
         {SIMULATED} AS simulated FROM raw.series WHERE metric = {metric}{filters}) s \
         ON s.series_id = p.series_id AND s.date = p.date \
         WHERE p.metric = {metric} AND {time} AND p.value IS NOT NULL GROUP BY 1, 2, 3 LIMIT {limit}",
        from = side.span().start_us,
        start = span.start_us,
        label = label_sql(key),
        filters = one.filter_sql(),
        time = one.time_sql("p.time"),
        limit = ROWS_MAX + 1,
    )
}
