//! The options of `driftwatt check` and `driftwatt release`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// CSV with a header, Parquet or JSON lines; a folder, or a .txt, .lst or .manifest with one path a line, for images
    #[arg(required_unless_present = "metric")]
    pub(super) file: Option<PathBuf>,
    /// Instead of a file: the points of this metric, in --server or --data; columns time, value and the labels that the contract names
    #[arg(long, conflicts_with_all = ["file", "quarantine"], requires = "window")]
    pub(super) metric: Option<String>,
    /// Labels that its series must have: region=eu. Separate several with commas
    #[arg(long = "where", default_value = "", requires = "metric")]
    pub(super) filter: String,
    /// When they were measured, UTC: FROM/TO
    #[arg(long, requires = "metric")]
    pub(super) window: Option<String>,
    /// The rules: an Open Data Contract (docs/gates.md), or what `--rules` says
    #[arg(long)]
    pub(super) contract: PathBuf,
    /// What the contract is written in
    #[arg(long, value_enum, default_value_t)]
    pub(super) rules: RuleFormat,
    /// The table of the contract, where it has several
    #[arg(long)]
    pub(super) table: Option<String>,
    /// Another table that rules refer to, as users=users.parquet; may be given again
    #[arg(long, value_name = "TABLE=FILE")]
    pub(super) reference: Vec<String>,
    /// Move a batch that may not be used into this folder, with its report
    #[arg(long)]
    pub(super) quarantine: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: BatchLogArgs,
    /// Tell the owner about a batch that may not be used, as the section delivery of the configuration file says
    #[arg(long)]
    pub(super) notify: bool,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    pub(super) format: Option<GateFormat>,
    /// Write the report to this file instead of standard output
    #[arg(long, short)]
    pub(super) output: Option<PathBuf>,
}

/// Where checked batches are recorded.
#[derive(Debug, Args)]
pub(crate) struct BatchLogArgs {
    /// Compare with the past batches of a running server, such as http://127.0.0.1:4320, and record this one there
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(super) server: Option<String>,
    /// The same with a data directory whose server is stopped
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// Configuration file (docs/config.md)
    #[arg(long)]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The batch in the quarantine folder of `driftwatt check`, with its report beside it
    pub(super) held: PathBuf,
    /// Why it may be used
    #[arg(long)]
    pub(super) reason: String,
    /// Move it here [default: where it was when it was checked]
    #[arg(long)]
    pub(super) to: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: BatchLogArgs,
}

/// How the report of a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GateFormat {
    /// For people
    Text,
    /// For scripts
    Json,
    /// One self-contained page
    Html,
}

impl GateFormat {
    pub(super) fn usual() -> Self {
        if terminal::is_interactive() { Self::Text } else { Self::Json }
    }
}

/// What rules are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum RuleFormat {
    /// Open Data Contract Standard 3.1, YAML
    #[default]
    Odcs,
    /// A suite of Great Expectations, JSON
    GreatExpectations,
    /// schema.yml of dbt
    Dbt,
    /// constraints.json of SageMaker
    Sagemaker,
}
