//! Executions that wait or run, by the id in their ticket, to cancel them by.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    questions::{Asked, Question, Questions},
};

/// The executions of all clients. There are no more of them than questions may wait and run.
#[derive(Debug, Default)]
pub(super) struct Running {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    id: Uuid,
    /// Before it has a slot.
    stop: CancellationToken,
    /// Its id in `system.queries`, once it has a slot.
    question: OnceLock<u64>,
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
        let entry = Arc::new(Entry { id, stop: CancellationToken::new(), question: OnceLock::new() });
        lock(&self.entries).push(Arc::clone(&entry));
        Execution { entries: Arc::clone(&self.entries), entry }
    }

    /// Stops the executions with this id; false if there are none.
    pub(super) fn cancel(&self, id: Uuid, questions: &Questions) -> bool {
        let mut found = false;
        for entry in lock(&self.entries).iter().filter(|entry| entry.id == id) {
            found = true;
            entry.stop.cancel();
            if let Some(question) = entry.question.get() {
                questions.cancel(*question);
            }
        }
        found
    }
}

impl Execution {
    /// Waits for a slot.
    ///
    /// # Errors
    /// Those of [`Questions::ask`]; [`Error::Cancelled`].
    pub(super) async fn ask(&self, questions: &Questions, asked: Asked<'_>) -> Result<Question> {
        let question = tokio::select! {
            biased;
            () = self.entry.stop.cancelled() => return Err(Error::Cancelled),
            question = questions.ask(asked) => question?,
        };
        let id = *self.entry.question.get_or_init(|| question.id());
        // Whoever cancelled it a moment ago did not know the id yet.
        if self.entry.stop.is_cancelled() {
            questions.cancel(id);
        }
        Ok(question)
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
