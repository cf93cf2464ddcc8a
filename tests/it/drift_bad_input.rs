//! What senders get wrong ends in a status that docs/drift.md names, never in a silent "no drift".

use driftwatt_analyze::drift::{DriftRun, DriftScore, RunRequest, Side, Source, Subject, comparison::Bin};
use driftwatt_store::{HistogramPoint, HistogramShape, Kind, SampleColumns, Temporality, WriteBatch};
use serde_json::{Value, json};

use crate::{
    drift_states::{HOUR, START, Stored, hours, noise, request, series},
    otlp::{export, gauge, now_nanos, point},
    server::{Server, driftwatt},
};

/// The last of seven hours against the six before it.
fn last_hour(names: &[&str], source: Source) -> RunRequest {
    RunRequest {
        reference: Side::new(hours(0, 6), vec![]),
        current: Side::new(hours(6, 7), vec![]),
        ..request(names, source)
    }
}

fn score_of<'a>(run: &'a DriftRun, name: &str) -> &'a DriftScore {
    let found = run.scores.iter().find(|score| score.request.subject == Subject::parse(name));
    found.unwrap_or_else(|| panic!("{name}: {run:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_category_explosion_is_bounded_judged_and_named() {
    let stored = Stored::open().await;
    // Three languages for six hours; then every request has one of its own.
    let names = (0..2_500).map(|at| match at {
        0..3 => format!("language-{at}"),
        _ => format!("request-{at}"),
    });
    let of = |name: String| series("requests", Kind::Sum, Temporality::Delta, vec![], &name);
    let mut batch = WriteBatch { series: names.map(of).collect(), ..WriteBatch::default() };
    let mut count = |series: u32, time_us: i64, count: f64| {
        batch.samples.push(series, time_us - 1, time_us, count.to_bits(), SampleColumns::DOUBLE);
    };
    (0..6 * 60).for_each(|minute| (0..3).for_each(|at| count(at, START + minute * HOUR / 60 + 1, 10.0)));
    (3..2_500).for_each(|at| count(at, START + 6 * HOUR + i64::from(at) * 1_000_000, 1.0));
    stored.store.append(batch).await.unwrap();
    for source in [Source::Auto, Source::States] {
        let run = stored.drift(&last_hour(&["requests[language]"], source)).await;
        let score = score_of(&run, "requests[language]");
        assert_eq!((score.reference.value_count, score.current.value_count), (10_800, 2_497), "{source:?}");
        let comparison = score.comparison.as_ref().unwrap();
        assert!(comparison.bins.len() <= 1_001 && comparison.bins.iter().any(|bin| bin.label == "__other__"));
        let counted = |of: fn(&Bin) -> u64| comparison.bins.iter().map(of).sum::<u64>();
        assert_eq!((counted(|bin| bin.reference), counted(|bin| bin.current)), (10_800, 2_497), "nothing is lost");
        assert_eq!(score.decision.status.as_str(), "critical", "{}", score.to_text());
        assert!(score.to_text().contains("more than 1000 names"), "{}", score.to_text());
    }
    stored.store.close().await.unwrap();
}

/// Counts of 60 values between 1 and 128, by bucket of scale 4; those of a quarter that is `shifted` are eight times as large.
fn counts(quarter: i64, shifted: bool) -> Vec<u64> {
    let mut counts = vec![0u64; 10 << 4];
    for at in 0..60 {
        counts[(noise(quarter * 100 + at) * 112.0) as usize + if shifted { 48 } else { 0 }] += 1;
    }
    counts
}

fn histogram(series: u32, start_us: i64, time_us: i64, scale: i32, counts: Vec<u64>) -> HistogramPoint {
    HistogramPoint {
        series,
        start_time: start_us,
        time: time_us,
        recorded: true,
        count: counts.iter().sum(),
        sum: None,
        min: None,
        max: None,
        shape: HistogramShape::Exponential {
            scale,
            zero_count: 0,
            zero_threshold: 0.0,
            positive_offset: 0,
            positive_counts: counts,
            negative_offset: 0,
            negative_counts: vec![],
        },
    }
}

/// Seven hours of quarters, three times: `delta` as it should be, `rescaled` cumulative with a scale that falls in the middle of the
/// windows, `mixed` by one sender that sends changes and one that sends totals, half of the values each.
fn senders() -> WriteBatch {
    let of =
        |metric: &str, temporality, label: &str| series(metric, Kind::ExponentialHistogram, temporality, vec![], label);
    let series = vec![
        of("delta", Temporality::Delta, "a"),
        of("rescaled", Temporality::Cumulative, "a"),
        of("mixed", Temporality::Delta, "a"),
        of("mixed", Temporality::Cumulative, "b"),
    ];
    let mut batch = WriteBatch { series, ..WriteBatch::default() };
    let (mut total, mut half_total) = (vec![0u64; 10 << 4], vec![0u64; 10 << 2]);
    let add =
        |total: &mut Vec<u64>, counts: &[u64]| total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    let coarser = |counts: &[u64], scale: i32| -> Vec<u64> {
        counts.chunks(1 << (4 - scale)).map(|chunk| chunk.iter().sum()).collect()
    };
    for quarter in 1..=7 * 4 {
        let (from_us, time_us) = (START + (quarter - 1) * HOUR / 4, START + quarter * HOUR / 4 - 1);
        let shifted = quarter > 6 * 4;
        let fine = counts(quarter, shifted);
        batch.histograms.push(histogram(0, from_us, time_us, 2, coarser(&fine, 2)));
        add(&mut total, &fine);
        // In the middle of the reference, and again in the middle of the window under test.
        let scale = if quarter <= 10 {
            4
        } else if quarter <= 6 * 4 + 2 {
            3
        } else {
            2
        };
        batch.histograms.push(histogram(1, START, time_us, scale, coarser(&total, scale)));
        let changes: Vec<u64> = coarser(&fine, 2).iter().map(|count| count / 2).collect();
        let rest: Vec<u64> = coarser(&fine, 2).iter().map(|count| count - count / 2).collect();
        batch.histograms.push(histogram(2, from_us, time_us, 2, changes));
        add(&mut half_total, &rest);
        batch.histograms.push(histogram(3, START, time_us, 2, half_total.clone()));
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_that_falls_and_temporalities_that_are_mixed_change_no_score() {
    let stored = Stored::open().await;
    stored.store.append(senders()).await.unwrap();
    let names = ["delta", "rescaled", "mixed"];
    let run = stored.drift(&last_hour(&names, Source::States)).await;
    assert!(run.refused.is_empty(), "{run:?}");
    let delta = score_of(&run, "delta");
    assert_eq!((delta.reference.value_count, delta.current.value_count), (6 * 240, 240));
    assert_eq!(delta.decision.status.as_str(), "critical", "{}", delta.to_text());
    for name in ["rescaled", "mixed"] {
        assert_eq!(score_of(&run, name).comparison, delta.comparison, "{name}");
    }
    // A window read from points begins without what came before it, so the first total of each sender in it is only the base.
    let from_points = stored.drift(&last_hour(&names, Source::Auto)).await;
    let rescaled = score_of(&from_points, "rescaled");
    assert_eq!((rescaled.reference.value_count, rescaled.current.value_count), (6 * 240, 180));
    let fewer = score_of(&from_points, "mixed");
    assert!((180..240).contains(&fewer.current.value_count), "{}", fewer.current.value_count);
    for score in [rescaled, fewer] {
        // Less than 200 values of one hour, or just enough of them: never a pass of what differs.
        assert!(matches!(score.decision.status.as_str(), "insufficient_data" | "critical"), "{}", score.to_text());
    }
    stored.store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_whose_clock_is_ahead_leaves_a_window_that_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let (now, minute) = (now_nanos(), 60_000_000_000);
    let value = |at: u64| (at * 37 % 101) as f64;
    let of = |from: u64| (0..400).map(|at| point(from + at * (minute / 10), value(at), vec![])).collect::<Vec<_>>();
    assert_eq!(export(&server, vec![gauge("driftwatt.input.tokens", of(now - 60 * minute))]).await.0, 0);
    // Twenty minutes to an hour ahead: refused, counted, and named to the sender.
    let (refused, words) = export(&server, vec![gauge("driftwatt.input.tokens", of(now + 20 * minute))]).await;
    assert_eq!(refused, 400, "{words}");
    let counted = server.rows("SELECT reason, sum(count) FROM raw.rejections GROUP BY reason").await;
    assert!(counted.len() == 1 && counted[0][1] == json!(400), "{counted:?}");
    let time = |nanos: u64| {
        chrono::DateTime::from_timestamp_nanos(nanos as i64).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    let drift = |from: u64, to: u64| {
        let mut command = driftwatt();
        command.args(["drift", "--server", &format!("http://{}", server.http), "--format", "json"]);
        command.args(["--metric", "driftwatt.input.tokens", "--reference"]);
        command.arg(format!("{}/{}", time(now - 60 * minute), time(now - 20 * minute)));
        let output = command.args(["--current", &format!("{}/{}", time(from), time(to))]).output().unwrap();
        let score: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), score["decision"]["status"].clone())
    };
    assert_eq!(drift(now + 20 * minute, now + 60 * minute), (Some(3), json!("insufficient_data")));
    assert_eq!(drift(now - 60 * minute, now - 20 * minute), (Some(0), json!("ok")));
}
