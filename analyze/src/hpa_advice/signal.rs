//! Which metrics to scale on, and how each follows the load.

use super::{AdviceRules, Examined, Warning};
use crate::autoscaler::{HpaSpec, Metric, Resource, Signal};

/// Metrics with the signals that replay them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Choice {
    pub(super) metrics: Vec<Metric>,
    pub(super) signals: Vec<Signal>,
    pub(super) warnings: Vec<Warning>,
}

impl Choice {
    fn add(&mut self, metric: Metric, signal: Signal) {
        self.metrics.push(metric);
        self.signals.push(signal);
    }

    /// Targets times `factor`: a smaller one scales out earlier.
    pub(super) fn tightened(&self, factor: f64) -> Vec<Metric> {
        let scaled = |milli: i64| ((milli as f64 * factor).round() as i64).max(1);
        let tighten = |metric: &Metric| match metric.clone() {
            // Memory does not follow the load: a lower target of it would only hold the maximum.
            Metric::Utilization { resource: Resource::Cpu, percent } => Metric::Utilization {
                resource: Resource::Cpu,
                percent: ((f64::from(percent) * factor).round() as u32).max(1),
            },
            Metric::Pods { name, per_pod_milli } => Metric::Pods { name, per_pod_milli: scaled(per_pod_milli) },
            other => other,
        };
        self.metrics.iter().map(tighten).collect()
    }
}

/// Queue and KV cache before GPU duty before CPU and memory: the first two are what users of a model wait for.
pub(super) fn choose(examined: &Examined<'_>, rules: &AdviceRules) -> Choice {
    let mut choice = Choice::default();
    let measured = &examined.signals;
    if let Some(queue) = &measured.queue {
        let signal = queue_signal(examined, rules);
        let waiting = rules.queue_wait_s / rules.replay.service_time_s * f64::from(examined.gpus_per_replica());
        let per_pod_milli = (waiting.round().max(1.0) * 1_000.0) as i64;
        choice.add(Metric::Pods { name: queue.metric.clone(), per_pod_milli }, signal);
    }
    let cache = measured.kv_cache.as_ref().and_then(|cache| Some((cache, cache_signal(examined)?)));
    if let Some((cache, (signal, at_full))) = cache {
        // A cache that is not full at full load would never reach its target: then the load itself is targeted.
        let target = rules.kv_cache_share.min(at_full * rules.replay.usable_share);
        let per_pod_milli = ((target * 1_000.0).round() as i64).max(1);
        choice.add(Metric::Pods { name: cache.metric.clone(), per_pod_milli }, signal);
    } else if let Some(duty) = &measured.gpu_duty {
        let per_pod_milli = i64::from(rules.duty_percent) * 1_000;
        choice.add(Metric::Pods { name: duty.metric.clone(), per_pod_milli }, duty_signal());
        if choice.metrics.len() == 1 {
            choice.warnings.push(Warning::DutySaturates);
        }
    }
    if examined.serves_llm && measured.queue.is_none() && measured.kv_cache.is_none() {
        choice.warnings.push(Warning::PreferQueueOrCache);
    }
    match choice.metrics.len() {
        0 => add_resources(&mut choice, examined, rules),
        1 if measured.queue.is_some() => choice.warnings.push(Warning::QueueAlone),
        _ => {}
    }
    choice
}

/// The fallback: CPU with memory beside it.
fn add_resources(choice: &mut Choice, examined: &Examined<'_>, rules: &AdviceRules) {
    match (examined.requests.cpu_cores, cpu_signal(examined)) {
        (None, _) => choice.warnings.push(Warning::CpuWithoutRequests),
        (Some(_), None) => choice.warnings.push(Warning::CpuUnmeasured),
        (Some(_), Some(signal)) => {
            choice.add(Metric::Utilization { resource: Resource::Cpu, percent: rules.cpu_percent }, signal);
            if examined.gpus_per_replica() > 0 {
                choice.warnings.push(Warning::CpuForGpuWork);
            }
        }
    }
    let Some(percent) = memory_percent(examined) else { return };
    if choice.metrics.is_empty() {
        return;
    }
    if percent >= f64::from(rules.memory_percent) * (1.0 - rules.settings.tolerance) {
        choice.warnings.push(Warning::MemoryOverTarget(percent.round() as u32));
    } else {
        choice.warnings.push(Warning::MemoryRarelyScalesDown);
        let metric = Metric::Utilization { resource: Resource::Memory, percent: rules.memory_percent };
        choice.add(metric, Signal::Constant(percent));
    }
}

/// Signals for the metrics of the autoscaler that is there, with warnings about it.
///
/// # Errors
/// The name of a metric that is not measured.
pub(super) fn of_existing(
    spec: &HpaSpec,
    examined: &Examined<'_>,
    rules: &AdviceRules,
) -> (Result<Vec<Signal>, String>, Vec<Warning>) {
    let mut warnings = Vec::new();
    let measured = &examined.signals;
    let mut signals = Vec::new();
    for metric in &spec.metrics {
        let is = |known: &Option<super::Measured>| known.as_ref().is_some_and(|known| known.metric == metric.name());
        let signal = match metric {
            Metric::Utilization { resource: Resource::Cpu, .. } => {
                if examined.requests.cpu_cores.is_none() {
                    warnings.push(Warning::CpuWithoutRequests);
                }
                cpu_signal(examined)
            }
            Metric::Utilization { resource: Resource::Memory, .. } => {
                warnings.push(Warning::MemoryRarelyScalesDown);
                memory_percent(examined).map(Signal::Constant)
            }
            Metric::ResourceAverage { .. } | Metric::ExternalValue { .. } => None,
            _ if is(&measured.queue) => Some(queue_signal(examined, rules)),
            _ if is(&measured.kv_cache) => cache_signal(examined).map(|(signal, _)| signal),
            _ if is(&measured.gpu_duty) => Some(duty_signal()),
            _ => None,
        };
        let Some(signal) = signal else { return (Err(metric.name().to_owned()), warnings) };
        signals.push(signal);
    }
    (Ok(signals), warnings)
}

fn queue_signal(examined: &Examined<'_>, rules: &AdviceRules) -> Signal {
    Signal::Queue { gpus_per_replica: examined.gpus_per_replica(), service_time_s: rules.replay.service_time_s }
}

/// Duty is what demand was measured with, so a full replica shows 100 %.
fn duty_signal() -> Signal {
    Signal::Proportional { at_full: 100.0, cap: Some(100.0) }
}

/// The share of the cache in use at a load of 1, from the means of both.
fn cache_signal(examined: &Examined<'_>) -> Option<(Signal, f64)> {
    let mean = examined.signals.kv_cache.as_ref()?.mean;
    let at_full = (mean / positive(examined.demand.mean_share())?).min(1.0);
    (at_full > 0.0).then_some((Signal::Proportional { at_full, cap: Some(1.0) }, at_full))
}

fn cpu_signal(examined: &Examined<'_>) -> Option<Signal> {
    let percent = examined.signals.cpu_cores_mean? / positive(examined.requests.cpu_cores)? * 100.0;
    Some(Signal::Proportional { at_full: percent / positive(examined.demand.mean_share())?, cap: None })
}

fn memory_percent(examined: &Examined<'_>) -> Option<f64> {
    Some(examined.signals.memory_bytes_mean? / positive(examined.requests.memory_bytes)? * 100.0)
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0)
}
