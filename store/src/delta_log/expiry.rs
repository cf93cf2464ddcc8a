//! The commit that takes days out of a table because they are older than it is kept.

use std::{collections::HashSet, sync::Arc};

use serde_json::json;

use super::{Change, DeltaLog, TableSnapshot, now_ms, remove_action};
use crate::{error::Result, live_file::LiveFile, retention::ExpiryRule};

impl DeltaLog {
    /// Commits the removal of live files under the operation name `DELETE`; the log position stays. The files themselves
    /// are deleted like replaced ones, after the grace period.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the entry could not be made durable; the next [`DeltaLog::settle`] says whether it holds.
    pub(crate) async fn expire(&mut self, expired: &[Arc<LiveFile>], rule: &ExpiryRule) -> Result<Arc<TableSnapshot>> {
        let now = now_ms();
        let mut actions = vec![json!({ "commitInfo": {
            "timestamp": now, "operation": "DELETE", "isBlindAppend": false,
            "operationParameters": { "predicate": json!([rule.predicate]).to_string(), "retention": rule.setting },
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }})];
        actions.extend(expired.iter().map(|file| remove_action(file, now, Change::Data)));
        if let Err(error) = self.write_entry(&actions) {
            self.in_doubt = self.next_entry().try_exists().unwrap_or(true);
            return Err(error);
        }
        let gone: HashSet<&str> = expired.iter().map(|file| file.path.as_str()).collect();
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !gone.contains(file.path.as_str()));
        self.delete_later(expired, now);
        self.checkpoint_when_due().await;
        Ok(self.snapshot())
    }
}
