//! `diagnose(service, from, to)` in SQL: the row that the job would add to `diagnoses`, computed when it is read.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, SchemaRef, TimeUnit},
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider, streaming::StreamingTable},
    common::{ScalarValue, exec_err, plan_datafusion_err, plan_err},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, SessionState, TaskContext},
    logical_expr::Expr,
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::SessionContext,
};
use futures::stream;

use super::{
    reader::Subject,
    report::{self, DiagnoseRequest, DiagnosisReport},
};
use crate::window::Window;

/// Makes the function known to `ctx`.
pub fn register(ctx: &SessionContext) {
    ctx.register_udtf("diagnose", Arc::new(Diagnose));
}

/// The function.
#[derive(Debug)]
struct Diagnose;

impl TableFunctionImpl for Diagnose {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [service, from, to] = args.exprs() else {
            return plan_err!("diagnose takes a service and the start and end of a time range");
        };
        let Expr::Literal(service, _) = service else {
            return plan_err!("diagnose takes the name of a service as text");
        };
        let Some(service) = service.try_as_str().flatten() else {
            return plan_err!("diagnose takes the name of a service as text");
        };
        let window = Window::new(time_of(from)?, time_of(to)?).map_err(external)?;
        let subject = Subject { service: service.to_owned(), filters: Vec::new() };
        let request = DiagnoseRequest::new(subject, Some(window), None, window.end_us).map_err(external)?;
        let Some(state) = args.session().as_any().downcast_ref::<SessionState>() else {
            return exec_err!("diagnose needs a session of its own server");
        };
        let schema = DiagnosisReport::schema().map_err(external)?;
        let partition = Asked { request, state: Box::new(state.clone()), schema: Arc::clone(&schema) };
        Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)])?))
    }
}

fn external(error: crate::Error) -> DataFusionError {
    match error {
        crate::Error::DataFusion(error) => error,
        error => DataFusionError::Plan(error.to_string()),
    }
}

/// UTC microseconds of an argument.
fn time_of(argument: &Expr) -> Result<i64> {
    let wrong = || plan_datafusion_err!("diagnose takes times, as '2026-11-24T10:00:00Z' or now(); not {argument}");
    let Expr::Literal(value, _) = argument else { return Err(wrong()) };
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match value.cast_to(&utc).map_err(|_| wrong())? {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us),
        _ => Err(wrong()),
    }
}

/// One question, which is answered when its row is asked for.
struct Asked {
    request: DiagnoseRequest,
    state: Box<SessionState>,
    schema: SchemaRef,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Asked").field("request", &self.request).finish_non_exhaustive()
    }
}

impl PartitionStream for Asked {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (request, state) = (self.request.clone(), self.state.clone());
        let answer = async move {
            let ctx = SessionContext::new_with_state(*state);
            let report = report::run(&ctx, None, &request).await.map_err(external)?;
            report.to_batch().map_err(external)
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::once(answer)))
    }
}
