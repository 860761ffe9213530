//! One side of a join: its input, its key, and how its rows are kept.
//!
//! A column that is itself a part of the key is not kept with the row; it is read from the key. A side that is a table of a service with nothing in between keeps nothing: its
//! rows are looked up where the table holds them for everyone.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use datafusion::physical_expr::expressions::Column;

use super::join::BATCH_ROWS;
use super::{Changes, Expression, Operator, evaluate};
use crate::arrangement::{Arrangement, narrow};
use crate::delta::take_columns;
use crate::maintain::{TableId, Tables};
use crate::rows::{Codec, Encoded, keyed};
use crate::table::{By, Lookup};
use crate::{Delta, Error, Result};

#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) input: Box<dyn Operator>,
    keys: Vec<Expression>,
    key_codec: Codec,
    /// Where each column of the input is kept.
    places: Vec<Place>,
    values: Vec<usize>,
    value_codec: Codec,
    table: Option<OfTable>,
}

/// A table whose rows are those of a side.
#[derive(Debug, Clone)]
pub(crate) struct OfTable {
    pub(crate) table: TableId,
    /// Its columns that are the side's key.
    pub(crate) by: By,
    /// Its columns that are the side's.
    pub(crate) columns: Vec<usize>,
}

/// The rows of a side, wherever they are.
#[derive(Debug)]
pub(crate) enum Rows<'a, E> {
    Kept(&'a Arrangement<E>),
    Held(Lookup<'a>),
}

/// Rows of a delta, and those of the other side that they found.
#[derive(Debug)]
pub(crate) struct Pairs<'a> {
    pub(crate) rows: Vec<u32>,
    pub(crate) found: Found<'a>,
    pub(crate) weights: Vec<i64>,
}

/// Rows of a side that a key of the other side found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// As they are kept.
    Kept(Vec<&'a [u8]>),
    /// By their places in the table.
    Held(Lookup<'a>, Vec<u32>),
    /// In a delta of the side.
    Came(&'a Keyed, Vec<u32>),
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Key(usize),
    Value(usize),
    /// Not kept: nobody asks for it.
    Nowhere,
}

/// What of a row is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All columns.
    Rows,
    /// Only the key: rows of one key are alike.
    Keys,
}

/// A delta with the bytes of its keys and rows.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) delta: Delta,
    pub(crate) keys: Encoded,
    /// Of the keys.
    pub(crate) hashes: Vec<u64>,
    pub(crate) values: Encoded,
    key_columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
}

impl<'a, E> Rows<'a, E> {
    /// Those of a table, or those that are kept.
    pub(crate) fn of(kept: &'a Arrangement<E>, held: Option<Lookup<'a>>) -> Self {
        held.map_or(Self::Kept(kept), Self::Held)
    }

    /// Loads what keys of these hashes will need into the processor's cache.
    pub(crate) fn warm(&self, hashes: &[u64]) {
        match self {
            Self::Kept(kept) => kept.warm(hashes),
            Self::Held(lookup) => lookup.warm(hashes),
        }
    }

    /// How many rows the key of a row of the other side has.
    pub(crate) fn count(&self, keyed: &Keyed, row: usize) -> i64 {
        let (hash, key) = (keyed.hashes[row], keyed.keys.bytes(row));
        match self {
            Self::Kept(kept) => {
                kept.get_hashed(hash, key).map_or(0, |group| group.rows().iter().map(|row| row.weight).sum())
            }
            Self::Held(lookup) => lookup.count(hash, key),
        }
    }

    /// Adds the pairs of a row of the other side; its weight goes into theirs. Where there are many, `full` takes them in between.
    pub(crate) fn meet(
        &self,
        (keyed, row, weight): (&Keyed, usize, i64),
        pairs: &mut Pairs<'a>,
        full: &mut impl FnMut(&mut Pairs<'a>) -> Result<()>,
    ) -> Result<()> {
        let (hash, key) = (keyed.hashes[row], keyed.keys.bytes(row));
        let mut add = |pairs: &mut Pairs<'a>, count: i64| {
            pairs.rows.push(narrow(row));
            pairs.weights.push(weight * count);
            if pairs.rows.len() >= BATCH_ROWS { full(pairs) } else { Ok(()) }
        };
        match self {
            Self::Kept(kept) => {
                for other in kept.get_hashed(hash, key).map_or(&[][..], |group| group.rows()) {
                    if let Found::Kept(found) = &mut pairs.found {
                        found.push(other.value());
                    }
                    add(pairs, other.weight)?;
                }
                Ok(())
            }
            Self::Held(lookup) => lookup.each(hash, key, |place, count| {
                if let Found::Held(_, places) = &mut pairs.found {
                    places.push(place);
                }
                add(pairs, count)
            }),
        }
    }
}

impl<'a> Pairs<'a> {
    /// None yet.
    pub(crate) fn of<E>(rows: &Rows<'a, E>) -> Self {
        let found = match rows {
            Rows::Kept(_) => Found::Kept(vec![]),
            Rows::Held(lookup) => Found::Held(*lookup, vec![]),
        };
        Self { rows: vec![], found, weights: vec![] }
    }

    /// None yet, with rows of a delta.
    pub(crate) fn that_came(keyed: &'a Keyed) -> Self {
        Self { rows: vec![], found: Found::Came(keyed, vec![]), weights: vec![] }
    }

    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.weights.clear();
        match &mut self.found {
            Found::Kept(found) => found.clear(),
            Found::Held(_, places) | Found::Came(_, places) => places.clear(),
        }
    }
}

impl Side {
    pub(crate) fn new(input: Box<dyn Operator>, keys: Vec<Expression>, keep: Keep) -> Result<Self> {
        let schema = input.schema();
        let key_types = keys.iter().map(|key| Ok(key.data_type(schema)?)).collect::<Result<Vec<_>>>()?;
        let mut places = Vec::with_capacity(schema.fields().len());
        let mut values = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            // A float in a key has lost the sign of its zero.
            let in_key = |key: &Expression| {
                !field.data_type().is_floating()
                    && key.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
            };
            places.push(match keys.iter().position(in_key) {
                Some(key) => Place::Key(key),
                None if keep == Keep::Keys => Place::Nowhere,
                None => {
                    values.push(index);
                    Place::Value(values.len() - 1)
                }
            });
        }
        let key_codec = Codec::new(&key_types)?;
        let value_codec = Codec::new(values.iter().map(|index| schema.field(*index).data_type()))?;
        Ok(Self { keys, key_codec, places, values, value_codec, table: None, input })
    }

    /// The same side, whose rows are those of a table.
    pub(crate) fn of_table(mut self, table: Option<OfTable>) -> Self {
        self.table = table;
        self
    }

    pub(crate) fn table(&self) -> Option<&OfTable> {
        self.table.as_ref()
    }

    /// The table that holds its rows; `None` where the side has to keep them.
    pub(crate) fn held<'a>(&self, tables: Tables<'a>) -> Result<Option<Lookup<'a>>> {
        let Some(OfTable { table, by, .. }) = &self.table else { return Ok(None) };
        let lookup = tables.get(*table).and_then(|table| table.lookup(by));
        lookup.map(Some).ok_or_else(|| Error::invariant("a table is looked up by columns that it has no index of"))
    }

    /// The input's deltas.
    pub(crate) fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Keyed>> {
        let deltas = self.input.step(changes)?;
        deltas.into_iter().filter(|delta| !delta.is_empty()).map(|delta| self.keyed(delta)).collect()
    }

    fn keyed(&self, delta: Delta) -> Result<Keyed> {
        let key_columns = self.keys.iter().map(|key| evaluate(key, delta.rows())).collect::<Result<Vec<_>>>()?;
        let key_columns = keyed(key_columns);
        let keys = self.key_codec.encode(&key_columns, delta.len())?;
        let values = match &self.table {
            Some(_) => Encoded::default(),
            None => {
                let columns: Vec<ArrayRef> = self.values.iter().map(|index| delta.columns()[*index].clone()).collect();
                self.value_codec.encode(&columns, delta.len())?
            }
        };
        let nulls = key_columns
            .iter()
            .fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
        let hashes = keys.hashes(delta.len());
        Ok(Keyed { delta, keys, hashes, values, key_columns, nulls: nulls.filter(|nulls| nulls.null_count() > 0) })
    }

    /// The columns of rows of this side, found by the keys of rows of the other.
    fn found(&self, values: &[&[u8]], other: &Keyed, others: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys = take_columns(&other.key_columns, others)?;
        self.assemble(&keys, values)
    }

    /// The same of rows that are found wherever they are.
    pub(crate) fn columns(&self, found: &Found<'_>, other: &Keyed, others: &[u32]) -> Result<Vec<ArrayRef>> {
        match (found, &self.table) {
            (Found::Kept(values), _) => self.found(values, other, others),
            (Found::Came(keyed, rows), _) => take_columns(keyed.delta.columns(), rows),
            (Found::Held(lookup, places), Some(table)) => {
                let keys = take_columns(&other.key_columns, others)?;
                let columns: Vec<usize> = self.values.iter().map(|value| table.columns[*value]).collect();
                Ok(self.placed(&keys, &lookup.columns(&columns, places)?, places.len()))
            }
            (Found::Held(..), None) => {
                Err(Error::invariant("rows of a table were found for a side that keeps its own"))
            }
        }
    }

    /// The columns of rows of this side, from what is kept of them.
    pub(crate) fn restore(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let keys = self.key_codec.decode(keys.iter().copied())?;
        self.assemble(&keys, values)
    }

    fn assemble(&self, keys: &[ArrayRef], values: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let columns = self.value_codec.decode(values.iter().copied())?;
        Ok(self.placed(keys, &columns, values.len()))
    }

    fn placed(&self, keys: &[ArrayRef], values: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
        let column = |(index, place): (usize, &Place)| match place {
            Place::Key(key) => keys[*key].clone(),
            Place::Value(value) => values[*value].clone(),
            Place::Nowhere => arrow::array::new_null_array(self.input.schema().field(index).data_type(), rows),
        };
        self.places.iter().enumerate().map(column).collect()
    }
}

impl Keyed {
    /// Whether some part of the row's key is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}
