//! Exit codes that scripts can use: 0 done, 1 failed, 2 wrong usage (given by the argument parser).
//!
//! `verify` and `inspect` keep findings and failures apart: 0 sound, 1 faults found, 2 could not look.

use std::process::ExitCode;

/// Nothing is wrong.
pub(crate) const SOUND: ExitCode = ExitCode::SUCCESS;

/// Prints `error` with its causes and gives the exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("driftwatt: {error:#}");
    ExitCode::from(1)
}

/// Faults were found.
pub(crate) fn faults() -> ExitCode {
    ExitCode::from(1)
}

/// Prints why a check could not be made and gives the exit code.
pub(crate) fn unchecked(error: &anyhow::Error) -> ExitCode {
    eprintln!("driftwatt: {error:#}");
    ExitCode::from(2)
}
