//! A file that is being written: removed again unless it is finished.

use std::{fs, io::ErrorKind, path::Path};

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
