//! The rows of a table as a join looks them up.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::Table;
use super::index::Index;
use crate::{Error, Result};

/// A table by some of its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(super) table: &'a Table,
    /// `None`: by the table's key.
    pub(super) index: Option<&'a Index>,
}

impl Lookup<'_> {
    /// The place of each row of a key and how often it is there.
    pub(crate) fn each(&self, hash: u64, key: &[u8], mut row: impl FnMut(u32, i64) -> Result<()>) -> Result<()> {
        let (one, many) = self.places(hash, key);
        one.iter().chain(many).try_for_each(|place| row(*place, self.count_at(*place)))
    }

    /// How many rows a key has.
    pub(crate) fn count(&self, hash: u64, key: &[u8]) -> i64 {
        let (one, many) = self.places(hash, key);
        match self.table.key {
            Some(_) => (one.iter().len() + many.len()) as i64,
            None => many.iter().map(|place| self.count_at(*place)).sum(),
        }
    }

    fn places(&self, hash: u64, key: &[u8]) -> (Option<u32>, &[u32]) {
        match self.index {
            Some(index) => (None, index.get(&self.table.held, hash, key)),
            None => (self.table.place(hash, key), &[]),
        }
    }

    fn count_at(&self, place: u32) -> i64 {
        if self.table.key.is_some() { 1 } else { self.table.entry(place).count }
    }

    /// Some columns of rows, by their places.
    pub(crate) fn columns(&self, columns: &[usize], places: &[u32]) -> Result<Vec<ArrayRef>> {
        let table = self.table;
        let rows: Vec<(&[u8], &[u8])> = places.iter().map(|place| table.held.get(*place)).collect();
        let (mut keys, mut others) = (None, None);
        let mut decoded = Vec::with_capacity(columns.len());
        for column in columns {
            if let Some(of_one_width) = table.layout.decode(*column, &rows) {
                decoded.push(of_one_width?);
                continue;
            }
            let (of_part, part, codec, bytes) = match table.key_columns.contains(column) {
                true => (&mut keys, &table.key_columns, &table.key_codec, rows.iter().map(|row| row.0).collect()),
                false => {
                    (&mut others, &table.other_columns, &table.other_codec, rows.iter().map(|row| row.1).collect())
                }
            };
            let bytes: Vec<&[u8]> = bytes;
            if of_part.is_none() {
                *of_part = Some(codec.decode(bytes)?);
            }
            let place = part.iter().position(|other| other == column);
            let found = of_part.as_ref().zip(place).map(|(columns, place)| Arc::clone(&columns[place]));
            decoded.push(found.ok_or_else(|| Error::invariant("a column of a table is in neither of its parts"))?);
        }
        Ok(decoded)
    }

    /// Loads what keys of these hashes will need into the processor's cache.
    pub(crate) fn warm(&self, hashes: &[u64]) {
        match self.index {
            Some(index) => index.warm(&self.table.held, hashes),
            None => self.table.warm(hashes),
        }
    }

    /// Whether a key has one row at most.
    pub(crate) fn is_unique(&self) -> bool {
        self.index.is_none()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.table.count()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::cast::AsArray;
    use arrow::array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
    use headwater_source::{Change, RowChanges, RowOp};
    use proptest::prelude::*;

    use super::*;
    use crate::rows::Codec;
    use crate::table::By;

    type Row = (i64, Option<i32>, String);

    const COLUMNS: [usize; 3] = [0, 1, 2];

    fn table(key: Option<&[String]>) -> Table {
        let fields = [("id", DataType::Int64), ("shop", DataType::Int32), ("note", DataType::Utf8)];
        let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
        Table::of("s".into(), "t".into(), Arc::new(schema), key).unwrap()
    }

    fn rows(table: &Table, rows: &[Row]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
            Arc::new(rows.iter().map(|row| Some(&*row.2)).collect::<StringArray>()),
        ];
        RecordBatch::try_new(Arc::clone(table.schema()), columns).unwrap()
    }

    fn read(columns: &[ArrayRef], row: usize) -> Row {
        let shops = columns[1].as_primitive::<Int32Type>();
        let shop = (!shops.is_null(row)).then(|| shops.value(row));
        (columns[0].as_primitive::<Int64Type>().value(row), shop, columns[2].as_string::<i32>().value(row).to_owned())
    }

    fn shops() -> By {
        By { columns: vec![1], nulls: true }
    }

    /// Every row by every shop, as often as it is there.
    fn by_shop(table: &Table) -> Vec<Row> {
        let codec = Codec::new([&DataType::Int32]).unwrap();
        let mut found = Vec::new();
        for shop in (0..4).map(Some).chain([None]) {
            let keys = codec.encode(&[Arc::new(Int32Array::from(vec![shop]))], 1).unwrap();
            let lookup = table.lookup(&shops()).unwrap();
            let (mut places, mut counts) = (vec![], vec![]);
            let each = lookup.each(keys.hashes(1)[0], keys.bytes(0), |place, count| {
                places.push(place);
                counts.push(count);
                Ok(())
            });
            each.unwrap();
            assert_eq!(lookup.count(keys.hashes(1)[0], keys.bytes(0)), counts.iter().sum::<i64>());
            let columns = lookup.columns(&COLUMNS, &places).unwrap();
            for (row, count) in counts.iter().enumerate() {
                let row = read(&columns, row);
                assert_eq!(row.1, shop);
                found.extend((0..*count).map(|_| row.clone()));
            }
        }
        found.sort();
        found
    }

    fn contents(table: &Table) -> Vec<Row> {
        let mut all = Vec::new();
        for delta in table.contents().unwrap() {
            for (row, weight) in delta.weights().iter().enumerate() {
                all.extend((0..*weight).map(|_| read(delta.columns(), row)));
            }
        }
        all.sort();
        all
    }

    fn change(table: &Table, ops: &[(RowOp, Row)]) -> Change {
        let (ops, of_ops): (Vec<RowOp>, Vec<Row>) = ops.iter().cloned().unzip();
        Change::Rows(RowChanges { rows: rows(table, &of_ops), ops, kept: vec![] })
    }

    fn row() -> impl Strategy<Value = Row> {
        (0_i64..12, proptest::option::of(0_i32..4), "[a-z]{0,30}")
    }

    proptest! {
        /// Inserts where the key is free, updates and deletes where it is not; epochs that are finished or undone; truncations; other rows altogether.
        #[test]
        fn index_finds_what_the_table_holds(steps in proptest::collection::vec((row(), 0_u8..12), 1..80), is_keyed: bool) {
            let key = is_keyed.then(|| ["id".to_owned()]);
            let mut table = table(key.as_ref().map(|key| &key[..]));
            let user = table.index(&shops()).unwrap();
            for (row, dice) in steps {
                let held = contents(&table).into_iter().find(|held| if is_keyed { held.0 == row.0 } else { held.0 >= row.0 });
                let ops = match (held, dice) {
                    (_, 0) => {
                        table.apply(&Change::Truncate).unwrap();
                        vec![]
                    }
                    (_, 1) => {
                        let mut other = table.emptied().unwrap();
                        other.load(&rows(&table, std::slice::from_ref(&row))).unwrap();
                        table.finish();
                        table.replace(other).unwrap();
                        vec![]
                    }
                    (Some(old), 2..6) => vec![(RowOp::DeleteRow, old)],
                    (Some(old), _) if is_keyed => vec![(RowOp::DeleteKey, old), (RowOp::InsertOver, row)],
                    (Some(old), 6..9) => vec![(RowOp::DeleteRow, old), (RowOp::InsertOver, row)],
                    (_, _) => vec![(RowOp::Insert, row)],
                };
                if !ops.is_empty() {
                    let change = change(&table, &ops);
                    table.apply(&change).unwrap();
                }
                prop_assert_eq!(by_shop(&table), contents(&table));
                match dice % 3 {
                    0 => table.undo(),
                    1 => table.finish(),
                    _ => {}
                }
                prop_assert_eq!(by_shop(&table), contents(&table));
            }
            drop(user);
            table.forget_unused();
            prop_assert!(table.lookup(&shops()).is_none());
        }
    }

    #[test]
    fn contents_come_in_the_order_in_which_rows_lie_and_not_in_that_of_their_hashes() {
        let mut table = table(Some(&["id".to_owned()]));
        let all: Vec<Row> = (0..5_000).rev().map(|id| (id, Some(1), String::new())).collect();
        let loaded = rows(&table, &all);
        table.load(&loaded).unwrap();
        let read = table.contents().unwrap();
        let ids = read[0].columns()[0].as_primitive::<Int64Type>();
        assert_eq!(ids.values(), &(0..5_000).rev().collect::<Vec<_>>()[..]);
    }

    /// Its hashes are those of the rows. Filled in their order, which it was, this takes minutes.
    #[test]
    fn index_by_all_columns_of_a_table_without_key_finds_every_row() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let mut table = Table::of("s".into(), "t".into(), Arc::clone(&schema), None).unwrap();
        let ids: ArrayRef = Arc::new((0..100_000).collect::<Int64Array>());
        table.load(&RecordBatch::try_new(schema, vec![Arc::clone(&ids)]).unwrap()).unwrap();
        let by = By { columns: vec![0], nulls: false };
        let _user = table.index(&by).unwrap().unwrap();
        let keys = Codec::new([&DataType::Int64]).unwrap().encode(&[ids], 100_000).unwrap();
        let lookup = table.lookup(&by).unwrap();
        let hashes = keys.hashes(100_000);
        assert!((0..100_000).all(|row| lookup.count(hashes[row], keys.bytes(row)) == 1));
    }

    #[test]
    fn group_of_many_rows_is_found_while_it_grows_and_shrinks() {
        let mut table = table(Some(&["id".to_owned()]));
        let _user = table.index(&shops()).unwrap();
        let of = |id: i64| (id, Some(1), format!("{id:03}"));
        let all: Vec<(RowOp, Row)> = (0..900).map(|id| (RowOp::Insert, of(id))).collect();
        let inserted = change(&table, &all);
        table.apply(&inserted).unwrap();
        for id in (0..900).map(|number| number * 7 % 900) {
            let deleted = change(&table, &[(RowOp::DeleteKey, of(id))]);
            table.apply(&deleted).unwrap();
            if id % 50 == 0 {
                assert_eq!(by_shop(&table), contents(&table));
            }
        }
        table.finish();
        assert_eq!(table.count(), 0);
    }
}
