//! `HorizontalPodAutoscaler` of `autoscaling/v2`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Change, ManifestError, Target, checked,
    patch::{file, undo_replicas},
};
use crate::autoscaler::{Behavior, HpaSpec, Metric, PolicyUnit, Resource, ScalingRules, SelectPolicy};

/// An autoscaler of `target` under `name`, instead of `former` or of a fixed number of replicas.
///
/// The undo applies `former` again, or deletes the autoscaler and sets `replica_count` replicas, since one that is deleted leaves
/// those it had set.
///
/// # Errors
/// [`ManifestError::Name`], and [`ManifestError::Spec`] for a specification that the API server refuses.
pub fn hpa(
    target: &Target,
    name: &str,
    former: Option<&HpaSpec>,
    spec: &HpaSpec,
    replica_count: u32,
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("autoscaler", name)?;
    spec.validate()?;
    let (apply, undo) = ("do-hpa.yaml", "undo-hpa.yaml");
    let mut change = Change {
        files: vec![file(apply, comment, &object(target, name, spec))],
        apply: vec![format!("kubectl apply -f {apply}")],
        undo: Vec::new(),
    };
    match former {
        Some(former) => {
            change.files.push(file(undo, "the autoscaler before", &object(target, name, former)));
            change.undo.push(format!("kubectl apply -f {undo}"));
        }
        None => {
            let (file, command) = undo_replicas(target, replica_count);
            change.files.push(file);
            change.undo.push(format!("kubectl delete -f {apply}"));
            change.undo.push(command);
        }
    }
    Ok(change)
}

pub(super) fn object(target: &Target, name: &str, spec: &HpaSpec) -> Value {
    let mut fields = Map::new();
    fields.insert("scaleTargetRef".into(), target.reference());
    fields.insert("minReplicas".into(), json!(spec.min_replicas));
    fields.insert("maxReplicas".into(), json!(spec.max_replicas));
    fields.insert("metrics".into(), spec.metrics.iter().map(metric).collect());
    if let Some(behavior) = &spec.behavior {
        fields.insert("behavior".into(), behavior_value(behavior));
    }
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": target.namespace },
        "spec": fields,
    })
}

pub(super) fn behavior_value(behavior: &Behavior) -> Value {
    json!({ "scaleUp": rules(&behavior.scale_up), "scaleDown": rules(&behavior.scale_down) })
}

fn rules(rules: &ScalingRules) -> Value {
    let policy = |policy: &crate::autoscaler::Policy| {
        let unit = match policy.unit {
            PolicyUnit::Pods => "Pods",
            PolicyUnit::Percent => "Percent",
        };
        json!({ "type": unit, "value": policy.value, "periodSeconds": policy.period_s })
    };
    let select = match rules.select_policy {
        SelectPolicy::Max => "Max",
        SelectPolicy::Min => "Min",
        SelectPolicy::Disabled => "Disabled",
    };
    let mut fields = Map::new();
    fields.insert("stabilizationWindowSeconds".into(), json!(rules.stabilization_window_s));
    fields.insert("selectPolicy".into(), json!(select));
    fields.insert("policies".into(), rules.policies.iter().map(policy).collect());
    if let Some(tolerance) = rules.tolerance {
        // A quantity; clusters before 1.33 do not know the field and drop it.
        fields.insert("tolerance".into(), json!(format!("{}m", (tolerance * 1_000.0).round())));
    }
    Value::Object(fields)
}

fn metric(metric: &Metric) -> Value {
    match metric {
        Metric::Utilization { resource, percent } => {
            of_resource(*resource, json!({ "type": "Utilization", "averageUtilization": percent }))
        }
        Metric::ResourceAverage { resource, per_pod_milli } => of_resource(*resource, average(*per_pod_milli)),
        Metric::Pods { name, per_pod_milli } => json!({
            "type": "Pods",
            "pods": { "metric": { "name": name }, "target": average(*per_pod_milli) },
        }),
        Metric::ExternalAverage { name, labels, per_pod_milli } => external(name, labels, average(*per_pod_milli)),
        Metric::ExternalValue { name, labels, value_milli } => {
            external(name, labels, json!({ "type": "Value", "value": quantity(*value_milli) }))
        }
    }
}

fn of_resource(resource: Resource, target: Value) -> Value {
    json!({ "type": "Resource", "resource": { "name": resource.as_str(), "target": target } })
}

fn external(name: &str, labels: &BTreeMap<String, String>, target: Value) -> Value {
    let mut identifier = Map::new();
    identifier.insert("name".into(), json!(name));
    if !labels.is_empty() {
        identifier.insert("selector".into(), json!({ "matchLabels": labels }));
    }
    json!({ "type": "External", "external": { "metric": identifier, "target": target } })
}

fn average(per_pod_milli: i64) -> Value {
    json!({ "type": "AverageValue", "averageValue": quantity(per_pod_milli) })
}

fn quantity(milli: i64) -> String {
    if milli % 1_000 == 0 { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

impl HpaSpec {
    /// Percentages under the names of `helm create`'s chart; null takes away one that `--reuse-values` would keep.
    pub(super) fn helm_percentages(&self) -> Result<[(&'static str, Option<u32>); 2], ManifestError> {
        let (mut cpu, mut memory) = (None, None);
        for metric in &self.metrics {
            match metric {
                Metric::Utilization { resource: Resource::Cpu, percent } => cpu = Some(*percent),
                Metric::Utilization { resource: Resource::Memory, percent } => memory = Some(*percent),
                other => return Err(ManifestError::NoHelmValue { metric: other.name().to_owned() }),
            }
        }
        Ok([("targetCPUUtilizationPercentage", cpu), ("targetMemoryUtilizationPercentage", memory)])
    }
}
