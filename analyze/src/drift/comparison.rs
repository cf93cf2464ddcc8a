//! All scores of one window against its reference, from raw values, from histograms or from categories.

use serde::Serialize;

use super::{
    category_counts::CategoryCounts,
    contingency::{CategoryPair, ChiSquareTest, chi_square_homogeneity, cramers_v_corrected, pool_rare},
    distance,
    feature_state::FeatureState,
    numeric::{self, NumericChange},
    statistics,
};

/// Why a window cannot be compared; each is a status of its own, never "no drift".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompareError {
    /// Nothing was observed.
    #[error("the {side} has no observation: widen its window or check that it is still collected")]
    Empty {
        /// `reference` or `current window`.
        side: &'static str,
    },
    /// The layouts have nothing in common.
    #[error("{reason}; export both windows with one layout, best as exponential histograms")]
    Layout {
        /// A sentence.
        reason: String,
    },
}

/// What the scores were computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Raw values: exact.
    Samples,
    /// Exponential buckets merged at `scale`.
    ExponentialHistogram {
        /// Scale both sides were brought to before binning.
        scale: i32,
    },
    /// Explicit buckets on their common edges.
    ExplicitHistogram,
    /// Category counts: exact.
    Categories,
}

/// How a column is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ColumnOptions {
    /// Whether the Wasserstein distance of logarithms makes sense; none: judged from the reference.
    pub is_log_like: Option<bool>,
    /// Smallest difference that the unit can express, as 1 for counts; 0 where unknown.
    pub resolution: f64,
}

/// One bin of both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Category, or the range as `(lower, upper]`.
    pub label: String,
    /// Observations of the reference.
    pub reference: u64,
    /// Observations of the current window.
    pub current: u64,
}

/// Categories that came or went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryChange {
    /// Names only in the current window.
    pub new: Vec<String>,
    /// Their share of the current window.
    pub new_share: f64,
    /// Whether that is more than chance rows, see [`CategoryPair::has_material_new`].
    pub new_is_material: bool,
    /// Names only in the reference.
    pub vanished: Vec<String>,
    /// Their share of the reference.
    pub vanished_share: f64,
}

/// Scores of one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Source of the scores.
    pub basis: Basis,
    /// Observations of the reference.
    pub n_reference: u64,
    /// Observations of the current window.
    pub n_current: u64,
    /// The bins behind the scores, in order.
    pub bins: Vec<Bin>,
    /// Where one bin ends and the next begins; none for categories.
    #[serde(skip)]
    pub(crate) cuts: Vec<f64>,
    /// Headline: PSI with Jeffreys smoothing.
    pub psi: f64,
    /// PSI beyond the mean of sampling.
    pub psi_excess: f64,
    /// The PSI that sampling alone exceeds in 1 % of cases; none below two used bins.
    pub psi_noise: Option<f64>,
    /// Probability of this PSI from sampling alone.
    pub psi_p_value: Option<f64>,
    /// Jensen-Shannon distance, base 2.
    pub jensen_shannon: f64,
    /// Total variation.
    pub total_variation: f64,
    /// Hellinger distance.
    pub hellinger: f64,
    /// Largest difference of a share.
    pub l_infinity: f64,
    /// Chi-square homogeneity on cells with an expected count of 5 and more.
    pub homogeneity: Option<ChiSquareTest>,
    /// Bias-corrected Cramer's V.
    pub cramers_v: Option<f64>,
    /// KS, Wasserstein and quantiles; none for categories.
    pub numeric: Option<NumericChange>,
    /// New and vanished; none for numbers.
    pub categories: Option<CategoryChange>,
}

impl Comparison {
    /// Compares raw values, each side sorted ascending and finite (see [`super::sort::sort_values`]).
    ///
    /// # Errors
    /// [`CompareError::Empty`] for an empty side.
    pub fn of_samples(reference: &[f64], current: &[f64], options: ColumnOptions) -> Result<Self, CompareError> {
        not_empty(reference.len() as u64, current.len() as u64)?;
        let cuts = numeric::reference_cuts(reference);
        let (p, q) = (statistics::bin_counts(reference, &cuts), statistics::bin_counts(current, &cuts));
        let labels = numeric::labels(&cuts);
        let mut comparison = Self::of_bins(Basis::Samples, labels, &p, &q);
        comparison.cuts = cuts;
        comparison.numeric = Some(numeric::of_samples(reference, current, options));
        Ok(comparison)
    }

    /// Compares two merged states by their histograms.
    ///
    /// Bins are the reference's deciles snapped to bucket edges; KS and Wasserstein carry their proven interval.
    ///
    /// # Errors
    /// [`CompareError::Empty`]; [`CompareError::Layout`] for explicit buckets without a common edge, or explicit against
    /// exponential.
    pub fn of_states(
        reference: &FeatureState,
        current: &FeatureState,
        options: ColumnOptions,
    ) -> Result<Self, CompareError> {
        not_empty(reference.count(), current.count())?;
        let scale = [reference.scale(), current.scale()].into_iter().flatten().min();
        let aligned = reference.histogram.clone().align(current.histogram.clone());
        let aligned = aligned.map_err(|reason| CompareError::Layout { reason })?;
        let (p, q) = (&aligned.reference, &aligned.current);
        let places = statistics::snapped_decile_cuts(p);
        let cuts: Vec<f64> = places.iter().filter_map(|at| aligned.edges.get(*at).copied()).collect();
        let basis = scale.map_or(Basis::ExplicitHistogram, |scale| Basis::ExponentialHistogram { scale });
        let (binned_p, binned_q) = (statistics::merge_bins(p, &places), statistics::merge_bins(q, &places));
        let mut comparison = Self::of_bins(basis, numeric::labels(&cuts), &binned_p, &binned_q);
        comparison.cuts = cuts;
        comparison.numeric = Some(numeric::of_histograms(&aligned, options));
        Ok(comparison)
    }

    /// Compares category counts on the names that both sides kept.
    ///
    /// # Errors
    /// [`CompareError::Empty`] for an empty side.
    pub fn of_categories(reference: &CategoryCounts, current: &CategoryCounts) -> Result<Self, CompareError> {
        not_empty(reference.total(), current.total())?;
        let pair = CategoryPair::align(reference.clone(), current.clone());
        let owned = |(names, share): (Vec<&str>, f64)| (names.into_iter().map(str::to_owned).collect(), share);
        let (new, new_share) = owned(pair.new_categories());
        let (vanished, vanished_share) = owned(pair.vanished_categories());
        let new_is_material = pair.has_material_new();
        let mut comparison = Self::of_bins(Basis::Categories, pair.names, &pair.reference, &pair.current);
        comparison.categories = Some(CategoryChange { new, new_share, new_is_material, vanished, vanished_share });
        Ok(comparison)
    }

    /// Counts of the current window by bin.
    pub fn current_counts(&self) -> Vec<u64> {
        self.bins.iter().map(|bin| bin.current).collect()
    }

    /// Counts of the reference by bin.
    pub fn reference_counts(&self) -> Vec<u64> {
        self.bins.iter().map(|bin| bin.reference).collect()
    }

    fn of_bins(basis: Basis, labels: Vec<String>, p: &[u64], q: &[u64]) -> Self {
        let (n, m) = (p.iter().sum(), q.iter().sum());
        // A bin empty on both sides has no degree of freedom.
        let used = p.iter().zip(q).filter(|(p, q)| **p > 0 || **q > 0).count();
        let psi = distance::psi_jeffreys(p, q);
        let (pooled_p, pooled_q) = pool_rare(p, q);
        let bins = labels.into_iter().zip(p.iter().zip(q));
        Self {
            basis,
            n_reference: n,
            n_current: m,
            bins: bins.map(|(label, (&reference, &current))| Bin { label, reference, current }).collect(),
            cuts: vec![],
            psi,
            psi_excess: distance::psi_excess(psi, used, n, m),
            psi_noise: statistics::psi_noise_critical(used, n, m),
            psi_p_value: distance::psi_p_value(psi, used, n, m),
            jensen_shannon: statistics::jensen_shannon(p, q),
            total_variation: distance::total_variation(p, q),
            hellinger: distance::hellinger(p, q),
            l_infinity: distance::l_infinity(p, q),
            homogeneity: chi_square_homogeneity(&pooled_p, &pooled_q),
            cramers_v: cramers_v_corrected(p, q),
            numeric: None,
            categories: None,
        }
    }
}

fn not_empty(n: u64, m: u64) -> Result<(), CompareError> {
    if n == 0 {
        return Err(CompareError::Empty { side: "reference" });
    }
    if m == 0 {
        return Err(CompareError::Empty { side: "current window" });
    }
    Ok(())
}
