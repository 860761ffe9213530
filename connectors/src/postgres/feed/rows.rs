//! Messages of one transaction into its changes, a batch for each table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, RecordBatch};
use arrow::datatypes::SchemaRef;
use headwater_source::{Change, ColumnDef, Kept, RowChanges, RowOp, TableChange, TableDef};

use super::super::decode::{BATCH_BYTES, BadValue};
use super::super::field::Reason;
use super::super::values::Values;
use super::message::{Cell, Tuple};
use super::tables::{Identity, Reading};
use super::text::Form;

/// A batch of changes ends when it holds so many rows.
const BATCH_ROWS: usize = 65_536;

/// The changes of a transaction so far.
#[derive(Default)]
pub(super) struct Changes {
    done: Vec<TableChange>,
    open: HashMap<usize, Rows>,
}

/// The rows of a table that are not a batch yet.
struct Rows {
    table: Arc<TableDef>,
    schema: SchemaRef,
    columns: Vec<(Values, NullBufferBuilder)>,
    ops: Vec<RowOp>,
    kept: Vec<Kept>,
    bytes: usize,
}

impl Changes {
    /// A row came.
    pub(super) fn insert(&mut self, table: &Numbered<'_>, new: Tuple<'_>) -> Result<(), BadValue> {
        self.rows(table)?.push(RowOp::Insert, table.reading, new, None, Part::All)
    }

    /// A row was replaced. `old` is its key or the whole of it, where the server sends that: where the key changed, or all columns identify.
    pub(super) fn update(
        &mut self,
        table: &Numbered<'_>,
        old: Option<Tuple<'_>>,
        new: Tuple<'_>,
    ) -> Result<(), BadValue> {
        let rows = self.rows(table)?;
        if old.is_none() && table.reading.identity == Identity::Row {
            return Err(rows.bad(0, "an update without the row that it replaced".to_owned()));
        }
        rows.gone(table.reading, old.unwrap_or(new))?;
        rows.push(RowOp::InsertOver, table.reading, new, old, Part::All)
    }

    /// A row went.
    pub(super) fn delete(&mut self, table: &Numbered<'_>, old: Tuple<'_>) -> Result<(), BadValue> {
        self.rows(table)?.gone(table.reading, old)
    }

    /// All rows of a table went.
    pub(super) fn truncate(&mut self, table: usize) -> Result<(), BadValue> {
        self.close(table)?;
        self.done.push(TableChange { table, change: Change::Truncate });
        Ok(())
    }

    /// All changes, or which table has a value that cannot be read.
    pub(super) fn finish(mut self) -> Result<Vec<TableChange>, (usize, BadValue)> {
        let mut open: Vec<usize> = self.open.keys().copied().collect();
        open.sort_unstable();
        for table in open {
            self.close(table).map_err(|bad| (table, bad))?;
        }
        Ok(self.done)
    }

    fn rows(&mut self, table: &Numbered<'_>) -> Result<&mut Rows, BadValue> {
        if self.open.get(&table.index).is_some_and(Rows::is_full) {
            self.close(table.index)?;
        }
        Ok(self.open.entry(table.index).or_insert_with(|| Rows::new(table.table)))
    }

    fn close(&mut self, table: usize) -> Result<(), BadValue> {
        if let Some(rows) = self.open.remove(&table) {
            self.done.push(TableChange { table, change: Change::Rows(rows.finish()?) });
        }
        Ok(())
    }
}

/// A table and how its changes are read now.
pub(super) struct Numbered<'a> {
    pub(super) index: usize,
    pub(super) table: &'a Arc<TableDef>,
    pub(super) reading: &'a Reading,
}

/// Which columns of a row count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Key,
}

impl Rows {
    fn new(table: &Arc<TableDef>) -> Self {
        let column = |column: &ColumnDef| (Values::new(&column.data_type, column.class), NullBufferBuilder::new(0));
        Self {
            table: Arc::clone(table),
            schema: RowChanges::schema(table),
            columns: table.columns.iter().map(column).collect(),
            ops: vec![],
            kept: vec![],
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.ops.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn gone(&mut self, reading: &Reading, old: Tuple<'_>) -> Result<(), BadValue> {
        match reading.identity {
            Identity::Key => self.push(RowOp::DeleteKey, reading, old, None, Part::Key),
            Identity::Row => self.push(RowOp::DeleteRow, reading, old, None, Part::All),
        }
    }

    /// Takes a row. A value that was left alone is taken from `old`, or kept.
    fn push(
        &mut self,
        op: RowOp,
        reading: &Reading,
        new: Tuple<'_>,
        old: Option<Tuple<'_>>,
        part: Part,
    ) -> Result<(), BadValue> {
        let row = self.ops.len();
        let mut old = old.map(Tuple::cells);
        for (read, cell) in reading.columns.iter().zip(new.cells()) {
            let before = old.as_mut().and_then(Iterator::next);
            let Some((column, form)) = *read else { continue };
            let counts = part == Part::All || self.is_key(column);
            let cell = match (cell, before) {
                _ if !counts => Cell::Null,
                (Cell::Unchanged, Some(before @ Cell::Text(_))) => before,
                (cell, _) => cell,
            };
            if cell == Cell::Unchanged {
                if op != RowOp::InsertOver {
                    return Err(self.bad(column, "a value of a key that the log does not carry".to_owned()));
                }
                self.kept.push(Kept { row, column });
            }
            self.put(column, cell, form).map_err(|reason| self.bad(column, reason))?;
        }
        self.ops.push(op);
        Ok(())
    }

    fn is_key(&self, column: usize) -> bool {
        let name = &self.table.columns[column].name;
        self.table.key.as_ref().is_some_and(|key| key.contains(name))
    }

    fn put(&mut self, column: usize, cell: Cell<'_>, form: Form) -> Result<(), Reason> {
        let (values, nulls) = &mut self.columns[column];
        match cell {
            Cell::Text(text) => {
                values.push_printed(text, form)?;
                nulls.append_non_null();
                self.bytes += text.len();
            }
            Cell::Null | Cell::Unchanged => {
                values.push_null()?;
                nulls.append_null();
            }
        }
        Ok(())
    }

    fn bad(&self, column: usize, reason: Reason) -> BadValue {
        let ColumnDef { name, data_type, .. } = &self.table.columns[column];
        BadValue { column: name.clone(), data_type: data_type.to_string(), reason }
    }

    fn finish(mut self) -> Result<RowChanges, BadValue> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for index in 0..self.columns.len() {
            let (values, nulls) = &mut self.columns[index];
            let array = values.finish(nulls.finish()).map_err(|(_, reason)| self.bad(index, reason))?;
            arrays.push(array);
        }
        let rows = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|error| self.bad(0, error.to_string()))?;
        Ok(RowChanges { rows, ops: self.ops, kept: self.kept })
    }
}
