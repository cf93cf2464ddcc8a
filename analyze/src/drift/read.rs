//! Reading one side: raw values from a view, stored histogram points, or what counters counted by category.

mod categories;
mod histograms;
mod states;
mod windows;

use datafusion::prelude::SessionContext;

use super::{
    observed::{Observed, Values},
    request::{Side, Subject, VALUES_MAX},
    score::SideSummary,
    sort::sort_values,
    statistics::{mean, quantile},
};
use crate::{
    error::{Error, Result},
    rows::{Rows, SIMULATED},
};
pub(crate) use categories::{categories, categories_by_hour};
pub(crate) use histograms::{histograms, histograms_by_hour};
pub(crate) use states::states;
use windows::{SLOTS, Windows, slot_us};

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
