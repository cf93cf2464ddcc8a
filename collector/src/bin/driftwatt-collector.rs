//! The collector as a program of its own, for nodes that run nothing else of Driftwatt.

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use driftwatt_collector::{Collector, Config, GpuProcess, Protocol, RawConfig, RawScrapeJob, serve_gpu_readings};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// Collects host and GPU metrics and sends them over OTLP.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to send, e.g. http://127.0.0.1:4317.
    #[arg(long)]
    endpoint: Option<String>,
    /// Transport [default: grpc].
    #[arg(long, value_enum)]
    protocol: Option<Transport>,
    /// Time between two collections, e.g. 15s.
    #[arg(long)]
    interval: Option<String>,
    /// Also scrape this page of a Prometheus exporter, e.g. http://127.0.0.1:9400/metrics; may be given again.
    #[arg(long, value_name = "URL")]
    scrape: Vec<String>,
    /// Keep what the server has not taken yet in this directory, also over a restart.
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// TOML file with a [collector] section; other sections are ignored. Arguments win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Collect and send once, then exit.
    #[arg(long)]
    once: bool,
    /// Check arguments and file, and exit.
    #[arg(long, conflicts_with = "once")]
    check: bool,
    /// Read GPUs for the program that started this one, over standard input and output.
    #[arg(long, hide = true, value_name = "SETTINGS")]
    nvml_child: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Transport {
    Grpc,
    Http,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    collector: RawConfig,
}

impl Arguments {
    fn settings(&self) -> Result<Config, Box<dyn Error>> {
        let mut raw = match &self.config {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
                toml::from_str::<File>(&text).map_err(|error| format!("{}: {error}", path.display()))?.collector
            }
            None => RawConfig::default(),
        };
        raw.endpoint = self.endpoint.clone().or(raw.endpoint);
        raw.buffer_dir = self.buffer.clone().or(raw.buffer_dir);
        raw.interval = self.interval.clone().or(raw.interval);
        raw.protocol = match self.protocol {
            Some(Transport::Grpc) => Some(Protocol::Grpc),
            Some(Transport::Http) => Some(Protocol::Http),
            None => raw.protocol,
        };
        if !self.scrape.is_empty() {
            raw.scrape.push(RawScrapeJob { targets: self.scrape.clone(), ..RawScrapeJob::default() });
        }
        let gpu_process =
            GpuProcess::this_program(&["--nvml-child"]).map_err(|error| format!("find this program: {error}"))?;
        Ok(Config { gpu_process: Some(gpu_process), ..raw.validate()? })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match collect(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = String::new();
            let mut source = error.source();
            while let Some(cause) = source {
                causes.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("driftwatt-collector: {error}{causes}");
            ExitCode::FAILURE
        }
    }
}

async fn collect(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(settings) = &arguments.nvml_child {
        return Ok(serve_gpu_readings(settings).await?);
    }
    let config = arguments.settings()?;
    if arguments.check {
        tracing::info!(endpoint = config.endpoint, interval = ?config.interval, "the settings can be used");
        return Ok(());
    }
    if arguments.once {
        let collector = Collector::start(config)?;
        collector.flush().await?;
        collector.shutdown().await?;
    } else {
        driftwatt_collector::run(config, stop_signal()).await?;
    }
    Ok(())
}

/// Resolves at Ctrl-C or, where it exists, SIGTERM.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a signal handler only a kill can stop the program; returning would stop it at once.
        std::future::pending::<()>().await;
    }
}
