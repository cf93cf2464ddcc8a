//! Calibration of drift alarms and the cost of raw scores, as Markdown tables: `docs/drift.md` holds their last run.
//!
//! `cargo run --release -p driftwatt-analyze --example drift_calibration`; with `speed` behind it only the cost.

use std::io::Write as _;

use driftwatt_analyze::drift::{
    comparison::{ColumnOptions, Comparison},
    feature_state::FeatureState,
};

/// What the trials use, by one path in the example and in the tests.
mod decision_api {
    pub(crate) use driftwatt_analyze::drift::{
        comparison::{ColumnOptions, Comparison},
        decision::{Decision, Evidence, Gate, Level, Status, Thresholds, decide, leave_one_out_psi},
        feature_state::{ExplicitPoint, FeatureState},
        numeric::reference_cuts,
        sort::sort_values,
        statistics::bin_counts,
    };
}
mod trials;

use trials::{Basis, Random, Trace};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if std::env::args().nth(1).as_deref() == Some("speed") {
        speed(&mut out)?;
        return states(&mut out);
    }
    writeln!(
        out,
        "| values a side | shift (sd) | PSI >= 0.1 | window beyond all limits | alarm |\n|---|---|---|---|---|"
    )?;
    for n in [200, 1_000, 10_000, 100_000] {
        let shares = trials::unchanged(n, 2_000);
        writeln!(out, "| {n} | 0 | {:.4} | {:.4} | {:.4} |", shares.fixed, shares.window, shares.alarm)?;
    }
    for n in [200, 1_000, 10_000] {
        let shares = trials::shifted(n, 0.5, 1_000);
        writeln!(out, "| {n} | 0.5 | {:.4} | {:.4} | {:.4} |", shares.fixed, shares.window, shares.alarm)?;
    }
    writeln!(out, "\n| outlier in the reference | PSI | KS | scaled Wasserstein | status |\n|---|---|---|---|---|")?;
    for outlier in [None, Some(1e4), Some(1e6)] {
        let scores = trials::outlier(outlier);
        let name = outlier.map_or("none".to_owned(), |value| format!("{value:e}"));
        let (psi, ks, scaled) = (scores.psi, scores.ks, scores.wasserstein_scaled);
        writeln!(out, "| {name} | {psi:.3} | {ks:.3} | {scaled:.3} | {:?} |", scores.status)?;
    }
    traces(&mut out)?;
    speed(&mut out)?;
    states(&mut out)
}

fn traces(out: &mut impl std::io::Write) -> std::io::Result<()> {
    let trace = Trace::read();
    writeln!(out, "\n| series | basis | code against chat | replay alarms | 60 % mix alarms |\n|---|---|---|---|---|")?;
    for (service, name) in ["code", "chat"].into_iter().enumerate() {
        for (column, title) in ["context", "generated"].into_iter().enumerate() {
            for basis in Basis::ALL {
                let status = trials::code_against_chat(&trace, column, basis);
                let quiet = trials::replay(&trace, service, column, basis, 0.0, 200);
                let mixed = trials::replay(&trace, service, column, basis, 0.6, 200);
                let (quiet, mixed) = (quiet.alarm, mixed.alarm);
                writeln!(out, "| {name} {title} | {basis:?} | {status:?} | {quiet:.3} | {mixed:.3} |")?;
            }
        }
    }
    Ok(())
}

/// CPU seconds of this process so far, user and system (Linux; zero elsewhere).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Ten columns of a million values a side, in memory, one column at a time.
fn speed(out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut random = Random(5);
    let (mut sorting, mut scoring) = (0.0, 0.0);
    let mut scratch = Vec::new();
    for column in 0..10 {
        let mut draw = |shift: f64| -> Vec<f64> { (0..1_000_000).map(|_| (random.normal() + shift).exp()).collect() };
        let (mut reference, mut current) = (draw(0.0), draw(0.05));
        let before = cpu_seconds();
        decision_api::sort_values(&mut reference, &mut scratch);
        decision_api::sort_values(&mut current, &mut scratch);
        let sorted = cpu_seconds();
        let comparison = Comparison::of_samples(&reference, &current, ColumnOptions::default());
        sorting += sorted - before;
        scoring += cpu_seconds() - sorted;
        let psi = comparison.map_or(f64::NAN, |comparison| comparison.psi);
        if column == 0 {
            writeln!(out, "\nPSI of the first column: {psi:.6}")?;
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    let total = sorting + scoring;
    writeln!(
        out,
        "10 columns x 1e6 rows a side: {total:.2} CPU seconds ({sorting:.2} sorting, {scoring:.2} all scores), {peak}"
    )
}

/// Ten features of 168 hourly states each, stored as bytes: decode, merge the reference, compare one hour.
fn states(out: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut random = Random(6);
    let mut hour = || {
        let mut state = FeatureState::default();
        (0..2_000).for_each(|_| state.record(Some((7.0 + random.normal()).exp().round())));
        state.to_bytes()
    };
    let week: Vec<Vec<u8>> = (0..169).map(|_| hour()).collect();
    let size = week.iter().map(Vec::len).sum::<usize>() / week.len();
    let before = cpu_seconds();
    let mut sum = 0.0;
    for _ in 0..100 {
        let mut hours = week.iter().filter_map(|bytes| FeatureState::from_bytes(bytes).ok());
        let current = hours.next().unwrap_or_default();
        let mut reference = FeatureState::default();
        hours.for_each(|hour| reference.merge(&hour));
        sum += Comparison::of_states(&reference, &current, ColumnOptions::default()).map_or(0.0, |scores| scores.psi);
    }
    let milliseconds = (cpu_seconds() - before) * 100.0;
    let psi = sum / 100.0;
    writeln!(out, "10 features x 168 stored hours ({size} bytes an hour): {milliseconds:.1} CPU ms, PSI {psi:.4}")
}
