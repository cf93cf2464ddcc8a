//! What a data directory is made of: files by level, bytes by column, the biggest metrics. Reads footers and two columns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    basic::Encoding,
    file::metadata::RowGroupMetaData,
};

use crate::{
    config::Config,
    error::{Error, Result},
    live_file::{LiveFile, date_text},
    state::WalTable,
    table_storage::Tables,
    verify::{FoundTable, lock_shared, replay_tables},
};

/// What [`inspect`] found, one entry for each table, by name.
#[derive(Debug, Clone, Default)]
pub struct InspectReport {
    /// Tables by name.
    pub tables: Vec<TableContents>,
}

/// What one table is made of.
#[derive(Debug, Clone, Default)]
pub struct TableContents {
    /// Table name.
    pub name: String,
    /// Newest Delta version.
    pub version: i64,
    /// Live files, rows and bytes by compaction level; `None` for files whose name has no level.
    pub levels: BTreeMap<Option<u8>, Share>,
    /// Days with rows, as `2026-11-24`.
    pub days: BTreeSet<String>,
    /// First and last time of a row, UTC microseconds, where the table has statistics of it.
    pub time: Option<(i64, i64)>,
    /// Different series, for `series`.
    pub series_count: Option<u64>,
    /// Columns, largest first.
    pub columns: Vec<ColumnContents>,
    /// Metrics, largest first.
    pub metrics: Vec<MetricContents>,
    /// Live files that cannot be read; nothing else here counts them, except `levels`.
    pub unreadable: Vec<PathBuf>,
}

/// Part of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Files.
    pub file_count: u64,
    /// Rows.
    pub row_count: u64,
    /// Bytes.
    pub size_bytes: u64,
}

/// One column over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnContents {
    /// Name of the top-level column.
    pub name: String,
    /// Compressed bytes of its pages.
    pub size_bytes: u64,
    /// Encodings of its pages, dictionaries included, levels not.
    pub encodings: BTreeSet<String>,
}

/// One metric over all files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricContents {
    /// Metric name.
    pub metric: String,
    /// Rows.
    pub row_count: u64,
    /// Estimate: of each row group's compressed bytes the share that its rows are.
    pub size_bytes_estimate: f64,
}

impl TableContents {
    /// All levels together.
    pub fn total(&self) -> Share {
        self.levels.values().fold(Share::default(), |sum, level| Share {
            file_count: sum.file_count + level.file_count,
            row_count: sum.row_count + level.row_count,
            size_bytes: sum.size_bytes + level.size_bytes,
        })
    }
}

/// Reads the footers, and the columns `metric` and (of `series`) `series_id`, of every live file of the data directory that
/// `config` names; no server may have it open. Files on S3 are fetched whole. `progress` is told files read and files in
/// all. Blocks.
///
/// # Errors
/// [`Error::Locked`], [`Error::Io`] or [`Error::Storage`] if the tables cannot be listed.
pub fn inspect(config: &Config, progress: &mut dyn FnMut(u64, u64)) -> Result<InspectReport> {
    let _lock = lock_shared(&config.data_dir)?;
    let root = Tables::open_to_read(config)?;
    let tables = replay_tables(&root)?;
    let total = tables.values().map(|table| table.log.table.files.len() as u64).sum();
    let mut done = 0;
    let mut report = InspectReport::default();
    for (name, table) in tables {
        let mut reader = TableReader::new(name);
        for file in table.log.table.files.values() {
            reader.read(&table, file);
            done += 1;
            progress(done, total);
        }
        report.tables.push(reader.finish(table.log.version));
    }
    Ok(report)
}

/// The level in `part-<level>-<sequence>-…`: one digit, then 20.
fn level(path: &str) -> Option<u8> {
    let mut parts = path.rsplit('/').next()?.strip_prefix("part-")?.split('-');
    let (level, sequence) = (parts.next()?, parts.next()?);
    let digits = |text: &str, size| text.len() == size && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(level, 1) && digits(sequence, 20)).then(|| level.parse().ok())?
}

struct TableReader {
    contents: TableContents,
    columns: BTreeMap<String, ColumnContents>,
    metrics: HashMap<String, MetricContents>,
    series: HashSet<i64>,
}

impl TableReader {
    fn new(name: String) -> Self {
        let contents = TableContents { name, ..TableContents::default() };
        Self { contents, columns: BTreeMap::new(), metrics: HashMap::new(), series: HashSet::new() }
    }

    fn read(&mut self, table: &FoundTable, file: &LiveFile) {
        let share = self.contents.levels.entry(level(&file.path)).or_default();
        share.file_count += 1;
        share.row_count += file.row_count;
        share.size_bytes += file.size_bytes;
        self.contents.days.insert(date_text(file.date));
        if let Some((from, to)) = file.keys.time {
            let time = self.contents.time.get_or_insert((from, to));
            *time = (time.0.min(from), time.1.max(to));
        }
        if let Err(error) = self.read_content(table, file) {
            let path = PathBuf::from(table.storage.location()).join(&file.path);
            tracing::warn!(%error, path = %path.display(), "file not counted; run driftwatt verify");
            self.contents.unreadable.push(path);
        }
    }

    fn read_content(&mut self, table: &FoundTable, file: &LiveFile) -> Result<()> {
        let path = table.storage.dir().join(&file.path);
        let file = table
            .storage
            .open_unchecked(file)?
            .ok_or_else(|| Error::DamagedFile { path: path.clone(), reason: "it does not exist".into() })?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
        for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
            self.add_columns(group);
            let reader = |column: &str| -> Result<_> {
                let root = metadata.schema().index_of(column)?;
                let file = file.try_clone().map_err(Error::io("open", &path))?;
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
                let projection = ProjectionMask::roots(metadata.parquet_schema(), [root]);
                Ok(builder.with_row_groups(vec![index]).with_projection(projection).build()?)
            };
            if metadata.schema().index_of("metric").is_ok() {
                let row_bytes = group.compressed_size() as f64 / group.num_rows().max(1) as f64;
                for batch in reader("metric")? {
                    for metric in batch?.column(0).as_string::<i32>().iter().flatten() {
                        self.add_metric(metric, row_bytes);
                    }
                }
            }
            if self.contents.name == WalTable::Series.name() {
                for batch in reader("series_id")? {
                    self.series.extend(batch?.column(0).as_primitive::<Int64Type>().values());
                }
            }
        }
        Ok(())
    }

    fn add_columns(&mut self, group: &RowGroupMetaData) {
        for chunk in group.columns() {
            let name = chunk.column_path().parts().first().cloned().unwrap_or_default();
            let column = self.columns.entry(name.clone()).or_insert(ColumnContents { name, ..Default::default() });
            column.size_bytes += chunk.compressed_size().cast_unsigned();
            // Levels are always RLE here, and no column of ours encodes its values so.
            let encodings = chunk.encodings().filter(|encoding| *encoding != Encoding::RLE);
            column.encodings.extend(encodings.map(|encoding| encoding.to_string()));
        }
    }

    fn add_metric(&mut self, metric: &str, row_bytes: f64) {
        if !self.metrics.contains_key(metric) {
            let contents = MetricContents { metric: metric.to_owned(), ..MetricContents::default() };
            self.metrics.insert(metric.to_owned(), contents);
        }
        if let Some(contents) = self.metrics.get_mut(metric) {
            contents.row_count += 1;
            contents.size_bytes_estimate += row_bytes;
        }
    }

    fn finish(mut self, version: i64) -> TableContents {
        self.contents.version = version;
        self.contents.series_count =
            (self.contents.name == WalTable::Series.name()).then_some(self.series.len() as u64);
        self.contents.columns = self.columns.into_values().collect();
        self.contents.columns.sort_by_key(|column| std::cmp::Reverse(column.size_bytes));
        self.contents.metrics = self.metrics.into_values().collect();
        self.contents.metrics.sort_by(|a, b| {
            let size = b.size_bytes_estimate.total_cmp(&a.size_bytes_estimate);
            size.then_with(|| a.metric.cmp(&b.metric))
        });
        self.contents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{START, batch, open};

    #[test]
    fn levels_are_in_names_of_the_agreed_form_only() {
        assert_eq!(level("date=2026-11-24/part-1-00000000000000000812-0a1b.parquet"), Some(1));
        assert_eq!(level("date=2026-11-24/part-0-00000000000000000812-r-0a1b.parquet"), Some(0));
        assert_eq!(level("date=2026-11-24/part-3f2a0000-0000-4000-8000-000000000000.parquet"), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_bytes_and_series_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        for (metric, host, count) in [("a", "h1", 10), ("b", "h1", 30), ("b", "h2", 40)] {
            store.append(batch(metric, host, START, count)).await.unwrap();
            store.flush().await.unwrap();
        }
        let summaries = store.tables();
        store.close().await.unwrap();
        drop(store);
        let report = inspect(&Config::new(dir.path()), &mut |_, _| {}).unwrap();
        for (table, summary) in report.tables.iter().zip(&summaries) {
            let total = table.total();
            assert_eq!((&table.name, table.version), (&summary.name, summary.version));
            assert_eq!(
                (total.file_count, total.row_count, total.size_bytes),
                (summary.file_count, summary.row_count, summary.size_bytes)
            );
            let columns: u64 = table.columns.iter().map(|column| column.size_bytes).sum();
            assert!(columns < total.size_bytes || total.size_bytes == 0, "{table:?}");
            let metrics: f64 = table.metrics.iter().map(|metric| metric.size_bytes_estimate).sum();
            assert!(table.metrics.is_empty() || (metrics - columns as f64).abs() < 1.0, "{table:?}");
        }
        let samples = report.tables.iter().find(|table| table.name == "samples").unwrap();
        let rows: Vec<_> = samples.metrics.iter().map(|metric| (metric.metric.as_str(), metric.row_count)).collect();
        assert_eq!(rows, [("b", 70), ("a", 10)]);
        assert_eq!(samples.time, Some((START, START + 39_000_000)));
        let time = samples.columns.iter().find(|column| column.name == "time").unwrap();
        assert!(time.encodings.contains("DELTA_BINARY_PACKED"), "{time:?}");
        let series = report.tables.iter().find(|table| table.name == "series").unwrap();
        assert_eq!((series.series_count, series.total().row_count), (Some(3), 3));
    }
}
