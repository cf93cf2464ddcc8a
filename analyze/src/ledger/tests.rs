//! Two weeks of an idle service, what people say to its recommendation, and the week after.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::{table::to_batch, *};
use crate::{
    recommend::{RecommendRequest, recommend},
    test_session::{Sample, SeriesRow, add_result, labels, session},
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
    recommended_after(0).await
}

/// The same of a run some days later.
async fn recommended_after(days: i64) -> (RecordBatch, String) {
    let now_us = DECIDED_US + days * DAY_US;
    let request = RecommendRequest {
        window: Window::new(now_us - DECIDED_US, now_us).unwrap(),
        zone: chrono_tz::UTC,
        prices: Some(crate::PriceBook::parse("currency = \"EUR\"\ngpu_hour = { L4 = 0.5 }").unwrap()),
        manifests: None,
        holidays: vec![],
        now_us,
    };
    let report = recommend(&session(&idle(8, days..14 + days), &[]), None, &request).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn of_a_daily_run_only_the_newest_proposal_is_open_and_none_counts_twice() {
    let (_dir, store) = store().await;
    let (mut batches, mut ids) = (Vec::new(), Vec::new());
    for day in 0..3 {
        let (batch, id) = recommended_after(day).await;
        batches.push(batch);
        ids.push(id);
    }
    let joined =
        |batches: &[RecordBatch]| datafusion::arrow::compute::concat_batches(batches[0].schema_ref(), batches).unwrap();
    let ctx = session(&[], &[]);
    add_result(&ctx, recommend::TABLE, joined(&batches[..2]));
    let second_day_us = DECIDED_US + DAY_US;
    let old = decide(&ctx, &store, &ids[0], Decision::Accept, None, second_day_us).await.unwrap_err();
    assert!(old.to_string().contains("superseded cannot become accepted"), "{old}");
    let settled = settle(&ctx, &store, second_day_us).await.unwrap();
    let superseded: Vec<String> = settled.iter().map(Entry::text).collect();
    let expected = format!("{} held: superseded, 336 GPU-h a week promised (by {})", ids[0], ids[1]);
    assert_eq!(superseded, [expected]);
    let accepted = decide(&ctx, &store, &ids[1], Decision::Accept, None, second_day_us).await.unwrap();
    // The next day there is another one: that of the day before is taken already.
    let ctx = session(&[], &[]);
    add_result(&ctx, recommend::TABLE, joined(&batches));
    add_result(&ctx, TABLE, to_batch(&[settled[0].clone(), accepted], second_day_us).unwrap());
    let third_day_us = second_day_us + DAY_US;
    assert_eq!(settle(&ctx, &store, third_day_us).await.unwrap(), [], "once in the ledger");
    let twice = decide(&ctx, &store, &ids[2], Decision::Accept, None, third_day_us).await.unwrap_err();
    assert!(twice.to_string().contains(&format!("cannot be accepted while {}", ids[1])), "{twice}");
    decide(&ctx, &store, &ids[2], Decision::Reject, None, third_day_us).await.unwrap();
    store.close().await.unwrap();
}

/// Two weeks until some days after the first run.
fn asked(days: i64) -> RecommendRequest {
    let now_us = DECIDED_US + days * DAY_US;
    RecommendRequest {
        window: Window::new(now_us - DECIDED_US, now_us).unwrap(),
        zone: chrono_tz::UTC,
        prices: None,
        manifests: None,
        holidays: vec![],
        now_us,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daily_run_proposes_unchanged_is_renewed_and_what_changes_is_superseded() {
    let (_dir, store) = store().await;
    let mut recorded: Vec<RecordBatch> = Vec::new();
    let mut ids = Vec::new();
    for day in [0, 1, 13] {
        let ctx = session(&idle(8, day..14 + day), &[]);
        if let Some(first) = recorded.first() {
            let joined = datafusion::arrow::compute::concat_batches(first.schema_ref(), &recorded).unwrap();
            add_result(&ctx, recommend::TABLE, joined);
        }
        let report = recommend(&ctx, Some(&store), &asked(day)).await.unwrap();
        assert_eq!(report.settled, [], "nothing changed on day {day}");
        ids.push(report.services[0].id.clone().unwrap());
        recorded.push(report.to_batch().unwrap());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // Six days after the expiry of the first row it can still be accepted: the last one counts.
    let joined = datafusion::arrow::compute::concat_batches(recorded[0].schema_ref(), &recorded).unwrap();
    let late_us = DECIDED_US + 20 * DAY_US;
    let ctx = session(&[], &[]);
    add_result(&ctx, recommend::TABLE, joined.clone());
    let accepted = decide(&ctx, &store, &ids[0], Decision::Accept, None, late_us).await.unwrap();
    assert_eq!(accepted.predicted_gpu_hours, Some(336.0));
    // A service of twelve cards is another question, with another answer.
    let ctx = session(&idle(12, 20..34), &[]);
    add_result(&ctx, recommend::TABLE, joined);
    let report = recommend(&ctx, Some(&store), &asked(20)).await.unwrap();
    let changed = report.services[0].id.clone().unwrap();
    assert_ne!(changed, ids[0]);
    // What this run recorded is seen by the next.
    let both = [recorded[0].clone(), report.to_batch().unwrap()];
    let ctx = session(&[], &[]);
    let joined = datafusion::arrow::compute::concat_batches(both[0].schema_ref(), &both).unwrap();
    add_result(&ctx, recommend::TABLE, joined);
    let settled = settle(&ctx, &store, asked(20).now_us).await.unwrap();
    let lines: Vec<String> = settled.iter().map(Entry::text).collect();
    assert_eq!(lines, [format!("{} held: superseded, 336 GPU-h a week promised (by {changed})", ids[0])]);
    store.close().await.unwrap();
}

/// A container that asks for `cpu` CPUs and 16 GB and uses little of both, a point every five minutes of `days`.
fn container(cpu: f64, days: std::ops::Range<i64>) -> (Vec<Sample>, Vec<SeriesRow>) {
    let names = [("k8s_pod", "api-1"), ("k8s_namespace", "prod"), ("k8s_container", "server")];
    let mut samples = Vec::new();
    for minute in (days.start * 1_440..days.end * 1_440).step_by(5) {
        let at =
            |role, value| Sample { time_us: minute * MINUTE_US, role, value, labels: labels(&names), simulated: false };
        samples.extend([
            at("cpu.usage", 1.0),
            at("memory.working_set", 1.2e10),
            at("cpu.request", cpu),
            at("memory.request", 1.4e10),
        ]);
    }
    let row = SeriesRow {
        // Inside of the week that is measured, too.
        last_us: (days.end - 2) * DAY_US,
        labels: labels(&names),
        attributes: vec![("k8s.deployment.name", "api")],
        ..SeriesRow::default()
    };
    (samples, vec![row])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_measured_by_what_pods_ask_for_and_what_falls_short_is_to_be_taken_back() {
    let (_dir, store) = store().await;
    let (samples, rows) = container(4.0, 0..14);
    let prices = Some(crate::PriceBook::parse("currency = \"EUR\"\nvcpu_hour = 0.03\ngb_hour = 0.004").unwrap());
    let request = RecommendRequest { prices, ..asked(0) };
    let report = recommend(&session(&samples, &rows), None, &request).await.unwrap();
    let of = &report.containers.verdicts[0];
    let (id, cpu_hours) = (of.id.clone().unwrap(), of.change().unwrap().cpu_hours.unwrap().expected);
    // One pod for a week: 4 - 1.15 CPUs; the memory fits.
    assert!((cpu_hours - 2.85 * 168.0).abs() < 1e-6 && of.change().unwrap().gb_hours.unwrap().expected == 0.0);
    let batch = report.to_batch().unwrap();
    // Carried out, and forgotten.
    for (cpu, came, undo) in [(1.15, 2.85 * 168.0, false), (4.0, 0.0, true)] {
        let (samples, rows) = container(cpu, 14..23);
        let ctx = session(&samples, &rows);
        add_result(&ctx, recommend::TABLE, batch.clone());
        let accepted = decide(&ctx, &store, &id, Decision::Accept, None, DECIDED_US).await.unwrap();
        assert_eq!(accepted.text(), format!("{id} prod/api/server: accepted, 479 vCPU-h and 0 GB-h a week promised"));
        add_result(&ctx, TABLE, to_batch(&[accepted], DECIDED_US).unwrap());
        let later_us = DECIDED_US + 8 * DAY_US;
        let settled = settle(&ctx, &store, later_us).await.unwrap();
        let realised = settled[0].realised_cpu_hours.unwrap();
        assert!((realised - came).abs() < 0.5, "{settled:?}");
        let saving = settled[0].realised_saving.unwrap();
        assert!((saving - came * 0.03).abs() < 0.05, "{saving}");
        assert_eq!(settled[0].undo.is_some(), undo, "{}", settled[0].text());
        // The run that finds it says so, and so do those of the two weeks that follow.
        assert_eq!(to_undo(&ctx, &settled, later_us).await.unwrap().len(), usize::from(undo));
        add_result(&ctx, TABLE, to_batch(&settled, later_us).unwrap());
        let next = to_undo(&ctx, &[], later_us + DAY_US).await.unwrap();
        assert_eq!(next.len(), usize::from(undo));
        assert!(next.iter().all(|undo| undo.entry.text().contains("take it back: 0 % of what was promised came")));
        assert_eq!(to_undo(&ctx, &[], later_us + 15 * DAY_US).await.unwrap(), [], "it is old by then");
    }
    store.close().await.unwrap();
}
