//! Labels from a file: CSV with a header, Parquet or JSON lines, with the names of [`RawLabel`] as columns.

use std::path::Path;

use futures::{Stream, StreamExt as _};

use super::prediction_label::{RawLabel, SameLabels};
use crate::{
    dated_rows::{ColumnChoice, DatedFile, DatedRows, EpochUnit, Survey},
    error::{Error, Result},
};

/// Columns beside that of the time.
const COLUMNS: [&str; 7] = ["id", "model", "version", "weight", "predicted", "actual", "correct"];

/// Weight of a row whose weight is no number; it is refused, as any weight that is not above 0.
const UNREADABLE: f64 = -1.0;
/// Rows of a file without ids; of more it could not be told which say the same.
const UNNAMED_MAX: usize = 5_000_000;

/// A file of labels.
#[derive(Debug)]
pub struct LabelFile {
    file: DatedFile,
}

impl LabelFile {
    /// Opens `path`; `time` is the column that says when the predictions were made, and `epoch_unit` what whole numbers in it count.
    ///
    /// # Errors
    /// Those of [`DatedFile::open`]; [`Error::Labels`] where no column says what was right.
    pub async fn open(path: &Path, time: &str, epoch_unit: Option<EpochUnit>) -> Result<Self> {
        let there = DatedFile::columns_of(path).await?;
        let has = |name: &&str| there.iter().any(|column| column == name) && *name != time;
        let is_answer = |name: &&str| ["predicted", "actual", "correct"].contains(name);
        let named = |answers: bool| {
            let own = COLUMNS.iter().filter(|name| has(name) && is_answer(name) == answers);
            own.map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let answers = named(true);
        if !(answers.iter().any(|name| name == "correct") || answers.len() == 2) {
            let reason = format!(
                "{} has neither a column correct nor both predicted and actual, but {}: rename its columns",
                path.display(),
                there.join(", ")
            );
            return Err(Error::Labels { reason });
        }
        let choice = ColumnChoice {
            time: time.to_owned(),
            epoch_unit,
            values: Vec::new(),
            categories: answers,
            labels: named(false),
        };
        Ok(Self { file: DatedFile::open(path, &choice).await? })
    }

    /// The labels, batch by batch, each with an id. A row without a time that can be read has an empty one, which is refused like
    /// any other.
    ///
    /// # Errors
    /// Those of [`DatedFile::rows`]; [`Error::Labels`] for more than five million rows without an id.
    pub async fn labels(&self) -> Result<impl Stream<Item = Result<Vec<RawLabel>>> + Send + use<'_>> {
        let rows = self.file.rows(&Survey::default()).await?;
        let mut same = SameLabels::new();
        Ok(rows.map(move |rows| {
            let mut labels = self.of_rows(&rows?);
            for label in labels.iter_mut().filter(|label| label.id.is_none()) {
                label.id = Some(label.own_id(&mut same));
            }
            if same.len() > UNNAMED_MAX {
                let reason = format!("more than {UNNAMED_MAX} rows have no id: add a column id");
                return Err(Error::Labels { reason });
            }
            Ok(labels)
        }))
    }

    fn of_rows(&self, rows: &DatedRows) -> Vec<RawLabel> {
        let columns: Vec<(&str, &Vec<Option<String>>)> =
            self.file.categories().zip(&rows.categories).chain(self.file.labels().zip(&rows.labels)).collect();
        let text = |name: &str, row: usize| {
            let column = columns.iter().find(|(known, _)| *known == name)?.1;
            column[row].clone().filter(|text| !text.trim().is_empty())
        };
        let time = |time_us: Option<i64>| {
            let time = time_us.and_then(chrono::DateTime::from_timestamp_micros);
            time.map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
        };
        let label = |row: usize| {
            let correct = text("correct", row);
            let flag = correct.as_deref().and_then(flag);
            // What says neither yes nor no is refused, and must not be replaced by what the answers say.
            let is_odd = correct.is_some() && flag.is_none();
            let answers = |name| text(name, row).filter(|_| !is_odd).map(|text| answer(&text));
            RawLabel {
                id: text("id", row),
                time: time(rows.times_us[row]),
                model: text("model", row),
                version: text("version", row),
                predicted: answers("predicted"),
                actual: answers("actual"),
                correct: flag,
                weight: text("weight", row).map(|text| text.trim().parse().unwrap_or(UNREADABLE)),
            }
        };
        (0..rows.times_us.len()).map(label).collect()
    }
}

fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" | "1.0" => Some(true),
        "false" | "f" | "no" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// Numbers as such, so that those of two columns of different types are compared as numbers.
fn answer(text: &str) -> serde_json::Value {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn labels(name: &str, text: &str) -> Result<Vec<RawLabel>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let file = LabelFile::open(&path, "time", None).await?;
        let batches: Vec<Vec<RawLabel>> = file.labels().await?.try_collect().await?;
        Ok(batches.concat())
    }

    #[tokio::test]
    async fn columns_are_the_fields_of_a_label() {
        let csv = "time,id,version,predicted,actual,weight,correct\n2026-11-16T09:00:00Z,a,2.10,3,3.0,2,\nsoon,b,,x,,much,maybe\n";
        let found = labels("labels.csv", csv).await.unwrap();
        assert_eq!((found[0].id.as_deref(), found[0].weight), (Some("a"), Some(2.0)));
        assert_eq!(found[0].predicted, found[0].actual);
        assert_eq!((found[1].time.as_str(), &found[1].actual, &found[1].version), ("", &None, &None));
        assert_eq!((found[1].weight, found[1].correct, &found[1].predicted), (Some(-1.0), None, &None));
        let lines = "{\"time\": \"2026-11-16T09:00:00Z\", \"correct\": true}\n";
        assert_eq!(labels("labels.jsonl", lines).await.unwrap()[0].correct, Some(true));
        let error = labels("labels.csv", "time,predicted\n2026-11-16T09:00:00Z,1\n").await.unwrap_err().to_string();
        assert!(error.contains("neither a column correct") && error.contains("time, predicted"), "{error}");
    }
}
