//! The running collector: sources, instruments, reader, exporter.

use std::{ffi::OsString, sync::Arc};

use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    metrics::{PeriodicReader, SdkMeterProvider, exporter::PushMetricExporter},
};
use sysinfo::System;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    config::Config,
    error::{Error, Result},
    export::{self, OnRuntime},
    gpu::Gpus,
    host::Host,
    instruments,
    watch::{Limits, Watch},
};

/// A collector at work. Call [`Collector::shutdown`] before the runtime ends, else the last interval is not sent.
#[derive(Debug)]
pub struct Collector {
    provider: SdkMeterProvider,
    watches: Vec<Arc<Watch>>,
}

impl Collector {
    /// Starts the source threads and the periodic export. Must be called inside a Tokio runtime, which carries the
    /// export; collection itself runs on threads of its own.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a runtime, [`Error::Exporter`] if the endpoint cannot be used, [`Error::Thread`].
    pub fn start(config: Config) -> Result<Self> {
        // The exporter connects lazily, but binds to the runtime it is built in.
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let exporter = export::otlp(&config)?;
        tracing::info!(endpoint = config.endpoint, protocol = ?config.protocol, interval = ?config.interval, "collecting");
        Self::start_with(&config, exporter, None)
    }

    /// Starts with any exporter and NVIDIA library.
    fn start_with<E>(config: &Config, exporter: E, nvidia_library: Option<OsString>) -> Result<Self>
    where
        E: PushMetricExporter,
    {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let exporter = OnRuntime::new(exporter, runtime);
        let errors = exporter.errors();
        let limits = Limits::for_interval(config.interval);
        let thread_error = |source_name| move |source| Error::Thread { source_name, source };
        let mut watches = vec![Watch::spawn("host", limits, Host::new).map_err(thread_error("host"))?];
        if config.gpu {
            let gpus = move || Gpus::new(nvidia_library);
            watches.push(Watch::spawn("gpu", limits, gpus).map_err(thread_error("gpu"))?);
        }
        let reader = PeriodicReader::builder(exporter).with_interval(config.interval).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource(config)).build();
        let meter = provider.meter("driftwatt.collector");
        instruments::register(&meter, &watches);
        instruments::register_own(&meter, &watches, errors);
        Ok(Self { provider, watches })
    }

    /// Collects and exports now.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept it, after all retries.
    pub async fn flush(&self) -> Result<()> {
        let provider = self.provider.clone();
        blocking(move || provider.force_flush()).await
    }

    /// Collects and exports a last time and stops.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept the last export.
    pub async fn shutdown(self) -> Result<()> {
        let provider = self.provider.clone();
        let result = blocking(move || provider.shutdown()).await;
        for watch in &self.watches {
            watch.close();
        }
        result
    }
}

/// The SDK's flush and shutdown block until the export is done, which needs the runtime to go on meanwhile.
async fn blocking(call: impl FnOnce() -> Result<(), OTelSdkError> + Send + 'static) -> Result<()> {
    let result = spawn_blocking(call).await.map_err(|error| Error::Export { reason: error.to_string() })?;
    result.map_err(|error| Error::Export { reason: error.to_string() })
}

fn resource(config: &Config) -> Resource {
    let host = System::host_name().unwrap_or_else(|_| "unknown".to_owned());
    // The instance is the host by default, so that a restart goes on with the same series.
    let attributes = [KeyValue::new("service.instance.id", host.clone()), KeyValue::new("host.name", host)];
    Resource::builder()
        .with_service_name("driftwatt-collector")
        .with_attributes(attributes)
        .with_attributes(config.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .build()
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
