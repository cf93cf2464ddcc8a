//! Keeps the table `deployments` up to what instances report of services about which something was stated: a mark for a time ahead
//! becomes true without anybody asking, and a restart changes what runs.

use std::time::Duration;

use datafusion::prelude::SessionContext;
use driftwatt_analyze::{delivery::Clock, lineage::service_timelines};
use driftwatt_store::Store;

/// Time from one look to the next.
const INTERVAL: Duration = Duration::from_secs(600);
/// Services that are looked at.
const SERVICES_MAX: usize = 1_000;

/// Looks again and again. Never ends by itself.
pub(crate) async fn watch(ctx: &SessionContext, store: &Store, clock: &dyn Clock) {
    loop {
        clock.sleep(INTERVAL).await;
        let services = match service_timelines::stated_services(ctx, SERVICES_MAX).await {
            Ok(services) => services,
            Err(error) => {
                tracing::warn!(%error, "which services deployments are stated of could not be read");
                continue;
            }
        };
        for service in services {
            if let Err(error) = service_timelines::record(ctx, store, &service, clock.unix_us()).await {
                tracing::warn!(service, %error, "what runs could not be recorded; it is tried again in ten minutes");
            }
        }
    }
}
