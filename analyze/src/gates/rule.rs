//! What a rule states about a table or one of its columns.

use std::fmt;
use std::time::Duration;

use super::image::ImageRules;
use super::limit::{Condition, Limit, Unit};

/// What a broken rule does to the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The batch passes, with a mark.
    Warn,
    /// The batch is held back.
    #[default]
    Fail,
}

/// Dimension of data quality. Source: Open Data Contract Standard 3.1, "Valid Values for Dimension".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Dimension {
    Accuracy,
    Completeness,
    Conformity,
    Consistency,
    Coverage,
    Timeliness,
    Uniqueness,
}

impl Dimension {
    /// Reads the name or its two-letter synonym.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "accuracy" | "ac" => Self::Accuracy,
            "completeness" | "cp" => Self::Completeness,
            "conformity" | "cf" => Self::Conformity,
            "consistency" | "cs" => Self::Consistency,
            "coverage" | "cv" => Self::Coverage,
            "timeliness" | "tm" => Self::Timeliness,
            "uniqueness" | "uq" => Self::Uniqueness,
            _ => return None,
        })
    }

    /// The standard's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Completeness => "completeness",
            Self::Conformity => "conformity",
            Self::Consistency => "consistency",
            Self::Coverage => "coverage",
            Self::Timeliness => "timeliness",
            Self::Uniqueness => "uniqueness",
        }
    }
}

/// Type of a column as a contract states it. Source: Open Data Contract Standard 3.1, `logicalType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum LogicalType {
    String,
    Date,
    Timestamp,
    Time,
    Number,
    Integer,
    Boolean,
    Object,
    Array,
}

impl LogicalType {
    /// Reads the standard's name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "string" => Self::String,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "time" => Self::Time,
            "number" => Self::Number,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            "object" => Self::Object,
            "array" => Self::Array,
            _ => return None,
        })
    }

    /// The standard's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Time => "time",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
        }
    }
}

/// An interval of numbers; an absent end is open.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Interval {
    /// Smallest allowed value.
    pub min: Option<f64>,
    /// Largest allowed value.
    pub max: Option<f64>,
    /// Whether `min` itself is left out.
    pub min_exclusive: bool,
    /// Whether `max` itself is left out.
    pub max_exclusive: bool,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min {
            Some(min) => write!(f, "{}{min}, ", if self.min_exclusive { "(" } else { "[" })?,
            None => f.write_str("(-∞, ")?,
        }
        match self.max {
            Some(max) => write!(f, "{max}{}", if self.max_exclusive { ")" } else { "]" }),
            None => f.write_str("∞)"),
        }
    }
}

/// Spelling that all labels of a column follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelFormat {
    /// Class numbers without leading zeros: `0`, `17`.
    Integer,
    /// `lower_snake_case`
    Snake,
    /// `lower-kebab-case`
    Kebab,
    /// `UPPER_SNAKE_CASE`
    UpperSnake,
    /// Any text without white space at its ends and without control characters.
    Trimmed,
}

impl LabelFormat {
    /// Reads `integer`, `snake`, `kebab`, `upperSnake` or `trimmed`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "integer" => Self::Integer,
            "snake" => Self::Snake,
            "kebab" => Self::Kebab,
            "upperSnake" => Self::UpperSnake,
            "trimmed" => Self::Trimmed,
            _ => return None,
        })
    }

    /// The whole label as a regular expression.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Integer => r"^(?:0|[1-9][0-9]*)$",
            Self::Snake => r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$",
            Self::Kebab => r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$",
            Self::UpperSnake => r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$",
            Self::Trimmed => r"^[^\s\p{Cc}](?:[^\p{Cc}]*[^\s\p{Cc}])?$",
        }
    }
}

/// What a rule checks, with its parameters. Limits are on the rows that break it.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// Number of rows.
    RowCount(Limit),
    /// Number of rows as a multiple of the median of past batches.
    RowCountOfPast {
        /// Smallest allowed multiple.
        ratio_min: f64,
        /// Largest allowed multiple.
        ratio_max: f64,
    },
    /// Rows that are null, or one of these texts.
    Missing {
        /// Texts that stand for nothing, such as `N/A`.
        tokens: Vec<String>,
        /// Of the missing rows.
        limit: Limit,
    },
    /// Values that are NaN or infinite.
    NonFinite(Limit),
    /// Type of the column, and the unit in its metadata; also against the last batch.
    Type {
        /// The type that the contract states.
        logical: Option<LogicalType>,
        /// The value of the field's `unit` metadata.
        unit: Option<String>,
    },
    /// Values outside a set.
    AllowedSet {
        /// The set, as texts; read as numbers for a numeric column.
        values: Vec<String>,
        /// Of the rows outside.
        limit: Limit,
    },
    /// Values in which a regular expression is not found.
    Pattern {
        /// Syntax of the `regex` crate: no look-around, no back references.
        regex: String,
        /// Of the rows without a match.
        limit: Limit,
    },
    /// Labels that are spelt otherwise.
    LabelFormat {
        /// The spelling.
        format: LabelFormat,
        /// Of the rows spelt otherwise.
        limit: Limit,
    },
    /// Numbers outside an interval, NaN included.
    Range {
        /// The interval.
        interval: Interval,
        /// Of the rows outside.
        limit: Limit,
    },
    /// Finite numbers outside `[Q1 - factor·IQR, Q3 + factor·IQR]` of the batch itself (Tukey's fences).
    IqrOutliers {
        /// 1.5 by convention.
        factor: f64,
        /// Of the outliers.
        limit: Limit,
    },
    /// Finite numbers with `0.6745·|x - median| / MAD > z` of the batch itself (Iglewicz and Hoaglin 1993).
    RobustZ {
        /// 3.5 by convention.
        z: f64,
        /// Of the outliers.
        limit: Limit,
    },
    /// Rows whose key was seen before; rows with a null in the key are left out.
    Duplicates {
        /// The columns of the key.
        columns: Vec<String>,
        /// Of the surplus rows.
        limit: Limit,
    },
    /// Distinct keys in percent of the rows that have one.
    Uniqueness {
        /// The columns of the key.
        columns: Vec<String>,
        /// Of the distinct keys.
        limit: Limit,
    },
    /// Number of distinct values as a multiple of the median of past batches.
    DistinctOfPast {
        /// Smallest allowed multiple.
        ratio_min: f64,
        /// Largest allowed multiple.
        ratio_max: f64,
    },
    /// All values are equal.
    Constant,
    /// Columns that are missing, or that nobody asked for.
    Schema {
        /// The columns that have to be there.
        columns: Vec<String>,
        /// Whether others may be there too.
        open: bool,
    },
    /// Values smaller than their predecessor in the order of the rows; nulls are passed over.
    Monotone {
        /// Whether an equal value breaks the rule, too.
        strict: bool,
        /// Of the steps back.
        limit: Limit,
    },
    /// Age of the newest timestamp.
    Freshness {
        /// Oldest allowed age.
        age_max: Duration,
    },
    /// Share of each class.
    ClassBalance {
        /// Smallest allowed share, 0 to 1.
        share_min: Option<f64>,
        /// Largest allowed share, 0 to 1.
        share_max: Option<f64>,
        /// Classes that have to occur.
        classes: Vec<String>,
    },
    /// Values that do not occur in another table.
    Reference {
        /// `table.column`
        to: String,
        /// Of the rows without a counterpart.
        limit: Limit,
    },
    /// What the images of a folder or a manifest have to be like.
    Images(ImageRules),
    /// A rule that is not evaluated; it is reported as skipped, with the reason.
    Unsupported {
        /// Why not.
        reason: String,
    },
}

impl RuleKind {
    /// Name of the rule in contracts and results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RowCount(_) => "rowCount",
            Self::RowCountOfPast { .. } => "rowCountOfPast",
            Self::Missing { .. } => "missingValues",
            Self::NonFinite(_) => "nonFinite",
            Self::Type { .. } => "type",
            Self::AllowedSet { .. } => "allowedSet",
            Self::Pattern { .. } => "pattern",
            Self::LabelFormat { .. } => "labelFormat",
            Self::Range { .. } => "range",
            Self::IqrOutliers { .. } => "iqrOutliers",
            Self::RobustZ { .. } => "robustZ",
            Self::Duplicates { .. } => "duplicateValues",
            Self::Uniqueness { .. } => "uniqueness",
            Self::DistinctOfPast { .. } => "distinctOfPast",
            Self::Constant => "constant",
            Self::Schema { .. } => "schema",
            Self::Monotone { .. } => "monotone",
            Self::Freshness { .. } => "freshness",
            Self::ClassBalance { .. } => "classBalance",
            Self::Reference { .. } => "reference",
            Self::Images(_) => "images",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// The dimension a rule belongs to when its author names none.
    pub fn dimension(&self) -> Option<Dimension> {
        Some(match self {
            Self::RowCount(_) | Self::Missing { .. } => Dimension::Completeness,
            Self::RowCountOfPast { .. } | Self::ClassBalance { .. } => Dimension::Coverage,
            Self::NonFinite(_) | Self::IqrOutliers { .. } | Self::RobustZ { .. } | Self::Range { .. } => {
                Dimension::Accuracy
            }
            Self::Type { .. } | Self::AllowedSet { .. } | Self::Pattern { .. } | Self::LabelFormat { .. } => {
                Dimension::Conformity
            }
            Self::Schema { .. } => Dimension::Conformity,
            Self::Duplicates { .. } | Self::Uniqueness { .. } => Dimension::Uniqueness,
            Self::DistinctOfPast { .. } | Self::Constant | Self::Reference { .. } | Self::Images(_) => {
                Dimension::Consistency
            }
            Self::Monotone { .. } | Self::Freshness { .. } => Dimension::Timeliness,
            Self::Unsupported { .. } => return None,
        })
    }

    /// What the rule expects, for people.
    pub fn expected(&self) -> String {
        match self {
            Self::RowCount(limit) => format!("number of rows {}", without_unit(limit)),
            Self::RowCountOfPast { ratio_min, ratio_max } => {
                format!("{ratio_min} to {ratio_max} times the median rows of past batches")
            }
            Self::Missing { tokens, limit } if tokens.is_empty() => format!("null values {limit}"),
            Self::Missing { tokens, limit } => format!("null values and {} {limit}", listed(tokens)),
            Self::NonFinite(limit) => format!("NaN or infinite {limit}"),
            Self::Type { logical, unit } => match (logical, unit) {
                (Some(logical), Some(unit)) => format!("{} in {unit}", logical.as_str()),
                (Some(logical), None) => logical.as_str().to_string(),
                (None, Some(unit)) => format!("unit {unit}"),
                (None, None) => "type and unit of the last batch".into(),
            },
            Self::AllowedSet { values, limit } => format!("outside of {} {limit}", listed(values)),
            Self::Pattern { regex, limit } => format!("not matching {regex} {limit}"),
            Self::LabelFormat { format, limit } => format!("not matching {} {limit}", format.pattern()),
            Self::Range { interval, limit } => format!("outside of {interval} {limit}"),
            Self::IqrOutliers { factor, limit } => format!("beyond {factor} IQR of the quartiles {limit}"),
            Self::RobustZ { z, limit } => format!("robust z above {z} {limit}"),
            Self::Duplicates { columns, limit } => format!("duplicates of {} {limit}", columns.join(", ")),
            Self::Uniqueness { columns, limit } => format!("distinct {} {limit}", columns.join(", ")),
            Self::DistinctOfPast { ratio_min, ratio_max } => {
                format!("{ratio_min} to {ratio_max} times the median distinct values of past batches")
            }
            Self::Constant => "more than one value".into(),
            Self::Schema { columns, open: true } => format!("columns {}", listed(columns)),
            Self::Schema { columns, open: false } => format!("columns {} and no others", listed(columns)),
            Self::Monotone { strict, limit } => {
                format!("{} the row before {limit}", if *strict { "not above" } else { "below" })
            }
            Self::Freshness { age_max } => format!("newest row at most {} old", duration(*age_max)),
            Self::ClassBalance { share_min, share_max, classes } => balance(*share_min, *share_max, classes),
            Self::Reference { to, limit } => format!("not in {to} {limit}"),
            Self::Images(_) => "images that go together".into(),
            Self::Unsupported { .. } => "not evaluated".into(),
        }
    }
}

/// One rule of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Name that is unique within the table: the contract's, or made from kind and column.
    pub id: String,
    /// The column it is about; `None` for the table as a whole.
    pub column: Option<String>,
    /// What is checked.
    pub kind: RuleKind,
    /// What a broken rule does to the batch.
    pub severity: Severity,
    /// Dimension of data quality.
    pub dimension: Option<Dimension>,
    /// The author's words.
    pub description: Option<String>,
    /// Where it stands in its document; empty for a rule that applies by default.
    pub source: String,
}

impl Rule {
    /// A rule that fails the batch, with a name and a dimension made from its kind.
    pub fn new(column: Option<&str>, kind: RuleKind) -> Self {
        let id = column.map_or_else(|| kind.name().to_string(), |column| format!("{column}.{}", kind.name()));
        let dimension = kind.dimension();
        Self {
            id,
            column: column.map(str::to_string),
            kind,
            severity: Severity::Fail,
            dimension,
            description: None,
            source: String::new(),
        }
    }

    /// The same rule, which only warns.
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warn;
        self
    }

    /// At least 1000 rows: the rule of a table whose contract says nothing about their number.
    pub fn default_row_count() -> Self {
        Self::new(None, RuleKind::RowCount(Limit::new(Condition::GreaterOrEqual(1000.0), Unit::Rows)))
    }
}

fn without_unit(limit: &Limit) -> String {
    let text = limit.to_string();
    text.strip_suffix(" rows").map_or(text.clone(), str::to_string)
}

/// The first five, and how many more.
fn listed(values: &[String]) -> String {
    let mut text = values.iter().take(5).map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    if values.len() > 5 {
        text.push_str(&format!(" and {} more", values.len() - 5));
    }
    text
}

fn balance(share_min: Option<f64>, share_max: Option<f64>, classes: &[String]) -> String {
    let mut parts = Vec::new();
    if let Some(share) = share_min {
        parts.push(format!("each class at least {} %", share * 100.0));
    }
    if let Some(share) = share_max {
        parts.push(format!("each class at most {} %", share * 100.0));
    }
    if !classes.is_empty() {
        parts.push(format!("all of {}", listed(classes)));
    }
    parts.join(", ")
}

/// `90s`, `45m`, `4h` or `3d`: the largest unit that gives a whole or one-digit number.
pub(crate) fn duration(age: Duration) -> String {
    let seconds = age.as_secs_f64();
    let (value, unit) = match seconds {
        s if s >= 2.0 * 86_400.0 => (s / 86_400.0, "d"),
        s if s >= 2.0 * 3600.0 => (s / 3600.0, "h"),
        s if s >= 120.0 => (s / 60.0, "m"),
        s => (s, "s"),
    };
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_formats_accept_their_spelling_only() {
        let check = |format: &str, yes: &[&str], no: &[&str]| {
            let regex = regex::Regex::new(LabelFormat::parse(format).unwrap().pattern()).unwrap();
            yes.iter().for_each(|label| assert!(regex.is_match(label), "{format} {label:?}"));
            no.iter().for_each(|label| assert!(!regex.is_match(label), "{format} {label:?}"));
        };
        check("integer", &["0", "17"], &["", "01", "1.0", "-1", "1 ", "a"]);
        check("snake", &["cat", "big_cat2"], &["", "Cat", "big-cat", "_cat", "cat_"]);
        check("kebab", &["cat", "big-cat2"], &["", "Cat", "big_cat", "-cat"]);
        check("upperSnake", &["CAT", "BIG_CAT"], &["", "cat", "CAT_"]);
        check("trimmed", &["x", "Big cat", "été"], &["", " cat", "cat ", "a\tb", "a\nb"]);
        assert_eq!(LabelFormat::parse("camel"), None);
    }

    #[test]
    fn rules_name_themselves_and_what_they_expect() {
        let rule = Rule::default_row_count();
        assert_eq!((rule.id.as_str(), rule.kind.expected().as_str()), ("rowCount", "number of rows ≥ 1000"));
        let rule = Rule::new(Some("unit"), RuleKind::AllowedSet { values: vec!["kg".into()], limit: Limit::none() });
        assert_eq!(
            (rule.id.as_str(), rule.kind.expected().as_str()),
            ("unit.allowedSet", "outside of \"kg\" = 0 rows")
        );
        assert_eq!(duration(Duration::from_secs(4 * 86_400)), "4d");
        assert_eq!(duration(Duration::from_secs(90)), "90s");
        let open = Interval { min: Some(0.0), max_exclusive: true, ..Interval::default() };
        assert_eq!(open.to_string(), "[0, ∞)");
    }
}
