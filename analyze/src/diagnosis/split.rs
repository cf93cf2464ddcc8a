//! The change of the mean latency, split into what was asked, how busy the server was, and how fast it is.
//!
//! With `x̄` the mean columns, `b` the slopes and `a` the intercept of a side (0 before, 1 after), the two-player Shapley value
//! gives each player its own effect and half of the interaction `Δx̄ · Δb`:
//!
//! | part | formula |
//! |---|---|
//! | inputs and load | `Δx̄ · (b₀ + b₁) / 2`, by column |
//! | system | `Δa + (x̄₀ + x̄₁) / 2 · Δb` |
//!
//! `a` makes each side's mean residual zero, so the parts sum to the change to rounding. Time in the queue, where requests
//! report it, is load with slope 1. Source: Shapley 1953; for regressions this is the Kitagawa-Oaxaca-Blinder decomposition
//! with the mean of both coefficient vectors (Reimers 1983).

use std::ops::Range;

use super::{
    cost_model::{CostModel, RIDGE_SHARE},
    regression_sums::RegressionSums,
    service_window::{Role, ServiceWindow},
};

/// Mergeable sums of some requests: latency on the cost columns, log latency on log predicted cost, and queue time.
#[derive(Debug, Clone, PartialEq)]
pub struct SideSums {
    served: RegressionSums,
    log: RegressionSums,
    queue_mean_ms: f64,
}

/// How the mean changed and why, milliseconds; the parts sum to `after_ms - before_ms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Mean latency before.
    pub before_ms: f64,
    /// Mean latency after.
    pub after_ms: f64,
    /// Part of each input and of load, in the order of the model's roles, then queue time.
    pub by_role: Vec<(Role, f64)>,
    /// Sum of `by_role` over inputs.
    pub input_ms: f64,
    /// Sum of `by_role` over load.
    pub load_ms: f64,
    /// The rest: the same request at the same load takes longer or shorter.
    pub system_ms: f64,
    /// `Δx̄ · Δb`: half of it is in the parts of `x̄`, half in `system_ms`.
    pub interaction_ms: f64,
    /// Change of the mean log latency that predicted cost (inputs and batch) explains.
    pub log_input: f64,
    /// Change of the mean log latency at equal predicted cost: `exp` of it is a factor.
    pub log_system: f64,
}

impl SideSums {
    /// Empty sums for the columns of `model`.
    pub fn new(model: &CostModel) -> Self {
        let served = RegressionSums::new(model.terms.len());
        Self { served, log: RegressionSums::new(1), queue_mean_ms: 0.0 }
    }

    /// Adds one request; `columns` is scratch space. Requests with an unknown input are left out and counted by the caller.
    pub fn add(&mut self, model: &CostModel, window: &ServiceWindow, row: usize, columns: &mut Vec<f64>) {
        if !model.columns(window, row, columns) {
            return;
        }
        let (served, queued) = CostModel::served_ms(window, row);
        self.served.add(columns, served, model.weight(columns));
        let latency = f64::from(window.latency_ms[row]);
        self.log.add(&[model.predicted_ms(columns).ln()], latency.ln(), 1.0);
        self.queue_mean_ms += (queued - self.queue_mean_ms) / self.served.count() as f64;
    }

    /// Adds the requests of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.served.merge(&other.served);
        self.log.merge(&other.log);
        if self.count() > 0 {
            let share = other.count() as f64 / self.count() as f64;
            self.queue_mean_ms += (other.queue_mean_ms - self.queue_mean_ms) * share;
        }
    }

    /// Requests summed.
    pub fn count(&self) -> u64 {
        self.served.count()
    }

    /// Mean predicted cost in log units; not meaningful while empty.
    pub fn log_cost_mean(&self) -> f64 {
        self.log.column_means()[0]
    }
}

/// Sums of each minute of `minutes`.
pub fn minute_sums(model: &CostModel, window: &ServiceWindow, minutes: Range<usize>) -> Vec<SideSums> {
    let mut columns = Vec::new();
    minutes
        .map(|minute| {
            let mut sums = SideSums::new(model);
            for row in window.rows(minute, minute + 1) {
                sums.add(model, window, row, &mut columns);
            }
            sums
        })
        .collect()
}

/// All of `parts` merged.
pub fn merged<'a>(model: &CostModel, parts: impl IntoIterator<Item = &'a SideSums>) -> SideSums {
    let mut sums = SideSums::new(model);
    for part in parts {
        sums.merge(part);
    }
    sums
}

/// Splits the change from `before` to `after`; none where a side is too small to fit.
pub fn split(model: &CostModel, before: &SideSums, after: &SideSums) -> Option<Split> {
    let (old, new) = (before.served.solve(RIDGE_SHARE)?, after.served.solve(RIDGE_SHARE)?);
    let (old_means, new_means) = (before.served.column_means(), after.served.column_means());
    let mut by_role: Vec<(Role, f64)> = model.roles.iter().map(|&role| (role, 0.0)).collect();
    let mut system_ms = new.intercept - old.intercept;
    let mut interaction_ms = 0.0;
    for (index, term) in model.terms.iter().enumerate() {
        // A column that does not vary on one side has no slope there: the other side's is the only evidence.
        let (b0, b1) = match (old.slopes[index], new.slopes[index]) {
            (0.0, slope) | (slope, 0.0) => (slope, slope),
            both => both,
        };
        system_ms += (new.slopes[index] - b1) * new_means[index] - (old.slopes[index] - b0) * old_means[index];
        let (delta, slope) = (new_means[index] - old_means[index], (b0 + b1) / 2.0);
        system_ms += (old_means[index] + new_means[index]) / 2.0 * (b1 - b0);
        interaction_ms += delta * (b1 - b0);
        let Some(second) = term.second.filter(|&second| second != term.first) else {
            by_role[term.first].1 += delta * slope;
            continue;
        };
        let mean = |role: usize| (old_means[role] + new_means[role]) / 2.0;
        let moved = |role: usize| new_means[role] - old_means[role];
        let first_part = slope * moved(term.first) * mean(second);
        let second_part = slope * moved(second) * mean(term.first);
        // What is left is how the two go together; beside a load it is the load's.
        let rest = delta * slope - first_part - second_part;
        let rest_share = if model.roles[second].is_load() { 0.0 } else { 0.5 };
        by_role[term.first].1 += first_part + rest * rest_share;
        by_role[second].1 += second_part + rest * (1.0 - rest_share);
    }
    by_role.push((Role::QueueMs, after.queue_mean_ms - before.queue_mean_ms));
    let sum = |load: bool| by_role.iter().filter(|(role, _)| role.is_load() == load).map(|part| part.1).sum();
    let (log_input, log_system) = log_split(&before.log, &after.log)?;
    Some(Split {
        before_ms: before.served.response_mean() + before.queue_mean_ms,
        after_ms: after.served.response_mean() + after.queue_mean_ms,
        input_ms: sum(false),
        load_ms: sum(true),
        by_role,
        system_ms,
        interaction_ms,
        log_input,
        log_system,
    })
}

fn log_split(before: &RegressionSums, after: &RegressionSums) -> Option<(f64, f64)> {
    let (old, new) = (before.solve(RIDGE_SHARE)?, after.solve(RIDGE_SHARE)?);
    let (old_mean, new_mean) = (before.column_means()[0], after.column_means()[0]);
    let input = (new_mean - old_mean) * (old.slopes[0] + new.slopes[0]) / 2.0;
    Some((input, after.response_mean() - before.response_mean() - input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diagnosis::service_window::Feature, simulated_fleet::Rng};

    /// `count` requests in minute 0 and as many in minute 1, whose prompts and speed differ by the given factors.
    fn window(seed: u64, prompts: f64, slow: f64) -> ServiceWindow {
        let (mut rng, count) = (Rng::new(seed), 2_000);
        let mut window = ServiceWindow { minute_count: 2, arrivals: vec![f32::NAN; 2], ..ServiceWindow::default() };
        let (mut prompt, mut output) = (Vec::new(), Vec::new());
        for minute in 0..2 {
            for _ in 0..count {
                let (scale, factor) = if minute == 0 { (1.0, 1.0) } else { (prompts, slow) };
                let p = scale * rng.log_normal(900.0, 0.8);
                let o = rng.log_normal(120.0, 0.6);
                let latency = (40.0 + 0.25 * p + 8.0 * o) * factor * rng.log_normal(1.0, 0.1);
                window.minutes.push(minute);
                window.latency_ms.push(latency as f32);
                prompt.push(p as f32);
                output.push(o as f32);
            }
        }
        window.features.push(Feature { role: Role::PromptTokens, values: prompt });
        window.features.push(Feature { role: Role::OutputTokens, values: output });
        window
    }

    fn split_of(window: &ServiceWindow) -> Split {
        let model = CostModel::new(window, std::slice::from_ref(&(0..window.latency_ms.len())), 0.9).unwrap();
        let minutes = minute_sums(&model, window, 0..2);
        split(&model, &minutes[0], &minutes[1]).unwrap()
    }

    #[test]
    fn the_parts_sum_to_the_change_and_are_the_true_ones() {
        for seed in 0..20 {
            for (prompts, slow) in [(1.0, 1.0), (2.0, 1.0), (1.0, 1.3), (0.4, 1.6), (2.0, 0.7)] {
                let split = split_of(&window(seed, prompts, slow));
                let change = split.after_ms - split.before_ms;
                assert!((split.input_ms + split.load_ms + split.system_ms - change).abs() < 1e-6 * split.before_ms);
                // The Shapley value of the generating model at the population's means.
                let (p, o) = (900.0 * f64::exp(0.32), 120.0 * f64::exp(0.18));
                let cost = |scale: f64| (40.0 + 0.25 * scale * p + 8.0 * o) * f64::exp(0.005);
                let system = (cost(1.0) + cost(prompts)) / 2.0 * (slow - 1.0);
                assert!(
                    (split.system_ms - system).abs() < 0.03 * split.before_ms,
                    "{prompts} {slow} {split:?} {system}"
                );
                assert!((split.log_system - slow.ln()).abs() < 0.02, "{prompts} {slow} {split:?}");
            }
        }
    }

    #[test]
    fn equal_sides_have_no_change_at_all() {
        let mut window = window(1, 1.0, 1.0);
        let half = window.latency_ms.len() / 2;
        window.latency_ms.copy_within(..half, half);
        for feature in &mut window.features {
            feature.values.copy_within(..half, half);
        }
        let split = split_of(&window);
        assert!(split.input_ms.abs() < 1e-9 && split.system_ms.abs() < 1e-9, "{split:?}");
    }
}
