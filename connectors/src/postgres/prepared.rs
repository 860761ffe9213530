//! Which statements the server keeps for a connection, by their text.

use std::collections::{HashMap, VecDeque};

use tokio_postgres::types::Oid;

/// How many statements a connection keeps; the one that was not used for longest goes first.
const STATEMENTS_MAX: usize = 64;
/// A longer text is not kept: it is one of many that differ in the number of their placeholders.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A statement as it is bound.
pub(super) struct Named {
    /// Empty where the server does not keep it.
    pub(super) name: String,
    /// What it yields, where that is known already; else the server was asked.
    pub(super) columns: Option<Vec<Oid>>,
}

/// The statements of a connection.
#[derive(Default)]
pub(super) struct Statements {
    kept: HashMap<String, Kept>,
    /// Texts that were sent to be prepared and are not yet known to be.
    unconfirmed: VecDeque<String>,
    uses: u64,
}

struct Kept {
    name: String,
    /// The number of the use that was its last.
    used: u64,
    columns: Option<Vec<Oid>>,
}

/// A statement that is to be prepared.
pub(super) struct New {
    pub(super) named: Named,
    /// Names that make room for it: to be closed first.
    pub(super) closed: Vec<String>,
}

impl Statements {
    /// The statement of a text, where the server keeps it and has said what it yields. One whose columns never came was used by a row
    /// of statements that failed, and is prepared anew.
    pub(super) fn find(&mut self, text: &str) -> Option<Named> {
        self.uses += 1;
        let kept = self.kept.get_mut(text)?;
        kept.used = self.uses;
        let columns = Some(kept.columns.clone()?);
        Some(Named { name: kept.name.clone(), columns })
    }

    /// A name for a text that is about to be sent.
    pub(super) fn add(&mut self, text: &str) -> New {
        self.uses += 1;
        self.unconfirmed.push_back(text.to_owned());
        if text.len() > TEXT_BYTES_MAX {
            return New { named: Named { name: String::new(), columns: None }, closed: vec![] };
        }
        let mut closed: Vec<String> = self.remove(text).into_iter().collect();
        if self.kept.len() >= STATEMENTS_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(text, _)| text.clone());
            closed.extend(oldest.and_then(|text| self.remove(&text)));
        }
        let name = format!("h{}", self.uses);
        self.kept.insert(text.to_owned(), Kept { name: name.clone(), used: self.uses, columns: None });
        New { named: Named { name, columns: None }, closed }
    }

    /// A text is about to be sent that gets no name.
    pub(super) fn add_unnamed(&mut self) {
        self.unconfirmed.push_back(String::new());
    }

    /// Forgets a statement; its name is to be closed.
    pub(super) fn remove(&mut self, text: &str) -> Option<String> {
        self.kept.remove(text).map(|kept| kept.name)
    }

    /// The server has prepared the next of those that were sent.
    pub(super) fn confirmed(&mut self) {
        self.unconfirmed.pop_front();
    }

    /// The server has refused something: it skips what was sent after it, so what was to be prepared is not.
    pub(super) fn refused(&mut self) {
        for text in std::mem::take(&mut self.unconfirmed) {
            self.kept.remove(&text);
        }
    }

    /// The server has said what a statement yields.
    pub(super) fn describe(&mut self, text: &str, columns: &[Oid]) {
        if let Some(kept) = self.kept.get_mut(text) {
            kept.columns = Some(columns.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(statements: &mut Statements, text: &str) -> New {
        let new = statements.add(text);
        statements.confirmed();
        statements.describe(text, &[23]);
        new
    }

    #[test]
    fn statement_that_was_not_used_for_longest_makes_room() {
        let mut statements = Statements::default();
        let first = prepare(&mut statements, "0").named.name;
        let second = prepare(&mut statements, "1").named.name;
        for text in 2..STATEMENTS_MAX {
            assert!(prepare(&mut statements, &text.to_string()).closed.is_empty());
        }
        assert_eq!(statements.find("0").unwrap().name, first);
        assert_eq!(prepare(&mut statements, "one more").closed, [second]);
        assert!(statements.find("1").is_none() && statements.find("0").is_some());
        assert_eq!(statements.kept.len(), STATEMENTS_MAX);
    }

    #[test]
    fn statement_that_the_server_refused_or_skipped_is_prepared_anew() {
        let mut statements = Statements::default();
        prepare(&mut statements, "kept");
        statements.add("wrong");
        statements.add("skipped");
        statements.refused();
        assert!(statements.find("wrong").is_none() && statements.find("skipped").is_none());
        assert_eq!(statements.find("kept").unwrap().columns, Some(vec![23]));
        let undescribed = statements.add("undescribed").named.name;
        statements.confirmed();
        assert!(statements.find("undescribed").is_none());
        assert_eq!(statements.add("undescribed").closed, [undescribed]);
    }

    #[test]
    fn long_text_gets_no_name() {
        let mut statements = Statements::default();
        let text = "x".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(prepare(&mut statements, &text).named.name, "");
        assert!(statements.find(&text).is_none());
    }
}
