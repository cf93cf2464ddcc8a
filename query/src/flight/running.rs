//! Executions that wait or run, by the id in their ticket, to cancel them by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The executions of all clients. There are no more of them than questions may wait and run.
#[derive(Debug, Default)]
pub(super) struct Running {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    id: Uuid,
    stop: CancellationToken,
}

/// An execution, until it is dropped.
#[derive(Debug)]
pub(super) struct Execution {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
    entry: Arc<Entry>,
}

impl Running {
    /// Writes down an execution that begins now.
    pub(super) fn begin(&self, id: Uuid) -> Execution {
        let entry = Arc::new(Entry { id, stop: CancellationToken::new() });
        lock(&self.entries).push(Arc::clone(&entry));
        Execution { entries: Arc::clone(&self.entries), entry }
    }

    /// Stops the executions with this id; false if there are none.
    pub(super) fn cancel(&self, id: Uuid) -> bool {
        let mut found = false;
        for entry in lock(&self.entries).iter().filter(|entry| entry.id == id) {
            found = true;
            entry.stop.cancel();
        }
        found
    }
}

impl Execution {
    /// What stops it.
    pub(super) fn stop(&self) -> CancellationToken {
        self.entry.stop.clone()
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        lock(&self.entries).retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

fn lock(entries: &Mutex<Vec<Arc<Entry>>>) -> MutexGuard<'_, Vec<Arc<Entry>>> {
    // Nothing in here is left half done by a panic.
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}
