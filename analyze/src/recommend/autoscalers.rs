//! The autoscalers that there are: whose replicas they set, between which bounds, by which metrics.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use crate::{
    autoscaler::{HpaSpec, Metric, Resource},
    error::Result,
    rows::{Rows, SIMULATED},
    window::Window,
};

/// A `HorizontalPodAutoscaler` as telemetry tells of it last; none is what is not told.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Autoscaler {
    /// Whether the data comes from a generator.
    #[serde(skip)]
    pub simulated: bool,
    /// Namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The workload that it scales.
    pub scales: Option<String>,
    /// `minReplicas`.
    pub min_replicas: Option<u32>,
    /// `maxReplicas`.
    pub max_replicas: Option<u32>,
    /// Replicas that there are.
    pub current_replicas: Option<u32>,
    /// Replicas that it wants.
    pub desired_replicas: Option<u32>,
    /// Targets of CPU and memory, percent of the requests.
    pub percent: [Option<u32>; 2],
    /// Targets of other metrics, by name, as told.
    pub others: BTreeMap<String, f64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Autoscalers {
    all: Vec<Autoscaler>,
    pub(super) queries: Vec<String>,
}

/// By simulated or not, namespace and name.
type ByName = BTreeMap<(bool, Option<String>, String), Autoscaler>;

const NAME: &str = "coalesce(attributes['horizontalpodautoscaler'], attributes['k8s.hpa.name'])";

impl Autoscalers {
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let mut found = Self::default();
        let mut by_name = ByName::new();
        found.read_scaled(ctx, window, &mut by_name).await?;
        if !by_name.is_empty() {
            found.read_values(ctx, window, &mut by_name).await?;
        }
        found.all = by_name.into_values().collect();
        Ok(found)
    }

    async fn rows(&mut self, ctx: &SessionContext, query: String) -> Result<Rows> {
        let rows = Rows::query(ctx, &query).await?;
        self.queries.push(query);
        Ok(rows)
    }

    /// That they are there, and what they scale.
    async fn read_scaled(&mut self, ctx: &SessionContext, window: Window, by_name: &mut ByName) -> Result<()> {
        let query = format!(
            "SELECT {SIMULATED} AS simulated, k8s_namespace AS namespace, {NAME} AS hpa, \
             max(coalesce(attributes['scaletargetref_name'], attributes['k8s.hpa.scaletargetref.name'])) AS scales \
             FROM raw.series WHERE {NAME} IS NOT NULL AND {} GROUP BY 1, 2, 3",
            window.series_condition()
        );
        let rows = self.rows(ctx, query).await?;
        let (simulated, namespaces) = (rows.flags("simulated")?, rows.texts("namespace")?);
        let (names, scales) = (rows.texts("hpa")?, rows.texts("scales")?);
        for row in 0..rows.len() {
            let Some(name) = names[row].clone() else { continue };
            let (simulated, namespace) = (simulated[row], namespaces[row].clone());
            let found = Autoscaler {
                simulated,
                namespace: namespace.clone(),
                name: name.clone(),
                scales: scales[row].clone(),
                ..Autoscaler::default()
            };
            by_name.insert((simulated, namespace, name), found);
        }
        Ok(())
    }

    /// Bounds, replicas and targets, each as it was told last.
    async fn read_values(&mut self, ctx: &SessionContext, window: Window, by_name: &mut ByName) -> Result<()> {
        let query = format!(
            "SELECT {SIMULATED} AS simulated, k8s_namespace AS namespace, {NAME} AS hpa, role, \
             coalesce(attributes['metric_name'], metric) AS target, last_value(value ORDER BY time) AS value FROM system \
             WHERE role IN ('replicas.min', 'replicas.max', 'replicas.current', 'replicas.desired', \
             'replicas.target_cpu_utilization', 'replicas.target_memory_utilization', 'replicas.target') \
             AND {NAME} IS NOT NULL AND {} AND value IS NOT NULL GROUP BY 1, 2, 3, 4, 5",
            window.condition("time")
        );
        let rows = self.rows(ctx, query).await?;
        let (simulated, namespaces, names) = (rows.flags("simulated")?, rows.texts("namespace")?, rows.texts("hpa")?);
        let (roles, targets, values) = (rows.texts("role")?, rows.texts("target")?, rows.numbers("value")?);
        for row in 0..rows.len() {
            let (Some(name), Some(role), Some(value)) = (names[row].clone(), roles[row].as_deref(), values[row]) else {
                continue;
            };
            let Some(of) = by_name.get_mut(&(simulated[row], namespaces[row].clone(), name)) else { continue };
            let whole = Some(value.round() as u32);
            let percent = Some((value * 100.0).round() as u32);
            match role {
                "replicas.min" => of.min_replicas = whole,
                "replicas.max" => of.max_replicas = whole,
                "replicas.current" => of.current_replicas = whole,
                "replicas.desired" => of.desired_replicas = whole,
                "replicas.target_cpu_utilization" => of.percent[0] = percent,
                "replicas.target_memory_utilization" => of.percent[1] = percent,
                _ => drop(of.others.insert(targets[row].clone().unwrap_or_default(), value)),
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// That of a service or workload of one of these `names`, in `namespace` where both are told.
    pub(super) fn of(&self, simulated: bool, namespace: Option<&str>, names: &[&str]) -> Option<&Autoscaler> {
        let is_here = |one: &&Autoscaler| {
            one.simulated == simulated
                && namespace.zip(one.namespace.as_deref()).is_none_or(|(own, other)| own == other)
        };
        let scales = |one: &&Autoscaler| {
            // What it scales goes before what it is called.
            one.scales.as_deref().map_or_else(|| names.contains(&one.name.as_str()), |scaled| names.contains(&scaled))
        };
        self.all.iter().filter(is_here).find(scales)
    }
}

impl Autoscaler {
    /// What of its specification is told, with the behavior that Kubernetes has by itself; or what is missing for a replay.
    ///
    /// # Errors
    /// Bounds or targets that are not told.
    pub fn spec(&self) -> std::result::Result<HpaSpec, String> {
        let (Some(min_replicas), Some(max_replicas)) = (self.min_replicas, self.max_replicas) else {
            return Err(
                "its bounds are not told (kube_horizontalpodautoscaler_spec_min_replicas and _max_replicas)".into()
            );
        };
        let percent = |resource, percent: Option<u32>| Some(Metric::Utilization { resource, percent: percent? });
        let mut metrics: Vec<Metric> =
            [percent(Resource::Cpu, self.percent[0]), percent(Resource::Memory, self.percent[1])]
                .into_iter()
                .flatten()
                .collect();
        let milli = |value: f64| (value * 1_000.0).round() as i64;
        metrics.extend(
            self.others.iter().map(|(name, value)| Metric::Pods { name: name.clone(), per_pod_milli: milli(*value) }),
        );
        if metrics.is_empty() {
            return Err("what it scales by is not told (kube_horizontalpodautoscaler_spec_target_metric)".into());
        }
        Ok(HpaSpec { min_replicas, max_replicas, metrics, behavior: None })
    }

    /// Whether it scales by CPU, and by memory, over the requests; where no target is told it may be either.
    pub(super) fn scales_by(&self) -> [bool; 2] {
        let nothing_told = self.percent == [None, None] && self.others.is_empty();
        self.percent.map(|percent| percent.is_some() || nothing_told)
    }

    /// One sentence for people.
    pub fn text(&self) -> String {
        let number = |value: Option<u32>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        let mut targets: Vec<String> = [("CPU", self.percent[0]), ("memory", self.percent[1])]
            .iter()
            .filter_map(|(name, percent)| Some(format!("{name} {} % of requests", (*percent)?)))
            .collect();
        targets.extend(self.others.iter().map(|(name, value)| format!("{name} {value}")));
        let targets = if targets.is_empty() { "unknown".to_owned() } else { targets.join(", ") };
        format!(
            "HPA {}: {} to {} replicas, {} now, {} wanted; target: {targets}",
            self.name,
            number(self.min_replicas),
            number(self.max_replicas),
            number(self.current_replicas),
            number(self.desired_replicas)
        )
    }
}
