//! A source on its own thread, and its newest snapshot.
//!
//! A reader asks for a fresh sample and waits for it, but only up to a deadline and only once: while a sample is
//! outstanding, later readers take what is there. So a source that hangs delays one collection by the deadline and then
//! costs nothing; its last values are served until they are too old, then none.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::reading::{Failure, Questions, Sample, Snapshot, Source};

/// How long a watch waits and how old its values may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A snapshot younger than this needs no new sample.
    pub(crate) fresh: Duration,
    /// Longest wait for a sample.
    pub(crate) deadline: Duration,
    /// Age beyond which a snapshot is not reported.
    pub(crate) age_max: Duration,
}

impl Limits {
    pub(crate) fn for_interval(interval: Duration) -> Self {
        Self {
            fresh: (interval / 4).min(Duration::from_secs(1)),
            deadline: (interval / 2).min(Duration::from_secs(5)),
            age_max: interval * 3,
        }
    }

    /// The same for a source that itself takes no longer than `timeout`: its answer is waited for, just.
    pub(crate) fn with_deadline_after(self, timeout: Duration) -> Self {
        Self { deadline: timeout + Duration::from_millis(250), ..self }
    }
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Arc<Snapshot>>,
    outstanding: bool,
    failures: BTreeMap<Failure, u64>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    published: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, sample: Sample, taken_at: Instant, took: Duration) {
        let mut state = self.lock();
        for failure in sample.failures {
            *state.failures.entry(failure).or_default() += 1;
        }
        state.latest = Some(Arc::new(Snapshot { taken_at, took, held: sample.held, readings: sample.readings }));
        state.outstanding = false;
        self.published.notify_all();
    }
}

/// Handle to a source's thread; the thread ends when the watch is closed and no sample is under way.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) name: &'static str,
    limits: Limits,
    requests: Mutex<Option<SyncSender<()>>>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Starts the thread, which makes the source (that may block too), and asks for a first sample.
    pub(crate) fn spawn<S: Source>(
        name: &'static str,
        limits: Limits,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (requests, received) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let mut asked = Requests { received, shared: Arc::clone(&shared), started: Instant::now() };
        thread::Builder::new().name(format!("collector-{name}")).spawn(move || make().serve(&mut asked))?;
        let watch = Arc::new(Self { name, limits, requests: Mutex::new(Some(requests)), shared });
        watch.request(&mut watch.shared.lock());
        Ok(watch)
    }

    fn request(&self, state: &mut State) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = requests.as_ref() {
            state.outstanding = requests.try_send(()).is_ok();
        }
    }

    /// The newest snapshot that is not too old, after waiting for a fresh one up to the deadline.
    pub(crate) fn read(&self) -> Option<Arc<Snapshot>> {
        let mut state = self.shared.lock();
        let fresh = state.latest.as_ref().is_some_and(|latest| latest.taken_at.elapsed() < self.limits.fresh);
        let first = state.latest.is_none() && !state.failures.contains_key(&TIMED_OUT);
        if !fresh && (!state.outstanding || first) {
            if !state.outstanding {
                self.request(&mut state);
            }
            let waited = self.shared.published.wait_timeout_while(state, self.limits.deadline, |s| s.outstanding);
            let (after, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if result.timed_out() {
                tracing::warn!(source = self.name, deadline = ?self.limits.deadline, "source did not answer in time");
                *state.failures.entry(TIMED_OUT).or_default() += 1;
            }
        }
        state.latest.as_ref().filter(|latest| self.reportable(latest, Instant::now())).map(Arc::clone)
    }

    fn reportable(&self, snapshot: &Snapshot, now: Instant) -> bool {
        now.saturating_duration_since(snapshot.taken_at) <= self.limits.age_max
    }

    /// Age of the newest values, however old.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.shared.lock().latest.as_ref().map(|latest| latest.taken_at.elapsed() + latest.held)
    }

    /// Failures so far, by reading and kind.
    pub(crate) fn failures(&self) -> BTreeMap<Failure, u64> {
        self.shared.lock().failures.clone()
    }

    /// Ends the thread. A thread that hangs in a driver call cannot be ended and is not waited for.
    pub(crate) fn close(&self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

const TIMED_OUT: Failure = Failure { reading: "snapshot", error_type: "timeout" };

/// The requests of a watch, each with the time it was taken up.
struct Requests {
    received: Receiver<()>,
    shared: Arc<Shared>,
    started: Instant,
}

impl Questions for Requests {
    fn next(&mut self) -> bool {
        let is_asked = self.received.recv().is_ok();
        self.started = Instant::now();
        is_asked
    }

    fn answer(&mut self, sample: Sample) {
        let taken_at = Instant::now();
        self.shared.publish(sample, taken_at, taken_at - self.started);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Blocks as a hung driver does, until the test opens the gate.
    fn gated(gate: &Receiver<()>) -> Sample {
        let mut sample = Sample::default();
        if gate.recv().is_ok() {
            sample.push("m", 1.0, &[]);
        }
        sample
    }

    fn watch(fresh: Duration) -> (Arc<Watch>, mpsc::Sender<()>) {
        let (gate, gate_of) = mpsc::channel();
        let limits = Limits { fresh, deadline: Duration::from_millis(50), age_max: Duration::from_secs(3) };
        (Watch::spawn("test", limits, move || move || gated(&gate_of)).unwrap(), gate)
    }

    #[test]
    fn a_hung_source_delays_one_read_and_is_counted() {
        let (watch, gate) = watch(Duration::ZERO);
        gate.send(()).unwrap();
        while watch.age().is_none() {
            thread::yield_now();
        }

        let started = Instant::now();
        assert!(watch.read().is_some(), "the last good values are still young");
        assert!(started.elapsed() >= Duration::from_millis(50));
        let started = Instant::now();
        assert!(watch.read().is_some());
        assert!(started.elapsed() < Duration::from_millis(50), "no second wait while a sample is outstanding");
        assert_eq!(watch.failures().get(&TIMED_OUT), Some(&1));
        drop(gate);
    }

    #[test]
    fn values_past_the_age_limit_are_not_reported() {
        let (watch, gate) = watch(Duration::from_secs(1));
        gate.send(()).unwrap();
        let snapshot = watch.read().unwrap();
        assert!(watch.reportable(&snapshot, snapshot.taken_at + Duration::from_secs(3)));
        assert!(!watch.reportable(&snapshot, snapshot.taken_at + Duration::from_millis(3001)));
        assert!(watch.age().is_some());
    }
}
