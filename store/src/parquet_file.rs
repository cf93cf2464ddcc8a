//! Writing one immutable, synced Parquet file, and reading it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray, RecordBatch, StringArray},
        compute::cast,
        datatypes::{DataType, Schema, SchemaRef},
        error::ArrowError,
    },
    error::DataFusionError,
};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{
            ArrowPredicateFn, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowFilter,
        },
        arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, ZstdLevel},
    file::{
        metadata::{PageIndexPolicy, SortingColumn},
        properties::{WriterProperties, WriterPropertiesBuilder},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnDescPtr,
};

use crate::{
    checksum::{Checksum, ChecksumWriter},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    file_memory::FileMemory,
    file_name::FileName,
    live_file::{LiveFile, date_text},
    parquet_file::encoding::ColumnEncoding,
    rows::file_schema,
    table_storage::TableStorage,
};

mod encoding;
mod measure;

/// Rows per row group: larger groups were both smaller and faster to scan than smaller ones (`docs/format/tables.md`).
const ROW_GROUP_ROWS: usize = 1 << 20;
const PAGE_ROWS: usize = 20_000;
/// Higher levels gain little (`docs/performance.md`).
const ZSTD_LEVEL: i32 = 1;

/// How much work goes into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// One encoding per type of column: a flush competes with ingest, and its file is soon merged.
    Flush,
    /// The smallest encoding of each column of each row group, measured on a sample of its rows.
    Compaction,
}

/// A file that no version of its table refers to yet; dropping it deletes the file.
#[derive(Debug)]
pub(crate) struct Uncommitted {
    storage: Arc<TableStorage>,
    /// Below the table's directory; `None` once it stays.
    path: Option<String>,
}

impl Uncommitted {
    /// The file stays: a commit refers to it, or may do so.
    pub(crate) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            self.storage.discard(path);
        }
    }
}

/// A complete and synced file that waits for its commit.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: LiveFile,
    pub(crate) uncommitted: Uncommitted,
}

/// One file under way, one row group in memory: batches in, a [`NewFile`] out. Dropped before that, it leaves nothing
/// behind.
pub(crate) struct FileWriter {
    writer: SerializedFileWriter<ChecksumWriter<File>>,
    uncommitted: Uncommitted,
    schema: SchemaRef,
    effort: Effort,
    zstd_level: i32,
    /// Arrow bytes at which a row group is closed before it has all its rows: the writer holds one group in memory.
    pub(crate) row_group_size_bytes: usize,
    leaves: Vec<ColumnDescPtr>,
    buffered: Vec<RecordBatch>,
    buffered_rows: usize,
    buffered_size_bytes: usize,
    path: PathBuf,
    file: LiveFile,
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(Error::io("sync directory", dir))
}

impl FileWriter {
    /// Starts a file of `schema` (with or without `date`) for rows on `day` in `storage`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file or its directory cannot be created.
    pub(crate) fn create(
        storage: &Arc<TableStorage>,
        day: i32,
        name: FileName,
        schema: &SchemaRef,
        effort: Effort,
    ) -> Result<Self> {
        let partition = format!("date={}", date_text(day));
        let dir = storage.dir().join(&partition);
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(Error::io("create directory", &dir))?;
            sync_dir(storage.dir())?;
        }
        let schema = file_schema(schema);
        let text = name.to_text();
        let path = dir.join(&text);
        failpoint::hit(Failpoint::ParquetBeforeCreate, &path)?;
        let handle = ChecksumWriter::new(File::create_new(&path).map_err(Error::io("create", &path))?);
        let file = LiveFile::new(format!("{partition}/{text}"), day, name);
        let uncommitted = Uncommitted { storage: Arc::clone(storage), path: Some(file.path.clone()) };
        let writer = ArrowWriter::try_new(handle, Arc::clone(&schema), Some(properties(&schema, ZSTD_LEVEL)?.build()));
        let (writer, _) = writer.and_then(ArrowWriter::into_serialized_writer)?;
        Ok(Self {
            leaves: writer.schema_descr().columns().to_vec(),
            writer,
            uncommitted,
            schema,
            effort,
            zstd_level: ZSTD_LEVEL,
            row_group_size_bytes: FileMemory::of(FileMemory::BUDGET_BYTES_MAX).row_group_size_bytes,
            buffered: Vec::new(),
            buffered_rows: 0,
            buffered_size_bytes: 0,
            path,
            file,
        })
    }

    /// Appends rows that continue the table order; columns beyond the file's own, such as `date`, are left out.
    ///
    /// # Errors
    /// A column is missing, or a full row group cannot be encoded or written; then the file can only be dropped.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.file.keys.extend(batch);
        self.file.row_count += batch.num_rows() as u64;
        let schema = batch.schema();
        let indices = self.schema.fields().iter().map(|field| schema.index_of(field.name()));
        let batch = batch.project(&indices.collect::<Result<Vec<_>, _>>()?)?.with_schema(Arc::clone(&self.schema))?;
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (batch.num_rows() - from).min(ROW_GROUP_ROWS - self.buffered_rows);
            self.buffer(batch.slice(from, rows))?;
            if self.buffered_rows == ROW_GROUP_ROWS || self.buffered_size_bytes >= self.row_group_size_bytes {
                self.write_row_group()?;
            }
            from += rows;
        }
        Ok(())
    }

    fn buffer(&mut self, batch: RecordBatch) -> Result<()> {
        for column in batch.columns() {
            self.buffered_size_bytes += column.to_data().get_slice_memory_size()?;
        }
        self.buffered_rows += batch.num_rows();
        self.buffered.push(batch);
        Ok(())
    }

    /// Bytes written, and the row group in memory at the rate of those written before, so that a merge can tell when
    /// to begin the next file.
    pub(crate) fn size_bytes(&self) -> u64 {
        let (written, buffered) = (self.writer.bytes_written() as u64, self.buffered_rows as u64);
        match self.file.row_count - buffered {
            0 => self.buffered_size_bytes as u64 / 8,
            rows => written + written * buffered / rows,
        }
    }

    fn write_row_group(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.buffered);
        (self.buffered_rows, self.buffered_size_bytes) = (0, 0);
        let encodings = match self.effort {
            Effort::Flush => self.leaves.iter().map(encoding::fixed).collect(),
            Effort::Compaction => measure::smallest(&self.schema, &self.leaves, &batches)?,
        };
        let factory = row_group_factory(&self.schema, &self.leaves, &encodings, self.zstd_level)?;
        let mut columns = factory.create_column_writers(0)?.into_iter();
        let mut row_group = self.writer.next_row_group()?;
        // Column by column, so that one encoded column at a time is in memory beside the rows.
        let mut leaves = self.leaves.iter();
        for (index, field) in self.schema.fields().iter().enumerate() {
            let count = leaves.clone().take_while(|leaf| leaf.path().parts().first() == Some(field.name())).count();
            leaves.by_ref().take(count).for_each(drop);
            let mut field_columns: Vec<_> = columns.by_ref().take(count).collect();
            for batch in &batches {
                for (column, leaf) in field_columns.iter_mut().zip(compute_leaves(field, batch.column(index))?) {
                    column.write(&leaf)?;
                }
            }
            for column in field_columns {
                column.close()?.append_to_row_group(&mut row_group)?;
            }
        }
        row_group.close()?;
        Ok(())
    }

    /// Writes what is left and the footer, makes the file and its name durable, and brings it to where the table is.
    ///
    /// # Errors
    /// Any failure to encode, write, sync or send; the file is then deleted.
    pub(crate) fn finish(mut self) -> Result<NewFile> {
        if self.buffered_rows > 0 {
            self.write_row_group()?;
        }
        let path = &self.path;
        if failpoint::is_on() {
            self.writer.flush().map_err(Error::io("write", path))?;
            failpoint::hit(Failpoint::ParquetMidWrite, path)?;
        }
        let (handle, crc32c) = self.writer.into_inner()?.into_parts();
        failpoint::hit(Failpoint::ParquetBeforeSync, path)?;
        handle.sync_all().map_err(Error::io("sync", path))?;
        failpoint::hit(Failpoint::ParquetAfterSync, path)?;
        path.parent().map_or(Ok(()), sync_dir)?;
        self.file.size_bytes = handle.metadata().map_err(Error::io("stat", path))?.len();
        self.file.checksum = Checksum::written(crc32c);
        self.uncommitted.storage.publish(&self.file.path)?;
        Ok(NewFile { file: self.file, uncommitted: self.uncommitted })
    }
}

/// Properties that all column chunks share.
fn properties(schema: &SchemaRef, zstd_level: i32) -> Result<WriterPropertiesBuilder> {
    let order: Vec<_> = ["metric", "series_id", "time"]
        .iter()
        .map_while(|name| schema.index_of(name).ok())
        .map(|index| SortingColumn { column_idx: index as i32, descending: false, nulls_first: false })
        .collect();
    // Tables without series are not sorted.
    let order = schema.index_of("series_id").is_ok().then_some(order);
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS / 4)
        .set_sorting_columns(order)
        .set_created_by(concat!("driftwatt ", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// Makes column writers that use `encodings`, one for each of `leaves`.
fn row_group_factory(
    schema: &SchemaRef,
    leaves: &[ColumnDescPtr],
    encodings: &[ColumnEncoding],
    zstd_level: i32,
) -> Result<ArrowRowGroupWriterFactory> {
    let mut builder = properties(schema, zstd_level)?;
    for (leaf, encoding) in leaves.iter().zip(encodings) {
        builder = encoding.set(builder, leaf);
    }
    // Properties belong to a file writer, encodings to a row group: this writer only carries them.
    let carrier = ArrowWriter::try_new(io::sink(), Arc::clone(schema), Some(builder.build()))?;
    Ok(carrier.into_serialized_writer()?.1)
}

/// Writes `batches` (schema with `date`, all rows on `day`, in table order) as one file in `storage`, durably, holding a batch and a row group of at most about `row_group_size_bytes`. No rows make no file.
///
/// # Errors
/// That of a batch, and any failure to encode, write or sync; nothing is left behind.
pub(crate) fn write_parquet(
    storage: &Arc<TableStorage>,
    day: i32,
    name: FileName,
    row_group_size_bytes: usize,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
) -> Result<Option<NewFile>> {
    let mut writer: Option<FileWriter> = None;
    for batch in batches {
        let batch = batch?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None if batch.num_rows() == 0 => continue,
            none => none.insert(FileWriter::create(storage, day, name, &batch.schema(), Effort::Flush)?),
        };
        writer.row_group_size_bytes = row_group_size_bytes;
        writer.write(&batch)?;
    }
    writer.map(FileWriter::finish).transpose()
}

/// Writes `batches`, rows of one day as files hold them, with the encodings of a compaction and `zstd_level`; returns the
/// path. For the density bench, which compares what the rows take under other encodings.
///
/// # Errors
/// Any failure to encode, write or sync.
#[doc(hidden)]
pub fn write_compacted(dir: &Path, batches: &[RecordBatch], zstd_level: i32) -> Result<PathBuf> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let storage = TableStorage::local(dir.to_owned());
    let mut writer = FileWriter::create(&storage, 0, FileName::RESULT, &schema, Effort::Compaction)?;
    writer.zstd_level = zstd_level;
    for batch in batches {
        writer.write(batch)?;
    }
    let new = writer.finish()?;
    new.uncommitted.keep();
    Ok(dir.join(new.file.path))
}

/// Reads a file batch by batch, without the partition column.
///
/// # Errors
/// [`Error::Parquet`] if it is none.
pub(crate) fn read_batches(file: File, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(batch_rows).build()?)
}

/// Whether rows of a metric are wanted, for each row of an array of metrics.
pub(crate) type MetricMask = Arc<dyn Fn(&StringArray) -> Result<BooleanArray, DataFusionError> + Send + Sync>;

/// The same with the columns that are `named` alone, of the rows whose metric is wanted; only of those the other columns are
/// decoded.
///
/// # Errors
/// [`Error::Parquet`] if it is none, or has no such column.
pub(crate) fn read_series(
    file: File,
    batch_rows: usize,
    named: &[&str],
    wanted: Option<&MetricMask>,
) -> Result<ParquetRecordBatchReader> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?.with_batch_size(batch_rows);
    let columns = named.iter().map(|name| reader.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let columns = ProjectionMask::roots(reader.parquet_schema(), columns);
    let reader = reader.with_projection(columns);
    let Some(wanted) = wanted else { return Ok(reader.build()?) };
    let metric = ProjectionMask::columns(reader.parquet_schema(), ["metric"]);
    let wanted = Arc::clone(wanted);
    let matches = move |batch: RecordBatch| {
        let metrics = cast(batch.column(0), &DataType::Utf8)?;
        wanted(metrics.as_string()).map_err(|error| ArrowError::ExternalError(Box::new(error)))
    };
    let filter = RowFilter::new(vec![Box::new(ArrowPredicateFn::new(metric, matches))]);
    Ok(reader.with_row_filter(filter).build()?)
}

/// Reads a whole file, without the partition column.
#[cfg(test)]
pub(crate) fn read_parquet(path: &Path) -> Result<Vec<RecordBatch>> {
    Ok(read_batches(File::open(path).unwrap(), 1024)?.collect::<Result<Vec<_>, _>>()?)
}

/// Reads some columns of a file, in the order of the file.
///
/// # Errors
/// [`Error::Parquet`] if it is none.
pub(crate) fn read_columns(file: File, names: &[&str]) -> Result<ParquetRecordBatchReader> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = ProjectionMask::columns(reader.parquet_schema(), names.iter().copied());
    Ok(reader.with_projection(columns).build()?)
}

#[cfg(test)]
mod tests;
