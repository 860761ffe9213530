//! Rows of a table of the catalog, written down one after the other.

use super::eval::value::Value;

/// One value of a table.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Null,
    Number(i64),
    Flag(bool),
    Text(String),
    Numbers(Vec<i64>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Cell {
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => Value::Int(*number),
            Self::Flag(flag) => Value::Bool(*flag),
            Self::Text(text) => Value::text(text),
            Self::Numbers(numbers) => Value::list(numbers.iter().map(|number| Value::Int(*number)).collect()),
        }
    }
}

/// The rows of a table, of those of its columns that have a value here; the others are NULL.
pub(super) struct Rows {
    pub(super) names: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(super) fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new() }
    }

    /// A table without rows.
    pub(super) fn none() -> Self {
        Self::new(&[])
    }

    pub(super) fn add<const N: usize>(&mut self, row: [Cell; N]) {
        assert_eq!(N, self.names.len(), "a row must have the columns of its table");
        self.rows.push(row.into());
    }
}
