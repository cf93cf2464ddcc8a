//! Labels of lines of the bill, and the dimensions they make.

use serde::Serialize;

use crate::{
    allocation::{Labels, Line, LineKind},
    gpu_minutes::{Gpu, Holder},
};

/// Holder of what was not measured.
pub(super) const NO_TELEMETRY: &str = "(no telemetry)";
/// Holder of work that nobody names.
pub(super) const UNNAMED: &str = "(unnamed work)";
/// Namespaces whose workloads serve all others.
const SHARED_NAMESPACES: [&str; 1] = ["kube-system"];

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Everything.
    Fleet,
    /// Why it is paid: workload, shared, idle, no telemetry, overhead.
    Part,
    /// A team or owner.
    Team,
    /// A Kubernetes namespace.
    Namespace,
    /// A service by name.
    Service,
    /// A model with its version.
    ModelVersion,
    /// A training job by its key.
    Job,
    /// A host by name.
    Host,
    /// A model of GPU.
    GpuModel,
    /// A GPU by UUID, or by host and number.
    Gpu,
}

impl Dimension {
    /// All, in the order of the report.
    pub const ALL: [Self; 10] = [
        Self::Fleet,
        Self::Part,
        Self::Team,
        Self::Namespace,
        Self::Service,
        Self::ModelVersion,
        Self::Job,
        Self::Host,
        Self::GpuModel,
        Self::Gpu,
    ];

    /// Its name, which is also the label of lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Part => "part",
            Self::Team => "team",
            Self::Namespace => "namespace",
            Self::Service => "service",
            Self::ModelVersion => "model_version",
            Self::Job => "job",
            Self::Host => "host",
            Self::GpuModel => "gpu_model",
            Self::Gpu => "gpu",
        }
    }

    /// The value of what has `labels` and is paid as `part`; none where it has no such label.
    pub(super) fn value<'a>(self, labels: &'a Labels, part: &'a str) -> Option<&'a str> {
        match self {
            Self::Fleet => Some("all"),
            Self::Part => Some(part),
            label => labels.get(label.as_str()).map(String::as_str),
        }
    }

    /// Whether it says whose the work is, so that requests and tokens have it as well.
    pub(super) fn is_of_work(self) -> bool {
        matches!(self, Self::Fleet | Self::Team | Self::Namespace | Self::Service | Self::ModelVersion)
    }
}

fn put(labels: &mut Labels, name: &str, value: Option<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        labels.insert(name.to_owned(), value);
    }
}

/// Labels of who holds something. A version has its model before it: a version alone names nothing.
pub(super) fn of_holder(
    service: Option<String>,
    team: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    model: Option<String>,
    version: Option<String>,
) -> Labels {
    let mut labels = Labels::new();
    let both = match (&model, version) {
        (Some(model), Some(version)) => Some(format!("{model} {version}")),
        (Some(model), None) => Some(model.clone()),
        (None, version) => version,
    };
    put(&mut labels, "model_version", both);
    for (name, value) in
        [("service", service), ("team", team), ("namespace", namespace), ("pod", pod), ("model", model)]
    {
        put(&mut labels, name, value);
    }
    labels
}

/// The same of one that the telemetry of GPUs names.
pub(super) fn of(holder: &Holder) -> Labels {
    let Holder { service, team, namespace, pod, model, model_version, job } = holder.clone();
    let mut labels = of_holder(service, team, namespace, pod, model, model_version);
    put(&mut labels, "job", job);
    labels
}

/// Labels of a card.
pub(super) fn of_card(gpu: &Gpu, asset: &str, region: Option<&str>) -> Labels {
    let mut labels = of_host(&gpu.host, region);
    put(&mut labels, "gpu_model", gpu.model.clone());
    put(&mut labels, "gpu", Some(asset.to_owned()));
    labels
}

/// Labels of what belongs to a host.
pub(super) fn of_host(host: &str, region: Option<&str>) -> Labels {
    let mut labels = Labels::new();
    put(&mut labels, "host", Some(host.to_owned()));
    put(&mut labels, "region", region.map(str::to_owned));
    labels
}

/// Whether all others use what runs in `namespace`.
pub(super) fn is_shared(namespace: Option<&str>) -> bool {
    namespace.is_some_and(|namespace| SHARED_NAMESPACES.contains(&namespace))
}

/// A name for people: the pod, or else what is known.
pub(super) fn name(holder: &Holder) -> String {
    let pod = holder.pod.as_ref().map(|pod| match &holder.namespace {
        Some(namespace) => format!("{namespace}/{pod}"),
        None => pod.clone(),
    });
    let known = [&holder.service, &holder.team, &holder.namespace, &holder.job].into_iter().flatten().cloned();
    // Without a pod all labels are needed to tell two apart.
    let who = pod.or_else(|| known.reduce(|all, label| format!("{all} · {label}")));
    let what = [&holder.model, &holder.model_version].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    match (who, what.is_empty()) {
        (Some(who), true) => who,
        (Some(who), false) => format!("{who} ({what})"),
        (None, _) => what,
    }
}

/// Why a line is paid.
pub(super) fn part(line: &Line) -> &'static str {
    match line.kind {
        LineKind::Workload if line.holder.as_deref() == Some(NO_TELEMETRY) => NO_TELEMETRY,
        LineKind::Workload if line.holder.as_deref() == Some(UNNAMED) => UNNAMED,
        kind => kind.as_str(),
    }
}
