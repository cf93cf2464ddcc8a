//! Points of a role view, as a stream: no label is read twice.

use std::collections::BTreeSet;

use datafusion::arrow::{
    array::{Array as _, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType},
};
use futures::StreamExt as _;

use super::{
    Desk,
    series::{self, Series},
};
use crate::{
    error::{Error, Result},
    rows::literal,
};

/// Most points of one question; a longer window or more series are refused.
const POINTS_MAX: u64 = 50_000_000;

/// One point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) series: i64,
    pub(super) time_us: i64,
    /// Value, or mean of what was counted.
    pub(super) value: f64,
    /// What was counted and its sum; none of a plain number.
    pub(super) counted: Option<(f64, f64)>,
}

/// Calls `take` with role and point for every point in `roles` that `whose` selects, of the metrics of `series`.
pub(super) async fn read(
    desk: &mut Desk<'_>,
    view: &str,
    roles: &[&str],
    whose: &str,
    series: &[&Series],
    mut take: impl FnMut(&str, &Point),
) -> Result<()> {
    if roles.is_empty() {
        return Ok(());
    }
    let metrics: BTreeSet<&str> = series.iter().map(|series| series.metric.as_str()).collect();
    let metrics: Vec<String> = metrics.into_iter().map(literal).collect();
    let query = format!(
        "SELECT role, series_id, time, value, CAST(count AS DOUBLE) AS count, sum FROM {view} WHERE {} AND metric IN ({})",
        series::condition(desk.span, roles, whose),
        metrics.join(", ")
    );
    let mut batches = desk.ctx.sql(&query).await?.execute_stream().await?;
    desk.queries.push(query);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        desk.point_count += batch.num_rows() as u64;
        if desk.point_count > POINTS_MAX {
            return Err(Error::TooManyPoints { limit: POINTS_MAX });
        }
        each(&batch, &mut take)?;
    }
    Ok(())
}

fn each(batch: &RecordBatch, take: &mut impl FnMut(&str, &Point)) -> Result<()> {
    let column = |name: &str, data_type: &DataType| {
        let found = batch.column_by_name(name).ok_or_else(|| Error::Column { name: name.to_owned() })?;
        Ok::<_, Error>(cast(found, data_type)?)
    };
    let time_type = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let (ids, times) = (column("series_id", &DataType::Int64)?, column("time", &time_type)?);
    let roles = column("role", &DataType::Utf8)?;
    let roles = roles.as_string::<i32>();
    let numbers = ["value", "count", "sum"].map(|name| column(name, &DataType::Float64));
    let [values, counts, sums] = numbers;
    let (values, counts, sums) = (values?, counts?, sums?);
    let (ids, times) = (ids.as_primitive::<Int64Type>(), times.as_primitive::<TimestampMicrosecondType>());
    let [values, counts, sums] = [&values, &counts, &sums].map(|column| column.as_primitive::<Float64Type>());
    for row in 0..batch.num_rows() {
        let counted = (!counts.is_null(row) && !sums.is_null(row)).then(|| (counts.value(row), sums.value(row)));
        let (series, time_us, value) = (ids.value(row), times.value(row), values.value(row));
        if !values.is_null(row) && value.is_finite() {
            take(roles.value(row), &Point { series, time_us, value, counted });
        }
    }
    Ok(())
}
