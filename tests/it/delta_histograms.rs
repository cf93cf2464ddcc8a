//! A second reader, the `deltalake` crate, sees the histograms too: rows, observations, sums and every bucket.

use std::{fs::File, path::Path};

use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use deltalake::{ensure_table_uri, open_table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use crate::{
    otlp::{export, now_nanos},
    points::{distribution, histogram},
    server::Server,
};

const DAY_NANOS: u64 = 86_400_000_000_000;

/// All rows of the live files of `table`.
async fn read(table: &Path) -> Vec<RecordBatch> {
    let opened = open_table(ensure_table_uri(table.to_string_lossy()).unwrap()).await.unwrap();
    let mut batches = Vec::new();
    for uri in opened.get_file_uris().unwrap() {
        let path = uri.strip_prefix("file://").unwrap_or(&uri).replace("%3D", "=");
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    batches
}

#[tokio::test(flavor = "multi_thread")]
async fn another_reader_sees_the_same_histograms() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let now = now_nanos() - 60_000_000_000;
    for round in 0..4u64 {
        let point = |index: u64| {
            let time = now - (index % 3) * DAY_NANOS - (round * 10 + index) * 1_000_000;
            // Quarters add up exactly in any order.
            distribution(time, index as f64 * 0.25, &[0.5, 4.0], &[index, 1, round])
        };
        assert_eq!(export(&server, vec![histogram("delta.histogram", (0..10).map(point).collect())]).await.0, 0);
        // The last round is flushed by the stop.
        if round < 3 {
            server.flush().await;
        }
    }
    let answered = server.rows("SELECT count(*), sum(count), sum(sum) FROM raw.histograms").await.remove(0);
    assert_eq!(json!(answered), json!([40, 4 * 45 + 40 + 60, 45.0]));
    server.terminate();

    let (mut rows, mut observations, mut sum, mut bucketed) = (0, 0, 0.0, 0);
    for batch in read(&data.join("tables/histograms")).await {
        rows += batch.num_rows();
        observations += batch["count"].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        sum += batch["sum"].as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        for counts in batch["bucket_counts"].as_list::<i32>().iter().flatten() {
            assert_eq!(counts.len(), 3);
            bucketed += counts.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        }
    }
    assert_eq!(json!([rows, observations, sum]), json!(answered));
    assert_eq!(bucketed, observations);
}
