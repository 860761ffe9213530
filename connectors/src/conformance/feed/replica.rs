//! A copy of a source's tables, kept by its feed: what whoever follows a feed does, in the plainest way.

use std::collections::{HashMap, VecDeque};

use arrow::array::RecordBatch;
use headwater_source::{Change, Position, RowChanges, RowOp, ScalarValue, TableDef, TablesAt, Transaction};

use futures::TryStreamExt;

use super::super::Violation;

const RULE: &str = "changes fit the rows that they change";

/// A row.
pub type Row = Vec<ScalarValue>;

/// Tables as they were at a position.
#[derive(Debug, Clone)]
pub struct Replica {
    tables: Vec<Table>,
    position: Position,
}

#[derive(Debug, Clone)]
struct Table {
    columns: usize,
    /// The columns of the key; none where rows are told apart as wholes.
    key: Option<Vec<usize>>,
    /// Rows by their key, or by themselves, with how many of them there are.
    rows: HashMap<Row, (Row, usize)>,
}

impl Replica {
    /// Loads a snapshot.
    pub async fn load(defs: &[TableDef], at: TablesAt) -> Result<Self, Violation> {
        let TablesAt { position, tables: streams } = at;
        let mut tables = Vec::with_capacity(defs.len());
        for (def, stream) in defs.iter().zip(streams) {
            let mut table = Table::new(def);
            let batches: Vec<RecordBatch> =
                stream.try_collect().await.map_err(|error| broken(&def.name, &error.report()))?;
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    table.insert(values(batch, row)?).map_err(|what| broken(&def.name, &what))?;
                }
            }
            tables.push(table);
        }
        Ok(Self { tables, position })
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Takes a transaction.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), Violation> {
        if transaction.position <= self.position {
            let detail = format!("{} comes after {}", transaction.position, self.position);
            return Err(Violation { rule: "positions grow", detail });
        }
        for change in &transaction.changes {
            let Some(table) = self.tables.get_mut(change.table) else {
                return Err(broken("", &format!("a change of table {}", change.table)));
            };
            match &change.change {
                Change::Truncate => table.rows.clear(),
                Change::Rows(rows) => {
                    let applied = table.apply(rows);
                    applied.map_err(|what| {
                        broken(&change.table.to_string(), &format!("{what} at {}", transaction.position))
                    })?;
                }
            }
        }
        self.position = transaction.position.clone();
        Ok(())
    }

    /// The rows of a table in some order, each as often as it is there.
    pub fn rows(&self, table: usize) -> Vec<Row> {
        let rows = self.tables[table].rows.values();
        rows.flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count)).collect()
    }

    /// Whether a table has exactly these rows.
    pub fn equals(&self, table: usize, batches: &[RecordBatch]) -> Result<(), Violation> {
        let mut expected: HashMap<Row, isize> = HashMap::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                *expected.entry(values(batch, row)?).or_default() += 1;
            }
        }
        for row in self.rows(table) {
            *expected.entry(row).or_default() -= 1;
        }
        let wrong: Vec<String> = expected
            .into_iter()
            .filter(|(_, count)| *count != 0)
            .map(|(row, count)| format!("{row:?} {}", if count > 0 { "is missing" } else { "is not there" }))
            .take(3)
            .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Violation {
                rule: "snapshot and changes are the table",
                detail: format!("table {table} at {}: {}", self.position, wrong.join("; ")),
            }),
        }
    }
}

impl Table {
    fn new(def: &TableDef) -> Self {
        let index = |name: &String| def.column_index(name);
        let key = def.key.as_ref().and_then(|key| key.iter().map(index).collect());
        Self { columns: def.columns.len(), key, rows: HashMap::new() }
    }

    fn key_of(&self, row: &Row) -> Row {
        match &self.key {
            Some(key) => key.iter().map(|index| row[*index].clone()).collect(),
            None => row.clone(),
        }
    }

    fn insert(&mut self, row: Row) -> Result<(), String> {
        let key = self.key_of(&row);
        let unique = self.key.is_some();
        let (_, count) = self.rows.entry(key).or_insert((row.clone(), 0));
        *count += 1;
        match unique && *count > 1 {
            true => Err(format!("row {row:?} comes twice")),
            false => Ok(()),
        }
    }

    fn remove(&mut self, row: &Row) -> Result<Row, String> {
        let key = self.key_of(row);
        let Some((old, count)) = self.rows.get_mut(&key) else {
            return Err(format!("row {key:?} goes that is not there"));
        };
        let old = old.clone();
        *count -= 1;
        if *count == 0 {
            self.rows.remove(&key);
        }
        Ok(old)
    }

    fn apply(&mut self, changes: &RowChanges) -> Result<(), String> {
        let RowChanges { rows, ops, kept } = changes;
        if ops.len() != rows.num_rows() || rows.num_columns() != self.columns {
            return Err(format!(
                "{} rows of {} columns for {} changes",
                rows.num_rows(),
                rows.num_columns(),
                ops.len()
            ));
        }
        let mut kept: VecDeque<_> = kept.iter().collect();
        let mut replaced: Option<Row> = None;
        for (index, op) in ops.iter().enumerate() {
            let mut row = values(rows, index).map_err(|violation| violation.detail)?;
            match op {
                RowOp::Insert => {
                    replaced = None;
                    self.insert(row)?;
                }
                RowOp::DeleteKey | RowOp::DeleteRow => replaced = Some(self.remove(&row)?),
                RowOp::InsertOver => {
                    let old = replaced.take().ok_or("a row takes the place of none")?;
                    while let Some(cell) = kept.front().filter(|cell| cell.row == index) {
                        row[cell.column] = old[cell.column].clone();
                        kept.pop_front();
                    }
                    self.insert(row)?;
                }
            }
        }
        match kept.is_empty() {
            true => Ok(()),
            false => Err("cells are kept that no row takes over".to_owned()),
        }
    }
}

/// The values of a row.
fn values(batch: &RecordBatch, row: usize) -> Result<Row, Violation> {
    let value = |column: &arrow::array::ArrayRef| ScalarValue::try_from_array(column, row);
    let values = batch.columns().iter().map(value).collect::<Result<Row, _>>();
    values.map_err(|error| broken("", &error.to_string()))
}

fn broken(table: &str, detail: &str) -> Violation {
    Violation { rule: RULE, detail: format!("table {table}: {detail}") }
}
