//! Driftwatt: OpenTelemetry in, open tables, SQL and answers out. This binary wires the crates together.

mod access;
mod allocator;
mod answers;
mod checkpoint_watch;
mod cli;
mod clock;
mod config;
mod demo;
mod deployment_watch;
mod drift_gauges;
mod exit;
mod lineage_outlet;
mod memory;
mod otlp;
mod quarantine;
mod query_runtime;
mod registry_watch;
mod retention;
mod scheduler;
mod self_metrics;
mod server;
mod session;
mod shell;
mod stop_signal;
mod terminal;
mod web;
mod work_tree_watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    allocator::bound_pools();
    let cli = Cli::parse();
    terminal::start_logging(cli.verbose);
    // A command of the shell or of the command line plans here, as the server does on the threads of queries.
    let stack_size = query_runtime::STACK_SIZE_BYTES;
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(stack_size).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(&anyhow::Error::new(error).context("start the async runtime")),
    };
    let outcome = runtime.block_on(cli::run(cli));
    // Blocking work that nobody waits for any more (a query of a client that left) must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => exit::failed(&error),
    }
}
