//! What begins with a backslash, after psql's example.

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use super::output::OutputFormat;
use crate::cli::quoted;

/// What the shell prints for `\?`.
pub(super) const HELP: &str = "\
A statement ends with ; and may go over several lines. Ctrl-C stops it, Tab completes names.
  \\d           tables and views          \\d NAME      columns of one
  \\dn          schemas                   \\df [TEXT]   functions whose name contains TEXT
  \\format F    table, json, ndjson, csv  \\x           records instead of a table, on or off
  \\timing      time of a query, on/off   \\pager       long answers page by page, on or off
  \\i FILE      run a file                \\q           leave (also Ctrl-D)
What there is to ask: metrics, gpu, system, latency, inputs, models; SELECT * FROM gpu LIMIT 5;
";

/// A command of the shell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Quit,
    /// Ask this instead; `otherwise` is said where there is no row.
    Ask {
        query: String,
        otherwise: Option<String>,
    },
    Format(OutputFormat),
    Records,
    Timing,
    Pager,
    Include(String),
}

impl Command {
    /// Reads a line that begins with a backslash.
    ///
    /// # Errors
    /// There is no such command, or its argument is missing.
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        let line = line.trim().trim_end_matches(';');
        let (name, argument) =
            line.split_once(char::is_whitespace).map_or((line, ""), |(name, rest)| (name, rest.trim()));
        let ask = |query: String| Self::Ask { query, otherwise: None };
        Ok(match (name, argument) {
            ("\\?" | "\\h" | "\\help", _) => Self::Help,
            ("\\q" | "\\quit", _) => Self::Quit,
            ("\\x", _) => Self::Records,
            ("\\timing", _) => Self::Timing,
            ("\\pager", _) => Self::Pager,
            ("\\i", file) if !file.is_empty() => Self::Include(file.to_owned()),
            ("\\format", format) => {
                let format = OutputFormat::from_str(format, true);
                Self::Format(format.ok().context("\\format takes table, json, ndjson or csv")?)
            }
            ("\\d" | "\\dt" | "\\dv", "") => ask(TABLES.to_owned()),
            ("\\d" | "\\d+", table) => columns(table),
            ("\\dn", _) => {
                ask("SELECT schema_name AS \"schema\" FROM information_schema.schemata ORDER BY 1".to_owned())
            }
            ("\\df", part) => ask(functions(part)),
            _ => bail!("there is no {line}; \\? says what there is"),
        })
    }
}

const TABLES: &str = "SELECT table_schema AS \"schema\", table_name AS \"name\", lower(table_type) AS \"type\" \
     FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog') \
     ORDER BY table_schema <> 'public', 1, 2";

/// The columns of `table`, which may name its schema.
fn columns(table: &str) -> Command {
    let bare = table.replace('"', "");
    let (schema, name) = bare.split_once('.').unwrap_or(("public", &bare));
    let query = format!(
        "SELECT column_name AS \"column\", data_type AS \"type\", CASE WHEN is_nullable THEN 'yes' ELSE 'no' END AS \"nullable\", \
         comment AS \"what\" FROM system.columns WHERE schema_name = {} AND table_name = {} ORDER BY position",
        quoted(schema),
        quoted(name)
    );
    let otherwise = format!("there is no table or view {schema}.{name}; \\d lists them");
    Command::Ask { query, otherwise: Some(otherwise) }
}

fn functions(part: &str) -> String {
    format!(
        "SELECT routine_name AS \"function\", lower(function_type) AS \"kind\", min(syntax_example) AS \"use\", \
         min(description) AS \"what\" FROM information_schema.routines WHERE strpos(routine_name, lower({})) > 0 \
         GROUP BY 1, 2 ORDER BY 1, 2",
        quoted(part)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_argument() {
        assert_eq!(Command::parse("\\q").unwrap(), Command::Quit);
        assert_eq!(Command::parse("\\format CSV").unwrap(), Command::Format(OutputFormat::Csv));
        assert_eq!(Command::parse(" \\i  a b.sql ").unwrap(), Command::Include("a b.sql".into()));
        let Command::Ask { query, otherwise } = Command::parse("\\d raw.o'x;").unwrap() else { panic!() };
        assert!(query.contains("schema_name = 'raw' AND table_name = 'o''x'"), "{query}");
        assert!(otherwise.unwrap().contains("raw.o'x"));
        let error = Command::parse("\\nothing").unwrap_err().to_string();
        assert!(error.contains("\\?"), "{error}");
        assert!(Command::parse("\\format xml").is_err() && Command::parse("\\i").is_err());
    }
}
