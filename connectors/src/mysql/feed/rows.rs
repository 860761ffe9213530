//! Rows of one transaction into its changes, a batch for each table.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use headwater_source::{Change, RowChanges, RowOp, TableChange};
use mysql_common::value::Value;

use super::super::decode::Builder;
use super::event::Malformed;
use super::row::row;
use super::tables::Followed;

/// A batch of changes ends when it holds so many rows.
const BATCH_ROWS: usize = 65_536;
/// How many bytes of text and binary strings end it before.
const BATCH_BYTES: usize = 16 << 20;

/// Why rows cannot be taken.
pub(super) enum Bad {
    Row(Malformed),
    /// A value of a column that no scan can read either.
    Value(usize, &'static str),
}

impl From<Malformed> for Bad {
    fn from(what: Malformed) -> Self {
        Self::Row(what)
    }
}

/// What an event does with its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    Update,
    Delete,
}

/// The changes of a transaction so far.
#[derive(Default)]
pub(super) struct Changes {
    done: Vec<TableChange>,
    open: BTreeMap<usize, Batch>,
}

struct Batch {
    columns: Vec<Builder>,
    ops: Vec<RowOp>,
    bytes: usize,
}

impl Changes {
    /// Takes the rows of an event.
    pub(super) fn take(
        &mut self,
        index: usize,
        table: &Followed,
        columns: &[(u8, [u8; 2])],
        kind: Kind,
        rows: &[u8],
    ) -> Result<(), Bad> {
        let mut rest = rows;
        while !rest.is_empty() {
            if self.open.get(&index).is_some_and(|batch| batch.ops.len() >= BATCH_ROWS || batch.bytes >= BATCH_BYTES) {
                self.close(index, table)?;
            }
            let batch = match self.open.entry(index) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Batch::new(table)?),
            };
            if kind != Kind::Write {
                batch.gone(table, row(&table.forms, columns, &mut rest)?)?;
            }
            match kind {
                Kind::Write => batch.push(table, RowOp::Insert, row(&table.forms, columns, &mut rest)?)?,
                Kind::Update => batch.push(table, RowOp::InsertOver, row(&table.forms, columns, &mut rest)?)?,
                Kind::Delete => {}
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.open.is_empty()
    }

    /// All rows of a table went.
    pub(super) fn truncate(&mut self, index: usize, table: &Followed) -> Result<(), Bad> {
        self.close(index, table)?;
        self.done.push(TableChange { table: index, change: Change::Truncate });
        Ok(())
    }

    /// All changes.
    pub(super) fn finish(mut self, tables: &[Followed]) -> Result<Vec<TableChange>, Bad> {
        let open: Vec<usize> = self.open.keys().copied().collect();
        for index in open {
            self.close(index, &tables[index])?;
        }
        Ok(self.done)
    }

    fn close(&mut self, index: usize, table: &Followed) -> Result<(), Bad> {
        if let Some(batch) = self.open.remove(&index) {
            let rows = batch.finish(table)?;
            self.done.push(TableChange { table: index, change: Change::Rows(rows) });
        }
        Ok(())
    }
}

impl Batch {
    fn new(table: &Followed) -> Result<Self, Bad> {
        let columns = table.table.columns.iter().map(Builder::of).collect::<Result<_, _>>();
        let columns = columns.map_err(|_| Bad::Row("a column of a type that is not read"))?;
        Ok(Self { columns, ops: vec![], bytes: 0 })
    }

    fn gone(&mut self, table: &Followed, mut old: Vec<Value>) -> Result<(), Bad> {
        let Some(key) = &table.table.key else { return self.push(table, RowOp::DeleteRow, old) };
        for (value, column) in old.iter_mut().zip(&table.columns) {
            if !key.contains(&table.table.columns[*column].name) {
                *value = Value::NULL;
            }
        }
        self.push(table, RowOp::DeleteKey, old)
    }

    fn push(&mut self, table: &Followed, op: RowOp, values: Vec<Value>) -> Result<(), Bad> {
        for (value, column) in values.into_iter().zip(&table.columns) {
            if let Value::Bytes(bytes) = &value {
                self.bytes += bytes.len();
            }
            self.columns[*column].push((&value).into()).map_err(|reason| Bad::Value(*column, reason))?;
        }
        self.ops.push(op);
        Ok(())
    }

    fn finish(mut self, table: &Followed) -> Result<RowChanges, Bad> {
        let defs = &table.table.columns;
        let arrays = self.columns.iter_mut().zip(defs).map(|(builder, column)| builder.finish(&column.data_type));
        let rows = RecordBatch::try_new(RowChanges::schema(&table.table), arrays.collect());
        let rows = rows.map_err(|_| Bad::Row("rows that make no batch"))?;
        Ok(RowChanges { rows, ops: self.ops, kept: vec![] })
    }
}
