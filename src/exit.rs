//! Exit codes that scripts can use: 0 done, 1 failed, 2 wrong usage (given by the argument parser), 3 not enough data to
//! conclude.

use std::process::ExitCode;

/// The answer is "not enough data": not an error of the program, but nothing to act on either.
#[derive(Debug, thiserror::Error)]
#[error("not enough data to conclude")]
pub(crate) struct NotEnoughData;

/// Prints `error` with its causes and gives the exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("driftwatt: {error:#}");
    if error.is::<NotEnoughData>() { ExitCode::from(3) } else { ExitCode::from(1) }
}
