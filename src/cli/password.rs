//! `driftwatt password`: what stands for a password in the configuration.

use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use driftwatt_query::Verifier;

use crate::terminal;

/// Reads one line and prints its verifier.
///
/// # Errors
/// No line, or an empty one.
pub(super) fn run() -> anyhow::Result<()> {
    if terminal::is_interactive() {
        eprintln!("Password (it is shown as you type):");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("read the password from standard input")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("no password on standard input");
    }
    terminal::print(&Verifier::of(password).to_string());
    Ok(())
}
