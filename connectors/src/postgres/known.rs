//! What a source last heard of its tables, and how it is found out cheaply that a table is still that.
//!
//! A description has a state: the transactions that wrote the catalog's rows of the table, its schema and its columns. Whatever
//! changes the table writes them anew, so a statement that reads the state under its own lock on the table and finds the state of
//! the description knows all that the description says. Other writes (a new index, a grant) change the state too; then the table
//! is described again and the statement asked anew.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_source::{ColumnDef, TableDef};
use parking_lot::Mutex;
use tokio_postgres::types::Oid;

use super::answer::{Fault, Row};

/// A table and what decides how it is read.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub(super) table: TableDef,
    pub(super) oid: Oid,
    /// The catalog's rows of it.
    pub(super) state: String,
    /// How many pages it had when it was analyzed last, where ranges of its pages can be read.
    pub(super) pages: Option<u32>,
    /// The columns with which an index over all rows begins.
    pub(super) indexed: Vec<usize>,
    /// The types of the columns, domains resolved, and of arrays those of their elements.
    pub(super) types: Vec<(Oid, Option<Oid>)>,
}

impl Description {
    /// Adds the next column: its number, the state of its row, and the numbers of the columns with which indexes begin.
    pub(super) fn add(&mut self, column: ColumnDef, number: i16, state: &str, leading: &[i16]) {
        if leading.contains(&number) {
            self.indexed.push(self.table.columns.len());
        }
        let separator = if self.table.columns.is_empty() { ' ' } else { ',' };
        self.state.push_str(&format!("{separator}{number}:{state}"));
        self.table.columns.push(column);
    }

    /// Reads the [`State`] as it is now. The number is the catalog's own; as text it lets the server keep the plan.
    pub(super) fn state_query(&self) -> String {
        format!("{STATE} {}", self.oid)
    }
}

/// The query before the table's number.
const STATE: &str = include_str!("state.sql");

/// What [`Description::state_query`] yields of a table that is there.
pub(super) struct State {
    /// To compare with a description's.
    pub(super) rows: String,
    /// The transactions that wrote newer rows than these, or tried to.
    later: String,
    /// What the transaction that asked saw, as `xmin:xmax:in progress`.
    snapshot: String,
}

impl State {
    /// Reads the row of the query.
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self { rows: row.get(0)?, later: row.get(1)?, snapshot: row.get(2)? })
    }

    /// Whether the rows are the newest there are. In a transaction that reads an older state of the database they need not be: a newer
    /// row's transaction then began after that state or ran in it. One that had ended in it and whose row is not seen has failed.
    pub(super) fn is_newest(&self) -> bool {
        let mut parts = self.snapshot.split(':').map(|part| part.split(',').filter_map(|id| id.parse::<u64>().ok()));
        let (Some(_), Some(next), Some(running)) =
            (parts.next(), parts.next().and_then(|mut next| next.next()), parts.next())
        else {
            return false;
        };
        let running: Vec<u64> = running.collect();
        let ended = |id: u32| {
            // The catalog keeps the lower half of a number that grows for ever; numbers compare within half their range.
            let ahead = id.wrapping_sub(next as u32).cast_signed();
            ahead < 0 && !running.contains(&next.wrapping_add_signed(ahead.into()))
        };
        self.later.split(',').filter(|id| !id.is_empty()).all(|id| id.parse().is_ok_and(ended))
    }
}

/// So many descriptions are remembered; then all are forgotten, and come back as they are asked for.
const KNOWN_MAX: usize = 10_000;

/// The descriptions that were read last, by path.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Vec<String>, Arc<Description>>>);

impl Known {
    /// The last description of the table at a path.
    pub(super) fn get(&self, path: &[String]) -> Option<Arc<Description>> {
        self.0.lock().get(path).cloned()
    }

    /// Remembers a description.
    pub(super) fn put(&self, description: Description) -> Arc<Description> {
        let description = Arc::new(description);
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(description.table.path.clone(), Arc::clone(&description));
        description
    }

    /// Forgets a description that is not true any more.
    pub(super) fn forget(&self, path: &[String]) {
        self.0.lock().remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_row_is_one_whose_transaction_had_not_ended_in_the_snapshot() {
        let newest = |later: &str, snapshot: &str| {
            State { rows: String::new(), later: later.into(), snapshot: snapshot.into() }.is_newest()
        };
        assert!(newest("", "100:105:102"));
        assert!(newest("90", "100:105:102"), "it had ended, and failed");
        assert!(newest("101,99", "100:105:102"));
        assert!(!newest("102", "100:105:102"), "it ran");
        assert!(!newest("105", "100:105:"), "it came later");
        assert!(!newest("90,106", "100:105:"));
        // 2 to the 32 and 5: the numbers in the rows have begun anew.
        assert!(newest("4294967290", "4294967300:4294967301:"));
        assert!(newest("3", "4294967300:4294967301:"));
        assert!(!newest("3", "4294967299:4294967301:4294967299"));
        assert!(!newest("6", "4294967300:4294967301:"));
    }
}
