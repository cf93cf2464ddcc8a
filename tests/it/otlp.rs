//! OTLP requests made by hand, and sending them over the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point},
};
use prost::Message as _;

use crate::server::Server;

pub(crate) fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

pub(crate) fn label(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

pub(crate) fn point(time_unix_nano: u64, value: f64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        time_unix_nano,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

pub(crate) fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    Metric { name: name.to_owned(), data: Some(metric::Data::Gauge(Gauge { data_points })), ..Metric::default() }
}

pub(crate) fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}

/// Posts a body as protobuf; the status and the bytes of the answer, or the transport's failure.
pub(crate) async fn post(
    client: &reqwest::Client,
    address: &str,
    body: Vec<u8>,
    headers: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let mut post = client.post(format!("http://{address}/v1/metrics")).body(body);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        post = post.header("content-type", "application/x-protobuf");
    }
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let response = post.send().await?;
    Ok((response.status().as_u16(), response.bytes().await?.to_vec()))
}

/// Sends metrics that must be taken; how many points were refused, and why.
pub(crate) async fn export(server: &Server, metrics: Vec<Metric>) -> (i64, String) {
    let body = request(metrics).encode_to_vec();
    let (status, answer) = post(&reqwest::Client::new(), &server.otlp_http, body, &[]).await.unwrap();
    assert_eq!(status, 200, "{}\n{}", String::from_utf8_lossy(&answer), server.log());
    let partial = ExportMetricsServiceResponse::decode(answer.as_slice()).unwrap().partial_success;
    partial.map_or((0, String::new()), |partial| (partial.rejected_data_points, partial.error_message))
}
