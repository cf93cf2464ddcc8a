//! Whole answers: the JSON of a request, and the text of the command line.

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use datafusion::prelude::SessionContext;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    answer::Answer,
    batch_writer::BatchWriter,
    config::Config,
    error::{Error, Result},
    format::Format,
    json::{columns, elapsed_ms, value},
    run,
};

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
    Ok(json!({
        "columns": columns(schema),
        "row_count": rows.len(),
        "rows": rows,
        "elapsed_ms": elapsed_ms(started),
        "truncated": truncated,
    }))
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
        let mut writer = BatchWriter::new(format, stream.schema(), started).map_err(of)?;
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
