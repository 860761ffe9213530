//! Statements that the engine is not asked, or not as they are: transactions, settings, COPY.
//!
//! They are told by their first words, from the tokens that the engine's own parser would see.

use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::copy::{Copy, copy};
use super::error::{PgError, READ_ONLY, UNSUPPORTED};
use crate::text::words;

/// What a statement is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// Space and comments.
    Empty,
    Begin,
    Commit,
    Rollback,
    /// SAVEPOINT, RELEASE, and going back to one, by their tags: nothing was written that could be taken back.
    Savepoint(&'static str),
    RollbackTo,
    /// A setting and its value; without one it is set back.
    Set {
        name: String,
        value: Option<String>,
    },
    ResetAll,
    /// Everything that the connection holds is let go.
    DiscardAll,
    Show(String),
    ShowAll,
    /// A prepared statement, or all.
    Deallocate(Option<String>),
    Copy(Arc<Copy>),
    /// Nothing to do, by its tag.
    Nothing(&'static str),
    /// The engine runs it and the client gets a tag.
    Engine(&'static str),
    /// The engine runs it as it is, and it has rows.
    Immediate,
    /// A query, which the engine plans.
    Query,
}

/// What a statement is.
pub(super) fn of(text: &str) -> Result<Command, PgError> {
    let tokens = words(text);
    let list: Vec<Token> = tokens.iter().map(|(token, _)| token.clone()).collect();
    let word = |index: usize| match list.get(index) {
        Some(Token::Word(word)) => word.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let (first, second) = (word(0), word(1));
    Ok(match (first.as_str(), second.as_str()) {
        ("", _) if list.is_empty() => Command::Empty,
        ("BEGIN", _) | ("START", "TRANSACTION") => begin(&list)?,
        ("COMMIT" | "END", _) => Command::Commit,
        ("ROLLBACK", "TO") => Command::RollbackTo,
        ("ROLLBACK", _) if word(2) == "TO" => Command::RollbackTo,
        ("ROLLBACK" | "ABORT", _) => Command::Rollback,
        ("SAVEPOINT", _) => Command::Savepoint("SAVEPOINT"),
        ("RELEASE", _) => Command::Savepoint("RELEASE"),
        ("SET", _) => set(&list)?,
        ("RESET", "ALL") => Command::ResetAll,
        ("RESET", _) => Command::Set { name: name(&list[1..]).0, value: None },
        ("DISCARD", "ALL") => Command::DiscardAll,
        ("DISCARD", _) => Command::Nothing("DISCARD"),
        ("SHOW", "ALL") => Command::ShowAll,
        ("SHOW", "TABLES" | "COLUMNS" | "FUNCTIONS" | "SCHEMAS" | "DATABASES") => Command::Query,
        ("SHOW", "TIME") => Command::Show("timezone".to_owned()),
        ("SHOW", "TRANSACTION") => Command::Show("transaction_isolation".to_owned()),
        ("SHOW", _) => Command::Show(name(&list[1..]).0),
        ("DEALLOCATE", _) => deallocate(&list),
        ("PREPARE", _) => Command::Engine("PREPARE"),
        ("EXECUTE", _) => Command::Immediate,
        ("CLOSE", _) => Command::Nothing("CLOSE CURSOR"),
        ("UNLISTEN", _) => Command::Nothing("UNLISTEN"),
        ("COPY", _) => Command::Copy(Arc::new(copy(text, &tokens)?)),
        ("EXPLAIN", "MATERIALIZED") => Command::Immediate,
        ("CREATE", _) if headwater::defines_view(text) => Command::Engine("CREATE MATERIALIZED VIEW"),
        ("DROP", _) if headwater::defines_view(text) => Command::Engine("DROP MATERIALIZED VIEW"),
        ("REFRESH", _) if headwater::defines_view(text) => Command::Engine("REFRESH MATERIALIZED VIEW"),
        ("DECLARE" | "FETCH" | "MOVE", _) => {
            let error = PgError::new(UNSUPPORTED, "cursors in SQL are not supported");
            return Err(error.with_hint("give the driver a fetch size: the protocol has portals for that"));
        }
        ("LISTEN" | "NOTIFY", _) => return Err(PgError::new(UNSUPPORTED, "LISTEN and NOTIFY are not supported")),
        ("LOCK", _) => return Err(PgError::new(READ_ONLY, "LOCK is refused: services are read, and not locked")),
        _ => Command::Query,
    })
}

/// BEGIN, whose modes must be those that there are.
fn begin(tokens: &[Token]) -> Result<Command, PgError> {
    modes(tokens)?;
    Ok(Command::Begin)
}

/// Refuses modes of transactions that promise what is not kept.
fn modes(tokens: &[Token]) -> Result<(), PgError> {
    let words: Vec<String> = tokens.iter().map(|token| token.to_string().to_ascii_uppercase()).collect();
    let has = |wanted: &[&str]| words.windows(wanted.len()).any(|found| found.iter().eq(wanted.iter()));
    if has(&["REPEATABLE", "READ"]) || has(&["SERIALIZABLE"]) {
        let error = PgError::new(UNSUPPORTED, "a transaction over several statements is READ COMMITTED here");
        return Err(error.with_hint("ask in one statement: it reads one state of each service"));
    }
    if has(&["READ", "WRITE"]) {
        return Err(PgError::new(READ_ONLY, "a transaction can't be READ WRITE: services are read and not written to"));
    }
    Ok(())
}

/// A name, perhaps of several parts, and how many tokens it took.
fn name(tokens: &[Token]) -> (String, usize) {
    let mut name = String::new();
    let mut used = 0;
    for token in tokens {
        match token {
            Token::Word(word) if used == 0 || name.ends_with('.') => name.push_str(&word.value),
            Token::Period if used > 0 => name.push('.'),
            _ => break,
        }
        used += 1;
    }
    (name, used)
}

fn set(tokens: &[Token]) -> Result<Command, PgError> {
    let is = |index: usize, wanted: &str| match tokens.get(index) {
        Some(Token::Word(word)) => word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    if is(1, "TRANSACTION") || (is(1, "SESSION") && is(2, "CHARACTERISTICS")) {
        modes(tokens)?;
        return Ok(Command::Nothing("SET"));
    }
    let start = if is(1, "SESSION") || is(1, "LOCAL") { 2 } else { 1 };
    if is(start, "TIME") && is(start + 1, "ZONE") {
        return Ok(Command::Set {
            name: "timezone".to_owned(),
            value: Some(value(tokens.get(start + 2..).unwrap_or_default())),
        });
    }
    if is(start, "NAMES") {
        return Ok(Command::Set {
            name: "client_encoding".to_owned(),
            value: Some(value(tokens.get(start + 1..).unwrap_or_default())),
        });
    }
    if (is(start, "SESSION") && is(start + 1, "AUTHORIZATION")) || is(start, "ROLE") {
        return Err(PgError::new(UNSUPPORTED, "a session keeps the user that it began with"));
    }
    let rest = tokens.get(start..).unwrap_or_default();
    let (name, used) = name(rest);
    let value = value(rest.get(used + 1..).unwrap_or_default());
    let is_default = value.eq_ignore_ascii_case("default");
    Ok(Command::Set { name, value: (!is_default).then_some(value) })
}

/// A value as text: without its quotes, several with commas between them.
fn value(tokens: &[Token]) -> String {
    let text = |token: &Token| match token {
        Token::SingleQuotedString(text) => text.clone(),
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    };
    let parts: Vec<String> = tokens.iter().filter(|token| **token != Token::SemiColon).map(text).collect();
    parts.concat().replace(',', ", ")
}

fn deallocate(tokens: &[Token]) -> Command {
    let mut names = tokens[1..].iter().filter_map(|token| match token {
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("PREPARE") => None,
        Token::Word(word) => Some(word),
        _ => None,
    });
    match names.next() {
        Some(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("ALL") => Command::Deallocate(None),
        Some(word) => Command::Deallocate(Some(word.value.clone())),
        None => Command::Deallocate(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Command {
        Command::Set { name: name.to_owned(), value: Some(value.to_owned()) }
    }

    #[test]
    fn statements_are_told_by_their_first_words() {
        for (text, command) in [
            (" -- nothing", Command::Empty),
            ("/* a */ begin", Command::Begin),
            ("START TRANSACTION READ ONLY", Command::Begin),
            ("END", Command::Commit),
            ("rollback to savepoint s", Command::RollbackTo),
            ("ROLLBACK", Command::Rollback),
            ("SET SESSION datestyle TO 'ISO'", set("datestyle", "ISO")),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET search_path TO a, \"b c\"", set("search_path", "a, b c")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET headwater.pushdown = off", set("headwater.pushdown", "off")),
            ("SET x = DEFAULT", Command::Set { name: "x".to_owned(), value: None }),
            ("SHOW standard_conforming_strings", Command::Show("standard_conforming_strings".to_owned())),
            ("DEALLOCATE \"_pg3_0\"", Command::Deallocate(Some("_pg3_0".to_owned()))),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("SELECT 'BEGIN'", Command::Query),
            ("CREATE MATERIALIZED VIEW a.b AS SELECT 1", Command::Engine("CREATE MATERIALIZED VIEW")),
        ] {
            assert_eq!(of(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_would_promise_more_than_is_kept_is_refused() {
        for text in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN READ WRITE",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "LISTEN x",
            "DECLARE c CURSOR FOR SELECT 1",
            "SET ROLE root",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
