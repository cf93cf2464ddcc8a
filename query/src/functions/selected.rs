//! `first`, `last` and `percentile`: names that people expect for aggregates that the engine has.

use arrow::datatypes::DataType;
use datafusion::{
    common::{not_impl_err, plan_err},
    error::Result,
    functions_aggregate::{
        first_last::{first_value_udaf, last_value_udaf},
        percentile_cont::percentile_cont_udaf,
    },
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
        expr::{AggregateFunction, NullTreatment},
        function::{AccumulatorArgs, AggregateFunctionSimplification},
    },
};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Selection {
    /// The value of the earliest time that has one.
    First,
    /// The value of the latest.
    Last,
    /// The exact percentile, interpolated on a line between the two values next to it.
    Percentile,
}

/// Becomes the engine's function when the statement is planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selected {
    selection: Selection,
    signature: Signature,
}

impl Selected {
    pub(crate) fn new(selection: Selection) -> Self {
        Self { selection, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Selected {
    fn name(&self) -> &str {
        match self.selection {
            Selection::First => "first",
            Selection::Last => "last",
            Selection::Percentile => "percentile",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.selection, types) {
            (Selection::First | Selection::Last, [value, time]) => Ok(vec![value.clone(), time.clone()]),
            (Selection::First | Selection::Last, _) => {
                plan_err!("{0} takes a value and its time: {0}(value, time)", self.name())
            }
            (Selection::Percentile, [value, share])
                if (value.is_numeric() || value.is_null()) && (share.is_numeric() || share.is_null()) =>
            {
                Ok(vec![DataType::Float64, DataType::Float64])
            }
            (Selection::Percentile, _) => {
                plan_err!("percentile takes numbers and a share from 0 to 1: percentile(value, 0.95)")
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let selection = self.selection;
        Some(Box::new(move |call: AggregateFunction, _| Ok(known(selection, call))))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.selection {
            Selection::Percentile => {
                not_impl_err!("percentile has no window; use percentile_cont(value, share) OVER (…)")
            }
            _ => not_impl_err!("{0} has no window; use {0}_value(value) OVER (… ORDER BY time)", self.name()),
        }
    }
}

fn known(selection: Selection, call: AggregateFunction) -> Expr {
    let mut params = call.params;
    let function = |function: std::sync::Arc<AggregateUDF>, params| {
        Expr::AggregateFunction(AggregateFunction { func: function, params })
    };
    let udaf = match selection {
        Selection::Percentile => return function(percentile_cont_udaf(), params),
        Selection::First => first_value_udaf(),
        Selection::Last => last_value_udaf(),
    };
    params.order_by = params.args.drain(1..).map(|time| time.sort(true, true)).collect();
    params.null_treatment = Some(NullTreatment::IgnoreNulls);
    function(udaf, params)
}
