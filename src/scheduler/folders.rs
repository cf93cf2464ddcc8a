//! Watched folders: a file is checked against its contract once it is whole, and moved to where it belongs.
//!
//! Nothing tells a file that is still being written from one that is whole but that it does not change any more: a file is checked
//! when its size and time of change stood still for `settle`, and the verdict counts only if they still do after the check. Runs are named
//! by name, size and time of change, so that a restart checks nothing a second time.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use chrono::SecondsFormat;
use driftwatt_analyze::{
    gates::{
        ArrivedFile, BatchPlace, CheckInputs, CheckedFile, Contract, ContractTag, DatasetRecord, Notice, References,
        Table, WatchedFolder, batch_name, check_file, read_reference,
    },
    runs::{Run, Step, arrival_id, left_open, steps_of},
};
use serde_json::{Value, json};

use super::{Scheduler, arrivals::Before, compose, may_pass};
use crate::{
    answers::{past_batches_of, record_batch},
    quarantine,
};

/// A file that is there.
struct Waiting {
    file: ArrivedFile,
    /// Since when it is as it is.
    since_us: i64,
    is_done: bool,
}

/// A checked file.
struct Checked {
    file: CheckedFile,
    contract: ContractTag,
    now_us: i64,
}

/// The rules of `folder`, and what names them; the text is what they were read from.
pub(super) fn rules(folder: &WatchedFolder) -> anyhow::Result<(Table, ContractTag, String)> {
    let file = folder.contract.display().to_string();
    let text = fs::read_to_string(&folder.contract).with_context(|| format!("read {file}"))?;
    let contract = Contract::from_odcs(&file, &text)?;
    let table = contract.table(folder.table.as_deref())?.clone();
    let Contract { id, version, owner, .. } = contract;
    Ok((table, ContractTag { id, version: Some(version), owner }, text))
}

impl Scheduler {
    /// Checks what comes to `folder`. Never ends by itself.
    pub(super) async fn keep_folder(&self, folder: &WatchedFolder) {
        while let Err(error) = self.close_left(folder).await {
            self.wait_after(&folder.name, &error).await;
        }
        let mut waiting = HashMap::new();
        loop {
            if let Err(error) = self.look_at_folder(folder, &mut waiting).await {
                self.wait_after(&folder.name, &error).await;
            }
            self.clock.sleep(folder.interval).await;
        }
    }

    /// Ends what broke off when its file was moved already: nothing is there to begin again.
    async fn close_left(&self, folder: &WatchedFolder) -> anyhow::Result<()> {
        let left = left_open(&self.session, &folder.name, "check").await?;
        if left.is_empty() {
            return Ok(());
        }
        let present = list(folder).await?;
        let present: Vec<String> = present.iter().map(|file| arrival_id(&folder.name, &file.to_string())).collect();
        for mut run in left.into_iter().filter(|run| !present.contains(&run.id)) {
            let error = "the run broke off, and its file is not in the folder as it was: look for it in the destination, or in \
                         the quarantine beside its report";
            run.error = Some(error.to_owned());
            self.end(&run, Step::Interrupted, vec![]).await?;
        }
        Ok(())
    }

    async fn look_at_folder(
        &self,
        folder: &WatchedFolder,
        waiting: &mut HashMap<PathBuf, Waiting>,
    ) -> anyhow::Result<()> {
        let found = list(folder).await?;
        let now_us = self.clock.unix_us();
        let mut present = HashMap::with_capacity(found.len());
        let mut due = vec![];
        for file in found {
            let known = waiting.remove(&file.path).filter(|known| known.file == file);
            let known = known.unwrap_or_else(|| Waiting { file: file.clone(), since_us: now_us, is_done: false });
            let rests = Duration::from_micros((now_us - known.since_us).max(0).unsigned_abs()) >= folder.settle;
            if rests && !known.is_done {
                due.push(file.clone());
            }
            present.insert(file.path, known);
        }
        // What is not there any more is forgotten, so that no more is remembered than is there.
        *waiting = present;
        // Asked at once: after a restart that may be all that is there.
        let ids: Vec<String> = due.iter().map(|file| arrival_id(&folder.name, &file.to_string())).collect();
        let known = steps_of(&self.session, &ids).await?;
        let mut failed = None;
        for (file, id) in due.into_iter().zip(ids) {
            let is_ended = known.get(&id).is_some_and(|(step, _)| step.is_final());
            let checked = if is_ended { Ok(()) } else { self.check_arrived(folder, &file).await };
            match checked {
                Ok(()) => _ = waiting.entry(file.path).and_modify(|waiting| waiting.is_done = true),
                // What keeps one from being checked need not keep the next.
                Err(error) => failed = Some(error.context(file)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Checks `file`, unless it was checked as it is.
    async fn check_arrived(&self, folder: &WatchedFolder, file: &ArrivedFile) -> anyhow::Result<()> {
        let arrived = file.to_string();
        let mut run = Run::on_arrival(&folder.name, "check", &arrived, self.now());
        run.parameters = json!({
            "job": "check", "file": file.path.display().to_string(), "size_bytes": file.size_bytes,
            "modified": modified_text(file), "contract_file": folder.contract.display().to_string(),
        });
        match self.before(&folder.name, &arrived).await? {
            Before::Ended => return Ok(()),
            Before::Left(step) => return self.leave(run, step).await,
            Before::BrokeOff => run.note = Some("the run before broke off in the middle".to_owned()),
            Before::New => {}
        }
        self.begin(&mut run).await?;
        let scheduled = run.scheduled;
        let checked = self.told("check", &folder.name, scheduled, self.checked(folder, file, &mut run)).await;
        let checked = match checked {
            Ok(checked) => checked,
            // Begun once more, a minute later.
            Err(error) if may_pass(&error) => return Err(error),
            Err(error) => {
                run.error = Some(format!("{error:#}"));
                return self.end(&run, Step::Failed, vec![]).await.map(drop);
            }
        };
        let mut failures = vec![];
        let (place, moved_to) = place(folder, file, &checked, &mut failures);
        let record = DatasetRecord::new(&checked.file, &checked.contract, place.held_at().map(str::to_owned));
        let recorded = record_batch(&self.store, &record, checked.now_us).await;
        failures.extend(recorded.context("the batch was checked, and not recorded in datasets").err());
        run.parameters["moved_to"] = json!(moved_to);
        run.summary = Some(summary(&checked.file, moved_to.as_deref()));
        run.error = (!failures.is_empty())
            .then(|| failures.iter().map(|failure| format!("{failure:#}")).collect::<Vec<_>>().join("; "));
        let mut letters = vec![];
        if !checked.file.accepts() {
            let Checked { file, contract, now_us } = &checked;
            let notice = Notice { checked: file, contract, place: &place, now_us: *now_us };
            let to = compose::told(&notice, &self.outbox, folder.to.as_deref());
            letters.push(notice.letter(to, folder.webhooks.clone()));
        }
        let attempts = self.deliver(&mut run, &letters).await?;
        self.end(&run, run.last_step(), attempts).await.map(drop)
    }

    /// The verdict; what it rests on is noted in the parameters of `run`.
    async fn checked(&self, folder: &WatchedFolder, file: &ArrivedFile, run: &mut Run) -> anyhow::Result<Checked> {
        let (table, contract, text) = rules(folder)?;
        let _reading = self.reading.acquire().await.context("the scheduler ends")?;
        let mut references = References::new();
        for (name, path) in &folder.reference {
            references.extend(read_reference(name, path, &table).await?);
        }
        let history = past_batches_of(&self.session, &batch_name(&file.path), &table.name).await?;
        let inputs = CheckInputs { now: run.scheduled, history, references };
        let checked = check_file(&file.path, &table, &inputs).await?;
        let before = file.clone();
        let is_unchanged =
            tokio::task::spawn_blocking(move || before.is_unchanged()).await.context("look at the file")?;
        if !is_unchanged {
            bail!("it changed while it was checked; it is checked anew when it rests");
        }
        run.parameters["digest"] = json!(checked.digest);
        run.parameters["table"] = json!(checked.table);
        run.parameters["contract"] = Value::String(text);
        run.parameters["compared_with"] = checked.history.iter().map(|past| past.digest.clone()).collect();
        run.parameters["references"] = json!(folder.reference);
        Ok(Checked { file: checked, contract, now_us: run.scheduled.timestamp_micros() })
    }
}

async fn list(folder: &WatchedFolder) -> anyhow::Result<Vec<ArrivedFile>> {
    let looking = folder.clone();
    let found = tokio::task::spawn_blocking(move || looking.look()).await.context("list the folder")?;
    found.with_context(|| format!("list {}", folder.folder.display()))
}

/// Where the batch is now, and where it was moved to; what went wrong is added to `failures`, and leaves it where it was.
fn place(
    folder: &WatchedFolder,
    file: &ArrivedFile,
    checked: &Checked,
    failures: &mut Vec<anyhow::Error>,
) -> (BatchPlace, Option<String>) {
    if checked.file.accepts() {
        let Some(destination) = &folder.destination else { return (BatchPlace::Left, None) };
        return match accept(file, destination) {
            Ok(path) => (BatchPlace::Left, Some(path.display().to_string())),
            Err(error) => {
                failures.push(error.context("the batch may be used, and is still where it was"));
                (BatchPlace::Left, None)
            }
        };
    }
    let Some(quarantine) = &folder.quarantine else { return (BatchPlace::Left, None) };
    match quarantine::hold_back(&file.path, quarantine, &checked.file, &checked.contract) {
        Ok(held) => {
            let held = held.display().to_string();
            (BatchPlace::Held(held.clone()), Some(held))
        }
        Err(error) => {
            let why = format!("{error:#}");
            failures.push(error.context("the batch may not be used, and is still where it was"));
            (BatchPlace::NotMoved(why), None)
        }
    }
}

/// Moves a usable batch to `destination` under its own name, where nothing may be.
fn accept(file: &ArrivedFile, destination: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(destination).with_context(|| format!("create {}", destination.display()))?;
    let to = destination.join(file.path.file_name().unwrap_or_default());
    ensure!(
        !to.exists(),
        "{} is there already, and nothing is overwritten: move one of them away, then touch the other",
        to.display()
    );
    quarantine::relocate(&file.path, &to)?;
    Ok(to)
}

fn summary(checked: &CheckedFile, moved_to: Option<&str>) -> String {
    let moved = moved_to.map_or_else(String::new, |place| format!(", moved to {place}"));
    let name = Path::new(&checked.file).file_name().unwrap_or_default().to_string_lossy();
    let name = name.replace(char::is_control, " ");
    format!("check of {name}: {}, {} {}{moved}", checked.outcome.status.as_str(), checked.rows(), checked.kind.as_str())
}

fn modified_text(file: &ArrivedFile) -> Option<String> {
    let time_us = i64::try_from(file.modified_ns.div_euclid(1_000)).ok()?;
    Some(chrono::DateTime::from_timestamp_micros(time_us)?.to_rfc3339_opts(SecondsFormat::Micros, true))
}
