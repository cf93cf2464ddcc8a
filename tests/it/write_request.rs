//! Remote-write requests made by hand, and sending them as a Prometheus server does: message types of the tests' own.

use prost::Message;

use crate::{otlp::now_nanos, server::Server};

pub(crate) const V1: &str = "application/x-protobuf;proto=prometheus.WriteRequest";
pub(crate) const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// The bits of a staleness marker.
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;

/// `io.prometheus.write.v2.Request`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(string, repeated, tag = "4")]
    pub(crate) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) timeseries: Vec<TimeSeries>,
    #[prost(string, tag = "1000")]
    pub(crate) of_a_later_version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) exemplars: Vec<Exemplar>,
    #[prost(message, optional, tag = "5")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(fixed32, tag = "1000")]
    pub(crate) of_a_later_version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
    #[prost(int64, tag = "3")]
    pub(crate) start_timestamp: i64,
    #[prost(bytes, tag = "1000")]
    pub(crate) of_a_later_version: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exemplar {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(crate) metric_type: i32,
    #[prost(uint32, tag = "3")]
    pub(crate) help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(uint64, tag = "1")]
    pub(crate) count_int: u64,
    /// Of a float histogram, instead of `count_int`; the default is not sent.
    #[prost(double, tag = "2")]
    pub(crate) count_float: f64,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(uint64, tag = "6")]
    pub(crate) zero_count_int: u64,
    #[prost(double, tag = "7")]
    pub(crate) zero_count_float: f64,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(crate) start_timestamp: i64,
}

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<FirstTimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FirstTimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<FirstExemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FirstExemplar {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(crate) metric_type: i32,
    #[prost(string, tag = "2")]
    pub(crate) metric_family_name: String,
    #[prost(string, tag = "4")]
    pub(crate) help: String,
    #[prost(string, tag = "5")]
    pub(crate) unit: String,
}

pub(crate) fn now_ms() -> i64 {
    (now_nanos() / 1_000_000) as i64
}

pub(crate) fn sample(value: f64, timestamp: i64) -> Sample {
    Sample { value, timestamp, ..Sample::default() }
}

impl Request {
    /// A request whose symbols begin as they must.
    pub(crate) fn new() -> Self {
        Self { symbols: vec![String::new()], ..Self::default() }
    }

    pub(crate) fn symbol(&mut self, text: &str) -> u32 {
        let known = self.symbols.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u32
    }

    pub(crate) fn add(&mut self, labels: &[(&str, &str)], series: TimeSeries) -> &mut Self {
        let labels_refs = labels.iter().flat_map(|(name, value)| [self.symbol(name), self.symbol(value)]).collect();
        self.timeseries.push(TimeSeries { labels_refs, ..series });
        self
    }

    /// Adds a series with one sample of now.
    pub(crate) fn add_sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.add(labels, TimeSeries { samples: vec![sample(value, now_ms())], ..TimeSeries::default() })
    }
}

pub(crate) fn compressed(message: &impl Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).unwrap()
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Samples, histograms and exemplars written, where the headers say so.
    pub(crate) written: Option<[u64; 3]>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

/// Posts a body with these headers, and no others that matter.
pub(crate) async fn post(server: &Server, body: Vec<u8>, headers: &[(&str, &str)]) -> Answer {
    let mut post = reqwest::Client::new().post(format!("http://{}/api/v1/write", server.http)).body(body);
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let response = post.send().await.unwrap();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
    let count = |what: &str| header(&format!("x-prometheus-remote-write-{what}-written"))?.parse().ok();
    let counts = [count("samples"), count("histograms"), count("exemplars")];
    let written = match counts {
        [Some(samples), Some(histograms), Some(exemplars)] => Some([samples, histograms, exemplars]),
        [None, None, None] => None,
        some => panic!("only some of the headers: {some:?}"),
    };
    let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
    Answer { status, written, retry_after, body: response.text().await.unwrap() }
}

/// Sends a request of 2.0 as a stock sender does.
pub(crate) async fn write(server: &Server, request: &Request) -> Answer {
    let version = ("x-prometheus-remote-write-version", "2.0.0");
    post(server, compressed(request), &[("content-type", V2), ("content-encoding", "snappy"), version]).await
}

/// Sends a request of 1.0 as a stock sender does.
pub(crate) async fn write_first(server: &Server, request: &WriteRequest) -> Answer {
    let version = ("x-prometheus-remote-write-version", "0.1.0");
    let content_type = ("content-type", "application/x-protobuf");
    post(server, compressed(request), &[content_type, ("content-encoding", "snappy"), version]).await
}
