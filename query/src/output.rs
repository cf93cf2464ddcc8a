//! Answers in each format, whole (JSON) or batch by batch.

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, ipc::writer::StreamWriter};
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::{Stream, StreamExt};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    answer::Answer,
    config::Config,
    error::{Error, Result},
    json::{type_name, value},
    run,
};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object: columns, rows, count, time.
    Json,
    /// One object per row and line.
    Ndjson,
    /// RFC 4180 with a header line.
    Csv,
    /// Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The format called `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] listing the formats.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            "arrow" => Ok(Self::Arrow),
            _ => Err(Error::invalid(format!("unknown format {name:?}; use json, ndjson, csv or arrow"))),
        }
    }

    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Collects at most `rows_max` rows into the JSON answer.
pub(crate) async fn json_answer(mut answer: Answer, rows_max: usize) -> Result<Value> {
    let (schema, started) = (answer.schema(), answer.started());
    let value = json_object(&mut answer, &schema, rows_max, started).await?;
    answer.enough();
    Ok(value)
}

async fn json_object(
    batches: &mut (impl Stream<Item = Result<RecordBatch>> + Unpin),
    schema: &SchemaRef,
    rows_max: usize,
    started: Instant,
) -> Result<Value> {
    let mut rows = Vec::new();
    let mut truncated = false;
    while let Some(batch) = batches.next().await.transpose()? {
        let room = rows_max - rows.len();
        truncated = batch.num_rows() > room;
        for row in 0..batch.num_rows().min(room) {
            let row = batch.columns().iter().map(|column| value(column, row)).collect::<Result<_, ArrowError>>();
            rows.push(Value::Array(row.map_err(|error| Error::of("", error.into()))?));
        }
        if truncated {
            break;
        }
    }
    let columns =
        schema.fields().iter().map(|field| json!({ "name": field.name(), "type": type_name(field.data_type()) }));
    Ok(json!({
        "columns": columns.collect::<Vec<_>>(),
        "row_count": rows.len(),
        "rows": rows,
        "elapsed_ms": (started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
        "truncated": truncated,
    }))
}

/// Writes batches of one answer, in order.
pub(crate) struct BatchWriter {
    format: Format,
    schema: SchemaRef,
    arrow: Option<StreamWriter<Vec<u8>>>,
    begun: bool,
}

impl BatchWriter {
    pub(crate) fn new(format: Format, schema: SchemaRef) -> Result<Self, ArrowError> {
        let arrow = match format {
            Format::Arrow => Some(StreamWriter::try_new(Vec::new(), &schema)?),
            _ => None,
        };
        Ok(Self { format, schema, arrow, begun: false })
    }

    /// The bytes of `batch`, with the header before the first.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut text = self.header();
        match (self.format, &mut self.arrow) {
            (_, Some(writer)) => {
                writer.write(batch)?;
                return Ok(std::mem::take(writer.get_mut()).into());
            }
            (Format::Csv, _) => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| Ok(csv_cell(&value(column, row)?)));
                    text += &cells.collect::<Result<Vec<_>, ArrowError>>()?.join(",");
                    text += "\r\n";
                }
            }
            _ => {
                for row in 0..batch.num_rows() {
                    let mut object = Map::new();
                    for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
                        object.insert(field.name().clone(), value(column, row)?);
                    }
                    text += &Value::Object(object).to_string();
                    text.push('\n');
                }
            }
        }
        Ok(text.into())
    }

    /// What follows the last batch.
    pub(crate) fn finish(&mut self) -> Result<Bytes, ArrowError> {
        let header = self.header();
        match &mut self.arrow {
            Some(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            None => Ok(header.into()),
        }
    }

    fn header(&mut self) -> String {
        let first = !std::mem::replace(&mut self.begun, true);
        if first && self.format == Format::Csv {
            let names = self.schema.fields().iter().map(|field| csv_cell(&json!(field.name())));
            return names.collect::<Vec<_>>().join(",") + "\r\n";
        }
        String::new()
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

/// Runs `sql` and gives the whole answer as text: `json`, `ndjson` or `csv`. For the command line.
///
/// # Errors
/// Any error of the query; [`Error::Timeout`] past the time limit.
pub async fn answer(ctx: &SessionContext, config: &Config, sql: &str, format: &str) -> Result<String> {
    let format = Format::parse(format)?;
    let work = async {
        let started = Instant::now();
        let mut stream = run::start(ctx, sql, &[]).await?;
        if format == Format::Json {
            let schema = stream.schema();
            let mut batches = stream.map(|batch| batch.map_err(|error| Error::of(sql, error)));
            return Ok(json_object(&mut batches, &schema, config.rows_max, started).await?.to_string());
        }
        let of = |error: ArrowError| Error::of(sql, error.into());
        let mut writer = BatchWriter::new(format, stream.schema()).map_err(of)?;
        let mut bytes = Vec::new();
        while let Some(batch) = stream.next().await {
            bytes.extend_from_slice(&writer.write(&batch.map_err(|error| Error::of(sql, error))?).map_err(of)?);
        }
        bytes.extend_from_slice(&writer.finish().map_err(of)?);
        String::from_utf8(bytes).map_err(|_| Error::invalid("this format is binary; use json, ndjson or csv"))
    };
    let timeout = config.timeout;
    tokio::time::timeout(timeout, work).await.map_err(|_elapsed| Error::Timeout { timeout })?
}
