//! The report on telemetry whose totals are known exactly.

use super::*;
use crate::{
    test_session::{Sample, labels, session},
    window::HOUR_US,
};

/// Ten hours at one sample a minute of one GPU and its host, starting at `start_hour`.
fn samples(start_hour: i64, service: &str, gpu_model: &str, value: f64, simulated: bool) -> Vec<Sample> {
    let pairs = labels(&[
        ("host_name", "h<1>"),
        ("gpu_id", "g|0"),
        ("gpu_model", gpu_model),
        ("service_name", service),
        ("model_name", "m"),
        ("model_version", "v1"),
    ]);
    let one = |minute: i64| {
        let at = |role, value| Sample {
            time_us: start_hour * HOUR_US + minute * 60_000_000,
            role,
            value,
            labels: pairs.clone(),
            simulated,
        };
        let peak = if minute == 0 { 1.0 } else { value };
        [at("gpu.utilization", peak), at("gpu.memory.used", 1e9), at("cpu.utilization", 0.5), at("memory.used", 2e9)]
    };
    (0..600).flat_map(one).collect()
}

fn request() -> WeeklyRequest {
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { L4 = 0.5 }").unwrap();
    WeeklyRequest { window: Window::new(100 * HOUR_US, 110 * HOUR_US).unwrap(), prices: Some(prices), now_us: 7 }
}

async fn report(samples: &[Sample]) -> WeeklyReport {
    weekly(&session(samples, &[]), None, &request()).await.unwrap()
}

fn row(report: &WeeklyReport, dimension: Dimension, simulated: bool) -> &UsageRow {
    report.rows.iter().find(|row| row.dimension == dimension && row.simulated == simulated).unwrap()
}

#[tokio::test]
async fn hours_cost_and_change_are_exact() {
    let mut all = samples(100, "chat", "l4", 0.4, false);
    all.extend(samples(90, "chat", "l4", 0.1, false));
    let report = report(&all).await;
    assert_eq!(report.rows.len(), 4);
    for dimension in [Dimension::Service, Dimension::Model, Dimension::Host, Dimension::Gpu] {
        let row = row(&report, dimension, false);
        assert!((row.usage.gpu_hours - 10.0).abs() < 1e-9, "{dimension:?}");
        assert_eq!(row.usage.gpu_cost, Some(5.0));
        assert_eq!((row.usage.gpu_utilization.p95, row.usage.gpu_utilization.peak), (Some(0.4), Some(1.0)));
        assert!((row.gpu_utilization_change().unwrap() - 0.3 * 599.0 / 600.0).abs() < 1e-9);
        assert_eq!(row.usage.coverage, Some(1.0));
    }
    assert_eq!(row(&report, Dimension::Model, false).name, "m v1");
    assert_eq!(row(&report, Dimension::Host, false).usage.cpu_cost, None, "no vCPU price");
    assert_eq!(report.row_count, 4800);
    assert_eq!(report.hourly.len(), 10);
}

#[tokio::test]
async fn an_unknown_price_is_unknown_and_a_missing_week_is_no_data() {
    let report = report(&samples(100, "chat", "another GPU", 0.4, false)).await;
    assert_eq!(row(&report, Dimension::Service, false).usage.gpu_cost, None);
    let text = report.to_markdown();
    assert!(text.contains("unknown") && text.contains("no data"), "{text}");
    assert!(report.to_csv().contains("unknown") && report.to_html().contains("unknown"));
}

#[tokio::test]
async fn simulated_rows_stay_apart_and_are_labelled_everywhere() {
    let mut all = samples(100, "chat", "L4", 0.4, false);
    all.extend(samples(100, "chat", "L4", 0.8, true));
    let report = report(&all).await;
    assert_eq!(report.rows.len(), 8);
    let average = |simulated| row(&report, Dimension::Gpu, simulated).usage.gpu_utilization.average.unwrap();
    assert!(average(false) < 0.41 && average(true) > 0.79);
    assert!(report.title().contains("SIMULATED"));
    for text in [report.to_markdown(), report.to_html(), report.to_text()] {
        assert!(text.contains("SIMULATED") && text.contains("simulated chat"), "{text}");
    }
    assert!(report.to_csv().contains("\r\nsimulated,service,chat,"));
    assert!(report.to_json().unwrap().contains("\"simulated\": true"));
}

#[tokio::test]
async fn renderers_escape_and_fit() {
    let mut all = samples(100, "<script>|", "another GPU", 0.4, false);
    all.extend(samples(100, "a-service-with-a-name-that-goes-on-and-on", "L4", 0.4, true));
    let report = report(&all).await;
    let html = report.to_html();
    assert!(!html.contains("<script") && html.contains("h&lt;1&gt;") && html.contains("<svg"), "{html}");
    assert!(html.contains("prefers-color-scheme:dark") && !html.contains("http"));
    for whole in [&html, &report.to_markdown()] {
        assert!(whole.contains("a-service-with-a-name-that-goes-on-and-on"), "{whole}");
    }
    let text = report.to_text();
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(120), "{widest:?}\n{text}");
    let batch = report.to_batch().unwrap();
    assert_eq!((batch.num_rows(), batch.schema().field(0).name().as_str()), (8, "time"));
}

#[tokio::test]
async fn no_telemetry_is_said() {
    let report = report(&[]).await;
    assert!(report.to_markdown().contains("No telemetry in this window."));
}
