//! Answers of the functions over rows made in SQL.

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::json::value;

fn context(partitions: usize) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().execution.time_zone = Some("UTC".into());
    let ctx = SessionContext::new_with_config(config);
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
    refused("SELECT time_bucket('5m', 7)", "takes a time as its second argument").await;
}
