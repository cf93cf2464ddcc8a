//! Exit codes that scripts can use: 0 done, 1 failed, 2 wrong usage (given by the argument parser).

use std::process::ExitCode;

/// Prints `error` with its causes and gives the exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("driftwatt: {error:#}");
    ExitCode::from(1)
}
