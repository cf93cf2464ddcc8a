//! Rows on their way to the client: encoded batch by batch, as fast as it reads them.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use pgwire::messages::{
    PgWireBackendMessage,
    data::{FieldDescription, RowDescription},
};
use tokio_util::sync::CancellationToken;

use super::{
    columns::{Column, columns, write_row},
    failure::{Ended, Failure},
    message::Formats,
    prepared::OutputColumn,
    types::PgType,
    wire::{Wire, WireError},
};
use crate::{
    answer::Answer,
    error::{Error, Result},
};

/// Rows that are asked for.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) columns: Arc<[OutputColumn]>,
    /// The word before the count in what ends them, and whether there is a count.
    pub(crate) tag: &'static str,
    source: Source,
    /// The batch that is being sent, and its next row.
    batch: Option<(Vec<Column>, std::ops::Range<usize>)>,
    /// Rows that were sent.
    pub(crate) sent: u64,
}

#[derive(Debug)]
enum Source {
    Query(Answer),
    /// What the connection says itself.
    Own(Option<RecordBatch>),
}

impl Rows {
    pub(crate) fn of_query(columns: Arc<[OutputColumn]>, answer: Answer, tag: &'static str) -> Self {
        Self { columns, tag, source: Source::Query(answer), batch: None, sent: 0 }
    }

    /// Rows of text that no query is needed for.
    ///
    /// # Errors
    /// If `rows` have not as many cells as there are `names`.
    pub(crate) fn of_texts(names: &[&str], rows: &[Vec<String>], tag: &'static str) -> Result<Self, Failure> {
        let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
        let cells = |column: usize| StringArray::from_iter_values(rows.iter().filter_map(|row| row.get(column)));
        let arrays = (0..names.len()).map(|column| Arc::new(cells(column)) as _).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        let batch = batch.map_err(|error| Failure::new("XX000", error.to_string()))?;
        let source = Source::Own(Some(batch));
        Ok(Self { columns: text_columns(names), tag, source, batch: None, sent: 0 })
    }

    /// What ends the rows.
    pub(crate) fn tag(&self) -> String {
        match self.tag {
            "SELECT" | "COPY" => format!("{} {}", self.tag, self.sent),
            other => other.to_owned(),
        }
    }

    /// The columns of the next rows and those rows; `None` after the last. Stops when the client says so or leaves.
    async fn next(&mut self, wire: &mut Wire, stop: &CancellationToken) -> Result<Option<RecordBatch>, Ended> {
        match &mut self.source {
            Source::Own(batch) => Ok(batch.take()),
            Source::Query(answer) => tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // The rows may have been asked for by an earlier message, with a stop of its own.
                    answer.stop();
                    Err(Error::Cancelled.into())
                }
                batch = answer.next() => Ok(batch.transpose()?),
                () = wire.left() => Err(WireError::Left.into()),
            },
        }
    }

    /// Lets `write` write at most `rows_max` rows (0: all) and says whether that was the last.
    ///
    /// # Errors
    /// What the query ends with, and a client that is gone.
    pub(crate) async fn send(
        &mut self,
        wire: &mut Wire,
        stop: &CancellationToken,
        rows_max: usize,
        mut write: impl FnMut(&[Column], usize, &mut bytes::BytesMut),
    ) -> Result<bool, Ended> {
        let mut room = if rows_max == 0 { usize::MAX } else { rows_max };
        loop {
            if self.batch.as_ref().is_none_or(|(_, rows)| rows.is_empty()) {
                let Some(batch) = self.next(wire, stop).await? else { return Ok(true) };
                let types = self.columns.iter().map(|column| column.pg_type);
                let ready = columns(&batch, types).map_err(|error| Error::of("", error.into()))?;
                self.batch = Some((ready, 0..batch.num_rows()));
                continue;
            }
            let Some((ready, rows)) = &mut self.batch else { continue };
            for row in rows.by_ref() {
                if room == 0 {
                    // Not this one: it is the first of the next piece.
                    rows.start -= 1;
                    return Ok(false);
                }
                write(ready, row, wire.written());
                self.sent += 1;
                room -= 1;
                wire.flush_much().await?;
            }
        }
    }

    /// Sends at most `rows_max` rows as `DataRow`s and says whether that was the last.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn send_rows(
        &mut self,
        wire: &mut Wire,
        stop: &CancellationToken,
        formats: &Formats,
        rows_max: usize,
    ) -> Result<bool, Ended> {
        self.send(wire, stop, rows_max, |columns, row, out| {
            write_row(columns, row, |index| formats.is_binary(index), out)
        })
        .await
    }
}

pub(crate) fn text_columns(names: &[&str]) -> Arc<[OutputColumn]> {
    names.iter().map(|name| OutputColumn { name: (*name).to_owned(), pg_type: PgType::TEXT }).collect()
}

/// The message that describes `columns`.
pub(crate) fn description(columns: &[OutputColumn], formats: &Formats) -> PgWireBackendMessage {
    let field = |(index, column): (usize, &OutputColumn)| {
        let OutputColumn { name, pg_type } = column;
        let format = i16::from(formats.is_binary(index));
        FieldDescription::new(name.clone(), 0, 0, pg_type.oid(), pg_type.size(), -1, format)
    };
    PgWireBackendMessage::RowDescription(RowDescription::new(columns.iter().enumerate().map(field).collect()))
}
