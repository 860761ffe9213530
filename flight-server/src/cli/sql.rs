//! `headwater sql`: statements from the command line, from stdin, or from a prompt.

use std::io::{BufRead, IsTerminal};

use super::args::{Format, SqlArgs};
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::repl;
use super::run::{Display, Timing, run as run_statement};
use super::target::Target;
use crate::text;

pub(super) async fn run(args: SqlArgs) -> Result<(), Failure> {
    if args.format == Format::Arrow && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an Arrow stream is binary, and stdout is a terminal",
            "send it somewhere: headwater sql ... --format arrow > result.arrows",
        ));
    }
    let target = Target::open(&args.target, &args.access, &args.search_path, args.config.as_deref()).await?;
    let display = Display { format: args.format, timing: Timing::On };
    match &args.statements {
        Some(statements) => {
            let interrupts = Interrupts::listen().map_err(|error| Failure::deaf(&error))?;
            let statements = listed(statements)?;
            if args.format == Format::Arrow && statements.len() > 1 {
                return Err(Failure::usage("an Arrow stream holds one result", "give one statement"));
            }
            let result = run_all(&target, &statements, display, &interrupts).await;
            target.settle(&result).await;
            result
        }
        None if std::io::stdin().is_terminal() => repl::run(target, display).await,
        None => {
            let interrupts = Interrupts::listen().map_err(|error| Failure::deaf(&error))?;
            let result = run_stdin(&target, display, &interrupts).await;
            target.settle(&result).await;
            result
        }
    }
}

/// The statements of a text. The last needs no semicolon.
fn listed(text: &str) -> Result<Vec<String>, Failure> {
    let text::Statements { mut complete, rest } = text::split(text);
    if !rest.is_empty() {
        complete.push(rest);
    }
    match complete.is_empty() {
        true => Err(Failure::usage("there is no statement", "give one, for example \"SELECT 1\"")),
        false => Ok(complete),
    }
}

async fn run_all(
    target: &Target,
    statements: &[String],
    display: Display,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    for statement in statements {
        run_statement(target, statement, display, interrupts).await?;
    }
    Ok(())
}

/// Runs each statement of stdin once its semicolon has come.
async fn run_stdin(target: &Target, display: Display, interrupts: &Interrupts) -> Result<(), Failure> {
    let mut pending = String::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::failed(format!("stdin can't be read: {error}")))?;
        pending.push_str(&line);
        pending.push('\n');
        // Only a line with a semicolon can complete a statement.
        if line.contains(';') {
            let text::Statements { complete, rest } = text::split(&pending);
            pending = rest;
            run_all(target, &complete, display, interrupts).await?;
            pending.push('\n');
        }
    }
    let text::Statements { mut complete, rest } = text::split(&pending);
    complete.extend((!rest.is_empty()).then_some(rest));
    run_all(target, &complete, display, interrupts).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_statement_needs_no_semicolon() {
        assert_eq!(listed("SELECT 1; SELECT 2").unwrap(), ["SELECT 1", "SELECT 2"]);
        assert!(matches!(listed(" -- nothing"), Err(Failure::Usage { .. })));
    }
}
