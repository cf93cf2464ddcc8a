//! The change of the mean latency, split into what was asked, how busy the server was, and how fast it is.
//!
//! The server before is a curve `f0` of the inputs, fitted by weighted least squares; the server after answers the same request
//! in `f1 = shift + scale · f0`: a throttled clock multiplies, a network or a queue adds. Both numbers come from requests whose
//! inputs occur on both sides, so nothing is extrapolated: an image twelve times larger than any before says nothing about the
//! machine. With `P0` and `P1` the inputs, the four corners of the two-player game are
//!
//! | | server before | server after |
//! |---|---|---|
//! | inputs before | `y0` = mean before | `shift + scale · y0` |
//! | inputs after | `(y1 - shift) / scale` | `y1` = mean after |
//!
//! and each player's Shapley value is the mean of its two effects: it carries half of the interaction, and both sum to
//! `y1 - y0` exactly. Time in the queue, where requests report it, is load beside it. Sources: Shapley 1953; the
//! Kitagawa-Oaxaca-Blinder decomposition of demography and labour economics with the reference at the mean (Reimers 1983).

use std::ops::Range;

use super::{
    cost_model::{CostModel, RIDGE_SHARE},
    regression_sums::{Affine, RegressionSums},
    service_window::{Role, ServiceWindow},
};

/// Fewest requests of a side with counterparts on the other, below which the system's part is unknown.
const SUPPORTED_MIN: u64 = 100;

/// Mergeable sums of some requests.
#[derive(Debug, Clone, PartialEq)]
pub struct SideSums {
    /// Latency without queue time on the cost columns, all requests.
    all: RegressionSums,
    /// The same of requests whose inputs occur before the change.
    supported: RegressionSums,
    /// Log latency on log predicted cost, of the same.
    log: RegressionSums,
    queue_mean_ms: f64,
}

/// How the mean changed and why, milliseconds; `input_ms + load_ms + system_ms` is `after_ms - before_ms`.
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
    /// How the server after answers, compared with before; none where no inputs occur on both sides: then `system_ms` is 0
    /// for want of evidence, not by measurement.
    pub server: Option<Affine>,
    /// Share of the requests after whose inputs occur before.
    pub supported_share: f64,
    /// Change of the mean log latency at equal predicted cost: `exp` of it is a factor. 0 where `server` is none.
    pub log_system: f64,
}

impl SideSums {
    /// Empty sums for the columns of `model`.
    pub fn new(model: &CostModel) -> Self {
        let sums = RegressionSums::new(model.terms.len());
        Self { all: sums.clone(), supported: sums, log: RegressionSums::new(1), queue_mean_ms: 0.0 }
    }

    /// Adds one request; `columns` is scratch space. A request with an unknown input is left out.
    pub fn add(&mut self, model: &CostModel, window: &ServiceWindow, row: usize, columns: &mut Vec<f64>) {
        if !model.columns(window, row, columns) {
            return;
        }
        let (served, queued) = CostModel::served_ms(window, row);
        let weight = model.weight(columns);
        let requests = window.weight(row);
        self.all.add_mean(columns, served, weight, requests);
        if model.is_supported(columns) {
            self.supported.add_mean(columns, served, weight, requests);
            let log_latency = f64::from(window.latency_ms[row]).ln();
            self.log.add_mean(&[model.predicted_ms(columns).ln()], log_latency, 1.0, requests);
        }
        self.queue_mean_ms += (queued - self.queue_mean_ms) * requests as f64 / self.all.count() as f64;
    }

    /// Adds the requests of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.supported.merge(&other.supported);
        self.log.merge(&other.log);
        if self.count() > 0 {
            let share = other.count() as f64 / self.count() as f64;
            self.queue_mean_ms += (other.queue_mean_ms - self.queue_mean_ms) * share;
        }
    }

    /// Requests summed.
    pub fn count(&self) -> u64 {
        self.all.count()
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

/// Splits the change from `before` to `after`; none where a side has too few requests to fit.
pub fn split(model: &CostModel, before: &SideSums, after: &SideSums) -> Option<Split> {
    if after.count() == 0 {
        return None;
    }
    let fit = before.supported.solve(RIDGE_SHARE)?;
    let enough = after.supported.count() >= SUPPORTED_MIN.min(after.count());
    let server = if enough { after.supported.against(&fit) } else { None }.filter(|server| server.scale > 0.05);
    let (old, new) = (before.all.response_mean(), after.all.response_mean());
    let Affine { shift, scale } = server.unwrap_or(Affine { shift: 0.0, scale: 1.0 });
    let (at_old_inputs, at_new_inputs) = match server {
        Some(_) => (shift + scale * old - old, new - (new - shift) / scale),
        None => (0.0, 0.0),
    };
    let system_ms = (at_old_inputs + at_new_inputs) / 2.0;
    let mut by_role = role_parts(model, &before.all, &after.all);
    spread(&mut by_role, new - old - system_ms);
    by_role.push((Role::QueueMs, after.queue_mean_ms - before.queue_mean_ms));
    let sum = |load: bool| by_role.iter().filter(|(role, _)| role.is_load() == load).map(|part| part.1).sum();
    Some(Split {
        before_ms: old + before.queue_mean_ms,
        after_ms: new + after.queue_mean_ms,
        input_ms: sum(false),
        load_ms: sum(true),
        by_role,
        system_ms,
        server,
        supported_share: after.supported.count() as f64 / after.count() as f64,
        log_system: if server.is_some() { log_system(&before.log, &after.log)? } else { 0.0 },
    })
}

/// What the move of each role's columns costs at the slopes of both sides together.
fn role_parts(model: &CostModel, before: &RegressionSums, after: &RegressionSums) -> Vec<(Role, f64)> {
    let (old, new) = (before.column_means(), after.column_means());
    let mut parts: Vec<(Role, f64)> = model.roles.iter().map(|&role| (role, 0.0)).collect();
    let mean = |role: usize| (old[role] + new[role]) / 2.0;
    let moved = |role: usize| new[role] - old[role];
    for (index, (term, slope)) in model.terms.iter().zip(model.slopes()).enumerate() {
        let whole = slope * moved(index);
        let Some(second) = term.second.filter(|&second| second != term.first) else {
            parts[term.first].1 += whole;
            continue;
        };
        let first_part = slope * moved(term.first) * mean(second);
        let second_part = slope * moved(second) * mean(term.first);
        // What is left is how the two go together; beside a load it is the load's.
        let rest = whole - first_part - second_part;
        let rest_share = if model.roles[second].is_load() { 0.0 } else { 0.5 };
        parts[term.first].1 += first_part + rest * rest_share;
        parts[second].1 += second_part + rest * (1.0 - rest_share);
    }
    parts
}

/// Makes the parts sum to `total`: what the slopes leave over is spread in proportion to the parts' sizes.
fn spread(parts: &mut [(Role, f64)], total: f64) {
    let rest = total - parts.iter().map(|part| part.1).sum::<f64>();
    let size: f64 = parts.iter().map(|part| part.1.abs()).sum();
    let count = parts.len() as f64;
    for (_, part) in parts {
        *part += rest * if size > 0.0 { part.abs() / size } else { 1.0 / count };
    }
}

/// The change of the mean log latency that is left at the mean predicted cost of both sides.
fn log_system(before: &RegressionSums, after: &RegressionSums) -> Option<f64> {
    let (old, new) = (before.solve(RIDGE_SHARE)?, after.solve(RIDGE_SHARE)?);
    let (old_mean, new_mean) = (before.column_means()[0], after.column_means()[0]);
    let explained = (new_mean - old_mean) * (old.slopes[0] + new.slopes[0]) / 2.0;
    Some(after.response_mean() - before.response_mean() - explained)
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
        let model = CostModel::new(window, &[window.rows(0, 1), window.rows(1, 2)], 0.9).unwrap();
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
        assert!(split.input_ms.abs().max(split.system_ms.abs()) < 1e-3 * split.before_ms, "{split:?}");
    }
}
