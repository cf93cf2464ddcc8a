//! The session that every answer is asked of: the query crate's, with the tables and functions of the analysis.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use driftwatt_analyze::{diagnosis::table_function, drift, lineage::deployed_view, report};
use driftwatt_store::Store;

use crate::{answers::read_prices, config::Config};

/// A session over `store`, see [`driftwatt_query::session`], at the prices of the configuration.
///
/// # Errors
/// A table of roles that is wrong, a price book that cannot be read.
pub(crate) async fn session(store: &Arc<Store>, config: &Config) -> anyhow::Result<SessionContext> {
    let session = driftwatt_query::session(store, &config.query).await?;
    drift::register_aggregates(&session);
    report::register(&session, read_prices(config.prices.as_ref())?.as_ref());
    table_function::register(&session);
    deployed_view::register(&session);
    Ok(session)
}
