//! Rows of a table of the catalog, written down one after the other.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::datasource::MemTable;
use datafusion::error::Result;

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

/// The rows of a table. A column's name says its type by its last character: # a number, ? a flag, [ numbers,
/// ~ a list of texts that is always NULL, and else text.
pub(super) struct Rows {
    names: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(super) fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new() }
    }

    pub(super) fn add<const N: usize>(&mut self, row: [Cell; N]) {
        assert_eq!(N, self.names.len(), "a row must have the columns of its table");
        self.rows.push(row.into());
    }

    pub(super) fn table(self) -> Result<MemTable> {
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            let cells = self.rows.iter().map(|row| &row[index]);
            let (name, column): (&str, ArrayRef) = if let Some(name) = name.strip_suffix('#') {
                let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
                (name, Arc::new(Int64Array::from_iter(cells.map(number))))
            } else if let Some(name) = name.strip_suffix('?') {
                let flag = |cell: &Cell| if let Cell::Flag(flag) = cell { Some(*flag) } else { None };
                (name, Arc::new(arrow::array::BooleanArray::from_iter(cells.map(flag))))
            } else if let Some(name) = name.strip_suffix('[') {
                let mut lists = ListBuilder::new(arrow::array::Int64Builder::new());
                for cell in cells {
                    if let Cell::Numbers(numbers) = cell {
                        lists.values().append_slice(numbers);
                    }
                    lists.append(matches!(cell, Cell::Numbers(numbers) if !numbers.is_empty()));
                }
                (name, Arc::new(lists.finish()))
            } else if let Some(name) = name.strip_suffix('~') {
                (name, arrow::array::new_null_array(&DataType::new_list(DataType::Utf8, true), self.rows.len()))
            } else {
                let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None };
                (name, Arc::new(StringArray::from_iter(cells.map(text))))
            };
            columns.push((name, column));
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        MemTable::try_new(batch.schema(), vec![vec![batch]])
    }
}
