//! Checksums of a checkpoint, in a file beside it: `<version>.checkpoint.crc32c`, which other readers ignore.
//!
//! The `deltalake` crate writes the checkpoint and `_last_checkpoint`, and neither has room for a checksum of its own.

use std::path::Path;

use crate::{
    checksum::sum_file,
    error::{Error, Result},
    partial_file::write_synced,
};

use super::names::{LAST_CHECKPOINT, checkpoint_name, checksum_name};

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
