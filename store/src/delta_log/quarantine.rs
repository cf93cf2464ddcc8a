//! The commit that takes damaged files out of a table.

use std::sync::Arc;

use serde_json::json;

use super::{Change, DeltaLog, TableSnapshot, now_ms, remove_action};
use crate::{error::Result, live_file::LiveFile};

impl DeltaLog {
    /// Commits the removal of `damaged` live files under the operation name `QUARANTINE`; the log position stays.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the entry could not be made durable; the table is then at its previous version.
    pub(crate) fn quarantine(&mut self, damaged: &[Arc<LiveFile>]) -> Result<Arc<TableSnapshot>> {
        let now = now_ms();
        let mut actions = vec![json!({ "commitInfo": {
            "timestamp": now, "operation": "QUARANTINE", "isBlindAppend": false,
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }})];
        actions.extend(damaged.iter().map(|file| remove_action(file, now, Change::Data)));
        self.write_entry(&actions)?;
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !damaged.iter().any(|gone| gone.path == file.path));
        Ok(self.snapshot())
    }
}
