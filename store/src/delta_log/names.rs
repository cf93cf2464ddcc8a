//! Names of the files of a Delta log, as the protocol and `docs/format/tables.md` give them.

/// The folder of the log below that of its table.
pub(crate) const LOG_DIR: &str = "_delta_log";
/// The pointer to the newest checkpoint.
pub(crate) const LAST_CHECKPOINT: &str = "_last_checkpoint";

const ENTRY: &str = ".json";
const CHECKPOINT: &str = ".checkpoint.parquet";
const CHECKSUM: &str = ".checkpoint.crc32c";

/// What a file of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFile {
    Entry,
    Checkpoint,
    /// The checksums of a checkpoint and of the pointer to it.
    Checksum,
}

pub(crate) fn entry_name(version: i64) -> String {
    format!("{version:020}{ENTRY}")
}

pub(crate) fn checkpoint_name(version: i64) -> String {
    format!("{version:020}{CHECKPOINT}")
}

pub(crate) fn checksum_name(version: i64) -> String {
    format!("{version:020}{CHECKSUM}")
}

/// Version and kind of a file that belongs to a version; `None` for any other name.
pub(crate) fn parse(name: &str) -> Option<(i64, LogFile)> {
    let (digits, suffix) = name.split_at_checked(20)?;
    let kind = match suffix {
        ENTRY => LogFile::Entry,
        CHECKPOINT => LogFile::Checkpoint,
        CHECKSUM => LogFile::Checksum,
        _ => return None,
    };
    let version = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some((version, kind))
}

/// Whether `name` is that of a file which belongs in a log folder.
pub(crate) fn is_log_file(name: &str) -> bool {
    name == LAST_CHECKPOINT || parse(name).is_some()
}

/// Whether `name` is one that a kill kept from getting its own: an entry, the checksums of a checkpoint, or a file of the
/// checkpoint, which the `object_store` crate writes as `<name>#<number>` first.
pub(crate) fn is_unfinished(name: &str) -> bool {
    if let Some((name, number)) = name.split_once('#') {
        let checkpoint = name == LAST_CHECKPOINT || matches!(parse(name), Some((_, LogFile::Checkpoint)));
        return checkpoint && number.parse::<u32>().is_ok();
    }
    let own = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    own.is_some_and(|own| uuid::Uuid::try_parse(own).is_ok() || matches!(parse(own), Some((_, LogFile::Checksum))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_none_of_the_log() {
        for version in [0, 7, i64::MAX] {
            assert_eq!(parse(&entry_name(version)), Some((version, LogFile::Entry)));
            assert_eq!(parse(&checkpoint_name(version)), Some((version, LogFile::Checkpoint)));
            assert_eq!(parse(&checksum_name(version)), Some((version, LogFile::Checksum)));
        }
        for foreign in ["", "7.json", "0000000000000000000x.json", "00000000000000000007.json.tmp", "notes.json", "é"]
        {
            assert!(parse(foreign).is_none() && !is_log_file(foreign) && !is_unfinished(foreign), "{foreign}");
        }
        assert!(is_log_file(LAST_CHECKPOINT));
    }
}
