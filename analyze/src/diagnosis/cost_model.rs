//! What a request costs by known physics: the columns of the regression and the weight of a request.
//!
//! A prompt costs its length and, through attention, its square; an output its length, its square and the prompt it attends
//! to; an image its pixels and their square; a batch multiplies. Latency scatters in proportion to itself, so each request has
//! the weight of one over its squared predicted latency, from a pilot fit over both sides: one rule for both, a function of the
//! inputs alone, so that weighting moves no coefficient.
//!
//! Where a row is the mean of several requests, only the linear columns are used: the square of a mean is not the mean of squares.
//! What curves then ends in part in the change at equal inputs, which compares rows of like inputs and so hardly sees it.

use std::ops::Range;

use super::{
    regression_sums::{Affine, Fit, RegressionSums},
    robust,
    service_window::{Role, ServiceWindow},
};

/// Roles that the regression may use.
const INPUTS: [Role; 6] =
    [Role::PromptTokens, Role::OutputTokens, Role::Megapixels, Role::ImageCount, Role::Kilobytes, Role::BatchSize];

/// Ridge on the correlation matrix; see [`RegressionSums::solve`].
pub const RIDGE_SHARE: f64 = 1e-4;

/// One column: a role, or a product of two (twice the same is its square).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Position in [`CostModel::roles`].
    pub first: usize,
    /// Position of the second factor.
    pub second: Option<usize>,
}

/// Columns and weights of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct CostModel {
    /// Roles that the regression uses; the first columns are these, one each, in this order.
    pub roles: Vec<Role>,
    /// Columns.
    pub terms: Vec<Term>,
    scales: Vec<f64>,
    pilot: Fit,
    floor_ms: f64,
    /// By role, in units of its scale: what the first range of requests covers.
    support: Vec<(f64, f64)>,
}

impl CostModel {
    /// The model of the requests in `rows`; none where no input is known or the requests are too few to fit it.
    ///
    /// Roles known for less than `coverage_min` of the requests are left out.
    pub fn new(window: &ServiceWindow, rows: &[Range<usize>], coverage_min: f64) -> Option<Self> {
        let roles: Vec<Role> =
            INPUTS.into_iter().filter(|&role| coverage(window, role, rows) >= coverage_min).collect();
        if roles.iter().all(|role| role.is_load()) {
            return None;
        }
        let scales = roles.iter().map(|&role| scale(window, role, rows)).collect();
        let terms = terms(&roles, window.is_aggregated());
        let latencies = rows.iter().cloned().flatten().map(|row| f64::from(window.latency_ms[row]));
        let floor_ms = 0.5 * robust::quantile(latencies, 0.01)?;
        let flat = Fit { intercept: 1.0, slopes: vec![0.0; terms.len()] };
        let support = Vec::new();
        let mut model = Self { roles, terms, scales, pilot: flat, floor_ms, support };
        model.support = model.support_of(window, &rows[0]);
        // Weights of 1/latency² first (their bias is about the squared scatter), then twice of 1/predicted².
        model.pilot = model.fit(window, rows, |_, latency| 1.0 / (latency * latency))?;
        for _ in 0..2 {
            let pilot = model.clone();
            model.pilot = model.fit(window, rows, |columns, _| pilot.weight(columns))?;
        }
        if let [before, after] = rows
            && let Some(pilot) = model.without_server_change(window, before, after)
        {
            model.pilot = pilot;
        }
        Some(model)
    }

    /// Fills `columns` for one request; false where one of its inputs is unknown.
    pub fn columns(&self, window: &ServiceWindow, row: usize, columns: &mut Vec<f64>) -> bool {
        columns.clear();
        let mut known = true;
        for (role, scale) in self.roles.iter().zip(&self.scales) {
            let value = window.feature(*role).map_or(f64::NAN, |values| f64::from(values[row])) / scale;
            known &= value.is_finite();
            columns.push(value);
        }
        for term in &self.terms[self.roles.len()..] {
            columns.push(columns[term.first] * term.second.map_or(1.0, |second| columns[second]));
        }
        known
    }

    /// Cost of each column at the mean of both sides, milliseconds per unit of the column.
    pub fn slopes(&self) -> &[f64] {
        &self.pilot.slopes
    }

    /// Whether every input of a request lies where the first range has requests too: between its 0.5 % and 99.5 % quantiles,
    /// give or take 5 %. Load is not asked for: it is what may change.
    pub fn is_supported(&self, columns: &[f64]) -> bool {
        let ours = self.roles.iter().zip(columns.iter().zip(&self.support));
        ours.filter(|(role, _)| !role.is_load()).all(|(_, (&value, &(low, high)))| low <= value && value <= high)
    }

    /// Predicted milliseconds at the mean of both sides, positive.
    pub fn predicted_ms(&self, columns: &[f64]) -> f64 {
        self.pilot.predict(columns).max(self.floor_ms)
    }

    /// Weight of a request.
    pub fn weight(&self, columns: &[f64]) -> f64 {
        self.predicted_ms(columns).powi(-2)
    }

    /// Milliseconds of the request that are the model's: its latency less its time in the queue, where that is reported.
    pub fn served_ms(window: &ServiceWindow, row: usize) -> (f64, f64) {
        let latency = f64::from(window.latency_ms[row]);
        let queued = window.feature(Role::QueueMs).map_or(0.0, |values| f64::from(values[row]));
        let queued = if queued.is_finite() { queued.clamp(0.0, latency) } else { 0.0 };
        (latency - queued, queued)
    }

    /// The pilot once more, with latencies after brought to the server of before. A slowdown that comes with shorter inputs
    /// would otherwise make short inputs look dear.
    fn without_server_change(
        &self,
        window: &ServiceWindow,
        before: &Range<usize>,
        after: &Range<usize>,
    ) -> Option<Fit> {
        let mut columns = Vec::new();
        let mut sums = [RegressionSums::new(self.terms.len()), RegressionSums::new(self.terms.len())];
        for (rows, sums) in [before, after].into_iter().zip(&mut sums) {
            for row in rows.clone() {
                if self.columns(window, row, &mut columns) && self.is_supported(&columns) {
                    let served = Self::served_ms(window, row).0;
                    sums.add_mean(&columns, served, self.weight(&columns), window.weight(row));
                }
            }
        }
        let [mut all, after_sums] = sums;
        let Affine { shift, scale } =
            after_sums.against(&all.solve(RIDGE_SHARE)?).filter(|server| server.scale > 0.05)?;
        for row in after.clone() {
            if self.columns(window, row, &mut columns) {
                let served = (Self::served_ms(window, row).0 - shift) / scale;
                all.add_mean(&columns, served, self.weight(&columns), window.weight(row));
            }
        }
        all.solve(RIDGE_SHARE)
    }

    fn support_of(&self, window: &ServiceWindow, rows: &Range<usize>) -> Vec<(f64, f64)> {
        let of = |(role, scale): (&Role, &f64)| {
            let values = window.feature(*role).unwrap_or(&[]);
            let at = |level: f64| robust::quantile(rows.clone().map(|row| f64::from(values[row]) / scale), level);
            (0.95 * at(0.005).unwrap_or(f64::NAN), 1.05 * at(0.995).unwrap_or(f64::NAN))
        };
        self.roles.iter().zip(&self.scales).map(of).collect()
    }

    fn fit(&self, window: &ServiceWindow, rows: &[Range<usize>], weight: impl Fn(&[f64], f64) -> f64) -> Option<Fit> {
        let mut sums = RegressionSums::new(self.terms.len());
        let mut columns = Vec::new();
        for row in rows.iter().cloned().flatten() {
            let (served, _) = Self::served_ms(window, row);
            if self.columns(window, row, &mut columns) {
                let weight = weight(&columns, served.max(self.floor_ms));
                sums.add_mean(&columns, served, weight, window.weight(row));
            }
        }
        sums.solve(RIDGE_SHARE)
    }
}

/// Share of the requests whose `role` is known.
pub fn coverage(window: &ServiceWindow, role: Role, rows: &[Range<usize>]) -> f64 {
    let Some(values) = window.feature(role) else { return 0.0 };
    let known = rows.iter().cloned().flatten().filter(|&row| values[row].is_finite());
    let known: u64 = known.map(|row| window.weight(row)).sum();
    known as f64 / rows.iter().map(|rows| window.request_count(rows)).sum::<u64>().max(1) as f64
}

/// Median of a role, or 1: columns then are of the order of 1.
fn scale(window: &ServiceWindow, role: Role, rows: &[Range<usize>]) -> f64 {
    let values = window.feature(role).unwrap_or(&[]);
    let median = robust::median(rows.iter().cloned().flatten().map(|row| f64::from(values[row])));
    median.filter(|&median| median > 0.0).unwrap_or(1.0)
}

fn terms(roles: &[Role], linear: bool) -> Vec<Term> {
    let at = |role: Role| roles.iter().position(|&other| other == role);
    let mut terms: Vec<Term> = (0..roles.len()).map(|first| Term { first, second: None }).collect();
    if linear {
        return terms;
    }
    let pairs = [
        (Role::PromptTokens, Role::PromptTokens),
        (Role::OutputTokens, Role::OutputTokens),
        (Role::PromptTokens, Role::OutputTokens),
        (Role::Kilobytes, Role::Kilobytes),
        (Role::Megapixels, Role::Megapixels),
        (Role::Megapixels, Role::ImageCount),
        (Role::PromptTokens, Role::BatchSize),
        (Role::OutputTokens, Role::BatchSize),
        (Role::Megapixels, Role::BatchSize),
    ];
    for (first, second) in pairs {
        if let (Some(first), Some(second)) = (at(first), at(second)) {
            terms.push(Term { first, second: Some(second) });
        }
    }
    terms
}
