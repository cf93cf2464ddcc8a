//! The commit that takes days or rows out of a table because they are older than they are kept.

use std::{collections::HashSet, sync::Arc};

use serde_json::json;

use super::{Change, DeltaLog, TableSnapshot, add_action, now_ms, remove_action};
use crate::{error::Result, live_file::LiveFile, parquet_file::NewFile, retention::ExpiryRule};

impl DeltaLog {
    /// Commits the removal of `expired` files, of whose rows those in `kept` files stay, under the operation name `DELETE`; the log position stays. The files themselves are deleted like replaced ones, after the grace period.
    /// `None` if one of `expired` is not live any more.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the entry could not be made durable; the next [`DeltaLog::settle`] says whether it holds.
    pub(crate) async fn expire(
        &mut self,
        expired: &[Arc<LiveFile>],
        kept: Vec<NewFile>,
        rule: &ExpiryRule,
    ) -> Result<Option<Arc<TableSnapshot>>> {
        let gone: HashSet<&str> = expired.iter().map(|file| file.path.as_str()).collect();
        if self.snapshot.files.iter().filter(|file| gone.contains(file.path.as_str())).count() < gone.len() {
            return Ok(None);
        }
        let now = now_ms();
        let mut actions = vec![json!({ "commitInfo": {
            "timestamp": now, "operation": "DELETE", "isBlindAppend": false,
            "operationParameters": { "predicate": json!([rule.predicate]).to_string(), "retention": rule.setting },
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }})];
        actions.extend(expired.iter().map(|file| remove_action(file, now, Change::Data)));
        actions.extend(kept.iter().map(|new| add_action(&new.file, Change::Data)));
        if let Err(error) = self.write_entry(&actions) {
            self.in_doubt = self.next_entry().try_exists().unwrap_or(true);
            if self.in_doubt {
                kept.into_iter().for_each(|new| new.uncommitted.keep());
            }
            return Err(error);
        }
        let kept = kept.into_iter().map(|new| {
            new.uncommitted.keep();
            Arc::new(new.file)
        });
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !gone.contains(file.path.as_str()));
        snapshot.files.extend(kept);
        self.delete_later(expired, now);
        self.checkpoint_when_due().await;
        Ok(Some(self.snapshot()))
    }
}
