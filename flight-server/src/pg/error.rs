//! Errors as clients of Postgres get them: SQLSTATE, message, hint, position.

use std::fmt;

use bytes::{BufMut, BytesMut};
use headwater::ErrorKind;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    /// The connection ends with it.
    Fatal,
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
        }
    }
}

/// An error, or a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PgError {
    pub(super) severity: Severity,
    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// In characters of the statement, from 1.
    pub(super) position: Option<usize>,
}

pub(super) const SYNTAX: &str = "42601";
pub(super) const UNSUPPORTED: &str = "0A000";
pub(super) const PROTOCOL: &str = "08P01";
pub(super) const CANCELED: &str = "57014";
pub(super) const STOPPING: &str = "57P01";
pub(super) const UNDEFINED_TABLE: &str = "42P01";
pub(super) const UNDEFINED_OBJECT: &str = "42704";
pub(super) const INVALID_VALUE: &str = "22023";
pub(super) const INVALID_TEXT: &str = "22P02";
pub(super) const READ_ONLY: &str = "25006";
pub(super) const INTERNAL: &str = "XX000";

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

impl PgError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push_str(" ...");
        }
        Self { severity: Severity::Error, code, message, hint: None, position: None }
    }

    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::new(code, message) }
    }

    pub(super) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(code, message) }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The error of an engine, for a statement of this text.
    pub(super) fn of(error: &headwater::Error, text: &str) -> Self {
        let report = error.report();
        let code = code(error.kind(), &report);
        // The engine's messages end with what to do, after a semicolon.
        let (message, hint) = match report.split_once("; ") {
            Some((message, hint)) if !hint.is_empty() => (message.to_owned(), Some(hint.to_owned())),
            _ => (report, None),
        };
        let position = position(&message, text);
        Self { hint, position, ..Self::new(code, message) }
    }

    /// The fields, each with the byte that names it.
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut field = |kind: u8, text: &str| {
            out.put_u8(kind);
            out.put_slice(text.replace('\0', " ").as_bytes());
            out.put_u8(0);
        };
        field(b'S', self.severity.word());
        field(b'V', self.severity.word());
        field(b'C', self.code);
        field(b'M', &self.message);
        if let Some(hint) = &self.hint {
            field(b'H', hint);
        }
        if let Some(position) = self.position {
            field(b'P', &position.to_string());
        }
        out.put_u8(0);
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

fn code(kind: ErrorKind, report: &str) -> &'static str {
    let lower = report.to_ascii_lowercase();
    match kind {
        ErrorKind::InvalidInput if lower.contains("parsererror") || lower.starts_with("sql error") => SYNTAX,
        ErrorKind::InvalidInput if lower.contains("invalid function") => "42883",
        ErrorKind::InvalidInput => "42000",
        ErrorKind::NotFound if lower.contains("no field named") => "42703",
        ErrorKind::NotFound => UNDEFINED_TABLE,
        ErrorKind::Denied if lower.contains("is refused") => READ_ONLY,
        ErrorKind::Denied => "42501",
        ErrorKind::Unavailable => "08006",
        ErrorKind::Timeout => CANCELED,
        ErrorKind::ResourcesExhausted if lower.contains("queries already") => "53300",
        ErrorKind::ResourcesExhausted => "53200",
        ErrorKind::Execution if lower.contains("divide by zero") => "22012",
        ErrorKind::Execution if lower.contains("prepared statement") && lower.contains("does not exist") => "26000",
        ErrorKind::Execution => "22000",
        ErrorKind::Changed => "40001",
        ErrorKind::Unsupported => UNSUPPORTED,
        _ => INTERNAL,
    }
}

/// Where in the text the parser stopped: "... at Line: 1, Column: 8".
fn position(message: &str, text: &str) -> Option<usize> {
    let number = |after: &str| {
        let (_, rest) = message.split_once(after)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok()
    };
    let (line, column) = (number("Line: ")?, number("Column: ")?);
    let before: usize = text.split('\n').take(line.checked_sub(1)?).map(|line| line.chars().count() + 1).sum();
    let position = before + column;
    (position <= text.chars().count()).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_characters_over_lines() {
        let text = "SELECT 'ü'\nFROM FROM";
        assert_eq!(position("Expected: x at Line: 2, Column: 6", text), Some(17));
        assert_eq!(position("Expected: x at Line: 9, Column: 6", text), None);
        assert_eq!(position("no place", text), None);
    }

    #[test]
    fn fields_end_where_they_should() {
        let mut out = BytesMut::new();
        PgError::new(SYNTAX, "a\0b").with_hint("do").put(&mut out);
        assert_eq!(&out[..], b"SERROR\0VERROR\0C42601\0Ma b\0Hdo\0\0");
    }
}
