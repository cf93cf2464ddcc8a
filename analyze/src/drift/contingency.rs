//! Tests and effect sizes of two rows of counts: homogeneity, Cramer's V, and categories that came or went.

use serde::Serialize;

use super::{category_counts::CategoryCounts, category_counts::OTHER, chi_square};

/// A chi-square test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChiSquareTest {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom.
    pub degrees: usize,
    /// Asymptotic p-value.
    pub p_value: f64,
    /// Smallest expected count; below 5 the p-value is approximate.
    pub expected_min: f64,
}

/// Pearson's chi-square test that two rows of counts come from one distribution; none below two used cells or an empty side.
///
/// Cells empty on both sides are left out. Source: Pearson 1900; the 2 x B contingency table.
pub fn chi_square_homogeneity(reference: &[u64], current: &[u64]) -> Option<ChiSquareTest> {
    test(reference, current, |observed, expected| (observed - expected).powi(2) / expected)
}

/// The likelihood-ratio (G) form of [`chi_square_homogeneity`].
pub fn g_test(reference: &[u64], current: &[u64]) -> Option<ChiSquareTest> {
    let term = |observed: f64, expected: f64| {
        if observed > 0.0 { 2.0 * observed * (observed / expected).ln() } else { 0.0 }
    };
    test(reference, current, term)
}

fn test(reference: &[u64], current: &[u64], term: impl Fn(f64, f64) -> f64) -> Option<ChiSquareTest> {
    let total = |side: &[u64]| side.iter().map(|&count| count as f64).sum::<f64>();
    let (n, m) = (total(reference), total(current));
    let (mut statistic, mut cells, mut expected_min) = (0.0, 0usize, f64::INFINITY);
    for (&a, &b) in reference.iter().zip(current) {
        let pooled = a as f64 + b as f64;
        if pooled > 0.0 {
            let (e, f) = (pooled * n / (n + m), pooled * m / (n + m));
            statistic += term(a as f64, e) + term(b as f64, f);
            cells += 1;
            expected_min = expected_min.min(e).min(f);
        }
    }
    let degrees = cells.checked_sub(1).filter(|degrees| *degrees > 0 && n > 0.0 && m > 0.0)?;
    Some(ChiSquareTest { statistic, degrees, p_value: chi_square::survival(statistic, degrees)?, expected_min })
}

/// Merges cells with an expected count below 5 into one, which goes last, so that the chi-square limit holds.
pub fn pool_rare(reference: &[u64], current: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    let smaller = n.min(m) / (n + m);
    let (mut p, mut q, mut rest) = (vec![], vec![], (0, 0));
    for (&a, &b) in reference.iter().zip(current) {
        if (a + b) as f64 * smaller >= 5.0 {
            p.push(a);
            q.push(b);
        } else {
            rest = (rest.0 + a, rest.1 + b);
        }
    }
    if rest != (0, 0) {
        p.push(rest.0);
        q.push(rest.1);
    }
    (p, q)
}

/// Cramer's V of a 2 x B table: `sqrt(chi2 / (n + m))`, in `[0, 1]`. Source: Cramer 1946.
pub fn cramers_v(reference: &[u64], current: &[u64]) -> Option<f64> {
    let test = chi_square_homogeneity(reference, current)?;
    Some((test.statistic / total_pair(reference, current)).sqrt())
}

/// Cramer's V without its upward bias at small samples. Source: Bergsma 2013.
pub fn cramers_v_corrected(reference: &[u64], current: &[u64]) -> Option<f64> {
    let test = chi_square_homogeneity(reference, current)?;
    let total = total_pair(reference, current);
    let columns = test.degrees as f64 + 1.0;
    let phi = (test.statistic / total - test.degrees as f64 / (total - 1.0)).max(0.0);
    let columns = columns - (columns - 1.0).powi(2) / (total - 1.0);
    let rows = 2.0 - 1.0 / (total - 1.0);
    let smaller = (columns - 1.0).min(rows - 1.0);
    (smaller > 0.0).then(|| (phi / smaller).sqrt())
}

fn total_pair(reference: &[u64], current: &[u64]) -> f64 {
    reference.iter().chain(current).map(|&count| count as f64).sum()
}

/// Two category states on the same names.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryPair {
    /// Names, sorted, `__other__` last where it holds anything.
    pub names: Vec<String>,
    /// Reference counts.
    pub reference: Vec<u64>,
    /// Current counts.
    pub current: Vec<u64>,
}

impl CategoryPair {
    /// Brings two states onto the names that both kept.
    pub fn align(mut reference: CategoryCounts, mut current: CategoryCounts) -> Self {
        reference.align(&mut current);
        let mut names: Vec<String> =
            reference.named().chain(current.named()).map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        if reference.other() > 0 || current.other() > 0 {
            names.push(OTHER.to_owned());
        }
        let counts = |side: &CategoryCounts| names.iter().map(|name| side.get(name)).collect();
        Self { reference: counts(&reference), current: counts(&current), names }
    }

    /// Categories only the current window has, and their share of it.
    pub fn new_categories(&self) -> (Vec<&str>, f64) {
        only_in(&self.names, &self.current, &self.reference)
    }

    /// Categories only the reference has, and their share of it.
    pub fn vanished_categories(&self) -> (Vec<&str>, f64) {
        only_in(&self.names, &self.reference, &self.current)
    }

    /// Whether new categories are more than chance rows: a share above `max(0.5 %, 3 / m)`.
    pub fn has_material_new(&self) -> bool {
        let total = self.current.iter().sum::<u64>() as f64;
        self.new_categories().1 > (3.0 / total).max(0.005)
    }
}

fn only_in<'a>(names: &'a [String], side: &[u64], other: &[u64]) -> (Vec<&'a str>, f64) {
    let total: u64 = side.iter().sum();
    let only = |at: &usize| side[*at] > 0 && other[*at] == 0 && names[*at] != OTHER;
    let at: Vec<usize> = (0..names.len()).filter(only).collect();
    let count: u64 = at.iter().map(|&at| side[at]).sum();
    let share = if total > 0 { count as f64 / total as f64 } else { 0.0 };
    (at.into_iter().map(|at| names[at].as_str()).collect(), share)
}
