//! The write-ahead log: records in segments, durable before they are acknowledged.
//!
//! Invariants: `WAL-1` a waiter is answered only after its record is durable (as far as the durability mode promises)
//! and applied; sequence numbers start at 1, grow by one per record and are never reused for another acknowledged
//! record; records are applied in sequence order; a write that finds no space is taken back whole
//! and refused; after any other failed write and after a failed sync nothing more is written (the log is *poisoned*). One thread owns the files, so there is no locking. Format: `docs/format/wal.md`.

mod check;
mod frame;
pub mod fuzzing;
mod quarantine;
pub(crate) mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Durability,
    error::{Error, Result},
};

pub(crate) use check::check;
use frame::PAYLOAD_SIZE_BYTES_MAX;
pub(crate) use record::{Definitions, SeriesBook, decode_points, encode};
pub(crate) use recovery::{Found, Replay};

use thread::{LogThread, Request};

/// Requests that wait for the log thread; further ones wait in their sender.
const REQUEST_COUNT_MAX: usize = 1024;

/// Receives durable records in log order, on the log's own thread.
pub(crate) trait Sink: Send + 'static {
    /// What travels with a record from [`Wal::append`] to [`Sink::apply`].
    type Item: Send + 'static;

    /// Appends to `out` what must precede the payload of `item` in its record. Called once per record in log order,
    /// before it is written; `starts_segment` if no record of the segment is known to be written.
    fn preface(&mut self, item: &Self::Item, starts_segment: bool, out: &mut Vec<u8>);

    /// Called once per record after it is durable, in sequence order. Returns the duplicate points replaced, which the
    /// waiter is told.
    fn apply(&mut self, sequence: u64, item: Self::Item) -> u64;

    /// Called by [`Wal::rotate`]: everything up to `last_sequence` has been applied and is in sealed segments.
    fn seal(&mut self, last_sequence: u64);
}

/// What [`Wal::append`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Position of the record.
    pub(crate) sequence: u64,
    /// What [`Sink::apply`] returned.
    pub(crate) duplicate_count: u64,
}

/// An open log. Dropping it drains the queue, syncs and joins the thread; [`Wal::close`] does the same with an answer.
pub(crate) struct Wal<T: Send + 'static> {
    requests: Option<mpsc::Sender<Request<T>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static> Wal<T> {
    /// Opens `dir`, creating it if absent, repairs it, calls `replay` with what it finds in order, and starts the thread `driftwatt-wal`. New records are numbered after `issued_through` even if the log has lost its
    /// end. Blocks on file reads.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] for a segment of a newer format; whatever `replay` returns. Damaged records are
    /// not an error: they are counted in [`Replay`] and kept in `dir/quarantine`.
    pub(crate) fn open<S: Sink<Item = T>>(
        dir: PathBuf,
        durability: Durability,
        segment_size_bytes: u64,
        after_sequence: u64,
        issued_through: u64,
        replay: &mut dyn FnMut(Found<'_>) -> Result<()>,
        sink: S,
    ) -> Result<(Self, Replay)> {
        let mut recovered = recovery::recover(&dir, after_sequence, replay)?;
        recovered.next_sequence = recovered.next_sequence.max(issued_through + 1);
        let summary = recovered.replay;
        let (requests, inbox) = mpsc::channel(REQUEST_COUNT_MAX);
        let log = LogThread::new(dir.clone(), durability, segment_size_bytes, recovered, sink);
        let timer = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(Error::io("start the timer of the log thread for", &dir))?;
        let thread = std::thread::Builder::new()
            .name("driftwatt-wal".into())
            .spawn(move || log.run(inbox, &timer))
            .map_err(Error::io("start the log thread for", dir))?;
        Ok((Self { requests: Some(requests), thread: Mutex::new(Some(thread)) }, summary))
    }

    /// Appends one record; resolves once it is durable and `item` is applied.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the append: the record may still become durable.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`]; [`Error::WalFull`] if there is no space, when nothing of the record is kept;
    /// [`Error::WalPoisoned`] after a failed write or sync, when the record is not applied but
    /// may still be found at the next open; [`Error::WalClosed`].
    pub(crate) async fn append(&self, payload: Bytes, item: T) -> Result<Applied> {
        if payload.len() > PAYLOAD_SIZE_BYTES_MAX {
            return Err(Error::RecordTooLarge { size_bytes: payload.len(), limit_bytes: PAYLOAD_SIZE_BYTES_MAX });
        }
        self.ask(|answer| Request::Append(thread::Append { payload, item, answer })).await
    }

    /// Seals what was appended so far: closes the active segment and calls [`Sink::seal`]. The next append starts a new
    /// segment. `None` if nothing was appended or replayed since the last rotation.
    ///
    /// # Errors
    /// [`Error::WalPoisoned`], [`Error::WalClosed`].
    pub(crate) async fn rotate(&self) -> Result<Option<u64>> {
        self.ask(|answer| Request::Rotate { answer }).await
    }

    /// Deletes sealed segments whose last sequence is at most `sequence` and returns how many.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be deleted: it is tried again by the next call; [`Error::WalClosed`].
    pub(crate) async fn remove_through(&self, sequence: u64) -> Result<u64> {
        self.ask(|answer| Request::RemoveThrough { sequence, answer }).await
    }

    /// Handles what is queued, syncs and joins the thread. Later calls on the log return [`Error::WalClosed`].
    ///
    /// # Errors
    /// [`Error::WalPoisoned`] if the last sync failed.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = match self.ask(|answer| Request::Close { answer }).await {
            // Closing twice is not a mistake.
            Err(Error::WalClosed) => Ok(()),
            other => other,
        };
        if let Some(thread) = self.take_thread() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                return Err(Error::Task("the log thread panicked".into()));
            }
        }
        closed
    }

    async fn ask<R>(&self, request: impl FnOnce(oneshot::Sender<Result<R>>) -> Request<T>) -> Result<R> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(Error::WalClosed)?;
        requests.send(request(answer_tx)).await.map_err(|_closed| Error::WalClosed)?;
        answer_rx.await.map_err(|_closed| Error::WalClosed)?
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T: Send + 'static> Drop for Wal<T> {
    fn drop(&mut self) {
        // The thread ends when its last sender is gone.
        self.requests = None;
        if let Some(thread) = self.take_thread()
            // The sink may own the last reference to whoever owns the log; a thread cannot join itself.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the log thread panicked");
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Wal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").finish_non_exhaustive()
    }
}
