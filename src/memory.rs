//! The memory ledger: one limit, divided into shares that no part can take from another.
//!
//! Each share is the default of the settings that bound that part; settings that ask for more than the limit together are
//! refused at start. What is bounded by none of them (code, stacks, connections) has a share of its own.

mod free_memory;
mod machine;

use std::{fmt, sync::Arc};

use anyhow::{Context as _, bail};
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use opentelemetry::{KeyValue, global};
use serde::Deserialize;

pub(crate) use self::free_memory::return_near;
use crate::config::RawConfig;

const MIB: u64 = 1 << 20;
/// Below this nothing works well, so it is the least that is taken without being told.
const MEMORY_BYTES_MIN: u64 = 256 * MIB;
/// What the program itself keeps resident once its code has run; counted with a quarter of a limit that is smaller than that.
const PROGRAM_SIZE_BYTES: u64 = 112 * MIB;
/// Bytes of the register of active series for each of them: entry and map, just after the map has grown.
const REGISTER_ENTRY_SIZE_BYTES: u64 = 58;

/// `[limits]`: what the whole process may use.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// Default half of the memory of the machine or of its control group, at least 256 MiB.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub(crate) memory: Option<String>,
}

/// A part of the process with memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Points that no file holds yet, replayed ones included.
    Memtable,
    /// The pool of all queries.
    Queries,
    /// Requests in flight: their bytes, and as much again for what is decoded from them.
    Ingest,
    /// The register of active series and the cache of known ones.
    Series,
    /// Merging of files, and writing those of a flush.
    Compaction,
    /// The program itself, and everything else.
    Process,
}

impl Part {
    const ALL: [Self; 6] = [Self::Memtable, Self::Queries, Self::Ingest, Self::Series, Self::Compaction, Self::Process];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memtable => "memtable",
            Self::Queries => "queries",
            Self::Ingest => "ingest",
            Self::Series => "series",
            Self::Compaction => "compaction",
            Self::Process => "process",
        }
    }

    /// Of each hundred bytes that the program itself leaves.
    fn percent(self) -> u64 {
        match self {
            Self::Memtable => 28,
            Self::Queries => 25,
            Self::Ingest => 15,
            Self::Compaction => 12,
            Self::Series | Self::Process => 10,
        }
    }

    fn share(self, limit_bytes: u64) -> u64 {
        let program_bytes = PROGRAM_SIZE_BYTES.min(limit_bytes / 4);
        let own_bytes = if self == Self::Process { program_bytes } else { 0 };
        own_bytes + (limit_bytes - program_bytes) / 100 * self.percent()
    }
}

/// The limit and who may use how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLedger {
    pub(crate) limit_bytes: u64,
    pub(crate) shares: Vec<(Part, u64)>,
}

impl LimitsSection {
    /// The limit in bytes.
    ///
    /// # Errors
    /// A text that is no size, or one below 64 MiB.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        match &self.memory {
            Some(text) => {
                let bytes = size(text).with_context(|| format!("setting limits.memory: {text:?}"))?;
                if bytes < 64 * MIB {
                    bail!("setting limits.memory: {text:?} is below 64MiB");
                }
                Ok(bytes)
            }
            None => Ok((machine::memory_bytes().unwrap_or(0) / 2).max(MEMORY_BYTES_MIN)),
        }
    }
}

/// Fills in what `raw` leaves open, so that each part keeps to its share of `limit_bytes`.
pub(crate) fn fill_in(raw: &mut RawConfig, limit_bytes: u64) {
    let text = |bytes: u64| Some(format!("{bytes}B"));
    let store = &mut raw.store;
    if store.flush_size.is_none() && store.memtable_size_max.is_none() {
        // More would make flushes and replay longer without making them rarer in a way that helps.
        let memtable_bytes = Part::Memtable.share(limit_bytes).min(1024 * MIB);
        store.memtable_size_max = text(memtable_bytes);
        store.flush_size = text((memtable_bytes / 4).min(256 * MIB));
    }
    if store.compaction_memory.is_none() {
        store.compaction_memory = text(Part::Compaction.share(limit_bytes));
    }
    raw.query.memory = raw.query.memory.take().or_else(|| text(Part::Queries.share(limit_bytes)));
    let in_flight = (Part::Ingest.share(limit_bytes) / 2).min(256 * MIB);
    let ingest = &mut raw.ingest;
    if ingest.bytes_in_flight_max.is_none() {
        ingest.bytes_in_flight_max = text(in_flight);
        ingest.decompressed_size_max =
            ingest.decompressed_size_max.take().or_else(|| text((in_flight / 8 * 5).min(64 * MIB)));
        ingest.body_size_max = ingest.body_size_max.take().or_else(|| text((in_flight / 4).min(16 * MIB)));
    }
    let series = Part::Series.share(limit_bytes);
    let fitting = usize::try_from(series / 2 / REGISTER_ENTRY_SIZE_BYTES).unwrap_or(usize::MAX);
    let series_max = *ingest.series_max.get_or_insert(fitting.min(1_000_000));
    let cache = series.saturating_sub(series_max as u64 * REGISTER_ENTRY_SIZE_BYTES).max(MIB);
    ingest.series_cache_size_max = ingest.series_cache_size_max.take().or_else(|| text(cache));
}

impl MemoryLedger {
    /// Adds up what the checked settings allow.
    ///
    /// # Errors
    /// If that is over the limit, with every share.
    pub(crate) fn new(
        limit_bytes: u64,
        store: &driftwatt_store::Config,
        ingest: &driftwatt_ingest::Config,
        query: &driftwatt_query::Config,
    ) -> anyhow::Result<Self> {
        let limits = &ingest.limits;
        let shares = Part::ALL.map(|part| {
            let bytes = match part {
                Part::Memtable => store.memtable_size_bytes_max as u64,
                Part::Queries => query.memory_bytes as u64,
                Part::Ingest => 2 * ingest.bytes_in_flight_max as u64,
                Part::Series => {
                    limits.series_cache_size_max as u64 + limits.series_max as u64 * REGISTER_ENTRY_SIZE_BYTES
                }
                Part::Compaction => store.compaction_memory_bytes as u64,
                Part::Process => part.share(limit_bytes),
            };
            (part, bytes)
        });
        let ledger = Self { limit_bytes, shares: shares.to_vec() };
        let total: u64 = ledger.shares.iter().map(|(_, bytes)| bytes).sum();
        if total > limit_bytes {
            bail!(
                "the settings ask for {} of memory, limits.memory is {}: {ledger}; lower store.memtable_size_max, \
                 store.compaction_memory, query.memory, ingest.bytes_in_flight_max (counted twice), ingest.series_cache_size_max or \
                 ingest.series_max ({REGISTER_ENTRY_SIZE_BYTES} bytes each), or raise limits.memory",
                mib(total),
                mib(limit_bytes)
            );
        }
        Ok(ledger)
    }

    /// Rows for `system.settings`.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let shares =
            self.shares.iter().map(|(part, bytes)| (format!("limits.memory.{}", part.name()), bytes.to_string()));
        std::iter::once(("limits.memory".to_owned(), self.limit_bytes.to_string())).chain(shares).collect()
    }
}

/// Shows the shares, and what is used of those that are measured, as own metrics.
pub(crate) fn observe(ledger: &MemoryLedger, store: &Arc<Store>, session: &SessionContext) {
    let meter = global::meter("driftwatt_server");
    let share = |part: Part| KeyValue::new("share", part.name());
    let shares = ledger.shares.clone();
    // The meter keeps a callback, whether or not its gauge is kept.
    let _shares = meter
        .u64_observable_gauge("driftwatt_server_memory_share_bytes")
        .with_description("Memory that a part of the process may use")
        .with_callback(move |observer| {
            shares.iter().for_each(|(part, bytes)| observer.observe(*bytes, &[share(*part)]))
        })
        .build();
    let (store, pool) = (Arc::downgrade(store), Arc::clone(&session.runtime_env().memory_pool));
    let _used = meter
        .u64_observable_gauge("driftwatt_server_memory_used_bytes")
        .with_description("Memory that a part of the process uses, by its own account")
        .with_callback(move |observer| {
            observer.observe(pool.reserved() as u64, &[share(Part::Queries)]);
            if let Some(store) = store.upgrade() {
                observer.observe(store.unflushed_size_bytes() as u64, &[share(Part::Memtable)]);
            }
        })
        .build();
}

impl fmt::Display for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.shares.iter().map(|(part, bytes)| format!("{} {}", part.name(), mib(*bytes)));
        f.write_str(&shares.collect::<Vec<_>>().join(", "))
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}

fn size(text: &str) -> anyhow::Result<u64> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len()));
    let scale = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => MIB,
        "GiB" => 1 << 30,
        _ => bail!("is not a size like \"512MiB\""),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).context("is not a size like \"512MiB\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(memory: &str, section: &str) -> anyhow::Result<crate::config::Config> {
        let mut raw: RawConfig = toml::from_str(section)?;
        raw.limits.memory = Some(memory.to_owned());
        raw.validate()
    }

    #[test]
    fn every_limit_is_divided_without_a_rest_over_it() {
        for memory in ["64MiB", "256MiB", "512MiB", "2GiB", "12GiB", "512GiB"] {
            let config = validated(memory, "").unwrap();
            let total: u64 = config.memory.shares.iter().map(|(_, bytes)| bytes).sum();
            assert!(total <= config.memory.limit_bytes, "{memory}: {}", config.memory);
        }
        let config = validated("2GiB", "").unwrap();
        assert_eq!(config.ingest.limits.series_max, 1_000_000);
        assert_eq!(config.store.flush_size_bytes, config.store.memtable_size_bytes_max / 4);
        assert_eq!(config.query.memory_bytes, ((2048 - 112) << 20) / 100 * 25);
    }

    #[test]
    fn settings_that_ask_for_more_than_the_limit_are_refused_with_all_shares() {
        let error = validated("512MiB", "[query]\nmemory = \"400MiB\"").unwrap_err().to_string();
        assert!(error.contains("limits.memory is 512 MiB") && error.contains("queries 400 MiB"), "{error}");
        assert!(error.contains("memtable 112 MiB"), "{error}");
        validated("512MiB", "[query]\nmemory = \"100MiB\"").unwrap();
        let error = validated("1KiB", "").unwrap_err().to_string();
        assert!(error.contains("limits.memory"), "{error}");
        assert!(validated("much", "").is_err());
    }

    #[test]
    fn the_default_is_at_least_a_quarter_of_a_gibibyte() {
        assert!(LimitsSection::default().memory_bytes().unwrap() >= 256 * MIB);
    }
}
