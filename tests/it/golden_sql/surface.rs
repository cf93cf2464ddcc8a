//! Where a statement is asked. A new surface is a variant, how it connects, and how it answers with Arrow batches.

use std::{fmt, io::Cursor};

use async_trait::async_trait;
use datafusion::arrow::{array::RecordBatch, datatypes::DataType, ipc::reader::StreamReader};
use serde_json::{Value, json};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};

use super::cell::cell;
use crate::server::Server;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Surface {
    /// `POST /api/v1/sql` with Arrow answers, which keep every type.
    Http,
}

impl Surface {
    pub(crate) const ALL: [Self; 1] = [Self::Http];
}

/// What a surface said was wrong.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

pub(crate) struct Connection {
    surface: Surface,
    client: reqwest::Client,
    http: String,
}

impl Connection {
    pub(crate) async fn open(surface: Surface, server: &Server) -> Result<Self, Refusal> {
        Ok(Self { surface, client: reqwest::Client::new(), http: format!("http://{}/api/v1/sql", server.http) })
    }

    async fn over_http(&self, sql: &str) -> Result<(Vec<DataType>, Vec<RecordBatch>), Refusal> {
        let body = json!({ "query": sql, "format": "arrow" }).to_string();
        let response = self.client.post(&self.http).body(body).send().await.unwrap();
        let is_answer = response.status().is_success();
        // A failure while rows are on their way breaks the connection off.
        let bytes = response.bytes().await.map_err(|error| Refusal(format!("broken off: {error}")))?;
        if !is_answer {
            let refusal: Value = serde_json::from_slice(&bytes).unwrap();
            let (kind, message) = (&refusal["error"]["kind"], &refusal["error"]["message"]);
            return Err(Refusal(format!("{}: {}", kind.as_str().unwrap(), message.as_str().unwrap())));
        }
        let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
        let types = reader.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        Ok((types, reader.map(Result::unwrap).collect()))
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = Refusal;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refusal> {
        let (types, batches) = match self.surface {
            Surface::Http => self.over_http(sql).await?,
        };
        let types = types.iter().map(column_type).collect();
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
        let rows = rows.map(|(batch, row)| batch.columns().iter().map(|column| cell(column, row)).collect());
        Ok(DBOutput::Rows { types, rows: rows.collect() })
    }

    async fn shutdown(&mut self) {}
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DefaultColumnType::FloatingPoint,
        data_type if data_type.is_integer() => DefaultColumnType::Integer,
        _ => DefaultColumnType::Text,
    }
}
