//! Where a statement is asked. A new surface is a variant, how it connects, and how it answers with Arrow batches.

use std::{fmt, io::Cursor};

use arrow_flight::error::FlightError;
use async_trait::async_trait;
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{DataType, Schema},
    ipc::reader::StreamReader,
};
use serde_json::{Value, json};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tonic::Code;

use super::{cell::cell, postgres::over_postgres};
use crate::{flight, postgres::client::connect, server::Server};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Surface {
    /// `POST /api/v1/sql` with Arrow answers, which keep every type.
    Http,
    /// PostgreSQL's extended protocol, values in binary.
    Postgres,
    /// Arrow Flight SQL.
    Flight,
}

impl Surface {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Postgres, Self::Flight];
}

/// What a surface said was wrong.
#[derive(Debug)]
pub(crate) struct Refusal(pub(super) String);

/// Types and rows of an answer, as the suite writes them.
pub(super) type Rows = (Vec<DefaultColumnType>, Vec<Vec<String>>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

pub(crate) enum Connection {
    Http { client: reqwest::Client, url: String },
    Postgres(tokio_postgres::Client),
    Flight(Box<flight::Client>),
}

impl Connection {
    pub(crate) async fn open(surface: Surface, server: &Server) -> Result<Self, Refusal> {
        Ok(match surface {
            Surface::Http => {
                Self::Http { client: reqwest::Client::new(), url: format!("http://{}/api/v1/sql", server.http) }
            }
            Surface::Postgres => Self::Postgres(connect(server).await),
            Surface::Flight => Self::Flight(Box::new(flight::connect(server).await)),
        })
    }
}

async fn over_http(client: &reqwest::Client, url: &str, sql: &str) -> Result<Rows, Refusal> {
    let body = json!({ "query": sql, "format": "arrow" }).to_string();
    let response = client.post(url).body(body).send().await.unwrap();
    let is_answer = response.status().is_success();
    // A failure while rows are on their way breaks the connection off.
    let bytes = response.bytes().await.map_err(|error| Refusal(format!("broken off: {error}")))?;
    if !is_answer {
        let refusal: Value = serde_json::from_slice(&bytes).unwrap();
        let (kind, message) = (&refusal["error"]["kind"], &refusal["error"]["message"]);
        return Err(Refusal(format!("{}: {}", kind.as_str().unwrap(), message.as_str().unwrap())));
    }
    let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    let schema = reader.schema();
    Ok(rows(&schema, &reader.map(Result::unwrap).collect::<Vec<_>>()))
}

async fn over_flight(client: &mut flight::Client, sql: &str) -> Result<Rows, Refusal> {
    let answer = flight::ask(client, sql).await.map_err(|error| match error {
        FlightError::Tonic(status) => {
            let kind = match status.code() {
                Code::InvalidArgument => "invalid",
                Code::PermissionDenied => "denied",
                Code::ResourceExhausted => "limit",
                Code::DeadlineExceeded => "timeout",
                _ => "internal",
            };
            Refusal(format!("{kind}: {}", status.message()))
        }
        error => panic!("{sql}: {error}"),
    });
    answer.map(|batch| rows(&batch.schema(), &[batch]))
}

fn rows(schema: &Schema, batches: &[RecordBatch]) -> Rows {
    let types = schema.fields().iter().map(|field| column_type(field.data_type())).collect();
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let rows = rows.map(|(batch, row)| batch.columns().iter().map(|column| cell(column, row)).collect());
    (types, rows.collect())
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = Refusal;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refusal> {
        let (types, rows) = match self {
            Self::Http { client, url } => over_http(client, url, sql).await?,
            Self::Postgres(client) => over_postgres(client, sql).await?,
            Self::Flight(client) => over_flight(client, sql).await?,
        };
        Ok(DBOutput::Rows { types, rows })
    }

    /// What `skipif` and `onlyif` name, where PostgreSQL has other words.
    fn engine_name(&self) -> &str {
        match self {
            Self::Http { .. } => "http",
            Self::Postgres(_) => "postgres",
            Self::Flight(_) => "flight",
        }
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
