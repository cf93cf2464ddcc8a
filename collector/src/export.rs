//! The stock OTLP exporter, and the runtime it needs.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_otlp::{
    MetricExporter, Protocol as WireProtocol, RetryPolicy, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use tokio::runtime::Handle;

use crate::{
    config::{Config, Protocol},
    error::{Error, Result},
};

/// Builds the exporter. The SDK decides what is worth a retry (gRPC codes, HTTP statuses, `Retry-After`, `RetryInfo`);
/// the number of retries and the time for all of them are bounded by the settings.
pub(crate) fn otlp(config: &Config) -> Result<MetricExporter> {
    let retry = RetryPolicy::recommended()
        .with_max_retries(config.retries_max)
        .with_initial_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_jitter(Duration::from_millis(100));
    let builder = MetricExporter::builder().with_temporality(Temporality::Cumulative);
    let built = match config.protocol {
        Protocol::Grpc => builder
            .with_tonic()
            .with_protocol(WireProtocol::Grpc)
            .with_endpoint(&config.endpoint)
            .with_timeout(config.export_timeout)
            .with_retry_policy(retry)
            .build(),
        Protocol::Http => builder
            .with_http()
            .with_protocol(WireProtocol::HttpBinary)
            .with_endpoint(&config.endpoint)
            .with_timeout(config.export_timeout)
            .with_retry_policy(retry)
            .build(),
    };
    built.map_err(|source| Error::Exporter { endpoint: config.endpoint.clone(), source })
}

/// Runs an exporter on a Tokio runtime although the periodic reader polls it from a thread of its own, where the
/// HTTP client and the timers of the retries would find no runtime; and counts what it could not deliver.
#[derive(Debug)]
pub(crate) struct OnRuntime<E> {
    exporter: E,
    runtime: Handle,
    state: Arc<ExportState>,
}

/// What the collector and its exporter tell each other.
#[derive(Debug, Default)]
pub(crate) struct ExportState {
    /// Exports that failed for good.
    pub(crate) errors: AtomicU64,
    /// Why the newest of them failed; the SDK reports only that one did.
    pub(crate) last_error: Mutex<Option<String>>,
    /// Set when the last export is done: the SDK exports on every way to stop, also when it is only dropped, and would
    /// then block a runtime thread.
    pub(crate) stopped: AtomicBool,
}

impl<E> OnRuntime<E> {
    pub(crate) fn new(exporter: E, runtime: Handle) -> Self {
        Self { exporter, runtime, state: Arc::default() }
    }

    pub(crate) fn state(&self) -> Arc<ExportState> {
        Arc::clone(&self.state)
    }
}

impl<E: PushMetricExporter> PushMetricExporter for OnRuntime<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.state.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut export = pin!(self.exporter.export(metrics));
        let result = poll_fn(|context| {
            let _entered = self.runtime.enter();
            export.as_mut().poll(context)
        })
        .await;
        if let Err(error) = &result {
            self.state.errors.fetch_add(1, Ordering::Relaxed);
            *self.state.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            tracing::warn!(error = error as &dyn std::error::Error, "metrics were not delivered");
        }
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
