//! Settings of queries.

mod user;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

pub use self::user::{RawUser, UserLimits};
use crate::{
    error::{Error, Result},
    postgres::Verifier,
    roles::RoleTable,
};

/// Queries that may wait for each that may run.
const WAITING_PER_SLOT: usize = 8;

/// In milliseconds.
const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The `[query]` section as written; durations as `"30s"`, sizes as `"1GiB"`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Time one query may take; beyond it the query is stopped. Default 30 s.
    pub timeout: Option<String>,
    /// Rows of a JSON answer; a longer answer is cut and says `"truncated": true`. Default 10 000.
    pub rows_max: Option<usize>,
    /// Memory of all queries together; beyond it operators spill to temporary files or the query fails. Default 1 GiB; in the
    /// server its share of `limits.memory`.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub memory: Option<String>,
    /// Temporary files of all queries together; beyond it the query fails. Default 8 GiB.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub spill: Option<String>,
    /// Queries at once; further ones wait. Default 16.
    pub concurrency_max: Option<usize>,
    /// Queries that wait; further ones are refused. Default 8 × `concurrency_max`.
    pub queue_max: Option<usize>,
    /// Connections of PostgreSQL clients at once, and as many of Flight SQL clients; further ones are refused. Default 200.
    pub connections_max: Option<usize>,
    /// A connection of a PostgreSQL client is closed after this long without a message. Default 8 h.
    pub connection_idle_max: Option<String>,
    /// Who may ask over the PostgreSQL wire, by name: passwords, or what `driftwatt password` makes of them, alone or in a
    /// table with limits of the user's own. Without any, everybody may.
    pub users: BTreeMap<String, RawUser>,
    /// Time one job may take; beyond it the job is stopped. Default 10 min.
    pub job_timeout: Option<String>,
    /// Jobs that are kept, those that wait and those that ended included; further ones are refused. Default 32.
    pub jobs_max: Option<usize>,
    /// Time a job is kept after its end. Default 1 h.
    pub job_keep: Option<String>,
    /// The result of one job; beyond it the job fails. Default 1 GiB.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub job_size_max: Option<String>,
    /// The results of all jobs; beyond it the job that writes fails. Default 4 GiB.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub jobs_size_max: Option<String>,
    /// File of roles and sources that come before the shipped ones (docs/roles.md). Default none.
    pub roles: Option<PathBuf>,
}

/// Checked settings of queries.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time one query may take.
    pub timeout: Duration,
    /// Rows of a JSON answer.
    pub rows_max: usize,
    /// Memory of all queries together.
    pub memory_bytes: usize,
    /// Temporary files of all queries together.
    pub spill_bytes: u64,
    /// Queries at once.
    pub concurrency_max: usize,
    /// Queries that wait.
    pub queue_max: usize,
    /// Connections of PostgreSQL clients at once, and as many of Flight SQL clients.
    pub connections_max: usize,
    /// A connection is closed after this long without a message.
    pub connection_idle_max: Duration,
    /// Who may ask over the PostgreSQL wire; nobody is everybody.
    pub users: BTreeMap<String, Verifier>,
    /// What each of them may use.
    pub user_limits: BTreeMap<String, UserLimits>,
    /// Time one job may take.
    pub job_timeout: Duration,
    /// Jobs that are kept.
    pub jobs_max: usize,
    /// Time a job is kept after its end.
    pub job_keep: Duration,
    /// The result of one job.
    pub job_size_bytes_max: u64,
    /// The results of all jobs.
    pub jobs_size_bytes_max: u64,
    /// Where results of jobs are; none is a folder among the temporary ones.
    pub jobs_dir: Option<PathBuf>,
    /// The vocabulary with the user's additions; none is the shipped one.
    pub roles: Option<Arc<RoleTable>>,
    /// Settings of other parts, by name, for the table `system.settings`.
    pub server_settings: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            rows_max: 10_000,
            memory_bytes: 1 << 30,
            spill_bytes: 8 << 30,
            concurrency_max: 16,
            queue_max: 16 * WAITING_PER_SLOT,
            connections_max: 200,
            connection_idle_max: Duration::from_secs(8 * 3600),
            users: BTreeMap::new(),
            user_limits: BTreeMap::new(),
            job_timeout: Duration::from_secs(600),
            jobs_max: 32,
            job_keep: Duration::from_secs(3600),
            job_size_bytes_max: 1 << 30,
            jobs_size_bytes_max: 4 << 30,
            jobs_dir: None,
            roles: None,
            server_settings: Vec::new(),
        }
    }
}

impl RawConfig {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is 0, [`Error::Roles`] naming the row that is wrong.
    pub fn validate(self) -> Result<Config> {
        let mut config = Config::default();
        let durations = [
            ("timeout", &self.timeout, &mut config.timeout),
            ("job_timeout", &self.job_timeout, &mut config.job_timeout),
            ("job_keep", &self.job_keep, &mut config.job_keep),
        ];
        for (name, text, setting) in durations {
            let Some(text) = text else { continue };
            *setting = Duration::from_millis(quantity(name, text, &DURATION_UNITS, "a duration like \"30s\"")?);
        }
        if let Some(text) = &self.connection_idle_max {
            let units = [("s", 1), ("m", 60), ("h", 3600)];
            let seconds = quantity("connection_idle_max", text, &units, "a duration like \"1h\"")?;
            config.connection_idle_max = Duration::from_secs(seconds);
        }
        for (name, user) in self.users {
            let (verifier, limits) = user.validate(&name)?;
            config.users.insert(name.clone(), verifier);
            config.user_limits.insert(name, limits);
        }
        config.connections_max = positive("connections_max", self.connections_max.unwrap_or(config.connections_max))?;
        let size = |name, text: &str| quantity(name, text, &SIZE_UNITS, "a size like \"1GiB\"");
        if let Some(text) = &self.memory {
            config.memory_bytes = usize::try_from(size("memory", text)?).unwrap_or(usize::MAX);
        }
        if let Some(text) = &self.spill {
            config.spill_bytes = size("spill", text)?;
        }
        if let Some(text) = &self.job_size_max {
            config.job_size_bytes_max = size("job_size_max", text)?;
        }
        if let Some(text) = &self.jobs_size_max {
            config.jobs_size_bytes_max = size("jobs_size_max", text)?;
        }
        config.jobs_max = positive("jobs_max", self.jobs_max.unwrap_or(config.jobs_max))?;
        config.roles = self.roles.as_deref().map(RoleTable::with_file).transpose()?;
        config.rows_max = positive("rows_max", self.rows_max.unwrap_or(config.rows_max))?;
        config.concurrency_max = positive("concurrency_max", self.concurrency_max.unwrap_or(config.concurrency_max))?;
        config.queue_max = self.queue_max.unwrap_or(config.concurrency_max * WAITING_PER_SLOT);
        Ok(config)
    }
}

fn positive(name: &'static str, value: usize) -> Result<usize> {
    if value > 0 { Ok(value) } else { Err(Error::Config { name, reason: "must be above 0".into() }) }
}

/// Reads a number with one of `units`.
fn quantity(name: &'static str, text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len()));
    let scale = units.iter().find(|(known, _)| *known == unit.trim()).map(|(_, scale)| *scale);
    let value = scale.and_then(|scale| number.parse::<u64>().ok()?.checked_mul(scale));
    match value {
        Some(0) => Err(Error::Config { name, reason: "must be above 0".into() }),
        Some(value) => Ok(value),
        None => Err(Error::Config { name, reason: format!("{text:?} is not {expected}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section: &str) -> Result<Config> {
        toml::from_str::<RawConfig>(section).unwrap().validate()
    }

    #[test]
    fn settings_are_read_with_their_unit_and_wrong_ones_are_named() {
        let config = check("timeout = \"250ms\"\nmemory = \"64MiB\"\nrows_max = 5").unwrap();
        assert_eq!((config.timeout, config.memory_bytes), (Duration::from_millis(250), 64 << 20));
        assert_eq!((config.rows_max, config.concurrency_max, config.queue_max), (5, 16, 128));
        assert_eq!(check("concurrency_max = 2").unwrap().queue_max, 16);
        assert_eq!(check("queue_max = 0").unwrap().queue_max, 0);
        for (section, name) in [
            ("timeout = \"0s\"", "timeout"),
            ("timeout = \"30\"", "timeout"),
            ("memory = \"1 parsec\"", "memory"),
            ("spill = \"99999999999GiB\"", "spill"),
            ("job_timeout = \"0s\"", "job_timeout"),
            ("job_size_max = \"much\"", "job_size_max"),
            ("rows_max = 0", "rows_max"),
            ("concurrency_max = 0", "concurrency_max"),
        ] {
            let message = check(section).unwrap_err().to_string();
            assert!(message.contains(&format!("query.{name}:")), "{section}: {message}");
        }
    }
}
