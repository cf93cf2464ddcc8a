//! What the times of one series say of how it was received, in memory that does not grow with their number.

use std::collections::BTreeMap;

const SECOND_US: f64 = 1e6;

/// Gaps of one order of size: each bin is at most 1/128 wide of what it holds.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    count: u64,
    sum_us: i64,
    max_us: i64,
}

/// Gaps between points, by size.
#[derive(Debug, Default)]
struct Gaps {
    bins: BTreeMap<u32, Bin>,
    count: u64,
}

/// The bin of `gap_us`, above 0: the power of two and the next seven bits.
fn bin_of(gap_us: i64) -> u32 {
    let exponent = gap_us.ilog2();
    let mantissa = if exponent >= 7 { gap_us >> (exponent - 7) } else { gap_us << (7 - exponent) };
    (exponent << 7) | (mantissa & 0x7f) as u32
}

impl Gaps {
    fn push(&mut self, gap_us: i64) {
        let bin = self.bins.entry(bin_of(gap_us)).or_default();
        bin.count += 1;
        bin.sum_us = bin.sum_us.saturating_add(gap_us);
        bin.max_us = bin.max_us.max(gap_us);
        self.count += 1;
    }

    /// The lower median, as the mean of its bin: exact where gaps do not vary, else within 0.8 %.
    fn median_us(&self) -> Option<f64> {
        let mut before = 0;
        for bin in self.bins.values() {
            before += bin.count;
            if 2 * before >= self.count {
                return Some(bin.sum_us as f64 / bin.count as f64);
            }
        }
        None
    }

    /// Points missing in them if one is due every `interval_us`, the gaps with any, and the longest of these.
    fn missing(&self, interval_us: f64) -> (u64, u64, i64) {
        let (mut missing, mut gap_count, mut longest_us) = (0, 0, 0);
        for bin in self.bins.values() {
            let mean = bin.sum_us as f64 / bin.count as f64;
            if (mean / interval_us).round() >= 2.0 {
                missing += ((bin.sum_us as f64 / interval_us).round() as u64).saturating_sub(bin.count);
                gap_count += bin.count;
                longest_us = longest_us.max(bin.max_us);
            }
        }
        (missing, gap_count, longest_us)
    }
}

/// One series within a window, its points taken in the order of their times.
#[derive(Debug, Default)]
pub(super) struct SeriesGaps {
    /// Between points.
    between: Gaps,
    /// From a point to the end that a marker gives the series.
    to_ends: Gaps,
    first_us: Option<i64>,
    last_us: Option<i64>,
    received: u64,
    /// The marker after the last point, if that ended the series.
    ended_us: Option<i64>,
}

/// What is known of one series within a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeriesCoverage {
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    pub(super) ended_us: Option<i64>,
    pub(super) received: u64,
    /// What follows needs an interval, which takes two points.
    pub(super) paced: Option<Paced>,
}

/// What an expected interval tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Paced {
    pub(super) interval_seconds: f64,
    pub(super) expected: u64,
    /// Received over expected.
    pub(super) share: f64,
    pub(super) gap_count: u64,
    /// Of the gaps that are counted; 0 without one.
    pub(super) gap_longest_seconds: f64,
}

impl SeriesGaps {
    /// Takes the next row: a point, or the marker that ends the series there.
    pub(super) fn push(&mut self, time_us: i64, recorded: bool) {
        let last_us = self.last_us.filter(|_| self.ended_us.is_none());
        if !recorded {
            if let Some(last_us) = last_us {
                if time_us > last_us {
                    self.to_ends.push(time_us - last_us);
                }
                self.ended_us = Some(time_us);
            }
            return;
        }
        match last_us {
            // The same moment again, with another start.
            Some(last_us) if time_us <= last_us => return,
            Some(last_us) => self.between.push(time_us - last_us),
            None => self.ended_us = None,
        }
        self.received += 1;
        self.first_us = self.first_us.or(Some(time_us));
        self.last_us = Some(time_us);
    }

    /// What it comes to when points were due until `end_us`; `None` without a point.
    pub(super) fn finish(mut self, end_us: i64) -> Option<SeriesCoverage> {
        let (first_us, last_us) = self.first_us.zip(self.last_us)?;
        if self.ended_us.is_none() && end_us > last_us {
            self.to_ends.push(end_us - last_us);
        }
        let (received, ended_us) = (self.received, self.ended_us);
        let paced = self.between.median_us().map(|interval_us| {
            let (missing, count, longest_us) = self.between.missing(interval_us);
            let (missing_at_ends, count_at_ends, longest_at_ends_us) = self.to_ends.missing(interval_us);
            let expected = received + missing + missing_at_ends;
            Paced {
                interval_seconds: interval_us / SECOND_US,
                expected,
                share: received as f64 / expected as f64,
                gap_count: count + count_at_ends,
                gap_longest_seconds: longest_us.max(longest_at_ends_us) as f64 / SECOND_US,
            }
        });
        Some(SeriesCoverage { first_us, last_us, ended_us, received, paced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Points at `seconds`, markers at negative ones, due until `end`.
    fn coverage(seconds: &[f64], end: i64) -> SeriesCoverage {
        let mut series = SeriesGaps::default();
        for second in seconds {
            series.push((second.abs() * 1e6) as i64, *second >= 0.0);
        }
        series.finish(end * SECOND).unwrap()
    }

    /// Interval, received, expected, gaps, longest gap.
    fn numbers(coverage: &SeriesCoverage) -> (f64, u64, u64, u64, f64) {
        let paced = coverage.paced.unwrap();
        assert!((paced.share - coverage.received as f64 / paced.expected as f64).abs() < 1e-12 && paced.share <= 1.0);
        (paced.interval_seconds, coverage.received, paced.expected, paced.gap_count, paced.gap_longest_seconds)
    }

    fn every(step: f64, from: f64, to: f64) -> Vec<f64> {
        (0..).map(|n| from + f64::from(n) * step).take_while(|time| *time < to).collect()
    }

    #[test]
    fn a_series_without_a_gap_is_covered_whole() {
        assert_eq!(numbers(&coverage(&every(15.0, 0.0, 3600.0), 3600)), (15.0, 240, 240, 0, 0.0));
        // It began in the middle: what was before is not missing.
        assert_eq!(numbers(&coverage(&every(15.0, 1800.0, 3600.0), 3600)), (15.0, 120, 120, 0, 0.0));
    }

    #[test]
    fn missing_points_are_counted_in_the_middle_and_at_the_end() {
        let mut seconds = every(10.0, 0.0, 100.0);
        seconds.extend(every(10.0, 200.0, 300.0));
        assert_eq!(numbers(&coverage(&seconds, 300)), (10.0, 20, 30, 1, 110.0));
        assert_eq!(numbers(&coverage(&seconds, 600)), (10.0, 20, 60, 2, 310.0));
        // One point lost.
        seconds.remove(5);
        assert_eq!(numbers(&coverage(&seconds, 300)), (10.0, 19, 30, 2, 110.0));
    }

    #[test]
    fn a_marker_ends_a_series_on_purpose_until_its_next_point() {
        let mut seconds = every(10.0, 0.0, 100.0);
        seconds.push(-100.0);
        let ended = coverage(&seconds, 3600);
        assert_eq!(numbers(&ended), (10.0, 10, 10, 0, 0.0));
        assert_eq!(ended.ended_us, Some(100 * SECOND));
        seconds.extend(every(10.0, 1000.0, 1100.0));
        let again = coverage(&seconds, 1100);
        assert_eq!((numbers(&again), again.ended_us), ((10.0, 20, 20, 0, 0.0), None));
        // Silence before the marker is a gap.
        let late = coverage(&[0.0, 10.0, 20.0, -100.0, -110.0], 3600);
        assert_eq!(numbers(&late), (10.0, 3, 10, 1, 80.0));
        assert_eq!((late.ended_us, late.last_us), (Some(100 * SECOND), 20 * SECOND));
    }

    #[test]
    fn jitter_restarts_and_repeats_are_no_gaps() {
        let jittered: Vec<f64> = (0..240).map(|n| f64::from(n) * 15.0 + f64::from(n * 37 % 11) * 0.02).collect();
        let (interval, received, expected, gaps, _) = numbers(&coverage(&jittered, 3600));
        assert!((interval - 15.0).abs() < 0.3, "{interval}");
        assert_eq!((received, expected, gaps), (240, 240, 0));
        // A restart shifts the phase: 22 s instead of 15.
        let mut restarted = every(15.0, 0.0, 600.0);
        restarted.extend(every(15.0, 607.0, 1200.0));
        assert_eq!(numbers(&coverage(&restarted, 1200)).2, 80);
        let repeated: Vec<f64> = every(15.0, 0.0, 600.0).into_iter().flat_map(|time| [time, time]).collect();
        assert_eq!(numbers(&coverage(&repeated, 600)), (15.0, 40, 40, 0, 0.0));
    }

    #[test]
    fn one_point_has_no_interval_and_markers_alone_are_no_series() {
        let one = coverage(&[5.0], 3600);
        assert_eq!((one.received, one.paced), (1, None));
        let mut series = SeriesGaps::default();
        series.push(5, false);
        assert_eq!(series.finish(100), None);
    }

    #[test]
    fn the_interval_is_within_a_hundredth_of_the_median_and_memory_is_bounded() {
        let mut random = 7u64;
        let (mut series, mut gaps, mut time) = (SeriesGaps::default(), Vec::new(), 0);
        series.push(time, true);
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let gap = 1 + (random >> 40) as i64;
            time += gap;
            gaps.push(gap);
            series.push(time, true);
        }
        assert!(series.between.bins.len() <= 25 * 128, "{}", series.between.bins.len());
        gaps.sort_unstable();
        let median = gaps[gaps.len() / 2] as f64;
        let found = series.finish(time).unwrap().paced.unwrap().interval_seconds * SECOND_US;
        assert!((found / median - 1.0).abs() < 0.01, "{found} {median}");
    }

    #[test]
    fn bins_are_narrow_and_in_order() {
        let mut last = 0;
        for gap in 1..100_000 {
            let bin = bin_of(gap);
            assert!(bin >= last);
            last = bin;
        }
        assert_eq!(bin_of(1 << 40), bin_of((1 << 40) + (1 << 32)));
        assert_ne!(bin_of(1 << 40), bin_of((1 << 40) + (1 << 33)));
        assert!(bin_of(i64::MAX) > last);
    }
}
