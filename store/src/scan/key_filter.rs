//! What predicates leave of unflushed points, decided on whole series and on ranges of time.
//!
//! Among the predicates are those that a join makes while it runs, of the series that its other side has: a question about one host
//! then reads the points of that host, as it does from files.

use std::{ops::Range, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    common::ScalarValue,
    error::Result,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, Literal},
        split_conjunction,
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_expr_common::physical_expr::is_volatile,
};

use crate::memtable::{SeriesPoints, day_of};

/// Series and days that are looked at together.
const ROWS: usize = 8192;
/// Days between the first and the last point of a series, above which it is kept without a look.
const DAYS_MAX: i32 = 64;

/// The predicates that can be decided.
#[derive(Debug)]
pub(super) struct KeyFilter {
    /// Over [`key_schema`].
    of_series: Vec<Arc<dyn PhysicalExpr>>,
    /// Microseconds.
    times: Range<i64>,
}

/// What a predicate can say of all points that a series has on a day.
fn key_schema() -> SchemaRef {
    let key = |name, data_type| Field::new(name, data_type, false);
    let keys = [("metric", DataType::Utf8), ("series_id", DataType::Int64), ("date", DataType::Date32)];
    Arc::new(Schema::new(keys.map(|(name, data_type)| key(name, data_type)).to_vec()))
}

impl KeyFilter {
    /// Of `filters`, all of which a row must meet. What cannot be decided here leaves out nothing.
    pub(super) fn new(filters: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        let schema = key_schema();
        let mut decided = Self { of_series: vec![], times: i64::MIN..i64::MAX };
        for part in filters.iter().flat_map(split_conjunction) {
            // It is asked once per row, not once per series.
            if is_volatile(part) {
                continue;
            }
            let columns = collect_columns(part);
            if !columns.is_empty() && columns.iter().all(|column| schema.index_of(column.name()).is_ok()) {
                decided.of_series.push(reassign_expr_columns(Arc::clone(part), &schema)?);
            } else if let Some(times) = times(part) {
                decided.times = decided.times.start.max(times.start)..decided.times.end.min(times.end);
            }
        }
        Ok(decided)
    }

    /// The times that may be wanted.
    pub(super) fn times(&self) -> Range<i64> {
        self.times.clone()
    }

    /// Those of `series` that may be wanted, in their order. `ends` tells first and last time of the points that are meant.
    pub(super) fn keep(
        &self,
        series: &Arc<[Arc<SeriesPoints>]>,
        ends: impl Fn(&SeriesPoints) -> Option<(i64, i64)>,
    ) -> Result<Arc<[Arc<SeriesPoints>]>> {
        let mut kept = vec![false; series.len()];
        let mut rows = Vec::with_capacity(ROWS.min(series.len()));
        for (index, points) in series.iter().enumerate() {
            let Some((first, last)) = ends(points) else { continue };
            if last < self.times.start || first >= self.times.end {
                continue;
            }
            let (first, last) = (day_of(first), day_of(last));
            if self.of_series.is_empty() || last.saturating_sub(first) > DAYS_MAX {
                kept[index] = true;
                continue;
            }
            rows.extend((first..=last).map(|day| (index, day)));
            if rows.len() >= ROWS {
                self.look(series, &mut rows, &mut kept)?;
            }
        }
        self.look(series, &mut rows, &mut kept)?;
        Ok(series.iter().zip(kept).filter(|(_, kept)| *kept).map(|(points, _)| Arc::clone(points)).collect())
    }

    /// Notes in `kept` which of `rows`, places in `series` with a day, may be wanted.
    fn look(&self, series: &[Arc<SeriesPoints>], rows: &mut Vec<(usize, i32)>, kept: &mut [bool]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let of = |row: &(usize, i32)| &series[row.0].series;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*of(row).definition.metric))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| of(row).id.to_column()))),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.1))),
        ];
        let batch = RecordBatch::try_new(key_schema(), columns)?;
        let mut wanted = vec![true; rows.len()];
        for expr in &self.of_series {
            let meets = expr.evaluate(&batch)?.into_array(rows.len())?;
            let Some(meets) = meets.as_boolean_opt() else { continue };
            wanted.iter_mut().zip(meets).for_each(|(wanted, meets)| *wanted &= meets == Some(true));
        }
        for ((index, _), wanted) in rows.drain(..).zip(wanted) {
            kept[index] |= wanted;
        }
        Ok(())
    }
}

/// The times that `time < 'x'` and the like leave.
fn times(predicate: &Arc<dyn PhysicalExpr>) -> Option<Range<i64>> {
    let binary = predicate.downcast_ref::<BinaryExpr>()?;
    binary.left().downcast_ref::<Column>().filter(|column| column.name() == "time")?;
    let literal = binary.right().downcast_ref::<Literal>()?;
    let ScalarValue::TimestampMicrosecond(Some(time), _) = literal.value() else { return None };
    let (time, next) = (*time, time.saturating_add(1));
    match binary.op() {
        Operator::GtEq => Some(time..i64::MAX),
        Operator::Gt => Some(next..i64::MAX),
        Operator::Lt => Some(i64::MIN..time),
        Operator::LtEq => Some(i64::MIN..next),
        Operator::Eq => Some(time..next),
        _ => None,
    }
}
