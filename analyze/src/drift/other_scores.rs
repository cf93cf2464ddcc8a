//! What is asked for beside a score: other tools' numbers from their definitions, and exact tests. They decide nothing.

use serde::{Serialize, Serializer};

use super::{
    category_counts::CategoryCounts, compat, contingency::CategoryPair, observed::Values, statistics, two_sample,
};

/// A number that is no part of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherScore {
    /// Evidently's PSI (0.7.23).
    EvidentlyPsi,
    /// Evidently's Kullback-Leibler divergence, nats.
    EvidentlyKl,
    /// Evidently's Jensen-Shannon distance, natural logarithm.
    EvidentlyJs,
    /// Evidently's Wasserstein distance over the standard deviation.
    EvidentlyWasserstein,
    /// Evidently's Hellinger distance.
    EvidentlyHellinger,
    /// Evidently's chi-square goodness of fit, of categories.
    EvidentlyChiSquare,
    /// NannyML's Jensen-Shannon distance (0.13).
    NannymlJs,
    /// SageMaker Model Monitor's L-infinity distance, method `Simple`; of numbers the KS statistic.
    SagemakerLinf,
    /// The same, method `Robust`.
    SagemakerLinfRobust,
    /// KS with its exact p-value, of at most 10 000 pairs.
    KsExact,
    /// Cramér–von Mises test.
    CramerVonMises,
    /// Anderson–Darling k-sample test.
    AndersonDarling,
    /// Energy distance.
    Energy,
}

/// One of them, of two sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OtherValue {
    /// Its name.
    pub name: OtherScore,
    /// The number; none where these values have none.
    pub value: Option<f64>,
    /// Its p-value, where it is a test.
    pub p_value: Option<f64>,
    /// Why there is no number.
    pub reason: Option<&'static str>,
}

const RAW: &str = "it is of raw values, which histograms and states do not have; ask with --source samples";
const NUMBERS: &str = "it is of numbers, and these are categories";
const CATEGORIES: &str = "it is of categories, and these are numbers";
const UNDEFINED: &str = "it is not defined for these values, or there are too many of them";

impl OtherScore {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::EvidentlyPsi,
        Self::EvidentlyKl,
        Self::EvidentlyJs,
        Self::EvidentlyWasserstein,
        Self::EvidentlyHellinger,
        Self::EvidentlyChiSquare,
        Self::NannymlJs,
        Self::SagemakerLinf,
        Self::SagemakerLinfRobust,
        Self::KsExact,
        Self::CramerVonMises,
        Self::AndersonDarling,
        Self::Energy,
    ];

    /// The one of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|score| score.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EvidentlyPsi => "evidently-psi",
            Self::EvidentlyKl => "evidently-kl",
            Self::EvidentlyJs => "evidently-js",
            Self::EvidentlyWasserstein => "evidently-wasserstein",
            Self::EvidentlyHellinger => "evidently-hellinger",
            Self::EvidentlyChiSquare => "evidently-chisquare",
            Self::NannymlJs => "nannyml-js",
            Self::SagemakerLinf => "sagemaker-linf",
            Self::SagemakerLinfRobust => "sagemaker-linf-robust",
            Self::KsExact => "ks-exact",
            Self::CramerVonMises => "cramer-von-mises",
            Self::AndersonDarling => "anderson-darling",
            Self::Energy => "energy",
        }
    }

    /// Of two sides, neither empty.
    pub(crate) fn of(self, reference: &Values, current: &Values) -> OtherValue {
        let found = match (reference, current) {
            (Values::Samples(reference), Values::Samples(current)) => self.of_samples(reference, current),
            (Values::Categories(reference), Values::Categories(current)) => self.of_categories(reference, current),
            _ => Err(RAW),
        };
        let ((value, p_value), reason) = match found {
            Ok((value, p_value)) => ((Some(value), p_value), None),
            Err(reason) => ((None, None), Some(reason)),
        };
        OtherValue { name: self, value, p_value, reason }
    }

    fn of_samples(self, p: &[f64], q: &[f64]) -> Result<(f64, Option<f64>), &'static str> {
        let plain = |value: f64| Ok((value, None));
        let binned = |of: fn(&[u64], &[u64]) -> f64| {
            let (p, q) = compat::evidently_bins(p, q);
            plain(of(&p, &q))
        };
        let ks = || statistics::kolmogorov_smirnov(p, q);
        let linf = |robust| plain(compat::sagemaker_linf(ks(), p.len() as u64, q.len() as u64, robust));
        match self {
            Self::EvidentlyPsi => binned(compat::evidently_psi),
            Self::EvidentlyKl => binned(compat::evidently_kl),
            Self::EvidentlyJs => binned(compat::evidently_js),
            Self::EvidentlyWasserstein => plain(compat::evidently_wasserstein(p, q)),
            Self::EvidentlyHellinger => plain(compat::evidently_hellinger(p, q)),
            Self::EvidentlyChiSquare => Err(CATEGORIES),
            Self::NannymlJs => plain(compat::nannyml_js(p, q)),
            Self::SagemakerLinf => linf(false),
            Self::SagemakerLinfRobust => linf(true),
            Self::KsExact => {
                let statistic = ks();
                let p_value = two_sample::kolmogorov_exact_p_value(statistic, p.len(), q.len());
                p_value.map(|p_value| (statistic, Some(p_value))).ok_or(UNDEFINED)
            }
            Self::CramerVonMises => {
                let test = two_sample::cramer_von_mises(p, q);
                Ok((test.statistic, test.p_value))
            }
            Self::AndersonDarling => {
                let test = two_sample::anderson_darling(p, q).ok_or(UNDEFINED)?;
                Ok((test.midrank, Some(test.p_value)))
            }
            Self::Energy => plain(two_sample::energy_distance(p, q)),
        }
    }

    fn of_categories(self, p: &CategoryCounts, q: &CategoryCounts) -> Result<(f64, Option<f64>), &'static str> {
        let pair = CategoryPair::align(p.clone(), q.clone());
        let (p, q) = (&pair.reference, &pair.current);
        let plain = |value: f64| Ok((value, None));
        let linf = |robust| {
            let simple = super::distance::l_infinity(p, q);
            plain(compat::sagemaker_linf(simple, p.iter().sum(), q.iter().sum(), robust))
        };
        match self {
            Self::EvidentlyPsi => plain(compat::evidently_psi(p, q)),
            Self::EvidentlyKl => plain(compat::evidently_kl(p, q)),
            Self::EvidentlyJs | Self::NannymlJs => {
                let js = statistics::jensen_shannon(p, q);
                plain(if self == Self::NannymlJs { js } else { compat::evidently_js(p, q) })
            }
            Self::EvidentlyHellinger => plain(super::distance::hellinger(p, q)),
            Self::EvidentlyChiSquare => {
                let p_value = compat::evidently_chi_square_p(p, q).ok_or(UNDEFINED)?;
                Ok((p_value, Some(p_value)))
            }
            Self::SagemakerLinf => linf(false),
            Self::SagemakerLinfRobust => linf(true),
            Self::EvidentlyWasserstein
            | Self::KsExact
            | Self::CramerVonMises
            | Self::AndersonDarling
            | Self::Energy => Err(NUMBERS),
        }
    }
}

impl Serialize for OtherScore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl OtherValue {
    /// A line for a terminal.
    pub(crate) fn line(&self) -> String {
        let name = self.name.as_str();
        match (self.value, self.p_value, self.reason) {
            (Some(value), None, _) => format!("{name:<24} {value:.4}\n"),
            (Some(value), Some(p_value), _) => format!("{name:<24} {value:.4} (p {p_value:.2e})\n"),
            (None, _, reason) => format!("{name:<24} – {}\n", reason.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::property_tests::{Random, sorted};

    #[test]
    fn one_outlier_hides_a_shift_from_others_and_names_are_read_back() {
        let mut random = Random(4);
        let mut side = |mean: f64| sorted((0..2_000).map(|_| mean + random.normal()).collect());
        let (mut reference, current) = (side(0.0), side(3.0));
        let psi = |reference: &[f64]| {
            let of =
                OtherScore::EvidentlyPsi.of(&Values::Samples(reference.to_vec()), &Values::Samples(current.clone()));
            of.value.unwrap()
        };
        assert!(psi(&reference) > 1.0);
        reference.push(1e6);
        assert!(psi(&reference) < 0.1);
        for score in OtherScore::ALL {
            assert_eq!(OtherScore::parse(score.as_str()), Some(score));
            let found = score.of(&Values::Samples(reference.clone()), &Values::Samples(current.clone()));
            assert_ne!(found.value.is_some(), found.reason.is_some(), "{found:?}");
            let state = || Values::Histograms(Box::default());
            assert_eq!(score.of(&state(), &state()).reason, Some(RAW));
        }
        assert_eq!(OtherScore::parse("psi"), None);
    }

    #[test]
    fn categories_have_those_of_categories() {
        let counts = |pairs: &[(&str, u64)]| {
            let mut counts = CategoryCounts::default();
            pairs.iter().for_each(|(name, count)| counts.add(name, *count));
            Values::Categories(Box::new(counts))
        };
        let (p, q) = (counts(&[("a", 80), ("b", 20)]), counts(&[("a", 60), ("b", 40)]));
        let value = |score: OtherScore| score.of(&p, &q).value;
        assert!((value(OtherScore::SagemakerLinf).unwrap() - 0.2).abs() < 1e-12);
        assert!((value(OtherScore::EvidentlyPsi).unwrap() - 0.2 * (0.4f64 / 0.2 * 0.8 / 0.6).ln()).abs() < 1e-12);
        assert_eq!((value(OtherScore::KsExact), OtherScore::KsExact.of(&p, &q).reason), (None, Some(NUMBERS)));
        assert!(OtherScore::EvidentlyChiSquare.of(&p, &q).p_value.unwrap() < 1e-5);
    }
}
