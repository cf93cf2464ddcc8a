//! The configuration: one TOML file, then `DRIFTWATT_SECTION__KEY` variables, then flags.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::memory::{self, LimitsSection, MemoryLedger};

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
}

/// `[analyze]`: where the jobs find what telemetry does not tell.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AnalyzeSection {
    /// Price book (TOML) of the weekly report. Without one, costs are unknown.
    pub(crate) prices: Option<PathBuf>,
}

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
    pub(crate) otlp_http: SocketAddr,
}

/// Checked configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) addresses: Addresses,
    pub(crate) store: driftwatt_store::Config,
    pub(crate) ingest: driftwatt_ingest::Config,
    pub(crate) query: driftwatt_query::Config,
    pub(crate) collector: driftwatt_collector::Config,
    pub(crate) prices: Option<PathBuf>,
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
        memory::fill_in(&mut self, memory_bytes);
        let data_dir = self.server.data_dir.unwrap_or_else(|| "driftwatt-data".into());
        let or =
            |address: Option<SocketAddr>, port| address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
        let (store, ingest) = (self.store.validate(data_dir)?, self.ingest.validate()?);
        let mut query = self.query.validate()?;
        let memory = MemoryLedger::new(memory_bytes, &store, &ingest, &query)?;
        query.server_settings = memory.settings();
        Ok(Config {
            addresses: Addresses {
                http: or(self.server.http, 4320),
                otlp_grpc: or(self.server.otlp_grpc, 4317),
                otlp_http: or(self.server.otlp_http, 4318),
            },
            store,
            ingest,
            query,
            collector: self.collector.validate()?,
            prices: self.analyze.prices,
            memory,
        })
    }
}

/// Sets `table[section][key]` from `DRIFTWATT_SECTION__KEY=value`.
fn overlay(table: &mut toml::Table, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    for (name, value) in variables {
        let Some((section, key)) = name.strip_prefix("DRIFTWATT_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let section = table.entry(section.to_lowercase()).or_insert_with(|| toml::Table::new().into());
        let Some(section) = section.as_table_mut() else { bail!("{name}: the section is not a table in the file") };
        section.insert(key.to_lowercase(), scalar(&value));
    }
    Ok(())
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
