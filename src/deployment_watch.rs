//! Keeps the table `deployments` up to what instances report of services about which something was stated: a mark for a time ahead
//! becomes true without anybody asking, and a restart changes what runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datafusion::prelude::SessionContext;
use driftwatt_analyze::{delivery::Clock, lineage::service_timelines};
use driftwatt_store::Store;
use opentelemetry::global;

/// Time from the end of one look to the next.
const INTERVAL: Duration = Duration::from_secs(600);
/// Services that are read at once; however many there are, all are looked at.
const PAGE: usize = 1_000;

/// What the last look came to.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    services: u64,
    failed: u64,
    seconds: f64,
}

/// Looks again and again. Never ends by itself.
pub(crate) async fn watch(ctx: &SessionContext, store: &Store, clock: &dyn Clock) {
    let last = observed();
    loop {
        clock.sleep(INTERVAL).await;
        let began_us = clock.unix_us();
        let mut look = look(ctx, store, clock).await;
        look.seconds = (clock.unix_us() - began_us) as f64 / 1e6;
        if look.seconds > INTERVAL.as_secs_f64() {
            let Look { services, seconds, .. } = look;
            tracing::warn!(
                services,
                seconds,
                "a look at what runs took longer than it is due: the table deployments lags"
            );
        }
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}

/// Looks at every service, page by page.
async fn look(ctx: &SessionContext, store: &Store, clock: &dyn Clock) -> Look {
    let (mut look, mut after): (Look, Option<String>) = (Look::default(), None);
    loop {
        let services = match service_timelines::stated_services(ctx, after.as_deref(), PAGE).await {
            Ok(services) => services,
            Err(error) => {
                tracing::warn!(%error, "which services deployments are stated of could not be read");
                return look;
            }
        };
        for service in &services {
            look.services += 1;
            if let Err(error) = service_timelines::record(ctx, store, service, clock.unix_us()).await {
                look.failed += 1;
                tracing::warn!(service, %error, "what runs could not be recorded; it is tried again in ten minutes");
            }
        }
        if services.len() < PAGE {
            return look;
        }
        after = services.last().cloned();
    }
}

/// Gauges of the last look.
fn observed() -> Arc<Mutex<Option<Look>>> {
    let meter = global::meter("driftwatt.server");
    let last: Arc<Mutex<Option<Look>>> = Arc::default();
    let gauge = |name: &'static str, description: &'static str, value: fn(&Look) -> f64| {
        let last = Arc::clone(&last);
        let _gauge = meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(look) = &*last.lock().unwrap_or_else(PoisonError::into_inner) {
                    observer.observe(value(look), &[]);
                }
            })
            .build();
    };
    gauge(
        "driftwatt_server_deployment_watch_services",
        "Services whose deployments were brought up to date at the last look.",
        |look| look.services as f64,
    );
    gauge(
        "driftwatt_server_deployment_watch_failed_services",
        "Services of the last look whose deployments could not be brought up to date.",
        |look| look.failed as f64,
    );
    gauge("driftwatt_server_deployment_watch_duration_seconds", "How long the last look took.", |look| look.seconds);
    last
}
