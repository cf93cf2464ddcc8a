//! Which metrics say how long requests took and how large they were.

use std::collections::BTreeMap;

use super::{
    Desk,
    series::{self, Series},
};
use crate::{diagnosis::service_window::Role, error::Result};

/// Roles of latency, the closest to the server first.
pub(crate) const LATENCIES: [&str; 3] = ["latency.e2e", "latency.client", "latency.inference"];
/// Roles of what requests ask and how busy the server was: view, role, meaning, factor to its unit.
const INPUTS: [(&str, &str, Role, f64); 7] = [
    ("inputs", "input.tokens", Role::PromptTokens, 1.0),
    ("inputs", "output.tokens", Role::OutputTokens, 1.0),
    ("inputs", "input.pixels", Role::Megapixels, 1e-6),
    ("inputs", "input.images", Role::ImageCount, 1.0),
    ("inputs", "input.bytes", Role::Kilobytes, 1e-3),
    ("latency", "batch.size", Role::BatchSize, 1.0),
    ("latency", "queue.time", Role::QueueMs, 1e3),
];

/// View, role and factor of an input, for whoever wants to look at its points.
pub(in crate::diagnosis) fn source_of(input: Role) -> Option<(&'static str, &'static str, f64)> {
    INPUTS.iter().find(|(_, _, role, _)| *role == input).map(|&(view, name, _, factor)| (view, name, factor))
}

/// A metric that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    pub(super) view: &'static str,
    pub(super) name: &'static str,
    pub(super) role: Role,
    pub(super) metric: String,
    pub(super) factor: f64,
    pub(super) is_counted: bool,
}

/// The metrics that are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Choice {
    /// Role and metric of the latency.
    pub(super) latency: Option<Latency>,
    pub(super) inputs: Vec<Chosen>,
}

/// The metric of the latency.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Latency {
    pub(super) role: &'static str,
    pub(super) metric: String,
    pub(super) is_counted: bool,
}

/// All series of the subject that may be chosen from.
pub(super) async fn series(desk: &mut Desk<'_>) -> Result<Vec<Series>> {
    let whose = desk.whose.clone();
    let of_view =
        |view: &str| INPUTS.iter().filter(move |input| input.0 == view).map(|input| input.1).collect::<Vec<_>>();
    let latencies: Vec<&str> = LATENCIES.into_iter().chain(of_view("latency")).collect();
    let mut found = series::read(desk, "latency", &latencies, &whose).await?;
    found.extend(series::read(desk, "inputs", &of_view("inputs"), &whose).await?);
    Ok(found)
}

/// Of every role the metric with the most requests. Where latency and an input both come as a point per request, these; else
/// what is counted.
pub(super) fn choose(series: &[Series]) -> Choice {
    let has =
        |role: &str, counted: bool| series.iter().any(|series| series.role == role && series.is_counted == counted);
    let Some(role) = LATENCIES.into_iter().find(|role| series.iter().any(|series| series.role == *role)) else {
        return Choice::default();
    };
    let single = has(role, false) && INPUTS.iter().any(|input| !input.2.is_load() && has(input.1, false));
    let Some((metric, is_counted)) = largest(series, role, if single { Some(false) } else { None }) else {
        return Choice::default();
    };
    let inputs = INPUTS.iter().filter_map(|&(view, name, role, factor)| {
        let (metric, is_counted) = largest(series, name, if single { Some(false) } else { None })?;
        Some(Chosen { view, name, role, metric, factor, is_counted })
    });
    let mut inputs: Vec<Chosen> = inputs.collect();
    // Bytes of a body stand in for the size only where nothing says more.
    if inputs.iter().any(|input| !input.role.is_load() && input.role != Role::Kilobytes) {
        inputs.retain(|input| input.role != Role::Kilobytes);
    }
    Choice { latency: Some(Latency { role, metric, is_counted }), inputs }
}

/// The metric of `role` with the most requests, and whether its points are counted; counted ones first.
fn largest(series: &[Series], role: &str, counted: Option<bool>) -> Option<(String, bool)> {
    let mut sizes: BTreeMap<(bool, &str), f64> = BTreeMap::new();
    for series in series.iter().filter(|series| series.role == role) {
        if counted.is_none_or(|counted| counted == series.is_counted) {
            let size = if series.is_counted { series.requests } else { series.points as f64 };
            *sizes.entry((series.is_counted, &series.metric)).or_default() += size;
        }
    }
    let largest = sizes
        .into_iter()
        .max_by(|a, b| (a.0.0, a.1).partial_cmp(&(b.0.0, b.1)).unwrap_or(std::cmp::Ordering::Equal))?;
    Some((largest.0.1.to_owned(), largest.0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(role: &str, metric: &str, is_counted: bool, requests: f64) -> Series {
        Series {
            id: 1,
            role: role.to_owned(),
            metric: metric.to_owned(),
            simulated: false,
            is_counted,
            points: requests as u64,
            requests: if is_counted { requests } else { 0.0 },
            times_us: (0, 1),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn one_metric_is_read_of_each_role_and_the_kinds_fit_together() {
        let mut series = vec![
            one("latency.e2e", "http.server.request.duration", true, 500.0),
            one("latency.e2e", "vllm:e2e_request_latency_seconds", true, 400.0),
            one("input.tokens", "tokens.single", false, 900.0),
            one("input.tokens", "tokens.histogram", true, 300.0),
            one("input.bytes", "bytes", true, 300.0),
        ];
        let choice = choose(&series);
        assert_eq!(choice.latency.unwrap().metric, "http.server.request.duration");
        let metrics: Vec<_> = choice.inputs.iter().map(|input| input.metric.as_str()).collect();
        assert_eq!(metrics, ["tokens.histogram"], "bytes are left out beside tokens, gauges beside counted latency");
        series.push(one("latency.e2e", "latency.single", false, 900.0));
        let choice = choose(&series);
        assert_eq!(choice.latency.unwrap().metric, "latency.single");
        assert_eq!(choice.inputs[0].metric, "tokens.single");
        assert_eq!(choose(&series[2..4]), Choice::default(), "inputs alone are nothing");
    }
}
