//! Moving-block bootstrap over minutes (Künsch 1989): requests of one minute share their machines' luck, so minutes, not
//! requests, are drawn, in blocks that keep what is alike from one minute to the next.

use crate::simulated_fleet::Rng;

/// How the resampling is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootstrapRules {
    /// Draws. Default 200.
    pub draws: usize,
    /// Minutes of a block. Default 5.
    pub block_minutes: usize,
    /// Seed: the same window gives the same intervals.
    pub seed: u64,
}

impl Default for BootstrapRules {
    fn default() -> Self {
        Self { draws: 200, block_minutes: 5, seed: 0x5EED }
    }
}

/// A number with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Estimate from all data.
    pub value: f64,
    /// Standard error over the draws.
    pub standard_error: f64,
    /// 2.5 % and 97.5 % quantiles of the draws.
    pub interval: (f64, f64),
}

impl Estimate {
    /// From the estimate and its draws; a draw that could not be computed is left out.
    pub fn new(value: f64, mut draws: Vec<f64>) -> Self {
        draws.retain(|draw| draw.is_finite());
        draws.sort_unstable_by(f64::total_cmp);
        let count = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / count;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let at = |level| super::robust::quantile_of_sorted(&draws, level).unwrap_or(f64::NAN);
        // Of fewer than two draws nothing is known, which must not pass for certainty.
        let standard_error = if draws.len() < 2 { f64::INFINITY } else { variance.sqrt() };
        Self { value, standard_error, interval: (at(0.025), at(0.975)) }
    }
}

/// Positions `0..length` drawn in blocks, as many as there are; blocks wrap around the end so that all positions are equally likely.
pub fn draw_blocks(length: usize, block: usize, rng: &mut Rng) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(length);
    while drawn.len() < length {
        let start = (rng.uniform() * length as f64) as usize;
        let take = block.max(1).min(length - drawn.len());
        drawn.extend((start..start + take).map(|position| position % length));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of an autocorrelated series: the bootstrap's error against the spread of independent repetitions.
    #[test]
    fn the_error_of_a_mean_is_that_of_repetitions() {
        let series = |seed: u64| {
            let mut rng = Rng::new(seed);
            let mut level = 0.0;
            (0..240)
                .map(|_| {
                    level = 0.5 * level + rng.normal();
                    level
                })
                .collect::<Vec<f64>>()
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let truth = Estimate::new(0.0, (0..400).map(|seed| mean(&series(seed))).collect()).standard_error;
        let mut errors = Vec::new();
        for seed in 0..40 {
            let values = series(seed);
            let mut rng = Rng::new(seed ^ 99);
            let draws = (0..200)
                .map(|_| mean(&draw_blocks(240, 10, &mut rng).iter().map(|&at| values[at]).collect::<Vec<_>>()))
                .collect();
            errors.push(Estimate::new(mean(&values), draws).standard_error);
        }
        let ratio = mean(&errors) / truth;
        assert!((0.8..1.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_seed_repeats_and_blocks_fill_the_length() {
        let draw = |seed| draw_blocks(17, 5, &mut Rng::new(seed));
        assert_eq!(draw(4), draw(4));
        assert_ne!(draw(4), draw(5));
        assert_eq!(draw(4).len(), 17);
        assert!(draw(4).iter().all(|&at| at < 17));
    }
}
