//! How a command fails.

use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong: exit code 2.
    Usage {
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// The command failed: exit code 1.
    Failed { message: String, hint: Option<String> },
    /// The user cancelled it: exit code 1, said in one word.
    Cancelled,
    /// Faults that were printed already: exit code 1.
    Told,
    /// Whoever read our output has what they wanted: exit code 0.
    OutputClosed,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    pub(super) fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }

    /// A failure to listen for Ctrl-C.
    pub(super) fn deaf(error: &io::Error) -> Self {
        Self::failed(format!("Ctrl-C can't be listened for: {error}"))
    }

    /// A failure to write a result.
    pub(super) fn writing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::failed(format!("the result can't be written: {error}")),
        }
    }

    /// What happened, in one line.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Usage { message, .. } | Self::Failed { message, .. } => message.clone(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Told | Self::OutputClosed => "failed".to_owned(),
        }
    }

    /// Says what happened on stderr and returns the exit code.
    pub(super) fn print(&self) -> ExitCode {
        match self {
            Self::Usage { message, hint } => {
                eprintln!("error: {message}\nhint: {hint}");
                ExitCode::from(2)
            }
            Self::Failed { message, hint } => {
                eprintln!("error: {message}");
                if let Some(hint) = hint {
                    eprintln!("hint: {hint}");
                }
                ExitCode::FAILURE
            }
            Self::Cancelled => {
                eprintln!("cancelled");
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<headwater::Error> for Failure {
    fn from(error: headwater::Error) -> Self {
        Self::failed(error.report())
    }
}

/// Prints a line on stdout, where `println!` would panic if nobody reads it any more.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|error| Failure::writing(&error))
}
