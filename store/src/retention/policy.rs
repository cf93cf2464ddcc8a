//! How long each table is kept.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::metric_rule::{MetricRule, RawMetricRule, validate};
use crate::{
    config::parse_duration,
    error::{Error, Result},
    memtable::DAY_US,
    state::WalTable,
};

/// Partitions are days, so nothing shorter can be kept.
const KEEP_MIN: Duration = Duration::from_secs(86_400);
const SAMPLES_DEFAULT: Duration = Duration::from_secs(395 * 86_400);

/// The `[store.retention]` section as written: `"395d"`, `"8w"` or `"forever"`, at least one day.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRetention {
    /// Default 395 days.
    pub samples: Option<String>,
    /// Default as `samples`.
    pub histograms: Option<String>,
    /// Default, and at least, the longer of `samples` and `histograms`, which refer to it.
    pub series: Option<String>,
    /// Default as `samples`.
    pub rejections: Option<String>,
    /// Every result table. Default forever.
    pub results: Option<String>,
    /// Metrics that are kept longer or shorter than their tables. Default none.
    pub metric: Vec<RawMetricRule>,
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// This long after its time.
    For(Duration),
    /// Until somebody deletes it.
    Forever,
}

/// How long each table is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Table `samples`.
    pub samples: Keep,
    /// Table `histograms`.
    pub histograms: Keep,
    /// Table `series`.
    pub series: Keep,
    /// Table `rejections`.
    pub rejections: Keep,
    /// Every result table.
    pub results: Keep,
    /// Metrics that are kept longer or shorter than their tables. The longest pattern that matches a metric holds.
    pub metrics: Vec<MetricRule>,
}

impl Keep {
    /// Microseconds, `i64::MAX` for ever.
    pub fn as_micros(self) -> i64 {
        match self {
            Self::For(duration) => i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
            Self::Forever => i64::MAX,
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(_) if self.as_micros() % DAY_US == 0 => write!(f, "{}d", self.as_micros() / DAY_US),
            Self::For(duration) => write!(f, "{}s", duration.as_secs()),
        }
    }
}

impl Retention {
    /// Nothing is ever deleted.
    pub const FOREVER: Self = Self {
        samples: Keep::Forever,
        histograms: Keep::Forever,
        series: Keep::Forever,
        rejections: Keep::Forever,
        results: Keep::Forever,
        metrics: Vec::new(),
    };

    /// The setting of table `name`, and its value.
    pub(crate) fn of_table(&self, name: &str) -> (&'static str, Keep) {
        match WalTable::from_name(name) {
            Some(WalTable::Samples) => ("samples", self.samples),
            Some(WalTable::Histograms) => ("histograms", self.histograms),
            Some(WalTable::Series) => ("series", self.series),
            Some(WalTable::Rejections) => ("rejections", self.rejections),
            None => ("results", self.results),
        }
    }
}

impl RawRetention {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read or is out of range.
    pub(crate) fn validate(&self) -> Result<Retention> {
        let samples = keep("retention.samples", self.samples.as_ref(), Keep::For(SAMPLES_DEFAULT))?;
        let histograms = keep("retention.histograms", self.histograms.as_ref(), samples)?;
        let points = samples.max(histograms);
        let series = keep("retention.series", self.series.as_ref(), points)?;
        if series < points {
            let reason = format!("{series} is shorter than the {points} of the points, which could not be named then");
            return Err(Error::Config { name: "retention.series", reason });
        }
        let rejections = keep("retention.rejections", self.rejections.as_ref(), samples)?;
        let results = keep("retention.results", self.results.as_ref(), Keep::Forever)?;
        let metrics = validate(&self.metric)?;
        Ok(Retention { samples, histograms, series, rejections, results, metrics })
    }
}

pub(super) fn keep(name: &'static str, text: Option<&String>, default: Keep) -> Result<Keep> {
    let Some(text) = text.map(|text| text.trim()) else { return Ok(default) };
    if text == "forever" {
        return Ok(Keep::Forever);
    }
    match parse_duration(name, text) {
        Ok(duration) if duration >= KEEP_MIN => Ok(Keep::For(duration)),
        Ok(_) => Err(Error::Config { name, reason: format!("{text:?} is below 1d") }),
        Err(_) => {
            Err(Error::Config { name, reason: format!("{text:?} is neither \"forever\" nor a time like \"395d\"") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(toml: &[(&str, &str)]) -> Result<Retention> {
        let given = |name: &str| toml.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let raw = RawRetention {
            samples: given("samples"),
            histograms: given("histograms"),
            series: given("series"),
            rejections: given("rejections"),
            results: given("results"),
            metric: vec![],
        };
        raw.validate()
    }

    fn text(retention: Retention) -> [String; 5] {
        let Retention { samples, histograms, series, rejections, results, .. } = retention;
        [samples, histograms, series, rejections, results].map(|keep| keep.to_string())
    }

    #[test]
    fn tables_follow_samples_and_series_outlive_all_points() {
        assert_eq!(text(validated(&[]).unwrap()), ["395d", "395d", "395d", "395d", "forever"]);
        let longer = [("samples", "2w"), ("histograms", "30d"), ("results", "52w")];
        assert_eq!(text(validated(&longer).unwrap()), ["14d", "30d", "30d", "14d", "364d"]);
        assert_eq!(validated(&[("samples", "forever")]).unwrap().series, Keep::Forever);
        assert_eq!(validated(&[("samples", "36h")]).unwrap().samples.to_string(), "129600s");
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (name, value, expected) in [
            ("samples", "1h", "store.retention.samples: \"1h\" is below 1d"),
            ("samples", "always", "store.retention.samples: \"always\" is neither"),
            ("results", "99999999999999999999d", "store.retention.results"),
            ("series", "30d", "store.retention.series: 30d is shorter than the 395d"),
        ] {
            let error = validated(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
