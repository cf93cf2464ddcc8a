//! The first rows that broke a rule, with masked keys, so that a person can find them and a report shows nobody's data.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::util::display::array_value_to_string;

/// Rows kept for each rule.
pub(crate) const SAMPLES_MAX: usize = 10;

/// One row that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// Number of the row in the data set, from 0.
    pub row: u64,
    /// The row's key as [`mask`] shows it; `None` if the contract names no primary key.
    pub key: Option<String>,
}

impl Sample {
    pub(crate) fn after(&self, rows_before: u64) -> Self {
        Self { row: self.row + rows_before, key: self.key.clone() }
    }
}

/// The first [`SAMPLES_MAX`] rows, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn of(sample: Sample) -> Self {
        Self(vec![sample])
    }

    pub(crate) fn to_vec(&self) -> Vec<Sample> {
        self.0.clone()
    }

    /// Takes rows of a batch, in their order, while there is room.
    pub(crate) fn take(&mut self, rows: impl Iterator<Item = usize>, keys: &SampleKeys<'_>) {
        let room = SAMPLES_MAX - self.0.len();
        self.0.extend(rows.take(room).map(|row| keys.sample(row)));
    }

    pub(crate) fn merge(&mut self, other: &Self, rows_before: u64) {
        let room = SAMPLES_MAX - self.0.len();
        self.0.extend(other.0.iter().take(room).map(|sample| sample.after(rows_before)));
    }
}

/// The keys of a batch.
pub(crate) struct SampleKeys<'a> {
    pub(crate) keys: Option<&'a ArrayRef>,
    /// Rows of the scan before this batch.
    pub(crate) rows_before: u64,
}

impl SampleKeys<'_> {
    pub(crate) fn sample(&self, row: usize) -> Sample {
        let key = self.keys.and_then(|keys| array_value_to_string(keys, row).ok());
        Sample { row: self.rows_before + row as u64, key: key.map(|key| mask(&key)) }
    }
}

/// Hides a value but for its first and last characters: `customer-4711` is `c…1 (13 characters)`.
///
/// Up to three characters would be given away by their ends, so nothing is shown of them.
pub fn mask(value: &str) -> String {
    let count = value.chars().count();
    match (value.chars().next(), value.chars().last()) {
        (Some(first), Some(last)) if count > 3 => format!("{first}…{last} ({count} characters)"),
        _ => format!("… ({count} characters)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_keys_show_their_ends_only() {
        assert_eq!(mask("customer-4711"), "c…1 (13 characters)");
        assert_eq!(mask("abc"), "… (3 characters)");
        assert_eq!(mask(""), "… (0 characters)");
        assert_eq!(mask("žluťoučký"), "ž…ý (9 characters)");
    }
}
