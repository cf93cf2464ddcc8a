//! Weeks, labels of simulated data, and every form that the report has.

use datafusion::prelude::SessionContext;

use super::*;
use crate::{
    test_session::{Sample, labels, session},
    window::{HOUR_US, MINUTE_US},
};

fn samples(from_us: i64, until_us: i64, step_us: i64, service: &str, simulated: bool) -> Vec<Sample> {
    let pairs = labels(&[
        ("host_name", "h<1>"),
        ("gpu_id", "g|0"),
        ("gpu_model", "L4"),
        ("service_name", service),
        ("team", "t"),
    ]);
    let one = |index: i64| {
        let at =
            |role, value| Sample { time_us: from_us + index * step_us, role, value, labels: pairs.clone(), simulated };
        let duty = if index % 2 == 0 { 0.3 } else { 0.5 };
        [at("gpu.utilization", duty), at("gpu.memory.used", 4e9), at("cpu.utilization", 0.5), at("memory.used", 2e9)]
    };
    (0..(until_us - from_us) / step_us).flat_map(one).collect()
}

fn ten_hours(service: &str, simulated: bool) -> Vec<Sample> {
    samples(100 * HOUR_US, 110 * HOUR_US, MINUTE_US, service, simulated)
}

fn request(window: Window, zone: Tz) -> WeeklyRequest {
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { L4 = 1.0 }").unwrap();
    WeeklyRequest { window, zone, prices: Some(prices), holidays: vec![], now_us: window.end_us }
}

async fn report(samples: &[Sample]) -> WeeklyReport {
    let window = Window::new(100 * HOUR_US, 110 * HOUR_US).unwrap();
    weekly(&session(samples, &[]), None, &request(window, Tz::UTC)).await.unwrap()
}

#[tokio::test]
async fn a_week_in_which_the_clocks_change_has_169_hours() {
    let zone: Tz = "Europe/Berlin".parse().unwrap();
    let window = Window::parse_week_in("2026-W43", zone).unwrap();
    let step = 30 * MINUTE_US;
    let all = samples(window.week_before(zone).start_us, window.end_us, step, "chat", false);
    let report = weekly(&session(&all, &[]), None, &request(window, zone)).await.unwrap();
    let whole = report.rows().next().unwrap();
    assert_eq!(
        (whole.cost.unwrap().to_text(2), whole.cost_change().unwrap().to_text(2)),
        ("169.00".into(), "1.00".into())
    );
    let text = report.to_text();
    assert!(text.starts_with("Weekly report 2026-W43 Europe/Berlin\n"), "{text}");
    assert!(
        text.contains("(169 h), against 2026-10-11 22:00 UTC") && text.contains("Time zone of the week: Europe/Berlin"),
        "{text}"
    );
    assert_eq!(report.fleets[0].week.hourly.len(), 169);
}

#[tokio::test]
async fn simulated_and_real_have_bills_of_their_own_and_are_labelled_everywhere() {
    let mut all = ten_hours("chat", false);
    all.extend(ten_hours("chat", true));
    let report = report(&all).await;
    assert_eq!((report.fleets.len(), report.data()), (2, "real and simulated"));
    for row in report.rows().filter(|row| row.dimension == Dimension::Fleet) {
        assert_eq!(row.cost.unwrap().to_text(2), "10.00", "the two are never added");
    }
    for text in [report.to_markdown(), report.to_html(), report.to_text()] {
        assert!(text.contains("SIMULATED") && text.contains("The bill (SIMULATED)"), "{text}");
    }
    assert!(
        report.to_csv().contains(",simulated,service,chat,USD,") && report.to_csv().contains(",real,service,chat,USD,")
    );
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!((&json["fleets"][0]["simulated"], &json["fleets"][1]["simulated"]), (&false.into(), &true.into()));
}

#[tokio::test]
async fn a_week_without_telemetry_says_so() {
    let report = report(&[]).await;
    assert!(report.rows().next().is_none());
    for text in [report.to_markdown(), report.to_html(), report.to_text()] {
        assert!(text.contains("No telemetry of GPUs or hosts in this window."), "{text}");
    }
    assert!(report.to_focus().unwrap_err().to_string().contains("telemetry"));
}

#[tokio::test]
async fn without_a_price_book_every_cost_is_unknown() {
    let window = Window::new(100 * HOUR_US, 110 * HOUR_US).unwrap();
    let without = WeeklyRequest { prices: None, ..request(window, Tz::UTC) };
    let report = weekly(&session(&ten_hours("chat", false), &[]), None, &without).await.unwrap();
    assert!(report.rows().all(|row| row.cost.is_none()));
    let text = report.to_text();
    assert!(text.contains("There is no price book") && !text.contains("USD"), "{text}");
    assert!(report.to_focus().unwrap_err().to_string().contains("price book"));
}

#[tokio::test]
async fn forms_escape_fit_and_say_the_same_twice() {
    let mut all = ten_hours("<script>|", false);
    let long = "a-service-with-a-name-that-goes-on-and-on-and-on";
    all.extend(samples(90 * HOUR_US, 105 * HOUR_US, MINUTE_US, long, false).into_iter().map(|mut sample| {
        sample.labels.retain(|(name, _)| *name != "gpu_id");
        sample.labels.push(("gpu_id", "another".into()));
        sample
    }));
    let report = report(&all).await;
    let html = report.to_html();
    assert!(!html.contains("<script") && html.contains("h&lt;1&gt;") && html.contains("<svg"), "{html}");
    assert!(html.contains("prefers-color-scheme:dark") && !html.contains("http"));
    for whole in [&html, &report.to_markdown()] {
        assert!(whole.contains(long), "{whole}");
    }
    let text = report.to_text();
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 120, "{widest}");
    let again = self::report(&all).await;
    assert_eq!((again.to_html(), again.to_csv()), (html, report.to_csv()));
    let focus = report.to_focus().unwrap();
    assert!(focus.starts_with("BilledCost,") && focus.contains("1970-01-05T04:00:00Z"), "{focus}");
    let lines = focus.lines().skip(1).count();
    assert_eq!(lines, report.fleets[0].week.bill.allocation.lines.len());
}

async fn rows_of(ctx: &SessionContext, sql: &str) -> Vec<Vec<String>> {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect()
}

#[tokio::test]
async fn a_long_list_of_what_is_missing_is_cut_but_for_programs() {
    let mut report = report(&ten_hours("chat", false)).await;
    report.fleets[0].week.missing = (0..60).map(|index| format!("Sentence {index}.")).collect();
    let text = report.to_text();
    assert!(text.contains("Sentence 49.") && !text.contains("Sentence 50."), "{text}");
    assert!(text.contains("And 10 more; --format json has all."), "{text}");
    assert!(report.to_json().unwrap().contains("Sentence 59."));
}

#[tokio::test]
async fn a_window_without_a_whole_minute_has_no_gpus() {
    let window = Window::new(100 * HOUR_US + 1, 100 * HOUR_US + MINUTE_US).unwrap();
    let report = weekly(&session(&ten_hours("chat", false), &[]), None, &request(window, Tz::UTC)).await.unwrap();
    assert!(report.rows().all(|row| row.now.gpu_hours == 0.0));
}

#[tokio::test]
async fn every_figure_is_a_row_of_a_table_function() {
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { L4 = 1.0 }").unwrap();
    let ctx = session(&ten_hours("chat", false), &[]);
    register(&ctx, Some(&prices));
    let window = "'1970-01-05T04:00:00Z', '1970-01-05T14:00:00Z'";
    let rows = rows_of(
        &ctx,
        &format!("SELECT name, cost, gpu_hours FROM weekly_report({window}) WHERE dimension = 'service'"),
    )
    .await;
    assert_eq!(rows, [["chat", "10.0", "10.0"]]);
    // The week of a day: Monday 1970-01-05 to the next.
    let week = "SELECT cost, CAST(window_from AS VARCHAR) FROM weekly_report('1970-01-08') WHERE dimension = 'fleet'";
    assert_eq!(rows_of(&ctx, week).await, [["10.0", "1970-01-05T00:00:00Z"]]);
    assert_eq!(rows_of(&ctx, &week.replace("1970-01-08", "1970-W02")).await.len(), 1);
    let steps = rows_of(&ctx, &format!("SELECT step, gpu_hours, cost FROM gpu_waterfall({window})")).await;
    let expected = [
        ["paid", "10.0", "10.0"],
        ["allocated", "10.0", "10.0"],
        ["held", "10.0", "10.0"],
        ["busy", "4.0", "4.0"],
        ["productive", "", ""],
        ["no telemetry", "0.0", "0.0"],
    ];
    let rounded: Vec<Vec<String>> = steps
        .into_iter()
        .map(|row| {
            row.into_iter().map(|cell| cell.parse::<f64>().map_or(cell, |value| format!("{:.1}", value))).collect()
        })
        .collect();
    assert_eq!(rounded, expected);
    for (wrong, words) in [
        ("SELECT * FROM weekly_report()", "takes a day"),
        ("SELECT * FROM weekly_report('soon')", "a report takes times"),
        ("SELECT * FROM weekly_report('1970-W99')", "is not a week"),
        ("SELECT * FROM weekly_report('1970-01-05', '1970-01-12', 'Berlin')", "IANA time zone"),
        ("SELECT * FROM gpu_waterfall('1970-01-05', '1970-01-12', 'UTC')", "the start and the end"),
        ("SELECT * FROM gpu_waterfall('1970-01-08')", "the start and the end"),
        ("SELECT * FROM gpu_waterfall('1970-01-08', '1970-01-08')", "window is empty"),
    ] {
        let error = ctx.sql(wrong).await.unwrap_err().to_string();
        assert!(error.contains(words), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn the_query_under_a_table_gives_its_numbers() {
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { L4 = 1.0 }").unwrap();
    let report = report(&ten_hours("chat", false)).await;
    let ctx = session(&ten_hours("chat", false), &[]);
    register(&ctx, Some(&prices));
    let mut asked = 0;
    for section in &report.page().sections {
        for block in &section.blocks {
            let (crate::page::Block::Table(crate::page::Table { query: Some(query), .. })
            | crate::page::Block::Figure(crate::page::Figure { query: Some(query), .. })) = block
            else {
                continue;
            };
            assert!(!rows_of(&ctx, query).await.is_empty(), "{query}");
            asked += 1;
        }
    }
    assert!(asked >= 8, "{asked}");
}

/// The SQL under the section `heading`.
fn queries_of(report: &WeeklyReport, heading: &str) -> Vec<String> {
    let sections = report.page().sections.into_iter().filter(|section| section.heading == heading);
    let query = |block| match block {
        crate::page::Block::Table(table) => table.query,
        crate::page::Block::Figure(figure) => figure.query,
        crate::page::Block::Paragraph(_) | crate::page::Block::List(_) => None,
    };
    sections.flat_map(|section| section.blocks).filter_map(query).collect()
}

#[tokio::test]
async fn the_query_under_a_table_has_its_week_before() {
    let zone: Tz = "Europe/Berlin".parse().unwrap();
    // 169 hours; the week before has 168, the window of the same length before has 169.
    let window = Window::parse_week_in("2026-W43", zone).unwrap();
    let all = samples(window.before().start_us, window.end_us, 30 * MINUTE_US, "chat", false);
    let ctx = session(&all, &[]);
    let report = weekly(&ctx, None, &request(window, zone)).await.unwrap();
    register(&ctx, request(window, zone).prices.as_ref());
    let [bill] = queries_of(&report, "The bill").try_into().unwrap();
    // name, gpu_hours, cost, cost_before, cost_change
    assert_eq!(rows_of(&ctx, &bill).await, [["workload", "169.0", "169.0", "168.0", "1.0"]], "{bill}");
}

#[tokio::test]
async fn the_query_under_a_figure_is_of_its_fleet() {
    let mut all = ten_hours("chat", false);
    // The simulated card is 0.7 and 0.9 busy, the real one 0.3 and 0.5.
    all.extend(ten_hours("chat", true).into_iter().map(|mut sample| {
        if sample.role == "gpu.utilization" {
            sample.value += 0.4;
        }
        sample
    }));
    let ctx = session(&all, &[]);
    let report = report(&all).await;
    register(&ctx, request(report.request.window, Tz::UTC).prices.as_ref());
    for (mark, busy) in [("", 0.4), (" (SIMULATED)", 0.8)] {
        let [hourly] = queries_of(&report, &format!("Use by the hour{mark}")).try_into().unwrap();
        let rows = rows_of(&ctx, &hourly).await;
        assert!(rows.len() == 10 && rows.iter().all(|row| (row[1].parse::<f64>().unwrap() - busy).abs() < 1e-9));
        let [steps] = queries_of(&report, &format!("GPU-hours from paid to productive{mark}")).try_into().unwrap();
        let rows = rows_of(&ctx, &steps.replace('*', "step, round(gpu_hours, 3)")).await;
        let of_busy: Vec<f64> = rows.iter().filter(|row| row[0] == "busy").map(|row| row[1].parse().unwrap()).collect();
        assert_eq!((rows.len(), of_busy), (6, vec![10.0 * busy]), "{steps}");
    }
}
