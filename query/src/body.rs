//! The body of a streamed answer.

use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::{common::runtime::SpawnedTask, execution::SendableRecordBatchStream};
use futures::{Stream, StreamExt, stream};
use tokio::{sync::OwnedSemaphorePermit, sync::mpsc};

use crate::{error::Error, metrics::Running, output::BatchWriter};

/// Written pieces that wait for the client. Each holds one batch.
const PIECES_WAITING_MAX: usize = 2;

pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

type Piece = Result<Bytes, BodyError>;

/// A query that has begun: its first batch is there.
pub(crate) struct Begun {
    pub(crate) first: Option<RecordBatch>,
    pub(crate) batches: SendableRecordBatchStream,
    pub(crate) writer: BatchWriter,
    /// Given back when the query ends, whether or not the client has read everything.
    pub(crate) slot: OwnedSemaphorePermit,
    /// Ends with the slot.
    pub(crate) running: Running,
    /// Counted from its arrival.
    pub(crate) timeout: Duration,
}

/// The body of `query`. A slow client slows the query down, one that leaves drops it, and one that stops reading holds
/// its slot until the deadline only.
pub(crate) fn body(query: Begun) -> impl Stream<Item = Piece> + Send {
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let task = SpawnedTask::spawn(produce(query, pieces));
    // The task lives in the stream, so that dropping the body stops the query.
    stream::unfold((waiting, task), |(mut waiting, task)| async move {
        let piece = waiting.recv().await?;
        Some((piece, (waiting, task)))
    })
}

async fn produce(query: Begun, pieces: mpsc::Sender<Piece>) {
    let Begun { first, batches, mut writer, slot, running, timeout } = query;
    let work = async {
        let mut batches = stream::iter(first.map(Ok)).chain(batches);
        while let Some(batch) = batches.next().await {
            match batch.and_then(|batch| Ok(writer.write(&batch)?)) {
                Ok(piece) => pieces.send(Ok(piece)).await.ok()?,
                // Part of the answer is out already, so the message can only break off the rest.
                Err(error) => {
                    let error = Error::of("", error);
                    pieces.send(Err(BodyError::from(error.to_string()))).await.ok()?;
                    return Some(Err(error));
                }
            }
        }
        pieces.send(writer.finish().map_err(BodyError::from)).await.ok().map(Ok)
    };
    let ended = tokio::time::timeout_at(running.started() + timeout, work).await;
    drop(slot);
    match ended {
        Ok(Some(Ok(()))) => running.answered(),
        Ok(Some(Err(error))) => running.failed(&error),
        // The client left.
        Ok(None) => drop(running),
        Err(_elapsed) => {
            running.failed(&Error::Timeout { timeout });
            // An answer that ends in an error is not taken for a whole one: the connection breaks off.
            let error = BodyError::from(format!("the query took longer than {timeout:?} and was stopped"));
            let _client_left = pieces.send(Err(error)).await;
        }
    }
}
