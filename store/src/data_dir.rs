//! The data directory: what may be opened, by whom, and in which format it is.
//!
//! `FORMAT` holds one line with the version of the whole directory; it is read before anything is created, so a directory
//! of a newer build is refused untouched. `LOCK` is held while a process has the directory open.

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::Path,
};

use rustix::fs::{Access, access};

use crate::{
    error::{Error, Result},
    partial_file::{remove_unused, write_synced},
};

/// Version of the directory that this build writes, and the newest it reads.
const FORMAT_VERSION: u32 = 1;
pub(crate) const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TEMPORARY: &str = ".FORMAT.tmp";
const FORMAT_PREFIX: &str = "driftwatt data format ";

/// Opens `dir`, creating it if absent, and returns the held lock.
///
/// # Errors
/// [`Error::NotADirectory`], [`Error::NewerFormat`], [`Error::Unwritable`], [`Error::Locked`]; [`Error::Corrupt`] if the
/// file `FORMAT` cannot be understood.
pub(crate) fn open(dir: &Path) -> Result<File> {
    if fs::metadata(dir).is_ok_and(|found| !found.is_dir()) {
        return Err(Error::NotADirectory { path: dir.to_owned() });
    }
    let known = read_format(dir)?;
    create_writable(dir)?;
    let lock = lock(dir)?;
    // Left by a kill during the very first start.
    remove_unused(&dir.join(FORMAT_TEMPORARY));
    if !known {
        // At once, because a crash must not leave an empty file, which would be refused.
        write_synced(dir, FORMAT_FILE, format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n").as_bytes())?;
    }
    Ok(lock)
}

/// Whether the directory says its format; one that does not is new, or older than the file.
pub(crate) fn read_format(dir: &Path) -> Result<bool> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    };
    let version = text.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.strip_suffix('\n')?.parse::<u32>().ok());
    match version {
        Some(0) | None => {
            let reason = format!("is not a line like {:?}", format!("{FORMAT_PREFIX}{FORMAT_VERSION}"));
            Err(Error::Corrupt { path, offset: 0, reason })
        }
        Some(version) if version > FORMAT_VERSION => {
            Err(Error::NewerFormat { path: dir.to_owned(), version, known: FORMAT_VERSION })
        }
        Some(_) => Ok(true),
    }
}

fn create_writable(dir: &Path) -> Result<()> {
    for path in [dir.to_owned(), dir.join("tables"), dir.join("wal")] {
        fs::create_dir_all(&path)
            .and_then(|()| Ok(access(&path, Access::WRITE_OK | Access::EXEC_OK)?))
            .map_err(|source| Error::Unwritable { path, source })?;
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| Error::Unwritable { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_directory_says_its_format_and_opens_once() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("missing").join("data");
        let lock = open(&dir).unwrap();
        assert_eq!(names(&dir), ["FORMAT", "LOCK", "tables", "wal"]);
        fs::write(dir.join(FORMAT_TEMPORARY), "driftw").unwrap();
        assert!(matches!(open(&dir), Err(Error::Locked { .. })));
        assert!(dir.join(FORMAT_TEMPORARY).exists(), "the directory belongs to another");
        drop(lock);
        open(&dir).unwrap();
        assert!(!dir.join(FORMAT_TEMPORARY).exists());
    }

    #[test]
    fn a_directory_of_a_newer_format_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in
            [("driftwatt data format 2\n", "newer"), ("", "not a line"), ("something", "not a line")]
        {
            fs::write(dir.path().join("FORMAT"), text).unwrap();
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(names(dir.path()), ["FORMAT"]);
            assert_eq!(fs::read_to_string(dir.path().join("FORMAT")).unwrap(), text);
        }
    }

    #[test]
    fn what_cannot_be_a_data_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = open(&file).unwrap_err();
        assert!(matches!(&error, Error::NotADirectory { path } if *path == file), "{error}");
        // Nobody, not even root, makes directories there.
        for path in [file.join("data"), "/proc/driftwatt-test".into()] {
            let error = open(&path).unwrap_err();
            assert!(matches!(&error, Error::Unwritable { path: named, .. } if *named == path), "{error:?}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
