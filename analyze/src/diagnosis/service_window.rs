//! What the diagnosis reads: requests of one service as columns, machine signals by minute, and marked events.
//!
//! A row is one request, or the means of the requests that one histogram point counted: it then has a weight, and quantiles
//! come from [`LatencyBuckets`]. A cost that is linear in the inputs holds for means as it does for requests; squares do not, so
//! they are left out there.
//!
//! Requests are rows rather than sums because three steps need the joint distribution of inputs and latency (weights by
//! predicted cost, p95 held at other inputs, groups left out). A sample is enough for them: past [`REQUESTS_MAX`] the reader
//! keeps the requests with the smallest hash of their trace, so 24 hours of any service are at most 200 000 rows of about 50
//! bytes. What must not be sampled, the offered load, comes beside them as an exact count a minute.

use super::{Error, latency_buckets::LatencyBuckets};
use crate::demand::HOUR_OF_WEEK_COUNT;

/// Most requests of one diagnosis.
pub const REQUESTS_MAX: usize = 200_000;
/// Most minutes of one diagnosis: a week.
pub const MINUTES_MAX: usize = 10_080;

/// What a number of a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Tokens of the prompt that the server had to compute: those served from a prefix cache are taken off by the reader.
    PromptTokens,
    /// Generated tokens.
    OutputTokens,
    /// Megapixels of one image (the mean, where a request has several).
    Megapixels,
    /// Images.
    ImageCount,
    /// Thousand bytes of the body, where nothing says more of its size.
    Kilobytes,
    /// Requests in the batch that this one ran in: load, not input.
    BatchSize,
    /// Milliseconds in the queue before the model started: load, not input.
    QueueMs,
}

impl Role {
    /// Name in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PromptTokens => "prompt tokens",
            Self::OutputTokens => "output tokens",
            Self::Megapixels => "megapixels",
            Self::ImageCount => "images",
            Self::Kilobytes => "kilobytes",
            Self::BatchSize => "batch size",
            Self::QueueMs => "queue time",
        }
    }

    /// Whether the number says how busy the server was, rather than what was asked.
    pub fn is_load(self) -> bool {
        matches!(self, Self::BatchSize | Self::QueueMs)
    }
}

/// One number of every request.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Meaning.
    pub role: Role,
    /// One a request; NaN is unknown.
    pub values: Vec<f32>,
}

/// By what requests are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// Machine.
    Host,
    /// Device.
    Gpu,
    /// Availability zone.
    Zone,
    /// Version of the model.
    Version,
    /// Who asked.
    Tenant,
    /// How generation ended.
    FinishReason,
    /// Any category of the input: image format, language, route.
    Input,
}

impl Dimension {
    /// Name in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Gpu => "GPU",
            Self::Zone => "zone",
            Self::Version => "model version",
            Self::Tenant => "tenant",
            Self::FinishReason => "finish reason",
            Self::Input => "input category",
        }
    }
}

/// One label of every request, dictionary-coded.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// By what it groups.
    pub dimension: Dimension,
    /// Attribute as received, such as `image.format`.
    pub name: String,
    /// Distinct values.
    pub values: Vec<String>,
    /// Position in `values`, one a request.
    pub codes: Vec<u16>,
}

/// What a machine or server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignalKind {
    /// Share of time in which the GPU computes, 0 to 1.
    GpuUtilisation,
    /// Used share of the GPU's memory, 0 to 1.
    GpuMemoryUsage,
    /// Clock of the streaming multiprocessors, MHz.
    GpuClock,
    /// Share of time throttled for heat or power, 0 to 1.
    GpuThrottle,
    /// XID errors a minute.
    XidErrors,
    /// Uncorrected memory errors a minute.
    EccErrors,
    /// Busy share of the processors, 0 to 1.
    CpuUtilisation,
    /// Share of time in which runnable tasks waited for a processor (quota or pressure), 0 to 1.
    CpuStarvation,
    /// Used share of the host's memory, 0 to 1.
    MemoryUsage,
    /// Share of time in which tasks waited for memory, 0 to 1.
    MemoryPressure,
    /// Milliseconds of one disk operation.
    DiskLatency,
    /// Share of time in which tasks waited for disks, 0 to 1.
    IoPressure,
    /// Retransmitted share of the segments, 0 to 1.
    NetworkRetransmits,
    /// Packets that were dropped or broken over all packets, 0 to 1.
    NetworkDrops,
    /// Requests that wait.
    QueueLength,
    /// Used share of the key-value cache, 0 to 1.
    KvCacheUsage,
    /// Replicas that serve.
    Replicas,
}

/// One signal of one container, by minute.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// What it measures.
    pub kind: SignalKind,
    /// Dimension and value of the requests that the container served; none is the whole service.
    pub container: Option<(Dimension, String)>,
    /// One a minute of the window; NaN is unknown. A counter comes as its increase, with NaN in the minute of a reset.
    pub values: Vec<f32>,
}

/// A change that somebody made.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Minute of the window; may lie outside it.
    pub minute: f64,
    /// What was changed: `deployment resnet v2.9 -> v2.10`.
    pub what: String,
}

/// Medians of earlier weeks by hour of the week.
#[derive(Debug, Clone, PartialEq)]
pub struct HourOfWeek {
    /// Minute of the week (0 = Monday 00:00) at which the window starts.
    pub start_minute_of_week: usize,
    /// 168 medians of ln latency (ms) by hour; NaN is unknown.
    pub log_latency_medians: Vec<f64>,
}

/// Everything known about one service, model or route over some minutes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceWindow {
    /// Name in sentences.
    pub service: String,
    /// Whether the telemetry is simulated: every result then says so.
    pub simulated: bool,
    /// Minutes.
    pub minute_count: usize,
    /// Minute of each request, ascending.
    pub minutes: Vec<u32>,
    /// Latency of each request, milliseconds, positive.
    pub latency_ms: Vec<f32>,
    /// Requests that each row stands for; empty where every row is one request.
    pub weights: Vec<u32>,
    /// Latency of all requests in buckets, where rows stand for several.
    pub buckets: Option<LatencyBuckets>,
    /// Numbers of the requests.
    pub features: Vec<Feature>,
    /// Labels of the requests.
    pub labels: Vec<Labels>,
    /// Requests that arrived in each minute, unsampled; NaN is unknown.
    pub arrivals: Vec<f32>,
    /// Machine signals.
    pub signals: Vec<Signal>,
    /// Deployments, configuration changes, alias moves.
    pub events: Vec<Event>,
    /// Seasonal medians, where history reaches back.
    pub hour_of_week: Option<HourOfWeek>,
    /// Clock of the requests less that of the signals, seconds; none is unknown.
    pub clock_skew_s: Option<f64>,
}

impl ServiceWindow {
    /// Values of the feature with `role`.
    pub fn feature(&self, role: Role) -> Option<&[f32]> {
        self.features.iter().find(|feature| feature.role == role).map(|feature| feature.values.as_slice())
    }

    /// Labels of `dimension`; the first, where there are several.
    pub fn labels_of(&self, dimension: Dimension) -> Option<&Labels> {
        self.labels.iter().find(|labels| labels.dimension == dimension)
    }

    /// Whether rows are means of several requests.
    pub fn is_aggregated(&self) -> bool {
        !self.weights.is_empty()
    }

    /// Requests that a row stands for.
    pub fn weight(&self, row: usize) -> u64 {
        self.weights.get(row).map_or(1, |weight| u64::from(*weight))
    }

    /// Requests that some rows stand for.
    pub fn request_count(&self, rows: &std::ops::Range<usize>) -> u64 {
        if self.weights.is_empty() { rows.len() as u64 } else { rows.clone().map(|row| self.weight(row)).sum() }
    }

    /// Rows from minute `from` until before minute `to`.
    pub fn rows(&self, from: usize, to: usize) -> std::ops::Range<usize> {
        let at = |minute: usize| self.minutes.partition_point(|&m| (m as usize) < minute);
        at(from)..at(to)
    }

    /// Checks every length, order and range that the diagnosis relies on.
    ///
    /// # Errors
    /// [`Error`] with the column at fault and what to do about it.
    pub fn validate(&self) -> Result<(), Error> {
        let rows = self.latency_ms.len();
        if self.minute_count > MINUTES_MAX {
            return Err(Error::TooLong { minutes: self.minute_count, minutes_max: MINUTES_MAX });
        }
        if rows > REQUESTS_MAX {
            return Err(Error::TooManyRequests { requests: rows, requests_max: REQUESTS_MAX });
        }
        same_length("minutes", self.minutes.len(), rows)?;
        same_length("arrivals", self.arrivals.len(), self.minute_count)?;
        if self.is_aggregated() {
            same_length("weights", self.weights.len(), rows)?;
        }
        if let Some(row) = self.weights.iter().position(|&weight| weight == 0) {
            return Err(Error::NoWeight { row });
        }
        if let Some(buckets) = &self.buckets {
            buckets.validate(self.minute_count)?;
        }
        for feature in &self.features {
            same_length(feature.role.as_str(), feature.values.len(), rows)?;
        }
        for labels in &self.labels {
            same_length(&labels.name, labels.codes.len(), rows)?;
            if labels.codes.iter().any(|&code| usize::from(code) >= labels.values.len()) {
                return Err(Error::UnknownCode { column: labels.name.clone() });
            }
        }
        for signal in &self.signals {
            same_length("signal", signal.values.len(), self.minute_count)?;
        }
        if let Some(seasonal) = &self.hour_of_week {
            same_length("hour_of_week", seasonal.log_latency_medians.len(), HOUR_OF_WEEK_COUNT)?;
        }
        if self.minutes.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(Error::Unsorted);
        }
        if self.minutes.last().is_some_and(|&last| last as usize >= self.minute_count) {
            return Err(Error::OutsideWindow { minute_count: self.minute_count });
        }
        match self.latency_ms.iter().position(|&ms| !(ms.is_finite() && ms > 0.0)) {
            Some(row) => Err(Error::BadLatency { row, value: self.latency_ms[row] }),
            None => Ok(()),
        }
    }
}

pub(super) fn same_length(column: &str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length { column: column.to_owned(), found, expected })
}
