//! SQL functions for time series, beside those of the engine; `docs/functions.md` gives formula, source and example of each.
//!
//! One file for each noun. A null value is a staleness marker everywhere: it ends what came before and is never a number.

mod bucket;
mod time_bucket;
mod width;

use datafusion::{error::DataFusionError, logical_expr::ScalarUDF, prelude::SessionContext};

/// Makes the functions known to `ctx`.
///
/// # Errors
/// An error of the registry, which takes every name that is not taken.
pub(crate) fn register(ctx: &SessionContext) -> Result<(), DataFusionError> {
    ctx.register_udf(ScalarUDF::from(time_bucket::TimeBucket::new()));
    Ok(())
}

#[cfg(test)]
mod tests;
