//! `histogram(…)`: columns of the view `histograms` as one value.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Builder, StructArray, new_null_array},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::plan_err,
    error::Result,
    logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use super::column::{Columns, PARAMETERS, build, doubles, fields, histogram_type};
use crate::functions::about::about;

pub(crate) const CONSTRUCTOR: &str = "histogram";

/// All columns; or `bounds, bucket_counts` and perhaps a sum, for an explicit one; or none, for those in scope.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Construct {
    signature: Signature,
}

impl Construct {
    pub(crate) fn new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable).with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self { signature })
    }
}

impl ScalarUDFImpl for Construct {
    fn name(&self) -> &str {
        CONSTRUCTOR
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types.len() {
            0 => Ok(vec![]),
            2 => Ok(vec![doubles(), doubles()]),
            3 => Ok(vec![doubles(), doubles(), DataType::Float64]),
            13 => Ok(fields().iter().map(|field| field.data_type().clone()).collect()),
            _ => plan_err!(
                "histogram takes no arguments (the columns of the view histograms), or bounds and counts and a sum, \
                 or all of {}",
                PARAMETERS.join(", ")
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(histogram_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let given = ColumnarValue::values_to_arrays(&args.args)?;
        let columns = match given.as_slice() {
            [] => {
                return plan_err!(
                    "histogram() stands for the columns of the view histograms, which are not in scope here"
                );
            }
            [bounds, counts, rest @ ..] if rest.len() < 2 => explicit(bounds, counts, rest.first(), rows)?,
            _ => given,
        };
        let columns: Vec<_> = columns
            .iter()
            .zip(fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<_, _>>()?;
        let parts = Columns::of(&columns);
        if parts.are_explicit() {
            // Nothing to put in order, as with most.
            return Ok(ColumnarValue::Array(Arc::new(StructArray::new(fields().clone(), columns, None))));
        }
        let histograms = (0..parts.len()).map(|row| parts.histogram(row)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(Arc::new(build(&histograms))))
    }
}

/// All columns of explicit histograms; the count is that of the buckets.
fn explicit(bounds: &ArrayRef, counts: &ArrayRef, sum: Option<&ArrayRef>, rows: usize) -> Result<Vec<ArrayRef>> {
    let counts = cast(counts, &doubles())?;
    let lists = counts.as_list::<i32>();
    let mut count = Float64Builder::with_capacity(rows);
    for row in 0..lists.len() {
        let total = || lists.value(row).as_primitive::<Float64Type>().iter().flatten().sum();
        count.append_option(lists.is_valid(row).then(total));
    }
    let rows = lists.len();
    let mut columns: Vec<_> = fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
    columns[0] = Arc::new(count.finish());
    columns[4] = Arc::clone(bounds);
    columns[5] = Arc::clone(&counts);
    if let Some(sum) = sum {
        columns[1] = Arc::clone(sum);
    }
    Ok(columns)
}
