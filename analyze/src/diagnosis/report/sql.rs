//! SQL that shows a finding: whoever runs it sees the same numbers as the diagnosis, minute by minute.

use crate::{
    diagnosis::{
        reader::{Reading, Subject, machine_signals},
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
    let latency = reading.latency_metric.as_ref().map(|metric| format!("metric = {}", literal(metric)));
    match evidence {
        EvidenceSubject::Event => Some(versions(&time, &whose)),
        EvidenceSubject::Latency => Some(by_minute(
            "latency",
            &format!("1000 * {MEAN}"),
            "mean_ms",
            &format!("{} AND {whose} AND {time}", latency?),
        )),
        EvidenceSubject::Input(role) => input(*role, reading, &whose, &time),
        EvidenceSubject::Signal(kind, container) => signal(*kind, container.as_ref(), &whose, &time),
        EvidenceSubject::Place(_, _) | EvidenceSubject::Category(_) => {
            let name = match evidence {
                EvidenceSubject::Category(name) => name.clone(),
                EvidenceSubject::Place(dimension, _) => label_of(*dimension, reading)?,
                _ => return None,
            };
            Some(by_label(&name, &format!("{} AND {whose} AND {time}", latency?)))
        }
    }
}

fn iso(time_us: i64) -> String {
    time_text(time_us).replace(" UTC", ":00Z").replace(' ', "T")
}

fn by_minute(view: &str, what: &str, name: &str, condition: &str) -> String {
    format!(
        "SELECT date_bin(INTERVAL '1 minute', time) AS minute, {what} AS {name} FROM {view} \
         WHERE {condition} AND value IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
}

/// Requests and mean latency by the values of a label. By series first: the engine cannot take an attribute out of the view's
/// own rows and add up by it at once.
fn by_label(name: &str, condition: &str) -> String {
    let (kept, part) = match column(name) {
        Some(column) => (format!("max({column}) AS part"), "part".to_owned()),
        None => ("first_value(attributes) AS attributes".to_owned(), format!("attributes[{}] AS part", literal(name))),
    };
    format!(
        "SELECT minutes, {part}, sum(n) AS requests, 1000 * sum(s) / sum(n) AS mean_ms FROM \
         (SELECT series_id, date_bin(INTERVAL '10 minutes', time) AS minutes, {kept}, sum(coalesce(count, 1)) AS n, \
         sum(coalesce(sum, value)) AS s FROM latency WHERE {condition} AND value IS NOT NULL GROUP BY 1, 2) \
         GROUP BY 1, 2 ORDER BY 1, 2"
    )
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

fn input(role: Role, reading: &Reading, whose: &str, time: &str) -> Option<String> {
    let metric = &reading.input_metrics.iter().find(|(known, _)| *known == role)?.1;
    let (view, factor) = match role {
        Role::Megapixels => ("inputs", "1e-6 * "),
        Role::Kilobytes => ("inputs", "1e-3 * "),
        Role::QueueMs => ("latency", "1e3 * "),
        Role::BatchSize => ("latency", ""),
        Role::PromptTokens | Role::OutputTokens | Role::ImageCount => ("inputs", ""),
    };
    // One metric may have several roles: of tokens, input and output.
    let of_role = match role {
        Role::PromptTokens => " AND role = 'input.tokens'",
        Role::OutputTokens => " AND role = 'output.tokens'",
        _ => "",
    };
    let name = role.as_str().replace(' ', "_");
    let condition = format!("metric = {}{of_role} AND {whose} AND {time}", literal(metric));
    Some(by_minute(view, &format!("{factor}{MEAN}"), &name, &condition))
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
        "SELECT date_bin(INTERVAL '1 minute', time) AS minute, role, avg(value) AS value, max(value) AS most FROM {view} \
         WHERE role IN ({}) AND {place}{resource} AND {time} GROUP BY 1, 2 ORDER BY 1, 2",
        roles.join(", ")
    ))
}

fn label_of(dimension: Dimension, reading: &Reading) -> Option<String> {
    reading.window.labels_of(dimension).map(|labels| labels.name.clone())
}

/// The column of a label, where the views have one; else it is an attribute.
fn column(name: &str) -> Option<&str> {
    const COLUMNS: [&str; 9] = [
        "service_instance_id",
        "host_name",
        "k8s_node",
        "k8s_pod",
        "gpu_id",
        "model_name",
        "model_version",
        "deployment_environment",
        "region",
    ];
    COLUMNS.contains(&name).then_some(name)
}
