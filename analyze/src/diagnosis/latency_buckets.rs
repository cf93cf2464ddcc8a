//! Latency of all requests in buckets, by minute: where rows are means of many requests, quantiles come from here.

use std::ops::Range;

use super::Error;

/// Most edges of one window.
pub const EDGES_MAX: usize = 512;

/// Counts of latencies between fixed edges.
///
/// Cell 0 reaches from 0 to the first edge, the last cell has no upper end. Inside a cell requests are taken to be spread evenly
/// in the logarithm, so a quantile is off by at most the ratio of the two edges around it.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyBuckets {
    edges_ms: Vec<f64>,
    /// By minute, one count a cell.
    counts: Vec<f32>,
}

impl LatencyBuckets {
    /// No request yet. `edges_ms` are positive and ascend.
    pub fn new(edges_ms: Vec<f64>, minute_count: usize) -> Self {
        let counts = vec![0.0; minute_count * (edges_ms.len() + 1)];
        Self { edges_ms, counts }
    }

    /// The same requests, with every latency times `factor`, which is positive.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.edges_ms.iter_mut().for_each(|edge| *edge *= factor);
        self
    }

    /// Forgets all requests.
    pub fn clear(&mut self) {
        self.counts.fill(0.0);
    }

    /// Counts of one minute by cell.
    pub fn minute(&self, minute: usize) -> &[f32] {
        let width = self.edges_ms.len() + 1;
        self.counts.get(minute * width..(minute + 1) * width).unwrap_or(&[])
    }

    /// Adds counts by cell to a minute. What lies outside of the window is left out.
    pub fn add_cells(&mut self, minute: usize, counts: impl IntoIterator<Item = f32>) {
        let width = self.edges_ms.len() + 1;
        if let Some(cells) = self.counts.get_mut(minute * width..(minute + 1) * width) {
            cells.iter_mut().zip(counts).for_each(|(cell, count)| *cell += count);
        }
    }

    /// Adds requests between two latencies, `high` being infinite where there is no upper end. A span of several cells is
    /// divided evenly in the logarithm. What lies outside of the window is left out.
    pub fn add(&mut self, minute: usize, low: f64, high: f64, count: f64) {
        let width = self.edges_ms.len() + 1;
        let Some(cells) = self.counts.get_mut(minute * width..(minute + 1) * width) else { return };
        let first = self.edges_ms.partition_point(|&edge| edge <= low);
        let last = self.edges_ms.partition_point(|&edge| edge < high);
        if first >= last || !(low > 0.0 && high.is_finite()) {
            cells[if high.is_finite() { last } else { first }] += count as f32;
            return;
        }
        let whole = (high / low).ln();
        for (cell, counted) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
            let from = if cell == first { low } else { self.edges_ms[cell - 1] };
            let to = if cell == last { high } else { self.edges_ms[cell] };
            *counted += (count * (to / from).ln() / whole) as f32;
        }
    }

    /// Requests of some minutes.
    pub fn count(&self, minutes: Range<usize>) -> f64 {
        self.merged(minutes).iter().sum()
    }

    /// Quantile `level` of the requests of some minutes, milliseconds; none without any. Above the last edge it is that edge:
    /// at least so much.
    pub fn quantile_ms(&self, minutes: Range<usize>, level: f64) -> Option<f64> {
        let merged = self.merged(minutes);
        let total: f64 = merged.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let mut left = level * total;
        for (cell, &count) in merged.iter().enumerate() {
            if left <= count && count > 0.0 {
                let Some(&high) = self.edges_ms.get(cell) else { break };
                let share = left / count;
                return Some(match cell.checked_sub(1).map(|below| self.edges_ms[below]) {
                    Some(low) => low * (high / low).powf(share),
                    None => high * share,
                });
            }
            left -= count;
        }
        self.edges_ms.last().copied()
    }

    /// The requests of some minutes by bucket, whole ones: what was divided between buckets is rounded.
    pub fn card_buckets(&self, minutes: Range<usize>) -> crate::lineage::version_card::LatencyBuckets {
        let counts = self.merged(minutes).into_iter().map(|count| count.round() as u64).collect();
        crate::lineage::version_card::LatencyBuckets { bounds_ms: self.edges_ms.clone(), counts }
    }

    /// Checks lengths and order.
    ///
    /// # Errors
    /// [`Error::Length`] and [`Error::Edges`].
    pub(super) fn validate(&self, minute_count: usize) -> Result<(), Error> {
        super::service_window::same_length(
            "latency buckets",
            self.counts.len(),
            minute_count * (self.edges_ms.len() + 1),
        )?;
        let ascending = self.edges_ms.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = self.edges_ms.iter().all(|edge| *edge > 0.0 && edge.is_finite());
        if ascending && positive && (1..=EDGES_MAX).contains(&self.edges_ms.len()) { Ok(()) } else { Err(Error::Edges) }
    }

    fn merged(&self, minutes: Range<usize>) -> Vec<f64> {
        let width = self.edges_ms.len() + 1;
        let mut merged = vec![0.0; width];
        let rows = self.counts.chunks_exact(width).skip(minutes.start).take(minutes.len());
        for row in rows {
            merged.iter_mut().zip(row).for_each(|(sum, count)| *sum += f64::from(*count));
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_fleet::Rng;

    #[test]
    fn quantiles_are_within_the_width_of_a_bucket() {
        let edges: Vec<f64> = (0..60).map(|step| 1.0 * 1.2f64.powi(step)).collect();
        let mut buckets = LatencyBuckets::new(edges.clone(), 2);
        let mut rng = Rng::new(3);
        let mut values: Vec<f64> = (0..5_000).map(|_| rng.log_normal(300.0, 0.7)).collect();
        for value in &values {
            let cell = edges.partition_point(|edge| edge < value);
            buckets.add(1, edges[cell - 1], edges[cell], 1.0);
        }
        values.sort_unstable_by(f64::total_cmp);
        for level in [0.05, 0.5, 0.95] {
            let (exact, found) = (values[(level * 5_000.0) as usize], buckets.quantile_ms(0..2, level).unwrap());
            assert!((found / exact).ln().abs() < 1.2f64.ln(), "{level} {exact} {found}");
        }
        assert_eq!((buckets.count(0..1), buckets.count(0..2)), (0.0, 5_000.0));
        assert_eq!(buckets.quantile_ms(0..1, 0.5), None);
    }

    #[test]
    fn a_span_over_several_cells_is_divided_and_what_has_no_end_is_at_least_the_last_edge() {
        let mut buckets = LatencyBuckets::new(vec![1.0, 10.0, 100.0], 1);
        buckets.add(0, 1.0, 100.0, 10.0);
        assert_eq!(buckets.quantile_ms(0..1, 0.5), Some(10.0));
        buckets.add(0, 100.0, f64::INFINITY, 90.0);
        assert_eq!(buckets.quantile_ms(0..1, 0.95), Some(100.0));
        buckets.add(7, 1.0, 10.0, 1.0);
        assert_eq!(buckets.count(0..1), 100.0, "minutes outside are left out");
        let mut first = LatencyBuckets::new(vec![8.0], 1);
        first.add(0, 0.0, 8.0, 4.0);
        assert_eq!(first.quantile_ms(0..1, 0.5), Some(4.0));
    }

    #[test]
    fn edges_that_do_not_ascend_are_refused() {
        assert_eq!(LatencyBuckets::new(vec![2.0, 1.0], 1).validate(1), Err(Error::Edges));
        assert_eq!(LatencyBuckets::new(vec![0.0], 1).validate(1), Err(Error::Edges));
        assert!(LatencyBuckets::new(vec![1.0], 1).validate(2).is_err());
    }
}
