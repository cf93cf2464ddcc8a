//! From SQL text to a stream of batches: planned read-only, with parameters, under the limits.

use datafusion::{
    common::ScalarValue,
    execution::{SendableRecordBatchStream, context::SQLOptions},
    prelude::SessionContext,
};
use serde_json::Value;

use crate::error::{Error, Result};

/// Plans and starts `sql` with `$1`, `$2`, … from `params`.
///
/// # Errors
/// [`Error::Denied`] for anything but a query, [`Error::Invalid`] if it cannot be planned.
pub(crate) async fn start(ctx: &SessionContext, sql: &str, params: &[Value]) -> Result<SendableRecordBatchStream> {
    let state = ctx.state();
    let plan = state.create_logical_plan(sql).await.map_err(|error| Error::of(sql, error))?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|error| Error::Denied(error.strip_backtrace()))?;
    let params = params.iter().map(scalar).collect::<Result<Vec<_>>>()?;
    let plan =
        if params.is_empty() { plan } else { plan.with_param_values(params).map_err(|error| Error::of(sql, error))? };
    let frame = ctx.execute_logical_plan(plan).await.map_err(|error| Error::of(sql, error))?;
    frame.execute_stream().await.map_err(|error| Error::of(sql, error))
}

fn scalar(value: &Value) -> Result<ScalarValue> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ScalarValue::from(integer),
            (None, Some(double)) => ScalarValue::from(double),
            (None, None) => return Err(Error::invalid(format!("parameter {number} is out of range"))),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(Error::invalid("parameters are null, booleans, numbers or text"));
        }
    })
}
