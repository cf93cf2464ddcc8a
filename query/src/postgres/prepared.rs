//! Statements that are planned: what their columns and parameters are, and how they are run.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue, error::DataFusionError, execution::SendableRecordBatchStream, logical_expr::LogicalPlan,
    prelude::SessionContext, sql::parser::Statement as EngineStatement, sql::sqlparser::ast::Statement as Ast,
};

use super::{
    parameters,
    statement::{Rewriter, Statement, output_names},
    types::PgType,
};
use crate::{
    error::{Error, Result},
    run,
};

/// A column of an answer as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) pg_type: PgType,
}

/// What is needed to plan a statement of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub(crate) ctx: &'a SessionContext,
    pub(crate) rewriter: &'a Rewriter,
    pub(crate) search_path: &'a [String],
}

/// A statement that was planned.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: LogicalPlan,
    pub(crate) columns: Arc<[OutputColumn]>,
    pub(crate) parameters: Vec<PgType>,
}

impl Planner<'_> {
    /// Plans a query whose parameters have the types `declared`, where the client says them.
    ///
    /// # Errors
    /// What does not read, or cannot be planned.
    pub(crate) async fn plan(&self, statement: &Statement, declared: &[u32]) -> Result<Planned> {
        run::check_sql_reads(&statement.ast)?;
        let plan = Box::pin(self.logical(statement)).await?;
        run::check_plan_reads(&plan)?;
        let parameters = parameters::parameter_types(&plan, declared)?;
        let of = |error| Error::of(&statement.source, error);
        let plan = if parameters.is_empty() { plan } else { parameters::with_types(plan, &parameters).map_err(of)? };
        let fields = plan.schema().fields();
        let given: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let names = output_names(&statement.ast, &given);
        let columns =
            names.into_iter().zip(fields).map(|(name, field)| OutputColumn { name, pg_type: PgType::of(field) });
        let columns = columns.collect();
        Ok(Planned { plan, columns, parameters })
    }

    async fn logical(&self, statement: &Statement) -> Result<LogicalPlan> {
        let ast = self.rewriter.rewrite(statement.ast.clone(), self.search_path);
        let other = self.rewriter.other_way(&statement.ast, &statement.source);
        let first = match self.logical_of(ast).await {
            // Some questions about the catalog show only later that the engine cannot answer them as they stand.
            Ok(plan) => match other.as_ref().map(|_| self.ctx.state().optimize(&plan)) {
                Some(Err(error)) => error,
                _ => return Ok(plan),
            },
            Err(error) => error,
        };
        if let Some(other) = other
            && let Ok(plan) = self.logical_of(other).await
        {
            return Ok(plan);
        }
        Err(Error::of(&statement.source, first))
    }

    async fn logical_of(&self, ast: Ast) -> Result<LogicalPlan, DataFusionError> {
        let state = self.ctx.state();
        // What the engine awaits is large, and would be on the stack of everything that awaits this.
        Box::pin(state.statement_to_plan(EngineStatement::Statement(Box::new(ast)))).await
    }
}

impl Planned {
    /// Starts the query with `values` for its parameters.
    ///
    /// # Errors
    /// As [`run::start`] has them.
    pub(crate) async fn start(
        self,
        ctx: &SessionContext,
        values: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream> {
        let of = |error| Error::of("", error);
        let plan = if values.is_empty() { self.plan } else { self.plan.with_param_values(values).map_err(of)? };
        let frame = Box::pin(ctx.execute_logical_plan(plan)).await.map_err(of)?;
        Box::pin(frame.execute_stream()).await.map_err(of)
    }
}
