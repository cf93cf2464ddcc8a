//! Batches of an answer as bytes, piece by piece.

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, ipc::writer::StreamWriter};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    format::Format,
    json::{columns, elapsed_ms, value},
};

/// Memory of the row group that is being written; then it is closed and sent.
const ROW_GROUP_SIZE_BYTES_MAX: usize = 16 << 20;
/// Rows of a row group.
const ROW_GROUP_ROWS_MAX: usize = 1 << 20;

/// Writes batches of one answer, in order.
pub(crate) struct BatchWriter {
    schema: SchemaRef,
    started: Instant,
    row_count: usize,
    /// The header of a text is written.
    begun: bool,
    kind: Kind,
}

enum Kind {
    Json,
    Ndjson,
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl BatchWriter {
    /// A writer of the answer to a question that began at `started`.
    ///
    /// # Errors
    /// If `format` has no place for a type in `schema`.
    pub(crate) fn new(format: Format, schema: SchemaRef, started: Instant) -> Result<Self, ArrowError> {
        let kind = match format {
            Format::Json => Kind::Json,
            Format::Ndjson => Kind::Ndjson,
            Format::Csv => Kind::Csv,
            Format::Arrow => Kind::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema)?)),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
                    .build();
                Kind::Parquet(Box::new(ArrowWriter::try_new(Vec::new(), SchemaRef::clone(&schema), Some(properties))?))
            }
        };
        Ok(Self { schema, started, row_count: 0, begun: false, kind })
    }

    /// The bytes of `batch`, with the header before the first; nothing while a row group fills.
    ///
    /// # Errors
    /// If `batch` is not of the schema.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut text = self.header();
        let before = self.row_count;
        self.row_count += batch.num_rows();
        match &mut self.kind {
            Kind::Json => {
                for row in 0..batch.num_rows() {
                    text += if before + row == 0 { "\n" } else { ",\n" };
                    let row = batch.columns().iter().map(|column| value(column, row));
                    text += &Value::Array(row.collect::<Result<_, _>>()?).to_string();
                }
            }
            Kind::Ndjson => {
                for row in 0..batch.num_rows() {
                    let mut object = Map::new();
                    for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
                        object.insert(field.name().clone(), value(column, row)?);
                    }
                    text += &Value::Object(object).to_string();
                    text.push('\n');
                }
            }
            Kind::Csv => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| Ok(csv_cell(&value(column, row)?)));
                    text += &cells.collect::<Result<Vec<_>, ArrowError>>()?.join(",");
                    text += "\r\n";
                }
            }
            Kind::Arrow(writer) => {
                writer.write(batch)?;
                return Ok(std::mem::take(writer.get_mut()).into());
            }
            Kind::Parquet(writer) => {
                writer.write(batch)?;
                if writer.memory_size() > ROW_GROUP_SIZE_BYTES_MAX {
                    writer.flush()?;
                }
                return Ok(std::mem::take(writer.inner_mut()).into());
            }
        }
        Ok(text.into())
    }

    /// What follows the last batch.
    ///
    /// # Errors
    /// If what is left cannot be encoded.
    pub(crate) fn finish(mut self) -> Result<Bytes, ArrowError> {
        let mut text = self.header();
        match &mut self.kind {
            Kind::Json => {
                let elapsed_ms = elapsed_ms(self.started);
                text += &format!(
                    "\n],\"row_count\":{},\"elapsed_ms\":{elapsed_ms},\"truncated\":false}}\n",
                    self.row_count
                );
            }
            Kind::Ndjson | Kind::Csv => {}
            Kind::Arrow(writer) => {
                writer.finish()?;
                return Ok(std::mem::take(writer.get_mut()).into());
            }
            Kind::Parquet(writer) => {
                writer.finish()?;
                return Ok(std::mem::take(writer.inner_mut()).into());
            }
        }
        Ok(text.into())
    }

    /// What comes before the first row of a text, once.
    fn header(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) {
            return String::new();
        }
        match self.kind {
            Kind::Csv => {
                let names = self.schema.fields().iter().map(|field| csv_cell(&json!(field.name())));
                names.collect::<Vec<_>>().join(",") + "\r\n"
            }
            Kind::Json => format!("{{\"columns\":{},\"rows\":[", columns(&self.schema)),
            Kind::Ndjson | Kind::Arrow(_) | Kind::Parquet(_) => String::new(),
        }
    }
}

fn csv_cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
