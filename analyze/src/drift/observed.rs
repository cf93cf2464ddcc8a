//! What one side of a comparison holds, whole and by windows as long as the one under test.

use super::{
    category_counts::{CategoryCounts, OTHER},
    comparison::{ColumnOptions, CompareError, Comparison},
    feature_state::FeatureState,
    score::SideSummary,
    statistics,
};

/// Values of one side.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// Finite, ascending.
    Samples(Vec<f64>),
    /// Merged histograms.
    Histograms(Box<FeatureState>),
    /// Counts by category.
    Categories(Box<CategoryCounts>),
}

/// One side as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) values: Values,
    /// The same by windows of the length that was asked for, in order of time; empty where none was.
    pub(crate) windows: Vec<Values>,
    pub(crate) summary: SideSummary,
}

impl Values {
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Samples(values) => values.len() as u64,
            Self::Histograms(state) => state.count(),
            Self::Categories(counts) => counts.total(),
        }
    }

    /// Compares with `current`, which is of the same kind.
    ///
    /// # Errors
    /// Those of [`Comparison`]; [`CompareError::Layout`] for samples against histograms.
    pub(crate) fn compare(&self, current: &Self) -> Result<Comparison, CompareError> {
        let options = ColumnOptions::default();
        match (self, current) {
            (Self::Samples(reference), Self::Samples(current)) => Comparison::of_samples(reference, current, options),
            (Self::Histograms(reference), Self::Histograms(current)) => {
                Comparison::of_states(reference, current, options)
            }
            (Self::Categories(reference), Self::Categories(current)) => Comparison::of_categories(reference, current),
            _ => Err(CompareError::Layout { reason: "one side has samples, the other histograms".to_owned() }),
        }
    }
}

impl Observed {
    /// Counts of each window in the bins of `comparison`, which this side is the reference of. Windows of fewer than `count_min`
    /// values say more of their size than of how the reference varies, and are left out, as are histograms that do not fit
    /// the bins.
    pub(crate) fn window_counts(&self, comparison: &Comparison, count_min: u64) -> Vec<Vec<u64>> {
        let windows = self.windows.iter().filter(|window| window.count() >= count_min);
        windows.filter_map(|window| self.counts_in(comparison, window)).collect()
    }

    /// Counts of `values` in the bins of `comparison`, which this side is the reference of; none for those that do not fit
    /// the bins.
    pub(crate) fn counts_in(&self, comparison: &Comparison, values: &Values) -> Option<Vec<u64>> {
        match (&self.values, values) {
            (Values::Samples(_), Values::Samples(values)) => Some(statistics::bin_counts(values, &comparison.cuts)),
            (Values::Histograms(_), Values::Histograms(state)) => state.histogram.counts_between(&comparison.cuts),
            (Values::Categories(_), Values::Categories(counts)) => Some(category_counts(comparison, counts)),
            _ => None,
        }
    }
}

/// What is under no other name of the bins is under [`OTHER`].
fn category_counts(comparison: &Comparison, counts: &CategoryCounts) -> Vec<u64> {
    let named = |label: &str| if label == OTHER { 0 } else { counts.get(label) };
    let mut binned: Vec<u64> = comparison.bins.iter().map(|bin| named(&bin.label)).collect();
    let rest = counts.total().saturating_sub(binned.iter().sum());
    if let Some(at) = comparison.bins.iter().position(|bin| bin.label == OTHER) {
        binned[at] = rest;
    }
    binned
}
