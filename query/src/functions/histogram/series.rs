//! Histograms of one series: they have the same bounds, so their sums are there before the bounds are.

use std::{ops::Range, sync::Arc};

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use datafusion::{
    common::ScalarValue,
    error::Result,
    functions::core::expr_fn::{get_field, named_struct},
    logical_expr::{AggregateUDF, Expr, ScalarUDF},
    prelude::lit,
};

use super::{
    Explicit, Histogram, Shape,
    aggregate::{Function, OfHistograms},
    column::{Columns, PARAMETERS, build, doubles},
    construct::Construct,
};

/// Position of the bounds among [`PARAMETERS`].
pub(crate) const BOUNDS: usize = 4;

/// The value of `histogram(…)` with the arguments `columns`, without its bounds.
pub(crate) fn without_bounds(columns: &[Expr]) -> Result<Expr> {
    let unknown = lit(ScalarValue::try_from(&doubles())?);
    let value = |index: usize| if index == BOUNDS { unknown.clone() } else { columns[index].clone() };
    let parts = PARAMETERS.iter().enumerate().flat_map(|(index, name)| [lit(*name), value(index)]);
    Ok(named_struct(parts.collect()))
}

/// The sum over rows of `sums`, which are without their `bounds`.
pub(crate) fn merged(sums: &Expr, bounds: &Expr) -> Result<Expr> {
    let part = |(index, name): (usize, &&str)| match index {
        BOUNDS => bounds.clone(),
        _ => get_field(sums.clone(), *name),
    };
    let histogram = ScalarUDF::from(Construct::new()?).call(PARAMETERS.iter().enumerate().map(part).collect());
    Ok(AggregateUDF::from(OfHistograms::new(Function::Merge)).call(vec![histogram]))
}

/// A number for each row of `histograms`; rows of which it is the same can be added without their bounds.
pub(crate) fn layouts(histograms: &ArrayRef) -> ArrayRef {
    let columns = Columns::of(histograms.as_struct().columns());
    let layout = |row| columns.counts(row).map_or(-1, |counts| counts.len() as i32);
    Arc::new((0..histograms.len()).map(layout).map(Some).collect::<Int32Array>())
}

/// The sum of each of `runs` of `histograms`, whose rows have one layout. The bounds of explicit ones are left out.
///
/// # Errors
/// Exponential histograms that cannot be added.
pub(crate) fn sums(histograms: &ArrayRef, runs: &[Range<usize>]) -> Result<ArrayRef> {
    let columns = Columns::of(histograms.as_struct().columns());
    let sums = runs.iter().map(|run| sum(&columns, run.clone())).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(build(&sums)))
}

fn sum(columns: &Columns, run: Range<usize>) -> Result<Option<Histogram>> {
    let mut sum: Option<Histogram> = None;
    let mut next = Explicit { bounds: vec![], counts: vec![] };
    for row in run {
        let more = match columns.counts(row) {
            // One allocation serves all rows.
            Some(counts) => {
                let Some((count, [sum, min, max])) = columns.totals(row) else { continue };
                next.counts.clear();
                next.counts.extend_from_slice(counts);
                Histogram { count, sum, min, max, shape: Shape::Explicit(next) }
            }
            None => match columns.histogram(row)? {
                Some(more) => more,
                None => continue,
            },
        };
        match &mut sum {
            Some(sum) => sum.add(&more, 1.0)?,
            None => sum = Some(more.clone()),
        }
        next = match more.shape {
            Shape::Explicit(explicit) => explicit,
            Shape::Exponential(_) => Explicit { bounds: vec![], counts: vec![] },
        };
    }
    Ok(sum)
}
