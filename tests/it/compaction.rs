//! A client that sends again what is stored already, and a merge of all files, as users see them.

use std::{fs::File, path::Path};

use datafusion::arrow::array::AsArray;
use deltalake::{ensure_table_uri, open_table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::Server,
};

async fn compact(server: &Server, query: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1/admin/compact{query}", server.http);
    let response = reqwest::Client::new().post(url).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Rows of `metric` in each file of a table that has some, as another reader finds them.
async fn rows_by_file(table: &Path, metric: &str) -> Vec<usize> {
    let delta = open_table(ensure_table_uri(table.to_string_lossy()).unwrap()).await.unwrap();
    let mut counts = Vec::new();
    for path in delta.get_file_uris().unwrap() {
        let path = path.strip_prefix("file://").unwrap_or(&path).replace("%3D", "=");
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        let rows = reader.map(|batch| {
            let metrics = batch.unwrap()["metric"].as_string::<i32>().clone();
            metrics.iter().filter(|name| *name == Some(metric)).count()
        });
        counts.push(rows.sum());
    }
    counts.retain(|count| *count > 0);
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn points_sent_again_after_a_flush_are_one_row_and_a_merge_drops_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let now = now_nanos();
    let send = async |value: f64| {
        let points =
            (0..100).map(|index| point(now - index * 1_000_000_000, value, vec![label("n", &(index % 3).to_string())]));
        assert_eq!(export(&server, vec![gauge("again", points.collect())]).await.0, 0);
    };
    let sql = "SELECT count(*), sum(value), count(DISTINCT time) FROM raw.samples WHERE metric = 'again'";
    for value in [1.0, 2.0, 3.0] {
        send(value).await;
        assert_eq!(server.rows(sql).await, [[json!(100), json!(100.0 * value), json!(100)]]);
        server.flush().await;
        assert_eq!(server.rows(sql).await, [[json!(100), json!(100.0 * value), json!(100)]]);
    }
    let old = "SELECT count(*) FROM raw.samples WHERE metric = 'again' AND value < 3";
    assert_eq!(server.rows(old).await, [[json!(0)]]);
    let (status, summary) = compact(&server, "").await;
    assert_eq!(status, 200, "{summary}");
    assert_eq!(summary["duplicates"], 200, "{summary}");
    assert!(summary["files_before"].as_u64() > summary["files_after"].as_u64(), "{summary}");
    assert_eq!(server.rows(sql).await, [[json!(100), json!(300.0), json!(100)]]);
    assert_eq!(compact(&server, "?mode=due").await.1["files_before"], 0);
    assert_eq!(compact(&server, "?mode=some").await.0, 400);
    let (_, metrics) = server.get("/metrics").await;
    let counted = metrics.lines().find(|line| line.starts_with("driftwatt_store_compacted_duplicates_total"));
    assert!(counted.is_some_and(|line| line.ends_with(" 200")), "{counted:?}");
    server.terminate();
    let counts = rows_by_file(&data.join("tables/samples"), "again").await;
    assert_eq!(counts.iter().sum::<usize>(), 100, "{counts:?}");
    // Two days if midnight is among the points.
    assert!(counts.len() <= 2, "{counts:?}");
}
