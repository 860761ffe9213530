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
mod log;
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

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

use args::{Cli, Command, LogFormat};
use failure::Failure;

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Command::Serve(args) => log::begin("info", args.log_format),
        _ => log::begin("error", LogFormat::Text),
    }
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
