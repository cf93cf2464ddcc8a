//! Checksums of a checkpoint, in a file beside it: `<version>.checkpoint.crc32c`, which other readers ignore.
//!
//! The `deltalake` crate writes the checkpoint and `_last_checkpoint`, and neither has room for a checksum of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    checksum::sum_file,
    error::{Error, Result},
    parquet_file::sync_dir,
};

/// The pointer to the newest checkpoint.
pub(crate) const LAST_CHECKPOINT: &str = "_last_checkpoint";

pub(crate) fn checkpoint_name(version: i64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

pub(crate) fn checksum_name(version: i64) -> String {
    format!("{version:020}.checkpoint.crc32c")
}

/// One line of the checksum file: eight hex digits, two spaces, the name.
pub(crate) fn checksum_line(log_dir: &Path, name: &str) -> Result<String> {
    let path = log_dir.join(name);
    let (_, crc32c) = sum_file(&path).map_err(Error::io("read", &path))?;
    Ok(format!("{crc32c:08x}  {name}\n"))
}

/// Writes the checksums of the checkpoint of `version` and of the pointer to it, durably and at once.
pub(super) fn seal_checkpoint(log_dir: &Path, version: i64) -> Result<()> {
    let text = checksum_line(log_dir, &checkpoint_name(version))? + &checksum_line(log_dir, LAST_CHECKPOINT)?;
    write_synced(log_dir, &checksum_name(version), text.as_bytes())
}

/// Writes a small file under a temporary name, syncs it and renames it.
pub(crate) fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary: PathBuf = dir.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &temporary))?;
    fs::rename(&temporary, dir.join(name)).map_err(Error::io("rename", &temporary))?;
    sync_dir(dir)
}
