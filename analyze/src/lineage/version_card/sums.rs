//! Sums over minutes that merge by addition.

use super::estimate::{Estimate, Z_95};

/// Sums of a numerator and its count over minutes: a mean, or a share where the numerator counts hits.
///
/// The spread between minutes is that of a ratio estimator (Cochran, *Sampling Techniques*, 6.3): with minutes `b` of
/// sum `x_b` and count `n_b`, and `r = Σx / Σn`, the variance of `r` is `m / (m − 1) · Σ(x_b − r·n_b)² / (Σn)²`, for which
/// `Σx²`, `Σx·n` and `Σn²` suffice.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MinuteSums {
    /// Minutes that told something.
    pub minutes: u64,
    /// Requests.
    pub n: f64,
    /// Sum of the numerator.
    pub x: f64,
    /// Sum over minutes of the squared numerator.
    pub xx: f64,
    /// Sum over minutes of numerator times requests.
    pub xn: f64,
    /// Sum over minutes of squared requests.
    pub nn: f64,
}

impl MinuteSums {
    /// Adds one minute. One without requests still costs; of latency and shares it has neither numerator nor count, and tells
    /// nothing.
    pub fn add_minute(&mut self, numerator: f64, requests: u64) {
        self.add_weighed(numerator, requests as f64);
    }

    /// The same where what is counted has weights: `n` is their sum, and the sums are to be scaled so that all of them add up to as
    /// many as would tell as much (Kish: `(Σw)² / Σw²`).
    pub fn add_weighed(&mut self, numerator: f64, n: f64) {
        if !numerator.is_finite() || !n.is_finite() || (n == 0.0 && numerator == 0.0) {
            return;
        }
        self.minutes += 1;
        self.n += n;
        self.x += numerator;
        self.xx += numerator * numerator;
        self.xn += numerator * n;
        self.nn += n * n;
    }

    /// Adds the sums of other minutes. Two hosts of one minute count as two minutes.
    pub fn merge(&mut self, other: &Self) {
        self.minutes += other.minutes;
        self.n += other.n;
        self.x += other.x;
        self.xx += other.xx;
        self.xn += other.xn;
        self.nn += other.nn;
    }

    /// Mean per request with its 95 % interval; `None` below two minutes.
    pub fn mean(&self) -> Option<Estimate> {
        let variance = self.variance()?;
        let value = self.x / self.n;
        let half = Z_95 * variance.sqrt();
        Some(Estimate { value, low: value - half, high: value + half, n: self.n as u64 })
    }

    /// Share of requests, where the numerator counts hits, with its 95 % interval after Wilson.
    ///
    /// The count is divided by the design effect, that is how much more the minutes differ than independent requests
    /// would. Unlike [`MinuteSums::mean`] it does not claim certainty where there was no hit.
    pub fn share(&self) -> Option<Estimate> {
        let variance = self.variance()?;
        let p = (self.x / self.n).clamp(0.0, 1.0);
        let binomial = p * (1.0 - p) / self.n;
        let design_effect = if binomial > 0.0 { (variance / binomial).max(1.0) } else { 1.0 };
        let n = self.n / design_effect;
        let zz = Z_95 * Z_95;
        let centre = (p + zz / (2.0 * n)) / (1.0 + zz / n);
        let half = Z_95 / (1.0 + zz / n) * (p * (1.0 - p) / n + zz / (4.0 * n * n)).sqrt();
        // Rounding must not put the share outside of its own interval.
        let (low, high) = ((centre - half).clamp(0.0, p), (centre + half).clamp(p, 1.0));
        Some(Estimate { value: p, low, high, n: self.n as u64 })
    }

    fn variance(&self) -> Option<f64> {
        if self.minutes < 2 || self.n <= 0.0 {
            return None;
        }
        let (m, r) = (self.minutes as f64, self.x / self.n);
        let spread = self.xx - 2.0 * r * self.xn + r * r * self.nn;
        // Subtraction of near equal sums may leave a tiny negative rest.
        Some(m / (m - 1.0) * spread.max(0.0) / (self.n * self.n))
    }
}

/// Requests by latency in the buckets of an OpenTelemetry histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LatencyBuckets {
    /// Upper bounds, rising, milliseconds; the last bucket has none.
    pub bounds_ms: Vec<f64>,
    /// Requests of each bucket: one more than bounds.
    pub counts: Vec<u64>,
}

impl LatencyBuckets {
    /// Adds counts of the same bounds; `false`, and nothing added, where the bounds differ.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.counts.is_empty() {
            *self = other.clone();
            return true;
        }
        if self.bounds_ms != other.bounds_ms || self.counts.len() != other.counts.len() {
            return false;
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        true
    }

    /// Quantile `q` between 0 and 1, milliseconds, with its 95 % interval from the binomial spread of ranks, widened by
    /// `design_effect` (at least 1).
    ///
    /// `None` without requests, with bounds that do not fit the counts, or where the quantile or an end of its interval
    /// lies in the last bucket, which has no upper bound: the telemetry then cannot tell it.
    pub fn quantile(&self, q: f64, design_effect: f64) -> Option<Estimate> {
        let total: u64 = self.counts.iter().sum();
        let fits =
            self.counts.len() == self.bounds_ms.len() + 1 && self.bounds_ms.windows(2).all(|two| two[0] < two[1]);
        if total == 0 || !fits || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let half = Z_95 * (q * (1.0 - q) * design_effect.max(1.0) / total as f64).sqrt();
        let at = |share: f64| self.at_rank(share.clamp(0.0, 1.0) * total as f64);
        Some(Estimate { value: at(q)?, low: at(q - half)?, high: at(q + half)?, n: total })
    }

    /// Linear within a bucket, as Prometheus' `histogram_quantile` does.
    fn at_rank(&self, rank: f64) -> Option<f64> {
        let mut below = 0.0;
        let mut lower = 0.0;
        for (&count, &upper) in self.counts.iter().zip(&self.bounds_ms) {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        None
    }
}
