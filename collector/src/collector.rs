//! The running collector: sources, instruments, reader, exporter.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    metrics::{PeriodicReader, SdkMeterProvider, exporter::PushMetricExporter},
};
use sysinfo::System;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    buffer::{Buffer, BufferExporter, Forwarding},
    config::Config,
    delivery::Delivery,
    error::{Error, Result},
    export::{self, ExportState, OnRuntime},
    gpu::{GpuReader, GpuSettings, Gpus},
    host::Host,
    instruments,
    scrape::Scraper,
    send::Sender,
    watch::{Limits, Watch},
};

/// A collector at work. [`Collector::shutdown`] sends the last interval; dropping does not.
#[derive(Debug)]
pub struct Collector {
    provider: SdkMeterProvider,
    watches: Vec<Arc<Watch>>,
    export: Arc<ExportState>,
    scraper: Option<Scraper>,
    buffer: Option<(Arc<Buffer>, Forwarding)>,
    export_timeout: Duration,
}

impl Collector {
    /// Starts the source threads and the periodic export. Must be called inside a Tokio runtime, which carries the
    /// export; collection itself runs on threads of its own.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside a runtime, [`Error::Exporter`] if the endpoint cannot be used, [`Error::Thread`],
    /// [`Error::BufferInUse`] and [`Error::Buffer`] if the directory of the buffer cannot be used.
    pub fn start(config: Config) -> Result<Self> {
        // The exporter connects lazily, but binds to the runtime it is built in.
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        tracing::info!(endpoint = config.endpoint, protocol = ?config.protocol, interval = ?config.interval, "collecting");
        match &config.buffer {
            Some(settings) => {
                let (buffer, forwarding) = Buffer::start(&config, settings)?;
                let exporter = BufferExporter(Arc::clone(&buffer));
                Self::start_with(&config, exporter, Some((buffer, forwarding)))
            }
            None => Self::start_with(&config, export::otlp(&config)?, None),
        }
    }

    /// Starts with any exporter.
    fn start_with<E>(config: &Config, exporter: E, buffer: Option<(Arc<Buffer>, Forwarding)>) -> Result<Self>
    where
        E: PushMetricExporter,
    {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let exporter = OnRuntime::new(exporter, runtime);
        let export = exporter.state();
        let limits = Limits::for_interval(config.interval);
        let thread_error = |source_name| move |source| Error::Thread { source_name, source };
        let mut watches = vec![host_watch(config, limits).map_err(thread_error("host"))?];
        if config.gpu {
            watches.push(gpu_watch(config, limits).map_err(thread_error("gpu"))?);
        }
        let reader = PeriodicReader::builder(exporter).with_interval(config.interval).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource(config)).build();
        let meter = provider.meter("driftwatt.collector");
        instruments::register(&meter, &watches);
        instruments::register_own(&meter, &watches, Arc::clone(&export));
        let delivery = match &buffer {
            Some((buffer, _)) => {
                instruments::register_buffer(&meter, buffer);
                Delivery::Buffered(Arc::clone(buffer))
            }
            None => Delivery::Direct(Box::new(Sender::new(config)?)),
        };
        let scrape = || Scraper::start(config, delivery, Arc::clone(&export));
        let scraper = (!config.scrape.is_empty()).then(scrape).transpose()?;
        Ok(Self { provider, watches, export, scraper, buffer, export_timeout: config.export_timeout })
    }

    /// Collects and exports now, with what is in the buffer. What is scraped has times of its own: of that, the first scrape
    /// of every target is waited for.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept it, after all retries or within the time for an export.
    pub async fn flush(&self) -> Result<()> {
        let refused = self.buffer.as_ref().map(|(buffer, _)| buffer.levels().dropped.refused);
        self.export_own().await?;
        if let Some(scraper) = &self.scraper {
            scraper.first_done().await?;
        }
        match self.buffer.as_ref().zip(refused) {
            Some(((buffer, _), refused)) => buffer.drained(refused).await,
            None => Ok(()),
        }
    }

    /// Collects and exports what is read on this machine.
    async fn export_own(&self) -> Result<()> {
        let provider = self.provider.clone();
        let flushed = blocking(move || provider.force_flush()).await;
        let last_error = self.export.last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (flushed, last_error) {
            (Err(_), Some(reason)) => Err(Error::Export { reason }),
            (flushed, _) => flushed,
        }
    }

    /// Collects and exports a last time and stops. With a buffer, a server that is away is not waited for.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept the last export, after all retries; with a buffer, if it is not on disk
    /// either.
    pub async fn shutdown(mut self) -> Result<()> {
        // The SDK's own last export is cut off after five seconds, a flush has the time that was configured.
        let flushed = self.export_own().await;
        self.stop();
        let provider = self.provider.clone();
        let stopped = flushed.and(blocking(move || provider.shutdown()).await);
        drop(self.scraper.take());
        if let Some((buffer, forwarding)) = self.buffer.take() {
            forwarding.finish(self.export_timeout).await;
            let left = buffer.levels();
            if left.request_count > 0 {
                tracing::info!(requests = left.request_count, bytes = left.bytes, "the buffer keeps what was not sent");
            }
        }
        stopped
    }

    fn stop(&self) {
        self.export.stopped.store(true, Ordering::Release);
        for watch in &self.watches {
            watch.close();
        }
    }
}

fn gpu_watch(config: &Config, limits: Limits) -> io::Result<Arc<Watch>> {
    let settings = GpuSettings {
        library: config.nvml_library.clone(),
        proc_dir: config.proc_dir.clone(),
        links: config.gpu_links,
    };
    match config.gpu_process.clone() {
        Some(process) => {
            let (process, timeout) = (process.with_settings(&settings), config.gpu_timeout);
            let limits = limits.with_deadline_after(timeout);
            Watch::spawn("gpu", limits, move || {
                let mut reader = GpuReader::new(process, timeout, limits.age_max);
                move || reader.sample()
            })
        }
        None => Watch::spawn("gpu", limits, move || Gpus::new(settings)),
    }
}

fn host_watch(config: &Config, limits: Limits) -> io::Result<Arc<Watch>> {
    let (proc_dir, cgroup_dir) = (config.proc_dir.clone(), config.cgroup_dir.clone());
    Watch::spawn("host", limits, || {
        let mut host = Host::new(proc_dir, cgroup_dir);
        move || host.sample()
    })
}

/// Stops without a last export, so that dropping never waits for the network.
impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
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
