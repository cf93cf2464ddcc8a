//! The configuration: one TOML file, then `DRIFTWATT_SECTION__KEY` variables, then flags.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use driftwatt_analyze::{
    delivery::{RawDelivery, RawOpenLineage},
    demand::parse_holidays,
    gates::RawWatchedFolder,
    lineage::{answer::LineageScope, checkpoint_folder::RawCheckpointFolder, work_tree::RawWorkTree},
    registry::RawMlflow,
    schedule::RawSchedule,
};
use serde::Deserialize;

use crate::{
    access::Access,
    answers::{DriftSection, DriftSettings},
    memory::{self, LimitsSection, MemoryLedger},
};

const DAY_US: i64 = 86_400_000_000;

/// The file as written; each crate owns its section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) server: ServerSection,
    pub(crate) store: driftwatt_store::RawConfig,
    pub(crate) ingest: driftwatt_ingest::RawConfig,
    pub(crate) query: driftwatt_query::RawConfig,
    pub(crate) collector: driftwatt_collector::RawConfig,
    pub(crate) analyze: AnalyzeSection,
    pub(crate) delivery: RawDelivery,
    pub(crate) schedule: Vec<RawSchedule>,
    pub(crate) gates: GatesSection,
    pub(crate) drift: DriftSection,
    pub(crate) lineage: LineageSection,
    pub(crate) limits: LimitsSection,
}

/// `[server]`: where data lives and where clients connect.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    /// Default `./driftwatt-data`.
    pub(crate) data_dir: Option<PathBuf>,
    /// SQL, health, own metrics. Default `127.0.0.1:4320`.
    pub(crate) http: Option<SocketAddr>,
    /// Default `127.0.0.1:4317`.
    pub(crate) otlp_grpc: Option<SocketAddr>,
    /// Default `127.0.0.1:4318`.
    pub(crate) otlp_http: Option<SocketAddr>,
    /// Arrow Flight SQL. Default `127.0.0.1:4319`.
    pub(crate) flight: Option<SocketAddr>,
    /// Bearer tokens of Flight SQL clients. Default none: everybody may ask, over loopback only.
    pub(crate) tokens: Vec<String>,
    /// PostgreSQL wire. Default `127.0.0.1:5433`.
    pub(crate) postgres: Option<SocketAddr>,
    /// Certificates (PEM), the server's first. Default none: no TLS.
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the first certificate (PEM).
    pub(crate) tls_key: Option<PathBuf>,
}

/// `[analyze]`: where the jobs find what telemetry does not tell.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AnalyzeSection {
    /// Price book (TOML) of the weekly report. Without one, costs are unknown.
    pub(crate) prices: Option<PathBuf>,
    /// Days (`YYYY-MM-DD`, local to whoever asks) that stand for no usual week. Default none.
    pub(crate) holidays: Vec<String>,
}

/// `[gates]`: what is checked by itself.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GatesSection {
    /// Folders whose files are checked when they are there. Default none.
    pub(crate) watch: Vec<RawWatchedFolder>,
}

/// `[lineage]`: what is known about models beyond telemetry.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LineageSection {
    /// Environments (`deployment.environment.name`) in which what runs must be in the registry. Default `prod`, `production`.
    pub(crate) production: Option<BTreeSet<String>>,
    /// The model registry to read. Default none.
    pub(crate) mlflow: Option<RawMlflow>,
    /// Where events of our own jobs go. Default nowhere.
    pub(crate) openlineage: Option<RawOpenLineage>,
    /// Folders of checkpoints to watch. Default none.
    pub(crate) checkpoints: Vec<RawCheckpointFolder>,
    /// Work trees whose DVC files are read. Default none.
    pub(crate) work_trees: Vec<RawWorkTree>,
}

impl LineageSection {
    /// What answers about lineage look at.
    pub(crate) fn scope(&self) -> LineageScope {
        let production = self.production.clone().unwrap_or_else(|| ["prod", "production"].map(str::to_owned).into());
        let of_service = |raw: &RawCheckpointFolder| Some((raw.folder.display().to_string(), raw.service.clone()?));
        LineageScope { production, checkpoint_services: self.checkpoints.iter().filter_map(of_service).collect() }
    }
}

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
    pub(crate) otlp_http: SocketAddr,
    pub(crate) postgres: SocketAddr,
    pub(crate) flight: SocketAddr,
}

/// Checked configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) addresses: Addresses,
    pub(crate) store: driftwatt_store::Config,
    pub(crate) ingest: driftwatt_ingest::Config,
    pub(crate) query: driftwatt_query::Config,
    pub(crate) collector: driftwatt_collector::Config,
    pub(crate) access: Access,
    pub(crate) prices: Option<PathBuf>,
    pub(crate) holidays: Vec<NaiveDate>,
    /// Checked by whoever delivers, who alone needs its secrets.
    pub(crate) delivery: RawDelivery,
    /// Checked with the delivery that they need.
    pub(crate) schedules: Vec<RawSchedule>,
    /// Checked with the delivery that they need.
    pub(crate) watched_folders: Vec<RawWatchedFolder>,
    pub(crate) drift: DriftSettings,
    /// Checked by whoever reads the registry, who alone needs its token.
    pub(crate) lineage: LineageSection,
    pub(crate) memory: MemoryLedger,
}

impl RawConfig {
    /// Reads `file` and the environment.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown section or key, a value of the wrong type.
    pub(crate) fn read(file: Option<&PathBuf>) -> anyhow::Result<Self> {
        let mut table = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                text.parse::<toml::Table>().with_context(|| format!("read {}", path.display()))?
            }
            None => toml::Table::new(),
        };
        overlay(&mut table, std::env::vars())?;
        toml::Value::Table(table).try_into().context("configuration")
    }

    /// Checks every section.
    ///
    /// # Errors
    /// The first setting that is out of range, by name.
    pub(crate) fn validate(mut self) -> anyhow::Result<Config> {
        let memory_bytes = self.limits.memory_bytes()?;
        let days_accepted = self.ingest.retention_days;
        // The older setting alone says both what is accepted and what is kept.
        let kept = &mut self.store.retention.samples;
        *kept = kept.take().or_else(|| days_accepted.map(|days| format!("{}d", days.max(1))));
        memory::fill_in(&mut self, memory_bytes);
        let access = Access::of(&self.server, !self.query.users.is_empty())?;
        let data_dir = self.server.data_dir.unwrap_or_else(|| "driftwatt-data".into());
        let or =
            |address: Option<SocketAddr>, port| address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
        let (store, mut ingest) = (self.store.validate(data_dir)?, self.ingest.validate()?);
        let kept = store.retention.samples;
        if days_accepted.is_none() {
            ingest.limits.retention_us = kept.as_micros();
        } else if ingest.limits.retention_us > kept.as_micros().max(DAY_US) {
            bail!(
                "setting ingest.retention_days: points that old are deleted at once, store.retention.samples is {kept}; \
                 leave it out to accept what is kept"
            );
        }
        let mut query = self.query.validate()?;
        query.jobs_dir = Some(store.data_dir.join("jobs"));
        let memory = MemoryLedger::new(memory_bytes, &store, &ingest, &query)?;
        query.server_settings = memory.settings();
        Ok(Config {
            addresses: Addresses {
                http: or(self.server.http, 4320),
                otlp_grpc: or(self.server.otlp_grpc, 4317),
                otlp_http: or(self.server.otlp_http, 4318),
                flight: or(self.server.flight, 4319),
                postgres: or(self.server.postgres, 5433),
            },
            store,
            ingest,
            query,
            collector: self.collector.validate()?,
            access,
            prices: self.analyze.prices,
            holidays: parse_holidays(&self.analyze.holidays).context("[analyze] holidays")?,
            delivery: self.delivery,
            schedules: self.schedule,
            watched_folders: self.gates.watch,
            drift: self.drift.validate()?,
            lineage: self.lineage,
            memory,
        })
    }
}

/// Sets `table[section][key]` from `DRIFTWATT_SECTION__KEY=value`, and so on for sections in sections.
fn overlay(table: &mut toml::Table, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    for (name, value) in variables {
        let Some((section, key)) = name.strip_prefix("DRIFTWATT_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let (mut section, mut key) = (descend(table, section, &name)?, key);
        while let Some((inner, rest)) = key.split_once("__") {
            (section, key) = (descend(section, inner, &name)?, rest);
        }
        section.insert(key.to_lowercase(), scalar(&value));
    }
    Ok(())
}

fn descend<'a>(table: &'a mut toml::Table, section: &str, name: &str) -> anyhow::Result<&'a mut toml::Table> {
    let section = table.entry(section.to_lowercase()).or_insert_with(|| toml::Table::new().into());
    section.as_table_mut().with_context(|| format!("{name}: the section is not a table in the file"))
}

/// Numbers and booleans as such, anything else as text.
fn scalar(text: &str) -> toml::Value {
    if let Ok(number) = text.parse::<i64>() {
        number.into()
    } else if let Ok(flag) = text.parse::<bool>() {
        flag.into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(section: &str) -> anyhow::Result<Config> {
        toml::from_str::<RawConfig>(section)?.validate()
    }

    #[test]
    fn holidays_are_days() {
        assert_eq!(validated("[analyze]\nholidays = [\"2026-12-25\"]").unwrap().holidays.len(), 1);
        let error = validated("[analyze]\nholidays = [\"2026-02-30\"]").unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("[analyze] holidays: \"2026-02-30\" is no day: write YYYY-MM-DD"), "{error}");
    }

    #[test]
    fn ingest_accepts_what_the_store_keeps() {
        for (section, kept, accepted_days) in [
            ("", "395d", 395),
            ("[store.retention]\nsamples = \"30d\"", "30d", 30),
            ("[ingest]\nretention_days = 800", "800d", 800),
            ("[ingest]\nretention_days = 7\n[store.retention]\nsamples = \"4w\"", "28d", 7),
            ("[ingest]\nretention_days = 800\n[store.retention]\nsamples = \"forever\"", "forever", 800),
        ] {
            let config = validated(section).unwrap();
            assert_eq!(config.store.retention.samples.to_string(), kept, "{section}");
            assert_eq!(config.ingest.limits.retention_us, accepted_days * DAY_US, "{section}");
        }
        let forever = validated("[store.retention]\nsamples = \"forever\"").unwrap();
        assert_eq!(forever.ingest.limits.retention_us, i64::MAX);
        let section = "[ingest]\nretention_days = 31\n[store.retention]\nsamples = \"30d\"";
        let error = validated(section).unwrap_err().to_string();
        assert!(error.contains("ingest.retention_days") && error.contains("store.retention.samples is 30d"), "{error}");
        let error = validated("[store.retention]\nsample = \"30d\"").unwrap_err().to_string();
        assert!(error.contains("sample"), "{error}");
    }

    #[test]
    fn a_size_is_a_bare_number_of_bytes_too() {
        let section = "[store]\nflush_size = 1048576\ndisk_free_min = 0\n[ingest]\nbody_size_max = 2097152\n\
             [query]\nmemory = 134217728\n[limits]\nmemory = 1073741824";
        let config = validated(section).unwrap();
        assert_eq!((config.store.flush_size_bytes, config.store.disk_free_bytes_min), (1 << 20, Some(0)));
        assert_eq!((config.ingest.body_size_max, config.query.memory_bytes), (2 << 20, 128 << 20));
        assert_eq!(config.memory.limit_bytes, 1 << 30);
        // As a variable of the environment, which has no quotes.
        let mut table = toml::Table::new();
        overlay(&mut table, [("DRIFTWATT_STORE__FLUSH_SIZE".to_owned(), "1048576".to_owned())].into_iter()).unwrap();
        let raw: RawConfig = toml::Value::Table(table).try_into().unwrap();
        assert_eq!(raw.validate().unwrap().store.flush_size_bytes, 1 << 20);
    }

    #[test]
    fn what_everybody_could_read_is_listened_to_on_loopback_only() {
        let open = "[server]\npostgres = \"0.0.0.0:5433\"\n";
        let error = validated(open).unwrap_err().to_string();
        assert!(error.contains("server.postgres") && error.contains("query.users"), "{error}");
        let config = validated(&format!("{open}[query.users]\nalice = \"hunter2\"")).unwrap();
        assert_eq!(config.query.users.len(), 1);
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = validated("[server]\ntls_cert = \"x.pem\"").unwrap_err().to_string();
        assert!(error.contains("tls_key"), "{error}");
    }

    #[test]
    fn a_variable_reaches_a_section_in_a_section() {
        let mut table = toml::Table::new();
        let set = ("DRIFTWATT_STORE__RETENTION__SAMPLES".to_owned(), "30d".to_owned());
        overlay(&mut table, [set].into_iter()).unwrap();
        let raw: RawConfig = toml::Value::Table(table).try_into().unwrap();
        assert_eq!(raw.validate().unwrap().store.retention.samples.to_string(), "30d");
    }

    #[test]
    fn variables_override_the_file_and_unknown_keys_are_named() {
        let mut table: toml::Table = "[store]\nflush_size = \"1MiB\"".parse().unwrap();
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = [set("DRIFTWATT_STORE__FLUSH_SIZE", "2MiB"), set("DRIFTWATT_SERVER__HTTP", "127.0.0.1:1")];
        overlay(&mut table, variables.into_iter()).unwrap();
        let raw: RawConfig = toml::Value::Table(table.clone()).try_into().unwrap();
        let config = raw.validate().unwrap();
        assert_eq!(config.store.flush_size_bytes, 2 << 20);
        assert_eq!(config.addresses.http.port(), 1);
        overlay(&mut table, [set("DRIFTWATT_STORE__FLUSH_SISE", "2MiB")].into_iter()).unwrap();
        let error = toml::Value::Table(table).try_into::<RawConfig>().unwrap_err();
        assert!(error.to_string().contains("flush_sise"), "{error}");
    }
}
