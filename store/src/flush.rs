//! From memtable to committed files.

use std::{sync::Arc, time::Instant};

use datafusion::arrow::array::RecordBatch;

use crate::{
    background::{self, Priority},
    delta_log::TableSnapshot,
    error::{Error, Result},
    failpoint::{self, Failpoint},
    file_name::FileName,
    live_file::LiveFile,
    memtable::{Memtable, day_of},
    parquet_file::{NewFile, write_parquet},
    rows::{histogram_batches, rejection_batch},
    sample_rows::sample_file_batches,
    schema::series_schema,
    series_day::{SeriesDay, unflushed_rows},
    stage::Stage,
    store::{FlushSummary, Inner, WalTable},
    table_storage::TableStorage,
};

/// Series noted as stored under one lock.
const SERIES_PER_LOCK: usize = 8192;

/// Rows of one UTC day.
pub(crate) type Day = (i32, Vec<RecordBatch>);

/// Flushes everything in memory: seals, then brings each sealed memtable to every table in log order.
pub(crate) async fn flush(store: &Arc<Inner>) -> Result<FlushSummary> {
    let _whole_flush = store.flushing.lock().await;
    let started = Instant::now();
    store.wal.rotate().await?;
    let mut summary = FlushSummary::default();
    loop {
        let Some(memtable) = store.state().oldest_sealed() else { break };
        for table in WalTable::ALL {
            flush_table(store, table, &memtable, &mut summary).await?;
        }
        // In parts, so that appends wait for none of them long.
        for part in memtable.last_times().chunks(SERIES_PER_LOCK) {
            store.state_mut().extend_stored(part);
        }
        store.state_mut().drop_through(memtable.last_sequence);
        store.wal.remove_through(memtable.last_sequence).await?;
    }
    if summary.row_count > 0 {
        store.metrics.flushed(&summary, started.elapsed());
        store.compaction_wanted.notify_one();
    }
    Ok(summary)
}

async fn flush_table(
    store: &Arc<Inner>,
    table: WalTable,
    memtable: &Arc<Memtable>,
    summary: &mut FlushSummary,
) -> Result<()> {
    let name = table.name();
    let committer = store.committer(name).ok_or_else(|| Error::UnknownTable { name: name.to_owned() })?;
    let mut log = committer.lock().await;
    let snapshot = log.settle().await?;
    if snapshot.wal_position >= memtable.last_sequence {
        // Perhaps by a flush that ended before it could say so.
        store.state_mut().publish(name, snapshot);
        return Ok(());
    }
    let storage = Arc::clone(&snapshot.storage);
    let rows = Arc::clone(memtable);
    let task_snapshot = Arc::clone(&snapshot);
    let row_group_size_bytes = store.file_memory.row_group_size_bytes;
    let write_files = move || -> Result<Vec<NewFile>> {
        let mut files = Vec::new();
        for day in rows_days(&rows, table) {
            let batches = day_batches(&rows, table, day, &task_snapshot)?;
            let repeated_times = repeated_times(&rows, table, day);
            let repeats = repeated_times.is_some();
            let name = FileName { level: 0, sequence: rows.last_sequence, repeats };
            let written = write_parquet(&storage, day, name, row_group_size_bytes, batches)?;
            files.extend(written.map(|new| NewFile { file: LiveFile { repeated_times, ..new.file }, ..new }));
        }
        Ok(files)
    };
    let files = background::run("flush", priority(store), move || Stage::Flush.run(write_files)).await?;
    if files.is_empty() && table != WalTable::LAST {
        return Ok(());
    }
    summary.file_count += files.len() as u64;
    summary.row_count += files.iter().map(|new| new.file.row_count).sum::<u64>();
    summary.size_bytes += files.iter().map(|new| new.file.size_bytes).sum::<u64>();
    // A day of `series` is rewritten whole, so that it holds one row per series.
    let replaced: Vec<_> = match table {
        WalTable::Series => snapshot.files.iter().filter(|file| memtable.days.contains(&file.date)).cloned().collect(),
        _ => vec![],
    };
    let committed = log.commit(files, &replaced, Some(memtable.last_sequence)).await?;
    failpoint::hit(Failpoint::FlushAfterCommit, snapshot.storage.dir())?;
    store.state_mut().publish(name, committed);
    Ok(())
}

/// A memtable half full fills up before a flush that gives way is done.
fn priority(store: &Inner) -> Priority {
    if store.state().size_bytes() > store.config.memtable_size_bytes_max / 2 {
        Priority::Pressing
    } else {
        Priority::Flush
    }
}

/// Times of the points on `day` that may repeat points stored before; `None` if there is no such point.
fn repeated_times(memtable: &Memtable, table: WalTable, day: i32) -> Option<(i64, i64)> {
    match table {
        WalTable::Samples => memtable.repeated_samples.get(&day).copied(),
        WalTable::Histograms => memtable.repeated_histograms.get(&day).copied(),
        WalTable::Series | WalTable::Rejections => None,
    }
}

fn rows_days(memtable: &Memtable, table: WalTable) -> Vec<i32> {
    match table {
        WalTable::Rejections => {
            let days = memtable.rejections.iter().flat_map(|of_record| of_record.iter().map(|one| day_of(one.time)));
            days.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        }
        _ => memtable.days.iter().copied().collect(),
    }
}

/// Rows of one day, made while they are written.
fn day_batches<'a>(
    memtable: &'a Memtable,
    table: WalTable,
    day: i32,
    snapshot: &TableSnapshot,
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>> {
    Ok(match table {
        WalTable::Samples => Box::new(sample_file_batches(memtable.sorted(), day)),
        WalTable::Histograms => Box::new(histogram_batches(memtable.sorted(), day)),
        WalTable::Series => Box::new(SeriesDay::new(
            snapshot,
            unflushed_rows([memtable], day, |_metric| true).into(),
            day,
            None,
            series_schema(),
        )?),
        WalTable::Rejections => {
            let rejections = memtable.rejections.iter().flat_map(|of_record| of_record.iter());
            let on_day: Vec<_> = rejections.filter(|rejection| day_of(rejection.time) == day).collect();
            Box::new(std::iter::once(rejection_batch(&on_day)))
        }
    })
}

/// Writes one file per day of a result table.
pub(crate) async fn write_days(
    storage: Arc<TableStorage>,
    days: Vec<Day>,
    row_group_size_bytes: usize,
) -> Result<Vec<NewFile>> {
    let write = move || {
        let files = days.into_iter().map(|(day, batches)| {
            write_parquet(&storage, day, FileName::RESULT, row_group_size_bytes, batches.into_iter().map(Ok))
        });
        files.filter_map(Result::transpose).collect()
    };
    background::run("results", Priority::Flush, write).await
}
