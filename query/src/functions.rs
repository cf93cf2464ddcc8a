//! SQL functions for time series, beside those of the engine; `docs/functions.md` gives formula, source and example of each.
//!
//! One file for each noun. A null value is a staleness marker everywhere: it ends what came before and is never a number.

mod about;
mod area;
mod asof;
mod bucket;
mod counter;
mod gapfill;
pub(crate) mod histogram;
mod implicit;
mod instant;
mod label;
mod mode;
mod moving_avg;
mod options;
mod over_time;
mod percentile;
mod points;
mod selected;
mod sorted_values;
mod time_bucket;
mod width;

use std::sync::Arc;

use datafusion::{
    error::DataFusionError,
    execution::FunctionRegistry,
    logical_expr::{AggregateUDF, ScalarUDF},
    prelude::SessionContext,
};

pub(crate) use self::{asof::AsofPlanner, gapfill::GapFillPlanner};
use self::{
    over_time::{Function, OverTime},
    selected::{Selected, Selection},
};

/// Makes the functions known to `ctx`.
///
/// # Errors
/// An error of the registry, which takes every name that is not taken.
pub(crate) fn register(ctx: &SessionContext) -> Result<(), DataFusionError> {
    ctx.register_udf(ScalarUDF::from(time_bucket::TimeBucket::new()));
    for function in Function::ALL {
        ctx.register_udaf(AggregateUDF::from(OverTime::new(function)?));
    }
    for selection in [Selection::First, Selection::Last] {
        ctx.register_udaf(AggregateUDF::from(Selected::new(selection)));
    }
    ctx.register_udaf(AggregateUDF::from(percentile::Percentile::new()));
    ctx.register_udaf(AggregateUDF::from(mode::Mode::new()));
    ctx.register_udaf(AggregateUDF::from(moving_avg::MovingAvg::new()));
    ctx.register_udf(ScalarUDF::from(label::Label::new()));
    histogram::register(ctx)?;
    gapfill::register(ctx);
    ctx.add_analyzer_rule(Arc::new(implicit::ImplicitColumns));
    ctx.state_ref().write().register_expr_planner(Arc::new(moving_avg::PlanMovingAvg))?;
    ctx.register_relation_planner(Arc::new(asof::PlanAsof))?;
    Ok(())
}

#[cfg(test)]
mod tests;
