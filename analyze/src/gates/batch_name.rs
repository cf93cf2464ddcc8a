//! What the name of a data set says: `train_data_202408_resnet.parquet` is the data set `train_data` of August 2024 for
//! the model `resnet`.
//!
//! Names are a convention of people, so nothing is guessed: a part that is not understood stays a part of the data set
//! or of the model, and what looks wrong (month 13, two periods) is an [`Oddity`] that the report lists.

use std::fmt;

/// The period that a name states: a month, or a day of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Calendar year, 1970 to 2199.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, where the name states one.
    pub day: Option<u8>,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)?;
        self.day.map_or(Ok(()), |day| write!(f, "-{day:02}"))
    }
}

/// Something in a name that does not follow the convention `<dataset>_<period>_<model>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// Nothing is left once the extension is gone.
    Empty,
    /// No part is a period, so batches of this data set cannot be put in order by their names.
    NoPeriod,
    /// A part has the digits of a period, but no such month or day exists.
    ImpossiblePeriod(String),
    /// A second period; the first one counts.
    SecondPeriod(String),
    /// The name begins with its period, so it names no data set.
    NoDataset,
    /// White space or control characters, which break scripts and object keys.
    Unprintable,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the name is empty; use <dataset>_<yyyymm>_<model>"),
            Self::NoPeriod => write!(f, "no period such as 202408 or 2024-08; add one to order the batches"),
            Self::ImpossiblePeriod(part) => write!(f, "{part:?} looks like a period, but no such date exists"),
            Self::SecondPeriod(part) => write!(f, "{part:?} is a second period; the first one counts"),
            Self::NoDataset => write!(f, "no data set before the period"),
            Self::Unprintable => write!(f, "white space or control characters; use letters, digits, '_', '-' and '.'"),
        }
    }
}

/// Tags read from the name of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchName {
    /// Parts before the period, joined by `_`; all parts where there is no period.
    pub dataset: Option<String>,
    /// The first period in the name.
    pub period: Option<Period>,
    /// Parts after the period, joined by `_`.
    pub model: Option<String>,
    /// What does not follow the convention, in the order of the name.
    pub oddities: Vec<Oddity>,
}

impl BatchName {
    /// Reads a file name, an object key or a table name; folders and extensions are left out.
    ///
    /// Parts are separated by `_`, `-`, `.` or white space. A period is `yyyymm`, `yyyymmdd`, `yyyy-mm` or `yyyy-mm-dd`.
    pub fn parse(name: &str) -> Self {
        let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = without_extensions(file);
        let mut found = Self::default();
        if stem.chars().any(|c| c.is_whitespace() || c.is_control()) {
            found.oddities.push(Oddity::Unprintable);
        }
        let parts: Vec<&str> = stem
            .split(|c: char| matches!(c, '_' | '-' | '.') || c.is_whitespace() || c.is_control())
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            found.oddities.push(Oddity::Empty);
            return found;
        }
        found.read_parts(&parts);
        found
    }

    fn read_parts(&mut self, parts: &[&str]) {
        let (mut dataset, mut model) = (Vec::new(), Vec::new());
        let mut index = 0;
        while index < parts.len() {
            let (reading, used) = read_period(&parts[index..]);
            match reading {
                Reading::Period(period) if self.period.is_none() => self.period = Some(period),
                Reading::Period(_) => self.oddities.push(Oddity::SecondPeriod(parts[index..index + used].join("-"))),
                Reading::Impossible => {
                    self.oddities.push(Oddity::ImpossiblePeriod(parts[index..index + used].join("-")))
                }
                Reading::Word if self.period.is_none() => dataset.push(parts[index]),
                Reading::Word => model.push(parts[index]),
            }
            index += used;
        }
        if self.period.is_none() {
            self.oddities.push(Oddity::NoPeriod);
        } else if dataset.is_empty() {
            self.oddities.push(Oddity::NoDataset);
        }
        self.dataset = joined(&dataset);
        self.model = joined(&model);
    }
}

enum Reading {
    Period(Period),
    Impossible,
    Word,
}

/// The reading of the first part or parts, and how many of them it took.
fn read_period(parts: &[&str]) -> (Reading, usize) {
    let number = |index: usize, digits: usize| {
        let part = parts.get(index)?;
        (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u32>().ok())?
    };
    let is_year = |year: u32| (1970..2200).contains(&year);
    if let Some(value) = number(0, 6).filter(|value| is_year(value / 100)) {
        return (period(value / 100, value % 100, None), 1);
    }
    if let Some(value) = number(0, 8).filter(|value| is_year(value / 10_000)) {
        return (period(value / 10_000, value / 100 % 100, Some(value % 100)), 1);
    }
    if let (Some(year), Some(month)) = (number(0, 4).filter(|year| is_year(*year)), number(1, 2)) {
        let day = number(2, 2);
        return (period(year, month, day), if day.is_some() { 3 } else { 2 });
    }
    (Reading::Word, 1)
}

fn period(year: u32, month: u32, day: Option<u32>) -> Reading {
    let (Ok(year_signed), first) = (i32::try_from(year), day.unwrap_or(1)) else { return Reading::Impossible };
    if chrono::NaiveDate::from_ymd_opt(year_signed, month, first).is_none() {
        return Reading::Impossible;
    }
    match (u16::try_from(year), u8::try_from(month), day.map(u8::try_from).transpose()) {
        (Ok(year), Ok(month), Ok(day)) => Reading::Period(Period { year, month, day }),
        _ => Reading::Impossible,
    }
}

/// Drops what a file format or a compression adds, and nothing else: `v1.5` is a part of the name.
fn without_extensions(file: &str) -> &str {
    const EXTENSIONS: [&str; 14] = [
        "parquet", "csv", "tsv", "jsonl", "ndjson", "json", "arrow", "feather", "ipc", "gz", "zst", "snappy", "zip",
        "tar",
    ];
    let mut stem = file;
    while let Some((head, extension)) = stem.rsplit_once('.') {
        if !EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            break;
        }
        stem = head;
    }
    stem
}

fn joined(parts: &[&str]) -> Option<String> {
    (!parts.is_empty()).then(|| parts.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, dataset: Option<&str>, period: Option<&str>, model: Option<&str>, oddities: &[Oddity]) {
        let found = BatchName::parse(name);
        assert_eq!(found.dataset.as_deref(), dataset, "data set of {name:?}");
        assert_eq!(found.period.map(|period| period.to_string()).as_deref(), period, "period of {name:?}");
        assert_eq!(found.model.as_deref(), model, "model of {name:?}");
        assert_eq!(found.oddities, oddities, "oddities of {name:?}");
    }

    #[test]
    fn names_of_the_convention_are_read() {
        check("train_data_202408_resnet", Some("train_data"), Some("2024-08"), Some("resnet"), &[]);
        check("s3/bucket/eval-20240831-bert-base.csv.gz", Some("eval"), Some("2024-08-31"), Some("bert_base"), &[]);
        check("logs.2024-08.v1.5.PARQUET", Some("logs"), Some("2024-08"), Some("v1_5"), &[]);
        check("clicks_2024-02-29.jsonl", Some("clicks"), Some("2024-02-29"), None, &[]);
        check("top_100000_users_202401", Some("top_100000_users"), Some("2024-01"), None, &[]);
    }

    #[test]
    fn odd_names_are_reported_and_not_guessed() {
        check("", None, None, None, &[Oddity::Empty]);
        check("__.csv", None, None, None, &[Oddity::Empty]);
        check("train_data", Some("train_data"), None, None, &[Oddity::NoPeriod]);
        check("202408_resnet", None, Some("2024-08"), Some("resnet"), &[Oddity::NoDataset]);
        let impossible = Oddity::ImpossiblePeriod("202413".into());
        check("a_202413_m", Some("a_m"), None, None, &[impossible, Oddity::NoPeriod]);
        check(
            "a_2023-02-29",
            Some("a"),
            None,
            None,
            &[Oddity::ImpossiblePeriod("2023-02-29".into()), Oddity::NoPeriod],
        );
        check("a_202408_202409_m", Some("a"), Some("2024-08"), Some("m"), &[Oddity::SecondPeriod("202409".into())]);
        check("a b_202408", Some("a_b"), Some("2024-08"), None, &[Oddity::Unprintable]);
        check("données_202408_modèle", Some("données"), Some("2024-08"), Some("modèle"), &[]);
    }

    #[test]
    fn every_oddity_says_what_it_means() {
        let all = [Oddity::Empty, Oddity::NoPeriod, Oddity::ImpossiblePeriod("202413".into()), Oddity::NoDataset];
        for oddity in all {
            assert!(oddity.to_string().len() > 15, "{oddity:?}");
        }
    }
}
