//! The lines of the picture: latency, and the three series that tell most.

use super::DiagnosisReport;
use crate::diagnosis::{
    minute_series::MinuteSeries,
    sentence::EvidenceSubject,
    service_window::{Role, ServiceWindow, SignalKind},
    system_rank::{MOVED_SCORE_MIN, RankedSignal},
};

/// Series beside latency.
const TELLING_MAX: usize = 3;

/// Some lines over the minutes of the window, in one unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) unit: &'static str,
    /// What shows the points; none of a mean over machines.
    pub(super) subject: Option<EvidenceSubject>,
    /// Name and one value a minute.
    pub(super) lines: Vec<(String, Vec<Option<f64>>)>,
}

/// Latency first, then what tells most: inputs whose part is at least a tenth of the change, signals that moved, and where
/// neither did how busy the machines were.
pub(super) fn lines(report: &DiagnosisReport) -> Vec<Lines> {
    let window = &report.reading.window;
    let series = MinuteSeries::new(window, None);
    let known = |values: Vec<f64>| values.into_iter().map(|log| log.is_finite().then(|| log.exp())).collect::<Vec<_>>();
    let middle = if window.is_aggregated() && window.buckets.is_none() { "mean" } else { "median" };
    let mut lines = vec![(middle.to_owned(), known(series.log_p50))];
    let p95 = known(series.log_p95);
    if p95.iter().any(Option::is_some) {
        lines.push(("p95".to_owned(), p95));
    }
    let mut all =
        vec![Lines { title: "Latency".to_owned(), unit: "ms", subject: Some(EvidenceSubject::Latency), lines }];
    let mut telling = inputs(report);
    telling.extend(signals(report));
    telling.truncate(TELLING_MAX);
    all.extend(telling);
    all
}

fn inputs(report: &DiagnosisReport) -> Vec<Lines> {
    let Some(comparison) = &report.diagnosis.comparison else { return Vec::new() };
    let change = (comparison.split.after_ms - comparison.split.before_ms).abs();
    let telling = comparison.features.iter().filter(|feature| feature.part_ms.abs() >= 0.1 * change);
    let line = |role: Role| {
        let values = input_means(&report.reading.window, role)?;
        let name = role.as_str().to_owned();
        let (title, subject) = (format!("Mean {name} of a request"), Some(EvidenceSubject::Input(role)));
        Some(Lines { title, unit: "", subject, lines: vec![(name, values)] })
    };
    telling.take(2).filter_map(|feature| line(feature.role)).collect()
}

/// Mean of an input by minute.
fn input_means(window: &ServiceWindow, role: Role) -> Option<Vec<Option<f64>>> {
    let values = window.feature(role)?;
    let mut sums = vec![(0.0, 0.0); window.minute_count];
    for (row, &minute) in window.minutes.iter().enumerate().filter(|(row, _)| values[*row].is_finite()) {
        let requests = window.weight(row) as f64;
        let (sum, count) = &mut sums[minute as usize];
        *sum += f64::from(values[row]) * requests;
        *count += requests;
    }
    Some(sums.into_iter().map(|(sum, count)| (count > 0.0).then(|| sum / count)).collect())
}

/// Signals that moved, then utilisation, each kind over all of its containers.
fn signals(report: &DiagnosisReport) -> Vec<Lines> {
    let ranked: &[RankedSignal] = report.diagnosis.comparison.as_ref().map_or(&[], |comparison| &comparison.signals);
    let moved = ranked.iter().filter(|signal| signal.score >= MOVED_SCORE_MIN).map(|signal| signal.kind);
    let usual = [SignalKind::GpuUtilisation, SignalKind::GpuClock, SignalKind::CpuUtilisation, SignalKind::QueueLength];
    let mut kinds: Vec<SignalKind> = Vec::new();
    for kind in moved.chain(usual) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.into_iter().filter_map(|kind| of_kind(report, kind)).collect()
}

fn of_kind(report: &DiagnosisReport, kind: SignalKind) -> Option<Lines> {
    let window = &report.reading.window;
    let of_kind: Vec<&[f32]> =
        window.signals.iter().filter(|signal| signal.kind == kind).map(|signal| signal.values.as_slice()).collect();
    let mean = |minute: usize| {
        let known = || of_kind.iter().map(|values| values[minute]).filter(|value| value.is_finite());
        let count = known().count();
        (count > 0).then(|| f64::from(known().sum::<f32>()) / count as f64)
    };
    let values: Vec<Option<f64>> = (0..window.minute_count).map(mean).collect();
    values.iter().any(Option::is_some).then(|| {
        let many = if of_kind.len() > 1 { format!(", mean of {}", of_kind.len()) } else { String::new() };
        let name = kind.as_str().to_owned();
        Lines { title: format!("{name}{many}"), unit: kind.unit(), subject: None, lines: vec![(name, values)] }
    })
}
