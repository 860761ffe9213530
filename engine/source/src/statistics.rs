//! What a source knows of its rows: the numbers that plans are made from.
//!
//! Every number is an estimate that may be old. It decides how a query is answered, never what the answer is.

use datafusion_common::ScalarValue;

use crate::TableDef;

/// What a source knows of a table, as of its last analysis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableStatistics {
    /// How many rows.
    pub rows: Option<u64>,
    /// One entry for each of [`TableDef::columns`](crate::TableDef::columns), in their order.
    pub columns: Vec<ColumnStatistics>,
    /// The columns of each index in its order, by their index in the table; the primary key's too. An index over an expression or over
    /// part of the rows is left out.
    pub indexes: Vec<Index>,
}

/// What a source knows of a column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnStatistics {
    /// How many different values that are not NULL.
    pub distinct: Option<u64>,
    /// The share of rows that are NULL, from 0 to 1.
    pub null_fraction: Option<f64>,
    /// The mean width of a value in bytes, as the source stores it.
    pub width_bytes: Option<f64>,
    /// The least value, of the column's Arrow type. Rows beyond it may exist.
    pub min: Option<ScalarValue>,
    /// The greatest value, of the column's Arrow type. Rows beyond it may exist.
    pub max: Option<ScalarValue>,
}

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its columns in order, by their index in the table. Never empty.
    pub columns: Vec<usize>,
    /// Whether the source holds no two rows that agree in all of them.
    pub unique: bool,
}

impl TableStatistics {
    /// Statistics of a table of which nothing is known but its estimate and key.
    pub fn of(table: &TableDef) -> Self {
        let key = table.key.as_ref().map(|key| key.iter().filter_map(|name| table.column_index(name)).collect());
        let indexes = key.map(|columns: Vec<usize>| Index { columns, unique: true }).into_iter();
        Self {
            rows: table.rows_estimate,
            columns: vec![ColumnStatistics::default(); table.columns.len()],
            indexes: indexes.filter(|index| !index.columns.is_empty()).collect(),
        }
    }
}
