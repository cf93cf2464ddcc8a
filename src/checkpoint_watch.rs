//! Folders of checkpoints, looked at again and again while the server runs; each look is a row of the table `checkpoints`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use driftwatt_analyze::{
    delivery::Clock,
    lineage::{
        checkpoint_folder::{CheckpointFolder, RawCheckpointFolder},
        records::CheckpointRecord,
    },
};
use driftwatt_store::Store;
use futures::future::join_all;
use opentelemetry::{KeyValue, global};

/// The last look at each folder.
type Looks = Arc<Mutex<HashMap<String, CheckpointRecord>>>;

/// Watches folders.
pub(crate) struct CheckpointWatch {
    folders: Vec<CheckpointFolder>,
    last: Looks,
}

impl CheckpointWatch {
    /// The watch of `[[lineage.checkpoints]]`; none where there is no folder.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub(crate) fn new(raw: &[RawCheckpointFolder]) -> anyhow::Result<Option<Self>> {
        let folders = raw.iter().cloned().map(RawCheckpointFolder::validate).collect::<Result<Vec<_>, _>>()?;
        Ok((!folders.is_empty()).then(|| Self { folders, last: observed() }))
    }

    /// Looks at every folder at its interval. Never ends by itself.
    pub(crate) async fn watch(self, store: &Store, clock: &dyn Clock) {
        join_all(self.folders.iter().map(|folder| self.keep(folder, store, clock))).await;
    }

    async fn keep(&self, folder: &CheckpointFolder, store: &Store, clock: &dyn Clock) {
        loop {
            if let Err(error) = self.look(folder, store, clock.unix_us()).await {
                tracing::warn!(folder = %folder.folder.display(), error = format!("{error:#}"), "a look at checkpoints could not be recorded");
            }
            clock.sleep(folder.interval).await;
        }
    }

    async fn look(&self, folder: &CheckpointFolder, store: &Store, now_us: i64) -> anyhow::Result<()> {
        let looking = folder.clone();
        let record = tokio::task::spawn_blocking(move || looking.look(now_us)).await.context("list the folder")?;
        let before = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.insert(record.folder.clone(), record.clone())
        };
        // The age in the words changes with each look; what is wrong does not.
        let is_told = before.is_some_and(|before| before.alarms.len() == record.alarms.len());
        if !record.alarms.is_empty() && !is_told {
            tracing::warn!(folder = record.folder, alarms = record.alarms.join("; "), "checkpoints are not in order");
        }
        store.write_result(CheckpointRecord::TABLE, CheckpointRecord::to_batch(&[record])?).await?;
        Ok(())
    }
}

/// Gauges of the last looks.
fn observed() -> Looks {
    let meter = global::meter("driftwatt.server");
    let last = Looks::default();
    let gauge = |name: &'static str, description: &'static str, value: fn(&CheckpointRecord) -> Option<f64>| {
        let last = Arc::clone(&last);
        let _gauge = meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                for (folder, record) in last.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    if let Some(value) = value(record) {
                        observer.observe(value, &[KeyValue::new("folder", folder.clone())]);
                    }
                }
            })
            .build();
    };
    gauge(
        "driftwatt_server_checkpoint_modified_timestamp_seconds",
        "When the newest checkpoint of a folder was last changed.",
        |record| record.newest_modified_us.map(|time_us| time_us as f64 / 1e6),
    );
    gauge("driftwatt_server_checkpoint_alarms", "What is wrong in a folder of checkpoints.", |record| {
        Some(record.alarms.len() as f64)
    });
    last
}
