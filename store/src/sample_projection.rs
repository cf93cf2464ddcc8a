//! From the columns that files hold to those that queries see: `value` and `value_int` are computed from the lanes,
//! where a query asks for them.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray},
        datatypes::{DataType, Float64Type, Int32Type, Int64Type, SchemaRef},
    },
    catalog::Session,
    error::{DataFusionError, Result},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::col,
        projection::{ProjectionExpr, ProjectionExprs},
    },
};

use crate::lanes;

/// How the column `name` of `samples` is computed, if it is: a function and the stored columns it reads.
fn computed(name: &str) -> Option<(ScalarUDF, &'static [&'static str])> {
    match name {
        "value" => Some((ScalarUDF::from(SampleValue::new()), &["scaled", "exponent", "value"])),
        "value_int" => Some((ScalarUDF::from(SampleInteger::new()), &["scaled", "exponent"])),
        _ => None,
    }
}

/// The columns `projection` of the schema `public`, as expressions over `stored` (partition columns included).
pub(crate) fn project(
    public: &SchemaRef,
    projection: Option<&Vec<usize>>,
    stored: &SchemaRef,
    state: &dyn Session,
) -> Result<ProjectionExprs> {
    let all: Vec<usize> = (0..public.fields().len()).collect();
    // A result table may well have a column `scaled`; then queries see it.
    let has_lanes = stored.index_of("scaled").is_ok() && public.index_of("scaled").is_err();
    let config = state.config().options();
    let exprs = projection.unwrap_or(&all).iter().map(|index| {
        let name = public.field(*index).name();
        let expr: Arc<dyn PhysicalExpr> = match computed(name).filter(|_| has_lanes) {
            Some((function, columns)) => {
                let columns = columns.iter().map(|column| col(column, stored)).collect::<Result<Vec<_>>>()?;
                Arc::new(ScalarFunctionExpr::try_new(Arc::new(function), columns, stored, Arc::clone(config))?)
            }
            None => col(name, stored)?,
        };
        Ok(ProjectionExpr::new(expr, name.as_str()))
    });
    Ok(ProjectionExprs::new(exprs.collect::<Result<Vec<_>>>()?))
}

/// `sample_value(scaled, exponent, value)`: the public `value`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SampleValue {
    signature: Signature,
}

impl SampleValue {
    fn new() -> Self {
        let types = vec![DataType::Int64, DataType::Int32, DataType::Float64];
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SampleValue {
    fn name(&self) -> &'static str {
        "sample_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [scaled, exponent, value] = arrays(&args)?;
        let values = lanes::values(
            scaled.as_primitive::<Int64Type>(),
            exponent.as_primitive::<Int32Type>(),
            value.as_primitive::<Float64Type>(),
        )?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `sample_integer(scaled, exponent)`: the public `value_int`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SampleInteger {
    signature: Signature,
}

impl SampleInteger {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Int64, DataType::Int32], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SampleInteger {
    fn name(&self) -> &'static str {
        "sample_integer"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [scaled, exponent] = arrays(&args)?;
        let integers = lanes::integers(scaled.as_primitive::<Int64Type>(), exponent.as_primitive::<Int32Type>());
        Ok(ColumnarValue::Array(Arc::new(integers)))
    }
}

/// The arguments as arrays; their types are checked by the signature.
fn arrays<const N: usize>(args: &ScalarFunctionArgs) -> Result<[ArrayRef; N]> {
    let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
    arrays.try_into().map_err(|arrays: Vec<_>| {
        let count = arrays.len();
        DataFusionError::Internal(format!("{count} arguments instead of {N}"))
    })
}
