//! Tables as lists of rows: what a source would hold, and the changes that it would tell of.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use headwater_source::{Change, ColumnDef, Kept, RowChanges, RowOp, TableChange, TableDef, ValueClass};

use crate::dice::Dice;

pub(crate) type Row = Vec<ScalarValue>;

/// A table as its source holds it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) definition: TableDef,
    pub(crate) rows: Vec<Row>,
    key: Option<usize>,
}

/// Where the tests' clock starts, in microseconds since 1970: noon of a day among those of the rows.
pub(crate) const CLOCK_US: i64 = (9_022 * 24 + 12) * 3_600_000_000;

/// How a source tells of an update.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Keys,
    Rows,
}

pub(crate) fn column(name: &str, data_type: DataType) -> ColumnDef {
    let class = ValueClass::of_computed(&data_type);
    ColumnDef::new(name, data_type, "", class)
}

impl Model {
    pub(crate) fn new(name: &'static str, columns: Vec<ColumnDef>, key: Option<usize>) -> Self {
        let mut definition = TableDef::new([name], columns);
        if let Some(key) = key {
            let name = definition.columns[key].name.clone();
            definition.columns[key].nullable = false;
            definition = definition.with_key([name]);
        }
        Self { name, definition, rows: vec![], key }
    }

    pub(crate) fn batch(&self) -> RecordBatch {
        batch(&self.definition.schema(), &self.rows)
    }

    /// A transaction's worth of random changes, made and told.
    pub(crate) fn change(&mut self, table: usize, dice: &mut Dice) -> Vec<TableChange> {
        let mut changes = Vec::new();
        for _ in 0..=dice.roll(4) {
            let change = match dice.roll(40) {
                0 => {
                    self.rows.clear();
                    Change::Truncate
                }
                1..=20 => self.insert(dice),
                21..=30 => self.delete(dice),
                _ => self.update(dice),
            };
            changes.push(TableChange { table, change });
        }
        changes
    }

    pub(crate) fn insert(&mut self, dice: &mut Dice) -> Change {
        let (mut rows, mut ops) = (vec![], vec![]);
        for _ in 0..=dice.roll(5) {
            let row = self.random_row(dice);
            if self.is_free(&row, None) {
                self.rows.push(row.clone());
                rows.push(row);
                ops.push(RowOp::Insert);
            }
        }
        self.told(rows, ops, vec![])
    }

    pub(crate) fn delete(&mut self, dice: &mut Dice) -> Change {
        let (mut rows, mut ops) = (vec![], vec![]);
        for _ in 0..=dice.roll(3) {
            if self.rows.is_empty() {
                break;
            }
            let gone = self.rows.swap_remove(dice.roll(self.rows.len()));
            let (row, op) = self.deletion(gone, dice);
            rows.push(row);
            ops.push(op);
        }
        self.told(rows, ops, vec![])
    }

    fn update(&mut self, dice: &mut Dice) -> Change {
        let (mut rows, mut ops, mut kept) = (vec![], vec![], vec![]);
        for _ in 0..=dice.roll(4) {
            if self.rows.is_empty() {
                break;
            }
            let place = dice.roll(self.rows.len());
            let old = self.rows[place].clone();
            let mut new = self.random_row(dice);
            if let Some(key) = self.key
                && !dice.once_in(4)
            {
                new[key] = old[key].clone();
            }
            if !self.is_free(&new, Some(place)) {
                continue;
            }
            let (gone, op) = self.deletion(old.clone(), dice);
            rows.push(gone);
            ops.push(op);
            let mut told = new.clone();
            for column in 0..new.len() {
                if Some(column) != self.key && dice.once_in(4) {
                    new[column] = old[column].clone();
                    told[column] = null(&self.definition.columns[column].data_type);
                    kept.push(Kept { row: rows.len(), column });
                }
            }
            rows.push(told);
            ops.push(RowOp::InsertOver);
            self.rows[place] = new;
        }
        self.told(rows, ops, kept)
    }

    fn deletion(&self, gone: Row, dice: &mut Dice) -> (Row, RowOp) {
        let Some(key) = self.key else { return (gone, RowOp::DeleteRow) };
        match dice.pick(&[Style::Keys, Style::Rows]) {
            Style::Rows => (gone, RowOp::DeleteRow),
            Style::Keys => {
                let columns = self.definition.columns.iter().enumerate();
                let row = columns.map(
                    |(index, column)| {
                        if index == key { gone[index].clone() } else { null(&column.data_type) }
                    },
                );
                (row.collect(), RowOp::DeleteKey)
            }
        }
    }

    fn told(&self, rows: Vec<Row>, ops: Vec<RowOp>, kept: Vec<Kept>) -> Change {
        Change::Rows(RowChanges { rows: batch(&loose(&self.definition.schema()), &rows), ops, kept })
    }

    fn is_free(&self, row: &Row, but: Option<usize>) -> bool {
        let Some(key) = self.key else { return true };
        self.rows.iter().enumerate().all(|(place, other)| Some(place) == but || other[key] != row[key])
    }

    /// A row of few different values, NULLs among them, so that rows meet.
    pub(crate) fn random_row(&self, dice: &mut Dice) -> Row {
        let columns = self.definition.columns.iter().enumerate();
        columns
            .map(|(index, column)| {
                if Some(index) == self.key {
                    return value(&column.data_type, dice.roll(60) as i64);
                }
                if dice.once_in(6) { null(&column.data_type) } else { value(&column.data_type, dice.roll(7) as i64) }
            })
            .collect()
    }
}

fn null(data_type: &DataType) -> ScalarValue {
    ScalarValue::try_from(data_type).expect("a type with a NULL")
}

fn value(data_type: &DataType, number: i64) -> ScalarValue {
    match data_type {
        DataType::Int32 => ScalarValue::Int32(Some(number as i32 - 2)),
        DataType::Int64 => ScalarValue::Int64(Some(number - 2)),
        DataType::Float64 => {
            ScalarValue::Float64(Some([0.5, -0.25, 1024.0, -1024.0, 0.0, 2.5, 0.125][number as usize % 7]))
        }
        DataType::Boolean => ScalarValue::Boolean(Some(number % 2 == 0)),
        DataType::Utf8 => {
            let text = ["", "a", "B", "ab", "a long text that does not fit in place", "é", "b"][number as usize % 7];
            ScalarValue::Utf8(Some(text.to_owned()))
        }
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(i128::from(number) * 137 - 300), *precision, *scale)
        }
        DataType::Date32 => ScalarValue::Date32(Some(number as i32 * 11 + 9000)),
        // Hours apart, around where the tests' clock starts.
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            ScalarValue::TimestampMicrosecond(Some(CLOCK_US + (number - 2) * 3_600_000_000), None)
        }
        other => panic!("no values of {other}"),
    }
}

pub(crate) fn loose(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

pub(crate) fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let columns = (0..schema.fields().len()).map(|column| -> ArrayRef {
        if rows.is_empty() {
            return arrow::array::new_empty_array(schema.field(column).data_type());
        }
        ScalarValue::iter_to_array(rows.iter().map(|row| row[column].clone())).expect("values of one type")
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("columns of the schema")
}
