//! Folders of checkpoints, looked at again and again while the server runs; each look is a row of the table `checkpoints`, and what is
//! wrong is told to whoever owns the folder.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    delivery::{Clock, Outbox, Outcome, RawDelivery},
    lineage::{
        checkpoint_alarm::{self, AlarmMemory, News},
        checkpoint_folder::{CheckpointFolder, RawCheckpointFolder},
        records::CheckpointRecord,
    },
};
use driftwatt_store::Store;
use futures::future::join_all;
use opentelemetry::{KeyValue, global, metrics::Counter};

/// The last look at each folder.
type Looks = Arc<Mutex<HashMap<String, CheckpointRecord>>>;

/// Watches folders.
pub(crate) struct CheckpointWatch {
    folders: Vec<CheckpointFolder>,
    outbox: Outbox,
    last: Looks,
    letters: Counter<u64>,
}

impl CheckpointWatch {
    /// The watch of `[[lineage.checkpoints]]`, which tells by `delivery`; none where there is no folder.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub(crate) fn new(raw: &[RawCheckpointFolder], delivery: &RawDelivery) -> anyhow::Result<Option<Self>> {
        if raw.is_empty() {
            return Ok(None);
        }
        let folders = raw.iter().cloned().map(RawCheckpointFolder::validate).collect::<Result<Vec<_>, _>>()?;
        let outbox = Outbox::new(delivery.clone().validate(&|name| std::env::var(name).ok())?)?;
        let letters = global::meter("driftwatt.server")
            .u64_counter("driftwatt_server_checkpoint_letters")
            .with_description("Mails and webhooks about checkpoints, by outcome of the last try.")
            .build();
        Ok(Some(Self { folders, outbox, last: observed(), letters }))
    }

    /// Looks at every folder at its interval. Never ends by itself.
    pub(crate) async fn watch(self, ctx: &SessionContext, store: &Store, clock: &dyn Clock) {
        join_all(self.folders.iter().map(|folder| self.keep(folder, ctx, store, clock))).await;
    }

    async fn keep(&self, folder: &CheckpointFolder, ctx: &SessionContext, store: &Store, clock: &dyn Clock) {
        let mut memory = None;
        loop {
            if let Err(error) = self.look(folder, &mut memory, ctx, store, clock).await {
                tracing::warn!(folder = %folder.folder.display(), error = format!("{error:#}"), "a look at checkpoints could not be recorded");
            }
            clock.sleep(folder.interval).await;
        }
    }

    async fn look(
        &self,
        folder: &CheckpointFolder,
        memory: &mut Option<AlarmMemory>,
        ctx: &SessionContext,
        store: &Store,
        clock: &dyn Clock,
    ) -> anyhow::Result<()> {
        let (looking, now_us) = (folder.clone(), clock.unix_us());
        let record = tokio::task::spawn_blocking(move || looking.look(now_us)).await.context("list the folder")?;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(record.folder.clone(), record.clone());
        store.write_result(CheckpointRecord::TABLE, CheckpointRecord::to_batch(std::slice::from_ref(&record))?).await?;
        let memory = match memory {
            Some(memory) => memory,
            None => memory.insert(AlarmMemory::load(ctx, &record.folder).await?),
        };
        let news = memory.news(&record.kinds, record.time_us, folder.repeat);
        match news {
            News::None => return Ok(()),
            News::Alarm => {
                tracing::warn!(
                    folder = record.folder,
                    alarms = record.alarms.join("; "),
                    "checkpoints are not in order"
                );
            }
            News::InOrder => tracing::info!(folder = record.folder, "checkpoints are in order again"),
        }
        // Who was not reached is told at the next look.
        if self.tell(folder, news, &record, clock).await {
            memory.remember(store, news, &record).await?;
        }
        Ok(())
    }

    /// Whether somebody was reached, or nobody is to be.
    async fn tell(&self, folder: &CheckpointFolder, news: News, record: &CheckpointRecord, clock: &dyn Clock) -> bool {
        let owner = folder.owner.as_deref().and_then(|owner| self.outbox.address_of(owner));
        let to = owner.map_or_else(|| self.outbox.usual_recipients(), |owner| vec![owner]);
        let Some(letter) = checkpoint_alarm::letter(news, record, to, self.outbox.webhook_names()) else { return true };
        if letter.to.is_empty() && letter.webhooks.is_empty() {
            return true;
        }
        let attempts = self.outbox.send(&letter, clock).await;
        let with = |outcome: Outcome| attempts.iter().filter(move |attempt| attempt.outcome == outcome);
        for (name, outcome) in [("delivered", Outcome::Delivered), ("failed", Outcome::Failed)] {
            self.letters.add(with(outcome).count() as u64, &[KeyValue::new("outcome", name)]);
        }
        for attempt in with(Outcome::Failed) {
            let error = attempt.masked_error().unwrap_or_else(|| "unknown".into());
            tracing::error!(
                folder = record.folder,
                channel = attempt.channel,
                error,
                "an alarm of checkpoints was not delivered"
            );
        }
        with(Outcome::Delivered).next().is_some()
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
