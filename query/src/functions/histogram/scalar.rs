//! Scalar functions of one histogram.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, StructArray},
    datatypes::{DataType, Field, Fields, Float64Type, Int32Type},
};
use datafusion::{
    common::{plan_err, utils::take_function_args},
    error::Result,
    logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use super::{
    Histogram,
    column::{Columns, build, doubles, histogram_type},
};
use crate::functions::about::about;

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    Quantile,
    QuantileBounds,
    Fraction,
    Count,
    Sum,
    Avg,
    Stddev,
    Stdvar,
    Rebin,
}

impl Function {
    pub(crate) const ALL: [Self; 9] = [
        Self::Quantile,
        Self::QuantileBounds,
        Self::Fraction,
        Self::Count,
        Self::Sum,
        Self::Avg,
        Self::Stddev,
        Self::Stdvar,
        Self::Rebin,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Quantile => "histogram_quantile",
            Self::QuantileBounds => "histogram_quantile_bounds",
            Self::Fraction => "histogram_fraction",
            Self::Count => "histogram_count",
            Self::Sum => "histogram_sum",
            Self::Avg => "histogram_avg",
            Self::Stddev => "histogram_stddev",
            Self::Stdvar => "histogram_stdvar",
            Self::Rebin => "histogram_rebin",
        }
    }
}

/// `lower` and `upper`, between which the quantile is.
fn bounds_fields() -> Fields {
    Fields::from(vec![Field::new("lower", DataType::Float64, true), Field::new("upper", DataType::Float64, true)])
}

/// Null for a null histogram.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct OfHistogram {
    function: Function,
    signature: Signature,
}

impl OfHistogram {
    pub(crate) fn new(function: Function) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OfHistogram {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let number = |data_type: &DataType| data_type.is_numeric() || data_type.is_null();
        let histogram = |data_type: &DataType| *data_type == histogram_type() || data_type.is_null();
        match (self.function, types) {
            (Function::Quantile | Function::QuantileBounds, [q, of]) if number(q) && histogram(of) => {
                Ok(vec![DataType::Float64, histogram_type()])
            }
            (Function::Fraction, [lower, upper, of]) if number(lower) && number(upper) && histogram(of) => {
                Ok(vec![DataType::Float64, DataType::Float64, histogram_type()])
            }
            (Function::Rebin, [of, to]) if histogram(of) && to.is_integer() => {
                Ok(vec![histogram_type(), DataType::Int32])
            }
            (Function::Rebin, [of, to]) if histogram(of) && to.is_list() => Ok(vec![histogram_type(), doubles()]),
            (Function::Count | Function::Sum | Function::Avg | Function::Stddev | Function::Stdvar, [of])
                if histogram(of) =>
            {
                Ok(vec![histogram_type()])
            }
            _ => {
                let call = self.documentation().map_or(self.name(), |about| about.syntax_example.as_str());
                plan_err!("it is called as {call}; a histogram is what histogram(…) gives")
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.function {
            Function::QuantileBounds => DataType::Struct(bounds_fields()),
            Function::Rebin => histogram_type(),
            _ => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = ColumnarValue::values_to_arrays(&args.args)?;
        let answer: ArrayRef = match self.function {
            Function::Quantile => {
                let [q, of] = take_function_args(self.name(), args)?;
                let q = q.as_primitive::<Float64Type>();
                Arc::new(numbers(of.as_struct(), |of, row| q.is_valid(row).then(|| of.quantile(q.value(row))))?)
            }
            Function::QuantileBounds => {
                let [q, of] = take_function_args(self.name(), args)?;
                Arc::new(quantile_bounds(q.as_primitive(), of.as_struct())?)
            }
            Function::Fraction => {
                let [lower, upper, of] = take_function_args(self.name(), args)?;
                let (lower, upper) = (lower.as_primitive::<Float64Type>(), upper.as_primitive::<Float64Type>());
                Arc::new(numbers(of.as_struct(), |of, row| {
                    let valid = lower.is_valid(row) && upper.is_valid(row);
                    valid.then(|| of.fraction(lower.value(row), upper.value(row)))
                })?)
            }
            Function::Rebin => {
                let [of, to] = take_function_args(self.name(), args)?;
                Arc::new(rebinned(of.as_struct(), &to)?)
            }
            function => {
                let [of] = take_function_args(self.name(), args)?;
                Arc::new(numbers(of.as_struct(), |of, _| match function {
                    Function::Sum => of.sum,
                    Function::Avg => of.sum.map(|_| of.mean()),
                    Function::Stddev => of.sum.map(|_| of.variance().sqrt()),
                    Function::Stdvar => of.sum.map(|_| of.variance()),
                    _ => Some(of.count),
                })?)
            }
        };
        Ok(ColumnarValue::Array(answer))
    }
}

fn numbers(of: &StructArray, answer: impl Fn(&Histogram, usize) -> Option<f64>) -> Result<Float64Array> {
    let of = Columns::of_struct(of);
    (0..of.len()).map(|row| Ok(of.histogram(row)?.and_then(|of| answer(&of, row)))).collect()
}

fn quantile_bounds(q: &Float64Array, of: &StructArray) -> Result<StructArray> {
    let of = Columns::of_struct(of);
    let bounds = (0..of.len()).map(|row| {
        let of = of.histogram(row)?.filter(|_| q.is_valid(row));
        Ok(of.and_then(|of| of.quantile_bounds(q.value(row))))
    });
    let bounds = bounds.collect::<Result<Vec<_>>>()?;
    let lower: Float64Array = bounds.iter().map(|bounds| bounds.map(|(lower, _)| lower)).collect();
    let upper: Float64Array = bounds.iter().map(|bounds| bounds.map(|(_, upper)| upper)).collect();
    let valid = bounds.iter().map(Option::is_some).collect();
    Ok(StructArray::new(bounds_fields(), vec![Arc::new(lower), Arc::new(upper)], Some(valid)))
}

fn rebinned(of: &StructArray, to: &ArrayRef) -> Result<StructArray> {
    let of = Columns::of_struct(of);
    let histograms = (0..of.len()).map(|row| {
        let Some(of) = of.histogram(row)?.filter(|_| to.is_valid(row)) else { return Ok(None) };
        match to.data_type() {
            DataType::Int32 => of.with_scale(to.as_primitive::<Int32Type>().value(row)),
            _ => of.with_bounds(to.as_list::<i32>().value(row).as_primitive::<Float64Type>().values()),
        }
        .map(Some)
    });
    Ok(build(&histograms.collect::<Result<Vec<_>>>()?))
}
