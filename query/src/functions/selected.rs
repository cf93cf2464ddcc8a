//! `first` and `last` by time: names that people expect for aggregates that the engine has.

use arrow::datatypes::DataType;
use datafusion::{
    common::{not_impl_err, plan_err},
    error::Result,
    functions_aggregate::first_last::{first_value_udaf, last_value_udaf},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Expr, Signature, Volatility,
        expr::{AggregateFunction, NullTreatment},
        function::{AccumulatorArgs, AggregateFunctionSimplification},
    },
};

use super::about::about;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Selection {
    /// The value of the earliest time that has one.
    First,
    /// The value of the latest.
    Last,
}

/// Becomes the engine's function when the statement is planned.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selected {
    selection: Selection,
    signature: Signature,
}

impl Selected {
    pub(crate) fn new(selection: Selection) -> Self {
        Self { selection, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Selected {
    fn name(&self) -> &str {
        match self.selection {
            Selection::First => "first",
            Selection::Last => "last",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Int64] => {
                Ok(value.clone())
            }
            _ => plan_err!("{0} takes a value and its time: {0}(value, time)", self.name()),
        }
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let selection = self.selection;
        Some(Box::new(move |call: AggregateFunction, _| Ok(known(selection, call))))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{0} has no window; use {0}_value(value) OVER (… ORDER BY time)", self.name())
    }
}

fn known(selection: Selection, call: AggregateFunction) -> Expr {
    let func = match selection {
        Selection::First => first_value_udaf(),
        Selection::Last => last_value_udaf(),
    };
    let mut params = call.params;
    // Rows without a time stand where they are neither: last for `first`, first for `last`.
    let nulls_first = selection == Selection::Last;
    params.order_by = params.args.drain(1..).map(|time| time.sort(true, nulls_first)).collect();
    params.null_treatment = Some(NullTreatment::IgnoreNulls);
    Expr::AggregateFunction(AggregateFunction { func, params })
}
