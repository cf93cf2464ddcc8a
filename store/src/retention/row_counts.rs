//! How many rows of each rule a file has, and the same file without the rows of some rules.
//!
//! A file never changes, so it is counted once by a process, and not read where the range of its metrics tells already.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute::{cast, filter_record_batch},
    datatypes::DataType,
};

use super::metric_rule::{MetricRanges, MetricRule};
use crate::{
    error::{Error, Result},
    file_name::FileName,
    live_file::LiveFile,
    parquet_file::{Effort, FileWriter, NewFile, read_batches, read_columns},
    table_storage::TableStorage,
};

/// Rows per batch of a file that is written anew.
const BATCH_ROWS: usize = 8192;

/// Rows by rule, `None` for metrics without one.
pub(super) type Counts = BTreeMap<Option<usize>, u64>;

/// What is known of files, by path, under one set of rules.
#[derive(Debug, Default)]
struct Known {
    rules: Vec<MetricRule>,
    files: HashMap<String, Arc<Counts>>,
}

/// The counts of files that were read.
#[derive(Debug, Default)]
pub(crate) struct RowCounts(Mutex<Known>);

impl RowCounts {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a pass: counts under other rules, and of files that are gone, are forgotten.
    pub(super) fn begin<'a>(&self, rules: &[MetricRule], live: impl Iterator<Item = &'a Arc<LiveFile>>) {
        let live: HashSet<&str> = live.map(|file| file.path.as_str()).collect();
        let mut known = self.known();
        if known.rules != rules {
            *known = Known { rules: rules.to_vec(), files: HashMap::new() };
        }
        known.files.retain(|path, _| live.contains(path.as_str()));
    }

    pub(super) fn insert(&self, path: String, counts: Counts) -> Arc<Counts> {
        let counts = Arc::new(counts);
        self.known().files.insert(path, Arc::clone(&counts));
        counts
    }

    /// The rows of `file` in `storage` by rule. Blocks.
    ///
    /// # Errors
    /// [`Error::DamagedFile`] and any failure to read it.
    pub(super) fn of_file(
        &self,
        storage: &TableStorage,
        file: &LiveFile,
        ranges: &MetricRanges,
    ) -> Result<Arc<Counts>> {
        if let Some(counts) = self.known().files.get(&file.path) {
            return Ok(Arc::clone(counts));
        }
        let rules: HashSet<_> = ranges.rules_within(file.keys.metric.as_ref()).collect();
        let mut counts = Counts::new();
        if let [rule] = rules.into_iter().collect::<Vec<_>>().as_slice() {
            counts.insert(*rule, file.row_count);
        } else {
            for batch in read_columns(storage.open(file)?, &["metric"])? {
                each_rule(&batch?, ranges, |rule| *counts.entry(rule).or_default() += 1)?;
            }
        }
        Ok(self.insert(file.path.clone(), counts))
    }
}

/// Calls `take` with the rule of each row.
fn each_rule(batch: &RecordBatch, ranges: &MetricRanges, mut take: impl FnMut(Option<usize>)) -> Result<()> {
    let metric = batch.column_by_name("metric").ok_or_else(|| Error::Task("a file has no column metric".into()))?;
    let metric: ArrayRef = cast(metric, &DataType::Utf8)?;
    let metric = metric.as_string::<i32>();
    // Rows of one metric stand together.
    let mut last: Option<(&str, Option<usize>)> = None;
    for row in 0..metric.len() {
        let name = metric.value(row);
        let rule = match last {
            Some((known, rule)) if known == name => rule,
            _ => ranges.rule_of(name),
        };
        last = Some((name, rule));
        take(rule);
    }
    Ok(())
}

/// `file` in `storage` without the rows whose rule is `over`, in the same order and under a name of the same
/// meaning; `None` if no row is left. A batch and a row group of at most about `row_group_size_bytes` are in memory.
/// Blocks.
///
/// # Errors
/// [`Error::Closing`] soon after `stopping` is set, [`Error::DamagedFile`] if rows do not add up, and any failure to read or
/// write. No new file is left behind then.
pub(super) fn without_rows(
    storage: &Arc<TableStorage>,
    file: &LiveFile,
    ranges: &MetricRanges,
    over: impl Fn(Option<usize>) -> bool,
    row_group_size_bytes: usize,
    stopping: &AtomicBool,
) -> Result<Option<NewFile>> {
    let LiveFile { level, sequence, repeats, repeated_times, .. } = *file;
    let effort = if level == 0 { Effort::Flush } else { Effort::Compaction };
    let (mut writer, mut found): (Option<FileWriter>, u64) = (None, 0);
    for batch in read_batches(storage.open(file)?, BATCH_ROWS)? {
        if stopping.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        let batch = batch?;
        found += batch.num_rows() as u64;
        let mut keep = Vec::with_capacity(batch.num_rows());
        each_rule(&batch, ranges, |rule| keep.push(!over(rule)))?;
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        if batch.num_rows() == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let name = FileName { level, sequence, repeats };
                let mut writer = FileWriter::create(storage, file.date, name, &batch.schema(), effort)?;
                writer.row_group_size_bytes = row_group_size_bytes;
                none.insert(writer)
            }
        };
        writer.write(&batch)?;
    }
    if found != file.row_count {
        let reason = format!("it holds {found} rows, the log says {}", file.row_count);
        return Err(Error::DamagedFile { path: storage.dir().join(&file.path), reason });
    }
    let new = writer.map(FileWriter::finish).transpose()?;
    Ok(new.map(|new| NewFile { file: LiveFile { repeated_times, ..new.file }, ..new }))
}
