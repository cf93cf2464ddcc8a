//! What was changed: versions that instances report, marked deployments, instances that came.

use std::collections::BTreeMap;

use super::{Desk, series::Series};
use crate::{
    diagnosis::service_window::Event,
    error::Result,
    lineage::{
        deployment::{Closeness, Evidence, Observation, ReportedRelease, Target, release_of_resource},
        deployment_mark::{self, DeploymentMark},
        timeline::{Timeline, TimelineRules, timelines},
    },
    window::MINUTE_US,
};

/// Minutes in which a mark and the change that instances report are one deployment.
const SAME_DEPLOYMENT_MINUTES: f64 = 15.0;
/// Minutes at the start of the window in which an instance that comes was there before.
const NEW_INSTANCE_MINUTES: i64 = 10;
/// Most instances that are named.
const INSTANCES_SHOWN: usize = 10;

/// Events of the window and the minutes around it, and what ran when; none where nothing tells.
pub(super) async fn read(
    desk: &mut Desk<'_>,
    service: &str,
    requests: &[Series],
    now_us: i64,
) -> Result<(Vec<Event>, Option<Timeline>)> {
    let marks = deployment_mark::read(desk.ctx, service).await?;
    let environment = environment(requests);
    let model = requests.iter().find_map(|series| series.label(&["model_name"])).unwrap_or(service).to_owned();
    let target = Target { service: service.to_owned(), environment: environment.clone() };
    let reported: Vec<(&Series, ReportedRelease)> =
        requests.iter().filter_map(|series| Some((series, reported(series)?))).collect();
    let mut observations: Vec<Observation> =
        reported.iter().map(|(series, found)| sighting(series, found, &target)).collect();
    // A version that is not the model's own may move without it.
    let indirect = |version: &str| {
        let found =
            reported.iter().find(|(_, found)| found.release.version == version && found.closeness != Closeness::Model);
        found.map_or(String::new(), |(_, found)| format!(" (by {})", found.attribute))
    };
    let of_here =
        |mark: &&DeploymentMark| mark.environment.is_none() || environment.is_none() || mark.environment == environment;
    let marks: Vec<&DeploymentMark> = marks.iter().filter(of_here).collect();
    observations.extend(marks.iter().map(|mark| mark.observation(&target, &model)));
    let timeline = timelines(&observations, &TimelineRules::default(), now_us).remove(&target);
    let minute = |time_us: i64| (time_us - desk.span.start_us) as f64 / MINUTE_US as f64;
    let mut events: Vec<Event> = Vec::new();
    let mut told: Vec<(f64, String)> = Vec::new();
    for step in timeline.iter().flat_map(Timeline::moves) {
        let kind = if step.rollback { "rollback" } else { "deployment" };
        let (from, to) = (&step.from.version, &step.to.version);
        events.push(Event {
            minute: minute(step.end_us),
            what: format!("{kind} of {} {from} -> {to}{}", step.to.model, indirect(to)),
        });
        told.push((minute(step.end_us), step.to.version));
    }
    for mark in &marks {
        let at = minute(mark.time_us);
        let same = |(minute, version): &(f64, String)| {
            (minute - at).abs() <= SAME_DEPLOYMENT_MINUTES && *version == mark.version
        };
        if !told.iter().any(same) {
            told.push((at, mark.version.clone()));
            events.push(Event {
                minute: at,
                what: format!("deployment of {} {} (marked)", mark.model.as_ref().unwrap_or(&model), mark.version),
            });
        }
    }
    events.extend(new_instances(desk, requests));
    let reach = SAME_DEPLOYMENT_MINUTES..desk.minute_count as f64 + SAME_DEPLOYMENT_MINUTES;
    events.retain(|event| event.minute > -reach.start && event.minute < reach.end);
    events.sort_by(|a, b| a.minute.total_cmp(&b.minute));
    Ok((events, timeline))
}

/// The environment that most requests come from.
fn environment(requests: &[Series]) -> Option<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for series in requests {
        if let Some(environment) = series.label(&["deployment_environment"]) {
            *counts.entry(environment).or_default() += series.points;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(environment, _)| environment.to_owned())
}

/// What one series says of the version that runs.
fn reported(series: &Series) -> Option<ReportedRelease> {
    let mut attributes = series.labels.clone();
    // Promoted attributes are columns with names of their own.
    for (column, key) in [
        ("model_version", "driftwatt.model.version"),
        ("model_name", "driftwatt.model.name"),
        ("service_name", "service.name"),
    ] {
        if let Some(value) = series.labels.get(column) {
            attributes.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    release_of_resource(&attributes)
}

/// The same as evidence.
fn sighting(series: &Series, reported: &ReportedRelease, target: &Target) -> Observation {
    let instance = series.label(&["service_instance_id", "k8s_pod", "host_name"]).unwrap_or("").to_owned();
    let (from_us, until_us) = series.times_us;
    let evidence = Evidence::Sighting { instance, release: reported.release.clone(), until_us };
    Observation { target: target.clone(), time_us: from_us, evidence, received_us: until_us }
}

/// Instances whose first requests lie well inside the window.
fn new_instances(desk: &Desk<'_>, requests: &[Series]) -> Vec<Event> {
    let mut first: BTreeMap<&str, i64> = BTreeMap::new();
    for series in requests {
        if let Some(instance) = series.label(&["service_instance_id", "k8s_pod"]) {
            let known = first.entry(instance).or_insert(i64::MAX);
            *known = series.times_us.0.min(*known);
        }
    }
    let oldest = first.values().min().copied().unwrap_or(i64::MAX);
    let came = |time_us: &i64| *time_us - oldest.max(desk.span.start_us) > NEW_INSTANCE_MINUTES * MINUTE_US;
    let came = first.into_iter().filter(|(_, time_us)| came(time_us)).take(INSTANCES_SHOWN);
    came.map(|(instance, time_us)| Event {
        minute: (time_us - desk.span.start_us) as f64 / MINUTE_US as f64,
        what: format!("first requests of instance {instance}"),
    })
    .collect()
}
