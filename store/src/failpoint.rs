//! Failpoints: named places before and after every write, sync, rename, commit and delete of the store, where a test ends
//! the process or has the operation fail.
//!
//! A test hook. Off unless `DRIFTWATT_FAILPOINT` is set when a store is opened; then the server warns. Off, passing one
//! costs one relaxed atomic load. The variable is a list, with commas, of `point[:nth][=action]`, for example
//! `wal.before_sync:3=error`:
//!
//! - `nth` is the time that it acts, counted from the start of the process; 1 by default. It acts once.
//! - `kill` (default) ends the process with SIGKILL; `error` returns EIO, `enospc` returns ENOSPC; `sleep:MS` waits.
//! - `checkpoint_interval=N` in the list has the tables write a checkpoint every N versions and shorten
//!   their log at once, so that a test need not make a hundred and wait an hour.
//!
//! A new place in the store is one line in the list below and one `failpoint::hit(Failpoint::…, &path)?` in the code; the
//! crash matrix (`tests/it/crash_matrix.rs`) does not compile until it says how the place is reached.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, abort, id},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use crate::error::{Error, Result};

const VARIABLE: &str = "DRIFTWATT_FAILPOINT";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// One list for the enum, its names and [`Failpoint::ALL`], so that none can be forgotten.
macro_rules! failpoints {
    ($($variant:ident = $name:literal: $what:literal,)+) => {
        /// A place where a test can end the process or fail an operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Failpoint {
            $(#[doc = $what] $variant,)+
        }

        impl Failpoint {
            /// Every failpoint.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in `DRIFTWATT_FAILPOINT`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

failpoints! {
    WalBeforeCreate = "wal.before_create": "A segment is about to be created.",
    WalCreated = "wal.created": "The segment exists and is empty.",
    WalHeaderWritten = "wal.header_written": "The segment has its header, not synced.",
    WalBeforeWrite = "wal.before_write": "A group of records is about to be written.",
    WalMidWrite = "wal.mid_write": "Half of the group's bytes are written.",
    WalBeforeCutBack = "wal.before_cut_back": "A group found no space; what is written of it is about to be cut off.",
    WalAfterCutBack = "wal.after_cut_back": "It is cut off, not synced.",
    WalBeforeSync = "wal.before_sync": "The group is written, not synced.",
    WalAfterSync = "wal.after_sync": "The group is synced, not applied and not answered.",
    WalBeforeRotate = "wal.before_rotate": "The active segment is about to be closed for a flush.",
    WalAfterRotate = "wal.after_rotate": "The active segment is closed, its memtable not sealed.",
    WalBeforeRemove = "wal.before_remove": "A segment that the tables hold is about to be removed.",
    WalAfterRemove = "wal.after_remove": "It is removed, the folder not synced.",
    WalBeforeCut = "wal.before_cut": "Opening is about to cut a torn end.",
    WalAfterCut = "wal.after_cut": "The torn end is cut, not synced.",
    WalBeforeQuarantine = "wal.before_quarantine": "A damaged segment is about to be copied aside.",
    WalQuarantineWritten = "wal.quarantine_written": "The copy is written, not synced.",
    WalRewriteWritten = "wal.rewrite_written": "The clean segment is written under a temporary name, not synced.",
    WalBeforeRename = "wal.before_rename": "The clean segment is synced, not renamed.",
    WalAfterRename = "wal.after_rename": "The clean segment has replaced the damaged one, the folder is not synced.",
    ParquetBeforeCreate = "parquet.before_create": "A data file is about to be created.",
    ParquetMidWrite = "parquet.mid_write": "The data file has rows and no footer.",
    ParquetBeforeSync = "parquet.before_sync": "The data file is written, not synced.",
    ParquetAfterSync = "parquet.after_sync": "The data file is synced, its folder not.",
    FlushAfterCommit = "flush.after_commit": "One table of a flush is committed, the scans do not know yet.",
    DeltaBeforeCreate = "delta.before_create": "An entry is about to be written under a temporary name.",
    DeltaTemporaryWritten = "delta.temporary_written": "The entry is written under its temporary name, not synced.",
    DeltaBeforeLink = "delta.before_link": "The entry is synced, not linked to its own name.",
    DeltaAfterLink = "delta.after_link": "The entry is linked, the temporary name still there.",
    DeltaBeforeSync = "delta.before_sync": "The temporary name is gone, the folder not synced.",
    DeltaAfterSync = "delta.after_sync": "The entry is durable.",
    DeltaBeforeCheckpoint = "delta.before_checkpoint": "A checkpoint is due.",
    DeltaCheckpointWritten = "delta.checkpoint_written": "The checkpoint is written, not synced.",
    DeltaCheckpointSynced = "delta.checkpoint_synced": "The checkpoint is durable, the file with its checksum not written.",
    DeltaBeforeDelete = "delta.before_delete": "A data file that no version refers to any more, or never did, is about to be deleted.",
    DeltaBeforeShorten = "delta.before_shorten": "An entry of the log that checkpoints made superfluous is about to be deleted.",
    QuarantineBeforeLink = "quarantine.before_link": "A damaged data file is about to be put aside.",
    QuarantineAfterLink = "quarantine.after_link": "It is put aside, the note on it not written.",
    QuarantineNoteWritten = "quarantine.note_written": "The note is durable, the table still refers to the file.",
    QuarantineBeforeDelete = "quarantine.before_delete": "The file is out of its table, and about to be deleted there.",
    SmallFileWritten = "small_file.written": "`FORMAT`, a note or a checksum is under a temporary name, not synced.",
    SmallFileBeforeRename = "small_file.before_rename": "It is synced, not renamed.",
    SmallFileAfterRename = "small_file.after_rename": "It is renamed, the folder not synced.",
}

/// What happens at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    Error(i32),
    Sleep(Duration),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    point: Failpoint,
    nth: u64,
    action: Action,
    /// Acts only on paths below; a test in a process of many stores sets it to its own.
    below: PathBuf,
    hits: u64,
}

static ON: AtomicBool = AtomicBool::new(false);
/// Versions from one checkpoint to the next; 0 unless a test says so.
static CHECKPOINT_INTERVAL: AtomicI64 = AtomicI64::new(0);
static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());

fn plans() -> MutexGuard<'static, Vec<Plan>> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any failpoint is set: code that must take another path to be interrupted in the middle asks this.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Versions from one checkpoint to the next, if a test says so.
pub(crate) fn checkpoint_interval() -> Option<i64> {
    Some(CHECKPOINT_INTERVAL.load(Ordering::Relaxed)).filter(|interval| *interval > 0)
}

/// Passes `point` at `path`.
///
/// # Errors
/// [`Error::Io`] that names the failpoint, if a test asked for it.
#[inline]
pub(crate) fn hit(point: Failpoint, path: &Path) -> Result<()> {
    if is_on() { act(point, path) } else { Ok(()) }
}

#[cold]
fn act(point: Failpoint, path: &Path) -> Result<()> {
    let mut action = None;
    for plan in plans().iter_mut().filter(|plan| plan.point == point && path.starts_with(&plan.below)) {
        plan.hits += 1;
        if plan.hits == plan.nth {
            action = Some(plan.action);
        }
    }
    match action {
        None => Ok(()),
        Some(Action::Kill) => die(),
        Some(Action::Error(code)) => Err(Error::io(point.name(), path)(io::Error::from_raw_os_error(code))),
        Some(Action::Sleep(pause)) => {
            sleep(pause);
            Ok(())
        }
    }
}

/// Ends the process as `kill -9` does: no destructor, no buffer written, no answer sent.
fn die() -> ! {
    // By the program, because a signal to oneself is unsafe code; without it, SIGABRT, which the kernel handles alike.
    let _status = Command::new("kill").args(["-KILL", &id().to_string()]).status();
    abort()
}

/// Sets the failpoints that the environment names, if it does; the first call decides.
///
/// # Errors
/// [`Error::Failpoint`] if the variable cannot be read as one.
pub(crate) fn read_environment() -> Result<()> {
    static READ: OnceLock<Result<(), String>> = OnceLock::new();
    let read = READ.get_or_init(|| {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
        let text = text.to_string_lossy();
        tracing::warn!(%text, "{VARIABLE} is set: this process will fail on purpose; unset it unless this is a test");
        for part in text.split(',') {
            match part.strip_prefix("checkpoint_interval=") {
                Some(interval) => CHECKPOINT_INTERVAL.store(parse_count(interval)?, Ordering::Relaxed),
                None => set(parse(part)?),
            }
        }
        Ok(())
    });
    read.clone().map_err(|reason| Error::Failpoint { reason })
}

fn set(plan: Plan) {
    plans().push(plan);
    ON.store(true, Ordering::Relaxed);
}

fn parse_count(text: &str) -> Result<i64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("{text:?} is not a count from 1"))
}

fn parse(text: &str) -> Result<Plan, String> {
    let (place, action) = text.split_once('=').unwrap_or((text, "kill"));
    let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
    let known = || Failpoint::ALL.iter().map(|point| point.name()).collect::<Vec<_>>().join(", ");
    let point = Failpoint::ALL.iter().copied().find(|point| point.name() == name);
    let point = point.ok_or_else(|| format!("no failpoint {name:?}; known: {}", known()))?;
    let nth = parse_count(nth)?.unsigned_abs();
    let action = match action.split_once(':') {
        None if action == "kill" => Action::Kill,
        None if action == "error" => Action::Error(EIO),
        None if action == "enospc" => Action::Error(ENOSPC),
        Some(("sleep", ms)) => {
            let ms = ms.parse().map_err(|_| format!("{ms:?} is not a number of milliseconds"))?;
            Action::Sleep(Duration::from_millis(ms))
        }
        _ => return Err(format!("no action {action:?}; known: kill, error, enospc, sleep:MS")),
    };
    Ok(Plan { point, nth, action, below: PathBuf::new(), hits: 0 })
}

/// A failpoint that a test of this process set; dropping it takes it back.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Armed {
    point: Failpoint,
    below: PathBuf,
}

/// Has `point` fail with EIO at its `nth` hit from now on, for paths below `dir` only.
#[cfg(test)]
pub(crate) fn fail_below(dir: &Path, point: Failpoint, nth: u64) -> Armed {
    arm(dir, point, nth, EIO)
}

/// Has `point` find the disk full once, for paths below `dir` only.
#[cfg(test)]
pub(crate) fn fill_below(dir: &Path, point: Failpoint) -> Armed {
    arm(dir, point, 1, ENOSPC)
}

#[cfg(test)]
fn arm(dir: &Path, point: Failpoint, nth: u64, code: i32) -> Armed {
    let below = dir.canonicalize().unwrap();
    set(Plan { point, nth, action: Action::Error(code), below: below.clone(), hits: 0 });
    Armed { point, below }
}

#[cfg(test)]
impl Armed {
    /// Whether it has acted.
    pub(crate) fn has_acted(&self) -> bool {
        plans().iter().any(|plan| plan.point == self.point && plan.below == self.below && plan.hits >= plan.nth)
    }
}

#[cfg(test)]
impl Drop for Armed {
    fn drop(&mut self) {
        plans().retain(|plan| plan.point != self.point || plan.below != self.below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_point_count_and_action() {
        let check = |text: &str, nth, action| {
            let plan = parse(text).unwrap();
            assert_eq!((plan.point, plan.nth, plan.action), (Failpoint::WalBeforeSync, nth, action), "{text}");
        };
        check("wal.before_sync", 1, Action::Kill);
        check("wal.before_sync:3", 3, Action::Kill);
        check("wal.before_sync=error", 1, Action::Error(EIO));
        check("wal.before_sync:2=enospc", 2, Action::Error(ENOSPC));
        check("wal.before_sync=sleep:250", 1, Action::Sleep(Duration::from_millis(250)));
        for wrong in
            ["", "wal", "wal.before_sync:0", "wal.before_sync:x", "wal.before_sync=die", "wal.before_sync=sleep"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(
            parse("wal.befor_sync").unwrap_err().contains("wal.before_sync"),
            "a wrong name is told the right ones"
        );
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }

    #[test]
    fn a_failpoint_acts_once_at_its_count_and_below_its_folder_only() {
        let (mine, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let armed = fail_below(mine.path(), Failpoint::DeltaBeforeDelete, 2);
        let path = mine.path().canonicalize().unwrap().join("a");
        let at = |path: &Path| hit(Failpoint::DeltaBeforeDelete, path);
        assert!(at(other.path()).is_ok() && at(other.path()).is_ok() && at(&path).is_ok());
        assert!(!armed.has_acted());
        let error = at(&path).unwrap_err();
        assert!(error.to_string().starts_with("delta.before_delete"), "{error}");
        assert!(armed.has_acted() && at(&path).is_ok());
    }
}
