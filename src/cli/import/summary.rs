//! What became of a file, for people and for scripts.

use std::path::Path;

use chrono::{DateTime, SecondsFormat};
use driftwatt_analyze::dated_rows::{DatedFile, Survey};
use serde_json::{Value, json};

use super::requests::{DATASET, Naming};
use crate::{otlp::Sent, terminal::plain};

/// What was imported and what was not.
pub(super) struct Summary {
    file: String,
    dataset: String,
    metrics: Vec<String>,
    counters: Vec<String>,
    survey: Survey,
    points: u64,
    sent: Sent,
}

impl Summary {
    pub(super) fn new(path: &Path, file: &DatedFile, survey: Survey, naming: &Naming, sent: Sent) -> Self {
        let metrics: Vec<String> = file.values().map(|column| naming.metric(column)).collect();
        let counters: Vec<String> =
            file.categories().map(|column| format!("{}[{column}]", naming.metric(column))).collect();
        let dated = survey.row_count - survey.undated_count;
        Self {
            file: path.display().to_string(),
            dataset: naming.dataset.clone(),
            points: dated * (metrics.len() + counters.len()) as u64,
            metrics,
            counters,
            survey,
            sent,
        }
    }

    /// Whether every row and every point of it was taken.
    pub(super) fn is_whole(&self) -> bool {
        self.survey.undated_count == 0 && self.sent.rejected_point_count == 0
    }

    fn taken(&self) -> u64 {
        self.points.saturating_sub(self.sent.rejected_point_count)
    }

    /// First and last time, and the window that holds both.
    fn times(&self) -> Option<[String; 3]> {
        let (first, last) = self.survey.span_us?;
        let text = |time_us: i64| {
            let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
            time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        };
        // Windows are half open, and rows of the last time may be set apart by up to a unit.
        let end_us = last + self.survey.unit_us().max(1_000_000);
        Some([text(first), text(last), format!("{}/{}", text(first), text(end_us))])
    }

    pub(super) fn text(&self) -> String {
        let Self { survey, sent, .. } = self;
        let mut text = format!("{}: {} rows, {} points taken", plain(&self.file), survey.row_count, self.taken());
        if let Some([first, last, _]) = self.times() {
            text += &format!(", from {first} to {last}");
        }
        text += "\n";
        if let Some(first) = survey.first_undated {
            let first = first + 1;
            text += &format!(
                "refused: {} rows without a time that can be read, the first is row {first}\n",
                survey.undated_count
            );
        }
        if sent.rejected_point_count > 0 {
            text += &format!("refused: {} points: {}\n", sent.rejected_point_count, plain(&sent.rejected_message));
        }
        if survey.apart_us().is_some() {
            text += "Several rows have one time: each is set apart by its number in the file, in microseconds.\n";
        }
        if survey.may_collide() {
            text += "Several rows have one time to the microsecond: of those with the same labels the last is kept.\n";
        }
        let all: Vec<String> = self.metrics.iter().chain(&self.counters).map(|name| plain(name)).collect();
        text += &format!("metrics: {}\n", all.join(", "));
        if let (Some([.., window]), Some(name)) = (self.times(), all.first()) {
            let dataset = plain(&self.dataset);
            text += &format!(
                "as a reference: driftwatt drift --metric '{name}' --reference {window} --reference-where {DATASET}={dataset} --current FROM/TO\n"
            );
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let Self { survey, sent, .. } = self;
        let times = self.times();
        let time = |at: usize| times.as_ref().map(|times| times[at].clone());
        json!({
            "file": self.file,
            "dataset": self.dataset,
            "metrics": self.metrics,
            "categories": self.counters,
            "row_count": survey.row_count,
            "undated_row_count": survey.undated_count,
            "first_undated_row": survey.first_undated.map(|row| row + 1),
            "point_count": self.taken(),
            "rejected_point_count": sent.rejected_point_count,
            "rejected_because": (sent.rejected_point_count > 0).then_some(&sent.rejected_message),
            "from": time(0),
            "to": time(1),
            "window": time(2),
            "set_apart": survey.apart_us().is_some(),
            "may_collide": survey.may_collide(),
        })
    }
}
