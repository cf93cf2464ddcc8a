//! `driftwatt drift` over many features: segments, categories of a counter, its table, page and gauges, and distances in SQL.

use std::process::Output;

use datafusion::arrow::{array::AsArray as _, datatypes::Float64Type};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, Sum, metric};
use serde_json::{Value, json};

use crate::{
    flight,
    otlp::{export, gauge, label, now_nanos, point},
    postgres::client,
    server::{Server, driftwatt, start},
};

const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;

/// Lengths of inputs each six seconds; in the last hour those of the region us are longer.
fn lengths(end: u64) -> Metric {
    let mut points = vec![];
    for at in 0..2_400 {
        let time = end - 4 * HOUR + at * 6_000_000_000;
        for (region, shift) in [("eu", 0.0), ("us", if at >= 1_800 { 60.0 } else { 0.0 })] {
            let value = (at * 37 % 101) as f64 + shift;
            points.push(point(time, value, vec![label("region", region), label("driftwatt.simulated", "true")]));
        }
    }
    gauge("driftwatt.input.length", points)
}

/// Requests by language, counted since four hours ago and sent each five minutes but for three times in the first hour; in the
/// last hour ja took the place of de.
fn languages(end: u64) -> Metric {
    let start = end - 4 * HOUR;
    let mut points = vec![];
    for step in 1..=48u64 {
        let late = step.saturating_sub(36);
        for (language, count) in [("en", 80 * step), ("de", 40 * (step - late)), ("ja", 40 * late)] {
            if (10..=12).contains(&step) || (language == "ja" && late == 0) {
                continue;
            }
            // A counter is seen first when it is at its first value.
            let began = if language == "ja" { end - HOUR } else { start };
            let mut point = point(start + step * 5 * MINUTE - 1, count as f64, vec![label("language", language)]);
            point.start_time_unix_nano = began;
            points.push(point);
        }
    }
    let sum = Sum {
        data_points: points,
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
        is_monotonic: true,
    };
    Metric { name: "requests".into(), data: Some(metric::Data::Sum(sum)), ..Metric::default() }
}

fn time(nanos: u64) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(nanos as i64);
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn ask(server: &Server, end: u64, arguments: &[&str]) -> Output {
    let window = |from: u64, to: u64| format!("{}/{}", time(end - from), time(end - to));
    let mut command = driftwatt();
    command.args(["drift", "--server", &format!("http://{}", server.http)]);
    if !arguments.contains(&"--reference") {
        command.args(["--reference", &window(4 * HOUR, HOUR)]);
    }
    command.args(["--current", &window(HOUR, 0)]).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn features_segments_and_categories_are_scored_in_one_run() {
    let (dir, server) = start();
    let end = now_nanos() / MINUTE * MINUTE - MINUTE;
    assert_eq!(export(&server, vec![lengths(end), languages(end)]).await, (0, String::new()));
    let run = ask(&server, end, &["--all", "--by", "region", "--format", "json"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let run: Value = serde_json::from_slice(&run.stdout).unwrap();
    let seen: Vec<Value> = run["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|score| {
            json!([score["request"]["segment"]["value"], score["decision"]["status"], score["q_value"].is_f64()])
        })
        .collect();
    assert_eq!(json!(seen), json!([[null, "critical", true], ["us", "critical", true], ["eu", "ok", true]]), "{run}");
    let shift = &run["scores"][0]["mix_shift"];
    assert!(shift["within"].as_f64().unwrap() > 10.0 * shift["mix"].as_f64().unwrap().abs(), "{shift}");

    let text = ask(&server, end, &["--metric", "requests[language]", "--format", "text"]);
    let text = String::from_utf8(text.stdout).unwrap();
    // 3 h of 12 points with 120 each, but for the four from the point before the gap to the one after it; 1 h of 12 with 120.
    for words in
        ["requests[language]: CRITICAL", "3840 values", "1440 values", "new              ja", "vanished         de"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let page = dir.path().join("drift.html");
    let path = page.display().to_string();
    let written = ask(&server, end, &["--all", "--by", "region", "--format", "html", "--output", &path]);
    assert_eq!(written.status.code(), Some(1), "{written:?}");
    let page = std::fs::read_to_string(page).unwrap();
    for words in
        ["SIMULATED", "driftwatt.input.length, region us: critical", "Distribution before and now", "Parts of the PSI"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }

    let stored = "SELECT subject, segment_value, status, count(*) FROM reports.drift_scores \
                  GROUP BY subject, segment_value, status ORDER BY subject, segment_value NULLS FIRST";
    assert_eq!(
        json!(server.rows(stored).await),
        json!([
            ["driftwatt.input.length", null, "critical", 2],
            ["driftwatt.input.length", "eu", "ok", 2],
            ["driftwatt.input.length", "us", "critical", 2],
            ["requests[language]", null, "critical", 1],
        ])
    );
    // The same scores as metrics, once for each run.
    let gauges = "SELECT attributes['segment'], max(value), attributes['driftwatt.simulated'] FROM metrics \
                  WHERE metric = 'driftwatt.drift.alarm' AND attributes['feature'] = 'driftwatt.input.length' \
                  GROUP BY 1, 3 ORDER BY 1 NULLS FIRST";
    assert_eq!(
        json!(server.rows(gauges).await),
        json!([[null, 2.0, "true"], ["eu", 0.0, "true"], ["us", 2.0, "true"]])
    );
    let sql = format!(
        "SELECT region, round(psi(CASE WHEN time < '{at}' THEN value END, CASE WHEN time >= '{at}' THEN value END), 6) \
         FROM metrics WHERE metric = 'driftwatt.input.length' GROUP BY region ORDER BY region",
        at = time(end - HOUR)
    );
    let in_sql = server.rows(&sql).await;
    // The same by the other ways to ask.
    let by_postgres = client::rows(&client::connect(&server).await, &sql).await;
    let by_flight = flight::ask(&mut flight::connect(&server).await, &sql).await.unwrap();
    let psi_by_flight = by_flight.column(1).as_primitive::<Float64Type>();
    for (at, row) in in_sql.iter().enumerate() {
        let psi = row[1].as_f64().unwrap();
        assert_eq!((by_postgres[at][1].as_ref().unwrap().parse(), psi_by_flight.value(at)), (Ok(psi), psi));
    }
    for (row, score) in in_sql.iter().zip([&run["scores"][2], &run["scores"][1]]) {
        let psi = score["comparison"]["psi"].as_f64().unwrap();
        assert!((row[1].as_f64().unwrap() - psi).abs() < 1e-6, "{in_sql:?} {psi}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tools_numbers_stand_beside_a_score_and_decide_nothing() {
    let (_dir, server) = start();
    let end = now_nanos() / MINUTE * MINUTE - MINUTE;
    export(&server, vec![lengths(end)]).await;
    let also = ["--metric", "driftwatt.input.length", "--also", "evidently-psi,nannyml-js,energy,evidently-chisquare"];
    let beside = ask(&server, end, &[&also[..], &["--format", "json"]].concat());
    let beside: Value = serde_json::from_slice(&beside.stdout).unwrap();
    let page = ask(&server, end, &[&also[..], &["--format", "html"]].concat());
    let page = String::from_utf8_lossy(&page.stdout);
    assert!(page.contains("no part of the decision") && page.contains("it is of categories"), "{page}");
    let others: Vec<(&str, bool)> = beside["others"]
        .as_array()
        .unwrap()
        .iter()
        .map(|other| (other["name"].as_str().unwrap(), other["value"].as_f64().is_some_and(|value| value > 0.0)))
        .collect();
    assert_eq!(
        others,
        [("evidently-psi", true), ("nannyml-js", true), ("energy", true), ("evidently-chisquare", false)],
        "{beside}"
    );
    let text = ask(&server, end, &also);
    assert!(String::from_utf8_lossy(&text.stdout).contains("it is of categories"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_told_apart_by_their_filters_and_points_that_are_refused_are_logged() {
    let (_dir, server) = start();
    let end = now_nanos() / MINUTE * MINUTE - MINUTE;
    export(&server, vec![lengths(end)]).await;
    for region in ["eu", "us"] {
        let run = ask(&server, end, &["--all", "--where", &format!("region={region}")]);
        assert_eq!(run.status.code(), Some(i32::from(region == "us")), "{run:?}");
    }
    assert!(!server.log().contains("not all stored as metrics"), "{}", server.log());
    let stored = "SELECT filters, status FROM reports.drift_scores ORDER BY filters";
    assert_eq!(json!(server.rows(stored).await), json!([["region=eu", "ok"], ["region=us", "critical"]]));
    let gauges = "SELECT attributes['filters'], value FROM metrics WHERE metric = 'driftwatt.drift.alarm' ORDER BY 1";
    assert_eq!(json!(server.rows(gauges).await), json!([["region=eu", 0.0], ["region=us", 2.0]]));
    // The window ends where no point is taken any more.
    let mut command = driftwatt();
    command.args(["drift", "--server", &format!("http://{}", server.http), "--all"]);
    command.args(["--reference", &format!("{}/{}", time(end - 4 * HOUR), time(end - HOUR))]);
    let late = command.args(["--current", &format!("{}/{}", time(end - HOUR), time(end + 400 * 24 * HOUR))]).output();
    assert_eq!(late.as_ref().unwrap().status.code(), Some(1), "{late:?}");
    assert!(server.log().contains("not all stored as metrics"), "{}", server.log());
}

/// Without a word it is the last whole hour of every input, against the week before; as a row of `runs` it names that hour.
#[tokio::test(flavor = "multi_thread")]
async fn drift_needs_no_window_and_no_metric() {
    let (_dir, server) = start();
    let end = now_nanos() / MINUTE * MINUTE - MINUTE;
    export(&server, vec![lengths(end)]).await;
    let mut command = driftwatt();
    command.args(["drift", "--server", &format!("http://{}", server.http), "--format", "json"]);
    let usual = command.output().unwrap();
    let usual: Value = serde_json::from_slice(&usual.stdout).unwrap_or_else(|_| panic!("{usual:?}"));
    let window = &usual["request"]["current"]["windows"][0];
    let [from, to] = ["start_us", "end_us"].map(|side| window[side].as_i64().unwrap());
    assert_eq!((to - from, to % 3_600_000_000), (3_600_000_000, 0), "{usual}");
    assert_eq!(
        (&usual["request"]["reference_kind"], &usual["request"]["subject"]),
        (&json!("trailing"), &json!({ "metric": "driftwatt.input.length" })),
        "{usual}"
    );
    let asked = server.rows("SELECT parameters FROM reports.runs WHERE job = 'drift'").await;
    let hour = format!("{}/{}", time(from.unsigned_abs() * 1_000), time(to.unsigned_abs() * 1_000));
    assert!(asked[0][0].as_str().unwrap().contains(&hour), "{asked:?} {hour}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_without_an_answer_say_why() {
    let (_dir, server) = start();
    let end = now_nanos() / MINUTE * MINUTE - MINUTE;
    export(&server, vec![lengths(end)]).await;
    for (arguments, words) in [
        (&["--metric", "a", "--all"][..], "cannot be used with"),
        (&["--metric", ","], "names no metric"),
        (&["--metric", "driftwatt.input.length[region]"], "no counter"),
        (&["--metric", "a", "--format", "csv"], "text, json or html"),
        (&["--metric", "a", "--also", "psi"], "is none of evidently-psi"),
        (&["--metric", "a", "--source", "rows"], "auto, samples, histograms or states"),
        (&["--metric", "driftwatt.input.length", "--reference", "seasonal"], "--reference trailing"),
    ] {
        let refused = ask(&server, end, arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{refused:?}");
    }
}
