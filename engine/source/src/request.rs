//! What the engine asks of a source, and what the source made of it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;

use crate::{Expr, TableDef, TableStatistics};

/// A scan of one table: which columns, which rows, in which order, how many.
///
/// The steps apply in this order: filter, sort, limit, projection. Filters here have passed
/// [`Capabilities::offer`](crate::Capabilities::offer) and are to be pushed as they stand.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// The table, as discovered when the query was planned.
    pub table: Arc<TableDef>,
    /// Indexes of the columns to yield, in the order to yield them. May be empty: then batches carry only a row count.
    pub projection: Vec<usize>,
    /// Only rows for which every filter is true.
    pub filters: Vec<Expr>,
    /// The order of the rows; empty where none is asked for. With partitions, the order holds within each.
    pub sort: Vec<SortKey>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// The most rows of a batch.
    pub batch_rows: usize,
    /// Into how many parts at most one table may be split, to be read at the same time. One where a split would not pay.
    pub partitions_max: usize,
    /// What is known of the table; `None` where nobody asked.
    pub known: Option<Known>,
}

/// What is known of a table that is read: estimates, which decide how it is read and never what is.
#[derive(Debug, Clone)]
pub struct Known {
    /// What its source says of its rows. Has an entry for each column.
    pub statistics: Arc<TableStatistics>,
    /// How many rows are expected to meet the filters; 0 where nobody knows.
    pub rows: f64,
}

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// The column's index in the table.
    pub column: usize,
    /// The direction.
    pub descending: bool,
    /// Where NULLs go.
    pub nulls_first: bool,
}

/// A statement as it goes to the source, for EXPLAIN and for the connector itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteStatement {
    /// The text, with the dialect's placeholders. It holds no value.
    pub text: String,
    /// The values of the placeholders, in their order.
    pub binds: Vec<Bind>,
}

/// A value that travels beside a statement's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The value and its Arrow type.
    pub value: ScalarValue,
    /// The type that the source takes it as.
    pub remote_type: String,
}

impl ScanRequest {
    /// How many rows a batch holds where nobody said otherwise.
    pub const DEFAULT_BATCH_ROWS: usize = 8192;

    /// A scan of all rows and columns.
    pub fn all(table: Arc<TableDef>) -> Self {
        let projection = (0..table.columns.len()).collect();
        Self {
            table,
            projection,
            filters: vec![],
            sort: vec![],
            limit: None,
            batch_rows: Self::DEFAULT_BATCH_ROWS,
            partitions_max: 1,
            known: None,
        }
    }

    /// The schema of the batches: the projected columns' names, types and nullability.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.projection.iter().map(|index| self.table.columns[*index].field()).collect();
        Arc::new(Schema::new(fields))
    }
}

/// Shows the text and the binds' types, never their values. Texts of thousands of placeholders are cut to a length that a person
/// can read, and equal types in a row are counted.
impl fmt::Display for RemoteStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 1_000;
        match self.text.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}… ({} bytes)", &self.text[..end], self.text.len())?,
            None => f.write_str(&self.text)?,
        }
        if self.binds.is_empty() {
            return Ok(());
        }
        let runs = self.binds.chunk_by(|a, b| a.remote_type == b.remote_type);
        let types: Vec<String> = runs.map(describe_run).collect();
        write!(f, " binds=[{}]", types.join(", "))
    }
}

fn describe_run(run: &[Bind]) -> String {
    const SPELLED_OUT: usize = 3;
    match (run, run.len()) {
        ([first, ..], count) if count > SPELLED_OUT => format!("{count} x {}", first.remote_type),
        _ => run.iter().map(|bind| bind.remote_type.as_str()).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_of_thousands_of_values_is_shown_in_a_length_that_a_person_can_read() {
        let bind = |remote_type: &str| Bind { value: ScalarValue::from(7_i64), remote_type: remote_type.to_owned() };
        let mut binds = vec![bind("text")];
        binds.extend((0..4_000).map(|_| bind("integer")));
        let shown = RemoteStatement { text: format!("SELECT {}", "?, ".repeat(4_000)), binds }.to_string();
        assert!(shown.len() < 1_100, "{} bytes", shown.len());
        assert!(shown.ends_with("… (12007 bytes) binds=[text, 4000 x integer]"), "{shown}");
    }
}
