//! What is wrong in a manifest, said so that a person finds the place.
//!
//! Invariant: a fault never holds a value of the manifest or of the environment, since any may be a credential. Names of keys
//! are shown only where they look like names: `{url:postgres://u:p@h}`, which lacks a space, is one long key, and in
//! `{url: postgres://u:a,b,c@h}` the commas make keys without values of a password.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Something wrong in a manifest. Prints as one line: `file:line: key: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The manifest, or the directory where the fault is of the directory.
    pub file: PathBuf,
    /// The line, counted from 1; 0 where the fault is of the file or directory as a whole.
    pub line: usize,
    /// The key with those around it, joined by dots: `source.url`. Empty where the fault is of no key.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, &self.file.to_string_lossy())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
            write_line(f, &self.key)?;
        }
        f.write_str(": ")?;
        write_line(f, &self.message)
    }
}

impl std::error::Error for Fault {}

/// The faults found so far in one file.
#[derive(Debug)]
pub(super) struct Faults {
    file: PathBuf,
    found: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    pub(super) fn add(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.found.push(Fault { file: self.file.clone(), line, key: key.to_owned(), message: message.into() });
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.found
    }
}

/// The longest name that a fault shows, in characters (the identifier limit of Postgres).
const SHOWN_CHARS_MAX: usize = 63;

/// The name, where it looks like one and so holds no credential that was written in the wrong place.
pub(super) fn shown(name: &str) -> Option<&str> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | '$' | '*');
    (name.chars().count() <= SHOWN_CHARS_MAX && !name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// A key below another, as faults print it; the outer key alone where the inner one can't be shown.
pub(super) fn below(outer: &str, inner: &str) -> String {
    match shown(inner) {
        Some(inner) if outer.is_empty() => inner.to_owned(),
        Some(inner) => format!("{outer}.{inner}"),
        None => outer.to_owned(),
    }
}

/// Writes text without breaking the line, whatever a name holds.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    Ok(())
}
