//! `driftwatt sql`: one query, statements from standard input, or a shell.

use std::io::{self, IsTerminal as _};

use super::{SourceArgs, SqlArgs, source::Source};
use crate::{
    shell::{self, OutputFormat},
    terminal,
};

pub(super) async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let Some(query) = &args.query else {
        let source = Source::open(&args.source).await?;
        return if io::stdin().is_terminal() {
            shell::converse(source, args.format).await
        } else {
            shell::run_script(source, args.format).await
        };
    };
    run_query(&args.source, query, args.format).await
}

/// Runs one query and prints the answer.
///
/// # Errors
/// No server or directory, an error of the query.
pub(super) async fn run_query(args: &SourceArgs, query: &str, format: Option<OutputFormat>) -> anyhow::Result<()> {
    let format = format.unwrap_or_else(OutputFormat::usual);
    let source = Source::open(args).await?;
    let answer = source.answer(query, format.wire()).await;
    source.close().await?;
    terminal::print(&format.render(&answer?, terminal::width())?);
    Ok(())
}
