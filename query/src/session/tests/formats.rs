//! Formats and encodings of answers over HTTP.

use std::io::Read;

use arrow::{array::RecordBatch, compute::concat_batches, ipc::reader::StreamReader};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

/// Of every kind that is stored, with nulls.
const TYPED: &str = "SELECT n, CAST(n AS DOUBLE) / 2 AS half, CASE WHEN n % 3 = 0 THEN NULL ELSE 'text ' || n END AS text, \
                     to_timestamp_micros(n * 1000001) AS time, make_array(n, NULL) AS list, map(make_array('k'), make_array(n)) AS map, \
                     arrow_cast('label', 'Dictionary(Int32, Utf8)') AS label, n > 5 AS flag, CAST(n AS DECIMAL(9, 2)) AS cents \
                     FROM (SELECT value AS n FROM generate_series(1, 20000)) ORDER BY n";

async fn get(url: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(url).query(query);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{query:?}");
    response
}

fn parquet_batch(bytes: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn arrow_batch(bytes: &[u8]) -> RecordBatch {
    let reader = StreamReader::try_new(bytes, None).unwrap();
    let schema = reader.schema();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_and_arrow_keep_every_type() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    let parquet = get(&url, &[("query", TYPED), ("format", "parquet")], &[("accept-encoding", "zstd")]).await;
    assert_eq!(parquet.headers()["content-type"], "application/vnd.apache.parquet");
    assert!(!parquet.headers().contains_key("content-encoding"), "it is compressed already");
    let parquet = parquet_batch(parquet.bytes().await.unwrap());
    let accept = [("accept", "application/vnd.apache.arrow.stream")];
    let arrow = arrow_batch(&get(&url, &[("query", TYPED)], &accept).await.bytes().await.unwrap());
    assert_eq!(parquet.num_rows(), 20_000);
    assert_eq!(parquet.columns(), arrow.columns());
    let empty = get(&url, &[("query", "SELECT 1 AS one WHERE false"), ("format", "parquet")], &[]).await;
    assert_eq!(parquet_batch(empty.bytes().await.unwrap()).schema().field(0).name(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_parquet_file_has_bounded_row_groups_and_comes_in_pieces() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    let sql = "SELECT value, sha256(CAST(value AS VARCHAR)) AS noise FROM generate_series(1, 1200000)";
    let mut response = get(&url, &[("query", sql), ("format", "parquet")], &[]).await;
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = response.chunk().await.unwrap() {
        bytes.extend_from_slice(&piece);
        pieces += 1;
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), 1_200_000);
    assert!(groups.len() > 1 && pieces > 1, "{} row groups in {pieces} pieces", groups.len());
    for group in groups {
        assert!(group.total_byte_size() < 32 << 20, "{}", group.total_byte_size());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_where_the_client_accepts_it() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    for format in ["json", "ndjson", "csv", "arrow"] {
        let query = [
            ("query", "SELECT value, 'the same text' AS text FROM generate_series(1, 9000) ORDER BY value"),
            ("format", format),
        ];
        let plain = get(&url, &query, &[]).await;
        assert!(!plain.headers().contains_key("content-encoding"));
        let plain = plain.bytes().await.unwrap();
        for encoding in ["gzip", "zstd"] {
            let response = get(&url, &query, &[("accept-encoding", encoding)]).await;
            assert_eq!(response.headers()["content-encoding"], encoding, "{format}");
            assert!(response.headers()["vary"].to_str().unwrap().contains("accept-encoding"));
            let compressed = response.bytes().await.unwrap();
            assert!(compressed.len() * 2 < plain.len(), "{format} {encoding}: {} of {}", compressed.len(), plain.len());
            let mut text = Vec::new();
            match encoding {
                "gzip" => flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut text).unwrap(),
                _ => zstd::stream::read::Decoder::new(&compressed[..]).unwrap().read_to_end(&mut text).unwrap(),
            };
            if format == "json" {
                // The time that it took is part of it.
                let rows = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["rows"].take();
                assert_eq!(rows(&text), rows(&plain), "{encoding}");
            } else {
                assert!(text == plain, "{format} {encoding}");
            }
        }
    }
    let small = get(&url, &[("query", "SELECT 1")], &[("accept-encoding", "gzip")]).await;
    assert!(!small.headers().contains_key("content-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_that_is_cut_does_not_look_whole() {
    let fixture = fixture().await;
    let timeout = Duration::from_millis(300);
    let (url, _server) = fixture.serve(Config { timeout, ..Config::default() }).await;
    let sql = "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a, generate_series(1, 100000) b";
    for (format, encoding) in [("csv", "gzip"), ("parquet", "identity")] {
        let request = reqwest::Client::new().get(&url).query(&[("query", sql), ("format", format)]);
        let whole = match request.header("accept-encoding", encoding).send().await {
            // Nothing may have come before the time is over, and then the status can say so.
            Ok(answer) => answer.status() == 200 && answer.bytes().await.is_ok(),
            Err(_broken) => false,
        };
        assert!(!whole, "{format}");
    }
}
