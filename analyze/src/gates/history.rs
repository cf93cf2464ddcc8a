//! What is kept of a batch so that later ones can be compared with it.

use serde::{Deserialize, Serialize};

/// Past batches that a median is taken over: the last four of the same window.
pub const PAST_BATCHES_MAX: usize = 4;

/// One column of a past batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// Name of the column.
    pub name: String,
    /// Arrow's name of its type.
    pub data_type: String,
    /// The `unit` in its metadata.
    pub unit: Option<String>,
    /// Distinct values, where a rule counted them.
    pub distinct: Option<f64>,
}

/// One past batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchSummary {
    /// Number of rows.
    pub rows: u64,
    /// Its columns, in their order.
    pub columns: Vec<ColumnSummary>,
}

impl BatchSummary {
    pub(crate) fn column(&self, name: &str) -> Option<&ColumnSummary> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A past batch, with what names it.
#[derive(Debug, Clone, PartialEq)]
pub struct PastBatch {
    /// Its period, or its file where the name states none.
    pub name: String,
    /// Digest of its content.
    pub digest: String,
    /// What later ones are compared with.
    pub summary: BatchSummary,
}

/// The last batches of `history` that are not this very one: a batch that is checked again says nothing about itself.
pub(crate) fn of_another_content(history: &[PastBatch], digest: &str) -> Vec<PastBatch> {
    let others: Vec<PastBatch> = history.iter().filter(|past| past.digest != digest).cloned().collect();
    others[others.len().saturating_sub(PAST_BATCHES_MAX)..].to_vec()
}

/// The last batches of a history that is sorted from old to new.
pub(crate) fn recent(history: &[BatchSummary]) -> &[BatchSummary] {
    &history[history.len().saturating_sub(PAST_BATCHES_MAX)..]
}

/// Middle value, or the mean of the two middle ones; `None` without values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1] / 2.0 + values[middle] / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_the_last_four() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        let history: Vec<BatchSummary> = (0..6).map(|rows| BatchSummary { rows, columns: Vec::new() }).collect();
        assert_eq!(recent(&history).iter().map(|batch| batch.rows).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(recent(&history[..2]).len(), 2);
    }
}
