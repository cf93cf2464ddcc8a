//! Two weeks of services whose verdict is known.

use super::*;
use crate::manifest::Folder;
use crate::test_session::{Sample, SeriesRow, labels, session};
use crate::window::{DAY_US, MINUTE_US};

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
        manifests: None,
        holidays: vec![],
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

/// Duty on working days from nine to six, and at other times.
fn office(minute: i64) -> Option<f64> {
    let (day, hour) = (minute / 1_440, minute / 60 % 24);
    // The epoch was a Thursday. A duty that never moves would be that of an exporter that hangs.
    let is_working = !matches!((day + 3) % 7, 5 | 6) && (9..18).contains(&hour);
    Some(if is_working { 0.5 } else { 0.02 } + (minute % 7) as f64 / 1_000.0)
}

#[tokio::test]
async fn files_are_written_for_a_workload_that_is_known_and_else_what_is_missing_is_said() {
    let mut samples = service("held", 8, |_| Some(0.0));
    samples.extend(service("lost", 8, |_| Some(0.0)));
    let row = |pod: &str, deployment, namespace: Option<&str>| SeriesRow {
        last_us: DAYS * DAY_US - 1,
        labels: labels(&[("k8s_pod", pod), ("k8s_namespace", namespace.unwrap_or("prod"))]),
        attributes: vec![("k8s.deployment.name", deployment)],
        ..SeriesRow::default()
    };
    let ctx = session(&samples, &[row("held-0", "held-deployment", None), row("held-1", "held-deployment", None)]);
    let wanted = RecommendRequest { manifests: Some(ManifestRequest::default()), ..request(None) };
    let report = recommend(&ctx, None, &wanted).await.unwrap();
    let of = |name: &str| report.services.iter().find(|service| service.service == name).unwrap();
    let held = of("held").manifests.as_ref().unwrap();
    let replicas = &held.folders[0];
    assert_eq!(replicas.name, "replicas");
    let [to, from] = [0, 1].map(|at| replicas.change.files[at].text.as_str());
    assert!(to.ends_with("spec:\n  replicas: 6\n") && from.ends_with("spec:\n  replicas: 8\n"), "{to}{from}");
    // Why, the three numbers, and until when: two weeks from the end of the window.
    for words in
        ["0 % of 8 replicas was busy", "mean share busy 0.000, peak with burst 0.00 GPUs", "holds until 1970-01-29"]
    {
        assert!(to.contains(words), "{words}: {to}");
    }
    assert!(replicas.readme.contains("kubectl -n prod patch deployment held-deployment"), "{}", replicas.readme);
    // No CPU request, no queue, no cache is told of: nothing carries an autoscaler.
    assert!(held.notes.iter().any(|note| note.contains("set resources.requests.cpu first")), "{:?}", held.notes);
    let lost = of("lost").manifests.as_ref().unwrap();
    assert!(lost.folders.is_empty() && lost.notes[0].contains("send k8s.deployment.name"), "{:?}", lost.notes);
}

/// Eight replicas of a model of 8 GB on the cards of a host, with their folders.
async fn parted(gpu_model: &str, more: &[Sample]) -> (Vec<Folder>, Vec<String>) {
    let mut samples = service("held", 8, |_| Some(0.0));
    for sample in &mut samples {
        sample.labels.retain(|(name, _)| *name != "gpu_model");
        sample.labels.extend([("gpu_model", gpu_model.to_owned()), ("k8s_container", "server".to_owned())]);
        match sample.role {
            "gpu.memory.used" => sample.value = 8e9,
            "gpu.memory.total" => sample.value = 80.0 * 1_073_741_824.0,
            _ => {}
        }
    }
    samples.extend_from_slice(more);
    let row = SeriesRow {
        last_us: DAYS * DAY_US - 1,
        labels: labels(&[("k8s_pod", "held-0"), ("k8s_namespace", "prod")]),
        attributes: vec![("k8s.deployment.name", "held")],
        ..SeriesRow::default()
    };
    let wanted = RecommendRequest { manifests: Some(ManifestRequest::default()), ..request(None) };
    let report = recommend(&session(&samples, &[row]), None, &wanted).await.unwrap();
    let held = report.services.into_iter().find(|service| service.service == "held").unwrap();
    let made = held.manifests.unwrap();
    (made.folders, made.notes)
}

#[tokio::test]
async fn replicas_that_fit_a_slice_get_files_for_mig_and_others_for_time_slices() {
    let (folders, notes) = parted("NVIDIA H100 80GB HBM3", &[]).await;
    let mig = folders.iter().find(|folder| folder.name == "mig").unwrap_or_else(|| panic!("{notes:?}"));
    // 8e9 / 0.9 bytes fit 1g.10gb, seven to a card: two cards for eight replicas.
    let file = |name: &str| mig.change.files.iter().find(|file| file.name == name).unwrap().text.clone();
    assert!(file("mig-parted.yaml").contains("\"1g.10gb\": 7"), "{}", file("mig-parted.yaml"));
    assert!(file("mig-parted.yaml").contains("fit 2 of the 8 cards of h1, 7 on each"), "{}", file("mig-parted.yaml"));
    assert!(file("do-mig-resource.yaml").contains("name: \"server\""));
    assert!(mig.readme.contains("do not apply the folder `replicas` as well") && mig.readme.contains("drain h1"));
    // A card without MIG: 80 GiB x 0.9 / 8 GB is nine replicas, which all fit one card.
    let (folders, notes) = parted("NVIDIA L40S", &[]).await;
    let sharing = folders.iter().find(|folder| folder.name == "sharing").unwrap_or_else(|| panic!("{notes:?}"));
    assert!(sharing.change.files[0].text.contains("  replicas: 9\n"), "{}", sharing.change.files[0].text);
    // A card of another service on the node: nothing may be cut there.
    let (folders, notes) = parted("NVIDIA H100 80GB HBM3", &service("other", 1, |_| Some(0.0))).await;
    assert!(folders.iter().all(|folder| folder.name != "mig"));
    assert!(
        notes.iter().any(|note| note.contains("no node has 2 cards that are whole and that only this")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn an_autoscaler_is_proposed_from_the_queue_that_was_measured() {
    let mut samples = service("chat", 12, office);
    for minute in (0..DAYS * 1_440).step_by(STEP_MINUTES as usize) {
        let labels = labels(&[("service_name", "chat")]);
        let at =
            |role, value| Sample { time_us: minute * MINUTE_US, role, value, labels: labels.clone(), simulated: false };
        let load = office(minute).unwrap();
        samples.extend([at("queue.length", 0.2), at("kv_cache.utilization", load)]);
    }
    let named = SeriesRow {
        last_us: DAYS * DAY_US - 1,
        labels: labels(&[("service_name", "chat"), ("k8s_namespace", "prod")]),
        attributes: vec![("k8s.deployment.name", "chat")],
        ..SeriesRow::default()
    };
    let ctx = session(&samples, &[named]);
    let prometheus = Some("http://prometheus.monitoring:9090".to_owned());
    let wanted = RecommendRequest { manifests: Some(ManifestRequest { prometheus }), ..request(None) };
    let report = recommend(&ctx, None, &wanted).await.unwrap();
    let made = report.services[0].manifests.as_ref().unwrap();
    let keda = made.folders.iter().find(|folder| folder.name == "keda");
    let keda = keda.unwrap_or_else(|| panic!("{:?} {:?}", report.services[0].why(), made.notes));
    let text = &keda.change.files[0].text;
    for words in [
        "kind: \"ScaledObject\"",
        "sum(queue_length{namespace=\\\"prod\\\",service=\\\"chat\\\"})",
        "holds until",
        "minReplicaCount",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(keda.readme.contains("kubectl delete -f do-scaledobject.yaml"), "{}", keda.readme);
}

#[tokio::test]
async fn a_pod_that_moved_to_another_card_makes_no_replica_larger() {
    let mut samples = service("held", 11, |_| Some(0.0));
    let is = |sample: &Sample, id: &str| sample.labels.contains(&("gpu_id", id.into()));
    samples.retain(|sample| {
        let is_early = sample.time_us < 7 * DAY_US;
        !(is(sample, "held-9") && !is_early || is(sample, "held-10") && is_early)
    });
    let report = recommend(&session(&samples, &[]), None, &request(None)).await.unwrap();
    assert_eq!((report.services[0].gpu_count, report.services[0].gpus_per_replica), (11, 1));
    let found = report.services[0].recommendation().unwrap();
    assert_eq!(found.gpu_hours.expected, f64::from(found.current - found.proposed) * 168.0);
}

#[tokio::test]
async fn minutes_of_more_or_less_than_the_window_give_the_same_verdicts() {
    let mut samples = service("held", 8, |_| Some(0.0));
    samples.extend(service("busy", 2, |minute| Some(0.8 + (minute % 7) as f64 / 100.0)));
    // Nothing is heard of it before the tenth day.
    samples.extend(service("late", 4, |minute| (minute >= 10 * 1_440).then_some(0.0)));
    // Its last two days are after the window.
    let ctx = session(&samples, &[]);
    let window = Window::new(-DAY_US, 12 * DAY_US).unwrap();
    let asked = RecommendRequest { window, now_us: window.end_us, ..request(None) };
    let verdicts = |report: &RecommendReport| {
        let of = |service: &ServiceVerdict| {
            let told = (service.why(), service.replica_count, service.hours.clone(), service.mean, service.coverage);
            (service.service.clone(), service.proposed(), told)
        };
        report.services.iter().map(of).collect::<Vec<_>>()
    };
    let expected = verdicts(&recommend(&ctx, None, &asked).await.unwrap());
    assert_eq!(expected.len(), 3);
    for (from, until) in [(0, 14), (-3, 20), (0, 12)] {
        let minutes = GpuMinutes::read(&ctx, Window::new(from * DAY_US, until * DAY_US).unwrap()).await.unwrap();
        let found = recommend_of(&ctx, &minutes, &asked, None).await.unwrap();
        assert_eq!(verdicts(&found), expected, "minutes of days {from} to {until}");
    }
}

#[tokio::test]
async fn the_page_has_proposals_states_and_reasons() {
    let mut samples = service("held", 8, |_| Some(0.0));
    samples.extend(service("busy", 2, |minute| Some(0.8 + (minute % 7) as f64 / 100.0)));
    samples.extend(service("silent", 2, |minute| (minute / 1_440 % 2 == 0).then_some(0.0)));
    let report =
        recommend(&session(&samples, &[]), None, &request(Some("currency = \"EUR\"\ngpu_hour = { L4 = 0.5 }"))).await;
    let report = report.unwrap();
    let html = report.to_html();
    let id = report.services.iter().find_map(|service| service.id.clone()).unwrap();
    for words in [
        &id,
        "8 → 6",
        "168.00 EUR",
        "silent: unknown: only 50 %",
        "GPU-hours by state",
        "replayed minutes without capacity",
    ] {
        assert!(html.contains(words), "{words}\n{html}");
    }
    crate::page::look(&html, "recommend");
    let without = RecommendReport { request: request(None), ..report };
    let html = without.to_html();
    assert!(html.contains("There is no price book") && !html.contains(" EUR"), "a price that is not known is no 0");
    let nothing = recommend(&session(&[], &[]), None, &request(None)).await.unwrap().to_html();
    assert!(nothing.contains("No service named itself"), "{nothing}");
}
