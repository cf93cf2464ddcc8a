//! `deployed(view)` in SQL: a view with the model and version that ran at the time of each row, where the row does not report them.
//!
//! What is reported stays; the table `deployments` fills the rest. The view itself is not changed: `docs/adr/0009-versions-as-of.md`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{JoinType, plan_datafusion_err, plan_err},
    error::Result,
    execution::SessionState,
    functions::core::expr_fn::coalesce,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, cast, expr_fn::ident, lit, when},
    physical_plan::ExecutionPlan,
    prelude::{DataFrame, SessionContext},
};
use futures::FutureExt as _;

use super::records::DeploymentRecord;
use crate::rows::has_result;

/// Views that it takes: those of points with the labels of services.
const VIEWS: [&str; 6] = ["metrics", "gpu", "system", "latency", "inputs", "models"];
/// The column that tells whether the version was reported or is that of the deployment.
const BASIS: &str = "version_basis";
/// Columns that are filled in.
const FILLED: [&str; 3] = ["model_name", "model_version", BASIS];

/// Makes the function known to `ctx`.
pub fn register(ctx: &SessionContext) {
    ctx.register_udtf("deployed", Arc::new(Deployed));
}

/// The function.
#[derive(Debug)]
struct Deployed;

impl TableFunctionImpl for Deployed {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let wrong = || plan_datafusion_err!("deployed takes the name of a view as text: {}", VIEWS.join(", "));
        let [Expr::Literal(view, _)] = args.exprs() else { return Err(wrong()) };
        let view = view.try_as_str().flatten().filter(|view| VIEWS.contains(view)).ok_or_else(wrong)?;
        let ctx = SessionContext::new_with_state(session(args.session())?.clone());
        // Views are known without waiting for anything.
        let Some(table) = ctx.table(view).now_or_never() else { return plan_err!("{view} is not known yet") };
        let mut fields = table?.schema().as_arrow().fields().to_vec();
        fields.push(Arc::new(Field::new(BASIS, DataType::Utf8, true)));
        Ok(Arc::new(DeployedView { view: view.to_owned(), schema: Arc::new(Schema::new(fields)) }))
    }
}

fn session(session: &dyn Session) -> Result<&SessionState> {
    let state = session.as_any().downcast_ref::<SessionState>();
    state.ok_or_else(|| plan_datafusion_err!("deployed needs a session of its own server"))
}

/// A view with versions.
#[derive(Debug)]
struct DeployedView {
    view: String,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for DeployedView {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        // Filters are looked at again above, so that a limit here could cut rows that pass.
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = session(state)?;
        let ctx = SessionContext::new_with_state(state.clone());
        let mut points = ctx.table(self.view.as_str()).await?;
        for filter in filters {
            let of_points = filter.column_refs().iter().all(|column| !FILLED.contains(&column.name.as_str()));
            if of_points {
                points = points.filter(filter.clone())?;
            }
        }
        let names: Vec<&str> = match projection {
            Some(projection) => projection.iter().map(|at| self.schema.field(*at).name().as_str()).collect(),
            None => self.schema.fields().iter().map(|field| field.name().as_str()).collect(),
        };
        // Whoever asks for no version pays for none.
        let is_filled = names.iter().any(|name| FILLED.contains(name));
        let has_deployments = has_result(&ctx, DeploymentRecord::TABLE);
        let joined = if is_filled && has_deployments { joined(&ctx, points).await? } else { points };
        let columns =
            names.iter().map(|name| self.column(name, is_filled && has_deployments)).collect::<Result<Vec<_>>>()?;
        joined.select(columns)?.create_physical_plan().await
    }
}

impl DeployedView {
    /// The column `name` of the answer, of points with or without deployments beside them.
    fn column(&self, name: &str, has_deployments: bool) -> Result<Expr> {
        let own = ident(name);
        let reported = || ident("model_version").is_not_null();
        let field = |name: &str| {
            Ok::<_, datafusion::error::DataFusionError>(self.schema.field_with_name(name)?.data_type().clone())
        };
        if !has_deployments {
            let basis = when(reported(), lit("reported")).end()?;
            return Ok(if name == BASIS { basis.alias(BASIS) } else { own });
        }
        // A row that names another model is not of this deployment.
        let is_of_deployment = || {
            let same = ident("model_name").is_null().or(cast(ident("model_name"), DataType::Utf8).eq(ident("d_model")));
            ident("model_version").is_null().and(same).and(ident("d_version").is_not_null())
        };
        let filled = |name: &str, from: &str| -> Result<Expr> {
            let deployed = when(is_of_deployment(), ident(from)).end()?;
            let value = coalesce(vec![cast(ident(name), DataType::Utf8), deployed]);
            Ok(cast(value, field(name)?).alias(name))
        };
        match name {
            "model_name" => filled("model_name", "d_model"),
            "model_version" => filled("model_version", "d_version"),
            BASIS => {
                let basis = when(reported(), lit("reported")).when(is_of_deployment(), lit("deployed")).end()?;
                Ok(basis.alias(BASIS))
            }
            _ => Ok(own),
        }
    }
}

/// `points`, each beside the deployment that it falls into; those without one are kept.
async fn joined(ctx: &SessionContext, points: DataFrame) -> Result<DataFrame> {
    // Of rows that say the same moment the newest holds. Telemetry without an environment is of the only one.
    let intervals = format!(
        "SELECT service_name AS d_service, environment AS d_environment, time AS d_from, \
         lead(time) OVER (PARTITION BY service_name, environment ORDER BY time) AS d_until, model AS d_model, version AS d_version, \
         max(coalesce(environment, '')) OVER (PARTITION BY service_name) = min(coalesce(environment, '')) OVER \
         (PARTITION BY service_name) AS d_only FROM (SELECT DISTINCT ON (service_name, environment, time) * FROM reports.{} \
         ORDER BY service_name, environment, time, recorded_time DESC)",
        DeploymentRecord::TABLE
    );
    let intervals = ctx.sql(&intervals).await?;
    let (environment, time) = (ident("deployment_environment"), ident("time"));
    let is_here = cast(environment.clone(), DataType::Utf8)
        .eq(ident("d_environment"))
        .or(environment.is_null().and(ident("d_environment").is_null().or(ident("d_only"))));
    let is_then = time.clone().gt_eq(ident("d_from")).and(ident("d_until").is_null().or(time.lt(ident("d_until"))));
    let same = ident("d_service").eq(cast(ident("service_name"), DataType::Utf8));
    // The side on the left is held in memory: the deployments, not the points.
    intervals.join_on(points, JoinType::Right, [same, is_here, is_then])
}
