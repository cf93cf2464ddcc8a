//! States of some hours from their points.

use std::collections::BTreeMap;

use datafusion::{
    arrow::{
        array::AsArray,
        compute::cast,
        datatypes::{DataType, Float64Type, Int64Type},
    },
    prelude::SessionContext,
};
use futures::StreamExt as _;

use super::{HourlyState, PointKind, StateQuery, empty_hours, hour_of};
use crate::{
    drift::{
        read,
        request::{Side, Subject},
    },
    error::{Error, Result},
    rows::SIMULATED,
    window::{HOUR_US, Window},
};

/// The states of the hours of `window`, by their start.
///
/// # Errors
/// Those of the query; [`Error::TooManyHistograms`] and [`Error::TooManyCategories`] of a single hour.
pub(super) async fn build(
    ctx: &SessionContext,
    query: &StateQuery,
    window: Window,
) -> Result<BTreeMap<i64, HourlyState>> {
    match build_at_once(ctx, query, window).await {
        // Hour by hour there is less of it.
        Err(Error::TooManyHistograms { .. } | Error::TooManyCategories { .. })
            if window.end_us - window.start_us > HOUR_US =>
        {
            let mut all = BTreeMap::new();
            for (start_us, _) in empty_hours(window) {
                all.extend(build_at_once(ctx, query, Window { start_us, end_us: start_us + HOUR_US }).await?);
            }
            Ok(all)
        }
        built => built,
    }
}

async fn build_at_once(ctx: &SessionContext, query: &StateQuery, window: Window) -> Result<BTreeMap<i64, HourlyState>> {
    let side = Side::new(window, query.filters.clone());
    let mut hours = empty_hours(window);
    match (query.kind, &query.subject) {
        (PointKind::Categories, Subject::Category { key, .. }) => {
            read::categories_by_hour(ctx, &query.subject, key, &side, &mut hours).await?;
        }
        (PointKind::Histograms, _) => read::histograms_by_hour(ctx, &query.subject, &side, &mut hours).await?,
        _ => samples(ctx, &query.subject, &side, &mut hours).await?,
    }
    Ok(hours)
}

/// Values as they come: no more than a batch of them is in memory.
async fn samples(
    ctx: &SessionContext,
    subject: &Subject,
    side: &Side,
    hours: &mut BTreeMap<i64, HourlyState>,
) -> Result<()> {
    let (view, selects) = subject.samples();
    let sql = format!(
        "SELECT CAST(time AS BIGINT) AS time_us, value, {SIMULATED} AS simulated FROM {view} WHERE {selects} AND {}{}",
        side.time_sql("time"),
        side.filter_sql()
    );
    tracing::debug!(sql, "job query");
    let mut stream = ctx.sql(&sql).await?.execute_stream().await?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let columns = [(0, DataType::Int64), (1, DataType::Float64), (2, DataType::Boolean)];
        let [times, values, simulated] = columns.map(|(at, data_type)| cast(batch.column(at), &data_type));
        let (times, values, simulated) = (times?, values?, simulated?);
        let rows = times.as_primitive::<Int64Type>().iter().zip(values.as_primitive::<Float64Type>());
        for ((time_us, value), simulated) in rows.zip(simulated.as_boolean()) {
            let Some(time_us) = time_us else { continue };
            let Some(hourly) = hours.get_mut(&hour_of(time_us)) else { continue };
            hourly.count_row(time_us, simulated.unwrap_or(false));
            hourly.state.record(value);
        }
    }
    Ok(())
}
