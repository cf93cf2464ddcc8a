//! States of GPUs whose telemetry is known exactly.

use super::*;
use crate::{
    test_session::{Sample, SeriesRow, labels, session},
    window::HOUR_US,
};

const GIB: f64 = 1_073_741_824.0;

fn gpu(id: &'static str) -> Vec<(&'static str, String)> {
    labels(&[("host_name", "h"), ("gpu_id", id), ("service_name", if id == "busy" { "chat" } else { "batch" })])
}

/// One sample a minute over `[0, minutes)`, with memory.
fn samples(id: &'static str, minutes: i64, value: impl Fn(i64) -> f64, memory: f64) -> Vec<Sample> {
    let at = |role, minute: i64, value| Sample {
        time_us: minute * 60_000_000,
        role,
        value,
        labels: gpu(id),
        simulated: false,
    };
    (0..minutes)
        .flat_map(|minute| [at("gpu.utilization", minute, value(minute)), at("gpu.memory.used", minute, memory)])
        .collect()
}

fn known(id: &'static str, last_us: i64) -> SeriesRow {
    SeriesRow { last_us, labels: gpu(id), ..SeriesRow::default() }
}

async fn report() -> IdleReport {
    let mut all = samples("busy", 120, |_| 0.8, 40.0 * GIB);
    all.extend(samples("held", 120, |_| 0.05, 40.0 * GIB));
    all.extend(samples("free", 120, |_| 0.0, 0.1 * GIB));
    all.extend(samples("bursts", 120, |minute| if minute % 10 == 0 { 1.0 } else { 0.0 }, 40.0 * GIB));
    all.extend(samples("partial", 30, |_| 0.0, 40.0 * GIB));
    let week = 7 * 24 * HOUR_US;
    let series = [known("held", 0), known("silent", -week + 1), known("forgotten", -week - 1)];
    let ctx = session(&all, &series);
    let request = IdleRequest::new(Window::new(0, 2 * HOUR_US).unwrap());
    examine(&ctx, None, &request, 0).await.unwrap()
}

#[tokio::test]
async fn every_state_is_told_apart() {
    let report = report().await;
    let state = |id: &str| report.gpus.iter().find(|gpu| gpu.gpu_id == id).map(|gpu| gpu.state);
    assert_eq!(state("busy"), Some(State::Busy));
    assert_eq!(state("held"), Some(State::IdleHeld));
    assert_eq!(state("free"), Some(State::Free));
    assert_eq!(state("bursts"), Some(State::Busy));
    assert_eq!(state("partial"), Some(State::NoTelemetry), "a quarter of the window proves nothing");
    assert_eq!(state("silent"), Some(State::NoTelemetry), "known in the last 7 days");
    assert_eq!(state("forgotten"), None);
    let held = report.gpus.iter().find(|gpu| gpu.gpu_id == "held").unwrap();
    assert_eq!((held.received_count, held.coverage, held.memory_bytes), (120, 1.0, Some(40.0 * GIB)));
    assert!((held.mean.unwrap() - 0.05).abs() < 1e-12);
    let partial = report.gpus.iter().find(|gpu| gpu.gpu_id == "partial").unwrap();
    assert_eq!((partial.coverage, partial.note.as_str()), (0.25, "insufficient telemetry"));
}

#[tokio::test]
async fn services_are_judged_by_their_measured_gpus() {
    let report = report().await;
    let batch = report.services.iter().find(|service| service.service == "batch").unwrap();
    assert_eq!((batch.gpu_count, batch.measured_count, batch.examined), (5, 3, true));
    let chat = report.services.iter().find(|service| service.service == "chat").unwrap();
    assert_eq!((chat.examined, chat.state), (false, State::Busy));
}

#[tokio::test]
async fn simulated_gpus_stay_apart_and_are_marked() {
    let mut all = samples("held", 120, |_| 0.0, 40.0 * GIB);
    let mut twin = samples("held", 120, |_| 1.0, 40.0 * GIB);
    twin.iter_mut().for_each(|sample| sample.simulated = true);
    all.append(&mut twin);
    let request = IdleRequest::new(Window::new(0, 2 * HOUR_US).unwrap());
    let report = examine(&session(&all, &[]), None, &request, 0).await.unwrap();
    let states: Vec<_> = report.gpus.iter().map(|gpu| (gpu.simulated, gpu.state)).collect();
    assert_eq!(states, [(false, State::IdleHeld), (true, State::Busy)]);
    let text = report.to_text();
    // Busy GPUs are in the row of their service only.
    assert!(text.contains("SIMULATED") && text.lines().filter(|line| line.contains("h/held")).count() == 1, "{text}");
    let batch = report.to_batch(1).unwrap();
    assert_eq!((batch.num_rows(), batch.schema().field(0).name().as_str()), (2, "time"));
}

#[tokio::test]
async fn slices_add_up_to_their_card_and_are_not_averaged() {
    let slice = |name: &'static str, value: f64| {
        let mut all = samples("sliced", 120, move |_| value, 5.0 * GIB);
        all.iter_mut().for_each(|sample| sample.labels.push(("mig_id", name.to_owned())));
        all
    };
    let all = [slice("one", 0.7), slice("two", 0.35)].concat();
    let request = IdleRequest::new(Window::new(0, 2 * HOUR_US).unwrap());
    let report = examine(&session(&all, &[]), None, &request, 0).await.unwrap();
    let [gpu] = report.gpus.as_slice() else { panic!("{:?}", report.gpus) };
    // 0.7 / 7 + 0.35 x 2 / 7 of the card; both are there all the time.
    assert!((gpu.mean.unwrap() - 0.2).abs() < 1e-9 && (gpu.peak.unwrap() - 0.2).abs() < 1e-9, "{gpu:?}");
    assert_eq!((gpu.state, gpu.coverage, gpu.memory_bytes), (State::IdleHeld, 1.0, Some(10.0 * GIB)));
}

#[tokio::test]
async fn the_page_tells_every_state_and_real_from_simulated() {
    let mut report = report().await;
    let page = report.page();
    assert_eq!(page.tiles.iter().map(|tile| tile.value.clone().unwrap()).collect::<Vec<_>>(), ["1", "1", "2", "2"]);
    let html = report.to_html();
    for words in
        ["<h2>Services</h2>", "insufficient telemetry", "GPUs of each service by state", "SQL of these numbers"]
    {
        assert!(html.contains(words), "{words}");
    }
    assert!(!html.contains("SIMULATED") && !html.contains("<script"));
    for gpu in &mut report.gpus {
        gpu.simulated = true;
    }
    report.services.iter_mut().for_each(|service| service.simulated = true);
    let html = report.to_html();
    assert!(html.contains("<h2>GPUs (SIMULATED)</h2>") && html.contains("simulated: idle-held"));
    crate::page::look(&html, "idle");
}
