//! From SQL text to a stream of batches: planned read-only, with parameters.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    execution::{SendableRecordBatchStream, context::SQLOptions},
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, execute_stream},
    prelude::SessionContext,
    sql::{
        parser::Statement,
        sqlparser::ast::{Query, SetExpr, Statement as SqlStatement},
    },
};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    placeholders::number_placeholders,
};

/// A statement longer than this is refused.
pub(crate) const QUERY_SIZE_BYTES_MAX: usize = 1 << 20;

/// Plans and starts `sql` with `$1`, `$2`, … from `params`.
///
/// # Errors
/// [`Error::Denied`] for anything but a query, [`Error::Invalid`] if it cannot be planned.
pub(crate) async fn start(ctx: &SessionContext, sql: &str, params: &[Value]) -> Result<SendableRecordBatchStream> {
    let plan = plan_with(ctx, sql, params).await?;
    execute(ctx, sql, plan).await
}

/// The same, with the plan that runs, which tells afterwards what it did.
///
/// # Errors
/// Those of [`start`].
pub(crate) async fn start_with_plan(
    ctx: &SessionContext,
    sql: &str,
    params: &[Value],
) -> Result<(Arc<dyn ExecutionPlan>, SendableRecordBatchStream)> {
    let of = |error| Error::of(sql, error);
    let plan = plan_with(ctx, sql, params).await?;
    let frame = ctx.execute_logical_plan(plan).await.map_err(of)?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.map_err(of)?;
    let batches = execute_stream(Arc::clone(&plan), task).map_err(of)?;
    Ok((plan, batches))
}

async fn plan_with(ctx: &SessionContext, sql: &str, params: &[Value]) -> Result<LogicalPlan> {
    let plan = plan(ctx, sql).await?;
    let params = params.iter().map(scalar).collect::<Result<Vec<_>>>()?;
    if params.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(params).map_err(|error| Error::of(sql, error))
}

/// Plans `sql`, whose parameters are not known yet.
///
/// # Errors
/// [`Error::Denied`] for anything but a query, [`Error::Invalid`] if it cannot be planned.
pub(crate) async fn plan(ctx: &SessionContext, sql: &str) -> Result<LogicalPlan> {
    let of = |error| Error::of(sql, error);
    let state = ctx.state();
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(sql, &dialect).map_err(of)?;
    check_reads(&statement)?;
    number_placeholders(&mut statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(of)?;
    check_plan_reads(&plan)?;
    Ok(plan)
}

/// Starts the `plan` of `sql`.
///
/// # Errors
/// [`Error::Invalid`] if it cannot be computed.
pub(crate) async fn execute(ctx: &SessionContext, sql: &str, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
    let of = |error| Error::of(sql, error);
    let frame = ctx.execute_logical_plan(plan).await.map_err(of)?;
    frame.execute_stream().await.map_err(of)
}

/// What a statement was taken for does not matter: its plan neither defines nor changes anything.
pub(crate) fn check_plan_reads(plan: &LogicalPlan) -> Result<()> {
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(plan).map_err(|error| Error::Denied(error.strip_backtrace()))
}

/// A list of what is allowed, so that a statement the planner learns later is refused until someone decides about it.
fn check_reads(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => check_sql_reads(statement),
        Statement::Explain(explain) => check_reads(&explain.statement),
        Statement::CopyTo(_) => denied("COPY"),
        Statement::CreateExternalTable(_) => denied("CREATE EXTERNAL TABLE"),
        Statement::Reset(_) => denied("RESET"),
    }
}

/// The same for a statement that another parser read.
pub(crate) fn check_sql_reads(statement: &SqlStatement) -> Result<()> {
    match statement {
        SqlStatement::Query(query) => check_query_reads(query),
        SqlStatement::Explain { statement, .. } => check_sql_reads(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowCreate { .. } => Ok(()),
        other => {
            // The verb says enough; the whole statement may be long.
            let text = other.to_string();
            denied(text.split_whitespace().next().unwrap_or("this statement"))
        }
    }
}

/// `WITH … INSERT` and `SELECT … INTO` are queries to the parser.
fn check_query_reads(query: &Query) -> Result<()> {
    match query.body.as_ref() {
        SetExpr::Insert(_) => denied("INSERT"),
        SetExpr::Update(_) => denied("UPDATE"),
        SetExpr::Delete(_) => denied("DELETE"),
        SetExpr::Merge(_) => denied("MERGE"),
        SetExpr::Select(select) if select.into.is_some() => denied("SELECT INTO"),
        SetExpr::Query(inner) => check_query_reads(inner),
        _ => Ok(()),
    }
}

fn denied<T>(what: &str) -> Result<T> {
    Err(Error::Denied(format!("{what} is refused")))
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
