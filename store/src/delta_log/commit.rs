//! The one way a version comes to be: files in and out, and what for, as one entry.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    CHECKSUM_TAG, DeltaLog, Error, LiveFile, NotWritten, Result, TableSnapshot, WAL_APP_ID, now_ms, seal::seal,
};
use crate::{live_file::date_text, parquet_file::NewFile, retention::ExpiryRule};

/// Times that opening a table on S3 meets an entry which a process before it had sent.
const FENCE_TRIES: usize = 5;

/// Which program writes the entries.
pub(super) const ENGINE: &str = concat!("driftwatt/", env!("CARGO_PKG_VERSION"));

/// What a commit is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'a> {
    /// New rows, or rows with new contents; the log position that they bring the table to.
    Write(Option<u64>),
    /// The same rows in other files: readers that follow changes skip it.
    Optimize,
    /// Damaged files go.
    Quarantine,
    /// Days or rows go that are older than they are kept.
    Expire(&'a ExpiryRule),
    /// Takes the next version, so that nothing sent before can still get it.
    Fence,
}

impl Operation<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Write(_) => "WRITE",
            Self::Optimize => "OPTIMIZE",
            Self::Quarantine => "QUARANTINE",
            Self::Expire(_) => "DELETE",
            Self::Fence => "FENCE",
        }
    }

    fn changes_data(self) -> bool {
        !matches!(self, Self::Optimize)
    }

    fn info(self, now: i64, is_blind_append: bool) -> Value {
        let mut info = json!({
            "timestamp": now, "operation": self.name(), "isBlindAppend": is_blind_append, "engineInfo": ENGINE,
        });
        if let Self::Expire(rule) = self {
            info["operationParameters"] =
                json!({ "predicate": json!([rule.predicate]).to_string(), "retention": rule.setting });
        }
        json!({ "commitInfo": info })
    }
}

/// The text of an entry, one action per line, with its checksum.
pub(super) fn entry(actions: &[Value]) -> String {
    seal(&actions.iter().map(|action| format!("{action}\n")).collect::<String>())
}

impl DeltaLog {
    /// Commits `added` files in place of `removed` ones, with the log position they bring the table to. Plan it on what
    /// [`DeltaLog::settle`] returns.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Storage`] if the entry could not be made durable. Either the table stays at its version
    /// and `added` is deleted, or the commit may hold after all: the next [`DeltaLog::settle`] says.
    pub(crate) async fn commit(
        &mut self,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
        wal_position: Option<u64>,
    ) -> Result<Arc<TableSnapshot>> {
        self.write_version(Operation::Write(wal_position), added, removed).await
    }

    /// Commits `added` files that hold the rows of the `removed` ones; `None` if one of these is not live any more.
    ///
    /// # Errors
    /// As [`DeltaLog::commit`].
    pub(crate) async fn rewrite(
        &mut self,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
    ) -> Result<Option<Arc<TableSnapshot>>> {
        if !self.are_live(removed) {
            return Ok(None);
        }
        self.write_version(Operation::Optimize, added, removed).await.map(Some)
    }

    /// Commits the removal of `expired` files, of whose rows those in `kept` files stay, by `rule`; the log position stays.
    /// The files themselves are deleted like replaced ones, after the grace period. `None` if one of `expired` is not live
    /// any more.
    ///
    /// # Errors
    /// As [`DeltaLog::commit`].
    pub(crate) async fn expire(
        &mut self,
        expired: &[Arc<LiveFile>],
        kept: Vec<NewFile>,
        rule: &ExpiryRule,
    ) -> Result<Option<Arc<TableSnapshot>>> {
        if !self.are_live(expired) {
            return Ok(None);
        }
        self.write_version(Operation::Expire(rule), kept, expired).await.map(Some)
    }

    fn are_live(&self, files: &[Arc<LiveFile>]) -> bool {
        let live: HashSet<&str> = self.snapshot.files.iter().map(|file| file.path.as_str()).collect();
        files.iter().all(|file| live.contains(file.path.as_str()))
    }

    /// Commits the removal of `damaged` live files; the log position stays.
    ///
    /// # Errors
    /// As [`DeltaLog::commit`].
    pub(crate) async fn quarantine(&mut self, damaged: &[Arc<LiveFile>]) -> Result<Arc<TableSnapshot>> {
        self.write_version(Operation::Quarantine, vec![], damaged).await
    }

    /// Takes the next version of a table on S3 with an entry that changes nothing. A commit that a killed process had
    /// sent could arrive after the log was read; after this it either was read or is refused.
    ///
    /// # Errors
    /// As [`DeltaLog::commit`].
    pub(super) async fn fence(&mut self) -> Result<()> {
        if !self.storage().is_remote() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for _ in 0..FENCE_TRIES {
            self.settle().await?;
            outcome = self.write_version(Operation::Fence, vec![], &[]).await.map(|_| ());
            if !matches!(outcome, Err(Error::VersionTaken { .. })) {
                break;
            }
        }
        outcome
    }

    /// # Cancel safety
    /// Dropped under way it leaves the table in doubt, as a failure does.
    async fn write_version(
        &mut self,
        operation: Operation<'_>,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
    ) -> Result<Arc<TableSnapshot>> {
        let now = now_ms();
        let mut actions = vec![operation.info(now, removed.is_empty())];
        let position = match operation {
            Operation::Write(position) => position,
            _ => None,
        };
        if let Some(position) = position {
            actions.push(json!({ "txn": { "appId": WAL_APP_ID, "version": position, "lastUpdated": now } }));
        }
        actions.extend(removed.iter().map(|file| remove_action(file, now, operation)));
        actions.extend(added.iter().map(|new| add_action(&new.file, operation)));
        // From here on the entry may come to be, so its files stay until it is known not to.
        self.in_doubt = true;
        let keep = |new: NewFile| {
            new.uncommitted.keep();
            Arc::new(new.file)
        };
        let added: Vec<_> = added.into_iter().map(keep).collect();
        let put = self.storage().put_entry(self.snapshot.version + 1, &entry(&actions)).await;
        if let Err(outcome) = put {
            self.in_doubt = !matches!(outcome, NotWritten::No(_));
            if !matches!(outcome, NotWritten::Perhaps(_)) {
                added.iter().for_each(|file| self.storage().discard(&file.path));
            }
            return Err(outcome.into());
        }
        self.in_doubt = false;
        let gone: HashSet<&str> = removed.iter().map(|file| file.path.as_str()).collect();
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !gone.contains(file.path.as_str()));
        snapshot.files.extend(added);
        snapshot.wal_position = position.unwrap_or(snapshot.wal_position);
        self.delete_later(removed, now);
        self.checkpoint_when_due().await;
        self.delete_replaced().await;
        Ok(self.snapshot())
    }
}

fn add_action(file: &LiveFile, operation: Operation<'_>) -> Value {
    json!({ "add": {
        "path": file.path, "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
        "modificationTime": file.added_ms, "dataChange": operation.changes_data(), "stats": file.stats(),
        "tags": file.checksum.tag().map(|tag| json!({ CHECKSUM_TAG: tag })),
    }})
}

fn remove_action(file: &LiveFile, now: i64, operation: Operation<'_>) -> Value {
    json!({ "remove": {
        "path": file.path, "deletionTimestamp": now, "dataChange": operation.changes_data(),
        "extendedFileMetadata": true, "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
    }})
}
