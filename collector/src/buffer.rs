//! The buffer on disk: requests go in at any time and to the server one after the other, oldest first.
//!
//! Own readings and scraped pages go through the same buffer. A request leaves it when the server has taken it, when the
//! server does not want it, or to make room. While the server cannot be reached or is overloaded, the oldest is tried
//! again and everything waits behind it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use prost::Message as _;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
};

use crate::{
    config::{BufferConfig, Config},
    error::{Error, Result},
    send::{Answer, DELAY_FIRST, DELAY_MAX, Failure, Remedy, Sender},
    spool::{Fate, Levels, Spool},
};

/// Longest time that the server may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The way into the buffer, and what is known about it.
#[derive(Debug)]
pub(crate) struct Buffer {
    shared: Arc<Shared>,
    /// For what the disk does not take.
    sender: Sender,
}

#[derive(Debug)]
struct Shared {
    spool: Mutex<Spool>,
    status: watch::Sender<Status>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Status {
    pub(crate) levels: Levels,
    /// Why the newest attempt failed.
    failure: Option<String>,
}

/// The task that sends what is in the buffer; dropping it leaves the rest for the next start.
#[derive(Debug)]
pub(crate) struct Forwarding {
    task: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Buffer {
    /// Opens the buffer and starts to send what is in it. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::BufferInUse`] and [`Error::Buffer`] if the directory cannot be used, [`Error::Scrape`] if the endpoint is no
    /// address.
    pub(crate) fn start(config: &Config, settings: &BufferConfig) -> Result<(Arc<Self>, Forwarding)> {
        let sender = Sender::new(config)?;
        let spool = Spool::open(&settings.dir, settings.size_max)?;
        let levels = spool.levels();
        if levels.request_count > 0 {
            tracing::info!(requests = levels.request_count, bytes = levels.bytes, "the buffer holds earlier requests");
        }
        let status = watch::Sender::new(Status { levels, failure: None });
        let shared = Arc::new(Shared { spool: Mutex::new(spool), status });
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        let forwarder = Forwarder {
            shared: Arc::clone(&shared),
            sender: sender.clone(),
            stopped,
            failures: 0,
            suspicions: 0,
            is_away: false,
        };
        task.spawn(forwarder.run());
        Ok((Arc::new(Self { shared, sender }), Forwarding { task, stop }))
    }

    /// Puts `request` into the buffer; what the disk does not take is sent at once, before what waits.
    ///
    /// # Errors
    /// [`Error::Export`] if it is neither on disk nor taken by the server.
    pub(crate) async fn deliver(&self, request: ExportMetricsServiceRequest) -> Result<()> {
        let bytes = request.encode_to_vec();
        let appended = self.shared.on_spool(move |spool| {
            let full = spool.levels().dropped.full;
            let appended = spool.append(&bytes);
            (appended, full == 0 && spool.levels().dropped.full > 0)
        });
        let (appended, drops_first) = appended.await?;
        if drops_first {
            tracing::warn!("the buffer is full: the oldest requests make room and are lost; raise buffer_size_max");
        }
        let Err(error) = appended else { return Ok(()) };
        tracing::warn!(%error, "a request cannot be buffered and is sent without");
        report_partial(&self.sender.send(&request).await?);
        Ok(())
    }

    /// What is in the buffer now.
    pub(crate) fn levels(&self) -> Levels {
        self.shared.status.borrow().levels
    }

    /// Waits until everything is sent, at most the time for an export.
    ///
    /// # Errors
    /// [`Error::Export`] if something is left by then, or if more requests are refused than `refused`.
    pub(crate) async fn drained(&self, refused: u64) -> Result<()> {
        let mut changes = self.shared.status.subscribe();
        let emptied = changes.wait_for(|status| status.levels.request_count == 0);
        // What came out is read below; in here it would hold the lock of the channel.
        let _in_time = tokio::time::timeout(self.sender.timeout, emptied).await.is_ok();
        let Status { levels, failure } = self.shared.status.borrow().clone();
        let reason = failure.unwrap_or_else(|| "the server is slow".to_owned());
        if levels.request_count > 0 {
            let reason = format!("{} requests are still in the buffer: {reason}", levels.request_count);
            return Err(Error::Export { reason });
        }
        if levels.dropped.refused > refused { Err(Error::Export { reason }) } else { Ok(()) }
    }
}

impl Shared {
    /// Works on the spool where it may block. The levels are published under the same lock, so that they never go back.
    async fn on_spool<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let worked = spawn_blocking(move || {
            // Every change leaves the spool whole, so a panic elsewhere does not spoil it.
            let mut spool = shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut spool);
            shared.status.send_modify(|status| status.levels = spool.levels());
            result
        });
        worked.await.map_err(|error| Error::Export { reason: error.to_string() })
    }
}

impl Forwarding {
    /// Sends what can be sent without waiting for a server that is away, at most for `timeout`, and ends.
    pub(crate) async fn finish(mut self, timeout: Duration) {
        self.stop.send_replace(true);
        // What is not sent stays on disk.
        let _in_time = tokio::time::timeout(timeout, self.task.join_next()).await;
    }
}

#[derive(Debug)]
struct Forwarder {
    shared: Arc<Shared>,
    sender: Sender,
    stopped: watch::Receiver<bool>,
    /// Attempts in a row that failed.
    failures: usize,
    /// Those of them that the oldest request itself may be the cause of.
    suspicions: usize,
    /// A server that stays away is logged once.
    is_away: bool,
}

impl Forwarder {
    async fn run(mut self) {
        let mut changes = self.shared.status.subscribe();
        loop {
            // An error is a runtime that is shutting down.
            let Ok(oldest) = self.shared.on_spool(Spool::oldest).await else { return };
            let Some((sequence, bytes)) = oldest else {
                tokio::select! {
                    biased;
                    _ = changes.wait_for(|status| status.levels.request_count > 0) => continue,
                    _ = self.stopped.wait_for(|stopped| *stopped) => return,
                }
            };
            let fate = match self.attempt(&bytes).await {
                Ok(fate) => fate,
                Err(wait) => {
                    // Also when it stops before or meanwhile: nobody waits for a server that is away.
                    let stopped = tokio::time::timeout(wait, self.stopped.wait_for(|stopped| *stopped)).await;
                    if stopped.is_ok() {
                        return;
                    }
                    continue;
                }
            };
            (self.failures, self.suspicions) = (0, 0);
            if self.shared.on_spool(move |spool| spool.remove(sequence, fate)).await.is_err() {
                return;
            }
        }
    }

    /// Tries once to send the request; what becomes of it, or how long to wait before it is tried again.
    async fn attempt(&mut self, bytes: &[u8]) -> Result<Fate, Duration> {
        let sent = match ExportMetricsServiceRequest::decode(bytes) {
            Ok(request) => self.sender.send_once(&request).await,
            // The checksum is right, so another program wrote this.
            Err(error) => Err(Failure { reason: error.to_string(), remedy: Remedy::Drop, retry_after: None }),
        };
        let Failure { reason, remedy, retry_after } = match sent {
            Ok(answer) => {
                report_partial(&answer);
                if std::mem::take(&mut self.is_away) {
                    let requests = self.shared.status.borrow().levels.request_count;
                    tracing::info!(requests, "the server takes requests again");
                }
                return Ok(Fate::Delivered);
            }
            Err(failure) => failure,
        };
        let is_refused = match remedy {
            Remedy::Wait => false,
            Remedy::Retry => {
                self.suspicions += 1;
                self.suspicions > self.sender.retries_max
            }
            Remedy::Drop => true,
        };
        self.shared.status.send_modify(|status| status.failure = Some(reason.clone()));
        if is_refused {
            tracing::warn!(reason, "the server refused a request, which is lost");
            return Ok(Fate::Refused);
        }
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(reason, "requests are not delivered and stay in the buffer");
        }
        let delay = DELAY_FIRST.saturating_mul(1 << self.failures.min(16)).min(DELAY_MAX);
        self.failures += 1;
        Err(retry_after.map_or(delay, |wait| wait.min(RETRY_AFTER_MAX)))
    }
}

fn report_partial((rejected, reason): &Answer) {
    if *rejected > 0 {
        tracing::warn!(rejected, reason, "the server refused some of the points");
    }
}

/// Puts what the SDK collected into the buffer.
#[derive(Debug)]
pub(crate) struct BufferExporter(pub(crate) Arc<Buffer>);

impl PushMetricExporter for BufferExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let delivered = self.0.deliver(metrics.into()).await;
        delivered.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
