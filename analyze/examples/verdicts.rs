//! Prints how shrink verdicts on 200 simulated services compare with the two weeks that follow, as a Markdown table.
//!
//! `cargo run --release -p driftwatt-analyze --example verdicts -- [seed] [services] [interval_s]`

use std::io::{self, Write as _};

use driftwatt_analyze::simulated_fleet::verdicts::{judge, table};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().map_err(io::Error::other));
    let mut next = |default: u32| arguments.next().unwrap_or(Ok(default));
    let (seed, count, interval_s) = (next(1)?, next(200)?, next(15)?);
    write!(io::stdout().lock(), "{}", table(&judge(u64::from(seed), count as usize, interval_s.max(1))))
}
