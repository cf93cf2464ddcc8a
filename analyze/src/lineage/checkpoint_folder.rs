//! `[[lineage.checkpoints]]`: a folder that is watched, and its listing.
//!
//! Links are not followed, and nothing is opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;

use super::{
    checkpoint::{CheckpointFile, CheckpointRules, examine},
    records::CheckpointRecord,
};
use crate::{delivery::DeliveryError, duration_setting::duration};

/// Files of one folder that are listed.
const FILES_MAX: usize = 100_000;
/// Folders below it that are entered.
const DEPTH_MAX: usize = 16;

/// `[[lineage.checkpoints]]` as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCheckpointFolder {
    /// Path of the folder.
    pub folder: PathBuf,
    /// How often a checkpoint is due. Default what the files keep to, else `1h`.
    pub schedule: Option<String>,
    /// Ages of the newest file beyond this many schedules alarm, 1 to 1 000. Default 2.
    pub age_schedules_max: Option<f64>,
    /// Time from one look to the next. Default `15m`.
    pub interval: Option<String>,
    /// `service.name` of the service whose model is trained; its lineage alone shows what is wrong. Default all services.
    pub service: Option<String>,
    /// Who is told: a name of `[delivery.owners]`, or an address that mail may go to. Default `delivery.mail.to`.
    pub owner: Option<String>,
    /// Time after which an alarm that lasts is told again. Default `24h`.
    pub repeat: Option<String>,
}

/// A folder that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointFolder {
    /// Its path.
    pub folder: PathBuf,
    /// Time from one look to the next.
    pub interval: Duration,
    /// Who is told; none is whoever gets mail.
    pub owner: Option<String>,
    /// Time after which an alarm that lasts is told again.
    pub repeat: Duration,
    rules: CheckpointRules,
}

impl RawCheckpointFolder {
    /// Checks the settings; the folder may come later.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do.
    pub fn validate(self) -> Result<CheckpointFolder, DeliveryError> {
        let refuse = |key: &str, reason: String| {
            Err(DeliveryError::Setting { setting: format!("lineage.checkpoints.{key}"), reason })
        };
        if self.folder.as_os_str().is_empty() {
            return refuse("folder", "is empty; name the folder that the training writes to".to_owned());
        }
        let usual = CheckpointRules::default();
        let age_schedules_max = self.age_schedules_max.unwrap_or(usual.age_schedules_max);
        if !(1.0..=1_000.0).contains(&age_schedules_max) {
            return refuse("age_schedules_max", format!("is {age_schedules_max}; write 1 to 1000"));
        }
        let schedule = self.schedule.as_deref();
        let schedule_us = match schedule {
            None => None,
            Some(_) => {
                let schedule = duration("lineage.checkpoints.schedule", schedule, Duration::ZERO)?;
                Some(i64::try_from(schedule.as_micros()).unwrap_or(i64::MAX))
            }
        };
        let interval = duration("lineage.checkpoints.interval", self.interval.as_deref(), Duration::from_secs(900))?;
        if interval < Duration::from_secs(1) {
            return refuse("interval", "is below 1s; each look lists the whole folder".to_owned());
        }
        let repeat = duration("lineage.checkpoints.repeat", self.repeat.as_deref(), Duration::from_secs(86_400))?;
        Ok(CheckpointFolder {
            folder: self.folder,
            interval,
            owner: self.owner,
            repeat,
            rules: CheckpointRules { schedule_us, age_schedules_max, ..usual },
        })
    }
}

impl CheckpointFolder {
    /// Lists and examines the folder at `now_us`, UTC microseconds. Blocks while the file system answers.
    pub fn look(&self, now_us: i64) -> CheckpointRecord {
        let name = self.folder.display().to_string();
        match list(&self.folder) {
            Ok(files) => CheckpointRecord::of_state(&name, &examine(&files, &self.rules, now_us), files.len(), now_us),
            Err(error) => CheckpointRecord::unreadable(&name, format!("the folder cannot be read: {error}"), now_us),
        }
    }
}

fn list(folder: &Path) -> io::Result<Vec<CheckpointFile>> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((inner, depth)) = open.pop() {
        let entries = match fs::read_dir(&inner) {
            Ok(entries) => entries,
            // A folder of a checkpoint that was cleared away while it was listed.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() && depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            }
            if !metadata.is_file() {
                continue;
            }
            if files.len() == FILES_MAX {
                let reason = format!("more than {FILES_MAX} files: name a folder further down");
                return Err(io::Error::other(reason));
            }
            files.push(file(folder, &entry.path(), &metadata)?);
        }
    }
    Ok(files)
}

fn file(folder: &Path, path: &Path, metadata: &fs::Metadata) -> io::Result<CheckpointFile> {
    let modified = metadata.modified()?;
    let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let modified_us = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    };
    let below = path.strip_prefix(folder).unwrap_or(path);
    Ok(CheckpointFile { path: below.to_string_lossy().into_owned(), modified_us, size_bytes: metadata.len() })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn checked(text: &str) -> Result<CheckpointFolder, DeliveryError> {
        toml::from_str::<RawCheckpointFolder>(text).unwrap().validate()
    }

    #[test]
    fn settings_have_defaults_and_say_what_is_wrong() {
        let folder = checked("folder = \"/models\"").unwrap();
        assert_eq!((folder.interval.as_secs(), folder.rules.schedule_us), (900, None));
        assert_eq!(checked("folder = \"/m\"\nschedule = \"6h\"").unwrap().rules.schedule_us, Some(21_600_000_000));
        for (text, words) in [
            ("folder = \"\"", "folder"),
            ("folder = \"/m\"\nschedule = \"often\"", "schedule"),
            ("folder = \"/m\"\nage_schedules_max = 0.5", "age_schedules_max"),
            ("folder = \"/m\"\ninterval = \"1ms\"", "interval"),
        ] {
            let error = checked(text).unwrap_err().to_string();
            assert!(error.contains(&format!("lineage.checkpoints.{words}")), "{error}");
        }
    }

    #[test]
    fn a_folder_is_listed_to_its_leaves_and_its_age_is_that_of_the_newest_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = checked(&format!("folder = {:?}\nschedule = \"1h\"", dir.path())).unwrap();
        let now_us = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let empty = folder.look(now_us);
        assert!(empty.file_count == Some(0) && empty.alarms[0].contains("no checkpoint"), "{empty:?}");
        fs::create_dir_all(dir.path().join("step_1")).unwrap();
        fs::write(dir.path().join("step_1/model_a_v1.0.pt"), [7; 64]).unwrap();
        let fresh = folder.look(now_us + 1_000_000);
        assert_eq!((fresh.newest_path.as_deref(), fresh.newest_size_bytes), (Some("step_1/model_a_v1.0.pt"), Some(64)));
        assert_eq!(fresh.alarms, [] as [&str; 0]);
        let late = folder.look(now_us + 3 * 3_600_000_000);
        assert!(late.alarms[0].contains("more than 2.0 h"), "{late:?}");
        let gone = checked("folder = \"/no/such/folder\"").unwrap().look(now_us);
        assert!(gone.file_count.is_none() && gone.alarms[0].contains("cannot be read"), "{gone:?}");
    }
}
