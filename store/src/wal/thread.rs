//! The log thread: takes what waits, writes it as one group, syncs once, applies, answers.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use super::{
    Applied, Sink,
    frame::{PAYLOAD_SIZE_BYTES_MAX, put_frame},
    recovery::Recovered,
    segment::{ActiveSegment, SealedSegment, remove_file, sync_dir},
};
use crate::{
    config::Durability,
    error::{Error, Result},
    failpoint::{self, Failpoint},
    stage::Stage,
};

/// Payload bytes after which a group is closed: bounds the memory and the time of one write.
const GROUP_SIZE_BYTES: usize = 8 << 20;
/// Longest time a record stays unsynced with [`Durability::Interval`].
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

type Answer<R> = oneshot::Sender<Result<R>>;

pub(super) enum Request<T> {
    Append(Append<T>),
    Rotate { answer: Answer<Option<u64>> },
    RemoveThrough { sequence: u64, answer: Answer<u64> },
    Close { answer: Answer<()> },
}

pub(super) struct Append<T> {
    pub(super) payload: Bytes,
    pub(super) item: T,
    pub(super) answer: Answer<Applied>,
}

pub(super) struct LogThread<S: Sink> {
    dir: PathBuf,
    durability: Durability,
    segment_size_bytes: u64,
    sink: S,
    /// `None` until the first append and after a rotation.
    pub(super) active: Option<ActiveSegment>,
    sealed: Vec<SealedSegment>,
    next_sequence: u64,
    /// Something was applied or replayed since the last rotation.
    unsealed: bool,
    /// When the oldest write that is not synced happened.
    unsynced_since: Option<Instant>,
    poisoned: bool,
    /// No record of the segment is known to be written.
    starts_segment: bool,
    /// The last group found no space; said once.
    full: bool,
    /// The frames of a group, kept for its allocation.
    frames: Vec<u8>,
}

impl<S: Sink> LogThread<S> {
    pub(super) fn new(
        dir: PathBuf,
        durability: Durability,
        segment_size_bytes: u64,
        recovered: Recovered,
        sink: S,
    ) -> Self {
        Self {
            dir,
            durability,
            segment_size_bytes,
            sink,
            active: None,
            sealed: recovered.sealed,
            next_sequence: recovered.next_sequence,
            unsealed: recovered.replay.records > 0,
            unsynced_since: None,
            poisoned: false,
            starts_segment: true,
            full: false,
            frames: Vec::new(),
        }
    }

    /// Runs until [`Request::Close`] or until every sender is gone.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Request<S::Item>>, timer: &Runtime) {
        let mut held = None;
        while let Some(request) = held.take().or_else(|| self.next_request(&mut inbox, timer)) {
            match request {
                Request::Append(first) => {
                    let (group, next) = collect_group(first, &mut inbox);
                    held = next;
                    self.commit(group);
                }
                Request::Rotate { answer } => reply(answer, self.rotate()),
                Request::RemoveThrough { sequence, answer } => reply(answer, self.remove_through(sequence)),
                Request::Close { answer } => {
                    reply(answer, self.sync());
                    return;
                }
            }
        }
        if self.sync().is_err() {
            tracing::error!("the last records of the log are not synced");
        }
    }

    /// The next request; syncs in time while there is none.
    fn next_request(
        &mut self,
        inbox: &mut mpsc::Receiver<Request<S::Item>>,
        timer: &Runtime,
    ) -> Option<Request<S::Item>> {
        while let Some(since) = self.unsynced_since {
            let left = SYNC_INTERVAL.saturating_sub(since.elapsed());
            if left.is_zero() {
                // A failure poisons the log: the next append is told.
                let _poisoned = self.sync().is_err();
                break;
            }
            // The future is made inside the runtime, whose timer it needs.
            if let Ok(received) = timer.block_on(async { tokio::time::timeout(left, inbox.recv()).await }) {
                return received;
            }
        }
        inbox.blocking_recv()
    }

    /// Writes, syncs, applies and answers one group, all of it or (on a failure) nothing of it.
    pub(super) fn commit(&mut self, mut group: Vec<Append<S::Item>>) {
        match Stage::Log.run(|| self.write_group(&mut group)) {
            Ok(()) => self.full = false,
            // Nothing of the group is in the log and nobody was told so, so the next group may try again.
            Err(Error::WalFull { path, reason }) => {
                if !self.full {
                    tracing::warn!(segment = %path.display(), %reason, "no space for the log; writes are refused");
                    self.full = true;
                }
                let error = || Error::WalFull { path: path.clone(), reason };
                return group.into_iter().for_each(|append| reply(append.answer, Err(error())));
            }
            Err(error) => {
                self.poison(&error);
                return group.into_iter().for_each(|append| reply(append.answer, Err(Error::WalPoisoned)));
            }
        }
        let mut applied = Vec::with_capacity(group.len());
        for append in group {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let duplicate_count = self.sink.apply(sequence, append.item);
            applied.push((append.answer, Applied { sequence, duplicate_count }));
        }
        self.unsealed = true;
        applied.into_iter().for_each(|(answer, applied)| reply(answer, Ok(applied)));
    }

    fn write_group(&mut self, group: &mut Vec<Append<S::Item>>) -> Result<()> {
        if self.poisoned {
            return Err(Error::WalPoisoned);
        }
        if self.active.as_ref().is_some_and(|active| active.size_bytes >= self.segment_size_bytes) {
            self.close_segment()?;
        }
        self.starts_segment |= self.active.as_ref().is_none_or(ActiveSegment::is_empty);
        self.frame_group(group);
        // What is not written did not define anything.
        self.write_frames().inspect_err(|_error| self.starts_segment = true)
    }

    /// Puts the records of `group` into `frames`; answers and removes those that are too large.
    fn frame_group(&mut self, group: &mut Vec<Append<S::Item>>) {
        self.frames.clear();
        self.frames.shrink_to(2 * GROUP_SIZE_BYTES);
        let mut sequence = self.next_sequence;
        for append in std::mem::take(group) {
            let (sink, starts_segment) = (&mut self.sink, self.starts_segment);
            let fits = put_frame(&mut self.frames, sequence, |out| {
                sink.preface(&append.item, starts_segment, out);
                out.extend_from_slice(&append.payload);
            });
            // A record left out takes its preface with it, so the next one starts anew.
            self.starts_segment = !fits;
            if fits {
                sequence += 1;
                group.push(append);
            } else {
                let (size_bytes, limit_bytes) = (append.payload.len(), PAYLOAD_SIZE_BYTES_MAX);
                reply(append.answer, Err(Error::RecordTooLarge { size_bytes, limit_bytes }));
            }
        }
    }

    fn write_frames(&mut self) -> Result<()> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let active = match &mut self.active {
            Some(active) => active,
            none => none.insert(ActiveSegment::create(&self.dir, self.next_sequence)?),
        };
        active.write(&self.frames)?;
        match self.durability {
            Durability::Sync => active.sync(),
            Durability::Interval => {
                self.unsynced_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Durability::Memory => Ok(()),
        }
    }

    /// Makes the active segment a sealed one; with it synced, only the newest segment can ever have a torn end.
    fn close_segment(&mut self) -> Result<()> {
        self.sync_active()?;
        // One whose first write found no space stays: the next segment would have its name.
        if let Some(active) = self.active.take_if(|active| !active.is_empty()) {
            self.sealed.push(SealedSegment { path: active.path, last_sequence: self.next_sequence - 1 });
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<Option<u64>> {
        if self.poisoned {
            return Err(Error::WalPoisoned);
        }
        if !self.unsealed {
            return Ok(None);
        }
        let closed = failpoint::hit(Failpoint::WalBeforeRotate, &self.dir)
            .and_then(|()| self.close_segment())
            .and_then(|()| failpoint::hit(Failpoint::WalAfterRotate, &self.dir));
        if let Err(error) = closed {
            self.poison(&error);
            return Err(Error::WalPoisoned);
        }
        let last_sequence = self.next_sequence - 1;
        self.sink.seal(last_sequence);
        self.unsealed = false;
        Ok(Some(last_sequence))
    }

    fn remove_through(&mut self, sequence: u64) -> Result<u64> {
        let mut removed = 0;
        // Oldest first, so that an interrupted removal never leaves a gap between what stays.
        while let Some(oldest) = self.sealed.first().filter(|segment| segment.last_sequence <= sequence) {
            failpoint::hit(Failpoint::WalBeforeRemove, &oldest.path)?;
            remove_file(&oldest.path)?;
            failpoint::hit(Failpoint::WalAfterRemove, &oldest.path)?;
            self.sealed.remove(0);
            removed += 1;
        }
        if removed > 0 {
            sync_dir(&self.dir)?;
        }
        Ok(removed)
    }

    fn sync(&mut self) -> Result<()> {
        if let Err(error) = self.sync_active() {
            self.poison(&error);
            return Err(Error::WalPoisoned);
        }
        Ok(())
    }

    fn sync_active(&mut self) -> Result<()> {
        if self.unsynced_since.take().is_some()
            && let Some(active) = &self.active
        {
            active.sync()?;
        }
        Ok(())
    }

    fn poison(&mut self, error: &Error) {
        if !self.poisoned {
            tracing::error!(error = error as &dyn std::error::Error, "the write-ahead log is poisoned");
            self.poisoned = true;
        }
    }
}

/// The appends that wait, up to the byte budget, and the request that ended the group if it is of another kind.
fn collect_group<T>(first: Append<T>, inbox: &mut mpsc::Receiver<Request<T>>) -> (Vec<Append<T>>, Option<Request<T>>) {
    let mut size_bytes = first.payload.len();
    let mut group = vec![first];
    while size_bytes < GROUP_SIZE_BYTES && group.len() < super::REQUEST_COUNT_MAX {
        match inbox.try_recv() {
            Ok(Request::Append(append)) => {
                size_bytes += append.payload.len();
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

fn reply<R>(answer: Answer<R>, result: Result<R>) {
    // A waiter that went away does not need its answer.
    let _gone = answer.send(result).is_err();
}
