//! What a person at a terminal sees: logs, progress, tables.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error; `RUST_LOG` overrides.
pub(crate) fn start_logging(verbose: bool) {
    let default = if verbose { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Whether standard output is a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal; 120 where it does not say.
pub(crate) fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(120)
}

/// `text` without control characters: stored text must not steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1536` as `1.5 KiB`.
pub(crate) fn size_text(size_bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let scale = (size_bytes.max(1).ilog2() / 10).min(4);
    let size = size_bytes as f64 / f64::from(1u32 << 10).powi(scale.cast_signed());
    if scale == 0 { format!("{size_bytes} B") } else { format!("{size:.1} {}", units[scale as usize]) }
}

/// A table that fits the terminal, 100 columns at most.
pub(crate) fn table(names: &[&str], rows: Vec<Vec<Value>>) -> String {
    let columns: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    let answer = json!({ "columns": columns, "row_count": rows.len(), "rows": rows });
    let table = driftwatt_query::render_table(&answer, width().min(100));
    // The last line counts the rows, which nobody asked for here.
    table.lines().take(rows_and_head(&answer)).map(|line| format!("{line}\n")).collect()
}

fn rows_and_head(answer: &Value) -> usize {
    2 + answer["rows"].as_array().map_or(0, Vec::len)
}

/// Prints `text` to standard output with one final line break; a closed pipe is not an error.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // The reader may have left (`| head`); there is nobody to tell.
    let _closed_pipe = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
}

/// Progress of long work on standard error: a line that is redrawn on a terminal, a line every few seconds elsewhere.
pub(crate) struct Progress {
    label: &'static str,
    total: u64,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Progress of `total` steps.
    pub(crate) fn new(label: &'static str, total: u64) -> Self {
        Self { label, total, started: Instant::now(), shown: None }
    }

    /// Shows that `done` steps are done, at most ten times a second.
    pub(crate) fn show(&mut self, done: u64) {
        let terminal = io::stderr().is_terminal();
        let pause = Duration::from_millis(if terminal { 100 } else { 5000 });
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) && done < self.total {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = done.saturating_mul(100).checked_div(self.total).unwrap_or(100);
        let line = format!("{} {percent:3} % ({done} of {}, {:.0?})", self.label, self.total, self.started.elapsed());
        if !terminal {
            eprintln!("{line}");
        } else if done < self.total {
            eprint!("\r{line}\x1b[K");
        } else {
            eprintln!("\r{line}\x1b[K");
        }
    }
}
