//! The `headwater` command.
//!
//! Answers go to stdout and everything else to stderr. The exit code is 0 where all went well, 1 where a query or a check failed,
//! and 2 where the command line was wrong. A reader that closes the pipe early is no failure.

mod apply;
mod args;
mod check;
mod demo;
mod failure;
mod feed;
mod interrupt;
mod names;
mod output;
mod progress;
mod repl;
mod run;
mod serve;
mod sql;
mod table;
mod target;
mod user;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use failure::Failure;

/// The environment variable that sets what is logged.
const LOG_VARIABLE: &str = "HEADWATER_LOG";

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(match &cli.command {
        Command::Serve(_) => "info",
        _ => "error",
    });
    let result = Runtime::new()
        .map_err(|error| Failure::failed(format!("the async runtime can't start: {error}")))
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(cli.command));
            // A cancelled query that computes without a pause is not waited for.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo { dir } => demo::run(&dir).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Check { dir } => check::run(&dir).await,
        Command::Apply(args) => apply::run(args).await,
        Command::Feed(command) => feed::run(&command).await,
        Command::User(command) => user::run(command),
    }
}

fn log(default: &str) {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        eprintln!("warning: {LOG_VARIABLE} is not understood: {error}");
        EnvFilter::new(default)
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
