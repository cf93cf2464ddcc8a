//! Answers of the functions over rows made in SQL.

use std::sync::Arc;

use datafusion::{
    execution::session_state::SessionStateBuilder,
    prelude::{SessionConfig, SessionContext},
};

use crate::{json::value, series_runs::RunsQueryPlanner};

fn context(partitions: usize) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().execution.time_zone = Some("UTC".into());
    let state = SessionStateBuilder::new_with_default_features().with_config(config);
    let ctx = SessionContext::new_with_state(state.with_query_planner(Arc::new(RunsQueryPlanner)).build());
    super::register(&ctx).unwrap();
    ctx
}

/// The rows of `sql`, values apart by spaces, or its error.
async fn answer(ctx: &SessionContext, sql: &str) -> Result<Vec<String>, String> {
    let batches = async { ctx.sql(sql).await?.collect().await };
    let batches = batches.await.map_err(|error| error.strip_backtrace())?;
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    Ok(rows
        .map(|(batch, row)| {
            let cells = batch.columns().iter().map(|column| match value(column, row).unwrap() {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            });
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect())
}

async fn check(sql: &str, rows: &[&str]) {
    for partitions in [1, 3] {
        assert_eq!(answer(&context(partitions), sql).await.unwrap(), rows, "{sql}");
    }
}

async fn refused(sql: &str, reason: &str) {
    let error = answer(&context(2), sql).await.unwrap_err();
    assert!(error.contains(reason), "{sql}: {error}");
}

#[tokio::test]
async fn time_buckets() {
    let time = "TIMESTAMP '2026-11-24T10:07:30Z'";
    check(&format!("SELECT time_bucket('300.000s', {time})"), &["2026-11-24T10:05:00.000000"]).await;
    check(&format!("SELECT time_bucket(INTERVAL '5 minutes', {time})"), &["2026-11-24T10:05:00.000000"]).await;
    check(&format!("SELECT time_bucket('1 month', {time})"), &["2026-11-01T00:00:00.000000"]).await;
    check(&format!("SELECT time_bucket('1 day', {time}, 'Europe/Berlin')"), &["2026-11-23T23:00:00.000000"]).await;
    check(&format!("SELECT time_bucket('1 day', {time}, INTERVAL '6 hours')"), &["2026-11-24T06:00:00.000000"]).await;
    check(
        &format!("SELECT time_bucket('1 day', {time}, TIMESTAMP '2026-01-01T11:00:00Z')"),
        &["2026-11-23T11:00:00.000000"],
    )
    .await;
    check("SELECT time_bucket('5m', CAST(NULL AS TIMESTAMP))", &["null"]).await;
    refused(&format!("SELECT time_bucket('0s', {time})"), "more than zero").await;
    refused(&format!("SELECT time_bucket('soon', {time})"), "no width of time").await;
    refused("SELECT time_bucket('5m', 7)", "takes a time, not Int64").await;
}

/// A counter of two series, one of which is reset; values each minute. Series 3 is a delta sum, 4 a gauge that ends.
const POINTS: &str = "WITH points AS (SELECT column1 AS series_id, \
     to_timestamp_micros(1795514400000000 + column2 * 60000000) AS time, CAST(column3 AS DOUBLE) AS value, \
     CASE column1 WHEN 3 THEN 'delta' ELSE 'cumulative' END AS temporality FROM (VALUES \
     (1, 0, 0), (1, 1, 60), (1, 2, 120), (1, 3, 180), \
     (2, 0, 50), (2, 1, 110), (2, 2, 10), (2, 3, 70), \
     (3, 0, 6), (3, 1, 12), (3, 2, 18), (3, 3, 24), \
     (4, 0, 2), (4, 1, 4), (4, 2, NULL), (4, 3, 8)))";

#[tokio::test]
async fn counters_by_series() {
    let by_series = |call: &str| {
        format!("{POINTS} SELECT {call} FROM points WHERE series_id < 4 GROUP BY series_id ORDER BY series_id")
    };
    check(&by_series("increase(value, time)"), &["180.0", "130.0", "18.0"]).await;
    check(&by_series("increase(value, time, temporality)"), &["180.0", "130.0", "60.0"]).await;
    check(&by_series("rate(value, time, temporality) * 180"), &["180.0", "130.0", "54.0"]).await;
    check(&by_series("irate(value, time, temporality) * 60"), &["60.0", "60.0", "24.0"]).await;
    let window = "window_start => TIMESTAMP '2026-11-24T09:59:30Z', window_width => INTERVAL '4 minutes'";
    check(
        &by_series(&format!("increase(value, time, extrapolate => true, {window}, temporality => temporality)")),
        &[
            "210.0",
            // Half a minute after the last point, half before the first: 130 / 180 · 240.
            "173.33333333333331",
            "60.0",
        ],
    )
    .await;
    refused(&format!("{POINTS} SELECT increase(value, time) FROM points"), "points of several series are in one group")
        .await;
    refused(&format!("{POINTS} SELECT increase(value, time, temporality) FROM points"), "temporality must be the same")
        .await;
    refused(&by_series("increase(value, time, extrapolate => true)"), "say window_start and window_width").await;
    refused(&by_series("increase(value, time, 'sideways')"), "no temporality").await;
    refused(&by_series("increase(value)"), "increase takes a value and its time").await;
}

#[tokio::test]
async fn a_window_of_two_points_gives_the_steps_of_a_counter() {
    let steps = "SELECT increase(value, time) OVER (PARTITION BY series_id ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS step \
                 FROM points WHERE series_id = 2 ORDER BY time";
    check(&format!("{POINTS} {steps}"), &["null", "60.0", "10.0", "60.0"]).await;
}

#[tokio::test]
async fn areas_and_durations() {
    let gauge = |call: &str| format!("{POINTS} SELECT {call} FROM points WHERE series_id = 4");
    // Two to four on a line for a minute, four until the marker, nothing known to the last point.
    check(&gauge("integral(value, time)"), &["420.0"]).await;
    check(&gauge("integral(value, time, INTERVAL '30 seconds')"), &["180.0"]).await;
    check(&gauge("integral(value, time, '10m', 'locf')"), &["360.0"]).await;
    check(&gauge("time_weighted_avg(value, time)"), &["3.5"]).await;
    check(&gauge("stateduration(value > 3, time)"), &["60.0"]).await;
    check(&gauge("delta(value, time)"), &["6.0"]).await;
    refused(&gauge("stateduration(value, time)"), "takes a condition").await;
    refused(&gauge("integral(value, time, '1 month')"), "months have no length").await;
}

#[tokio::test]
async fn selections() {
    let of = |call: &str, series: u8| format!("{POINTS} SELECT {call} FROM points WHERE series_id = {series}");
    check(&of("first(value, time), last(value, time)", 2), &["50.0 70.0"]).await;
    check(&of("last(value, time) FILTER (WHERE value < 8)", 4), &["4.0"]).await;
    check(&of("percentile(value, 0.5), percentile(value, 0.25)", 1), &["90.0 45.0"]).await;
    check(&of("percentile(value, 0.75)", 1), &["135.0"]).await;
    refused(&of("percentile(value, 95)", 1), "from 0 to 1").await;
    let of_three = "SELECT percentile(value, 0.5) OVER (ORDER BY time ROWS 2 PRECEDING), \
         mode(value) OVER (ORDER BY time ROWS 1 PRECEDING) FROM points WHERE series_id = 2 ORDER BY time";
    check(&format!("{POINTS} {of_three}"), &["50.0 50.0", "80.0 50.0", "50.0 10.0", "70.0 10.0"]).await;
    check(&format!("{POINTS} SELECT mode(temporality), mode(value) FROM points"), &["cumulative 0.0"]).await;
    check(&of("mode(CASE WHEN value > 60 THEN 'high' END)", 1), &["high"]).await;
    let moving = |length: &str| {
        format!(
            "{POINTS} SELECT moving_avg(value, {length}) OVER (PARTITION BY series_id ORDER BY time) FROM points WHERE series_id = 1 ORDER BY time"
        )
    };
    check(&moving("2"), &["0.0", "30.0", "90.0", "150.0"]).await;
    check(&moving("INTERVAL '2 minutes'"), &["0.0", "30.0", "60.0", "120.0"]).await;
    refused(&of("moving_avg(value, 2)", 1), "moves along an order").await;
}

/// Two explicit histograms of one series a minute apart, the second after a reset, and an exponential one.
const HISTOGRAMS: &str = "WITH histograms AS (SELECT column1 AS series_id, to_timestamp_micros(column2 * 60000000) AS time, \
     column3 AS count, column4 AS sum, CAST(NULL AS DOUBLE) AS min, CAST(NULL AS DOUBLE) AS max, column5 AS bounds, \
     column6 AS bucket_counts, column7 AS scale, 0 AS zero_count, 0.0 AS zero_threshold, column8 AS positive_offset, \
     column9 AS positive_counts, 0 AS negative_offset, CAST(NULL AS BIGINT[]) AS negative_counts, \
     map(['state'], ['used']) AS attributes, 'a' AS host_name FROM (VALUES \
     (1, 1, 10, 20.0, [1.0, 2.0, 4.0], [1, 2, 3, 4], NULL, NULL, NULL), \
     (1, 2, 16, 30.0, [1.0, 2.0, 4.0], [3, 4, 5, 4], NULL, NULL, NULL), \
     (1, 3, 5, 9.0, [1.0, 2.0, 4.0], [1, 2, 2, 0], NULL, NULL, NULL), \
     (2, 1, 4, 5.0, NULL, NULL, 0, -1, [1, 2, 1]), \
     (3, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL)))";

#[tokio::test]
async fn histograms_of_a_view() {
    let of = |call: &str, series: u8| format!("{HISTOGRAMS} SELECT {call} FROM histograms WHERE series_id = {series}");
    check(&of("histogram_quantile(0.5, histogram())", 2), &["1.4142135623730951"]).await;
    check(&of("histogram_count(histogram()), histogram_avg(histogram())", 2), &["4.0 1.25"]).await;
    check(&of("histogram_count(histogram_merge(histogram()))", 1), &["31.0"]).await;
    check(&of("histogram_fraction(0, 2, histogram_merge(histogram()))", 1), &["0.41935483870967744"]).await;
    let increase = "histogram_increase(histogram(), time, 'cumulative')";
    // Six until the reset, five since.
    check(&of(&format!("histogram_count({increase}), histogram_sum({increase})"), 1), &["11.0 19.0"]).await;
    check(&of(&format!("({increase})['bucket_counts']"), 1), &["[3.0,4.0,4.0,0.0]"]).await;
    check(&of("histogram_count(histogram_increase(histogram(), time, 'delta'))", 1), &["31.0"]).await;
    check(&of("histogram_quantile(0.5, histogram())", 3), &["null"]).await;
    check(&of("histogram_quantile_bounds(0.5, histogram())", 2), &[r#"{"lower":1.0,"upper":2.0}"#]).await;
    check(&of("histogram_rebin(histogram(), -1)['positive_counts']", 2), &["[1.0,3.0]"]).await;
    check(&of("label('state'), label('host.name'), label('none')", 3), &["used a null"]).await;
    check("SELECT histogram_quantile(0.5, histogram([1, 2], [1, 2, 0]))", &["1.25"]).await;
    refused(&format!("{HISTOGRAMS} SELECT histogram_merge(histogram()) FROM histograms"), "do not add up").await;
    refused("SELECT histogram()", "count is not in scope").await;
    refused(&of("histogram_quantile(0.5, count)", 1), "a histogram is what histogram(…) gives").await;
    refused("SELECT histogram([1, 2], [1, 2])", "one count more than bounds").await;
    refused(
        &format!("{HISTOGRAMS} SELECT histogram_increase(histogram(), time) FROM histograms"),
        "two histograms at one time",
    )
    .await;
}

#[tokio::test]
async fn gaps_are_filled() {
    // Minutes 0, 2 and 5 of host a, minute 3 of host b.
    let points = "WITH points AS (SELECT column1 AS host, to_timestamp_micros(1795514400000000 + column2 * 60000000) AS time, \
         CAST(column3 AS DOUBLE) AS value FROM (VALUES ('a', 0, 1), ('a', 2, 3), ('a', 5, 9), ('b', 3, 7)))";
    let rows = |select: &str, condition: &str| {
        format!(
            "{points} SELECT date_part('minute', time_bucket_gapfill('1m', time)) AS t, host, {select} FROM points \
             WHERE {condition} GROUP BY time_bucket_gapfill('1m', time), host ORDER BY host, t"
        )
    };
    let all = "count(*), avg(value), locf(avg(value)), interpolate(avg(value))";
    check(
        &rows(all, "true"),
        &[
            "0 a 1 1.0 1.0 1.0",
            "1 a null null 1.0 2.0",
            "2 a 1 3.0 3.0 3.0",
            "3 a null null 3.0 5.0",
            "4 a null null 3.0 7.0",
            "5 a 1 9.0 9.0 9.0",
            "3 b 1 7.0 7.0 7.0",
        ],
    )
    .await;
    let range = "time >= '2026-11-24T10:01:00Z' AND time < '2026-11-24T10:04:00Z'";
    check(&rows("locf(avg(value))", range), &["1 a null", "2 a 3.0", "3 a 3.0", "1 b null", "2 b null", "3 b 7.0"])
        .await;
    let named = format!(
        "{points} SELECT time_bucket_gapfill(INTERVAL '2 minutes', time) AS t, sum(value) AS total FROM points \
         WHERE time BETWEEN '2026-11-24T10:00:00Z' AND '2026-11-24T10:07:00Z' GROUP BY t HAVING sum(value) > 1 OR sum(value) IS NULL ORDER BY t DESC LIMIT 2"
    );
    check(&named, &["2026-11-24T10:06:00.000000Z null", "2026-11-24T10:04:00.000000Z 9.0"]).await;
    let arguments = format!(
        "{points} SELECT time_bucket_gapfill('1 hour', time, TIMESTAMP '2026-11-24T09:00:00Z', TIMESTAMP '2026-11-24T11:30:00Z') AS t, \
         coalesce(sum(value), 0) FROM points GROUP BY t ORDER BY t"
    );
    check(
        &arguments,
        &["2026-11-24T09:00:00.000000Z 0.0", "2026-11-24T10:00:00.000000Z 20.0", "2026-11-24T11:00:00.000000Z 0.0"],
    )
    .await;
    check(
        "SELECT count(*) FROM (SELECT time_bucket_gapfill('1 hour', time, 'Europe/Berlin') AS t FROM \
         (SELECT TIMESTAMP '2026-10-25T10:00:00Z' AS time) WHERE time >= '2026-10-24T22:00:00Z' AND time < '2026-10-25T23:00:00Z' GROUP BY t)",
        &["25"],
    )
    .await;
    check(&format!("{points} SELECT count(*) FROM (SELECT time_bucket_gapfill('1h', time) AS t FROM points WHERE time > now() AND time < now() + INTERVAL '5 hours' GROUP BY t)"), &["6"]).await;
    refused(&rows("sum(value)", "time > '1970-01-01T00:00:00Z'"), "more than 1000000 rows").await;
    refused(&format!("{points} SELECT locf(value) FROM points"), "above time_bucket_gapfill").await;
    refused(&format!("{points} SELECT time_bucket_gapfill('1m', time) FROM points"), "stands alone in GROUP BY").await;
}

#[tokio::test]
async fn asof_joins() {
    let tables = "WITH trades AS (SELECT column1 AS host, to_timestamp_micros(column2) AS time, column3 AS latency FROM \
         (VALUES ('a', 5, 1), ('a', 10, 2), ('a', 30, 3), ('b', 10, 4), (NULL, 10, 5), ('c', 10, 6))), \
         quotes AS (SELECT column1 AS host, to_timestamp_micros(column2) AS time, column3 AS size FROM \
         (VALUES ('a', 7, 70), ('a', 10, 100), ('a', 20, 200), ('b', 11, 110), (NULL, 10, 0), ('a', NULL, 9)))";
    let joined = |operator: &str| {
        format!(
            "{tables} SELECT t.latency, q.size FROM (trades t ASOF JOIN quotes q MATCH_CONDITION (t.time {operator} q.time) \
             ON t.host = q.host) ORDER BY t.latency"
        )
    };
    check(&joined(">="), &["1 null", "2 100", "3 200", "4 null", "5 null", "6 null"]).await;
    check(&joined(">"), &["1 null", "2 70", "3 200", "4 null", "5 null", "6 null"]).await;
    check(&joined("<="), &["1 70", "2 100", "3 null", "4 110", "5 null", "6 null"]).await;
    check(&joined("<"), &["1 70", "2 200", "3 null", "4 110", "5 null", "6 null"]).await;
    let all = "SELECT t.latency, q.size FROM (trades AS t ASOF JOIN (SELECT * FROM quotes WHERE host = 'a') q \
         MATCH_CONDITION (q.time <= t.time)) WHERE q.size > 70 ORDER BY t.latency";
    check(&format!("{tables} {all}"), &["2 100", "3 200", "4 100", "5 100", "6 100"]).await;
    refused(&joined("="), "compares a time of the left").await;
    refused(&joined(">=").replace("t.host = q.host", "t.host > q.host"), "are equal").await;
    refused(&joined(">=").replace("q.time)", "q.size)"), "compares times").await;
}

/// One side is distributed by some of what must be equal, the other by all of it.
#[tokio::test]
async fn asof_joins_of_sides_that_are_distributed_already() {
    let hosts = ["a", "b", "c", "d", "e", "f", "g"];
    let rows = |time: usize| hosts.map(|host| format!("('{host}', 'eu', {time})")).join(", ");
    let sql = format!(
        "WITH points AS (SELECT column1 AS host, column2 AS region, to_timestamp_micros(column3) AS time FROM \
         (VALUES {}, {})), \
         l AS (SELECT host, max(region) AS region, max(time) AS time FROM points GROUP BY host), \
         r AS (SELECT host, region, min(time) AS time FROM points GROUP BY host, region) \
         SELECT count(*), count(r.time) FROM (l ASOF JOIN r MATCH_CONDITION (l.time >= r.time) \
         ON l.host = r.host AND l.region = r.region)",
        rows(5),
        rows(3)
    );
    for partitions in [1, 3, 8] {
        assert_eq!(answer(&context(partitions), &sql).await.unwrap(), ["7 7"], "{partitions}");
    }
}

/// Points that came twice, and points of two series at one time.
#[tokio::test]
async fn delta_points_of_one_time() {
    let of = |call: &str, rows: &str| {
        format!(
            "SELECT {call} FROM (SELECT to_timestamp_micros(column1 * 60000000) AS time, column2 AS value FROM (VALUES {rows}))"
        )
    };
    let twice = "(1, 6.0), (2, 12.0), (2, 12.0), (3, 18.0)";
    check(&of("increase(value, time, 'delta')", twice), &["36.0"]).await;
    let two_series = "(1, 6.0), (2, 12.0), (2, 13.0), (3, 18.0)";
    for call in ["increase", "rate", "irate"] {
        refused(&of(&format!("{call}(value, time, 'delta')"), two_series), "points of several series are in one group")
            .await;
    }
    let counts =
        |rows: &str| of("histogram_count(histogram_increase(histogram([1.0], [value, 1.0]), time, 'delta'))", rows);
    check(&counts(twice), &["39.0"]).await;
    refused(&counts(two_series), "points of several series are in one group").await;
}

#[tokio::test]
async fn the_range_that_is_filled() {
    let points = "WITH points AS (SELECT to_timestamp_micros(1795514400000000 + column1 * 60000000) AS time \
         FROM (VALUES (0), (30), (100)))";
    let hours = |arguments: &str, condition: &str| {
        format!(
            "{points} SELECT date_part('hour', t), n FROM (SELECT time_bucket_gapfill('1 hour', time{arguments}) AS t, \
             count(*) AS n FROM points WHERE {condition} GROUP BY t) ORDER BY t"
        )
    };
    let texts = ", '2026-11-24T09:00:00Z', '2026-11-24T12:30:00Z'";
    check(&hours(texts, "true"), &["9 null", "10 2", "11 1", "12 null"]).await;
    let zoned = ", 'Europe/Berlin', '2026-11-24T09:00:00Z', '2026-11-24T11:00:00Z'";
    check(&hours(zoned, "time < '2026-11-24T11:00:00Z'"), &["9 null", "10 2"]).await;
    // Of several conditions the tightest.
    let wide = "time >= '2026-11-24T00:00:00Z' AND time < '2026-11-25T00:00:00Z'";
    let narrow = "time >= '2026-11-24T09:00:00Z' AND time < '2026-11-24T11:00:00Z'";
    for condition in [format!("{wide} AND {narrow}"), format!("{narrow} AND {wide}")] {
        check(&hours("", &condition), &["9 null", "10 2"]).await;
    }
    // A condition on the day is none on the time.
    check(&hours("", "CAST(time AS DATE) <= '2026-11-24' AND time > '2026-11-24T10:10:00Z'"), &["10 1", "11 1"]).await;
    // What a subquery answers is not known yet.
    let subquery = "time >= (SELECT min(time) FROM points) - INTERVAL '3 hours'";
    check(&hours("", subquery), &["10 2", "11 1"]).await;
    refused(&hours(", '2026-11-24T09:00:00Z'", "true"), "a start and a finish, or neither").await;
}

#[tokio::test]
async fn rows_without_a_time_are_neither_first_nor_last() {
    let rows = "(SELECT to_timestamp_micros(column1) AS time, column2 AS value FROM (VALUES (NULL, 9), (2, 20), (1, 10), (NULL, 8)))";
    check(&format!("SELECT first(value, time), last(value, time) FROM {rows}"), &["10 20"]).await;
}

#[tokio::test]
async fn labels_are_texts_of_one_table() {
    refused("SELECT label(map(['a'], [1]), 'a')", "label takes").await;
    refused("SELECT label(map([1], ['b']), column1) FROM (VALUES ('a'))", "label takes").await;
    check(
        "SELECT label(map(['a'], [arrow_cast('b', 'Utf8View')]), column1) FROM (VALUES ('a'), ('c'))",
        &["b", "null"],
    )
    .await;
    let two = "SELECT label('host.name') FROM (SELECT 'a' AS host_name, map(['host.name'], ['c']) AS attributes) l \
         CROSS JOIN (SELECT 'b' AS host_name) r";
    refused(two, "host_name is ambiguous").await;
}

#[tokio::test]
async fn exponential_histograms_of_any_scale() {
    let of = |scale: i64, offset: i64| {
        format!("histogram(3, 4.0, NULL, NULL, NULL, NULL, {scale}, 0, 0.0, {offset}, [1, 2], 0, NULL)")
    };
    let rebinned = |scale: i64, offset: i64, to: i64| {
        let rebinned = format!("histogram_rebin({}, {to})", of(scale, offset));
        format!("SELECT {rebinned}['scale'], {rebinned}['positive_offset'], {rebinned}['positive_counts']")
    };
    check(&rebinned(20, 5, -20), &["-20 0 [3.0]"]).await;
    check(&rebinned(20, -1, -20), &["-20 -1 [1.0,2.0]"]).await;
    let merged = format!(
        "SELECT m['scale'], m['positive_offset'], m['positive_counts'] FROM (SELECT histogram_merge(h) AS m FROM \
         (SELECT {} AS h UNION ALL SELECT {} AS h))",
        of(20, 5),
        of(-20, 0)
    );
    check(&merged, &["-20 0 [4.0,2.0]"]).await;
    refused(&format!("SELECT histogram_count({})", of(0, i64::from(i32::MAX))), "there is no bucket").await;
}
