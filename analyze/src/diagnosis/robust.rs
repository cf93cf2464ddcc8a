//! Order statistics and rank correlation that one outlier cannot move.

pub use crate::drift::statistics::quantile as quantile_of_sorted;

/// Quantile `level` (type 7) of the finite values; none without any.
pub fn quantile(values: impl IntoIterator<Item = f64>, level: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, level)
}

/// Median of the finite values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// Median and scale: 1.4826 times the median absolute deviation (the standard deviation, where values are normal).
pub fn median_and_scale(values: &[f64]) -> Option<(f64, f64)> {
    let centre = median(values.iter().copied())?;
    let deviation = median(values.iter().map(|value| (value - centre).abs()))?;
    Some((centre, 1.4826 * deviation))
}

/// Spearman's rank correlation of the pairs that are finite; none with fewer than 8 or where one side is constant.
pub fn spearman(left: &[f64], right: &[f64]) -> Option<f64> {
    let pairs: Vec<(f64, f64)> =
        left.iter().zip(right).filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(&a, &b)| (a, b)).collect();
    if pairs.len() < 8 {
        return None;
    }
    let left = ranks(pairs.iter().map(|pair| pair.0).collect());
    let right = ranks(pairs.iter().map(|pair| pair.1).collect());
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>();
    let spread = (product(&left, &left) * product(&right, &right)).sqrt();
    (spread > 0.0).then(|| product(&left, &right) / spread)
}

/// Ranks from 0, ties sharing their mean.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..].iter().take_while(|&&row| values[row] == values[order[start]]).count();
        for &row in &order[start..start + same] {
            ranks[row] = start as f64 + (same as f64 - 1.0) / 2.0;
        }
        start += same;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_type_7() {
        assert_eq!(quantile([4.0, 1.0, f64::NAN, 3.0, 2.0], 0.5), Some(2.5));
        assert_eq!(quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.9), Some(4.6));
        assert_eq!(quantile([], 0.5), None);
        assert_eq!(median_and_scale(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some((3.0, 1.4826)));
    }

    #[test]
    fn spearman_takes_order_only_and_ties_share_a_rank() {
        let left: Vec<f64> = (0..10).map(f64::from).collect();
        let right: Vec<f64> = left.iter().map(|value| value.exp()).collect();
        assert!((spearman(&left, &right).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(spearman(&left, &[1.0; 10]), None);
        assert_eq!(spearman(&left[..5], &right[..5]), None);
        assert_eq!(ranks(vec![2.0, 1.0, 2.0]), [1.5, 0.0, 1.5]);
    }
}
