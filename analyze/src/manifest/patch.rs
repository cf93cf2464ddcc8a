//! Patches of what is there: replicas, requests and limits, schedules, Helm values and MIG.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Change, File, ManifestError, Target, checked, yaml::document};
use crate::{
    autoscaler::HpaSpec,
    off_peak::CronLine,
    sizing::{mig::Profile, requests::Quota},
};

const MEBIBYTE: f64 = 1_048_576.0;

/// Requests and limits of a container; none where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ContainerResources {
    /// Cores requested.
    pub cpu_request: Option<f64>,
    /// Bytes requested.
    pub memory_request: Option<f64>,
    /// Most cores.
    pub cpu_limit: Option<f64>,
    /// Most bytes.
    pub memory_limit: Option<f64>,
}

/// How a node's cards are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MigChange<'a> {
    /// Node.
    pub node: &'a str,
    /// Cards to cut, the first ones by number, and all cards of the node; the others stay whole.
    pub cards: (u32, u32),
    /// Profile of all instances.
    pub profile: Profile,
    /// Value of its label `nvidia.com/mig.config` today; `all-disabled` where cards are whole.
    pub former_config: &'a str,
    /// Container that takes an instance instead of a card.
    pub container: &'a str,
}

/// A request or limit, and what the other direction sets.
struct Amount {
    field: &'static str,
    value: Option<f64>,
    other: Option<f64>,
}

/// Another number of replicas.
pub fn replicas(target: &Target, from: u32, to: u32, comment: &str) -> Change {
    let patch = |count: u32| json!({ "spec": { "replicas": count } });
    patched(target, "replicas", comment, &patch(to), &patch(from))
}

/// Other bounds of the autoscaler `name`: least and most replicas. Its metrics and behavior stay.
///
/// # Errors
/// [`ManifestError::Name`].
pub fn hpa_bounds(
    namespace: &str,
    name: &str,
    from: (u32, u32),
    to: (u32, u32),
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("namespace", namespace)?;
    checked("name", name)?;
    let patch = |(min, max): (u32, u32)| json!({ "spec": { "minReplicas": min, "maxReplicas": max } });
    let (apply, undo) = ("do-bounds.yaml", "undo-bounds.yaml");
    let command = |file: &str| format!("kubectl -n {namespace} patch hpa {name} --type merge --patch-file {file}");
    Ok(Change {
        files: vec![file(apply, comment, &patch(to)), file(undo, "as it was before", &patch(from))],
        apply: vec![command(apply)],
        undo: vec![command(undo)],
    })
}

/// Other requests and limits of `container`. What had none before is removed again by the undo.
///
/// # Errors
/// [`ManifestError::Name`] and [`ManifestError::Amount`].
pub fn resources(
    target: &Target,
    container: &str,
    from: &ContainerResources,
    to: &ContainerResources,
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("container", container)?;
    let patch = |resources: &ContainerResources, other: &ContainerResources| -> Result<Value, ManifestError> {
        let fields = json!({
            "requests": quantities(
                Amount { field: "cpu request", value: resources.cpu_request, other: other.cpu_request },
                Amount { field: "memory request", value: resources.memory_request, other: other.memory_request },
            )?,
            "limits": quantities(
                Amount { field: "cpu limit", value: resources.cpu_limit, other: other.cpu_limit },
                Amount { field: "memory limit", value: resources.memory_limit, other: other.memory_limit },
            )?,
        });
        Ok(of_container(container, fields))
    };
    Ok(patched(target, "resources", comment, &patch(to, from)?, &patch(from, to)?))
}

/// Sums of the requests that a namespace may have. `existing` is the name of its quota and what that allows today; without one, a new
/// `ResourceQuota` is made, and removed by the undo. A sum that is unknown is left as it is.
///
/// # Errors
/// [`ManifestError::Name`] and [`ManifestError::Amount`].
pub fn resource_quota(
    namespace: &str,
    existing: Option<(&str, &Quota)>,
    to: &Quota,
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("namespace", namespace)?;
    let spec = |quota: &Quota| -> Result<Value, ManifestError> {
        let mut hard = Map::new();
        for (field, value, text) in [
            ("requests.cpu", quota.cores, cpu_quantity as fn(f64) -> String),
            ("requests.memory", quota.memory_bytes, memory_quantity),
        ] {
            match value {
                Some(value) if !(value.is_finite() && value > 0.0) => {
                    return Err(ManifestError::Amount { field, value });
                }
                Some(value) => drop(hard.insert(field.into(), Value::String(text(value)))),
                None => {}
            }
        }
        Ok(json!({ "hard": hard }))
    };
    let (apply, undo) = ("do-quota.yaml", "undo-quota.yaml");
    let Some((name, from)) = existing else {
        let metadata = json!({ "name": "requests", "namespace": namespace });
        let object = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec(to)? });
        return Ok(Change {
            files: vec![file(apply, comment, &object)],
            apply: vec![format!("kubectl apply -f {apply}")],
            undo: vec![format!("kubectl delete -f {apply}")],
        });
    };
    checked("resource quota", name)?;
    // What is not known today is not set, or the undo would have to guess it.
    let in_both = |of: &Quota| Quota {
        cores: of.cores.filter(|_| from.cores.is_some() && to.cores.is_some()),
        memory_bytes: of.memory_bytes.filter(|_| from.memory_bytes.is_some() && to.memory_bytes.is_some()),
    };
    let command =
        |file: &str| format!("kubectl -n {namespace} patch resourcequota {name} --type merge --patch-file {file}");
    Ok(Change {
        files: vec![
            file(apply, comment, &json!({ "spec": spec(&in_both(to))? })),
            file(undo, "as it was before", &json!({ "spec": spec(&in_both(from))? })),
        ],
        apply: vec![command(apply)],
        undo: vec![command(undo)],
    })
}

/// Another schedule of a `CronJob`; `from` is what it has, without a zone that of the controller.
///
/// # Errors
/// [`ManifestError::Name`].
pub fn cron_job(
    namespace: &str,
    name: &str,
    from: (&str, Option<&str>),
    to: &CronLine,
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("namespace", namespace)?;
    checked("name", name)?;
    let patch = |schedule: &str, zone: Option<&str>| json!({ "spec": { "schedule": schedule, "timeZone": zone } });
    let (apply, undo) = ("do-schedule.yaml", "undo-schedule.yaml");
    let command = |file: &str| format!("kubectl -n {namespace} patch cronjob {name} --type merge --patch-file {file}");
    Ok(Change {
        files: vec![
            file(apply, comment, &patch(&to.schedule, Some(&to.time_zone))),
            file(undo, "the schedule before", &patch(from.0, from.1)),
        ],
        apply: vec![command(apply)],
        undo: vec![command(undo)],
    })
}

/// Lines of a crontab that start `command` when each window opens, after those that are there.
pub fn crontab(lines: &[CronLine], command: &str) -> Change {
    let (name, before) = ("off-peak.crontab", "before.crontab");
    let mut text = String::new();
    for line in lines {
        text += &format!("# the window is open for {} hours\n{}", line.hour_count, line.crontab(command));
    }
    Change {
        files: vec![File { name: name.to_owned(), text }],
        apply: vec![format!("crontab -l > {before}"), format!("cat {before} {name} | crontab -")],
        undo: vec![format!("crontab {before}")],
    }
}

/// Values for a chart as `helm create` makes them: `replicaCount` and `autoscaling`. Other charts name them otherwise.
/// The command leaves `CHART` and `NAMESPACE` to whoever runs it: the release does not say them.
///
/// # Errors
/// [`ManifestError::Name`]; [`ManifestError::NoHelmValue`] for a metric that the chart has no value for.
pub fn helm_values(
    release: &str,
    replica_count: (u32, u32),
    autoscaling: (Option<&HpaSpec>, Option<&HpaSpec>),
    comment: &str,
) -> Result<Change, ManifestError> {
    checked("release", release)?;
    let values = |replicas: u32, spec: Option<&HpaSpec>| -> Result<Value, ManifestError> {
        Ok(match spec {
            None => json!({ "replicaCount": replicas, "autoscaling": { "enabled": false } }),
            Some(spec) => {
                let mut autoscaling = Map::new();
                autoscaling.insert("enabled".into(), json!(true));
                autoscaling.insert("minReplicas".into(), json!(spec.min_replicas));
                autoscaling.insert("maxReplicas".into(), json!(spec.max_replicas));
                for (key, percent) in spec.helm_percentages()? {
                    autoscaling.insert(key.into(), json!(percent));
                }
                json!({ "autoscaling": autoscaling })
            }
        })
    };
    let (apply, undo) = ("do-values.yaml", "undo-values.yaml");
    let command =
        |file: &str| format!("helm upgrade {release} CHART --namespace NAMESPACE --reuse-values --values {file}");
    Ok(Change {
        files: vec![
            file(apply, comment, &values(replica_count.1, autoscaling.1)?),
            file(undo, "the values before", &values(replica_count.0, autoscaling.0)?),
        ],
        apply: vec![command(apply)],
        undo: vec![command(undo)],
    })
}

/// Cards of a node cut into instances, and a container that takes one (mixed strategy of NVIDIA's device plugin).
///
/// The file is a configuration of `nvidia-mig-parted`, which the GPU operator's MIG manager reads; the label selects it. A node has
/// to be drained first.
///
/// # Errors
/// [`ManifestError::Name`].
pub fn mig(target: &Target, change: &MigChange<'_>, comment: &str) -> Result<Change, ManifestError> {
    let MigChange { node, cards: (cut, all), profile, former_config, container } = change;
    checked("node", node)?;
    checked("container", container)?;
    checked("mig.config", former_config)?;
    let instances = json!({ profile.name: profile.instance_count });
    let (config_name, parts) = if cut < all {
        let (numbers, rest): (Vec<u32>, Vec<u32>) = ((0..*cut).collect(), (*cut..*all).collect());
        let cut_cards = json!({ "devices": numbers, "mig-enabled": true, "mig-devices": instances });
        let whole_cards = json!({ "devices": rest, "mig-enabled": false, "mig-devices": {} });
        (format!("driftwatt-{}-on-{cut}", profile.name), json!([cut_cards, whole_cards]))
    } else {
        let cut_cards = json!({ "devices": "all", "mig-enabled": true, "mig-devices": instances });
        (format!("driftwatt-{}", profile.name), json!([cut_cards]))
    };
    let config = json!({ "version": "v1", "mig-configs": { &config_name: parts } });
    let instance = format!("nvidia.com/mig-{}", profile.name);
    let limits = |card: Value, slice: Value| {
        of_container(container, json!({ "limits": { "nvidia.com/gpu": card, &instance: slice } }))
    };
    let mut both =
        patched(target, "mig-resource", comment, &limits(Value::Null, json!("1")), &limits(json!("1"), Value::Null));
    both.files.push(file("mig-parted.yaml", comment, &config));
    let label = |config: &str| format!("kubectl label node {node} nvidia.com/mig.config={config} --overwrite");
    let drain = format!("kubectl drain {node} --ignore-daemonsets --delete-emptydir-data");
    let uncordon = format!("kubectl uncordon {node}");
    let around = |config: &str, patch: &[String]| {
        let mut commands = vec![drain.clone(), label(config)];
        commands.extend_from_slice(patch);
        commands.push(uncordon.clone());
        commands
    };
    both.apply = around(&config_name, &both.apply);
    both.undo = around(former_config, &both.undo);
    Ok(both)
}

/// Cards of a node that `replicas_per_gpu` pods share by time slices; a pod's `nvidia.com/gpu: 1` then is one share.
///
/// The file is a configuration of NVIDIA's device plugin; the label selects it where the GPU operator or the plugin's chart knows it
/// under this name. Memory is not divided: whoever takes too much of it takes it from the others.
///
/// # Errors
/// [`ManifestError::Name`].
pub fn time_slicing(node: &str, replicas_per_gpu: u32, comment: &str) -> Result<Change, ManifestError> {
    checked("node", node)?;
    let name = "time-slicing.yaml";
    let config = json!({
        "version": "v1",
        "sharing": { "timeSlicing": { "resources": [{ "name": "nvidia.com/gpu", "replicas": replicas_per_gpu }] } },
    });
    let label = "nvidia.com/device-plugin.config";
    Ok(Change {
        files: vec![file(name, comment, &config)],
        apply: vec![format!("kubectl label node {node} {label}=driftwatt-{replicas_per_gpu}-a-card --overwrite")],
        undo: vec![format!("kubectl label node {node} {label}-")],
    })
}

/// A change of `target` by a patch and one back.
fn patched(target: &Target, what: &str, comment: &str, to: &Value, from: &Value) -> Change {
    let (apply, undo) = (format!("do-{what}.yaml"), format!("undo-{what}.yaml"));
    Change {
        apply: vec![target.patch_command(&apply)],
        undo: vec![target.patch_command(&undo)],
        files: vec![file(&apply, comment, to), file(&undo, "as it was before", from)],
    }
}

/// The file and the command that set the replicas of before.
pub(super) fn undo_replicas(target: &Target, count: u32) -> (File, String) {
    let name = "undo-replicas.yaml";
    (file(name, "the replicas before", &json!({ "spec": { "replicas": count } })), target.patch_command(name))
}

pub(super) fn file(name: &str, comment: &str, value: &Value) -> File {
    File { name: name.to_owned(), text: document(comment, value) }
}

fn of_container(container: &str, resources: Value) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": container, "resources": resources }] } } } })
}

/// CPU and memory as quantities; null removes what only the `other` side has.
fn quantities(cpu: Amount, memory: Amount) -> Result<Value, ManifestError> {
    let mut fields = Map::new();
    for (key, amount, text) in [("cpu", cpu, cpu_quantity as fn(f64) -> String), ("memory", memory, memory_quantity)] {
        let Amount { field, value, other } = amount;
        match (value, other) {
            (Some(value), _) if !(value.is_finite() && value > 0.0) => {
                return Err(ManifestError::Amount { field, value });
            }
            (Some(value), _) => fields.insert(key.into(), Value::String(text(value))),
            (None, Some(_)) => fields.insert(key.into(), Value::Null),
            (None, None) => continue,
        };
    }
    Ok(Value::Object(fields))
}

/// Thousandths of a core, rounded up.
fn cpu_quantity(cores: f64) -> String {
    let milli = (cores * 1_000.0 - 1e-6).ceil() as u64;
    if milli.is_multiple_of(1_000) { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

/// Mebibytes where whole, else bytes, so that an undo is what was there.
fn memory_quantity(bytes: f64) -> String {
    if bytes % MEBIBYTE == 0.0 { format!("{}Mi", (bytes / MEBIBYTE) as u64) } else { (bytes.ceil() as u64).to_string() }
}
