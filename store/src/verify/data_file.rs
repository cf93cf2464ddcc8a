//! One live Parquet file: its bytes, its columns, and every row in it.

use std::{
    fmt::Display,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    row::{OwnedRow, RowConverter, SortField},
};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::statistics::Extents;
use crate::{
    checksum::sum,
    delta_log::delta_field,
    error::Result,
    fault::{Fault, FaultKind},
    live_file::{KeyRange, LiveFile, date_text},
    memtable::day_of,
    table_storage::TableStorage,
};

const BATCH_ROWS: usize = 8192;

/// Columns that must lie on the day of the partition.
const TIMES_OF_DAY: [&str; 3] = ["time", "first_time", "last_time"];

/// A live file and what its table says of it.
pub(super) struct DataFile<'a> {
    pub(super) storage: &'a TableStorage,
    pub(super) file: &'a LiveFile,
    /// Fields of the table as in `schemaString`.
    pub(super) fields: &'a [Value],
}

/// Takes each batch with the number of its first row in the file.
pub(super) type Rows<'a> = dyn FnMut(u64, &RecordBatch) + 'a;

impl DataFile<'_> {
    fn fault(&self, kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault::new(kind, self.storage.dir().join(&self.file.path), message)
    }

    /// Checks the file and passes every batch to `rows`.
    pub(super) fn check(&self, faults: &mut Vec<Fault>, rows: &mut Rows<'_>) {
        let bytes = match self.check_bytes() {
            Ok(bytes) => bytes,
            // Decoding bytes that are known to be wrong would only invent further faults.
            Err(fault) => return faults.push(fault),
        };
        // Files without a checksum may hold any bytes, and a decoder that panics on them must not end the whole check.
        match catch_unwind(AssertUnwindSafe(|| self.check_content(&bytes, faults, rows))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => faults.push(self.fault(FaultKind::FileUnreadable, error.to_string())),
            Err(_panic) => faults.push(self.fault(FaultKind::FileUnreadable, "decoding it fails outright")),
        }
    }

    /// The file, if its bytes are those that were written.
    fn check_bytes(&self) -> Result<File, Fault> {
        let unreadable = |error: &dyn Display| self.fault(FaultKind::FileUnreadable, error.to_string());
        let opened = self.storage.open_unchecked(self.file).map_err(|error| unreadable(&error))?;
        let mut file = opened.ok_or_else(|| self.fault(FaultKind::FileMissing, "it does not exist"))?;
        let (size_bytes, crc32c) = sum(&mut file).map_err(|error| unreadable(&error))?;
        if size_bytes != self.file.size_bytes {
            let message = format!("it has {size_bytes} bytes, the table says {}", self.file.size_bytes);
            return Err(self.fault(FaultKind::FileSize, message));
        }
        match self.file.checksum.crc32c {
            Some(recorded) if recorded != crc32c => {
                let message = format!("its checksum is {crc32c:08x}, it was written with {recorded:08x}");
                Err(self.fault(FaultKind::FileChecksum, message))
            }
            _ => Ok(file),
        }
    }

    fn check_content(&self, file: &File, faults: &mut Vec<Fault>, rows: &mut Rows<'_>) -> Result<()> {
        let path = self.storage.dir().join(&self.file.path);
        let metadata = ArrowReaderMetadata::load(file, parquet::arrow::arrow_reader::ArrowReaderOptions::new())?;
        let schema = metadata.schema();
        self.check_schema(schema, faults)?;
        let footer_rows = metadata.metadata().file_metadata().num_rows().cast_unsigned();
        let mut order = Order::new(&metadata)?;
        let mut keys = KeyRange { date: self.file.keys.date, ..KeyRange::default() };
        let (mut row_count, mut day) = (0, DayCheck::new(self.file.date));
        for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
            let mut extents = Extents::new(schema);
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                file.try_clone().map_err(crate::Error::io("open", &path))?,
                metadata.clone(),
            );
            let group_start = row_count;
            for batch in builder.with_row_groups(vec![index]).with_batch_size(BATCH_ROWS).build()? {
                let batch = batch?;
                keys.extend(&batch);
                extents.extend(&batch)?;
                day.extend(row_count, &batch);
                order.extend(row_count, &batch)?;
                rows(row_count, &batch);
                row_count += batch.num_rows() as u64;
            }
            for column in extents.outside(group, metadata.parquet_schema())? {
                let message = format!("row group {index} holds values of {column} outside its statistics");
                faults.push(self.fault(FaultKind::FileStatistics, message).at_row(group_start));
            }
        }
        if row_count != footer_rows || row_count != self.file.row_count {
            let said = self.file.row_count;
            let message = format!("it holds {row_count} rows, its footer says {footer_rows}, the table says {said}");
            faults.push(self.fault(FaultKind::FileRowCount, message));
        }
        for column in outside(&keys, &self.file.keys) {
            let message = format!("it holds values of {column} outside the statistics in the Delta log");
            faults.push(self.fault(FaultKind::FileStatistics, message));
        }
        if let Some(row) = order.first_broken {
            let message = format!("rows are not in the declared order ({})", order.columns.join(", "));
            faults.push(self.fault(FaultKind::FileOrder, message).at_row(row));
        }
        if let Some(row) = day.first_outside {
            let message = format!("{} rows are not on {}", day.count, date_text(self.file.date));
            faults.push(self.fault(FaultKind::FileDay, message).at_row(row));
        }
        Ok(())
    }

    /// Every column of the file is one of the table; a column may be absent only where the table allows nulls.
    fn check_schema(&self, schema: &SchemaRef, faults: &mut Vec<Fault>) -> Result<()> {
        let same = |a: &Value, b: &Value| a["name"] == b["name"] && a["type"] == b["type"];
        let mut unknown = Vec::new();
        for field in schema.fields() {
            let own = delta_field(field)?;
            if !self.fields.iter().any(|field| same(field, &own)) {
                unknown.push(format!("{} {}", field.name(), field.data_type()));
            }
        }
        let absent = self.fields.iter().filter(|field| {
            let name = field["name"].as_str().unwrap_or_default();
            name != "date" && field["nullable"] == false && schema.field_with_name(name).is_err()
        });
        let absent: Vec<_> = absent.filter_map(|field| field["name"].as_str()).collect();
        if !unknown.is_empty() {
            let message = format!("columns that the table does not have so: {}", unknown.join(", "));
            faults.push(self.fault(FaultKind::FileSchema, message));
        }
        if !absent.is_empty() {
            let message = format!("columns of the table are missing: {}", absent.join(", "));
            faults.push(self.fault(FaultKind::FileSchema, message));
        }
        Ok(())
    }
}

/// Key columns whose rows `found` are not within what is `said` of them.
fn outside(found: &KeyRange, said: &KeyRange) -> Vec<&'static str> {
    fn exceeds<T: PartialOrd>(found: Option<&(T, T)>, said: Option<&(T, T)>) -> bool {
        found.zip(said).is_some_and(|(found, said)| found.0 < said.0 || found.1 > said.1)
    }
    let columns = [
        ("metric", exceeds(found.metric.as_ref(), said.metric.as_ref())),
        ("series_id", exceeds(found.series_id.as_ref(), said.series_id.as_ref())),
        ("time", exceeds(found.time.as_ref(), said.time.as_ref())),
    ];
    columns.into_iter().filter(|(_, exceeds)| *exceeds).map(|(name, _)| name).collect()
}

/// Whether rows follow each other as the file declares.
struct Order {
    columns: Vec<String>,
    indices: Vec<usize>,
    converter: RowConverter,
    last: Option<OwnedRow>,
    first_broken: Option<u64>,
}

impl Order {
    fn new(metadata: &ArrowReaderMetadata) -> Result<Self> {
        let schema = metadata.schema();
        // Sorting columns count leaves; ours come before any nested column, where leaves and columns are the same.
        let declared = metadata.metadata().row_groups().first().and_then(|group| group.sorting_columns());
        let indices: Vec<_> = declared.into_iter().flatten().map(|column| column.column_idx as usize).collect();
        let indices: Vec<_> = indices.into_iter().filter(|index| *index < schema.fields().len()).collect();
        let columns = indices.iter().map(|index| schema.field(*index).name().clone()).collect();
        let fields = indices.iter().map(|index| SortField::new(schema.field(*index).data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        Ok(Self { columns, indices, converter, last: None, first_broken: None })
    }

    fn extend(&mut self, first_row: u64, batch: &RecordBatch) -> Result<()> {
        if self.indices.is_empty() || self.first_broken.is_some() {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = self.indices.iter().map(|index| ArrayRef::clone(batch.column(*index))).collect();
        let rows = self.converter.convert_columns(&columns)?;
        for (index, row) in rows.iter().enumerate() {
            let before = if index == 0 { self.last.as_ref().map(OwnedRow::row) } else { Some(rows.row(index - 1)) };
            if before.is_some_and(|before| before > row) {
                self.first_broken = Some(first_row + index as u64);
                return Ok(());
            }
        }
        if let Some(last) = rows.num_rows().checked_sub(1) {
            self.last = Some(rows.row(last).owned());
        }
        Ok(())
    }
}

/// Whether the times of rows lie on the day of the partition.
struct DayCheck {
    day: i32,
    count: u64,
    first_outside: Option<u64>,
}

impl DayCheck {
    fn new(day: i32) -> Self {
        Self { day, count: 0, first_outside: None }
    }

    fn extend(&mut self, first_row: u64, batch: &RecordBatch) {
        let columns = TIMES_OF_DAY.iter().filter_map(|name| batch.column_by_name(name));
        let times: Vec<_> =
            columns.filter_map(|column| column.as_primitive_opt::<TimestampMicrosecondType>()).collect();
        for row in 0..batch.num_rows() {
            if times.iter().any(|times| times.is_valid(row) && day_of(times.value(row)) != self.day) {
                self.count += 1;
                self.first_outside.get_or_insert(first_row + row as u64);
            }
        }
    }
}
