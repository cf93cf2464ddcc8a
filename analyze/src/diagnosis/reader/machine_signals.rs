//! What the machines of a service report, as signals by minute and container.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Desk, points,
    rows::ReadRows,
    series::{self, Series},
    signal_values::{Combined, Measure, by_minute, combine},
};
use crate::{
    diagnosis::service_window::{Dimension, Labels, Signal, SignalKind},
    error::Result,
    rows::literal,
};

/// Most names of machines in one condition.
const NAMES_MAX: usize = 500;
/// Most series of one view.
const SERIES_MAX: usize = 4_000;
/// Reasons to hold clocks down that are no fault: nothing to do, or somebody set them.
const HARMLESS: [&str; 5] =
    ["idle", "gpu_idle", "application_clocks", "applications_clocks_setting", "low_utilization"];

/// Which part of a signal a role gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Whole,
    /// The numerator of a ratio.
    Above,
    /// Its denominator.
    Below,
}

/// How a role becomes a signal.
#[derive(Debug, Clone, Copy)]
struct Rule {
    view: &'static str,
    role: &'static str,
    kind: SignalKind,
    measure: Measure,
    part: Part,
    combined: Combined,
    factor: f32,
}

const fn rule(view: &'static str, role: &'static str, kind: SignalKind, measure: Measure, combined: Combined) -> Rule {
    Rule { view, role, kind, measure, part: Part::Whole, combined, factor: 1.0 }
}

const fn part(rule: Rule, part: Part) -> Rule {
    Rule { part, combined: Combined::Sum, ..rule }
}

const RULES: [Rule; 28] = {
    use Combined::{Largest, Mean, Sum};
    use Measure::{Gain, GainedShare, Level, NewCode};
    use SignalKind as K;
    [
        rule("gpu", "gpu.utilization", K::GpuUtilisation, Level, Mean),
        rule("gpu", "gpu.memory.utilization", K::GpuMemoryUsage, Level, Mean),
        part(rule("gpu", "gpu.memory.used", K::GpuMemoryUsage, Level, Sum), Part::Above),
        part(rule("gpu", "gpu.memory.total", K::GpuMemoryUsage, Level, Sum), Part::Below),
        Rule { factor: 1e-6, ..rule("gpu", "gpu.clock.sm", K::GpuClock, Level, Mean) },
        rule("gpu", "gpu.throttle", K::GpuThrottle, Level, Largest),
        rule("gpu", "gpu.throttle.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.throttle.power.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.throttle.thermal.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.throttle.sync_boost.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.throttle.board_limit.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.throttle.reliability.time", K::GpuThrottle, GainedShare, Largest),
        rule("gpu", "gpu.xid.errors", K::XidErrors, Gain, Sum),
        rule("gpu", "gpu.xid", K::XidErrors, NewCode, Sum),
        rule("gpu", "gpu.ecc.uncorrected", K::EccErrors, Gain, Sum),
        rule("system", "cpu.utilization", K::CpuUtilisation, Level, Mean),
        rule("system", "cpu.throttled", K::CpuStarvation, Level, Mean),
        rule("system", "memory.utilization", K::MemoryUsage, Level, Mean),
        part(rule("system", "memory.used", K::MemoryUsage, Level, Sum), Part::Above),
        part(rule("system", "memory.total", K::MemoryUsage, Level, Sum), Part::Below),
        rule("system", "pressure.stall", K::CpuStarvation, Level, Mean),
        Rule { factor: 1e3, ..part(rule("system", "disk.operation.time", K::DiskLatency, Gain, Sum), Part::Above) },
        part(rule("system", "disk.operations", K::DiskLatency, Gain, Sum), Part::Below),
        part(rule("system", "network.dropped.rate", K::NetworkDrops, Level, Sum), Part::Above),
        part(rule("system", "network.packets.rate", K::NetworkDrops, Level, Sum), Part::Below),
        rule("system", "replicas.available", K::Replicas, Level, Sum),
        rule("latency", "queue.length", K::QueueLength, Level, Mean),
        rule("latency", "kv_cache.utilization", K::KvCacheUsage, Level, Mean),
    ]
};

/// View and roles of a kind, for whoever wants to look at its points.
pub(in crate::diagnosis) fn source_of(kind: SignalKind) -> Option<(&'static str, Vec<&'static str>)> {
    if let SignalKind::MemoryPressure | SignalKind::IoPressure = kind {
        return Some(("system", vec!["pressure.stall"]));
    }
    let rules = || RULES.iter().filter(|rule| rule.kind == kind);
    Some((rules().next()?.view, rules().map(|rule| rule.role).collect()))
}

/// Names of what served, and where the rows put them.
struct Machines {
    /// Machine of the rows by any of its names.
    places: HashMap<String, String>,
    /// SQL that selects what those machines report.
    whose: String,
    pods: BTreeSet<String>,
    /// What names the containers of the service, each as key and value.
    containers: BTreeSet<(&'static str, String)>,
}

/// Names of the machines, and their signals.
pub(super) async fn read(
    desk: &mut Desk<'_>,
    service: &str,
    simulated: bool,
    requests: &[Series],
    rows: &ReadRows,
) -> Result<(Vec<String>, Vec<Signal>)> {
    let machines = Machines::of(service, requests);
    if machines.places.is_empty() {
        desk.notes
            .push("requests name no machine: set host.name, k8s.node.name or k8s.pod.name on their resource".into());
    }
    for column in ["host_name", "k8s_node", "k8s_pod"] {
        let names: BTreeSet<&String> = requests.iter().filter_map(|series| series.labels.get(column)).collect();
        if names.len() > NAMES_MAX {
            desk.notes.push(format!("of {} values of {column} only {NAMES_MAX} were looked at", names.len()));
        }
    }
    let mut signals = Vec::new();
    for view in ["gpu", "system", "latency"] {
        let roles: Vec<&str> = RULES.iter().filter(|rule| rule.view == view).map(|rule| rule.role).collect();
        let replicas = format!(
            "(role = 'replicas.available' AND coalesce(attributes['k8s.deployment.name'], attributes['deployment']) = {})",
            literal(service)
        );
        let whose = match view {
            "latency" => desk.whose.clone(),
            // Containers are part of what their node uses.
            "system" => format!("({} OR {replicas}) AND (role <> 'memory.used' OR scope = 'node')", machines.whose),
            _ => machines.whose.clone(),
        };
        let mut found = series::read(desk, view, &roles, &whose).await?;
        // Simulated and real telemetry are never diagnosed together.
        let all = found.len();
        found.retain(|series| series.simulated == simulated);
        if found.len() < all {
            let kind = if simulated { "real" } else { "simulated" };
            desk.notes.push(format!("{} {kind} series in {view} are left out", all - found.len()));
        }
        let all = found.len();
        found.retain(|series| series.role != "cpu.throttled" || machines.is_own_limit(service, series));
        if found.len() < all {
            desk.notes
                .push(format!("CPU limits of {} other containers of the machines are left out", all - found.len()));
        }
        if view == "gpu" {
            found = machines.own_gpus(desk, service, found);
        }
        if found.len() > SERIES_MAX {
            desk.notes.push(format!("of {} series in {view} only {SERIES_MAX} were read", found.len()));
            found.truncate(SERIES_MAX);
        }
        let roles: BTreeSet<&str> = found.iter().map(|series| series.role.as_str()).collect();
        let roles: Vec<&str> = roles.into_iter().collect();
        let mut values: HashMap<i64, Vec<(i64, f64)>> = found.iter().map(|series| (series.id, Vec::new())).collect();
        let of_these: Vec<&Series> = found.iter().collect();
        points::read(desk, view, &roles, &whose, &of_these, |_, point| {
            if let Some(points) = values.get_mut(&point.series) {
                points.push((point.time_us, point.value));
            }
        })
        .await?;
        signals.extend(machines.signals(desk, &found, values, &rows.labels));
    }
    let names: BTreeSet<String> = machines.places.into_values().collect();
    Ok((names.into_iter().collect(), signals))
}

/// What names a container or its pod.
fn container_names(series: &Series) -> Vec<(&'static str, String)> {
    let name = |key: &'static str| Some((key, series.labels.get(key)?.clone()));
    ["container.id", "k8s.pod.uid", "k8s_pod"].into_iter().filter_map(name).collect()
}

impl Machines {
    fn of(service: &str, requests: &[Series]) -> Self {
        let mut places = HashMap::new();
        let mut conditions = vec![format!("service_name = {}", literal(service))];
        let mut pods = BTreeSet::new();
        for column in ["host_name", "k8s_node", "k8s_pod"] {
            let mut names = BTreeSet::new();
            for series in requests {
                if let (Some(name), Some(machine)) = (series.labels.get(column), series.machine()) {
                    places.insert(name.clone(), machine.to_owned());
                    names.insert(name.clone());
                }
            }
            if !names.is_empty() {
                let list: Vec<String> = names.iter().take(NAMES_MAX).map(|name| literal(name)).collect();
                conditions.push(format!("{column} IN ({})", list.join(", ")));
            }
            if column == "k8s_pod" {
                pods = names;
            }
        }
        let containers = requests.iter().flat_map(container_names).collect();
        Self { places, whose: format!("({})", conditions.join(" OR ")), pods, containers }
    }

    /// Whether the CPU limit that `series` is about is the service's: what holds a neighbour back says nothing of it.
    fn is_own_limit(&self, service: &str, series: &Series) -> bool {
        let names = container_names(series);
        series.label(&["service_name"]) == Some(service)
            || names.is_empty()
            || names.iter().any(|name| self.containers.contains(name))
    }

    /// The GPUs that worked for the service, where series say so; else all of its machines.
    fn own_gpus(&self, desk: &mut Desk<'_>, service: &str, found: Vec<Series>) -> Vec<Series> {
        let is_own = |series: &Series| {
            series.label(&["service_name"]) == Some(service)
                || series.label(&["k8s_pod"]).is_some_and(|pod| self.pods.contains(pod))
        };
        let own: BTreeSet<String> = found
            .iter()
            .filter(|series| is_own(series))
            .filter_map(|series| series.labels.get("gpu_id").cloned())
            .collect();
        if own.is_empty() {
            if !found.is_empty() {
                desk.notes.push("which GPUs of the machines served is not known: all of them are looked at".into());
            }
            return found;
        }
        found.into_iter().filter(|series| series.labels.get("gpu_id").is_some_and(|gpu| own.contains(gpu))).collect()
    }

    /// One signal of each kind and container.
    fn signals(
        &self,
        desk: &Desk<'_>,
        found: &[Series],
        mut values: HashMap<i64, Vec<(i64, f64)>>,
        labels: &[Labels],
    ) -> Vec<Signal> {
        type Key = (SignalKind, &'static str, String);
        type Parts = BTreeMap<Part, (Combined, Vec<Vec<f32>>)>;
        let mut parts: BTreeMap<Key, Parts> = BTreeMap::new();
        let mut containers: HashMap<String, Option<(Dimension, String)>> = HashMap::new();
        for series in found {
            let Some((rule, kind)) = rule_of(series) else { continue };
            let Some(points) = values.get_mut(&series.id) else { continue };
            let mut minutes = by_minute(points, rule.measure, desk.span.start_us, desk.minute_count);
            minutes.iter_mut().for_each(|value| *value *= rule.factor);
            let device = device(series, kind);
            containers.entry(device.clone()).or_insert_with(|| self.container(series, kind, labels));
            // Ratios are made of two roles, all others stand for themselves.
            let family = if rule.part == Part::Whole { rule.role } else { "ratio" };
            let of_part = parts.entry((kind, family, device)).or_default().entry(rule.part);
            of_part.or_insert_with(|| (rule.combined, Vec::new())).1.push(minutes);
        }
        let merged = parts.into_iter().filter_map(|((kind, _, device), mut parts)| {
            let mut of = |part: Part| {
                parts.remove(&part).map(|(combined, series)| combine(&series, combined, desk.minute_count))
            };
            let values = match of(Part::Whole) {
                Some(values) => values,
                None => of(Part::Above)?
                    .iter()
                    .zip(of(Part::Below)?)
                    .map(|(a, b)| if b > 0.0 { a / b } else { f32::NAN })
                    .collect(),
            };
            let container = containers.get(&device).cloned().flatten();
            values.iter().any(|value| value.is_finite()).then_some(Signal { kind, container, values })
        });
        merged.collect()
    }

    /// What the requests call the container of a series: its GPU, else its machine; none is the whole service.
    fn container(&self, series: &Series, kind: SignalKind, labels: &[Labels]) -> Option<(Dimension, String)> {
        if kind == SignalKind::Replicas {
            return None;
        }
        let known = |dimension: Dimension, value: &str| {
            labels
                .iter()
                .any(|labels| labels.dimension == dimension && labels.values.iter().any(|known| known == value))
        };
        if let Some(gpu) = series.label(&["gpu_id"]).filter(|gpu| known(Dimension::Gpu, gpu)) {
            return Some((Dimension::Gpu, gpu.to_owned()));
        }
        let names = ["k8s_pod", "k8s_node", "host_name"].into_iter().filter_map(|name| series.labels.get(name));
        let machine = names.filter_map(|name| self.places.get(name)).find(|machine| known(Dimension::Host, machine));
        machine.map(|machine| (Dimension::Host, machine.clone()))
    }
}

/// What a series is about, as text.
fn device(series: &Series, kind: SignalKind) -> String {
    if kind == SignalKind::Replicas {
        return "replicas".to_owned();
    }
    let machine = series.machine().unwrap_or("unknown");
    series.label(&["gpu_id"]).map_or_else(|| machine.to_owned(), |gpu| format!("{gpu} of {machine}"))
}

/// The rule of a series; none where its attributes say that it is about something else.
fn rule_of(series: &Series) -> Option<(&'static Rule, SignalKind)> {
    let rule = RULES.iter().find(|rule| rule.role == series.role)?;
    match rule.role {
        "pressure.stall" => {
            let all = series.label(&["driftwatt.pressure.share", "share"]) == Some("full");
            let kind = match series.label(&["driftwatt.pressure.resource", "resource"])? {
                "cpu" => SignalKind::CpuStarvation,
                "memory" => SignalKind::MemoryPressure,
                "io" => SignalKind::IoPressure,
                _ => return None,
            };
            (!all).then_some((rule, kind))
        }
        "gpu.throttle" | "gpu.throttle.time" => {
            let reason = series.label(&["driftwatt.gpu.throttle.reason", "reason", "gpu.clock.violation"]);
            let harmless = reason.is_some_and(|reason| HARMLESS.contains(&reason)) || series.metric.ends_with("_idle");
            (!harmless).then_some((rule, rule.kind))
        }
        _ => Some((rule, rule.kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(role: &str, labels: &[(&str, &str)]) -> Series {
        Series {
            id: 1,
            role: role.to_owned(),
            metric: role.to_owned(),
            simulated: false,
            is_counted: false,
            points: 1,
            requests: 0.0,
            times_us: (0, 0),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_neighbour_at_its_own_limit_says_nothing() {
        let request = series("latency.e2e", &[("host_name", "h"), ("container.id", "a")]);
        let machines = Machines::of("chat", &[request]);
        let limit = |labels: &[(&str, &str)]| machines.is_own_limit("chat", &series("cpu.throttled", labels));
        assert!(limit(&[("host_name", "h"), ("container.id", "a")]) && limit(&[("host_name", "h")]));
        assert!(!limit(&[("host_name", "h"), ("container.id", "b")]));
        assert!(limit(&[("container.id", "b"), ("service_name", "chat")]));
    }

    #[test]
    fn pressure_is_told_apart_by_what_is_waited_for_and_idle_clocks_are_no_fault() {
        let kind = |role: &str, labels: &[(&str, &str)]| rule_of(&series(role, labels)).map(|(_, kind)| kind);
        let pressure =
            |resource, share| [("driftwatt.pressure.resource", resource), ("driftwatt.pressure.share", share)];
        assert_eq!(kind("pressure.stall", &pressure("memory", "some")), Some(SignalKind::MemoryPressure));
        assert_eq!(kind("pressure.stall", &pressure("io", "some")), Some(SignalKind::IoPressure));
        assert_eq!(kind("pressure.stall", &pressure("cpu", "full")), None);
        assert_eq!(kind("gpu.throttle", &[("driftwatt.gpu.throttle.reason", "gpu_idle")]), None);
        assert_eq!(
            kind("gpu.throttle", &[("driftwatt.gpu.throttle.reason", "hw_thermal")]),
            Some(SignalKind::GpuThrottle)
        );
    }

    #[test]
    fn what_a_node_reports_is_of_the_requests_of_its_pods() {
        let request = series("latency.e2e", &[("host_name", "pod-1"), ("k8s_node", "n1"), ("k8s_pod", "pod-1")]);
        let machines = Machines::of("chat", &[request]);
        let labels =
            [Labels { dimension: Dimension::Host, name: "k8s_node".into(), values: vec!["n1".into()], codes: vec![] }];
        let container = |labels_of: &[(&str, &str)]| {
            machines.container(&series("x", labels_of), SignalKind::CpuUtilisation, &labels)
        };
        let node = Some((Dimension::Host, "n1".to_owned()));
        assert_eq!(container(&[("host_name", "n1")]), node);
        assert_eq!(container(&[("k8s_pod", "pod-1")]), node);
        assert_eq!(container(&[("host_name", "other")]), None);
        assert!(machines.whose.contains("k8s_pod IN ('pod-1')"), "{}", machines.whose);
    }

    #[test]
    fn every_kind_that_is_read_can_be_shown() {
        for rule in RULES {
            assert!(source_of(rule.kind).is_some_and(|(view, roles)| view == rule.view && roles.contains(&rule.role)));
        }
        assert_eq!(source_of(SignalKind::NetworkRetransmits), None);
    }
}
