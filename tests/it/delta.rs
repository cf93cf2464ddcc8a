//! A second reader: the `deltalake` crate opens the tables with the server stopped.

use std::{fs::File, path::Path};

use datafusion::arrow::{
    array::AsArray,
    datatypes::{Float64Type, Int64Type},
};
use deltalake::{ensure_table_uri, open_table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::Server,
};

/// Rows of a table, the sum of a double column, and the number of distinct series.
pub(crate) async fn read(table: &Path, column: &str) -> (u64, f64, usize) {
    let delta = open_table(ensure_table_uri(table.to_string_lossy()).unwrap()).await.unwrap();
    let (mut rows, mut sum, mut series) = (0, 0.0, std::collections::HashSet::new());
    for path in delta.get_file_uris().unwrap() {
        let path = path.strip_prefix("file://").unwrap_or(&path).replace("%3D", "=");
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            rows += batch.num_rows() as u64;
            series.extend(batch["series_id"].as_primitive::<Int64Type>().values().iter().copied());
            if let Some(values) = batch.column_by_name(column) {
                sum += values.as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
            }
        }
    }
    (rows, sum, series.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_reader_sees_the_same_rows_and_sums() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let day_nanos = 86_400_000_000_000;
    let now = now_nanos();
    for round in 0..3u64 {
        // Three days, several flushes, one series that is in all of them.
        let points = (0..100).map(|index| {
            let time = now - round * day_nanos - index * 1_000_000_000;
            point(time, (round * 100 + index) as f64 * 0.5, vec![label("series", &(index % 7).to_string())])
        });
        assert_eq!(export(&server, vec![gauge("delta.check", points.collect())]).await.0, 0);
        server.flush().await;
    }
    let sql = "SELECT count(*), sum(value), count(DISTINCT series_id) FROM raw.samples";
    let answered = server.rows(sql).await.remove(0);
    let series_rows = server.rows("SELECT count(*) FROM raw.series").await.remove(0).remove(0);
    server.terminate();
    let (rows, sum, series) = read(&data.join("tables/samples"), "value").await;
    assert_eq!(json!([rows, sum, series]), json!(answered));
    let (rows, ..) = read(&data.join("tables/series"), "none").await;
    assert_eq!(json!(rows), series_rows);
}
