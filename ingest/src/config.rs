//! Settings of ingest.

use std::{
    collections::HashSet,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The `[ingest]` section as written; sizes in bytes or with a unit (`"16MiB"`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Bytes of a request body as sent. Default 16 MiB; beyond: 413.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub body_size_max: Option<String>,
    /// Bytes of a request after decompression. Default 64 MiB; beyond: 413.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub decompressed_size_max: Option<String>,
    /// Requests worked on at once. Default 64; beyond: overloaded.
    pub requests_in_flight_max: Option<usize>,
    /// Bytes of requests worked on at once. Default 256 MiB; beyond: overloaded.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub bytes_in_flight_max: Option<String>,
    /// Days of history accepted. Default 395; older points are refused.
    pub retention_days: Option<u32>,
    /// Seconds that a point may be ahead of the clock. Default 600.
    pub future_skew_seconds: Option<u32>,
    /// Bytes of one attribute value. Default 64 KiB; longer: the point is refused.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub attribute_value_size_max: Option<String>,
    /// Attributes of resource, scope and point together. Default 128; more: the point is refused.
    pub attributes_max: Option<usize>,
    /// Live series of one metric. Default 100 000; new ones beyond are refused.
    pub series_per_metric_max: Option<usize>,
    /// Live series. Default 1 000 000; new ones beyond are refused.
    pub series_max: Option<usize>,
    /// New series within one minute. Default 1 000 000; more are refused until the minute is over.
    pub new_series_per_minute_max: Option<usize>,
    /// Memory of the cache of known series. Default 256 MiB, in the server its share of `limits.memory`; series beyond are parsed anew when they come again.
    #[serde(deserialize_with = "driftwatt_store::size_text")]
    pub series_cache_size_max: Option<String>,
    /// Bearer tokens, any of which is accepted. Default none: no authorisation is asked for.
    pub tokens: Vec<String>,
}

/// Limits on points and series.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Microseconds of history accepted.
    pub retention_us: i64,
    /// Microseconds that a point may be ahead of the clock.
    pub future_skew_us: i64,
    /// Bytes of one attribute value.
    pub attribute_value_size_max: usize,
    /// Attributes of resource, scope and point together.
    pub attributes_max: usize,
    /// Live series of one metric.
    pub series_per_metric_max: usize,
    /// Live series.
    pub series_max: usize,
    /// New series within one minute.
    pub new_series_per_minute_max: usize,
    /// Bytes of the cache of known series.
    pub series_cache_size_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention_us: 395 * DAY_US,
            future_skew_us: 600 * 1_000_000,
            attribute_value_size_max: 64 << 10,
            attributes_max: 128,
            series_per_metric_max: 100_000,
            series_max: 1_000_000,
            new_series_per_minute_max: 1_000_000,
            series_cache_size_max: 256 << 20,
        }
    }
}

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// Checked settings of ingest.
#[derive(Clone)]
pub struct Config {
    /// Bytes of a request body as sent.
    pub body_size_max: usize,
    /// Bytes of a request after decompression.
    pub decompressed_size_max: usize,
    /// Requests worked on at once.
    pub requests_in_flight_max: usize,
    /// Bytes of requests worked on at once.
    pub bytes_in_flight_max: usize,
    /// Limits on points and series.
    pub limits: Limits,
    /// Accepted bearer tokens; empty: no authorisation.
    pub tokens: HashSet<String>,
    /// The clock, UTC microseconds.
    pub now: fn() -> i64,
}

// By hand, so that a log of the settings never shows a token.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("body_size_max", &self.body_size_max)
            .field("decompressed_size_max", &self.decompressed_size_max)
            .field("requests_in_flight_max", &self.requests_in_flight_max)
            .field("bytes_in_flight_max", &self.bytes_in_flight_max)
            .field("limits", &self.limits)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_size_max: 16 << 20,
            decompressed_size_max: 64 << 20,
            requests_in_flight_max: 64,
            bytes_in_flight_max: 256 << 20,
            limits: Limits::default(),
            tokens: HashSet::new(),
            now: system_now,
        }
    }
}

fn system_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl RawConfig {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is out of range.
    pub fn validate(self) -> Result<Config> {
        let mut config = Config::default();
        size("body_size_max", self.body_size_max, &mut config.body_size_max)?;
        size("decompressed_size_max", self.decompressed_size_max, &mut config.decompressed_size_max)?;
        size("bytes_in_flight_max", self.bytes_in_flight_max, &mut config.bytes_in_flight_max)?;
        let limits = &mut config.limits;
        size("attribute_value_size_max", self.attribute_value_size_max, &mut limits.attribute_value_size_max)?;
        positive("requests_in_flight_max", self.requests_in_flight_max, &mut config.requests_in_flight_max)?;
        positive("attributes_max", self.attributes_max, &mut limits.attributes_max)?;
        positive("series_per_metric_max", self.series_per_metric_max, &mut limits.series_per_metric_max)?;
        positive("series_max", self.series_max, &mut limits.series_max)?;
        let per_minute = &mut limits.new_series_per_minute_max;
        positive("new_series_per_minute_max", self.new_series_per_minute_max, per_minute)?;
        size("series_cache_size_max", self.series_cache_size_max, &mut limits.series_cache_size_max)?;
        if let Some(days) = self.retention_days {
            limits.retention_us = i64::from(days) * DAY_US;
        }
        if let Some(seconds) = self.future_skew_seconds {
            limits.future_skew_us = i64::from(seconds) * 1_000_000;
        }
        if config.bytes_in_flight_max < config.decompressed_size_max + config.body_size_max {
            let reason = "must hold one request: body_size_max and decompressed_size_max together".into();
            return Err(Error::Config { name: "bytes_in_flight_max", reason });
        }
        if self.tokens.iter().any(|token| token.trim().is_empty()) {
            return Err(Error::Config { name: "tokens", reason: "a token is empty".into() });
        }
        config.tokens = self.tokens.into_iter().collect();
        Ok(config)
    }
}

fn positive(name: &'static str, given: Option<usize>, setting: &mut usize) -> Result<()> {
    match given {
        // The bound keeps semaphores and sums of sizes in range.
        Some(value) if value == 0 || value > 1 << 30 => {
            Err(Error::Config { name, reason: format!("{value} is not from 1 to {}", 1 << 30) })
        }
        Some(value) => {
            *setting = value;
            Ok(())
        }
        None => Ok(()),
    }
}

fn size(name: &'static str, given: Option<String>, setting: &mut usize) -> Result<()> {
    let Some(given) = given else { return Ok(()) };
    let trimmed = given.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let scale = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    match scale.and_then(|scale: usize| number.parse::<usize>().ok()?.checked_mul(scale)) {
        Some(value) if (1..=64 << 30).contains(&value) => {
            *setting = value;
            Ok(())
        }
        _ => Err(Error::Config { name, reason: format!("{given:?} is not a size like \"16MiB\", at most 64GiB") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_by_name() {
        let config = RawConfig { body_size_max: Some("1MiB".into()), ..RawConfig::default() }.validate().unwrap();
        assert_eq!(config.body_size_max, 1 << 20);
        let bad = RawConfig { series_max: Some(0), ..RawConfig::default() }.validate().unwrap_err();
        assert!(bad.to_string().contains("ingest.series_max"), "{bad}");
        assert!(RawConfig { bytes_in_flight_max: Some("1KiB".into()), ..RawConfig::default() }.validate().is_err());
        assert!(RawConfig { body_size_max: Some("ten".into()), ..RawConfig::default() }.validate().is_err());
        assert!(RawConfig { tokens: vec![" ".into()], ..RawConfig::default() }.validate().is_err());
    }

    #[test]
    fn tokens_are_not_shown() {
        let config = RawConfig { tokens: vec!["hush".into()], ..RawConfig::default() }.validate().unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
