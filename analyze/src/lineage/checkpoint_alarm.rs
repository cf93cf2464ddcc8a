//! When alarms of a folder of checkpoints are told, and how.
//!
//! Told is each kind of alarm when it begins, again once a `repeat` while it lasts, and once that all is in order. What begins anew
//! within an hour after it was told is no news: a file system that comes and goes must not fill a mailbox. What was told is an event,
//! so that a restart tells nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use serde_json::json;

use super::records::{CheckpointRecord, EventRecord};
use crate::{
    delivery::Letter,
    error::Result,
    page,
    rows::{Rows, has_result, literal},
    window::{DAY_US, HOUR_US, time_literal, time_text},
};

/// Name of the event at receivers of webhooks.
pub const EVENT: &str = "checkpoint-alarm";
/// Kinds of rows of `events`.
const ALARMED: &str = "checkpoint_alarm";
const IN_ORDER: &str = "checkpoint_in_order";
/// How long what was told and ended is no news when it begins again.
const QUIET_US: i64 = HOUR_US;
/// Looks at folders that an answer takes for current.
const CURRENT_US: i64 = 2 * DAY_US;
/// Folders of one answer.
const FOLDERS_MAX: usize = 100;

/// What is to be told after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing new.
    None,
    /// Something is wrong.
    Alarm,
    /// What was wrong is in order.
    InOrder,
}

/// What was told of one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmMemory {
    /// When each kind of alarm was last told, UTC microseconds.
    told: BTreeMap<String, i64>,
    /// Whether an alarm was told after the last time that all was in order.
    is_open: bool,
}

impl AlarmMemory {
    /// What was told of `folder` before this process began.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn load(ctx: &SessionContext, folder: &str) -> Result<Self> {
        if !has_result(ctx, EventRecord::TABLE) {
            return Ok(Self::default());
        }
        let query = format!(
            "SELECT kind, detail FROM reports.{} WHERE source = 'checkpoints' AND subject = {} ORDER BY time DESC LIMIT 1",
            EventRecord::TABLE,
            literal(folder)
        );
        let rows = Rows::query(ctx, &query).await?;
        let last = rows.texts("kind")?.into_iter().flatten().next();
        let detail = rows.texts("detail")?.into_iter().flatten().next();
        // Of a row of another version nothing is known, so it is told again.
        let told = detail.and_then(|detail| serde_json::from_str(&detail).ok()).unwrap_or_default();
        Ok(Self { told, is_open: last.as_deref() == Some(ALARMED) })
    }

    /// What a look that found alarms of `kinds` at `now_us` is news of.
    pub fn news(&self, kinds: &BTreeSet<&'static str>, now_us: i64, repeat: Duration) -> News {
        if kinds.is_empty() {
            return if self.is_open { News::InOrder } else { News::None };
        }
        let repeat_us = i64::try_from(repeat.as_micros()).unwrap_or(i64::MAX);
        let old_us = if self.is_open { repeat_us } else { QUIET_US.min(repeat_us) };
        let is_new = |kind: &&str| self.told.get(*kind).is_none_or(|told_us| now_us - told_us >= old_us);
        if kinds.iter().any(is_new) { News::Alarm } else { News::None }
    }

    /// Keeps in mind, and writes, that `news` of the look `record` was told.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remember(&mut self, store: &Store, news: News, record: &CheckpointRecord) -> Result<()> {
        self.note(news, record);
        let (kind, text) = match news {
            News::None => return Ok(()),
            News::Alarm => (ALARMED, record.alarms.join("; ")),
            News::InOrder => (IN_ORDER, "checkpoints are in order again".to_owned()),
        };
        let row = EventRecord {
            time_us: record.time_us,
            not_before_us: record.time_us,
            received_us: record.time_us,
            source: "checkpoints",
            kind,
            subject: record.folder.clone(),
            text,
            detail: Some(json!(self.told).to_string()),
            ..EventRecord::default()
        };
        store.write_result(EventRecord::TABLE, EventRecord::to_batch(&[row])?).await?;
        Ok(())
    }

    fn note(&mut self, news: News, record: &CheckpointRecord) {
        match news {
            News::None => {}
            News::Alarm => {
                self.is_open = true;
                self.told.retain(|kind, _| record.kinds.contains(kind.as_str()));
                self.told.extend(record.kinds.iter().map(|kind| ((*kind).to_owned(), record.time_us)));
            }
            News::InOrder => self.is_open = false,
        }
    }
}

/// The letter of `news` about the look `record`; none where there is nothing to tell.
pub fn letter(news: News, record: &CheckpointRecord, to: Vec<String>, webhooks: Vec<String>) -> Option<Letter> {
    let folder = record.folder.replace(char::is_control, " ");
    let newest = match (&record.newest_path, record.newest_modified_us) {
        (Some(path), Some(modified_us)) => format!("newest checkpoint: {path}, changed {}", time_text(modified_us)),
        _ => "newest checkpoint: none is known".to_owned(),
    };
    let (subject, text) = match news {
        News::None => return None,
        News::Alarm => {
            let mut lines: Vec<String> = vec![format!("Checkpoints in {folder} are not in order:"), String::new()];
            lines.extend(record.alarms.iter().map(|alarm| format!("- {alarm}")));
            lines.extend([
                String::new(),
                newest,
                String::new(),
                "What to do: look whether the training still runs and where it writes, and whether the disk has room."
                    .to_owned(),
            ]);
            (format!("checkpoints in {folder}: {}", record.alarms.first()?), lines.join("\n") + "\n")
        }
        News::InOrder => (
            format!("checkpoints in {folder} are in order again"),
            format!("Checkpoints in {folder} are in order again.\n\n{newest}\n"),
        ),
    };
    let subject = subject.replace(char::is_control, " ");
    let result = json!({
        "folder": record.folder, "alarms": record.alarms, "newest_path": record.newest_path, "age_us": record.age_us,
        "schedule_us": record.schedule_us, "file_count": record.file_count,
    });
    let html = page::of_text(&subject, &text);
    Some(Letter { to, webhooks, event: EVENT, subject, text, html, attachments: Vec::new(), result })
}

/// Alarms by folder at the last look before `at_us`, of folders that were looked at in the two days before.
///
/// # Errors
/// Those of the query.
pub async fn current(ctx: &SessionContext, at_us: i64) -> Result<BTreeMap<String, Vec<String>>> {
    if !has_result(ctx, CheckpointRecord::TABLE) {
        return Ok(BTreeMap::new());
    }
    let query = format!(
        "SELECT folder, alarms FROM (SELECT DISTINCT ON (folder) folder, alarms, alarm_count FROM reports.{} \
         WHERE time > {} AND time <= {} ORDER BY folder, time DESC) WHERE alarm_count > 0 ORDER BY folder LIMIT {FOLDERS_MAX}",
        CheckpointRecord::TABLE,
        time_literal(at_us - CURRENT_US),
        time_literal(at_us)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (folders, alarms) = (rows.texts("folder")?, rows.texts("alarms")?);
    let row = |at: usize| {
        let alarms: Vec<String> = serde_json::from_str(alarms[at].as_deref()?).ok()?;
        Some((folders[at].clone()?, alarms))
    };
    Ok((0..rows.len()).filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(kinds: &[&'static str], minute: i64) -> CheckpointRecord {
        let mut record = CheckpointRecord::unreadable("/models/a", "x".into(), minute * 60_000_000);
        record.kinds = kinds.iter().copied().collect();
        record.alarms = kinds.iter().map(|kind| format!("it is {kind}")).collect();
        record
    }

    /// News of looks at minutes, a day between two tellings of the same.
    fn news(looks: &[(i64, &[&'static str])]) -> Vec<News> {
        let mut memory = AlarmMemory::default();
        looks
            .iter()
            .map(|(minute, kinds)| {
                let record = look(kinds, *minute);
                let news = memory.news(&record.kinds, record.time_us, Duration::from_secs(86_400));
                memory.note(news, &record);
                news
            })
            .collect()
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_once_a_day_and_when_it_ends() {
        use News::{Alarm, InOrder, None};
        assert_eq!(
            news(&[(0, &[]), (15, &["stale"]), (30, &["stale"]), (45, &[]), (60, &[])]),
            [None, Alarm, None, InOrder, None]
        );
        let day = 24 * 60;
        assert_eq!(
            news(&[(0, &["stale"]), (day - 1, &["stale"]), (day, &["stale"]), (day + 1, &["stale"])]),
            [Alarm, None, Alarm, None]
        );
        // Another kind is news although as many things are wrong as before; one less is not.
        assert_eq!(
            news(&[(0, &["stale"]), (15, &["empty"]), (30, &["empty", "stale"]), (45, &["stale"])]),
            [Alarm, Alarm, Alarm, None]
        );
        // What comes and goes is told once an hour; what stops anew later is told.
        let swinging =
            news(&[(0, &["unreadable"]), (15, &[]), (30, &["unreadable"]), (45, &[]), (75, &["unreadable"])]);
        assert_eq!(swinging, [Alarm, InOrder, None, None, Alarm]);
    }

    #[test]
    fn a_letter_says_what_is_wrong_and_cannot_be_broken_out_of() {
        let mut record = look(&["stale"], 5);
        record.folder = "/models/\r\nBcc: x".into();
        let told = letter(News::Alarm, &record, vec!["a@b.example".into()], vec![]).unwrap();
        assert!(told.subject.contains("it is stale") && !told.subject.contains(char::is_control), "{}", told.subject);
        assert!(told.text.contains("- it is stale") && told.text.contains("What to do"), "{}", told.text);
        assert!(letter(News::None, &record, vec![], vec![]).is_none());
    }
}
