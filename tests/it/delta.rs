//! A second reader: the `deltalake` crate opens the tables with the server stopped.

use std::{fs::File, path::Path};

use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, Int32Type, Int64Type},
};
use deltalake::{ensure_table_uri, open_table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::Server,
};

/// Values of a column; those of `samples` as `docs/format/tables.md` says to read them:
/// `coalesce(value, scaled / 10^exponent)`.
fn values(batch: &RecordBatch, column: &str) -> Vec<f64> {
    let Some(doubles) = batch.column_by_name(column) else { return vec![] };
    let doubles = doubles.as_primitive::<Float64Type>().iter();
    let (Some(scaled), Some(exponent)) = (batch.column_by_name("scaled"), batch.column_by_name("exponent")) else {
        return doubles.flatten().collect();
    };
    let decimals = scaled.as_primitive::<Int64Type>().iter().zip(exponent.as_primitive::<Int32Type>());
    let values = doubles
        .zip(decimals)
        .map(|(double, (scaled, exponent))| double.or_else(|| Some(scaled? as f64 / 10f64.powi(exponent?))));
    values.flatten().collect()
}

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
            sum += values(&batch, column).iter().sum::<f64>();
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
