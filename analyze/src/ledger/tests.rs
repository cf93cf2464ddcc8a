//! Two weeks of an idle service, what people say to its recommendation, and the week after.

use std::sync::Arc;

use super::*;
use crate::{
    recommend::{RecommendRequest, recommend},
    test_session::{Sample, add_result, labels, session},
    window::MINUTE_US,
};

const DECIDED_US: i64 = 14 * DAY_US;

/// A service on `gpu_count` cards that hold memory and do nothing, a sample every five minutes of `days`.
fn idle(gpu_count: usize, days: std::ops::Range<i64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for gpu in 0..gpu_count {
        let id = format!("gpu-{gpu}");
        let pairs =
            [("host_name", "h1"), ("gpu_id", &id), ("gpu_model", "L4"), ("service_name", "held"), ("k8s_pod", &id)];
        for minute in (days.start * 1_440..days.end * 1_440).step_by(5) {
            let at = |role, value| Sample {
                time_us: minute * MINUTE_US,
                role,
                value,
                labels: labels(&pairs),
                simulated: false,
            };
            samples.extend([at("gpu.utilization", 0.0), at("gpu.memory.used", 1e10), at("gpu.memory.total", 2.4e10)]);
        }
    }
    samples
}

/// The recommendations table after two weeks with 8 cards, and the id in it.
async fn recommended() -> (RecordBatch, String) {
    let request = RecommendRequest {
        window: Window::new(0, DECIDED_US).unwrap(),
        zone: chrono_tz::UTC,
        prices: Some(crate::PriceBook::parse("currency = \"EUR\"\ngpu_hour = { L4 = 0.5 }").unwrap()),
        manifests: None,
        now_us: DECIDED_US,
    };
    let report = recommend(&session(&idle(8, 0..14), &[]), None, &request).await.unwrap();
    let id = report.services[0].id.clone().unwrap();
    assert!(report.to_text().contains(&format!("To decide on: {id} (held)")), "{}", report.to_text());
    (report.to_batch().unwrap(), id)
}

async fn store() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    (dir, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_measured_in_the_week_after() {
    let (batch, id) = recommended().await;
    let (_dir, store) = store().await;
    // From 8 cards to 6, as proposed, then 7.
    for (gpu_count, came) in [(6, 336.0), (7, 168.0)] {
        let ctx = session(&idle(gpu_count, 14..23), &[]);
        add_result(&ctx, recommend::TABLE, batch.clone());
        let accepted = decide(&ctx, &store, &id, Decision::Accept, Some("agreed"), DECIDED_US).await.unwrap();
        assert_eq!(accepted.text(), format!("{id} held: accepted, 336 GPU-h a week promised (agreed)"));
        add_result(&ctx, TABLE, to_batch(&[accepted], DECIDED_US).unwrap());
        let twice = decide(&ctx, &store, &id, Decision::Reject, None, DECIDED_US + 1).await.unwrap_err();
        assert!(twice.to_string().contains("accepted cannot become rejected"), "{twice}");
        assert_eq!(settle(&ctx, &store, DECIDED_US + 8 * DAY_US - 1).await.unwrap(), []);
        let settled = settle(&ctx, &store, DECIDED_US + 8 * DAY_US).await.unwrap();
        assert_eq!((settled.len(), settled[0].realised_gpu_hours), (1, Some(came)), "{settled:?}");
        // 336 GPU-hours at 0.5 were promised.
        assert_eq!((settled[0].predicted_saving, settled[0].realised_saving), (Some(168.0), Some(came / 2.0)));
    }
    // Both rounds are in the table of the store: two accepted, two realised.
    let table = store.tables().into_iter().find(|table| table.name == TABLE).unwrap();
    assert_eq!(table.row_count, 4);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_without_telemetry_saves_nothing_that_is_known_and_silence_expires() {
    let (batch, id) = recommended().await;
    let (_dir, store) = store().await;
    let ctx = session(&idle(6, 14..17), &[]);
    add_result(&ctx, recommend::TABLE, batch);
    let unknown = decide(&ctx, &store, "r0", Decision::Accept, None, DECIDED_US).await.unwrap_err();
    assert!(unknown.to_string().contains("\"r0\""), "{unknown}");
    let late = DECIDED_US + 14 * DAY_US;
    let refused = decide(&ctx, &store, &id, Decision::Accept, None, late).await.unwrap_err();
    assert!(refused.to_string().contains("past its expiry"), "{refused}");
    let expired = settle(&ctx, &store, late).await.unwrap();
    assert_eq!((expired.len(), expired[0].state), (1, LedgerState::Expired));
    let accepted = decide(&ctx, &store, &id, Decision::Accept, None, DECIDED_US).await.unwrap();
    add_result(&ctx, TABLE, to_batch(&[accepted], DECIDED_US).unwrap());
    let settled = settle(&ctx, &store, late).await.unwrap();
    assert_eq!((settled[0].realised_gpu_hours, settled[0].realised_saving), (None, None));
    assert!(
        settled[0].text().contains("unknown came of it (not measured: the service was seen in 29 %"),
        "{}",
        settled[0].text()
    );
    store.close().await.unwrap();
}
