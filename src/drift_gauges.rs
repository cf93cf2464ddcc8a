//! Drift scores as metrics in our own store, so that PromQL, alerts and dashboards see them beside what they score.

use driftwatt_analyze::drift::{DriftRun, DriftScore, decision::Status};
use driftwatt_ingest::{Ingest, Outcome};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, NumberDataPoint, number_data_point::Value},
};
use prost::Message as _;

use crate::otlp::{attribute, gauge, point, resource_metrics};

/// Stores the scores of `run` as points at the end of its window: `driftwatt.drift.psi`, `.psi_excess`, `.noise_floor`,
/// `.q_value`, `.severity` and `.alarm` (0 ok, 1 warn, 2 critical). What is not known or not judged has no point.
///
/// Points that are refused, as those of a window older than what the store accepts, are only logged: the scores are in
/// `drift_scores`.
pub(crate) async fn store(run: &DriftRun, ingest: &Ingest) {
    let mut resources = vec![];
    for simulated in [false, true] {
        let scores = run.scores.iter().chain(&run.seasonal).filter(|score| score.simulated() == simulated);
        let metrics = metrics(&scores.collect::<Vec<_>>());
        if metrics.is_empty() {
            continue;
        }
        let mut attributes = vec![attribute("service.name", "driftwatt")];
        if simulated {
            attributes.push(attribute("driftwatt.simulated", "true"));
        }
        resources.push(resource_metrics("driftwatt.drift", attributes, metrics));
    }
    if resources.is_empty() {
        return;
    }
    let request = ExportMetricsServiceRequest { resource_metrics: resources };
    match ingest.export(request.encode_to_vec().into()).await {
        Ok(outcome) if outcome.rejected_count > 0 => {
            let Outcome { rejected_count, message, .. } = outcome;
            tracing::warn!(rejected_count, reason = message, "drift scores are not all stored as metrics");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "drift scores are not stored as metrics"),
    }
}

fn metrics(scores: &[&DriftScore]) -> Vec<Metric> {
    type Read = fn(&DriftScore) -> Option<f64>;
    let names: [(&str, Read); 6] = [
        ("driftwatt.drift.psi", DriftScore::psi),
        ("driftwatt.drift.psi_excess", |score| Some(score.comparison.as_ref()?.psi_excess)),
        ("driftwatt.drift.noise_floor", |score| score.decision.noise_floor),
        ("driftwatt.drift.q_value", |score| score.q_value),
        ("driftwatt.drift.severity", |score| score.decision.severity),
        ("driftwatt.drift.alarm", alarm),
    ];
    let of = |(name, read): (&str, Read)| {
        let points: Vec<NumberDataPoint> =
            scores.iter().filter_map(|score| Some(labelled(score, read(score)?))).collect();
        (!points.is_empty()).then(|| gauge(name, "1", points))
    };
    names.into_iter().filter_map(of).collect()
}

fn alarm(score: &DriftScore) -> Option<f64> {
    match score.decision.status {
        Status::Ok => Some(0.0),
        Status::Warn => Some(1.0),
        Status::Critical => Some(2.0),
        Status::InsufficientData | Status::GateFailed => None,
    }
}

fn labelled(score: &DriftScore, value: f64) -> NumberDataPoint {
    let request = &score.request;
    let mut attributes =
        vec![attribute("feature", request.subject.label()), attribute("reference", request.reference_kind.as_str())];
    if let Some(filters) = request.filters_text() {
        attributes.push(attribute("filters", filters));
    }
    if let Some(segment) = &request.segment {
        attributes.push(attribute("segment_key", &segment.key));
        attributes.push(attribute("segment", &segment.value));
    }
    let time_unix_nano = u64::try_from(request.current.span().end_us).unwrap_or(0).saturating_mul(1_000);
    point(time_unix_nano, Value::AsDouble(value), &attributes)
}
