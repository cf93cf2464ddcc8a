//! The server's own metrics by the OpenTelemetry SDK: served as Prometheus text, and stored like anybody else's.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use driftwatt_ingest::Ingest;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use prost::Message as _;
use tokio::sync::mpsc;

const INTERVAL: Duration = Duration::from_secs(15);
/// Exports that wait for the store; when it is that far behind, further ones are dropped with an SDK warning.
const QUEUE_MAX: usize = 4;

/// The SDK with both ways out.
pub(crate) struct SelfMetrics {
    registry: Registry,
    provider: SdkMeterProvider,
    exports: Option<mpsc::Receiver<Bytes>>,
}

impl SelfMetrics {
    /// Sets the global meter provider; instruments made afterwards are collected. With `stored`, each collection is also
    /// queued for [`store_exports`].
    ///
    /// # Errors
    /// If the Prometheus exporter cannot be built.
    pub(crate) fn install(stored: bool) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .context("own metrics")?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "driftwatt"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(prometheus);
        let mut exports = None;
        if stored {
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            builder = builder.with_reader(PeriodicReader::builder(Queue(sender)).with_interval(INTERVAL).build());
            exports = Some(receiver);
        }
        let provider = builder.build();
        opentelemetry::global::set_meter_provider(provider.clone());
        Ok(Self { registry, provider, exports })
    }

    /// The queue for [`store_exports`], once.
    pub(crate) fn take_exports(&mut self) -> Option<mpsc::Receiver<Bytes>> {
        self.exports.take()
    }

    /// Prometheus text exposition of all own metrics.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub(crate) fn to_prometheus(&self) -> anyhow::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).context("own metrics")?;
        String::from_utf8(text).context("own metrics")
    }

    /// Stops collecting.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "own metrics did not stop cleanly");
        }
    }
}

/// Stores queued exports until the queue is closed.
pub(crate) async fn store_exports(mut exports: mpsc::Receiver<Bytes>, ingest: Arc<Ingest>) {
    while let Some(body) = exports.recv().await {
        if let Err(error) = ingest.export(body).await {
            tracing::warn!(%error, "own metrics not stored");
        }
    }
}

struct Queue(mpsc::Sender<Bytes>);

impl PushMetricExporter for Queue {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let body = ExportMetricsServiceRequest::from(metrics).encode_to_vec();
        self.0.try_send(body.into()).map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
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
