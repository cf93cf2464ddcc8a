//! Adjusted p-values of a family of tests, in the order given. NaN counts as 1: an unknown p is never evidence.

/// Benjamini-Hochberg q-values: false discovery rate under independence or positive dependence. Source: 1995.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    step_up(p_values, 1.0)
}

/// Benjamini-Yekutieli q-values: any dependence, as of overlapping segments. Source: 2001.
pub fn benjamini_yekutieli(p_values: &[f64]) -> Vec<f64> {
    step_up(p_values, (1..=p_values.len()).map(|rank| 1.0 / rank as f64).sum())
}

/// Holm's adjusted p-values: family-wise error. Source: 1979.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, (at, p)) in ranked(p_values).into_iter().enumerate() {
        largest = largest.max((p * (p_values.len() - rank) as f64).min(1.0));
        adjusted[at] = largest;
    }
    adjusted
}

/// Bonferroni's adjusted p-values.
pub fn bonferroni(p_values: &[f64]) -> Vec<f64> {
    p_values.iter().map(|&p| (known(p) * p_values.len() as f64).min(1.0)).collect()
}

fn step_up(p_values: &[f64], factor: f64) -> Vec<f64> {
    let mut adjusted = vec![0.0; p_values.len()];
    let mut smallest = 1.0f64;
    for (rank, (at, p)) in ranked(p_values).into_iter().enumerate().rev() {
        smallest = smallest.min(p * p_values.len() as f64 * factor / (rank + 1) as f64);
        adjusted[at] = smallest;
    }
    adjusted
}

fn ranked(p_values: &[f64]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = p_values.iter().map(|&p| known(p)).enumerate().collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    ranked
}

fn known(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p }
}
