//! SQL that shows a finding: whoever runs it sees the same points as the diagnosis, minute by minute. A minute
//! ends with its last microsecond, as an interval that is reported at its end belongs to the time before.

use crate::{
    diagnosis::{
        reader::{Reading, Subject, latency_points, machine_signals, series},
        sentence::EvidenceSubject,
        service_window::{Dimension, Role, SignalKind},
    },
    drift::Side,
    lineage::deployment_mark,
    rows::literal,
    window::time_text,
};

/// Mean over requests of what the rows of a role view say.
const MEAN: &str = "sum(coalesce(sum, value)) / sum(coalesce(count, 1))";

/// The SQL of a finding; none where nothing stored shows it.
pub(super) fn of(evidence: &EvidenceSubject, subject: &Subject, reading: &Reading) -> Option<String> {
    let time = format!("time > '{}' AND time <= '{}'", iso(reading.span.start_us), iso(reading.span.end_us));
    let side = Side { windows: vec![reading.span], filters: subject.filters.clone() };
    let whose = format!("service_name = {}{}", literal(&subject.service), side.filter_sql());
    // What the reader leaves out: failed requests, and other roles of the metric.
    let served = format!("{whose} AND attributes['error.type'] IS NULL AND {time}");
    let latency = reading.latency_metric.as_ref().map(|metric| {
        let roles = "role IN ('latency.e2e', 'latency.client', 'latency.inference')";
        format!("metric = {} AND {roles} AND {served}", literal(metric))
    });
    match evidence {
        EvidenceSubject::Event => Some(versions(&time, &whose)),
        EvidenceSubject::Latency => Some(by_minute("latency", &format!("1000 * {MEAN}"), "mean_ms", &latency?)),
        EvidenceSubject::Input(role) => input(*role, reading, &served),
        EvidenceSubject::Signal(kind, container) => signal(*kind, container.as_ref(), &whose, &time),
        EvidenceSubject::Place(dimension, _) => by_label(&label_of(*dimension, reading)?, &latency?),
        EvidenceSubject::Category(name) => by_label(name, &latency?),
    }
}

fn iso(time_us: i64) -> String {
    time_text(time_us).replace(" UTC", ":00Z").replace(' ', "T")
}

fn by_minute(view: &str, what: &str, name: &str, condition: &str) -> String {
    format!(
        "SELECT date_bin(INTERVAL '1 minute', time - INTERVAL '1 microsecond') AS minute, {what} AS {name} FROM {view} \
         WHERE {condition} AND value IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
}

/// Requests and mean latency by the values of a label; none of what was deployed, which no request carries.
fn by_label(name: &str, condition: &str) -> Option<String> {
    let part = match name {
        "deployment" => return None,
        name if series::LABELS.contains(&name) => name.to_owned(),
        name => format!("attributes[{}]", literal(name)),
    };
    Some(format!(
        "SELECT date_bin(INTERVAL '10 minutes', time - INTERVAL '1 microsecond') AS minutes, {part} AS part, \
         sum(coalesce(count, 1)) AS requests, 1000 * {MEAN} AS mean_ms FROM latency \
         WHERE {condition} AND value IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ))
}

/// Which version reported when. Marks are in `reports`.
fn versions(time: &str, whose: &str) -> String {
    let marks = deployment_mark::TABLE;
    format!(
        "SELECT model_version, min(time) AS first_seen, max(time) AS last_seen FROM latency \
         WHERE role IN ('latency.e2e', 'latency.client', 'latency.inference') AND {whose} AND {time} GROUP BY 1 ORDER BY 2 \
         -- what was marked: SELECT * FROM reports.{marks}"
    )
}

fn input(role: Role, reading: &Reading, served: &str) -> Option<String> {
    let metric = &reading.input_metrics.iter().find(|(known, _)| *known == role)?.1;
    let (view, name, factor) = latency_points::source_of(role)?;
    let condition = format!("metric = {} AND role = '{name}' AND {served}", literal(metric));
    Some(by_minute(view, &format!("{factor} * {MEAN}"), &role.as_str().replace(' ', "_"), &condition))
}

fn signal(kind: SignalKind, container: Option<&(Dimension, String)>, whose: &str, time: &str) -> Option<String> {
    let (view, roles) = machine_signals::source_of(kind)?;
    let roles: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    let place = match container {
        _ if view == "latency" => whose.to_owned(),
        Some((Dimension::Gpu, gpu)) => format!("gpu_id = {}", literal(gpu)),
        Some((_, machine)) => {
            let machine = literal(machine);
            format!("(host_name = {machine} OR k8s_node = {machine} OR k8s_pod = {machine})")
        }
        None => whose.to_owned(),
    };
    let resource = match kind {
        SignalKind::MemoryPressure => " AND attributes['driftwatt.pressure.resource'] = 'memory'",
        SignalKind::IoPressure => " AND attributes['driftwatt.pressure.resource'] = 'io'",
        _ => "",
    };
    Some(format!(
        "SELECT date_bin(INTERVAL '1 minute', time - INTERVAL '1 microsecond') AS minute, role, avg(value) AS value, max(value) AS most FROM {view} \
         WHERE role IN ({}) AND {place}{resource} AND {time} GROUP BY 1, 2 ORDER BY 1, 2",
        roles.join(", ")
    ))
}

fn label_of(dimension: Dimension, reading: &Reading) -> Option<String> {
    reading.window.labels_of(dimension).map(|labels| labels.name.clone())
}
