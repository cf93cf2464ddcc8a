//! Long answers page by page.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::terminal;

/// Prints `text`, through the pager if it has more lines than `height`. `PAGER` names one; `less` without it.
pub(super) fn show(text: &str, height: usize) {
    if text.lines().count() < height || !page(text) {
        terminal::print(text);
    }
}

/// Whether a pager took `text`.
fn page(text: &str) -> bool {
    let pager = std::env::var("PAGER").ok().filter(|pager| !pager.is_empty());
    let mut command = Command::new("sh");
    command.arg("-c").arg(pager.as_deref().unwrap_or("less"));
    // Wide tables are not folded, and what fits one screen stays on it.
    command.env("LESS", std::env::var("LESS").unwrap_or_else(|_| "SFRX".to_owned()));
    let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // Who leaves the pager early has seen enough.
        let _left = stdin.write_all(text.as_bytes());
    }
    // The shell says 126 or 127 where it could not start the pager.
    child.wait().is_ok_and(|status| !matches!(status.code(), Some(126 | 127)))
}
