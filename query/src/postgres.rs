//! The PostgreSQL wire protocol, version 3.0: psql, Grafana's PostgreSQL data source and other clients ask over it.
//!
//! The exchange is kept here, message by message, so that rows stream, everything is bounded and what is malformed is
//! refused; messages to clients are encoded by `pgwire`. Statements are planned read-only by the session of the factory, to
//! which each connection adds the catalog and functions of PostgreSQL.

mod binary_format;
mod canceller;
mod catalog;
mod columns;
mod commands;
mod connection;
mod copy;
mod descriptions;
mod extended;
mod failure;
mod functions;
mod message;
mod parameters;
mod prepared;
mod rows;
mod scram;
mod session;
mod settings;
mod startup;
mod statement;
mod text_format;
mod types;
mod wire;

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pgwire::tokio::tokio_rustls::TlsAcceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

pub use self::scram::Verifier;
use self::{
    canceller::{Canceller, Key, Keys},
    session::SessionTemplate,
    statement::Rewriter,
};
use crate::{error::Result, questions::Questions, tls::Tls};

/// Time from the connection to the end of authentication.
const STARTUP_MAX: Duration = Duration::from_secs(10);
/// Connections beyond the limit that are being told so.
const REFUSALS_MAX: usize = 64;
/// Pause after the operating system gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How clients are let in.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) users: BTreeMap<String, Verifier>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) connections_max: usize,
    /// Without a message for this long a connection is closed.
    pub(crate) idle_max: Duration,
}

/// What all connections share.
pub(crate) struct Server {
    questions: Questions,
    template: SessionTemplate,
    rewriter: Rewriter,
    options: Options,
    keys: Arc<Keys>,
    /// Makes users who are not there look like those who are.
    secret: [u8; 32],
}

impl Server {
    fn key(&self, canceller: &Arc<Canceller>) -> Key {
        let mut secret = [0; 4];
        scram::fill(&mut secret);
        self.keys.register(canceller, i32::from_be_bytes(secret))
    }
}

/// Answers clients of `listener` until `shutdown`, then ends their connections.
///
/// # Errors
/// [`crate::Error::Internal`] if the catalog cannot be made.
pub async fn serve_postgres(
    questions: Questions,
    tls: Option<Tls>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let config = questions.config();
    let options = Options {
        users: config.users.clone(),
        tls: tls.map(|tls| tls.acceptor(b"postgresql")),
        connections_max: config.connections_max,
        idle_max: config.connection_idle_max,
    };
    let template = SessionTemplate::new(questions.session(), config).await?;
    let mut secret = [0; 32];
    scram::fill(&mut secret);
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let rewriter = Rewriter::new();
    let server = Arc::new(Server { questions, template, rewriter, options, keys: Arc::default(), secret });
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a PostgreSQL connection failed");
                }
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no PostgreSQL connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (slot, is_full) = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => (slot, false),
            Err(_full) => match Arc::clone(&refusals).try_acquire_owned() {
                Ok(slot) => (slot, true),
                // Too many even to be told.
                Err(_full) => continue,
            },
        };
        connections.spawn(serve_one(Arc::clone(&server), stream, peer, slot, is_full, stopping.clone()));
    }
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve_one(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    _slot: OwnedSemaphorePermit,
    is_full: bool,
    mut stopping: watch::Receiver<bool>,
) {
    let stopped = async move {
        // The sender lives as long as the listener.
        let _stopped_either_way = stopping.wait_for(|stopping| *stopping).await;
    };
    let mut stopped = std::pin::pin!(stopped);
    let connected = tokio::select! {
        connected = tokio::time::timeout(STARTUP_MAX, Box::pin(startup::connect(&server, stream, peer, is_full))) => connected,
        () = &mut stopped => return,
    };
    match connected {
        Ok(Ok(Some(connection))) => Box::pin(connection.serve(stopped)).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a PostgreSQL client did not get in"),
        Err(_elapsed) => tracing::debug!(%peer, "a PostgreSQL client did not finish its start-up"),
    }
}
