//! What the name of a model says: `model_resnet18_v2.1_20240801`. Names of data sets are read by
//! [`BatchName`](crate::gates::BatchName).
//!
//! A name is data from people, so reading one never fails: what could be read is there, what is odd is listed with what
//! is wrong, and a part that is odd is left out rather than guessed.

use std::cmp::Ordering;

use chrono::{Datelike, NaiveDate};

use super::artifact_version::{ArtifactVersion, VersionError};

/// Bytes of a name that are read; file systems allow no more in one component.
const LENGTH_MAX: usize = 255;
/// Years in which a date of a model is believed.
const YEARS: std::ops::RangeInclusive<i32> = 1990..=2099;
/// Endings that are the format of a file and not part of a version; compound ones first.
const EXTENSIONS: &[&str] = &[
    "tar.gz",
    "tar.zst",
    "tar",
    "tgz",
    "zip",
    "pt",
    "pth",
    "ckpt",
    "onnx",
    "safetensors",
    "gguf",
    "bin",
    "pb",
    "weights.h5",
    "h5",
    "keras",
    "joblib",
    "pkl",
    "pickle",
    "engine",
    "plan",
    "tflite",
    "npz",
    "npy",
    "mar",
    "parquet",
    "csv",
    "jsonl",
    "json",
    "arrow",
    "txt",
];
/// Words whose following number counts training progress, so that `step_202401` is no month.
const PROGRESS_WORDS: &[&str] = &["step", "steps", "epoch", "iter", "iteration"];

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArtifactKind {
    /// `model_…`, or a name without a prefix that carries a version.
    Model,
    /// Neither prefix nor version.
    Unknown,
}

/// The date in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArtifactDate {
    /// `YYYYMM`: the first day of the month stands for it.
    Month(NaiveDate),
    /// `YYYYMMDD` or `YYYY-MM-DD`.
    Day(NaiveDate),
}

/// One thing that is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Oddity {
    /// Nothing but white space.
    #[error("the name is empty")]
    Empty,
    /// Longer than a file name may be.
    #[error("the name has {bytes} bytes, more than 255: only the start was read")]
    TooLong {
        /// Bytes of the whole name.
        bytes: usize,
    },
    /// A character that breaks paths, URLs or shells.
    #[error("character {character:?}: use letters, digits, '.', '-' and '_'")]
    Character {
        /// The first such character.
        character: char,
    },
    /// Two separators in a row, or one at an end.
    #[error("an empty part between two '_'")]
    EmptyPart,
    /// No part that is a plain name.
    #[error("no name besides version and date: write model_NAME_v1.0_20240801")]
    NoName,
    /// A model without `_vN`.
    #[error("no version: write model_NAME_v1.0_20240801")]
    NoVersion,
    /// A part begins like a version and is none.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Numbers with dots and no `v` in front.
    #[error("{text:?} looks like a version without its v: write v{text}")]
    UnmarkedVersion {
        /// The part in question.
        text: String,
    },
    /// Two versions: neither is taken.
    #[error("two versions, {first:?} and {second:?}: neither is taken")]
    TwoVersions {
        /// The version that stands first.
        first: String,
        /// The one after it.
        second: String,
    },
    /// Digits in the shape of a date that the calendar does not have.
    #[error("{text:?} is no date: write YYYYMMDD or YYYYMM, years 1990 to 2099")]
    Date {
        /// The part in question.
        text: String,
    },
    /// Two dates: neither is taken.
    #[error("two dates, {first:?} and {second:?}: neither is taken")]
    TwoDates {
        /// The date that stands first.
        first: String,
        /// The one after it.
        second: String,
    },
    /// The date stands before the version of a model.
    #[error("the date stands before the version: write model_NAME_v1.0_20240801")]
    Order,
}

/// Why a name gives no age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgeError {
    /// The name has no date, or an odd one.
    #[error("the name has no date")]
    NoDate,
    /// The date lies after the day that was asked about.
    #[error("the date in the name is {days} days in the future")]
    InFuture {
        /// Days from the day asked about to the date in the name.
        days: i64,
    },
}

/// A name and what could be read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactName {
    /// As received.
    pub raw: String,
    /// What it names.
    pub kind: ArtifactKind,
    /// Plain parts joined by `_`, as in `resnet18`; `None` where there are none.
    pub name: Option<String>,
    /// Version; `None` where there is none, or none that is sure.
    pub version: Option<ArtifactVersion>,
    /// Date; `None` where there is none, or none that is sure.
    pub date: Option<ArtifactDate>,
    /// Ending of a known file format, lower case, without its dot.
    pub extension: Option<String>,
    /// What is wrong, in the order of reading; empty for a name that follows the grammar.
    pub oddities: Vec<Oddity>,
}

impl ArtifactName {
    /// Reads a name, or the last component of a path.
    ///
    /// Grammar: `[model_]NAME_vNUMBERS[-PRE][_DATE][.EXT]` with `DATE` as `YYYYMMDD`, `YYYY-MM-DD` or `YYYYMM`.
    pub fn parse(raw: &str) -> Self {
        let mut reading = Reading::default();
        let text = reading.clean(raw);
        let (stem, extension) = split_extension(text);
        let mut parts: Vec<&str> = stem.split('_').collect();
        let prefix = take_prefix(&mut parts);
        let mut previous = "";
        for part in parts {
            reading.take(part, previous);
            previous = part;
        }
        reading.finish(raw, prefix, extension)
    }

    /// Whole days from the date in the name to `today`; of a month, from its first day.
    ///
    /// # Errors
    /// [`AgeError`] if there is no date or it lies after `today`.
    pub fn age_days(&self, today: NaiveDate) -> Result<i64, AgeError> {
        let (ArtifactDate::Day(date) | ArtifactDate::Month(date)) = self.date.ok_or(AgeError::NoDate)?;
        let days = today.signed_duration_since(date).num_days();
        if days < 0 { Err(AgeError::InFuture { days: -days }) } else { Ok(days) }
    }

    /// Which of two artifacts of the same kind and name is newer: by version, then by date.
    ///
    /// `None` where they are not comparable: other names, or a version that only one of them has.
    pub fn compare_release(&self, other: &Self) -> Option<Ordering> {
        if self.kind != other.kind || self.name.is_none() || self.name != other.name {
            return None;
        }
        match (&self.version, &other.version) {
            (Some(left), Some(right)) => Some(left.cmp(right).then_with(|| self.date.cmp(&other.date))),
            (None, None) => Some(self.date?.cmp(&other.date?)),
            _ => None,
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    names: Vec<String>,
    versions: Vec<(String, ArtifactVersion)>,
    dates: Vec<(String, ArtifactDate)>,
    date_first: bool,
    oddities: Vec<Oddity>,
}

impl Reading {
    fn clean<'a>(&mut self, raw: &'a str) -> &'a str {
        let mut text = raw.trim().trim_end_matches('/');
        text = text.rsplit('/').next().unwrap_or(text);
        if text.is_empty() {
            self.oddities.push(Oddity::Empty);
        }
        if text.len() > LENGTH_MAX {
            self.oddities.push(Oddity::TooLong { bytes: text.len() });
            let end = (0..=LENGTH_MAX).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0);
            text = &text[..end];
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        if let Some(character) = text.chars().find(|&c| !plain(c)) {
            self.oddities.push(Oddity::Character { character });
        }
        text
    }

    fn take(&mut self, part: &str, previous: &str) {
        let mut letters = part.chars();
        let marked = matches!(letters.next(), Some('v' | 'V')) && letters.next().is_some_and(|c| c.is_ascii_digit());
        if part.is_empty() {
            self.oddities.push(Oddity::EmptyPart);
        } else if marked {
            match ArtifactVersion::parse(part) {
                Ok(version) => self.versions.push((part.to_owned(), version)),
                Err(error) => self.oddities.push(error.into()),
            }
        } else if looks_like_date(part) && !PROGRESS_WORDS.contains(&previous) {
            match read_date(part) {
                Some(date) => {
                    self.date_first |= self.versions.is_empty();
                    self.dates.push((part.to_owned(), date));
                }
                None => self.oddities.push(Oddity::Date { text: part.to_owned() }),
            }
        } else if part.contains('.') && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            self.oddities.push(Oddity::UnmarkedVersion { text: part.to_owned() });
        } else {
            self.names.push(part.to_owned());
        }
    }

    fn finish(mut self, raw: &str, prefix: ArtifactKind, extension: Option<String>) -> ArtifactName {
        if let [(first, _), (second, _), ..] = self.versions.as_slice() {
            self.oddities.push(Oddity::TwoVersions { first: first.clone(), second: second.clone() });
        }
        if let [(first, _), (second, _), ..] = self.dates.as_slice() {
            self.oddities.push(Oddity::TwoDates { first: first.clone(), second: second.clone() });
        }
        let kind = match prefix {
            ArtifactKind::Unknown if !self.versions.is_empty() => ArtifactKind::Model,
            other => other,
        };
        let explained = |oddity: &Oddity| {
            matches!(oddity, Oddity::Empty | Oddity::Version(_) | Oddity::UnmarkedVersion { .. } | Oddity::Date { .. })
        };
        if self.names.is_empty() && !self.oddities.contains(&Oddity::Empty) {
            self.oddities.push(Oddity::NoName);
        }
        if self.versions.is_empty() && !self.oddities.iter().any(explained) {
            self.oddities.push(Oddity::NoVersion);
        }
        if self.date_first && !self.versions.is_empty() {
            self.oddities.push(Oddity::Order);
        }
        ArtifactName {
            raw: raw.to_owned(),
            kind,
            name: (!self.names.is_empty()).then(|| self.names.join("_")),
            version: only(self.versions),
            date: only(self.dates),
            extension,
            oddities: self.oddities,
        }
    }
}

/// The single element, or nothing where the name contradicts itself.
fn only<T>(mut found: Vec<(String, T)>) -> Option<T> {
    if found.len() == 1 { found.pop().map(|(_, value)| value) } else { None }
}

fn take_prefix(parts: &mut Vec<&str>) -> ArtifactKind {
    if let ["model", _, ..] = parts.as_slice() {
        parts.remove(0);
        return ArtifactKind::Model;
    }
    ArtifactKind::Unknown
}

fn split_extension(text: &str) -> (&str, Option<String>) {
    for extension in EXTENSIONS {
        let Some(dot) = text.len().checked_sub(extension.len() + 1) else { continue };
        let ends = text.get(dot + 1..).is_some_and(|ending| ending.eq_ignore_ascii_case(extension));
        if ends && dot > 0 && text.as_bytes()[dot] == b'.' {
            return (&text[..dot], Some((*extension).to_owned()));
        }
    }
    (text, None)
}

/// Eight or six digits, or digits in the form of `2024-08-01`.
fn looks_like_date(part: &str) -> bool {
    let shape: String = part.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    matches!(shape.as_str(), "00000000" | "000000" | "0000-00-00" | "0000-00")
}

fn read_date(part: &str) -> Option<ArtifactDate> {
    let digits: String = part.chars().filter(char::is_ascii_digit).collect();
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u32>().ok();
    let year = i32::try_from(number(0..4)?).ok()?;
    let day = if digits.len() == 8 { number(6..8)? } else { 1 };
    let date = NaiveDate::from_ymd_opt(year, number(4..6)?, day)?;
    if !YEARS.contains(&date.year()) {
        return None;
    }
    Some(if digits.len() == 8 { ArtifactDate::Day(date) } else { ArtifactDate::Month(date) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    fn check_odd(raw: &str, expected: &str) {
        let name = ArtifactName::parse(raw);
        let said: Vec<String> = name.oddities.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|text| text.contains(expected)), "{raw}: {said:?}");
    }

    #[test]
    fn the_names_of_the_grammar_read_without_complaint() {
        let model = ArtifactName::parse("model_resnet18_v2.1_20240801");
        assert_eq!(model.oddities, []);
        assert_eq!(model.kind, ArtifactKind::Model);
        assert_eq!(model.name.as_deref(), Some("resnet18"));
        assert_eq!(model.version, Some(ArtifactVersion::parse("2.1").unwrap()));
        assert_eq!(model.date, Some(ArtifactDate::Day(day(2024, 8, 1))));

        let packed = ArtifactName::parse("s3://bucket/models/model_resnet_v3_202408.tar.gz");
        assert_eq!((packed.oddities, packed.name.as_deref()), (vec![], Some("resnet")));
        assert_eq!(packed.date, Some(ArtifactDate::Month(day(2024, 8, 1))));
        assert_eq!(packed.extension.as_deref(), Some("tar.gz"));

        let bare = ArtifactName::parse("bert_base_uncased_v1.0.3-rc.1_2024-02-29.safetensors");
        assert_eq!(bare.oddities, []);
        assert_eq!((bare.kind, bare.name.as_deref()), (ArtifactKind::Model, Some("bert_base_uncased")));
        assert!(bare.version.unwrap().is_pre_release());

        let step = ArtifactName::parse("model_llama_step_202413_v3.pt");
        assert_eq!((step.oddities, step.date, step.name.as_deref()), (vec![], None, Some("llama_step_202413")));
    }

    #[test]
    fn odd_names_say_what_is_wrong() {
        check_odd("", "empty");
        check_odd("model_resnet18", "no version");
        check_odd("model_v2_20240801", "no name");
        check_odd("model_resnet_v2_20240231", "\"20240231\" is no date");
        check_odd("model_resnet_v2_20241301", "is no date");
        check_odd("model_resnet_v2_18700101", "is no date");
        check_odd("model_resnet_2.1_20240801", "write v2.1");
        check_odd("model_resnet_v2..1", "where a number is due");
        check_odd("model_resnet_v1_v2", "neither is taken");
        check_odd("model_resnet_v1_20240101_20240102", "two dates");
        check_odd("model_resnet_20240101_v1", "before the version");
        check_odd("model__resnet_v1", "empty part");
        check_odd("model_res net_v1", "character ' '");
        check_odd(&format!("model_{}_v1", "x".repeat(300)), "more than 255");
    }

    #[test]
    fn an_odd_part_is_left_out_and_not_guessed() {
        let name = ArtifactName::parse("model_resnet_v1_v2_20240231");
        assert_eq!((name.version, name.date), (None, None));
    }

    #[test]
    fn newer_is_by_number_and_then_by_date() {
        let compare = |left: &str, right: &str| ArtifactName::parse(left).compare_release(&ArtifactName::parse(right));
        assert_eq!(compare("model_a_v2.10_20240101", "model_a_v2.9_20240801"), Some(Ordering::Greater));
        assert_eq!(compare("model_a_v2.9_20240101", "model_a_v2.9_20240801"), Some(Ordering::Less));
        assert_eq!(compare("model_a_v2.10-rc.1", "model_a_v2.10"), Some(Ordering::Less));
        assert_eq!(compare("model_a_202407", "model_a_202408"), Some(Ordering::Less));
        assert_eq!(compare("model_a_v1", "model_b_v2"), None);
        assert_eq!(compare("model_a_v1", "model_a"), None);
    }

    #[test]
    fn age_is_known_or_says_why_not() {
        let name = ArtifactName::parse("model_a_v1_20240801");
        assert_eq!(name.age_days(day(2024, 8, 31)), Ok(30));
        assert_eq!(name.age_days(day(2024, 7, 31)), Err(AgeError::InFuture { days: 1 }));
        assert_eq!(ArtifactName::parse("model_a_v1").age_days(day(2024, 8, 1)), Err(AgeError::NoDate));
    }

    proptest! {
        #[test]
        fn any_text_reads_and_keeps_its_raw_form(raw in "\\PC{0,80}|(model_)?[a-z]{0,3}_v[0-9.]{0,4}_[0-9]{5,9}(\\.[a-zä]{1,4})?") {
            prop_assert_eq!(ArtifactName::parse(&raw).raw, raw);
        }
    }
}
