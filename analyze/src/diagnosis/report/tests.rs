use super::*;
use crate::{
    diagnosis::{
        reader::{RowSource, Subject},
        scenario::{Kind, simulate},
        sentence::EvidenceSubject,
    },
    format::escape_markdown,
    window::Window,
};

const START_US: i64 = 1_790_000_000_000_000 / MINUTE_US * MINUTE_US;

/// The report on a simulated incident, as if it had been read.
fn report(kind: Kind) -> DiagnosisReport {
    let scenario = simulate(kind, 5, 2_000);
    let span = Window { start_us: START_US, end_us: START_US + scenario.window.minute_count as i64 * MINUTE_US };
    let requests = scenario.window.latency_ms.len();
    let reading = Reading {
        window: scenario.window.clone(),
        span,
        source: RowSource::SingleRequests { requests: requests as u64, rows: requests },
        latency_metric: Some("latency".into()),
        input_metrics: vec![(crate::diagnosis::service_window::Role::Megapixels, "pixels".into())],
        machines: vec!["host-0".into()],
        notes: vec!["<odd>".into()],
        point_count: 7,
        queries: vec!["SELECT 1".into()],
    };
    let subject = Subject { service: scenario.window.service, filters: vec![] };
    let request = DiagnoseRequest::new(subject, Some(span), None, span.end_us).unwrap();
    DiagnosisReport::new(request, reading).unwrap()
}

#[test]
fn all_forms_of_the_answer_say_the_same() {
    let report = report(Kind::Resolution);
    let (text, markdown, html) = (report.to_text(), report.to_markdown(), report.to_html());
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!((json["verdict"].as_str(), json["simulated"].as_bool()), (Some("input"), Some(true)));
    assert!(text.starts_with(&report.sentence) && markdown.contains(&escape_markdown(&report.sentence)));
    assert!(!markdown.contains("<odd>"), "{markdown}");
    assert!(html.contains("SIMULATED") && html.contains("&lt;odd&gt;") && !html.contains("<odd>"), "{html}");
    assert!(html.matches("class=\"mark\"").count() >= 4, "the change is marked in every chart");
    assert_eq!(html.matches("<svg class=\"chart\"").count(), 4, "latency and the three most telling series");
    let batch = report.to_batch().unwrap();
    assert_eq!((batch.num_rows(), batch.schema()), (1, DiagnosisReport::schema().unwrap()));
    // The parts of the change add up.
    let found = &json["comparison"];
    let parts: f64 = found["by_input_ms"].as_array().unwrap().iter().map(|part| part["ms"].as_f64().unwrap()).sum();
    let change = found["mean_after_ms"].as_f64().unwrap() - found["mean_before_ms"].as_f64().unwrap();
    assert!((parts + found["system_ms"].as_f64().unwrap() - change).abs() < 1e-6 * change.abs().max(1.0));
}

#[test]
fn sql_reads_what_the_reader_reads() {
    let report = report(Kind::Resolution);
    let of = |subject| sql::of(&subject, &report.request.subject, &report.reading);
    let latency = of(EvidenceSubject::Latency).unwrap();
    for part in ["role IN ('latency.e2e'", "attributes['error.type'] IS NULL", "time - INTERVAL '1 microsecond'"] {
        assert!(latency.contains(part), "{latency}");
    }
    assert_eq!(of(EvidenceSubject::Category("deployment".into())), None);
}

#[test]
fn what_somebody_sent_steers_no_terminal() {
    let mut report = report(Kind::Resolution);
    report.reading.notes = vec!["a\u{1b}[2J".into()];
    assert!(!report.to_text().contains('\u{1b}'));
}

#[test]
fn every_finding_says_what_would_show_that_it_is_wrong_and_where_to_look() {
    for kind in [Kind::Resolution, Kind::SlowHost, Kind::CpuStarvation, Kind::SlowerVersion] {
        let report = report(kind);
        assert!(!report.evidence.is_empty());
        for evidence in &report.evidence {
            assert!(!evidence.falsified_by.is_empty() && !evidence.next_check.is_empty());
        }
        let shown = report.evidence.iter().filter(|evidence| evidence.sql.is_some()).count();
        assert!(2 * shown >= report.evidence.len(), "{kind:?}: {:?}", report.evidence);
        assert!(report.onset_us().is_some_and(|onset_us| onset_us > START_US));
    }
}

#[test]
fn what_is_missing_is_named_and_no_cause_is() {
    let report = report(Kind::MissingTelemetry);
    let text = report.to_text();
    assert!(text.contains("inconclusive (cannot be told)") && text.contains("missing"), "{text}");
    assert!(report.to_html().contains("cannot be told"));
}
