//! Exit codes that scripts can use: 0 done, 1 failed, 2 wrong usage (given by the argument parser).
//!
//! `verify` and `inspect` keep findings and failures apart: 0 sound, 1 faults found, 2 could not look. So does `drift`, as
//! `diff` does: 0 no drift, 1 drift, 2 no answer, 3 not enough data for one.

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

/// What the status of a drift score says; a server of an older version does not say it.
pub(crate) fn of_verdict(verdict: Option<&str>) -> ExitCode {
    match verdict {
        Some("ok") => SOUND,
        Some("warn" | "critical") => ExitCode::from(1),
        Some("insufficient_data" | "gate_failed") => ExitCode::from(3),
        _ => unchecked(&anyhow::anyhow!("the server did not say its verdict; bring it to the version of this command")),
    }
}

/// What the status of checked points says, as for a batch that is a file.
pub(crate) fn of_check(status: Option<&str>) -> ExitCode {
    match status {
        Some("pass" | "warn") => SOUND,
        Some("fail") => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}

/// Prints why a check could not be made and gives the exit code.
pub(crate) fn unchecked(error: &anyhow::Error) -> ExitCode {
    eprintln!("driftwatt: {error:#}");
    ExitCode::from(2)
}
