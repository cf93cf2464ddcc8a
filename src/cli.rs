//! The command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    answers::{
        DecideQuestion, DiagnoseQuestion, DriftQuestion, IdleQuestion, LineageQuestion, MarkQuestion, OffPeakQuestion,
        RecommendQuestion, WeeklyQuestion,
    },
    shell::OutputFormat,
    terminal,
};

mod check;
mod collect;
mod demo;
mod dvc;
mod folders;
mod import;
mod inspect;
mod labels;
mod password;
mod read;
mod recommend;
mod retention;
mod roles;
mod schedule;
mod serve;
mod source;
mod sql;
mod verify;

pub(crate) use self::{roles::quoted, source::Source};

/// OpenTelemetry metrics in, open Parquet tables, SQL and answers out.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    /// Log what happens, not only what goes wrong (RUST_LOG overrides)
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive, store and answer until interrupted
    Serve(ServeArgs),
    /// Collect metrics of this machine and send them over OTLP until interrupted
    Collect(CollectArgs),
    /// Run one SQL query: a table on a terminal, JSON in a pipe. Without a query: a shell, or the statements of standard input
    Sql(SqlArgs),
    /// The vocabulary: which metric means what, what has no meaning yet, what looks wrong
    Roles(RolesArgs),
    /// Reports
    #[command(subcommand)]
    Report(ReportCommand),
    /// Do the inputs of one window look like those of another? Exit code 0 ok, 1 drift, 2 failed, 3 too few values
    Drift(DriftArgs),
    /// Bring the rows of a file with a column of times into the tables of metrics, as a reference for drift: each column of numbers a
    /// metric, each row a point. Exit code 0 all, 1 rows or points were refused, 2 not imported
    Import(import::ImportArgs),
    /// May this batch be used? The rules of its contract in one pass over rows or images; exit code 0 yes, 1 a rule is broken,
    /// 2 not known
    Check(check::GateArgs),
    /// Let a batch be used that is held back: it goes back to where it was, and why is recorded
    Release(check::ReleaseArgs),
    /// Which GPUs and services do little, and which only seem to?
    Idle(IdleArgs),
    /// Which services hold more GPUs than they use, how many are enough, and the proof from their own demand
    Recommend(RecommendArgs),
    /// When may training run? GPUs that serving leaves by hour of the week, cron lines, and jobs that ran at peak
    Offpeak(OffPeakArgs),
    /// What is scheduled and when it ran, or a run by hand; exit code 1 if it failed
    Schedule(ScheduleArgs),
    /// Latency of a service changed: is it the machines, the model, or what it was asked? One sentence, then the evidence
    Diagnose(DiagnoseArgs),
    /// Which data, parameters and code made what runs now, or ran at a moment; what changed last, and what to look at
    Lineage(LineageArgs),
    /// Tell which predictions turned out right, from a file: the accuracy of each version. Exit code 0 all, 1 some were refused, 2 none
    /// was told
    Labels(labels::LabelsArgs),
    /// Record which data the DVC files of a work tree name, and its commit. Exit code 0 done, 1 done and something is odd, 2 not done
    Dvc(dvc::DvcArgs),
    /// Say what is deployed, from a script or by hand
    #[command(subcommand)]
    Deploy(DeployCommand),
    /// Check every log record, file and row of a data directory; exit code 0 sound, 1 faults, 2 not checked
    Verify(CheckArgs),
    /// What a data directory is made of: files by level, bytes per column, the biggest metrics
    Inspect(CheckArgs),
    /// Delete the days that are older than the settings keep them, with the server stopped; it does so by itself else
    Retention(RetentionArgs),
    /// Make the text that stands for a password in the configuration (query.users), from standard input
    Password,
    /// Show it all: this machine live, a simulated week, a real token trace, and the answers from them
    Demo(DemoArgs),
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// Utilisation and cost of one week against the week before
    Weekly(WeeklyArgs),
}

#[derive(Debug, Subcommand)]
enum DeployCommand {
    /// Record that a version of a service is deployed from a moment on
    Mark(MarkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Data directory [default: ./driftwatt-data]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Configuration file (docs/config.md)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of SQL, answers, health and own metrics [default: 127.0.0.1:4320]
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Address of OTLP/gRPC [default: 127.0.0.1:4317]
    #[arg(long)]
    otlp_grpc: Option<SocketAddr>,
    /// Address of OTLP/HTTP [default: 127.0.0.1:4318]
    #[arg(long)]
    otlp_http: Option<SocketAddr>,
    /// Address of the PostgreSQL wire [default: 127.0.0.1:5433]
    #[arg(long)]
    postgres: Option<SocketAddr>,
    /// Address of Arrow Flight SQL [default: 127.0.0.1:4319]
    #[arg(long)]
    flight: Option<SocketAddr>,
    /// Do not store the server's own metrics
    #[arg(long)]
    no_self_metrics: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Where to send, such as http://127.0.0.1:4317
    #[arg(long)]
    endpoint: Option<String>,
    /// Also scrape this page of a Prometheus exporter, such as http://127.0.0.1:9400/metrics; may be given again
    #[arg(long, value_name = "URL")]
    scrape: Vec<String>,
    /// Keep what the server has not taken yet in this directory, also over a restart
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// Configuration file (docs/config.md)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Collect and send once, then exit
    #[arg(long)]
    once: bool,
    /// Read GPUs for the collector that started this, over standard input and output
    #[arg(long, hide = true, value_name = "SETTINGS")]
    nvml_child: Option<String>,
}

/// Where an answer comes from: a running server, or a data directory that no server has open.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// A running server
    #[arg(long, global = true, default_value = "http://127.0.0.1:4320", conflicts_with = "data")]
    server: String,
    /// A data directory, with its server stopped
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// Configuration file (docs/config.md), for --data
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query; without it a shell, or what standard input holds
    query: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// [default: table on a terminal, json in a pipe]
    #[arg(long)]
    format: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct RolesArgs {
    #[command(subcommand)]
    question: RolesQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// [default: table on a terminal, json in a pipe]
    #[arg(long, global = true)]
    format: Option<OutputFormat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolesQuestion {
    /// The rows of the table, in the order in which they are applied
    List {
        /// Only rows whose metric, role or source contains this text
        text: Option<String>,
    },
    /// Why do the series of a metric have their role, or none? Over the series since yesterday
    Explain {
        /// A metric as it was sent, or a selector: 'hw.temperature{hw.type="fan"}'
        selector: String,
    },
    /// Metrics since yesterday that have no role, with the row whose name is most like theirs
    Unmapped,
    /// What looks wrong since yesterday: units, scales, implausible values, doubled sources, lost profiling counters
    Check,
}

#[derive(Debug, Args)]
pub(crate) struct WeeklyArgs {
    #[command(flatten)]
    question: WeeklyQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Price book (TOML), for --data; a server has its own
    #[arg(long)]
    prices: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    question: IdleQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RecommendArgs {
    #[command(subcommand)]
    decision: Option<RecommendDecision>,
    #[command(flatten)]
    question: RecommendQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write the files that carry the verdicts out, and those that take them back, into this new or empty folder
    #[arg(long, value_name = "DIR")]
    patches: Option<PathBuf>,
    /// Price book, with --data; a server has its own (docs/analysis.md)
    #[arg(long, requires = "data")]
    prices: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(long, short, conflicts_with = "patches")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OffPeakArgs {
    #[command(flatten)]
    question: OffPeakQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write the lines for cron, and other schedules for the CronJobs that ran at peak, into this new or empty folder
    #[arg(long, value_name = "DIR")]
    patches: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(long, short, conflicts_with = "patches")]
    output: Option<PathBuf>,
    /// Price book, with --data; a server has its own (docs/analysis.md)
    #[arg(long, requires = "data")]
    prices: Option<PathBuf>,
}

/// What is said to a recommendation.
#[derive(Debug, Subcommand)]
pub(crate) enum RecommendDecision {
    /// It is or will be carried out; a later run says what came of it
    Accept(DecideArgs),
    /// It is not
    Reject(DecideArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// Of the recommendation
    id: String,
    #[command(flatten)]
    question: DecideQuestion,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    command: ScheduleCommand,
    #[command(flatten)]
    source: SourceArgs,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long, global = true)]
    format: Option<ReportFormat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Schedules with their next time and what came of the last run
    List,
    /// Run one now, as of now, and tell whoever it tells
    Run {
        /// Its name in the configuration
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DriftArgs {
    #[command(flatten)]
    question: DriftQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    #[command(flatten)]
    question: DiagnoseQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LineageArgs {
    #[command(flatten)]
    question: LineageQuestion,
    #[command(flatten)]
    source: SourceArgs,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MarkArgs {
    #[command(flatten)]
    question: MarkQuestion,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Only the simulated incident and its diagnosis, which takes seconds
    #[arg(long)]
    incident: bool,
    /// Exit after the answers instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Folder for the demo's own data; must not exist or hold an earlier demo [default: ./driftwatt-demo]
    #[arg(long)]
    data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The data directory, with its server stopped; it is not changed
    #[arg(long)]
    data: PathBuf,
    /// Configuration file (docs/config.md), where the tables are on S3 and the environment does not say how to reach it
    #[arg(long)]
    config: Option<PathBuf>,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    format: Option<ReportFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// The data directory, with its server stopped
    #[arg(long)]
    data: PathBuf,
    /// Configuration file (docs/config.md), with the settings of the server
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only say what would be deleted; nothing is changed
    #[arg(long)]
    dry_run: bool,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    format: Option<ReportFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// For scripts
    Json,
}

impl ReportFormat {
    fn usual() -> Self {
        if terminal::is_interactive() { Self::Text } else { Self::Json }
    }
}

impl CheckArgs {
    fn format(&self) -> ReportFormat {
        self.format.unwrap_or_else(ReportFormat::usual)
    }
}

/// Runs what was asked.
///
/// # Errors
/// Whatever the command cannot do, with its causes.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Collect(args) => collect::run(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Roles(args) => roles::run(args).await,
        Command::Report(ReportCommand::Weekly(args)) => read::weekly(args).await,
        Command::Idle(args) => read::idle(args).await,
        Command::Recommend(args) => recommend::run(args).await,
        Command::Diagnose(args) => read::diagnose(args).await,
        Command::Lineage(args) => read::lineage(args).await,
        Command::Deploy(DeployCommand::Mark(args)) => read::mark(args).await,
        Command::Retention(args) => retention::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Drift(args) => return Ok(read::drift(args).await),
        Command::Import(args) => return Ok(import::run(args).await),
        Command::Labels(args) => return Ok(labels::run(args).await),
        Command::Dvc(args) => return Ok(dvc::run(args).await),
        Command::Offpeak(args) => read::off_peak(args).await,
        Command::Schedule(args) => return schedule::run(args).await,
        Command::Check(args) => return Ok(check::run(args).await),
        Command::Release(args) => check::release(args).await,
        Command::Password => password::run(),
        Command::Verify(args) => return Ok(verify::run(args).await),
        Command::Inspect(args) => return Ok(inspect::run(args).await),
    }
    .map(|()| ExitCode::SUCCESS)
}
