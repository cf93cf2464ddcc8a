//! A file that is being written: removed again unless it is finished.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
};

use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
    parquet_file::sync_dir,
};

/// Removes `path` on drop, so that a failure (a full disk above all) leaves no half file behind.
#[derive(Debug)]
pub(crate) struct PartialFile<'a> {
    path: &'a Path,
    finished: bool,
}

impl<'a> PartialFile<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path, finished: false }
    }

    /// The file is whole and stays.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for PartialFile<'_> {
    fn drop(&mut self) {
        if !self.finished {
            remove_unused(self.path);
        }
    }
}

/// Removes a file that no table refers to; a failure only costs space.
pub(crate) fn remove_unused(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a file that nothing refers to was not removed");
        }
        _ => {}
    }
}

/// Writes a small file whole or not at all: under a temporary name, synced, then renamed.
pub(crate) fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, temporary) = (dir.join(name), dir.join(format!(".{name}.tmp")));
    let partial = PartialFile::new(&temporary);
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).map_err(Error::io("write", &temporary))?;
    failpoint::hit(Failpoint::SmallFileWritten, &path)?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    failpoint::hit(Failpoint::SmallFileBeforeRename, &path)?;
    fs::rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
    partial.finish();
    failpoint::hit(Failpoint::SmallFileAfterRename, &path)?;
    sync_dir(dir)
}
