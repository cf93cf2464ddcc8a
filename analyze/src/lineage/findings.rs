//! What the lineage of a fleet shows at one look: services that one failure takes down, checkpoints that are not what
//! they should be, releases in production that no registry knows.

use std::collections::{BTreeMap, BTreeSet};

use super::artifact_name::ArtifactName;
use super::deployment::{Release, Target};
use super::timeline::{Interval, Status, Timeline};

/// What a service runs on, counted from its telemetry. What was not counted is `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Instances that answer.
    pub replicas: Option<u32>,
    /// Nodes that they run on.
    pub nodes: Option<u32>,
    /// GPUs that they use.
    pub gpus: Option<u32>,
}

/// How urgent a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To know.
    Note,
    /// To plan.
    Warning,
    /// To act on.
    Alarm,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FindingKind {
    /// One instance.
    #[error("runs on a single replica: its restart is an outage")]
    SingleReplica,
    /// Several instances on one node.
    #[error("has {replicas} replicas on one node: the node's failure is an outage")]
    OneNode {
        /// Instances.
        replicas: u32,
    },
    /// Several instances on one GPU.
    #[error("has {replicas} replicas on one GPU: the GPU's failure is an outage")]
    OneGpu {
        /// Instances.
        replicas: u32,
    },
    /// Counts are missing, so that the three above could not be examined.
    #[error("cannot be examined for single points of failure: send {}", .send.join(" and "))]
    NotCounted {
        /// Attributes to send.
        send: Vec<&'static str>,
    },
    /// A checkpoint folder alarms.
    #[error("{0}")]
    Checkpoint(String),
    /// A release in production that the registry does not have.
    #[error("{} {} runs, but is not in the registry", .0.model, .0.version)]
    NotInRegistry(Release),
    /// An alias names another release than what runs.
    #[error("{} {} is deployed by statement, but instances report {}: restart them, or mark what runs", .claimed.model, .claimed.version, .running.version)]
    NotLoaded {
        /// What the last statement names.
        claimed: Release,
        /// What instances report.
        running: Release,
    },
    /// What runs now is not one known release.
    #[error("version labels flap between {}", versions(.0))]
    Flapping(Vec<Release>),
    /// A version or model name that is odd.
    #[error("{name}: {wrong}")]
    OddName {
        /// The name.
        name: String,
        /// What is wrong, joined by `; `.
        wrong: String,
    },
}

fn versions(releases: &[Release]) -> String {
    releases.iter().map(|release| release.version.as_str()).collect::<Vec<_>>().join(" and ")
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Service, folder or name that it is about.
    pub subject: String,
    /// How urgent it is.
    pub severity: Severity,
    /// What was found.
    pub kind: FindingKind,
}

/// What is examined. Empty parts were not looked at, and give no finding.
#[derive(Debug, Clone, Default)]
pub struct Fleet<'a> {
    /// What each service runs on.
    pub footprints: BTreeMap<Target, Footprint>,
    /// What each service runs.
    pub timelines: Option<&'a BTreeMap<Target, Timeline>>,
    /// Environments that count as production.
    pub production: BTreeSet<String>,
    /// All releases of the registry; `None` where none was read, so that nothing is said about it.
    pub registry: Option<BTreeSet<Release>>,
    /// Alarms of each checkpoint folder, as sentences.
    pub checkpoints: BTreeMap<String, Vec<String>>,
    /// Names of models and data sets to read.
    pub names: BTreeSet<String>,
    /// The moment, UTC microseconds; none is the end of the timelines.
    pub at_us: Option<i64>,
}

/// Findings, the most urgent first, then by subject.
pub fn findings(fleet: &Fleet<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (target, footprint) in &fleet.footprints {
        let urgent = in_production(fleet, target);
        let severity = if urgent { Severity::Warning } else { Severity::Note };
        found.extend(single_points(footprint).into_iter().map(|kind| {
            let severity = if matches!(kind, FindingKind::NotCounted { .. }) { Severity::Note } else { severity };
            Finding { subject: subject(target), severity, kind }
        }));
    }
    for (target, timeline) in fleet.timelines.into_iter().flatten() {
        found.extend(running(fleet, target, timeline));
    }
    for (folder, alarms) in &fleet.checkpoints {
        found.extend(alarms.iter().map(|alarm| Finding {
            subject: folder.clone(),
            severity: Severity::Alarm,
            kind: FindingKind::Checkpoint(alarm.clone()),
        }));
    }
    for name in &fleet.names {
        let wrong: Vec<String> = ArtifactName::parse(name).oddities.iter().map(ToString::to_string).collect();
        if !wrong.is_empty() {
            let kind = FindingKind::OddName { name: name.clone(), wrong: wrong.join("; ") };
            found.push(Finding { subject: name.clone(), severity: Severity::Note, kind });
        }
    }
    found.sort_by(|left, right| right.severity.cmp(&left.severity).then_with(|| left.subject.cmp(&right.subject)));
    found
}

/// The narrowest thing that a service stands on; the wider ones follow from it.
fn single_points(footprint: &Footprint) -> Vec<FindingKind> {
    let mut found = Vec::new();
    let mut send = Vec::new();
    match footprint.replicas {
        None => send.push("service.instance.id"),
        // A service scaled to nothing does not answer, so nothing can take it down.
        Some(0) => {}
        Some(1) => found.push(FindingKind::SingleReplica),
        Some(replicas) => {
            match footprint.nodes {
                Some(1) => found.push(FindingKind::OneNode { replicas }),
                Some(_) => {}
                None => send.push("host.name or k8s.node.name"),
            }
            if footprint.gpus == Some(1) {
                found.push(FindingKind::OneGpu { replicas });
            }
        }
    }
    if !send.is_empty() {
        found.push(FindingKind::NotCounted { send });
    }
    found
}

fn running(fleet: &Fleet<'_>, target: &Target, timeline: &Timeline) -> Vec<Finding> {
    let is_past = |interval: &&Interval| fleet.at_us.is_none_or(|at_us| interval.from_us <= at_us);
    let Some(now) = timeline.intervals.iter().rfind(is_past) else { return Vec::new() };
    let finding = |severity, kind| Finding { subject: subject(target), severity, kind };
    let mut found = Vec::new();
    if let Status::Flapping(releases) = &now.status {
        found.push(finding(Severity::Warning, FindingKind::Flapping(releases.clone())));
    }
    // A service that reports its own name and version says nothing of the model that it loaded.
    if let (Status::Known { release, .. }, Some(claimed)) = (&now.status, &now.claimed)
        && claimed.model == release.model
    {
        let kind = FindingKind::NotLoaded { claimed: claimed.clone(), running: release.clone() };
        found.push(finding(Severity::Warning, kind));
    }
    // What is uncertain is not accused: only what surely runs is looked up.
    let surely: &[Release] = match &now.status {
        Status::Uncertain(_) | Status::Flapping(_) => &[],
        status => status.candidates(),
    };
    if let Some(registry) = fleet.registry.as_ref().filter(|_| in_production(fleet, target)) {
        let has_model = |release: &&Release| registry.iter().any(|known| known.model == release.model);
        let unknown = surely.iter().filter(has_model).filter(|release| !registry.contains(release));
        found.extend(unknown.map(|release| finding(Severity::Alarm, FindingKind::NotInRegistry(release.clone()))));
    }
    found
}

fn in_production(fleet: &Fleet<'_>, target: &Target) -> bool {
    target.environment.as_ref().is_some_and(|environment| fleet.production.contains(environment))
}

fn subject(target: &Target) -> String {
    match &target.environment {
        Some(environment) => format!("{} ({environment})", target.service),
        None => target.service.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::{CheckpointFile, CheckpointRules, examine};
    use super::super::deployment::{Evidence, Observation};
    use super::super::timeline::{TimelineRules, timelines};
    use super::*;

    fn target(service: &str, environment: &str) -> Target {
        Target { service: service.to_owned(), environment: Some(environment.to_owned()) }
    }

    fn release(version: &str) -> Release {
        Release { model: "resnet".to_owned(), version: version.to_owned() }
    }

    fn texts(fleet: &Fleet<'_>) -> Vec<String> {
        findings(fleet).iter().map(|one| format!("{:?} {}: {}", one.severity, one.subject, one.kind)).collect()
    }

    fn footprint(replicas: Option<u32>, nodes: Option<u32>, gpus: Option<u32>) -> Vec<String> {
        let footprints = [(target("resize", "prod"), Footprint { replicas, nodes, gpus })].into();
        texts(&Fleet { footprints, production: ["prod".to_owned()].into(), ..Fleet::default() })
    }

    #[test]
    fn the_narrowest_single_point_is_named_and_the_unknown_is_not_one() {
        assert_eq!(
            footprint(Some(1), Some(1), Some(1)),
            ["Warning resize (prod): runs on a single replica: its restart is an outage"]
        );
        let shared = footprint(Some(3), Some(1), Some(1));
        assert_eq!(shared.len(), 2);
        assert!(shared[0].contains("3 replicas on one node"), "{shared:?}");
        assert_eq!(footprint(Some(3), Some(2), None), [] as [&str; 0]);
        assert_eq!(footprint(Some(0), None, None), [] as [&str; 0]);
        assert!(footprint(None, None, None)[0].starts_with("Note resize (prod): cannot be examined"));
        assert!(footprint(Some(2), None, None)[0].contains("send host.name or k8s.node.name"));
    }

    #[test]
    fn a_release_that_no_registry_knows_alarms_in_production_only() {
        let observations: Vec<Observation> = [("resize", "prod", "9"), ("resize", "test", "9"), ("chat", "prod", "2")]
            .map(|(service, environment, version)| Observation {
                target: target(service, environment),
                time_us: 5,
                evidence: Evidence::Mark { release: release(version) },
                received_us: 5,
            })
            .into();
        let built = timelines(&observations, &TimelineRules::default(), 10);
        let mut fleet = Fleet { timelines: Some(&built), production: ["prod".to_owned()].into(), ..Fleet::default() };
        assert_eq!(texts(&fleet), [] as [&str; 0]);
        fleet.registry = Some([release("2")].into());
        assert_eq!(texts(&fleet), ["Alarm resize (prod): resnet 9 runs, but is not in the registry"]);
    }

    #[test]
    fn an_alias_that_nobody_loaded_is_told() {
        let observation =
            |time_us, evidence| Observation { target: target("a", "prod"), time_us, evidence, received_us: time_us };
        let sighting = Evidence::Sighting { instance: "pod".to_owned(), release: release("2"), until_us: 90 };
        let alias = Evidence::Alias { alias: "champion".to_owned(), release: Some(release("3")), not_before_us: 40 };
        let built = timelines(&[observation(5, sighting), observation(50, alias)], &TimelineRules::default(), 90);
        let said = texts(&Fleet { timelines: Some(&built), ..Fleet::default() });
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("resnet 3 is deployed by statement, but instances report 2"), "{said:?}");
    }

    #[test]
    fn stale_checkpoints_come_before_odd_names() {
        let file = CheckpointFile { path: "model_a_v1.pt".to_owned(), modified_us: 1, size_bytes: 5 };
        let state = examine(&[file], &CheckpointRules::default(), 8_000_000_000);
        let fleet = Fleet {
            checkpoints: [("s3://models/a".to_owned(), state.alarms.iter().map(ToString::to_string).collect())].into(),
            names: ["final_model".to_owned()].into(),
            ..Fleet::default()
        };
        let said = texts(&fleet);
        assert!(said[0].starts_with("Alarm s3://models/a: newest checkpoint model_a_v1.pt is 2.2 h old"), "{said:?}");
        assert!(said[1].starts_with("Note final_model: final_model: no version"), "{said:?}");
    }
}
