//! Writing one immutable, synced Parquet file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::arrow::{
    array::{Array, RecordBatch},
    datatypes::{Schema, SchemaRef},
};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::ParquetRecordBatchReaderBuilder,
        arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{WriterProperties, WriterPropertiesBuilder},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnDescPtr,
};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    live_file::{KeyRange, LiveFile, date_text},
    parquet_file::encoding::ColumnEncoding,
    rows::file_schema,
};

mod encoding;
mod measure;

/// Rows per row group: larger groups were both smaller and faster to scan than smaller ones (`docs/format/tables.md`).
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Arrow bytes at which a row group is closed before it has all its rows: the writer holds one group in memory.
const ROW_GROUP_SIZE_BYTES: usize = 128 << 20;
const PAGE_ROWS: usize = 20_000;

/// How much work goes into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// One encoding per type of column: a flush competes with ingest, and its file is soon merged.
    Flush,
    /// The smallest encoding of each column of each row group, measured on a sample of its rows.
    Compaction,
}

impl Effort {
    fn zstd_level(self) -> i32 {
        match self {
            Self::Flush | Self::Compaction => 1,
        }
    }
}

/// A file being written, one row group in memory. Dropped before [`ParquetFile::finish`] it deletes what there is.
pub(crate) struct ParquetFile {
    table_dir: PathBuf,
    /// Below `table_dir`.
    relative: String,
    schema: SchemaRef,
    effort: Effort,
    zstd_level: i32,
    leaves: Vec<ColumnDescPtr>,
    /// Taken by `finish`.
    writer: Option<SerializedFileWriter<File>>,
    buffered: Vec<RecordBatch>,
    buffered_rows: usize,
    buffered_size_bytes: usize,
    row_count: u64,
    keys: KeyRange,
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(Error::io("sync directory", dir))
}

impl ParquetFile {
    /// Creates `name` for rows on `day` below `table_dir`; `schema` with or without `date`.
    ///
    /// # Errors
    /// The directory or the file cannot be created, or the file exists.
    pub(crate) fn open(table_dir: &Path, day: i32, name: &str, schema: &SchemaRef, effort: Effort) -> Result<Self> {
        let partition = format!("date={}", date_text(day));
        let dir = table_dir.join(&partition);
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(Error::io("create directory", &dir))?;
            sync_dir(table_dir)?;
        }
        let (schema, zstd_level) = (file_schema(schema), effort.zstd_level());
        let path = dir.join(name);
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties(&schema, zstd_level)?.build()));
        let (writer, _) = writer.and_then(ArrowWriter::into_serialized_writer)?;
        Ok(Self {
            table_dir: table_dir.to_owned(),
            relative: format!("{partition}/{name}"),
            schema,
            effort,
            zstd_level,
            leaves: writer.schema_descr().columns().to_vec(),
            writer: Some(writer),
            buffered: Vec::new(),
            buffered_rows: 0,
            buffered_size_bytes: 0,
            row_count: 0,
            keys: KeyRange { date: Some((day, day)), ..KeyRange::default() },
        })
    }

    fn path(&self) -> PathBuf {
        self.table_dir.join(&self.relative)
    }

    /// Appends rows that continue the table order; columns beyond the file's own, such as `date`, are left out.
    ///
    /// # Errors
    /// A column is missing, or a full row group cannot be encoded or written; then the file can only be dropped.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.keys.extend(batch);
        self.row_count += batch.num_rows() as u64;
        let schema = batch.schema();
        let indices = self.schema.fields().iter().map(|field| schema.index_of(field.name()));
        let batch = batch.project(&indices.collect::<Result<Vec<_>, _>>()?)?.with_schema(Arc::clone(&self.schema))?;
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (batch.num_rows() - from).min(ROW_GROUP_ROWS - self.buffered_rows);
            self.buffer(batch.slice(from, rows))?;
            if self.buffered_rows == ROW_GROUP_ROWS || self.buffered_size_bytes >= ROW_GROUP_SIZE_BYTES {
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
    #[allow(dead_code, reason = "a merge that splits its output asks for it")]
    pub(crate) fn size_bytes_estimate(&self) -> u64 {
        let written = self.writer.as_ref().map_or(0, SerializedFileWriter::bytes_written) as u64;
        let buffered = self.buffered_rows as u64;
        match self.row_count - buffered {
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
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let factory = row_group_factory(&self.schema, &self.leaves, &encodings, self.zstd_level)?;
        let mut columns = factory.create_column_writers(0)?.into_iter();
        let mut row_group = writer.next_row_group()?;
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

    /// Writes what is left and the footer, and syncs the file and its directory.
    ///
    /// # Errors
    /// Any failure to encode, write or sync; the file is then deleted.
    pub(crate) fn finish(mut self) -> Result<LiveFile> {
        if self.buffered_rows > 0 {
            self.write_row_group()?;
        }
        let path = self.path();
        let Some(writer) = &mut self.writer else { return Err(Error::Task("a file is finished twice".into())) };
        writer.finish()?;
        let file = writer.inner();
        file.sync_all().map_err(Error::io("sync", &path))?;
        let size_bytes = file.metadata().map_err(Error::io("stat", &path))?.len();
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        // From here on the file stays.
        self.writer = None;
        let date = self.keys.date.map_or(0, |(day, _)| day);
        let (path, keys) = (std::mem::take(&mut self.relative), std::mem::take(&mut self.keys));
        Ok(LiveFile { path, size_bytes, row_count: self.row_count, date, keys })
    }
}

impl Drop for ParquetFile {
    fn drop(&mut self) {
        if self.writer.take().is_some()
            && let Err(error) = fs::remove_file(self.path())
        {
            tracing::warn!(%error, path = %self.path().display(), "unfinished file not deleted");
        }
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

/// Writes `batches` (schema with `date`, all rows on `day`, in table order) as one file below `table_dir` and syncs the
/// file and its directory.
///
/// # Errors
/// Any failure to encode, write or sync; the file is then deleted.
pub(crate) fn write_parquet(table_dir: &Path, day: i32, batches: &[RecordBatch]) -> Result<Option<LiveFile>> {
    let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let name = format!("part-{}.parquet", Uuid::new_v4());
    let mut file = ParquetFile::open(table_dir, day, &name, &first.schema(), Effort::Flush)?;
    for batch in batches {
        file.write(batch)?;
    }
    file.finish().map(Some)
}

/// Writes `batches`, rows of one day as files hold them, with the encodings of a compaction and `zstd_level`; returns the
/// path. For the density bench, which compares what the rows take under other encodings.
///
/// # Errors
/// Any failure to encode, write or sync.
#[doc(hidden)]
pub fn write_compacted(dir: &Path, batches: &[RecordBatch], zstd_level: i32) -> Result<PathBuf> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let name = format!("part-{}.parquet", Uuid::new_v4());
    let mut file = ParquetFile::open(dir, 0, &name, &schema, Effort::Compaction)?;
    file.zstd_level = zstd_level;
    for batch in batches {
        file.write(batch)?;
    }
    Ok(dir.join(file.finish()?.path))
}

/// Reads a whole file, without the partition column.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parquet`] if it cannot be opened or decoded.
pub(crate) fn read_parquet(path: &PathBuf) -> Result<Vec<RecordBatch>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    Ok(reader.collect::<Result<Vec<_>, _>>()?)
}

#[cfg(test)]
mod tests;
