//! Settings of queries.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The `[query]` section as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Time one query may take, seconds. Beyond it the query is stopped. Default 30.
    pub timeout_seconds: Option<u64>,
    /// Rows of a JSON answer; a longer answer is cut and says `"truncated": true`. Default 10 000.
    pub rows_max: Option<usize>,
    /// Memory of all queries together, MiB; beyond it operators spill or the query fails. Default 1024.
    pub memory_mib: Option<usize>,
    /// Queries at once; further ones are refused. Default 16.
    pub concurrency_max: Option<usize>,
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
    /// Queries at once.
    pub concurrency_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), rows_max: 10_000, memory_bytes: 1 << 30, concurrency_max: 16 }
    }
}

impl RawConfig {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting of 0.
    pub fn validate(self) -> Result<Config> {
        let default = Config::default();
        let positive = |name: &'static str, value: usize| {
            if value > 0 { Ok(value) } else { Err(Error::Config { name, reason: "must be above 0".into() }) }
        };
        let timeout = self.timeout_seconds.unwrap_or(default.timeout.as_secs());
        positive("timeout_seconds", usize::from(timeout > 0))?;
        let memory_mib = positive("memory_mib", self.memory_mib.unwrap_or(default.memory_bytes >> 20))?;
        Ok(Config {
            timeout: Duration::from_secs(timeout),
            rows_max: positive("rows_max", self.rows_max.unwrap_or(default.rows_max))?,
            memory_bytes: memory_mib.saturating_mul(1 << 20),
            concurrency_max: positive("concurrency_max", self.concurrency_max.unwrap_or(default.concurrency_max))?,
        })
    }
}
