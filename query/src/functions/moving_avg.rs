//! `moving_avg(value, rows or interval) OVER (… ORDER BY time)`: the mean of a window that ends at the row.

use arrow::datatypes::DataType;
use datafusion::{
    common::{ScalarValue, not_impl_err, plan_err},
    error::Result,
    functions_aggregate::average::avg_udaf,
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Expr, Signature, Volatility, WindowFrame, WindowFrameBound,
        WindowFrameUnits, WindowFunctionDefinition,
        expr::{WindowFunction, WindowFunctionParams},
        function::AccumulatorArgs,
        planner::{ExprPlanner, PlannerResult, RawWindowExpr},
    },
};

use super::about::about;

const NAME: &str = "moving_avg";

/// The name, and what is wrong where it is used without a window.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MovingAvg {
    signature: Signature,
}

impl MovingAvg {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for MovingAvg {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        about(self.name())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{NAME} moves along an order: {NAME}(value, 5) OVER (PARTITION BY … ORDER BY time)")
    }
}

/// Plans the call as the engine's `avg` over a frame: so many rows, or all rows of so much time.
#[derive(Debug)]
pub(crate) struct PlanMovingAvg;

impl ExprPlanner for PlanMovingAvg {
    fn plan_window(&self, call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if call.func_def.name() != NAME {
            return Ok(PlannerResult::Original(call));
        }
        let [value, Expr::Literal(length, _)] = call.args.as_slice() else {
            return plan_err!("{NAME} takes a value and a constant number of rows or an interval");
        };
        if call.order_by.is_empty() {
            return plan_err!("{NAME} moves along an order: say ORDER BY time in OVER (…)");
        }
        let (units, before) = match length {
            ScalarValue::Int64(Some(rows)) if *rows > 0 => {
                (WindowFrameUnits::Rows, ScalarValue::UInt64(Some(rows.unsigned_abs() - 1)))
            }
            ScalarValue::IntervalMonthDayNano(Some(_)) => (WindowFrameUnits::Range, length.clone()),
            _ => return plan_err!("{NAME} takes at least one row, or an interval"),
        };
        let frame = WindowFrame::new_bounds(units, WindowFrameBound::Preceding(before), WindowFrameBound::CurrentRow);
        let named = format!("{NAME}({value},{length})");
        let params = WindowFunctionParams {
            args: vec![value.clone()],
            partition_by: call.partition_by,
            order_by: call.order_by,
            window_frame: frame,
            filter: call.filter,
            null_treatment: call.null_treatment,
            distinct: call.distinct,
        };
        let fun = WindowFunctionDefinition::AggregateUDF(avg_udaf());
        let window = Expr::WindowFunction(Box::new(WindowFunction { fun, params }));
        Ok(PlannerResult::Planned(window.alias(named)))
    }
}
