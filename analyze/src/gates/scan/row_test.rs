//! Tests that a row passes or breaks by itself.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use regex::Regex;

use super::column::{Column, Kind, Values};
use super::hasher::DirectSet;
use super::key_set::KeySet;
use crate::gates::rule::Interval;

/// One test, ready for the kind of its column.
#[derive(Debug, Clone)]
pub(crate) enum RowTest {
    /// Breaks for null, and for these values.
    Missing(Option<ValueSet>),
    NonFinite,
    InSet(ValueSet),
    Matches(Regex),
    Inside(Interval),
    Refers(Arc<KeySet>),
}

impl RowTest {
    /// Whether null rows are looked at, too.
    pub(crate) fn judges_nulls(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// The rows that break the test.
    pub(crate) fn broken(&self, column: &Column) -> BooleanBuffer {
        match self {
            Self::Missing(tokens) => missing(column, tokens.as_ref()),
            Self::NonFinite => column.valid_of(non_finite(column)),
            Self::InSet(set) => column.valid_of(!&set.rows_in(column)),
            Self::Matches(regex) => column.valid_of(match &column.values {
                Values::Text(text) => text.rows_where(|value| !regex.is_match(value)),
                _ => BooleanBuffer::collect_bool(column.len, |row| {
                    column.is_valid(row) && !regex.is_match(&column.label(row))
                }),
            }),
            Self::Inside(interval) => column.valid_of(outside(column, interval)),
            Self::Refers(keys) => column.valid_of(match column.hashes() {
                Some(hashes) => BooleanBuffer::collect_bool(column.len, |row| !keys.contains(hashes[row])),
                None => BooleanBuffer::new_set(column.len),
            }),
        }
    }
}

fn missing(column: &Column, tokens: Option<&ValueSet>) -> BooleanBuffer {
    let nulls = column.nulls.as_ref().map(|nulls| !nulls.inner());
    let in_tokens = tokens.map(|tokens| column.valid_of(tokens.rows_in(column)));
    match (nulls, in_tokens) {
        (Some(nulls), Some(in_tokens)) => &nulls | &in_tokens,
        (Some(rows), None) | (None, Some(rows)) => rows,
        (None, None) => BooleanBuffer::new_unset(column.len),
    }
}

fn non_finite(column: &Column) -> BooleanBuffer {
    match &column.values {
        Values::Float(array) => {
            let values = array.values();
            BooleanBuffer::collect_bool(values.len(), |row| !values[row].is_finite())
        }
        _ => BooleanBuffer::new_unset(column.len),
    }
}

/// The ends of an interval as closed bounds.
fn closed(interval: &Interval) -> (f64, f64) {
    let low = interval.min.unwrap_or(f64::NEG_INFINITY);
    let high = interval.max.unwrap_or(f64::INFINITY);
    (
        if interval.min_exclusive { low.next_up() } else { low },
        if interval.max_exclusive { high.next_down() } else { high },
    )
}

fn outside(column: &Column, interval: &Interval) -> BooleanBuffer {
    let (low, high) = closed(interval);
    match &column.values {
        Values::Float(array) => {
            let values = array.values();
            // NaN compares with nothing, so it is outside.
            BooleanBuffer::collect_bool(values.len(), |row| !(values[row] >= low && values[row] <= high))
        }
        Values::Integer(array) => {
            let (values, low, high) = (array.values(), low.ceil(), high.floor());
            // Whole numbers are compared as such: as doubles, those above 2^53 would be rounded first.
            if low > i64::MAX as f64 || high < i64::MIN as f64 {
                return BooleanBuffer::new_set(column.len);
            }
            let (low, high) = (low as i64, high as i64);
            BooleanBuffer::collect_bool(values.len(), |row| values[row] < low || values[row] > high)
        }
        Values::Unsigned(array) => {
            let (values, low, high) = (array.values(), low.ceil(), high.floor());
            if high < 0.0 || low > u64::MAX as f64 {
                return BooleanBuffer::new_set(column.len);
            }
            let (low, high) = (low as u64, high as u64);
            BooleanBuffer::collect_bool(values.len(), |row| values[row] < low || values[row] > high)
        }
        _ => BooleanBuffer::new_unset(column.len),
    }
}

/// A set of values of one column.
#[derive(Debug, Clone)]
pub(crate) enum ValueSet {
    Texts(DirectSet<String>),
    /// By the hash that the column has, too.
    Keys(DirectSet<u64>),
}

impl ValueSet {
    /// Reads texts as values of a column of `data_type`; also returns the texts that are no such value.
    pub(crate) fn new(data_type: &DataType, values: &[String]) -> (Self, Vec<String>) {
        let data_type = match data_type {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        let kind = Kind::of(data_type);
        if kind == Kind::Text {
            return (Self::Texts(values.iter().cloned().collect()), Vec::new());
        }
        // `1.0` is a whole number to a person, and to the JSON of other tools.
        let whole = matches!(kind, Kind::Integer | Kind::Unsigned);
        let written = values.iter().map(|value| if whole { value.strip_suffix(".0").unwrap_or(value) } else { value });
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(written));
        let column = cast(&texts, data_type).and_then(|array| Column::new(&array)).ok();
        let hashes = column.as_ref().and_then(Column::hashes).unwrap_or_default();
        let (mut keys, mut unreadable) = (DirectSet::default(), Vec::new());
        for (row, value) in values.iter().enumerate() {
            match hashes.get(row).filter(|_| column.as_ref().is_some_and(|column| column.is_valid(row))) {
                Some(key) => {
                    keys.insert(*key);
                }
                None => unreadable.push(value.clone()),
            }
        }
        (Self::Keys(keys), unreadable)
    }

    fn rows_in(&self, column: &Column) -> BooleanBuffer {
        match (self, &column.values) {
            (Self::Texts(texts), Values::Text(text)) => text.rows_where(|value| texts.contains(value)),
            (Self::Keys(keys), _) => match column.hashes() {
                Some(hashes) => BooleanBuffer::collect_bool(column.len, |row| keys.contains(&hashes[row])),
                None => BooleanBuffer::new_unset(column.len),
            },
            _ => BooleanBuffer::new_unset(column.len),
        }
    }
}
