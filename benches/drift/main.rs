//! Drift and gates: raw columns from Parquet, a week of stored hourly states, and twenty gates in one scan.
//!
//! `cargo bench --bench drift -- [raw] [states] [gates]` (all three). Sizes: `DRIFT_ROWS` (1 000 000 a side and
//! column), `DRIFT_STATE_VALUES` (400 an hour and feature), `DRIFT_GATE_ROWS` (10 000 000); a run without
//! `--bench`, as `cargo test` makes it, takes small ones. Every answer is checked. Each part runs in a process of its own, whose
//! largest memory is then its own; CPU seconds are those of its one thread, or of the process where there are several.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

mod gates;
mod raw;
mod states;

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// Rows, values and rows that are measured.
struct Sizes {
    raw_rows: usize,
    state_values: usize,
    gate_rows: u64,
}

impl Sizes {
    fn read(is_bench: bool) -> anyhow::Result<Self> {
        let of = |name: &str, bench: u64, test: u64| -> anyhow::Result<u64> {
            match std::env::var(name) {
                Ok(text) => text.parse().with_context(|| format!("{name}={text:?} is no number of rows")),
                Err(_) => Ok(if is_bench { bench } else { test }),
            }
        };
        Ok(Self {
            raw_rows: usize::try_from(of("DRIFT_ROWS", 1_000_000, 20_000)?)?,
            state_values: usize::try_from(of("DRIFT_STATE_VALUES", 400, 20)?)?,
            gate_rows: of("DRIFT_GATE_ROWS", 10_000_000, 50_000)?,
        })
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, part, dir, size] = arguments.as_slice()
        && mode == "measure"
    {
        let size: usize = size.parse()?;
        return match part.as_str() {
            "raw" => raw::measure(Path::new(dir), size),
            "states" => states::measure(Path::new(dir), size),
            _ => gates::measure(size as u64),
        };
    }
    let sizes = Sizes::read(arguments.iter().any(|argument| argument == "--bench"))?;
    let asked: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    let dir = tempfile::tempdir()?;
    for (part, size) in
        [("raw", sizes.raw_rows), ("states", sizes.state_values), ("gates", usize::try_from(sizes.gate_rows)?)]
    {
        if !asked.is_empty() && !asked.contains(&part) {
            continue;
        }
        match part {
            "raw" => raw::prepare(dir.path(), size)?,
            "states" => states::prepare(dir.path(), size)?,
            _ => {}
        }
        let program = std::env::current_exe().context("where this program is")?;
        let status = Command::new(program).args(["measure", part]).arg(dir.path()).arg(size.to_string()).status()?;
        ensure!(status.success(), "{part} failed");
    }
    Ok(())
}

/// SplitMix64: the same rows in every run.
fn random(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A normal number that `x` gives.
fn normal(x: u64) -> f64 {
    let uniform = |x: u64| (random(x) >> 11) as f64 / (1u64 << 53) as f64;
    (-2.0 * uniform(x).max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform(x ^ (1 << 40))).cos()
}

/// CPU seconds of this thread so far. Linux only.
fn thread_cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split_whitespace().next().context("no time in schedstat")?.parse()?;
    Ok(nanos / 1e9)
}

/// CPU seconds of all threads of this process so far, in hundredths. Linux only.
fn process_cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// Largest resident memory of this process so far.
fn memory_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
