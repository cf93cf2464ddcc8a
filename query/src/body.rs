//! The body of a streamed answer.

use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::{common::runtime::SpawnedTask, execution::SendableRecordBatchStream};
use futures::{Stream, StreamExt, stream};
use tokio::{sync::OwnedSemaphorePermit, sync::mpsc, time::Instant};

use crate::output::BatchWriter;

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
    pub(crate) deadline: Instant,
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
    let Begun { first, batches, mut writer, slot, deadline, timeout } = query;
    let work = async {
        let mut batches = stream::iter(first.map(Ok)).chain(batches);
        while let Some(batch) = batches.next().await {
            let piece = batch.map_err(BodyError::from).and_then(|batch| writer.write(&batch).map_err(BodyError::from));
            let failed = piece.is_err();
            if pieces.send(piece).await.is_err() || failed {
                return;
            }
        }
        // The client may have left; nobody is there to be told.
        let _client_left = pieces.send(writer.finish().map_err(BodyError::from)).await;
    };
    let ended = tokio::time::timeout_at(deadline, work).await;
    drop(slot);
    if ended.is_err() {
        // An answer that ends in an error is not taken for a whole one: the connection breaks off.
        let error = BodyError::from(format!("the query took longer than {timeout:?} and was stopped"));
        let _client_left = pieces.send(Err(error)).await;
    }
}
