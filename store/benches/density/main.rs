//! Bytes per point on disk, keys included, by kind of metric and encoding (`docs/performance.md`).
//!
//! Sizes do not depend on the build profile: `cargo test -p driftwatt-store --bench density` prints the same table.
//! `DENSITY_SERIES` and `DENSITY_HOURS` set the amount; half of the jitter of the times is whole milliseconds.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::{
    AttributeValue, Config, Durability, SampleColumns, Series, SeriesDefinition, Store, Temporality, WriteBatch,
    write_compacted,
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, Encoding, ZstdLevel},
    file::{properties::WriterProperties, reader::FileReader, serialized_reader::SerializedFileReader},
    schema::types::ColumnPath,
};

mod kinds;
use kinds::{KINDS, Kind, Random, Value, Walk};

/// 2026-11-23T00:00:00Z; a fixed day, so that every run writes the same partition.
const START_US: i64 = 1_795_392_000_000_000;
const INTERVAL_US: i64 = 15_000_000;
const SERIES_PER_HOST: usize = 8;
const KEYS: [&str; 4] = ["metric", "series_id", "start_time", "time"];

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a setting is a number"))
}

fn series(kind: &Kind, index: usize) -> Arc<Series> {
    let text = |text: String| AttributeValue::String(text);
    let is_histogram = kind.name.contains("histogram");
    Series::new(SeriesDefinition {
        metric: kind.name.into(),
        unit: "1".into(),
        description: "".into(),
        kind: match (is_histogram, kind.cumulative) {
            (true, _) => driftwatt_store::Kind::Histogram,
            (_, true) => driftwatt_store::Kind::Sum,
            _ => driftwatt_store::Kind::Gauge,
        },
        temporality: if kind.cumulative { Temporality::Cumulative } else { Temporality::Unspecified },
        monotonic: kind.cumulative,
        bounds: vec![],
        resource: vec![("host.name".into(), text(format!("host-{}", index / SERIES_PER_HOST)))].into(),
        scope_name: "bench".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![("device".into(), text(format!("{}", index % SERIES_PER_HOST)))],
    })
}

/// When each host reports: its own phase, and a timer that is late by up to 2 ms, on half of the hosts in whole ms.
fn times(hosts: usize, ticks: usize, random: &mut Random) -> Vec<Vec<i64>> {
    let host = |host: usize, random: &mut Random| {
        let phase = (random.uniform() * INTERVAL_US as f64) as i64;
        let unit = if host.is_multiple_of(2) { 1000 } else { 1 };
        let late = |random: &mut Random| ((random.normal() * 500.0).abs() as i64 / unit) * unit;
        let start = START_US + phase / 1000 * 1000;
        (0..ticks as i64).map(|tick| start + tick * INTERVAL_US + late(random)).collect()
    };
    (0..hosts).map(|index| host(index, random)).collect()
}

/// All points of `kind`: one batch per series.
fn batches(kind: &Kind, series_count: usize, ticks: usize) -> Vec<WriteBatch> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let times = times(series_count.div_ceil(SERIES_PER_HOST), ticks, &mut random);
    let of_series = |index: usize| {
        let start_time = if kind.cumulative { START_US - 1_000_000 * index as i64 - 777 } else { 0 };
        let mut batch = WriteBatch { series: vec![series(kind, index)], ..WriteBatch::default() };
        let mut walk = Walk::default();
        for time in &times[index / SERIES_PER_HOST] {
            match (kind.next)(&mut walk, &mut random) {
                Value::Histogram(mut point) => {
                    (point.start_time, point.time) = (start_time, *time);
                    batch.histograms.push(*point);
                }
                value => {
                    let (bits, form) = value.sample().unwrap_or((0, SampleColumns::NO_VALUE));
                    batch.samples.push(0, start_time, *time, bits, form);
                }
            }
        }
        batch
    };
    (0..series_count).map(of_series).collect()
}

/// Rows as files hold them, and as queries see them, after one flush; and the size of the flushed files.
async fn stored(dir: &Path, batches: Vec<WriteBatch>, table: &str) -> (Vec<RecordBatch>, Vec<RecordBatch>, u64) {
    let mut config = Config::new(dir);
    config.durability = Durability::Memory;
    config.flush_size_bytes = usize::MAX;
    config.memtable_size_bytes_max = usize::MAX;
    config.flush_interval = Duration::from_secs(3600);
    config.wal_segment_size_bytes = 1 << 32;
    let store = Store::open(config).await.expect("an empty directory opens");
    for batch in batches {
        store.append(batch).await.expect("a valid batch is appended");
    }
    store.flush().await.expect("the tables can be written");
    let size_bytes = store.tables().iter().find(|summary| summary.name == table).map_or(0, |table| table.size_bytes);
    let session = SessionContext::new();
    session.register_table("points", store.table(table).expect("the table exists")).expect("a free name");
    let shown = session.sql("SELECT * EXCEPT (date) FROM points ORDER BY metric, series_id, time").await;
    let shown = shown.expect("the query is valid").collect().await.expect("the files are readable");
    store.close().await.expect("the store closes");
    let files: Vec<PathBuf> = fs::read_dir(dir.join("tables").join(table))
        .expect("the table has a folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("date=")))
        .flat_map(|day| fs::read_dir(day).expect("a readable day").map(|file| file.expect("a readable entry").path()))
        .collect();
    let read = |path: &PathBuf| {
        let file = File::open(path).expect("the file is there");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        reader.expect("a Parquet file").map(|batch| batch.expect("a readable batch")).collect::<Vec<_>>()
    };
    (files.iter().flat_map(read).collect(), shown, size_bytes)
}

/// Size of `batches` with the keys as the store has them and every other column with one encoding.
fn size_bytes(batches: &[RecordBatch], encoding: Option<Encoding>) -> u64 {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a level")))
        .set_data_page_row_count_limit(20_000)
        .set_write_batch_size(5000);
    for key in &KEYS[1..] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(*key), false)
            .set_column_encoding(ColumnPath::from(*key), Encoding::DELTA_BINARY_PACKED);
    }
    let schema = batches[0].schema();
    if let Some(encoding) = encoding {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from("value"), false)
            .set_column_encoding(ColumnPath::from("value"), encoding);
        for list in ["bucket_counts", "positive_counts", "negative_counts"] {
            let path = ColumnPath::from(vec![list.to_owned(), "list".to_owned(), "element".to_owned()]);
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            properties = properties.set_column_encoding(path, encoding);
        }
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build())).expect("a writer");
    batches.iter().for_each(|batch| writer.write(batch).expect("memory takes the rows"));
    writer.into_inner().expect("memory takes the footer").len() as u64
}

/// Bytes of the key columns of a file, and of all of it.
fn key_and_file_size_bytes(path: &Path) -> (u64, u64) {
    let reader = SerializedFileReader::new(File::open(path).expect("the file is there")).expect("a Parquet file");
    let columns = reader.metadata().row_groups().iter().flat_map(|row_group| row_group.columns());
    let keys = columns.filter(|column| KEYS.contains(&column.column_path().string().as_str()));
    let keys = keys.map(|column| column.compressed_size().cast_unsigned()).sum();
    (keys, fs::metadata(path).expect("the file is there").len())
}

async fn row(kind: &Kind, series_count: usize, ticks: usize) -> Vec<f64> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder is writable");
    let table = if kind.name.contains("histogram") { "histograms" } else { "samples" };
    let (file_rows, shown, flushed) = stored(dir.path(), batches(kind, series_count, ticks), table).await;
    let points: usize = shown.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(points, series_count * ticks, "points stored");
    let chosen = |level| write_compacted(dir.path(), &file_rows, level).expect("the build folder is writable");
    let (keys, chosen_bytes) = key_and_file_size_bytes(&chosen(1));
    let (_, chosen_bytes_3) = key_and_file_size_bytes(&chosen(3));
    // Lists of integers cannot be split by every reader, so histograms have no such column.
    let split = (table == "samples").then(|| size_bytes(&shown, Some(Encoding::BYTE_STREAM_SPLIT)));
    let sizes = [
        Some(size_bytes(&shown, None)),
        split,
        Some(size_bytes(&shown, Some(Encoding::PLAIN))),
        Some(flushed),
        Some(chosen_bytes),
        Some(chosen_bytes_3),
        Some(keys),
    ];
    sizes.into_iter().map(|size| size.map_or(f64::NAN, |size| size as f64 / points as f64)).collect()
}

#[tokio::main]
async fn main() {
    let series_count = setting("DENSITY_SERIES", 40);
    let ticks = setting("DENSITY_HOURS", 4) * 240;
    println!("bytes per point, keys included; {series_count} series of {ticks} points 15 s apart");
    println!("| metric | dictionary | split | plain | as flushed | chosen | chosen, zstd 3 | keys in chosen |");
    println!("|---|---|---|---|---|---|---|---|");
    for kind in &KINDS {
        let sizes = row(kind, series_count, ticks).await;
        let cells: Vec<_> =
            sizes.iter().map(|size| if size.is_nan() { "".into() } else { format!("{size:.2}") }).collect();
        println!("| {} | {} |", kind.name, cells.join(" | "));
    }
}
