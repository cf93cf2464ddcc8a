//! The running server: store, ingestion, queries and their listeners, started and stopped in the right order.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use datafusion::prelude::SessionContext;
use driftwatt_ingest::{Ingest, serve_grpc, serve_http};
use driftwatt_query::{FlightOptions, Questions, serve_flight, serve_postgres};
use driftwatt_store::Store;
use futures::future::BoxFuture;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint_watch::CheckpointWatch,
    clock::SystemClock,
    config::{Addresses, Config},
    deployment_watch,
    lineage_outlet::{LineageOutlet, LineageSender},
    memory,
    query_runtime::QueryRuntime,
    registry_watch::RegistryWatch,
    scheduler::Scheduler,
    self_metrics::{SelfMetrics, store_exports},
    session, web,
    work_tree_watch::WorkTreeWatch,
};

/// A server that answers on all its addresses.
pub(crate) struct Server {
    pub(crate) addresses: Addresses,
    pub(crate) store: Arc<Store>,
    pub(crate) session: SessionContext,
    metrics: Arc<SelfMetrics>,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Held: questions run on its threads.
    _queries: QueryRuntime,
}

/// What the server does by itself, beside what it is asked.
struct Watches {
    registry: Option<RegistryWatch>,
    checkpoints: Option<CheckpointWatch>,
    work_trees: Option<WorkTreeWatch>,
    events: Option<LineageSender>,
}

impl Watches {
    /// The watches, and where events of our own jobs go.
    ///
    /// # Errors
    /// Settings that cannot be used, a token that cannot be read.
    fn new(config: &Config, store: &Arc<Store>) -> anyhow::Result<(Self, Option<LineageOutlet>)> {
        let outlet = |raw| LineageOutlet::new(raw, store, Arc::new(SystemClock));
        let (outlet, events) = config.lineage.openlineage.as_ref().map(outlet).transpose()?.unzip();
        let watches = Self {
            registry: config.lineage.mlflow.as_ref().map(RegistryWatch::new).transpose()?,
            checkpoints: CheckpointWatch::new(&config.lineage.checkpoints, &config.delivery)?,
            work_trees: WorkTreeWatch::new(&config.lineage.work_trees)?,
            events,
        };
        Ok((watches, outlet))
    }

    fn spawn(
        self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        queries: &QueryRuntime,
        shutdown: &CancellationToken,
        session: &SessionContext,
        store: &Arc<Store>,
    ) {
        let mut keep = |work: BoxFuture<'static, ()>| {
            let stop = shutdown.clone();
            let kept = async move {
                stop.run_until_cancelled(work).await;
                Ok(())
            };
            tasks.spawn_on(kept, queries.handle());
        };
        let own = || (session.clone(), Arc::clone(store));
        if let Some(registry) = self.registry {
            let (session, store) = own();
            keep(Box::pin(async move { registry.watch(&session, &store, &SystemClock).await }));
        }
        let (of_deployments, stored) = own();
        keep(Box::pin(async move { deployment_watch::watch(&of_deployments, &stored, &SystemClock).await }));
        if let Some(trees) = self.work_trees {
            let (_, store) = own();
            keep(Box::pin(async move { trees.watch(&store, &SystemClock).await }));
        }
        if let Some(checkpoints) = self.checkpoints {
            let (session, store) = own();
            keep(Box::pin(async move { checkpoints.watch(&session, &store, &SystemClock).await }));
        }
        if let Some(events) = self.events {
            // It ends by itself, after what waits was sent.
            let stop = shutdown.clone();
            let sent = async move {
                events.send(stop.cancelled_owned()).await;
                Ok(())
            };
            tasks.spawn_on(sent, queries.handle());
        }
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for {what}; choose another address if it is taken"))?;
    let bound = listener.local_addr().context("local address")?;
    Ok((listener, bound))
}

impl Server {
    /// Opens the store and starts listening.
    ///
    /// # Errors
    /// A data directory in use or damaged, an address that is taken.
    pub(crate) async fn start(config: &Config, own_metrics_stored: bool) -> anyhow::Result<Self> {
        let mut metrics = SelfMetrics::install(own_metrics_stored)?;
        let exports = metrics.take_exports();
        let metrics = Arc::new(metrics);
        let store = Store::open(config.store.clone()).await?;
        let ingest = Ingest::new(Arc::clone(&store), config.ingest.clone());
        let session = session::session(&store, config).await?;
        memory::observe(&config.memory, &store, &session);
        let (http, http_address) = bind(config.addresses.http, "SQL and health").await?;
        let (grpc, grpc_address) = bind(config.addresses.otlp_grpc, "OTLP/gRPC").await?;
        let (otlp, otlp_address) = bind(config.addresses.otlp_http, "OTLP/HTTP").await?;
        let (postgres, postgres_address) = bind(config.addresses.postgres, "the PostgreSQL wire").await?;
        let (flight, flight_address) = bind(config.addresses.flight, "Flight SQL").await?;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(exports) = exports {
            let ingest = Arc::clone(&ingest);
            let stop = shutdown.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(store_exports(exports, ingest)).await;
                Ok(())
            });
        }
        let (stop, limit_bytes) = (shutdown.clone(), config.memory.limit_bytes);
        tasks.spawn(async move {
            stop.run_until_cancelled(memory::return_near(limit_bytes)).await;
            Ok(())
        });
        let questions = Questions::new(session.clone(), config.query.clone());
        let (watches, outlet) = Watches::new(config, &store)?;
        let scheduler = Scheduler::new(config, &store, &session, Arc::new(SystemClock), Some(Arc::clone(&ingest)))?;
        let (schedules, scheduled) = scheduler.telling(outlet.clone()).start();
        let router = web::router(&store, &ingest, &questions, &metrics, (schedules, outlet), config)?;
        let queries = QueryRuntime::start().context("start the threads of queries")?;
        let stop = shutdown.clone();
        tasks.spawn_on(async move { stop.run_until_cancelled(scheduled).await.map_or(Ok(()), Ok) }, queries.handle());
        watches.spawn(&mut tasks, &queries, &shutdown, &session, &store);
        let stop = shutdown.clone();
        let served = async move {
            let served = axum::serve(http, router).with_graceful_shutdown(async move { stop.cancelled().await });
            served.await.context("HTTP server")
        };
        tasks.spawn_on(served, queries.handle());
        let (stop, tls, asked) = (shutdown.clone(), config.access.tls.clone(), questions.clone());
        let served = async move {
            let served = serve_postgres(asked, tls, postgres, async move { stop.cancelled().await });
            served.await.context("PostgreSQL server")
        };
        tasks.spawn_on(served, queries.handle());
        let options = FlightOptions { tokens: config.access.tokens.clone(), tls: config.access.tls.clone() };
        let served = serve_flight(questions, options, flight, shutdown.clone());
        tasks.spawn_on(async move { served.await.context("Flight SQL server") }, queries.handle());
        let (for_grpc, stop) = (Arc::clone(&ingest), shutdown.clone());
        tasks.spawn(async move { serve_grpc(for_grpc, grpc, stop).await.context("OTLP/gRPC server") });
        let stop = shutdown.clone();
        tasks.spawn(async move { serve_http(ingest, otlp, stop).await.context("OTLP/HTTP server") });
        let addresses = Addresses {
            http: http_address,
            otlp_grpc: grpc_address,
            otlp_http: otlp_address,
            flight: flight_address,
            postgres: postgres_address,
        };
        Ok(Self { addresses, store, session, metrics, shutdown, tasks, _queries: queries })
    }

    /// One line for scripts: `ready http=… otlp-grpc=… otlp-http=… flight=… postgres=… data=…`.
    pub(crate) fn ready_line(&self, data_dir: &Path) -> String {
        let data = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        let Addresses { http, otlp_grpc, otlp_http, flight, postgres } = self.addresses;
        let data = data.display();
        format!(
            "ready http={http} otlp-grpc={otlp_grpc} otlp-http={otlp_http} flight={flight} postgres={postgres} data={data}"
        )
    }

    /// Stops listening, lets requests in flight end, flushes and releases the data directory.
    ///
    /// # Errors
    /// The first failure of a listener or of the flush.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.metrics.shutdown();
        let drained = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            let mut outcome = Ok(());
            while let Some(ended) = self.tasks.join_next().await {
                outcome = outcome.and(ended.context("server task").and_then(|ended| ended));
            }
            outcome
        });
        let drained = match drained.await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                // A client that never finishes its request must not keep the data from being flushed.
                self.tasks.shutdown().await;
                Ok(())
            }
        };
        let flushed = self.store.close().await;
        flushed.context("the last flush failed; what was acknowledged is in the log and is read at the next start")?;
        drained
    }
}
