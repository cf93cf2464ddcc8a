//! Settings of the store.

mod s3;

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    file_memory::FileMemory,
    retention::{RawRetention, Retention},
};

pub use s3::{RawS3, S3Settings, S3Url, Secret};

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After fdatasync (`WAL-1`). The default.
    #[default]
    Sync,
    /// After the write call; synced about once a second. A power cut may lose that second.
    Interval,
    /// After the write call; never synced. For throw-away data.
    Memory,
}

/// The `[store]` section as written; sizes in bytes or with a unit (`"64MiB"`), durations as `"5m"` or `"30d"`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// When an append is acknowledged: `sync` (default), `interval`, `memory`.
    pub durability: Durability,
    /// Memtable size that starts a flush. Default 64 MiB, or a quarter of `memtable_size_max` where that is less.
    #[serde(deserialize_with = "crate::size_text::size_text")]
    pub flush_size: Option<String>,
    /// Age of the oldest unflushed point that starts a flush. Default 5 min.
    pub flush_interval: Option<String>,
    /// Unflushed bytes beyond which appends are refused as overloaded. Default 4 × `flush_size`.
    #[serde(deserialize_with = "crate::size_text::size_text")]
    pub memtable_size_max: Option<String>,
    /// Memory of merging and writing files. Default 384 MiB, beyond which more changes nothing.
    #[serde(deserialize_with = "crate::size_text::size_text")]
    pub compaction_memory: Option<String>,
    /// Size at which a log segment is closed. Default 64 MiB.
    #[serde(deserialize_with = "crate::size_text::size_text")]
    pub wal_segment_size: Option<String>,
    /// Free disk space below which appends are refused; `"0"`: none. Default 1 GiB or 5 % of the disk, the smaller.
    #[serde(deserialize_with = "crate::size_text::size_text")]
    pub disk_free_min: Option<String>,
    /// How long each table is kept.
    pub retention: RawRetention,
    /// Where the tables are, as `s3://bucket/prefix`. Default: below the data directory.
    pub tables: Option<String>,
    /// How S3 is reached.
    pub s3: RawS3,
}

/// Checked settings of the store.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; created if absent.
    pub data_dir: PathBuf,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// Memtable bytes that start a flush.
    pub flush_size_bytes: usize,
    /// Age of the oldest unflushed point that starts a flush.
    pub flush_interval: Duration,
    /// Unflushed bytes beyond which appends are refused.
    pub memtable_size_bytes_max: usize,
    /// Memory of merging and writing files.
    pub compaction_memory_bytes: usize,
    /// Bytes at which a log segment is closed.
    pub wal_segment_size_bytes: u64,
    /// Free bytes of the disk below which appends are refused; `None`: 1 GiB or 5 % of the disk, the smaller.
    pub disk_free_bytes_min: Option<u64>,
    /// How long each table is kept. The background task deletes what is older.
    pub retention: Retention,
    /// Where the tables are; `None`: below the data directory.
    pub tables: Option<S3Url>,
    /// How S3 is reached, where the tables are there.
    pub s3: S3Settings,
}

impl Config {
    /// Default settings for `data_dir`, except that nothing is ever deleted: only who states a retention wants that.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Sync,
            flush_size_bytes: 64 << 20,
            flush_interval: Duration::from_secs(300),
            memtable_size_bytes_max: 256 << 20,
            compaction_memory_bytes: FileMemory::BUDGET_BYTES_MAX,
            wal_segment_size_bytes: 64 << 20,
            disk_free_bytes_min: None,
            retention: Retention::FOREVER,
            tables: None,
            s3: S3Settings::default(),
        }
    }
}

impl Config {
    /// What those that write files may use.
    pub(crate) fn file_memory(&self) -> FileMemory {
        FileMemory::of(self.compaction_memory_bytes)
    }
}

impl RawConfig {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is out of range.
    pub fn validate(self, data_dir: impl Into<PathBuf>) -> Result<Config> {
        let mut config = Config::new(data_dir);
        config.durability = self.durability;
        if let Some(text) = &self.flush_size {
            config.flush_size_bytes = parse_size("flush_size", text)? as usize;
            config.memtable_size_bytes_max = config.flush_size_bytes.saturating_mul(4);
        }
        if let Some(text) = &self.flush_interval {
            config.flush_interval = parse_duration("flush_interval", text)?;
        }
        if let Some(text) = &self.memtable_size_max {
            config.memtable_size_bytes_max = parse_size("memtable_size_max", text)? as usize;
            if self.flush_size.is_none() {
                config.flush_size_bytes = config.flush_size_bytes.min(config.memtable_size_bytes_max / 4);
            }
        }
        if let Some(text) = &self.compaction_memory {
            config.compaction_memory_bytes = parse_size("compaction_memory", text)? as usize;
        }
        if let Some(text) = &self.wal_segment_size {
            config.wal_segment_size_bytes = parse_size("wal_segment_size", text)?;
        }
        config.disk_free_bytes_min = match self.disk_free_min.as_deref().map(str::trim) {
            Some("0" | "0B") => Some(0),
            Some(text) => Some(parse_size("disk_free_min", text)?),
            None => None,
        };
        config.retention = self.retention.validate()?;
        config.tables = self.tables.as_deref().map(S3Url::parse).transpose()?;
        config.s3 = self.s3.validate()?;
        if config.memtable_size_bytes_max < config.flush_size_bytes {
            return Err(Error::Config { name: "memtable_size_max", reason: "must not be below flush_size".into() });
        }
        Ok(config)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..digits], text[digits..].trim())
}

fn parse_size(name: &'static str, text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "" | "B" => Some(1u64),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size = scale.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale));
    match size {
        Some(size) if size >= 1024 => Ok(size),
        Some(_) => Err(Error::Config { name, reason: format!("{text:?} is below 1KiB") }),
        None => Err(Error::Config { name, reason: format!("{text:?} is not a size like \"64MiB\"") }),
    }
}

pub(crate) fn parse_duration(name: &'static str, text: &str) -> Result<Duration> {
    let (number, unit) = split_unit(text);
    let millis = match unit {
        "ms" => Some(1u64),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(7 * 86_400_000),
        _ => None,
    };
    let duration = millis.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale));
    match duration {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Error::Config { name, reason: format!("{text:?} is not a duration like \"250ms\" or \"5m\"") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_flush_follows_that_of_the_memtable_and_the_other_way_round() {
        let sizes = |flush: Option<&str>, memtable: Option<&str>| {
            let (flush_size, memtable_size_max) = (flush.map(str::to_owned), memtable.map(str::to_owned));
            let config = RawConfig { flush_size, memtable_size_max, ..RawConfig::default() }.validate("x")?;
            Ok::<_, Error>((config.flush_size_bytes >> 20, config.memtable_size_bytes_max >> 20))
        };
        assert_eq!(sizes(None, None).unwrap(), (64, 256));
        assert_eq!(sizes(None, Some("32MiB")).unwrap(), (8, 32));
        assert_eq!(sizes(None, Some("1GiB")).unwrap(), (64, 1024));
        assert_eq!(sizes(Some("16MiB"), None).unwrap(), (16, 64));
        assert_eq!(sizes(Some("16MiB"), Some("16MiB")).unwrap(), (16, 16));
        assert!(sizes(Some("32MiB"), Some("16MiB")).is_err());
    }

    #[test]
    fn sizes_and_durations_are_read_with_their_unit() {
        assert_eq!(parse_size("x", "64MiB").unwrap(), 64 << 20);
        assert_eq!(parse_duration("x", "250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse_duration("x", "2w").unwrap(), parse_duration("x", "14d").unwrap());
        assert!(parse_size("x", "64 parsecs").is_err());
        assert!(parse_duration("x", "0s").is_err());
    }
}
