//! One merge carried out: sorted files in, sorted files out, in memory that does not grow with their size.

use std::{
    slice::Iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, RecordBatch, new_null_array},
    compute::cast,
    datatypes::{Int64Type, SchemaRef},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::plan::Plan;
use crate::{
    error::{Error, Result},
    file_name::FileName,
    live_file::LiveFile,
    merge::{Merge, Step},
    parquet_file::{Effort, FileWriter, NewFile, read_batches},
    table_storage::TableStorage,
};

/// Rows per batch of inputs and output.
const BATCH_ROWS: usize = 8192;
/// Size from which the next series starts another file.
const PART_SIZE_BYTES: u64 = 192 << 20;

/// New files with the rows of the old ones.
pub(super) struct Rewritten {
    pub(super) files: Vec<NewFile>,
    pub(super) row_count: u64,
    /// Rows that an identity newer than theirs replaced.
    pub(super) duplicate_count: u64,
}

/// Merges the files of `plan` in `storage` into files of `schema` (without `date`), a row group of at most about
/// `row_group_size_bytes` at a time. Blocks.
///
/// # Errors
/// [`Error::Closing`] soon after `stopping` is set, [`Error::Corrupt`] if rows do not add up, and any failure to read or
/// write. No new file is left behind then.
pub(super) fn rewrite(
    storage: &Arc<TableStorage>,
    schema: &SchemaRef,
    plan: &Plan,
    row_group_size_bytes: usize,
    stopping: &AtomicBool,
) -> Result<Rewritten> {
    let mut inputs: Vec<_> = plan.runs.iter().map(|run| Input::new(storage, schema, run)).collect();
    let mut output = Output::new(storage, schema, plan, row_group_size_bytes);
    let mut merge = Merge::new(Arc::clone(schema), inputs.len(), BATCH_ROWS);
    loop {
        match merge.step()? {
            Step::Need(input) => merge.push(input, inputs[input].next()?)?,
            Step::Batch(batch) => {
                if stopping.load(Ordering::Relaxed) {
                    return Err(Error::Closing);
                }
                output.write(&batch)?;
            }
            Step::Done => break,
        }
    }
    let rewritten = output.finish(merge.duplicate_count)?;
    let expected: u64 = plan.files().map(|file| file.row_count).sum();
    let found = rewritten.row_count + rewritten.duplicate_count;
    if found != expected {
        let reason = format!("{} files hold {found} rows, the log says {expected}", plan.files().count());
        return Err(Error::Corrupt { path: storage.location().into(), offset: 0, reason });
    }
    Ok(rewritten)
}

/// The rows of some files, file after file.
pub(super) struct Input<'a> {
    storage: &'a Arc<TableStorage>,
    schema: &'a SchemaRef,
    files: Iter<'a, Arc<LiveFile>>,
    reader: Option<ParquetRecordBatchReader>,
}

impl<'a> Input<'a> {
    pub(super) fn new(storage: &'a Arc<TableStorage>, schema: &'a SchemaRef, run: &'a [Arc<LiveFile>]) -> Self {
        Self { storage, schema, files: run.iter(), reader: None }
    }

    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(batch) = reader.next()
            {
                return with_columns(&batch?, self.schema).map(Some);
            }
            let Some(file) = self.files.next() else { return Ok(None) };
            self.reader = Some(read_batches(self.storage.open(file)?, BATCH_ROWS)?);
        }
    }
}

/// `batch` with exactly the columns of `schema`; a nullable one that the file does not have yet is null.
fn with_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        match batch.column_by_name(field.name()) {
            Some(column) => Ok(cast(column, field.data_type())?),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// Files under way, split between series when they are large.
struct Output<'a> {
    storage: &'a Arc<TableStorage>,
    schema: &'a SchemaRef,
    plan: &'a Plan,
    row_group_size_bytes: usize,
    part_size_bytes: u64,
    files: Vec<NewFile>,
    writer: Option<FileWriter>,
    last_series: i64,
    row_count: u64,
}

impl<'a> Output<'a> {
    fn new(storage: &'a Arc<TableStorage>, schema: &'a SchemaRef, plan: &'a Plan, row_group_size_bytes: usize) -> Self {
        // Parts are known by their common sequence, which rows of files with foreign names do not have.
        let part_size_bytes = if plan.sequence == 0 { u64::MAX } else { PART_SIZE_BYTES };
        Self {
            storage,
            schema,
            plan,
            row_group_size_bytes,
            part_size_bytes,
            files: vec![],
            writer: None,
            last_series: 0,
            row_count: 0,
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let ids = batch["series_id"].as_primitive::<Int64Type>().values();
        let large = self.writer.as_ref().is_some_and(|writer| writer.size_bytes() >= self.part_size_bytes);
        let border = if large { ids.iter().position(|id| *id != self.last_series) } else { None };
        if let Some(border) = border {
            self.write_rows(&batch.slice(0, border))?;
            self.finish_part()?;
            self.write_rows(&batch.slice(border, batch.num_rows() - border))?;
        } else {
            self.write_rows(batch)?;
        }
        self.last_series = ids.last().copied().unwrap_or(self.last_series);
        Ok(())
    }

    fn write_rows(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.row_count += rows.num_rows() as u64;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let Plan { level, sequence, repeats, .. } = *self.plan;
                let name = FileName { level, sequence, repeats };
                let mut writer =
                    FileWriter::create(self.storage, self.plan.day, name, self.schema, Effort::Compaction)?;
                writer.row_group_size_bytes = self.row_group_size_bytes;
                none.insert(writer)
            }
        };
        writer.write(rows)
    }

    fn finish_part(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let new = writer.finish()?;
            let file = LiveFile { repeated_times: self.plan.repeated_times, ..new.file };
            self.files.push(NewFile { file, ..new });
        }
        Ok(())
    }

    fn finish(mut self, duplicate_count: u64) -> Result<Rewritten> {
        self.finish_part()?;
        Ok(Rewritten { files: self.files, row_count: self.row_count, duplicate_count })
    }
}

#[cfg(test)]
mod tests;
