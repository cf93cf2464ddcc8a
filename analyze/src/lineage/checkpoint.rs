//! Folders of checkpoints, watched by their listings: is the newest one fresh, whole and named well?
//!
//! A listing is (path, time of change, bytes); nothing is opened. The schedule is the one that a person set, else the
//! usual distance of the files, else hourly, and it is told which of the three it was.

use chrono::DateTime;

use super::artifact_name::ArtifactName;
use crate::window::{HOUR_US, MINUTE_US};

/// Files of one kind of alarm that are named, the newest.
const FILES_NAMED_MAX: usize = 10;
/// Files from which a schedule is inferred.
const INFER_FILES_MIN: usize = 5;
/// An interval between files counts as usual if it lies within this factor of the median.
const USUAL_FACTOR: f64 = 1.5;
/// Share of intervals that must be usual.
const USUAL_SHARE_MIN: f64 = 0.8;
/// A checkpoint smaller than this share of the median before it has shrunk.
const SHRUNK_SHARE: f64 = 0.5;
/// Files before the newest one that its size is compared with.
const SIZE_FILES_MAX: usize = 10;

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Path below the folder.
    pub path: String,
    /// Time of change, UTC microseconds.
    pub modified_us: i64,
    /// Bytes.
    pub size_bytes: u64,
}

/// Settings of one watched folder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointRules {
    /// How often a checkpoint is due, microseconds; `None` to infer it.
    pub schedule_us: Option<i64>,
    /// Ages of the newest file beyond this many schedules alarm. Default 2.
    pub age_schedules_max: f64,
    /// A time of change further ahead than this is wrong, microseconds. Default 1 minute.
    pub clock_ahead_us_max: i64,
}

impl Default for CheckpointRules {
    fn default() -> Self {
        Self { schedule_us: None, age_schedules_max: 2.0, clock_ahead_us_max: 60_000_000 }
    }
}

/// Where the schedule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleSource {
    /// A person set it.
    Set,
    /// The usual distance of the files.
    Inferred,
    /// Hourly, because there are too few files or they come irregularly.
    Default,
}

/// What is wrong in a folder.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointAlarm {
    /// Nothing to watch.
    #[error("no checkpoint in the folder: is the path right, and does the training write there?")]
    NoFile,
    /// The newest file is too old.
    #[error("newest checkpoint {path} is {age_hours:.1} h old, more than {limit_hours:.1} h")]
    Stale {
        /// The newest file.
        path: String,
        /// Its age.
        age_hours: f64,
        /// The limit in force.
        limit_hours: f64,
    },
    /// Without content.
    #[error("checkpoint {path} is empty: was the writer killed or the disk full?")]
    Empty {
        /// The file.
        path: String,
    },
    /// Much smaller than those before it.
    #[error("checkpoint {path} has {size_bytes} bytes where {usual_bytes} are usual: was it cut off?")]
    Shrunk {
        /// The newest file.
        path: String,
        /// Its bytes.
        size_bytes: u64,
        /// Median of those before it.
        usual_bytes: u64,
    },
    /// A time of change in the future.
    #[error("checkpoint {path} was changed {ahead_seconds} s in the future: set the clocks by NTP; its age is unknown")]
    ClockAhead {
        /// The file.
        path: String,
        /// By how much.
        ahead_seconds: i64,
    },
    /// A name that does not follow the grammar.
    #[error("checkpoint {path}: {wrong}")]
    OddName {
        /// The file.
        path: String,
        /// What is wrong, joined by `; `.
        wrong: String,
    },
    /// The date in the name is after the change of the file.
    #[error("checkpoint {path} carries a date {days} days after its last change")]
    DateAhead {
        /// The file.
        path: String,
        /// Days between the two.
        days: i64,
    },
}

impl CheckpointAlarm {
    /// What kind it is, whatever file it is about.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoFile => "no_file",
            Self::Stale { .. } => "stale",
            Self::Empty { .. } => "empty",
            Self::Shrunk { .. } => "shrunk",
            Self::ClockAhead { .. } => "clock_ahead",
            Self::OddName { .. } => "odd_name",
            Self::DateAhead { .. } => "date_ahead",
        }
    }
}

/// State of one folder.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointState {
    /// The newest file whose time is believed; `None` where there is none.
    pub newest: Option<CheckpointFile>,
    /// Age of it, microseconds.
    pub age_us: Option<i64>,
    /// How often a checkpoint is due, microseconds.
    pub schedule_us: i64,
    /// Where that comes from.
    pub schedule_source: ScheduleSource,
    /// What is wrong: age first, then by file, the newest first.
    pub alarms: Vec<CheckpointAlarm>,
}

/// Examines the listing of one folder at `now_us`, UTC microseconds.
pub fn examine(files: &[CheckpointFile], rules: &CheckpointRules, now_us: i64) -> CheckpointState {
    let mut newest_first: Vec<&CheckpointFile> = files.iter().collect();
    newest_first
        .sort_by(|left, right| right.modified_us.cmp(&left.modified_us).then_with(|| left.path.cmp(&right.path)));
    let (ahead, believed): (Vec<&CheckpointFile>, Vec<&CheckpointFile>) =
        newest_first.iter().partition(|file| file.modified_us - now_us > rules.clock_ahead_us_max);
    let (schedule_us, schedule_source) = schedule(&believed, rules.schedule_us);
    let newest = believed.first().map(|&file| file.clone());
    let age_us = newest.as_ref().map(|file| (now_us - file.modified_us).max(0));
    let mut alarms = Vec::new();
    match (&newest, age_us) {
        (Some(file), Some(age_us)) => {
            alarms.extend(stale(file, age_us, schedule_us as f64 * rules.age_schedules_max));
        }
        _ => alarms.push(CheckpointAlarm::NoFile),
    }
    alarms.extend(ahead.iter().take(FILES_NAMED_MAX).map(|file| CheckpointAlarm::ClockAhead {
        path: file.path.clone(),
        ahead_seconds: (file.modified_us - now_us) / 1_000_000,
    }));
    alarms.extend(sizes(&believed));
    alarms.extend(newest.as_ref().and_then(odd_name));
    CheckpointState { newest, age_us, schedule_us, schedule_source, alarms }
}

fn schedule(newest_first: &[&CheckpointFile], set_us: Option<i64>) -> (i64, ScheduleSource) {
    if let Some(set_us) = set_us.filter(|&set_us| set_us > 0) {
        return (set_us, ScheduleSource::Set);
    }
    // Files of one checkpoint (shards, optimiser) are written one after the other; its time is that of its first file.
    let mut times: Vec<i64> = newest_first.iter().map(|file| file.modified_us).collect();
    times.dedup_by(|older, newer| {
        let is_same = *newer - *older < MINUTE_US;
        if is_same {
            *newer = *older;
        }
        is_same
    });
    let mut intervals: Vec<i64> = times.windows(2).map(|pair| pair[0] - pair[1]).collect();
    intervals.sort_unstable();
    if times.len() < INFER_FILES_MIN {
        return (HOUR_US, ScheduleSource::Default);
    }
    let median = intervals[intervals.len() / 2];
    let usual = |&&interval: &&i64| {
        let ratio = interval as f64 / median as f64;
        (1.0 / USUAL_FACTOR..=USUAL_FACTOR).contains(&ratio)
    };
    let usual_share = intervals.iter().filter(usual).count() as f64 / intervals.len() as f64;
    if usual_share >= USUAL_SHARE_MIN { (median, ScheduleSource::Inferred) } else { (HOUR_US, ScheduleSource::Default) }
}

fn stale(file: &CheckpointFile, age_us: i64, limit_us: f64) -> Option<CheckpointAlarm> {
    let hours = |us: f64| us / HOUR_US as f64;
    (age_us as f64 > limit_us).then(|| CheckpointAlarm::Stale {
        path: file.path.clone(),
        age_hours: hours(age_us as f64),
        limit_hours: hours(limit_us),
    })
}

/// Empty files, and a newest one much smaller than the same part of the checkpoints before it.
fn sizes(newest_first: &[&CheckpointFile]) -> Vec<CheckpointAlarm> {
    let empty = newest_first.iter().filter(|file| file.size_bytes == 0);
    let mut alarms: Vec<CheckpointAlarm> =
        empty.take(FILES_NAMED_MAX).map(|file| CheckpointAlarm::Empty { path: file.path.clone() }).collect();
    let Some((newest, before)) = newest_first.split_first() else { return alarms };
    // `model-00001` meets `model-00002`, and `optimizer.pt` only `optimizer.pt`.
    let part = |file: &CheckpointFile| -> String {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
    };
    let own = part(newest);
    let whole = before.iter().filter(|file| file.size_bytes > 0 && part(file) == own).take(SIZE_FILES_MAX);
    let mut usual: Vec<u64> = whole.map(|file| file.size_bytes).collect();
    usual.sort_unstable();
    let shrunk = |usual_bytes: u64| (newest.size_bytes as f64) < usual_bytes as f64 * SHRUNK_SHARE;
    if let Some(&usual_bytes) =
        usual.get(usual.len() / 2).filter(|&&usual_bytes| newest.size_bytes > 0 && shrunk(usual_bytes))
    {
        let (path, size_bytes) = (newest.path.clone(), newest.size_bytes);
        alarms.push(CheckpointAlarm::Shrunk { path, size_bytes, usual_bytes });
    }
    alarms
}

fn odd_name(file: &CheckpointFile) -> Option<CheckpointAlarm> {
    let name = ArtifactName::parse(&file.path);
    if !name.oddities.is_empty() {
        let wrong = name.oddities.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Some(CheckpointAlarm::OddName { path: file.path.clone(), wrong });
    }
    let changed = DateTime::from_timestamp_micros(file.modified_us)?.date_naive();
    // One day of grace: the name may carry the date of another time zone.
    match name.age_days(changed) {
        Err(super::artifact_name::AgeError::InFuture { days }) if days > 1 => {
            Some(CheckpointAlarm::DateAhead { path: file.path.clone(), days })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-08-01T00:00:00Z.
    const START_US: i64 = 1_722_470_400_000_000;

    fn file(hour: f64, size_bytes: u64) -> CheckpointFile {
        let modified_us = START_US + (hour * HOUR_US as f64) as i64;
        CheckpointFile { path: format!("model_a_v1.{}_20240801.pt", (hour * 4.0) as i64), modified_us, size_bytes }
    }

    fn at_hour(files: &[CheckpointFile], hour: f64) -> CheckpointState {
        examine(files, &CheckpointRules::default(), START_US + (hour * HOUR_US as f64) as i64)
    }

    #[test]
    fn two_schedules_without_a_checkpoint_alarm() {
        let files = [file(0.0, 100)];
        assert_eq!(at_hour(&files, 2.0).alarms, []);
        let late = at_hour(&files, 2.5);
        assert_eq!((late.schedule_us, late.schedule_source), (HOUR_US, ScheduleSource::Default));
        assert_eq!(
            late.alarms[0].to_string(),
            "newest checkpoint model_a_v1.0_20240801.pt is 2.5 h old, more than 2.0 h"
        );
    }

    #[test]
    fn the_schedule_is_what_the_files_keep_to() {
        let files: Vec<CheckpointFile> = (0..6).map(|index| file(f64::from(index) * 0.25, 100)).collect();
        let state = at_hour(&files, 1.5);
        assert_eq!((state.schedule_us, state.schedule_source), (HOUR_US / 4, ScheduleSource::Inferred));
        assert_eq!(state.alarms, []);
        assert!(matches!(at_hour(&files, 1.8).alarms[..], [CheckpointAlarm::Stale { .. }]));

        let irregular: Vec<CheckpointFile> = [0.0, 0.25, 3.0, 3.25, 9.0].map(|hour| file(hour, 100)).into();
        assert_eq!(at_hour(&irregular, 9.0).schedule_source, ScheduleSource::Default);

        let rules = CheckpointRules { schedule_us: Some(HOUR_US * 24), ..CheckpointRules::default() };
        let daily = examine(&files, &rules, START_US + 40 * HOUR_US);
        assert_eq!((daily.schedule_source, daily.alarms), (ScheduleSource::Set, vec![]));
    }

    #[test]
    fn parts_of_one_checkpoint_are_one_in_time_and_compared_with_their_like() {
        let part = |hour: i64, second: i64, path: &str, size_bytes| CheckpointFile {
            path: format!("step_{hour}/{path}"),
            modified_us: START_US + hour * HOUR_US + second * 1_000_000,
            size_bytes,
        };
        let files: Vec<CheckpointFile> = (0..8)
            .flat_map(|hour| {
                let shard = move |at: i64| part(hour, at * 2, &format!("model_a_v1-{at:05}.pt"), 2_000_000);
                (0..10).map(shard).chain([part(hour, 20, "scheduler_v1.pt", 1_000)])
            })
            .collect();
        let state = at_hour(&files, 7.5);
        assert_eq!((state.schedule_us, state.schedule_source), (HOUR_US, ScheduleSource::Inferred));
        assert_eq!(state.alarms, []);
    }

    #[test]
    fn empty_and_shrunk_files_alarm() {
        let files = [file(0.0, 100), file(0.5, 0), file(0.75, 110), file(1.0, 40)];
        let said: Vec<String> = at_hour(&files, 1.0).alarms.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("v1.2_20240801.pt is empty"), "{said:?}");
        assert!(said[1].contains("has 40 bytes where 110 are usual"), "{said:?}");
    }

    #[test]
    fn nothing_odd_names_and_clocks_ahead_are_told() {
        assert_eq!(at_hour(&[], 1.0).alarms, [CheckpointAlarm::NoFile]);
        let odd = CheckpointFile { path: "last.ckpt".to_owned(), ..file(0.0, 1) };
        assert!(at_hour(&[odd], 1.0).alarms[0].to_string().contains("last.ckpt: no version"));
        let dated = CheckpointFile { path: "model_a_v1_20240901.pt".to_owned(), ..file(0.0, 1) };
        assert!(at_hour(&[dated], 1.0).alarms[0].to_string().contains("31 days after its last change"));
        let ahead = at_hour(&[file(0.0, 1), file(5.0, 1)], 1.0);
        assert_eq!(ahead.newest, Some(file(0.0, 1)));
        assert!(ahead.alarms[0].to_string().contains("14400 s in the future"), "{:?}", ahead.alarms);
    }
}
