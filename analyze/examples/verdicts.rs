//! Prints how shrink verdicts on 200 simulated services compare with the two weeks that follow, as a Markdown table.
//!
//! `cargo run --release -p driftwatt-analyze --example verdicts -- [seed] [services] [interval_s]`

use std::io::{self, Write as _};

use driftwatt_analyze::simulated_fleet::verdicts::{Tally, judge};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().map_err(io::Error::other));
    let mut next = |default: u32| arguments.next().unwrap_or(Ok(default));
    let (seed, count, interval_s) = (next(1)?, next(200)?, next(15)?);
    let tallies = judge(u64::from(seed), count as usize, interval_s.max(1));
    let mut out = io::stdout().lock();
    writeln!(out, "| kind | services | shrinkable | found | right | wrong | no verdict | precision | recall |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    let mut line = |name: &str, tally: &Tally| {
        let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
        writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            tally.service_count,
            tally.shrinkable_count,
            tally.found_count,
            tally.right_count,
            tally.wrong_count,
            tally.unknown_count,
            share(tally.precision()),
            share(tally.recall())
        )
    };
    for (kind, tally) in &tallies {
        line(kind.as_str(), tally)?;
    }
    line("all", &tallies.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally)))
}
