//! Schedules that run when an hour of their metric is there, over a real store, with a clock that a test moves.

use driftwatt_store::{Compaction, Kind, SampleColumns, Series, SeriesDefinition, Temporality, WriteBatch};
use tokio::task::JoinHandle;

use super::tests::{MovedClock, Opened, open, us};
use super::*;

const HOUR: i64 = 3_600_000_000;
const MIDNIGHT: &str = "2026-11-23T00:00:00Z";
const SETTINGS: &str = "[[schedule]]\nname = \"tokens\"\njob = \"drift\"\nmetric = \"tokens\"\narrival = \"5m\"\n";
/// All of `runs`, in order.
const RUNS: &str = "SELECT date_format(scheduled, '%H:%M') AS at, started_by, outcome, summary, note FROM reports.runs \
                    ORDER BY time, step";

/// 300 values of an hour of the day, times `factor`, with `more` beside them.
async fn append(opened: &Opened, hour: i64, factor: f64, more: &[(i64, f64)]) {
    let series = Series::new(SeriesDefinition {
        metric: "tokens".into(),
        unit: "1".into(),
        description: "".into(),
        kind: Kind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![],
    });
    let mut batch = WriteBatch { series: vec![series], ..WriteBatch::default() };
    let start_us = us(MIDNIGHT) + hour * HOUR;
    let values = (0..300).map(|at| (at * HOUR / 300, factor * (at * 37 % 101) as f64));
    for (offset_us, value) in values.chain(more.iter().copied()) {
        batch.samples.push(0, 0, start_us + offset_us, value.to_bits(), SampleColumns::DOUBLE);
    }
    opened.store.append(batch).await.unwrap();
}

fn begin(opened: &Opened, clock: &Arc<MovedClock>) -> JoinHandle<()> {
    let (_handle, work) = opened.scheduler(clock).start();
    opened.queries.handle().spawn(work)
}

async fn end(running: JoinHandle<()>) {
    running.abort();
    assert!(running.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_is_judged_when_its_points_rest_and_again_when_late_ones_came() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), SETTINGS).await;
    for hour in 0..6 {
        append(&opened, hour, 1.0, &[]).await;
    }
    let clock = MovedClock::at("2026-11-23T06:30:00Z");
    let running = begin(&opened, &clock);
    append(&opened, 6, 3.0, &[]).await;
    // The hour is over, and its points rest since less than five minutes.
    clock.move_to("2026-11-23T07:04:00Z", 1).await;
    assert_eq!(opened.texts(RUNS).await, ["06:30 arrival registered"]);
    clock.move_to("2026-11-23T07:08:00Z", 1).await;
    let judged =
        ["06:30 arrival registered", "07:00 arrival started", "07:00 arrival succeeded drift of tokens: critical"];
    assert_eq!(opened.texts(RUNS).await, judged);
    // Nothing came for the next hour: nothing is judged. What was stored is written and merged, which changes no hour.
    opened.store.flush().await.unwrap();
    opened.store.compact(Compaction::Full).await.unwrap();
    clock.move_to("2026-11-23T08:30:00Z", 1).await;
    assert_eq!(opened.texts(RUNS).await, judged);
    // Points that were sent again are the same; one more is another content.
    append(&opened, 6, 3.0, &[]).await;
    clock.move_to("2026-11-23T08:50:00Z", 1).await;
    assert_eq!(opened.texts(RUNS).await, judged);
    append(&opened, 6, 3.0, &[(7, 5.0)]).await;
    clock.move_to("2026-11-23T09:00:00Z", 1).await;
    let late = opened.texts(RUNS).await;
    assert_eq!(
        (late.len(), &late[3]),
        (5, &"07:00 arrival started  of points that were there 116 minutes after their hour".to_owned())
    );
    end(running).await;
    // A server that starts anew goes on: what was judged is not judged again, what came meanwhile is.
    append(&opened, 8, 3.0, &[]).await;
    let clock = MovedClock::at("2026-11-23T09:10:00Z");
    let running = begin(&opened, &clock);
    clock.move_to("2026-11-23T09:30:00Z", 1).await;
    end(running).await;
    let after = opened.texts(RUNS).await;
    assert_eq!(after[5..], ["09:00 arrival started", "09:00 arrival succeeded drift of tokens: critical"], "{after:?}");
    let arrived = opened.texts("SELECT parameters FROM reports.runs WHERE outcome = 'succeeded' ORDER BY time").await;
    let arrived: Vec<Value> = arrived.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(
        arrived.iter().map(|run| (&run["arrived"]["hour"], &run["arrived"]["points"])).collect::<Vec<_>>(),
        [
            (&json!("2026-11-23T06:00:00Z"), &json!(300)),
            (&json!("2026-11-23T06:00:00Z"), &json!(301)),
            (&json!("2026-11-23T08:00:00Z"), &json!(300)),
        ]
    );
    assert_eq!(arrived[0]["question"]["current"], "2026-11-23T06:00:00Z/2026-11-23T07:00:00Z");
    opened.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_broke_off_is_begun_once_more_and_one_that_was_on_its_way_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), SETTINGS).await;
    append(&opened, 6, 1.0, &[]).await;
    let clock = MovedClock::at("2026-11-23T06:30:00Z");
    let running = begin(&opened, &clock);
    clock.move_to("2026-11-23T07:08:00Z", 1).await;
    end(running).await;
    let id = opened.texts("SELECT DISTINCT run_id FROM reports.runs WHERE outcome = 'started'").await.remove(0);
    let content = id.strip_prefix("tokens:").unwrap();
    // The same steps for another hour's content, as a process leaves them that is killed in the middle.
    let scheduler = opened.scheduler(&clock);
    assert_eq!(scheduler.before("tokens", content).await.unwrap(), arrivals::Before::Ended);
    let left = Run::on_arrival("tokens", "drift", "left", scheduler.now());
    for (step, expected) in [
        (Step::Started, arrivals::Before::BrokeOff),
        (Step::Started, arrivals::Before::Left(Step::Started)),
        (Step::Delivering, arrivals::Before::Left(Step::Delivering)),
    ] {
        left.record(&opened.store, step, us(MIDNIGHT)).await.unwrap();
        assert_eq!(scheduler.before("tokens", "left").await.unwrap(), expected);
    }
    assert_eq!(scheduler.before("tokens", "never").await.unwrap(), arrivals::Before::New);
    scheduler.leave(left, Step::Delivering).await.unwrap();
    assert_eq!(scheduler.before("tokens", "left").await.unwrap(), arrivals::Before::Ended);
    let told = opened.texts("SELECT outcome, error FROM reports.runs WHERE outcome = 'interrupted'").await;
    assert!(told.len() == 1 && told[0].contains("somebody may not have got it"), "{told:?}");
    opened.store.close().await.unwrap();
}
