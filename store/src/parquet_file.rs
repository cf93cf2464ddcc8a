//! Writing one immutable, synced Parquet file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, Encoding, ZstdLevel},
    file::{metadata::SortingColumn, properties::WriterProperties},
    schema::types::ColumnPath,
};
use uuid::Uuid;

use crate::{
    checksum::{Checksum, ChecksumWriter},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::{KeyRange, LiveFile, date_text},
    partial_file::PartialFile,
    rows::file_schema,
};

/// Rows per row group: larger groups were both smaller and faster to scan than smaller ones (`docs/format/tables.md`).
const ROW_GROUP_ROWS: usize = 1 << 20;
const PAGE_ROWS: usize = 20_000;

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

/// Writes `batches` (schema with `date`, all rows on `day`, in table order) as one file below `table_dir` and syncs the
/// file and its directory.
///
/// # Errors
/// Any failure to encode, write or sync; the file is then removed.
pub(crate) fn write_parquet(table_dir: &Path, day: i32, batches: &[RecordBatch]) -> Result<Option<LiveFile>> {
    let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let schema = file_schema(&first.schema());
    let partition = format!("date={}", date_text(day));
    let dir = table_dir.join(&partition);
    if !dir.exists() {
        fs::create_dir_all(&dir).map_err(Error::io("create directory", &dir))?;
        sync_dir(table_dir)?;
    }
    let name = format!("part-{}.parquet", Uuid::new_v4());
    let path = dir.join(&name);
    failpoint::hit(Failpoint::ParquetBeforeCreate, &path)?;
    let file = File::create_new(&path).map_err(Error::io("create", &path))?;
    let partial = PartialFile::new(&path);
    let mut writer =
        ArrowWriter::try_new(ChecksumWriter::new(file), Arc::clone(&schema), Some(writer_properties(&schema)?))?;
    let mut keys = KeyRange { date: Some((day, day)), ..KeyRange::default() };
    let mut row_count = 0;
    for batch in batches {
        keys.extend(batch);
        row_count += batch.num_rows() as u64;
        let indices: Vec<_> =
            schema.fields().iter().filter_map(|field| batch.schema().index_of(field.name()).ok()).collect();
        writer.write(&batch.project(&indices)?.with_schema(Arc::clone(&schema))?)?;
    }
    if failpoint::is_on() {
        // Rows are on disk only once their row group is closed.
        writer.flush()?;
        failpoint::hit(Failpoint::ParquetMidWrite, &path)?;
    }
    let (file, crc32c) = writer.into_inner()?.into_parts();
    failpoint::hit(Failpoint::ParquetBeforeSync, &path)?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    failpoint::hit(Failpoint::ParquetAfterSync, &path)?;
    sync_dir(&dir)?;
    let size_bytes = file.metadata().map_err(Error::io("stat", &path))?.len();
    partial.finish();
    let checksum = Checksum::written(crc32c);
    Ok(Some(LiveFile { path: format!("{partition}/{name}"), size_bytes, row_count, date: day, keys, checksum }))
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
