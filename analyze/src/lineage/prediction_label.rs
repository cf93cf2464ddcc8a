//! Late labels: which predictions turned out right, as rows of the table `prediction_labels`.
//!
//! A label is of one prediction. What is told of a prediction again replaces what was told before, so the same labels may be sent
//! any number of times.

use std::collections::HashMap;

use chrono::DateTime;
use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    error::{Error, Result},
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
    window::{MINUTE_US, Window},
};

/// The table.
pub const TABLE: &str = "prediction_labels";
/// Labels of one request.
pub const LABELS_MAX: usize = 10_000;
/// Bytes of a text of a label.
const TEXT_BYTES_MAX: usize = 1_024;
/// Refused labels whose reason is told.
const REASONS_MAX: usize = 20;
/// How far the clock of who made the prediction may be ahead.
const AHEAD_US_MAX: i64 = 10 * MINUTE_US;
/// Minutes, models and versions of one answer.
const COUNTS_MAX: usize = 500_000;

/// One label as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLabel {
    /// Names the prediction within its service; without one it is made of all that the label says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When the prediction was made, RFC 3339.
    pub time: String,
    /// The model; none is that of the service then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its version; none is the one that ran then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Value>,
    /// What was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Value>,
    /// Whether the prediction was right; none is whether the two are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// How much it counts, above 0. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// How often labels without an id said the same.
pub(crate) type SameLabels = HashMap<u128, u32>;

impl RawLabel {
    /// An id of all that the label says, and of how many of `same` said it before: the same file gives the same ids each time.
    pub(crate) fn own_id(&self, same: &mut SameLabels) -> String {
        // Writing what was read cannot fail; were it to, the label would still have an id.
        let hash = xxh3_128(serde_json::to_string(self).unwrap_or_default().as_bytes());
        let count = same.entry(hash).or_default();
        *count += 1;
        format!("~{hash:032x}.{count}")
    }
}

/// Labels of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`; none is the only one, or none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The labels.
    pub labels: Vec<RawLabel>,
}

/// One that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLabel {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Why, and what to do.
    pub reason: String,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenLabels {
    /// Labels that were taken.
    pub taken: usize,
    /// Labels that were refused, each alone.
    pub refused: usize,
    /// The first of them.
    pub reasons: Vec<RefusedLabel>,
}

/// A label that can be used.
#[derive(Debug, Clone, PartialEq)]
struct Label {
    time_us: i64,
    id: String,
    model: Option<String>,
    version: Option<String>,
    predicted: Option<String>,
    actual: Option<String>,
    is_correct: bool,
    weight: f64,
}

/// Takes what can be used of `request` that came at `received_us`; the rest is refused label by label.
///
/// # Errors
/// [`Error::Labels`] for a request without service or labels, or with more than [`LABELS_MAX`]; those of the store.
pub async fn take(store: &Store, request: &LabelRequest, received_us: i64) -> Result<TakenLabels> {
    let refuse = |reason: String| Err(Error::Labels { reason });
    let service = request.service.trim();
    if service.is_empty() || service.len() > TEXT_BYTES_MAX {
        return refuse("name the service as its telemetry does (service.name)".to_owned());
    }
    match request.labels.len() {
        0 => return refuse("there is no label in it".to_owned()),
        count if count > LABELS_MAX => {
            return refuse(format!("{count} labels are more than {LABELS_MAX}: send several requests"));
        }
        _ => {}
    }
    let (mut labels, mut taken) = (Vec::new(), TakenLabels::default());
    let mut same = SameLabels::new();
    for (index, raw) in request.labels.iter().enumerate() {
        match Label::read(raw, received_us, &mut same) {
            Ok(label) => labels.push(label),
            Err(reason) => {
                taken.refused += 1;
                if taken.reasons.len() < REASONS_MAX {
                    taken.reasons.push(RefusedLabel { index, reason });
                }
            }
        }
    }
    taken.taken = labels.len();
    if !labels.is_empty() {
        let environment = request.environment.as_deref().map(str::trim).filter(|name| !name.is_empty());
        store.write_result(TABLE, to_batch(service, environment, &labels, received_us)?).await?;
    }
    Ok(taken)
}

/// A text as it is compared: without what surrounds it.
fn trimmed(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// An answer as text: `3` and `3.0` are one, and so are `true` and `"true"`.
fn answer_text(value: Option<&Value>) -> std::result::Result<Option<String>, String> {
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()),
        Some(Value::Bool(flag)) => Some(flag.to_string()),
        Some(Value::Number(number)) => number.as_f64().map(|number| number.to_string()),
        Some(Value::Array(_) | Value::Object(_)) => {
            return Err(
                "predicted and actual are a text, a number or a boolean; of anything else say correct".to_owned()
            );
        }
    })
}

impl Label {
    /// Reads one; `same` counts labels without an id that say the same.
    fn read(raw: &RawLabel, received_us: i64, same: &mut SameLabels) -> std::result::Result<Self, String> {
        let time = DateTime::parse_from_rfc3339(raw.time.trim());
        let time_us = time
            .map_err(|_| "time says when the prediction was made, as 2026-11-16T09:00:00Z".to_owned())?
            .timestamp_micros();
        if time_us <= 0 || time_us > received_us + AHEAD_US_MAX {
            return Err("the prediction was made before 1970 or lies ahead: set the clock by NTP".to_owned());
        }
        let weight = raw.weight.unwrap_or(1.0);
        if !(weight.is_finite() && weight > 0.0) {
            return Err("weight is a number above 0; leave out what does not count".to_owned());
        }
        let (predicted, actual) = (answer_text(raw.predicted.as_ref())?, answer_text(raw.actual.as_ref())?);
        let is_correct = match (raw.correct, &predicted, &actual) {
            (Some(correct), ..) => correct,
            (None, Some(predicted), Some(actual)) => predicted == actual,
            _ => return Err("say correct, or both predicted and actual".to_owned()),
        };
        let (model, version) = (trimmed(raw.model.as_ref()), trimmed(raw.version.as_ref()));
        let id = trimmed(raw.id.as_ref()).unwrap_or_else(|| raw.own_id(same));
        let texts = [Some(&id), model.as_ref(), version.as_ref(), predicted.as_ref(), actual.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(format!("a text of more than {TEXT_BYTES_MAX} bytes: say correct instead of the answers"));
        }
        Ok(Self { time_us, id, model, version, predicted, actual, is_correct, weight })
    }
}

fn to_batch(service: &str, environment: Option<&str>, labels: &[Label], received_us: i64) -> Result<RecordBatch> {
    let rows = || labels.iter();
    let mut table = ResultTable::at(rows().map(|row| row.time_us).collect());
    table
        .time("received_time", received_us)
        .text("service_name", service)
        .texts("environment", rows().map(|_| environment.map(str::to_owned)))
        .texts("model", rows().map(|row| row.model.clone()))
        .texts("version", rows().map(|row| row.version.clone()))
        .texts("prediction_id", rows().map(|row| Some(row.id.clone())))
        .texts("predicted", rows().map(|row| row.predicted.clone()))
        .texts("actual", rows().map(|row| row.actual.clone()))
        .flags("is_correct", rows().map(|row| row.is_correct))
        .numbers("weight", rows().map(|row| Some(row.weight)));
    table.finish()
}

/// Labels of one minute that name the same.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelCount {
    /// Start of the minute, UTC microseconds.
    pub minute_us: i64,
    /// Environment as the labels have it.
    pub environment: Option<String>,
    /// Model as the labels have it.
    pub model: Option<String>,
    /// Version as the labels have it.
    pub version: Option<String>,
    /// Labels.
    pub count: u64,
    /// Their weights.
    pub weight: f64,
    /// The weights of those that were right.
    pub right: f64,
    /// The squares of all weights.
    pub weight_squared: f64,
}

/// Labels of predictions of `service` in `window`, of each prediction the last that was told; in order of time.
///
/// # Errors
/// [`Error::Labels`] where they are of more minutes, models and versions than can be held; those of the query.
pub async fn counts(ctx: &SessionContext, service: &str, window: Window) -> Result<Vec<LabelCount>> {
    if !has_result(ctx, TABLE) {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT CAST(date_trunc('minute', time) AS BIGINT) AS minute_us, environment, model, version, count(*) AS label_count, \
         sum(weight) AS weight, sum(CASE WHEN is_correct THEN weight ELSE 0.0 END) AS right_weight, \
         sum(weight * weight) AS weight_squared FROM (SELECT *, row_number() OVER \
         (PARTITION BY prediction_id ORDER BY received_time DESC, time DESC, is_correct) AS place \
         FROM reports.{TABLE} WHERE service_name = {} AND {}) WHERE place = 1 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT {}",
        literal(service),
        window.condition("time"),
        COUNTS_MAX + 1
    );
    let rows = Rows::query(ctx, &query).await?;
    if rows.len() > COUNTS_MAX {
        let reason = format!("of {service} are of more than {COUNTS_MAX} minutes and versions: ask about fewer days");
        return Err(Error::Labels { reason });
    }
    let (minutes, counts) = (rows.integers("minute_us")?, rows.integers("label_count")?);
    let (environments, models, versions) = (rows.texts("environment")?, rows.texts("model")?, rows.texts("version")?);
    let (weights, rights) = (rows.numbers("weight")?, rows.numbers("right_weight")?);
    let squares = rows.numbers("weight_squared")?;
    Ok((0..rows.len())
        .map(|row| LabelCount {
            minute_us: minutes[row].unwrap_or_default(),
            environment: environments[row].clone(),
            model: models[row].clone(),
            version: versions[row].clone(),
            count: counts[row].unwrap_or(0).unsigned_abs(),
            weight: weights[row].unwrap_or(0.0),
            right: rights[row].unwrap_or(0.0),
            weight_squared: squares[row].unwrap_or(0.0),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> std::result::Result<Label, String> {
        let raw: RawLabel = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Label::read(&raw, 1_800_000_000_000_000, &mut SameLabels::new())
    }

    #[test]
    fn a_label_is_right_by_what_it_says_or_by_its_two_answers() {
        let right =
            |rest: &str| read(&format!(r#"{{"time": "2026-11-16T09:00:00Z", {rest}}}"#)).map(|label| label.is_correct);
        for (rest, expected) in [
            (r#""correct": true"#, true),
            (r#""predicted": "cat", "actual": " cat""#, true),
            (r#""predicted": 3, "actual": 3.0"#, true),
            (r#""predicted": true, "actual": "true""#, true),
            (r#""predicted": "cat", "actual": "dog""#, false),
            // A person's judgement counts more than the letters.
            (r#""predicted": "4", "actual": "four", "correct": true"#, true),
        ] {
            assert_eq!(right(rest), Ok(expected), "{rest}");
        }
        for (rest, words) in [
            (r#""predicted": "cat""#, "both predicted and actual"),
            (r#""predicted": [1], "actual": [1]"#, "say correct"),
            (r#""correct": true, "weight": 0"#, "above 0"),
            (r#""correct": true, "weigth": 1"#, "weigth"),
        ] {
            assert!(right(rest).is_err_and(|reason| reason.contains(words)), "{rest}");
        }
        for (time, words) in [
            ("yesterday", "2026-11-16T09:00:00Z"),
            ("2126-11-16T09:00:00Z", "lies ahead"),
            ("1960-01-01T00:00:00Z", "1970"),
        ] {
            let found = read(&format!(r#"{{"time": "{time}", "correct": true}}"#));
            assert!(found.is_err_and(|reason| reason.contains(words)), "{time}");
        }
    }

    #[test]
    fn a_label_without_id_is_the_same_each_time_it_is_sent_and_two_that_say_the_same_are_two() {
        let raw = RawLabel { time: "2026-11-16T09:00:00Z".into(), correct: Some(true), ..RawLabel::default() };
        let ids = || {
            let mut same = SameLabels::new();
            [0, 1].map(|_| Label::read(&raw, i64::MAX / 2, &mut same).unwrap().id)
        };
        assert_eq!(ids(), ids());
        assert_ne!(ids()[0], ids()[1]);
        let other = RawLabel { correct: Some(false), ..raw.clone() };
        assert_ne!(Label::read(&other, i64::MAX / 2, &mut SameLabels::new()).unwrap().id, ids()[0]);
    }
}
