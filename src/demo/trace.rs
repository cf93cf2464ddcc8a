//! The real token trace that ships with the tests, replayed as OTLP: the only data of the demo that is not simulated.
//!
//! Source: Azure Public Dataset, `AzureLLMInferenceTrace`, CC-BY 4.0. Only the times are shifted; the attribute
//! `driftwatt.replayed` says so.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::NaiveDateTime;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{Metric, number_data_point::Value},
};

use super::{SCOPE, load::MINUTE_NANOS};
use crate::otlp::{attribute, exponential, exponential_point, gauge, point, resource_metrics};

const TRACE_CSV: &str = include_str!("../../tests/data/azure_llm_tokens.csv");
const SOURCE: &str = "Azure Public Dataset, CC-BY 4.0";
const ROWS_PER_REQUEST: usize = 2000;
const SCALE: i32 = 3;

/// One row of the trace, its time already shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TracedRequest {
    time_unix_micros: u64,
    context_tokens: u32,
    generated_tokens: u32,
}

/// The token counts of two LLM services, ending at a chosen time.
#[derive(Debug, Clone)]
pub(crate) struct TokenTrace {
    /// By service name, sorted by time, no time twice.
    services: BTreeMap<String, Vec<TracedRequest>>,
    end_unix_micros: u64,
}

impl TokenTrace {
    /// The trace that ships with the binary, moved so that its last request is at `end_unix_nanos`.
    ///
    /// # Errors
    /// A row that cannot be read, with its line number.
    pub(crate) fn new(end_unix_nanos: u64) -> anyhow::Result<Self> {
        Self::parse(TRACE_CSV, end_unix_nanos)
    }

    fn parse(csv: &str, end_unix_nanos: u64) -> anyhow::Result<Self> {
        let mut services: BTreeMap<String, Vec<TracedRequest>> = BTreeMap::new();
        for (index, line) in csv.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
            let (service, request) = parse_row(line).with_context(|| format!("token trace, line {}", index + 1))?;
            services.entry(format!("azure-llm-{service}")).or_default().push(request);
        }
        services.values_mut().for_each(|requests| make_times_unique(requests));
        let last = services.values().filter_map(|requests| requests.last()).map(|last| last.time_unix_micros).max();
        let end_unix_micros = end_unix_nanos / 1000;
        let last = last.context("the token trace is empty")?;
        let shift = end_unix_micros.checked_sub(last).context("the token trace would have to move into the past")?;
        for request in services.values_mut().flatten() {
            request.time_unix_micros += shift;
        }
        Ok(Self { services, end_unix_micros })
    }

    /// Number of requests that [`TokenTrace::requests`] yields.
    pub(crate) fn request_count(&self) -> u64 {
        self.services.values().map(|rows| rows.len().div_ceil(ROWS_PER_REQUEST) as u64 + 1).sum()
    }

    /// Number of data points in all requests: two per row, and one histogram for each minute that has rows.
    pub(crate) fn point_count(&self) -> u64 {
        self.services.values().map(|rows| (rows.len() * 2 + self.minutes(rows).len()) as u64).sum()
    }

    /// The rows as gauges `gen_ai.client.inference.operation.input_tokens` and `…output_tokens`, then for each service
    /// `driftwatt.input.tokens` as one exponential histogram of deltas a minute.
    pub(crate) fn requests(&self) -> impl Iterator<Item = ExportMetricsServiceRequest> + Send + '_ {
        self.services.iter().flat_map(move |(service, rows)| {
            let samples = rows.chunks(ROWS_PER_REQUEST).map(|chunk| request(service, token_gauges(chunk)));
            samples.chain(std::iter::once_with(move || request(service, vec![self.token_histogram(rows)])))
        })
    }

    /// Input tokens by minute; the key counts minutes before the end, so that the last interval is whole.
    fn minutes(&self, rows: &[TracedRequest]) -> BTreeMap<u64, Vec<f64>> {
        let mut minutes: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for row in rows {
            // Intervals are open below and closed above, so a row exactly at the end is in minute 0.
            let before = (self.end_unix_micros - row.time_unix_micros) * 1000 / MINUTE_NANOS;
            minutes.entry(before).or_default().push(f64::from(row.context_tokens));
        }
        minutes
    }

    fn token_histogram(&self, rows: &[TracedRequest]) -> Metric {
        let points = self.minutes(rows).into_iter().rev().map(|(before, tokens)| {
            let end = self.end_unix_micros * 1000 - before * MINUTE_NANOS;
            exponential_point((end - MINUTE_NANOS, end), SCALE, &tokens)
        });
        exponential("driftwatt.input.tokens", "{token}", points.collect())
    }
}

fn parse_row(line: &str) -> anyhow::Result<(&str, TracedRequest)> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let [service, timestamp, context_tokens, generated_tokens] = fields[..] else {
        anyhow::bail!("{} fields, expected service,timestamp,context_tokens,generated_tokens", fields.len());
    };
    let timestamp = timestamp.trim_end_matches('Z').replace('T', " ");
    let time = NaiveDateTime::parse_from_str(&timestamp, "%Y-%m-%d %H:%M:%S%.f").context("timestamp")?;
    let time_unix_micros = u64::try_from(time.and_utc().timestamp_micros()).context("timestamp before 1970")?;
    let context_tokens = context_tokens.parse().context("context_tokens")?;
    let generated_tokens = generated_tokens.parse().context("generated_tokens")?;
    Ok((service, TracedRequest { time_unix_micros, context_tokens, generated_tokens }))
}

/// Sorts by time and moves a request that shares its microsecond with another by one: identity is (series, time), so
/// two points of one time would be one point.
fn make_times_unique(requests: &mut [TracedRequest]) {
    requests.sort_by_key(|request| request.time_unix_micros);
    let mut free = 0;
    for request in requests {
        request.time_unix_micros = request.time_unix_micros.max(free);
        free = request.time_unix_micros + 1;
    }
}

fn attributes(service: &str) -> Vec<KeyValue> {
    vec![
        attribute("service.name", service),
        attribute("service.namespace", "azure-llm-trace"),
        attribute("deployment.environment.name", "trace-replay"),
        attribute("driftwatt.source", SOURCE),
        attribute("driftwatt.replayed", "true"),
    ]
}

fn request(service: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics(SCOPE, attributes(service), metrics)] }
}

fn token_gauges(rows: &[TracedRequest]) -> Vec<Metric> {
    let points = |tokens: fn(&TracedRequest) -> u32| {
        rows.iter().map(|row| point(row.time_unix_micros * 1000, Value::AsInt(tokens(row).into()), &[])).collect()
    };
    vec![
        gauge("gen_ai.client.inference.operation.input_tokens", "{token}", points(|row| row.context_tokens)),
        gauge("gen_ai.client.inference.operation.output_tokens", "{token}", points(|row| row.generated_tokens)),
    ]
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;

    use super::*;

    const END: u64 = 1_763_942_400_000_000_000;

    fn data(trace: &TokenTrace) -> Vec<(String, Data)> {
        let metrics = |request: ExportMetricsServiceRequest| {
            request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics)
        };
        trace.requests().flat_map(metrics).map(|metric| (metric.name, metric.data.unwrap())).collect()
    }

    #[test]
    fn rows_keep_their_spacing_and_end_where_asked() {
        let csv = "service,timestamp,context_tokens,generated_tokens\n\
                   code,2023-11-16 18:17:03.9799600,4808,10\n\
                   code,2023-11-16 18:17:03.9799600,3180,8\n\
                   chat,2023-11-16 18:19:03.9799610,374,44\n";
        let trace = TokenTrace::parse(csv, END).unwrap();
        let end = END / 1000;
        let times = |service: &str| trace.services[service].iter().map(|row| row.time_unix_micros).collect::<Vec<_>>();
        assert_eq!(times("azure-llm-chat"), [end]);
        assert_eq!(
            times("azure-llm-code"),
            [end - 120_000_001, end - 120_000_000],
            "the second of a pair moves by 1 µs"
        );
        // The pair shares an interval: it closes with the second of them.
        assert_eq!((trace.request_count(), trace.point_count()), (4, 6 + 2));
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let error = TokenTrace::parse("header\ncode,yesterday,1,2\n", END).unwrap_err();
        assert_eq!(format!("{error:#}").split(':').next(), Some("token trace, line 2"));
        assert!(TokenTrace::parse("header\n", END).is_err());
    }

    #[test]
    fn the_shipped_trace_is_complete_in_samples_and_in_histograms() {
        let trace = TokenTrace::new(END).unwrap();
        let rows: usize = trace.services.values().map(Vec::len).sum();
        assert!(trace.services.values().all(|rows| rows.len() > 1000), "both services are there");
        let (mut samples, mut observed, mut points) = (0, 0, 0);
        for (name, data) in data(&trace) {
            match data {
                Data::Gauge(gauge) => {
                    samples += gauge.data_points.len();
                    assert!(gauge.data_points.is_sorted_by(|a, b| a.time_unix_nano < b.time_unix_nano));
                    assert!(gauge.data_points.iter().all(|point| point.time_unix_nano <= END));
                }
                Data::ExponentialHistogram(histogram) => {
                    assert_eq!(name, "driftwatt.input.tokens");
                    points += histogram.data_points.len();
                    observed += histogram.data_points.iter().map(|point| point.count as usize).sum::<usize>();
                    assert!(histogram.data_points.is_sorted_by(|a, b| a.time_unix_nano < b.time_unix_nano));
                }
                _ => panic!("unexpected kind of {name}"),
            }
        }
        assert_eq!((samples, observed), (2 * rows, rows));
        assert_eq!((samples + points) as u64, trace.point_count());
        assert_eq!(trace.requests().count() as u64, trace.request_count());
    }
}
