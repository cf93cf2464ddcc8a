//! Two weeks of services whose verdict is known.

use super::*;
use crate::test_session::{Sample, labels, session};

const STEP_MINUTES: i64 = 5;
const DAYS: i64 = 14;

/// A sample of each GPU of `service` every five minutes, its duty by the minute; nothing where there is none.
fn service(name: &'static str, gpu_count: usize, duty: impl Fn(i64) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for gpu in 0..gpu_count {
        let labels = labels(&[
            ("host_name", "h1"),
            ("gpu_id", &format!("{name}-{gpu}")),
            ("gpu_model", "L4"),
            ("service_name", name),
            ("k8s_pod", &format!("{name}-{gpu}")),
        ]);
        for minute in (0..DAYS * 1_440).step_by(STEP_MINUTES as usize) {
            let Some(duty) = duty(minute) else { continue };
            let at = |role, value| Sample {
                time_us: minute * MINUTE_US,
                role,
                value,
                labels: labels.clone(),
                simulated: false,
            };
            samples.extend([at("gpu.utilization", duty), at("gpu.memory.used", 1e10), at("gpu.memory.total", 2.4e10)]);
        }
    }
    samples
}

fn request(prices: Option<&str>) -> RecommendRequest {
    RecommendRequest {
        window: Window::new(0, DAYS * DAY_US).unwrap(),
        zone: Tz::Europe__Berlin,
        prices: prices.map(|text| PriceBook::parse(text).unwrap()),
        now_us: DAYS * DAY_US,
    }
}

#[tokio::test]
async fn idle_services_shrink_busy_ones_stay_and_silent_ones_get_no_verdict() {
    let mut samples = service("held", 8, |_| Some(0.0));
    // A duty that never moves would be that of an exporter that hangs.
    samples.extend(service("busy", 2, |minute| Some(0.8 + (minute % 7) as f64 / 100.0)));
    // Every other day is missing.
    samples.extend(service("silent", 2, |minute| (minute / 1_440 % 2 == 0).then_some(0.0)));
    let ctx = session(&samples, &[]);
    let report = recommend(&ctx, None, &request(Some("currency = \"EUR\"\ngpu_hour = { L4 = 0.5 }"))).await.unwrap();
    let of = |name: &str| report.services.iter().find(|service| service.service == name).unwrap();
    // 8 replicas less a quarter; two cards for a week of 168 hours at 0.5.
    let held = of("held");
    assert_eq!((held.verdict_name(), held.replica_count, held.proposed()), ("shrink", 8, Some(6)), "{}", held.why());
    assert_eq!(held.saving().map(|saving| saving.expected), Some(2.0 * 168.0 * 0.5));
    assert!((held.hours[&GpuState::IdleHeld] - 8.0 * 24.0 * DAYS as f64).abs() < 1.0, "{:?}", held.hours);
    assert_eq!(of("busy").verdict_name(), "keep");
    let silent = of("silent");
    assert_eq!((silent.verdict_name(), silent.proposed()), ("unknown", None), "{}", silent.why());
    assert!(silent.why().contains("50 % of GPU time"), "{}", silent.why());
    let text = report.to_text();
    assert!(text.contains("8 → 6") && text.contains("168.00 EUR"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["services"][1]["recommendation"]["proposed"], 6);
}

#[tokio::test]
async fn without_a_price_a_saving_is_hours_and_what_forbids_a_change_is_said() {
    let mut samples = service("held", 8, |_| Some(0.0));
    let report = recommend(&session(&samples, &[]), None, &request(None)).await.unwrap();
    assert!(report.to_text().contains("336 GPU-h, price unknown"), "{}", report.to_text());
    // One card reports a new error.
    let card = samples.iter().find(|sample| sample.role == "gpu.utilization").unwrap().labels.clone();
    for (minute, value) in [(10, 0.0), (20, 79.0)] {
        let labels = card.clone();
        samples.push(Sample { time_us: minute * MINUTE_US, role: "gpu.xid.errors", value, labels, simulated: false });
    }
    let report = recommend(&session(&samples, &[]), None, &request(None)).await.unwrap();
    assert_eq!(report.services[0].verdict_name(), "vetoed");
    assert!(report.services[0].why().contains("XID"), "{}", report.services[0].why());
}

#[tokio::test]
async fn no_telemetry_is_no_verdict() {
    let report = recommend(&session(&[], &[]), None, &request(None)).await.unwrap();
    assert!(report.services.is_empty() && report.to_text().contains("No service named itself"));
}
