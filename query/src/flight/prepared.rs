//! Prepared statements: their texts, and the values bound last.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::statement::Statement;

/// Prepared statements of all clients.
const COUNT_MAX: usize = 1000;
/// Their texts and values.
const SIZE_BYTES_MAX: usize = 64 << 20;
/// One that is not used for so long is forgotten: clients that crash do not close theirs.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The prepared statements of all clients, by handles that cannot be guessed.
#[derive(Debug)]
pub(super) struct PreparedStatements {
    entries: Mutex<HashMap<Uuid, Entry>>,
    idle_max: Duration,
}

impl Default for PreparedStatements {
    fn default() -> Self {
        Self { entries: Mutex::default(), idle_max: IDLE_MAX }
    }
}

#[derive(Debug)]
struct Entry {
    sql: String,
    values: Bytes,
    used: Instant,
}

impl PreparedStatements {
    /// Keeps `sql`, and gives its handle.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many.
    pub(super) fn create(&self, sql: String) -> Result<Bytes, Status> {
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.used.elapsed() < self.idle_max);
        make_room(&entries, sql.len(), 1)?;
        let handle = Uuid::new_v4();
        entries.insert(handle, Entry { sql, values: Bytes::new(), used: Instant::now() });
        Ok(Bytes::copy_from_slice(handle.as_bytes()))
    }

    /// Keeps the values of its parameters for the executions that follow.
    ///
    /// # Errors
    /// `NOT_FOUND` for a handle that is not, or no longer, known; `RESOURCE_EXHAUSTED`.
    pub(super) fn bind(&self, handle: &Bytes, values: Bytes) -> Result<(), Status> {
        let mut entries = self.entries();
        // They replace those bound before, which need no room any more.
        let before = find(&mut entries, handle)?.values.len();
        make_room(&entries, values.len().saturating_sub(before), 0)?;
        find(&mut entries, handle)?.values = values;
        Ok(())
    }

    /// A new execution, with the values bound last.
    ///
    /// # Errors
    /// `NOT_FOUND` for a handle that is not, or no longer, known.
    pub(super) fn statement(&self, handle: &Bytes) -> Result<Statement, Status> {
        let mut entries = self.entries();
        let entry = find(&mut entries, handle)?;
        Statement::new(entry.sql.clone(), entry.values.clone())
    }

    /// Forgets it, if it is known.
    pub(super) fn close(&self, handle: &Bytes) {
        if let Ok(handle) = Uuid::from_slice(handle) {
            self.entries().remove(&handle);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        // Nothing in here is left half done by a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(entries: &HashMap<Uuid, Entry>, size_bytes: usize, count: usize) -> Result<(), Status> {
    let held: usize = entries.values().map(|entry| entry.sql.len() + entry.values.len()).sum();
    if entries.len() + count > COUNT_MAX || held + size_bytes > SIZE_BYTES_MAX {
        let held = entries.len();
        return Err(Status::resource_exhausted(format!("{held} prepared statements are open; close those not needed")));
    }
    Ok(())
}

fn find<'a>(entries: &'a mut HashMap<Uuid, Entry>, handle: &Bytes) -> Result<&'a mut Entry, Status> {
    let entry = Uuid::from_slice(handle).ok().and_then(|handle| entries.get_mut(&handle));
    let entry = entry.ok_or_else(|| {
        Status::not_found("no such prepared statement; it was closed, or not used for an hour: prepare it again")
    })?;
    entry.used = Instant::now();
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_closed_one_is_gone() {
        let prepared = PreparedStatements::default();
        let handle = prepared.create("SELECT $1".into()).unwrap();
        prepared.bind(&handle, Bytes::from_static(b"values")).unwrap();
        assert_eq!(prepared.statement(&handle).unwrap().sql, "SELECT $1");
        prepared.close(&handle);
        assert_eq!(prepared.statement(&handle).unwrap_err().code(), Code::NotFound);
        assert_eq!(prepared.bind(&Bytes::from_static(b"other"), Bytes::new()).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn they_are_bounded_and_idle_ones_make_room() {
        let prepared = PreparedStatements::default();
        let handles: Vec<_> = (0..COUNT_MAX).map(|_| prepared.create("SELECT 1".into()).unwrap()).collect();
        assert_eq!(prepared.create("SELECT 1".into()).unwrap_err().code(), Code::ResourceExhausted);
        let prepared = PreparedStatements { idle_max: Duration::ZERO, ..prepared };
        let last = prepared.create("SELECT 1".into()).unwrap();
        assert!(prepared.statement(&last).is_ok() && prepared.statement(&handles[0]).is_err());
        let half = Bytes::from(vec![0; SIZE_BYTES_MAX / 2 + 1]);
        prepared.bind(&last, half.clone()).unwrap();
        prepared.bind(&last, half).expect("values that are replaced need no room");
        let large = prepared.create("x".repeat(SIZE_BYTES_MAX + 1));
        assert_eq!(large.unwrap_err().code(), Code::ResourceExhausted);
    }
}
