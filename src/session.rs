//! The session that every answer is asked of: the query crate's, with the functions of the analysis.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

/// A session over `store`, see [`driftwatt_query::session`].
///
/// # Errors
/// A role table that is wrong.
pub(crate) async fn session(
    store: &Arc<Store>,
    config: &driftwatt_query::Config,
) -> driftwatt_query::Result<SessionContext> {
    let session = driftwatt_query::session(store, config).await?;
    driftwatt_analyze::drift::register_aggregates(&session);
    Ok(session)
}
