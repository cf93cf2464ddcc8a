//! Rows for buckets of time without any: `time_bucket_gapfill` in `GROUP BY`, and what stands in them.
//!
//! ```text
//! Projection t, locf(avg(value))            Projection t, __fill_0
//!   Aggregate by                              GapFill t, by host: __fill_0 = locf
//!     time_bucket_gapfill('5m', time) t  →      Projection t, host, avg(value), avg(value) AS __fill_0
//!     host                                        Aggregate by time_bucket('5m', time) t, host
//! ```

mod exec;
mod node;
mod planner;
mod rule;

use arrow::datatypes::DataType;
use datafusion::{
    common::{exec_err, plan_err},
    error::Result,
    logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
    prelude::SessionContext,
};

pub(crate) use planner::GapFillPlanner;

use super::about::about;
use super::time_bucket::coerced;

/// A function that the rule replaces; what is left of it is out of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    Bucket,
    /// The last value before, or null.
    Locf,
    /// On the straight line from the value before to the value after, or null.
    Interpolate,
}

impl Function {
    const ALL: [Self; 3] = [Self::Bucket, Self::Locf, Self::Interpolate];

    fn name(self) -> &'static str {
        match self {
            Self::Bucket => "time_bucket_gapfill",
            Self::Locf => "locf",
            Self::Interpolate => "interpolate",
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfGaps {
    function: Function,
    signature: Signature,
}

impl ScalarUDFImpl for OfGaps {
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
        match (self.function, types) {
            (Function::Bucket, _) => coerced(self.name(), types),
            (Function::Locf, [value]) => Ok(vec![value.clone()]),
            (Function::Interpolate, [value]) if value.is_numeric() || value.is_null() => Ok(vec![DataType::Float64]),
            (Function::Interpolate, [value]) => plan_err!("interpolate takes a number, not {value}"),
            _ => plan_err!("{} takes one value", self.name()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(if self.function == Function::Bucket { types[1].clone() } else { types[0].clone() })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.function {
            Function::Bucket => {
                exec_err!("time_bucket_gapfill stands alone in GROUP BY, once; elsewhere use time_bucket")
            }
            _ => exec_err!("{} stands in the SELECT list above time_bucket_gapfill in GROUP BY", self.name()),
        }
    }
}

/// Makes functions and rule known to `ctx`, whose planner must know [`GapFillPlanner`].
pub(crate) fn register(ctx: &SessionContext) {
    for function in Function::ALL {
        // Not immutable: without a column it would be computed while planning.
        let signature = Signature::user_defined(Volatility::Stable);
        ctx.register_udf(ScalarUDF::from(OfGaps { function, signature }));
    }
    ctx.add_analyzer_rule(std::sync::Arc::new(rule::FillGaps));
}
