//! `[[gates.watch]]`: a folder whose files are checked when they are there, and its listing.
//!
//! Folders in it and links are passed over, and so are names that writers give to what is not finished.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use regex::Regex;
use serde::Deserialize;

use crate::{delivery::DeliveryError, duration_setting::duration};

/// Files of one folder that are listed.
const FILES_MAX: usize = 10_000;
/// Watched folders.
const FOLDERS_MAX: usize = 100;
/// What nobody has finished yet begins or ends so.
const UNFINISHED_STARTS: [&str; 2] = [".", "_"];
const UNFINISHED_ENDS: [&str; 5] = [".tmp", ".part", ".partial", ".crdownload", ".inprogress"];

/// `[[gates.watch]]` as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWatchedFolder {
    name: String,
    folder: PathBuf,
    /// Names of the files, with `*` and `?`. Default `*`.
    pattern: Option<String>,
    contract: PathBuf,
    table: Option<String>,
    /// Files of other tables that rules refer to, by the name of the table.
    #[serde(default)]
    reference: BTreeMap<String, PathBuf>,
    /// Where usable batches go. Default: they stay.
    destination: Option<PathBuf>,
    /// Where the others go, with their report. Default: they stay.
    quarantine: Option<PathBuf>,
    /// For how long a file must not change before it is checked. Default `30s`.
    settle: Option<String>,
    /// Time from one look to the next. Default `10s`.
    interval: Option<String>,
    to: Option<Vec<String>>,
    #[serde(default)]
    webhooks: Vec<String>,
}

/// A folder that is watched.
#[derive(Debug, Clone)]
pub struct WatchedFolder {
    /// What logs and tables call it.
    pub name: String,
    /// Its path.
    pub folder: PathBuf,
    /// Names of its files, as written.
    pub pattern: String,
    /// File of the contract, ODCS, read at each check.
    pub contract: PathBuf,
    /// The table of the contract, where it has several.
    pub table: Option<String>,
    /// Files of other tables that rules refer to, by the name of the table.
    pub reference: BTreeMap<String, PathBuf>,
    /// Where usable batches go; none leaves them.
    pub destination: Option<PathBuf>,
    /// Where the others go, with their report; none leaves them.
    pub quarantine: Option<PathBuf>,
    /// For how long a file must not change before it is checked.
    pub settle: Duration,
    /// Time from one look to the next.
    pub interval: Duration,
    /// Who is told instead of the owner of the contract.
    pub to: Option<Vec<String>>,
    /// Webhooks that are told, by name.
    pub webhooks: Vec<String>,
    names: Regex,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivedFile {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last changed, as its file system says: nanoseconds since 1970.
    pub modified_ns: i128,
}

impl fmt::Display for ArrivedFile {
    /// What tells it from another one and from what it was before: `train.csv 900 bytes of 1795024800.000000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let (seconds, nanos) = (self.modified_ns.div_euclid(1_000_000_000), self.modified_ns.rem_euclid(1_000_000_000));
        write!(f, "{name} {} bytes of {seconds}.{nanos:09}", self.size_bytes)
    }
}

impl RawWatchedFolder {
    /// Checks the settings; the folder may come later.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do.
    pub fn validate(self) -> Result<WatchedFolder, DeliveryError> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(is_inner) {
            let reason = "is no name; write 1 to 64 letters, digits, '-' and '_', such as \"training\"";
            return refuse("name", format!("{:?} {reason}", self.name));
        }
        if self.folder.as_os_str().is_empty() {
            return refuse("folder", "is empty; name the folder that batches come to".to_owned());
        }
        for (key, other) in [("destination", &self.destination), ("quarantine", &self.quarantine)] {
            let same = |other: &PathBuf| std::path::absolute(other).ok() == std::path::absolute(&self.folder).ok();
            if other.as_ref().is_some_and(same) {
                return refuse(
                    key,
                    "is the watched folder itself, so what is moved there would be checked again".to_owned(),
                );
            }
        }
        if self.destination.is_some() && self.destination == self.quarantine {
            return refuse(
                "quarantine",
                "is the destination: what may not be used would lie among the rest".to_owned(),
            );
        }
        let pattern = self.pattern.unwrap_or_else(|| "*".to_owned());
        let of_name = format!(r"(?s)\A{}\z", regex::escape(&pattern).replace(r"\*", ".*").replace(r"\?", "."));
        let Ok(names) = Regex::new(&of_name) else {
            return refuse("pattern", format!("{pattern:?} is too long; write one such as \"*.parquet\""));
        };
        let time = |key: &str, text: Option<&str>, usual: u64| {
            let setting = format!("gates.watch.{key}");
            let time = duration(&setting, text, Duration::from_secs(usual))?;
            match time >= Duration::from_secs(1) {
                true => Ok(time),
                false => Err(DeliveryError::Setting { setting, reason: "is below 1s".to_owned() }),
            }
        };
        Ok(WatchedFolder {
            settle: time("settle", self.settle.as_deref(), 30)?,
            interval: time("interval", self.interval.as_deref(), 10)?,
            name: self.name,
            folder: self.folder,
            pattern,
            contract: self.contract,
            table: self.table,
            reference: self.reference,
            destination: self.destination,
            quarantine: self.quarantine,
            to: self.to,
            webhooks: self.webhooks,
            names,
        })
    }
}

fn refuse<T>(key: &str, reason: String) -> Result<T, DeliveryError> {
    Err(DeliveryError::Setting { setting: format!("gates.watch.{key}"), reason })
}

impl WatchedFolder {
    /// Checks `[[gates.watch]]`, each and together; `taken` are the names of schedules, which share their tables.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`] of the first that is wrong.
    pub fn all(raw: &[RawWatchedFolder], taken: &[&str]) -> Result<Vec<Self>, DeliveryError> {
        if raw.len() > FOLDERS_MAX {
            return refuse("folder", format!("{} folders are watched; write {FOLDERS_MAX} at most", raw.len()));
        }
        let mut names: BTreeSet<String> = taken.iter().map(|name| (*name).to_owned()).collect();
        let mut folders = vec![];
        for raw in raw {
            let folder = raw.clone().validate()?;
            if !names.insert(folder.name.clone()) {
                return refuse(
                    "name",
                    format!("{:?} is used twice, here or by a [[schedule]]; rename one", folder.name),
                );
            }
            folders.push(folder);
        }
        Ok(folders)
    }

    /// The files that are there, the one that was changed first first. Blocks while the file system answers.
    ///
    /// # Errors
    /// The folder cannot be read, or has more than 10 000 files.
    pub fn look(&self) -> io::Result<Vec<ArrivedFile>> {
        let mut files = vec![];
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_unfinished = UNFINISHED_STARTS.iter().any(|start| name.starts_with(start))
                || UNFINISHED_ENDS.iter().any(|end| name.ends_with(end));
            if is_unfinished || !self.names.is_match(&name) {
                continue;
            }
            // Who renames or removes a file meanwhile does nothing wrong.
            let file = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => ArrivedFile::of(entry.path(), &metadata)?,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if files.len() == FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files: move away what was checked")));
            }
            files.push(file);
        }
        files.sort_by(|a, b| (a.modified_ns, &a.path).cmp(&(b.modified_ns, &b.path)));
        Ok(files)
    }
}

impl ArrivedFile {
    fn of(path: PathBuf, metadata: &fs::Metadata) -> io::Result<Self> {
        let modified_ns = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos().cast_signed(),
            Err(before) => -before.duration().as_nanos().cast_signed(),
        };
        Ok(Self { path, size_bytes: metadata.len(), modified_ns })
    }

    /// Whether it is still as it was when it was listed. Blocks while the file system answers.
    pub fn is_unchanged(&self) -> bool {
        let metadata = fs::symlink_metadata(&self.path);
        metadata.and_then(|metadata| Self::of(self.path.clone(), &metadata)).is_ok_and(|now| now == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(rest: &str) -> RawWatchedFolder {
        toml::from_str(&format!("name = \"a\"\nfolder = \"/in\"\ncontract = \"c.yaml\"\n{rest}")).unwrap()
    }

    #[test]
    fn settings_have_defaults_and_say_what_is_wrong() {
        let folder = raw("").validate().unwrap();
        assert_eq!((folder.settle.as_secs(), folder.interval.as_secs(), folder.pattern.as_str()), (30, 10, "*"));
        for (rest, key) in [
            ("settle = \"0s\"", "settle"),
            ("interval = \"10ms\"", "interval"),
            ("destination = \"/in\"", "destination"),
            ("quarantine = \"/in/\"", "quarantine"),
            ("quarantine = \"/out\"\ndestination = \"/out\"", "quarantine"),
        ] {
            let error = raw(rest).validate().unwrap_err().to_string();
            assert!(error.contains(&format!("gates.watch.{key}")), "{error}");
        }
        let twice = WatchedFolder::all(&[raw(""), raw("")], &[]).unwrap_err().to_string();
        assert!(twice.contains("used twice"), "{twice}");
        assert!(WatchedFolder::all(&[raw("")], &["a"]).is_err(), "a schedule has this name");
    }

    #[test]
    fn what_is_finished_and_of_the_pattern_is_found_in_the_order_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["b.csv", "a.csv", "c.json", ".d.csv", "_e.csv", "f.csv.part", "g.csv.tmp", "h-1.csv"];
        for (at, name) in names.into_iter().enumerate() {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000 + at as u64)).unwrap();
        }
        fs::create_dir(dir.path().join("folder.csv")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a.csv"), dir.path().join("link.csv")).unwrap();
        let of = |pattern: &str| {
            let text = format!("name = \"a\"\nfolder = {:?}\ncontract = \"c\"\npattern = {pattern:?}", dir.path());
            let folder = toml::from_str::<RawWatchedFolder>(&text).unwrap().validate().unwrap();
            let names = folder.look().unwrap().into_iter();
            names.map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("*.csv"), ["b.csv", "a.csv", "h-1.csv"]);
        assert_eq!(of("?.csv"), ["b.csv", "a.csv"]);
        assert_eq!(of("[ab].csv"), [] as [&str; 0], "only * and ? stand for something");
        let folder = raw("").validate().unwrap();
        assert!(WatchedFolder { folder: dir.path().join("none"), ..folder }.look().is_err());
    }

    #[test]
    fn a_file_is_another_once_it_was_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("name = \"a\"\nfolder = {:?}\ncontract = \"c\"", dir.path());
        let folder = toml::from_str::<RawWatchedFolder>(&text).unwrap().validate().unwrap();
        fs::write(dir.path().join("a.csv"), "id\n1\n").unwrap();
        let before = folder.look().unwrap().remove(0);
        assert!(before.is_unchanged() && before.to_string().starts_with("a.csv 5 bytes of "), "{before}");
        fs::write(dir.path().join("a.csv"), "id\n1\n2\n").unwrap();
        assert!(!before.is_unchanged());
        assert_ne!(folder.look().unwrap()[0].to_string(), before.to_string());
        fs::remove_file(dir.path().join("a.csv")).unwrap();
        assert!(!before.is_unchanged());
    }
}
