//! Writing one immutable, synced Parquet file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, Encoding, ZstdLevel},
    file::{metadata::SortingColumn, properties::WriterProperties},
    schema::types::ColumnPath,
};

use crate::{
    checksum::{Checksum, ChecksumWriter},
    error::{Error, Result},
    file_name::FileName,
    live_file::{LiveFile, date_text},
    rows::file_schema,
};

/// Rows per row group: larger groups were both smaller and faster to scan than smaller ones (`docs/format/tables.md`).
const ROW_GROUP_ROWS: usize = 1 << 20;
const PAGE_ROWS: usize = 20_000;
/// Memory of one row group under way, after which it is closed early: wide rows, such as histograms, reach it first.
const ROW_GROUP_MEMORY_BYTES: usize = 96 << 20;

/// Columns whose neighbours differ by little in table order.
const DELTA_PACKED: [&str; 5] = ["series_id", "time", "start_time", "first_time", "last_time"];

fn writer_properties(schema: &SchemaRef) -> Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS / 4)
        .set_created_by(concat!("driftwatt ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in DELTA_PACKED.iter().filter(|name| schema.field_with_name(name).is_ok()) {
        let path = ColumnPath::from(*name);
        builder = builder.set_column_dictionary_enabled(path.clone(), false);
        builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    let order: Vec<_> = ["metric", "series_id", "time"]
        .iter()
        .map_while(|name| schema.index_of(name).ok())
        .map(|index| SortingColumn { column_idx: index as i32, descending: false, nulls_first: false })
        .collect();
    if schema.field_with_name("series_id").is_ok() {
        builder = builder.set_sorting_columns(Some(order));
    }
    Ok(builder.build())
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(Error::io("sync directory", dir))
}

/// A file that no version of its table refers to yet; dropping it deletes the file.
#[derive(Debug)]
pub(crate) struct Uncommitted(PathBuf);

impl Uncommitted {
    /// The file stays: a commit refers to it, or may do so.
    pub(crate) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty()
            && let Err(error) = fs::remove_file(&self.0)
        {
            tracing::warn!(%error, path = %self.0.display(), "unfinished file not deleted; the next start tries again");
        }
    }
}

/// A complete and synced file that waits for its commit.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: LiveFile,
    pub(crate) uncommitted: Uncommitted,
}

/// One file under way: batches in, a [`NewFile`] out. Dropped before that, it leaves nothing behind.
pub(crate) struct FileWriter {
    writer: ArrowWriter<ChecksumWriter<File>>,
    uncommitted: Uncommitted,
    schema: SchemaRef,
    dir: PathBuf,
    file: LiveFile,
}

impl FileWriter {
    /// Starts a file of `schema` (without `date`) for rows on `day` below `table_dir`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file or its directory cannot be created.
    pub(crate) fn create(table_dir: &Path, day: i32, name: FileName, schema: &SchemaRef) -> Result<Self> {
        let partition = format!("date={}", date_text(day));
        let dir = table_dir.join(&partition);
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(Error::io("create directory", &dir))?;
            sync_dir(table_dir)?;
        }
        let text = name.to_text();
        let path = dir.join(&text);
        let handle = File::create_new(&path).map_err(Error::io("create", &path))?;
        let uncommitted = Uncommitted(path);
        let handle = ChecksumWriter::new(handle);
        let writer = ArrowWriter::try_new(handle, Arc::clone(schema), Some(writer_properties(schema)?))?;
        let file = LiveFile::new(format!("{partition}/{text}"), day, name);
        Ok(Self { writer, uncommitted, schema: Arc::clone(schema), dir, file })
    }

    /// Adds `batch`, in table order; columns that the file's schema lacks are left out.
    ///
    /// # Errors
    /// Any failure to encode or write.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.file.keys.extend(batch);
        self.file.row_count += batch.num_rows() as u64;
        let names = self.schema.fields().iter();
        let indices: Vec<_> = names.filter_map(|field| batch.schema().index_of(field.name()).ok()).collect();
        self.writer.write(&batch.project(&indices)?.with_schema(Arc::clone(&self.schema))?)?;
        if self.writer.memory_size() > ROW_GROUP_MEMORY_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Bytes so far, of the unfinished row group an estimate.
    pub(crate) fn size_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Writes the footer and syncs the file and its directory.
    ///
    /// # Errors
    /// Any failure to write or sync; the file is then deleted.
    pub(crate) fn finish(mut self) -> Result<NewFile> {
        let path = &self.uncommitted.0;
        let (handle, crc32c) = self.writer.into_inner()?.into_parts();
        handle.sync_all().map_err(Error::io("sync", path))?;
        sync_dir(&self.dir)?;
        self.file.size_bytes = handle.metadata().map_err(Error::io("stat", path))?.len();
        self.file.checksum = Checksum::written(crc32c);
        Ok(NewFile { file: self.file, uncommitted: self.uncommitted })
    }
}

/// Writes `batches` (schema with `date`, all rows on `day`, in table order) as one file below `table_dir` and syncs the
/// file and its directory. No rows make no file.
///
/// # Errors
/// Any failure to encode, write or sync; nothing is left behind.
pub(crate) fn write_parquet(
    table_dir: &Path,
    day: i32,
    name: FileName,
    batches: &[RecordBatch],
) -> Result<Option<NewFile>> {
    let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let mut writer = FileWriter::create(table_dir, day, name, &file_schema(&first.schema()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(Some(writer.finish()?))
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

/// Reads some columns of a file, in the order of the file.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parquet`] if it cannot be opened or decoded.
pub(crate) fn read_columns(path: &Path, names: &[&str]) -> Result<ParquetRecordBatchReader> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = ProjectionMask::columns(reader.parquet_schema(), names.iter().copied());
    Ok(reader.with_projection(columns).build()?)
}
