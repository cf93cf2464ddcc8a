//! `ScaledObject` of KEDA.

use serde_json::{Map, Value, json};

use super::{
    Change, ManifestError, Target, checked, hpa,
    patch::{file, undo_replicas},
};
use crate::{
    autoscaler::{HpaSpec, Metric},
    hpa_advice::Candidate,
};

/// Seconds between two looks at a trigger.
const POLLING_S: u32 = 15;
/// Failed looks until the fallback holds.
const FAILURES: u32 = 3;

/// Where KEDA reads metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusSource {
    /// Address as seen from the cluster, such as `http://driftwatt.monitoring:9090`.
    pub server_address: String,
    /// PromQL selector of the service's series, without braces, such as `namespace="prod",service="chat"`.
    pub selector: String,
}

/// What a `ScaledObject` is made of.
#[derive(Debug, Clone, Copy)]
pub struct KedaForm<'a> {
    /// Specification and windows.
    pub candidate: &'a Candidate,
    /// IANA name of the windows' time zone.
    pub time_zone: &'a str,
    /// Minutes by which windows open ahead.
    pub lead_minutes: u32,
    /// Where metrics are read; not needed for CPU and memory alone.
    pub prometheus: Option<&'a PrometheusSource>,
}

/// `form` as a `ScaledObject` of `target` under `name`, with the windows of its clock as cron triggers.
///
/// Metrics per pod become `sum(metric{selector})` over a threshold per replica. Where an autoscaler `former` is there, KEDA takes it
/// over by its name; the undo deletes the `ScaledObject` and applies `former` again, or sets `replica_count` replicas.
///
/// # Errors
/// [`ManifestError`] for names, for a metric without a Prometheus or without a trigger.
pub fn scaled_object(
    target: &Target,
    name: &str,
    former: Option<(&str, &HpaSpec)>,
    form: &KedaForm<'_>,
    replica_count: u32,
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("scaled object", name)?;
    form.candidate.spec.validate()?;
    let object = object(target, name, former.map(|(hpa, _)| hpa), form)?;
    let (apply, undo) = ("do-scaledobject.yaml", "undo-hpa.yaml");
    let mut change = Change {
        files: vec![file(apply, comment, &object)],
        apply: vec![format!("kubectl apply -f {apply}")],
        undo: vec![format!("kubectl delete -f {apply}")],
    };
    match former {
        Some((hpa, former)) => {
            checked("autoscaler", hpa)?;
            change.files.push(file(undo, "the autoscaler before", &hpa::object(target, hpa, former)));
            change.undo.push(format!("kubectl apply -f {undo}"));
        }
        None => {
            let (file, command) = undo_replicas(target, replica_count);
            change.files.push(file);
            change.undo.push(command);
        }
    }
    Ok(change)
}

pub(super) fn object(
    target: &Target,
    name: &str,
    former: Option<&str>,
    form: &KedaForm<'_>,
) -> Result<Value, ManifestError> {
    let spec = &form.candidate.spec;
    let mut triggers = Vec::new();
    for metric in &spec.metrics {
        triggers.push(trigger(metric, form.prometheus)?);
    }
    for window in &form.candidate.windows {
        let (start, end) = window.cron(form.lead_minutes);
        triggers.push(json!({
            "type": "cron",
            "metadata": { "timezone": form.time_zone, "start": start, "end": end, "desiredReplicas": window.replicas.to_string() },
        }));
    }
    let mut config = Map::new();
    let mut metadata = json!({ "name": name, "namespace": target.namespace });
    if let Some(former) = former {
        // Two autoscalers of one target would fight.
        config.insert("name".into(), json!(former));
        metadata["annotations"] = json!({ "scaledobject.keda.sh/transfer-hpa-ownership": "true" });
    }
    if let Some(behavior) = &spec.behavior {
        config.insert("behavior".into(), hpa::behavior_value(behavior));
    }
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": target.reference(),
            "pollingInterval": POLLING_S,
            "minReplicaCount": spec.min_replicas,
            "maxReplicaCount": spec.max_replicas,
            "advanced": { "horizontalPodAutoscalerConfig": config },
            "triggers": triggers,
        },
    });
    // KEDA refuses a fallback where only CPU and memory trigger.
    if spec.metrics.iter().any(|metric| !matches!(metric, Metric::Utilization { .. })) {
        object["spec"]["fallback"] = json!({
            "failureThreshold": FAILURES,
            "replicas": spec.min_replicas,
            "behavior": "currentReplicasIfHigher",
        });
    }
    Ok(object)
}

fn trigger(metric: &Metric, prometheus: Option<&PrometheusSource>) -> Result<Value, ManifestError> {
    let (name, per_pod_milli) = match metric {
        Metric::Utilization { resource, percent } => {
            return Ok(json!({
                "type": resource.as_str(),
                "metricType": "Utilization",
                "metadata": { "value": percent.to_string() },
            }));
        }
        Metric::Pods { name, per_pod_milli } | Metric::ExternalAverage { name, per_pod_milli, .. } => {
            (name, *per_pod_milli)
        }
        Metric::ResourceAverage { .. } | Metric::ExternalValue { .. } => {
            return Err(ManifestError::NoTrigger { metric: metric.name().to_owned() });
        }
    };
    let Some(prometheus) = prometheus else {
        return Err(ManifestError::NoPrometheus { metric: name.clone() });
    };
    Ok(json!({
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": prometheus.server_address,
            "query": format!("sum({name}{{{}}})", prometheus.selector),
            "threshold": (per_pod_milli as f64 / 1_000.0).to_string(),
            // An answer without series is a failure, not a demand of 0.
            "ignoreNullValues": "false",
        },
    }))
}
