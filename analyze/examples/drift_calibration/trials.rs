//! Trials of the decision on data whose truth is known; every draw comes from a fixed seed.

use super::decision_api::{
    ColumnOptions, Comparison, Decision, Evidence, ExplicitPoint, FeatureState, Gate, Level, Status, Thresholds,
    bin_counts, decide, leave_one_out_psi, reference_cuts, sort_values,
};

/// Share of trials.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shares {
    /// Alarms of the whole rule, two windows in a row or one critical.
    pub(crate) alarm: f64,
    /// Single windows beyond every limit, before persistence.
    pub(crate) window: f64,
    /// Single windows with PSI of 0.1 and more: the fixed threshold in common use.
    pub(crate) fixed: f64,
}

/// Where scores come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Rows.
    Raw,
    /// Explicit buckets of one, two, five per decade.
    Explicit,
    /// Exponential buckets.
    Exponential,
}

impl Basis {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Explicit, Self::Exponential];
}

/// SplitMix64 with Box-Muller normals.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A standard normal.
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    fn normals(&mut self, n: usize, shift: f64) -> Vec<f64> {
        sorted((0..n).map(|_| self.normal() + shift).collect())
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    sort_values(&mut values, &mut Vec::new());
    values
}

fn judge(comparison: &Comparison, leave_one_out: &[f64], windows_before: u32) -> Decision {
    let evidence = Evidence { leave_one_out, q_value: None, windows_before, gate: Gate::Passed };
    decide(comparison, &evidence, &Thresholds::default())
}

/// `pairs` pairs of standard normals of `n` values a side, each with the window before it for persistence; noise not learnt.
pub(crate) fn unchanged(n: usize, pairs: usize) -> Shares {
    shifted(n, 0.0, pairs)
}

/// As [`unchanged`], the current windows moved by `shift` standard deviations.
pub(crate) fn shifted(n: usize, shift: f64, pairs: usize) -> Shares {
    let mut random = Random(n as u64 * 1_000 + (shift * 100.0) as u64);
    let mut shares = Shares::default();
    for _ in 0..pairs {
        let reference = random.normals(n, 0.0);
        let mut before = 0;
        for window in 0..2 {
            let current = random.normals(n, shift);
            let Ok(comparison) = Comparison::of_samples(&reference, &current, ColumnOptions::default()) else {
                continue;
            };
            let decision = judge(&comparison, &[], before);
            before = if decision.level == Level::None { 0 } else { before + 1 };
            if window == 1 {
                shares.add(&comparison, &decision);
            }
        }
    }
    shares.over(pairs)
}

impl Shares {
    fn add(&mut self, comparison: &Comparison, decision: &Decision) {
        self.alarm += f64::from(u8::from(decision.status.is_alarm()));
        self.window += f64::from(u8::from(decision.level != Level::None));
        self.fixed += f64::from(u8::from(comparison.psi >= 0.1));
    }

    fn over(self, trials: usize) -> Self {
        let share = |count: f64| count / trials as f64;
        Self { alarm: share(self.alarm), window: share(self.window), fixed: share(self.fixed) }
    }
}

/// Scores of the case that blinds equal-width bins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutlierScores {
    /// PSI.
    pub(crate) psi: f64,
    /// KS statistic.
    pub(crate) ks: f64,
    /// Scaled Wasserstein distance.
    pub(crate) wasserstein_scaled: f64,
    /// Verdict.
    pub(crate) status: Status,
}

/// N(100, 10) against N(130, 10), 20 000 values a side, with one outlier added to the reference.
pub(crate) fn outlier(outlier: Option<f64>) -> OutlierScores {
    let mut random = Random(11);
    let mut reference: Vec<f64> = (0..20_000).map(|_| 100.0 + 10.0 * random.normal()).collect();
    reference.extend(outlier);
    let current: Vec<f64> = (0..20_000).map(|_| 130.0 + 10.0 * random.normal()).collect();
    let comparison = Comparison::of_samples(&sorted(reference), &sorted(current), ColumnOptions::default());
    let comparison = comparison.expect("both sides have values");
    let numeric = comparison.numeric.clone().expect("the column is numeric");
    OutlierScores {
        psi: comparison.psi,
        ks: numeric.ks.0,
        wasserstein_scaled: numeric.wasserstein_scaled.unwrap_or(f64::NAN),
        status: judge(&comparison, &[], 0).status,
    }
}

/// Token counts of the shipped trace: by service (code, chat), then column (context, generated).
pub(crate) struct Trace([[Vec<f64>; 2]; 2]);

impl Trace {
    /// Reads `tests/data/azure_llm_tokens.csv` (Azure Public Dataset, CC-BY 4.0).
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/azure_llm_tokens.csv");
        let text = std::fs::read_to_string(path).expect("the trace is in the repository");
        let mut columns: [[Vec<f64>; 2]; 2] = Default::default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let service = usize::from(fields[0] == "chat");
            for column in 0..2 {
                columns[service][column].push(fields[2 + column].parse().expect("a token count"));
            }
        }
        Self(columns)
    }
}

/// Compares on one basis.
pub(crate) fn compare(reference: &[f64], current: &[f64], basis: Basis) -> Comparison {
    let options = ColumnOptions { is_log_like: Some(true), resolution: 1.0 };
    let comparison = match basis {
        Basis::Raw => Comparison::of_samples(&sorted(reference.to_vec()), &sorted(current.to_vec()), options),
        Basis::Explicit => Comparison::of_states(&explicit(reference), &explicit(current), options),
        Basis::Exponential => Comparison::of_states(&exponential(reference), &exponential(current), options),
    };
    comparison.expect("both sides have values")
}

fn exponential(values: &[f64]) -> FeatureState {
    let mut state = FeatureState::default();
    values.iter().for_each(|value| state.record(Some(*value)));
    state
}

/// Eight buckets a factor of ten, as a view for tokens would have.
fn explicit(values: &[f64]) -> FeatureState {
    let bounds: Vec<f64> = (0..36).map(|at| 10f64.powf(f64::from(at) / 8.0).round()).collect();
    let mut bounds = bounds;
    bounds.dedup();
    let counts = bin_counts(&sorted(values.to_vec()), &bounds);
    let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), x| (min.min(*x), max.max(*x)));
    let mut state = FeatureState::default();
    let point = ExplicitPoint { bounds: &bounds, counts: &counts, sum: None, min: Some(min), max: Some(max) };
    state.add_explicit(&point).expect("the layout is sound");
    state
}

/// The whole code trace as reference, the whole chat trace as the current window.
pub(crate) fn code_against_chat(trace: &Trace, column: usize, basis: Basis) -> Status {
    let comparison = compare(&trace.0[0][column], &trace.0[1][column], basis);
    judge(&comparison, &[], 0).status
}

/// Stationary replays of one service in six 10-minute windows of a reference hour and two windows under test.
///
/// Rows are drawn from the service's own trace with replacement (so nothing changes in time), the windows under test with a
/// share `foreign` of the other service's rows; noise is learnt from nine windows of the reference.
pub(crate) fn replay(
    trace: &Trace,
    service: usize,
    column: usize,
    basis: Basis,
    foreign: f64,
    rounds: usize,
) -> Shares {
    let (own, other) = (&trace.0[service][column], &trace.0[1 - service][column]);
    let size = own.len() / 6;
    let mut random = Random(((service * 2 + column) * 100) as u64 + (foreign * 10.0) as u64);
    let mut shares = Shares::default();
    for _ in 0..rounds {
        let mut draw = |foreign: f64| -> Vec<f64> {
            let one = |_| {
                let rows = if random.uniform() < foreign { other } else { own };
                rows[random.next() as usize % rows.len()]
            };
            (0..size).map(one).collect()
        };
        let windows: Vec<Vec<f64>> = (0..9).map(|_| draw(0.0)).collect();
        let reference = sorted(windows.concat());
        let cuts = reference_cuts(&reference);
        let counts: Vec<Vec<u64>> = windows.iter().map(|window| bin_counts(&sorted(window.clone()), &cuts)).collect();
        let leave_one_out = leave_one_out_psi(&counts);
        let mut before = 0;
        for window in 0..2 {
            let comparison = compare(&reference, &draw(foreign), basis);
            let decision = judge(&comparison, &leave_one_out, before);
            before = if decision.level == Level::None { 0 } else { before + 1 };
            if window == 1 {
                shares.add(&comparison, &decision);
            }
        }
    }
    shares.over(rounds)
}
