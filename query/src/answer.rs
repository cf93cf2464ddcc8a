//! A running answer: a stream of batches that holds the slot of its question until it ends.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{common::runtime::SpawnedTask, execution::SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    questions::Question,
};

/// Batches that wait for the client.
const BATCHES_WAITING_MAX: usize = 2;

/// The batches of an answer. A slow client slows the query down, dropping this ends it, and a client that stops reading
/// holds the slot until the time limit only; the last item is then an error.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    started: Instant,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    enough: Arc<AtomicBool>,
    stop: CancellationToken,
    /// Held, so that dropping the answer stops the query.
    _task: SpawnedTask<()>,
}

impl Answer {
    /// Spawns the query on the runtime of the caller.
    pub(crate) fn new(question: Question, batches: SendableRecordBatchStream) -> Self {
        let (schema, started, stop) = (batches.schema(), question.started(), question.stop().clone());
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
        let enough = Arc::new(AtomicBool::new(false));
        let ending = Ending { question, enough: Arc::clone(&enough) };
        let task = SpawnedTask::spawn(produce(ending, batches, sender));
        Self { schema, started, batches: receiver, enough, stop, _task: task }
    }

    /// What the batches look like.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// When the question arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Stops the query, which counts as cancelled.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends an answer of which the client has all it asked for.
    pub fn enough(self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(cx)
    }
}

/// The question, which counts as answered if the client had enough of it.
struct Ending {
    question: Question,
    enough: Arc<AtomicBool>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.enough.load(Ordering::Relaxed) {
            self.question.answered();
        }
    }
}

async fn produce(
    mut ending: Ending,
    mut batches: SendableRecordBatchStream,
    sender: mpsc::Sender<Result<RecordBatch>>,
) {
    let work = async {
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| Error::of("", error))?;
            ending.question.add(&batch)?;
            if sender.send(Ok(batch)).await.is_err() {
                // The client left.
                return Ok(false);
            }
        }
        Ok(true)
    };
    let ended = ending.question.within_limits(work).await;
    match &ended {
        Ok(true) => ending.question.answered(),
        Ok(false) => {}
        Err(error) => ending.question.failed(error),
    }
    // Gives the slot back before the client has room for the error.
    drop((batches, ending));
    if let Err(error) = ended {
        let _client_left = sender.send(Err(error)).await;
    }
}
