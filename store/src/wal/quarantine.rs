//! What happens to a damaged segment: the original is kept aside, the valid records stay in the log.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use super::{
    frame::{Scan, put_frame},
    segment::{header_bytes, remove_file, sync_dir},
};
use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
};

/// Folder of the damaged originals, inside the log's folder.
pub(super) const QUARANTINE: &str = "quarantine";

/// Extension of a segment that is being rewritten.
const TEMPORARY: &str = "tmp";

/// Removes what a crash during [`rewrite`] left; the segment itself is still there.
pub(super) fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let ours = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
        if ours && path.extension().is_some_and(|extension| extension == TEMPORARY) {
            tracing::info!(path = %path.display(), "removing a log segment whose repair was cut short");
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Copies the segment `path` (content `bytes`) aside under a name not yet taken, durably.
pub(super) fn keep_original(dir: &Path, path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    failpoint::hit(Failpoint::WalBeforeQuarantine, path)?;
    let quarantine = dir.join(QUARANTINE);
    fs::create_dir_all(&quarantine).map_err(Error::io("create", &quarantine))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for attempt in 0u32.. {
        let copy = quarantine.join(if attempt == 0 { name.clone() } else { format!("{name}.{attempt}") });
        match OpenOptions::new().write(true).create_new(true).open(&copy) {
            Ok(mut file) => {
                file.write_all(bytes).map_err(Error::io("write", &copy))?;
                failpoint::hit(Failpoint::WalQuarantineWritten, &copy)?;
                file.sync_all().map_err(Error::io("sync", &copy))?;
                sync_dir(&quarantine)?;
                sync_dir(dir)?;
                return Ok(copy);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", copy)(error)),
        }
    }
    Err(Error::Task("no free name in the quarantine folder".into()))
}

/// Replaces the segment `path` by one that holds only its valid records. Atomic: a crash leaves the old or the new file.
pub(super) fn rewrite(dir: &Path, path: &Path, first_sequence: u64, bytes: &[u8], scan: &Scan) -> Result<()> {
    if scan.frames.is_empty() {
        remove_file(path)?;
        return sync_dir(dir);
    }
    let mut clean = header_bytes(first_sequence).to_vec();
    for frame in &scan.frames {
        // What was read as a record is short enough to be written as one.
        let _written =
            put_frame(&mut clean, frame.sequence, |out| out.extend_from_slice(&bytes[frame.payload.clone()]));
    }
    let temporary = path.with_extension(TEMPORARY);
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(&clean).map_err(Error::io("write", &temporary))?;
    failpoint::hit(Failpoint::WalRewriteWritten, &temporary)?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    failpoint::hit(Failpoint::WalBeforeRename, &temporary)?;
    fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    failpoint::hit(Failpoint::WalAfterRename, path)?;
    sync_dir(dir)
}
