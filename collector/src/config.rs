//! Settings of the collector.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    gpu::GpuProcess,
};

/// Transport of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP/gRPC. The default.
    #[default]
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    #[serde(alias = "http/protobuf")]
    Http,
}

/// The `[collector]` section as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where to send: `http://host:port`. Default `http://127.0.0.1:4317` (grpc) or `http://127.0.0.1:4318` (http).
    pub endpoint: Option<String>,
    /// `grpc` (default) or `http`.
    pub protocol: Option<Protocol>,
    /// Time between two collections, at least `"1s"`. Default `"15s"`.
    pub interval: Option<String>,
    /// Whether NVIDIA GPUs are read. Default true.
    pub gpu: Option<bool>,
    /// Time for one reading of all GPUs, at most the interval. Default `"5s"`, or half the interval where that is shorter.
    pub gpu_timeout: Option<String>,
    /// Whether traffic and errors of PCIe and NVLink are read, which may take 40 ms for each GPU. Default false.
    pub gpu_links: Option<bool>,
    /// Path of the NVIDIA management library. Default the driver's own, `libnvidia-ml.so.1`.
    pub nvml_library: Option<PathBuf>,
    /// Where the kernel shows processes, with their control groups, and pressure. Default `"/proc"`.
    pub proc_dir: Option<PathBuf>,
    /// Where the kernel shows control groups of version 2. Default `"/sys/fs/cgroup"`.
    pub cgroup_dir: Option<PathBuf>,
    /// Time for one export with all its retries. Default `"10s"`.
    pub export_timeout: Option<String>,
    /// Retries after a first attempt that failed for a passing reason; at most 20. Default 5.
    pub retries_max: Option<usize>,
    /// Directory that keeps what the server has not taken yet. Default none: after a failed export it is lost.
    pub buffer_dir: Option<PathBuf>,
    /// Bytes in that directory, or with a unit, at least `"1MiB"`. Default `"64MiB"`; beyond, the oldest are dropped.
    pub buffer_size_max: Option<String>,
    /// Extra resource attributes; they override `service.instance.id` and `host.name`.
    pub resource: BTreeMap<String, String>,
    /// What to scrape. Default nothing.
    pub scrape: Vec<RawScrapeJob>,
}

/// One `[[collector.scrape]]` as written: exporters that are scraped in the same way.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawScrapeJob {
    /// The label `job`, which becomes `service.name`. Default `"scrape"`.
    pub job: Option<String>,
    /// URLs of pages, such as `http://127.0.0.1:9400/metrics`.
    pub targets: Vec<String>,
    /// Files of targets in the JSON format of Prometheus' `file_sd_configs`; looked at every 5 seconds.
    pub files: Vec<PathBuf>,
    /// Time between two scrapes of a target, at least `"1s"`. Default the interval of the collector.
    pub interval: Option<String>,
    /// Time for a page to arrive, at most the interval. Default `"10s"`, or the interval where that is shorter.
    pub timeout: Option<String>,
    /// Labels for every series.
    pub labels: BTreeMap<String, String>,
    /// Whether a label of a page wins over one of the target. Default false: it is kept as `exported_…`.
    pub honor_labels: bool,
    /// File of a token that every request carries as `Authorization: Bearer …`; read anew for each. Default none.
    pub bearer_token_file: Option<PathBuf>,
    /// Bytes of a page, or with a unit (`"16MiB"`). Default 16 MiB; a longer one is not used, and `up` is 0.
    pub body_size_max: Option<String>,
    /// Samples of a page. Default 100 000; a page with more is not used, and `up` is 0.
    pub samples_max: Option<usize>,
}

/// Checked settings of one kind of scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeJob {
    /// The label `job`.
    pub job: String,
    /// URLs of pages.
    pub targets: Vec<String>,
    /// Files of targets.
    pub files: Vec<PathBuf>,
    /// Time between two scrapes of a target.
    pub interval: Duration,
    /// Time for a page to arrive.
    pub timeout: Duration,
    /// Labels for every series.
    pub labels: BTreeMap<String, String>,
    /// Whether a label of a page wins over one of the target.
    pub honor_labels: bool,
    /// File of a token for every request.
    pub bearer_token_file: Option<PathBuf>,
    /// Bytes of a page.
    pub body_size_max: usize,
    /// Samples of a page.
    pub samples_max: usize,
}

/// Checked settings of the buffer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferConfig {
    /// Directory of the buffer, of this collector alone.
    pub dir: PathBuf,
    /// Bytes on disk, in blocks of 4 KiB.
    pub size_max: u64,
}

/// Checked settings of the collector.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to send, as the exporter takes it (an HTTP endpoint ends in the signal's path).
    pub endpoint: String,
    /// Transport of the export.
    pub protocol: Protocol,
    /// Time between two collections.
    pub interval: Duration,
    /// Whether NVIDIA GPUs are read.
    pub gpu: bool,
    /// Time for one reading of all GPUs by another process.
    pub gpu_timeout: Duration,
    /// Whether PCIe and NVLink are read.
    pub gpu_links: bool,
    /// Path of the NVIDIA management library; `None` for the driver's own.
    pub nvml_library: Option<PathBuf>,
    /// Where the kernel shows processes and pressure.
    pub proc_dir: PathBuf,
    /// Where the kernel shows control groups.
    pub cgroup_dir: PathBuf,
    /// The process that reads GPUs. `None`, which [`RawConfig::validate`] gives, reads them on a thread of this one, where a
    /// driver call that never returns cannot be ended. A program that can start itself sets it.
    pub gpu_process: Option<GpuProcess>,
    /// Time for one export with all its retries.
    pub export_timeout: Duration,
    /// Retries after the first attempt.
    pub retries_max: usize,
    /// What keeps requests while the server is away.
    pub buffer: Option<BufferConfig>,
    /// Extra resource attributes.
    pub resource: BTreeMap<String, String>,
    /// What to scrape.
    pub scrape: Vec<ScrapeJob>,
}

impl RawConfig {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is out of range.
    pub fn validate(self) -> Result<Config> {
        let protocol = self.protocol.unwrap_or_default();
        let interval = duration("interval", self.interval.as_deref(), Duration::from_secs(15))?;
        if interval < Duration::from_secs(1) {
            return Err(Error::Config { name: "interval", reason: format!("{interval:?} is shorter than 1s") });
        }
        let gpu_timeout =
            duration("gpu_timeout", self.gpu_timeout.as_deref(), (interval / 2).min(Duration::from_secs(5)))?;
        if gpu_timeout.is_zero() || gpu_timeout > interval {
            let reason = format!("{gpu_timeout:?} is not between 0 and the interval, {interval:?}");
            return Err(Error::Config { name: "gpu_timeout", reason });
        }
        let export_timeout = duration("export_timeout", self.export_timeout.as_deref(), Duration::from_secs(10))?;
        if export_timeout.is_zero() {
            return Err(Error::Config { name: "export_timeout", reason: "must be longer than zero".into() });
        }
        let retries_max = self.retries_max.unwrap_or(5);
        if retries_max > 20 {
            return Err(Error::Config { name: "retries_max", reason: format!("{retries_max} is more than 20") });
        }
        if self.resource.keys().any(String::is_empty) {
            return Err(Error::Config { name: "resource", reason: "an attribute has an empty name".into() });
        }
        Ok(Config {
            endpoint: endpoint(self.endpoint, protocol)?,
            protocol,
            interval,
            gpu: self.gpu.unwrap_or(true),
            gpu_timeout,
            gpu_links: self.gpu_links.unwrap_or(false),
            nvml_library: self.nvml_library,
            proc_dir: self.proc_dir.unwrap_or_else(|| "/proc".into()),
            cgroup_dir: self.cgroup_dir.unwrap_or_else(|| "/sys/fs/cgroup".into()),
            gpu_process: None,
            export_timeout,
            retries_max,
            buffer: buffer(self.buffer_dir, self.buffer_size_max.as_deref())?,
            resource: self.resource,
            scrape: self.scrape.into_iter().map(|job| job.validate(interval)).collect::<Result<_>>()?,
        })
    }
}

impl RawScrapeJob {
    /// Checks one scrape, whose interval is `default_interval` where it has none of its own.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is out of range.
    pub fn validate(self, default_interval: Duration) -> Result<ScrapeJob> {
        let interval = duration("scrape.interval", self.interval.as_deref(), default_interval)?;
        if interval < Duration::from_secs(1) {
            return Err(Error::Config { name: "scrape.interval", reason: format!("{interval:?} is shorter than 1s") });
        }
        let timeout = duration("scrape.timeout", self.timeout.as_deref(), interval.min(Duration::from_secs(10)))?;
        if timeout.is_zero() || timeout > interval {
            let reason = format!("{timeout:?} is not between 0 and the interval, {interval:?}");
            return Err(Error::Config { name: "scrape.timeout", reason });
        }
        if self.targets.is_empty() && self.files.is_empty() {
            return Err(Error::Config { name: "scrape.targets", reason: "there are no targets and no files".into() });
        }
        for (index, target) in self.targets.iter().enumerate() {
            let has_host =
                target.strip_prefix("http://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
            if !has_host {
                // Not shown, because it may hold a password.
                let number = index + 1;
                let reason = format!("target {number} does not start with http:// and a host; this build has no TLS");
                return Err(Error::Config { name: "scrape.targets", reason });
            }
        }
        Ok(ScrapeJob {
            job: self.job.unwrap_or_else(|| "scrape".to_owned()),
            targets: self.targets,
            files: self.files,
            interval,
            timeout,
            labels: self.labels,
            honor_labels: self.honor_labels,
            bearer_token_file: self.bearer_token_file,
            body_size_max: size("scrape.body_size_max", self.body_size_max.as_deref(), 16 << 20)?,
            samples_max: positive("scrape.samples_max", self.samples_max.unwrap_or(100_000))?,
        })
    }
}

fn buffer(dir: Option<PathBuf>, size_max: Option<&str>) -> Result<Option<BufferConfig>> {
    let size_max_bytes = size("buffer_size_max", size_max, 64 << 20)?;
    // The largest request that is made of scraped points takes about as much.
    if size_max_bytes < 1 << 20 {
        return Err(Error::Config {
            name: "buffer_size_max",
            reason: format!("{size_max_bytes} bytes are less than 1MiB"),
        });
    }
    match dir {
        None if size_max.is_some() => {
            Err(Error::Config { name: "buffer_size_max", reason: "there is no buffer_dir".into() })
        }
        Some(dir) if dir.as_os_str().is_empty() => {
            Err(Error::Config { name: "buffer_dir", reason: "the path is empty".into() })
        }
        dir => Ok(dir.map(|dir| BufferConfig { dir, size_max: size_max_bytes as u64 })),
    }
}

fn positive(name: &'static str, given: usize) -> Result<usize> {
    if given == 0 { Err(Error::Config { name, reason: "must be more than 0".into() }) } else { Ok(given) }
}

/// Reads `"512KiB"`, `"16MiB"`, `"1GiB"`, or plain bytes.
fn size(name: &'static str, text: Option<&str>, default: usize) -> Result<usize> {
    let Some(text) = text else { return Ok(default) };
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text.trim()[digits.len()..] {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let count = digits.trim().parse::<usize>().ok();
    match count.zip(unit).and_then(|(count, unit)| count.checked_mul(unit)) {
        Some(size) => positive(name, size),
        None => Err(Error::Config { name, reason: format!("{text:?} is not a size such as \"16MiB\"") }),
    }
}

fn endpoint(written: Option<String>, protocol: Protocol) -> Result<String> {
    let default = match protocol {
        Protocol::Grpc => "http://127.0.0.1:4317",
        Protocol::Http => "http://127.0.0.1:4318",
    };
    let endpoint = written.unwrap_or_else(|| default.to_owned());
    let refuse = |reason: String| Err(Error::Config { name: "endpoint", reason });
    if endpoint.starts_with("https://") {
        return refuse(format!("{endpoint}: this build has no TLS; send to a local agent or use http://"));
    }
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return refuse(format!("{endpoint:?} does not start with http://"));
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() {
        return refuse(format!("{endpoint:?} names no host"));
    }
    // The exporter takes an HTTP endpoint as it is, so the signal's path is added where none was written.
    Ok(match protocol {
        Protocol::Http if path.is_empty() => format!("http://{authority}/v1/metrics"),
        _ => endpoint,
    })
}

/// Reads `"250ms"`, `"15s"`, `"1m"`, `"1h"`.
fn duration(name: &'static str, text: Option<&str>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match &text.trim()[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let count = digits.trim().parse::<u64>().ok();
    match (count, millis) {
        (Some(count), Some(millis)) => Ok(Duration::from_millis(count.saturating_mul(millis))),
        _ => Err(Error::Config { name, reason: format!("{text:?} is not a duration such as \"15s\" or \"250ms\"") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_send_to_the_local_server_over_grpc() {
        let config = RawConfig::default().validate().unwrap();
        assert_eq!(config.endpoint, "http://127.0.0.1:4317");
        assert_eq!(config.interval, Duration::from_secs(15));
        assert!(config.gpu);
    }

    #[test]
    fn an_http_endpoint_gets_the_path_of_its_signal_once() {
        let check = |written: &str, expected: &str| {
            assert_eq!(endpoint(Some(written.into()), Protocol::Http).unwrap(), expected);
        };
        check("http://h:4318", "http://h:4318/v1/metrics");
        check("http://h:4318/", "http://h:4318/v1/metrics");
        check("http://h/otlp/v1/metrics", "http://h/otlp/v1/metrics");
    }

    #[test]
    fn refused_settings_name_themselves() {
        let check = |raw: RawConfig, expected: &str| {
            let message = raw.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("setting collector.{expected}")), "{message}");
        };
        check(RawConfig { endpoint: Some("https://h:4317".into()), ..RawConfig::default() }, "endpoint");
        check(RawConfig { endpoint: Some("h:4317".into()), ..RawConfig::default() }, "endpoint");
        check(RawConfig { endpoint: Some("http:///v1".into()), ..RawConfig::default() }, "endpoint");
        check(RawConfig { interval: Some("15".into()), ..RawConfig::default() }, "interval");
        check(RawConfig { interval: Some("10ms".into()), ..RawConfig::default() }, "interval");
        check(RawConfig { gpu_timeout: Some("0s".into()), ..RawConfig::default() }, "gpu_timeout");
        check(RawConfig { gpu_timeout: Some("16s".into()), ..RawConfig::default() }, "gpu_timeout");
        check(RawConfig { export_timeout: Some("0s".into()), ..RawConfig::default() }, "export_timeout");
        check(RawConfig { retries_max: Some(21), ..RawConfig::default() }, "retries_max");
        let buffer = |dir: Option<&str>, size: &str| RawConfig {
            buffer_dir: dir.map(PathBuf::from),
            buffer_size_max: Some(size.into()),
            ..RawConfig::default()
        };
        check(buffer(Some("buffer"), "512KiB"), "buffer_size_max");
        check(buffer(None, "2MiB"), "buffer_size_max");
        check(buffer(Some(""), "2MiB"), "buffer_dir");
        let scrape = |job: RawScrapeJob| RawConfig { scrape: vec![job], ..RawConfig::default() };
        let local = || vec!["http://127.0.0.1:9400/metrics".to_owned()];
        check(scrape(RawScrapeJob::default()), "scrape.targets");
        for target in ["https://h/metrics", "h:9400", "http:///metrics"] {
            check(scrape(RawScrapeJob { targets: vec![target.into()], ..RawScrapeJob::default() }), "scrape.targets");
        }
        let slow = RawScrapeJob { targets: local(), timeout: Some("16s".into()), ..RawScrapeJob::default() };
        check(scrape(slow), "scrape.timeout");
        let none = RawScrapeJob { targets: local(), samples_max: Some(0), ..RawScrapeJob::default() };
        check(scrape(none), "scrape.samples_max");
        for size in ["16MB", "0", "many", "99999999999GiB"] {
            let raw = RawScrapeJob { targets: local(), body_size_max: Some(size.into()), ..RawScrapeJob::default() };
            check(scrape(raw), "scrape.body_size_max");
        }
    }

    #[test]
    fn a_scrape_takes_the_interval_of_the_collector() {
        let job = RawScrapeJob { targets: vec!["http://h/metrics".into()], ..RawScrapeJob::default() };
        let raw = RawConfig { interval: Some("5s".into()), scrape: vec![job], ..RawConfig::default() };
        let job = raw.validate().unwrap().scrape.remove(0);
        assert_eq!((job.interval, job.timeout), (Duration::from_secs(5), Duration::from_secs(5)));
    }
}
