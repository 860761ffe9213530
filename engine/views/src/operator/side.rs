//! One side of a join: its input, its key, and how its rows are kept.
//!
//! A column that is itself a part of the key is not kept with the row; it is read from the key.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use datafusion::physical_expr::expressions::Column;

use super::{Changes, Expression, Operator, evaluate};
use crate::delta::take_columns;
use crate::rows::{Codec, Encoded, keyed};
use crate::{Delta, Result};

#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) input: Box<dyn Operator>,
    keys: Vec<Expression>,
    key_codec: Codec,
    /// Where each column of the input is kept.
    places: Vec<Place>,
    values: Vec<usize>,
    value_codec: Codec,
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
        Ok(Self { keys, key_codec, places, values, value_codec, input })
    }

    /// The input's deltas.
    pub(crate) fn step(&mut self, changes: &Changes) -> Result<Vec<Keyed>> {
        let deltas = self.input.step(changes)?;
        deltas.into_iter().filter(|delta| !delta.is_empty()).map(|delta| self.keyed(delta)).collect()
    }

    fn keyed(&self, delta: Delta) -> Result<Keyed> {
        let key_columns = self.keys.iter().map(|key| evaluate(key, delta.rows())).collect::<Result<Vec<_>>>()?;
        let key_columns = keyed(key_columns);
        let keys = self.key_codec.encode(&key_columns, delta.len())?;
        let columns: Vec<ArrayRef> = self.values.iter().map(|index| delta.columns()[*index].clone()).collect();
        let values = self.value_codec.encode(&columns, delta.len())?;
        let nulls = key_columns
            .iter()
            .fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
        let hashes = keys.hashes(delta.len());
        Ok(Keyed { delta, keys, hashes, values, key_columns, nulls: nulls.filter(|nulls| nulls.null_count() > 0) })
    }

    /// The columns of rows of this side, found by the keys of rows of the other.
    pub(crate) fn found(&self, values: &[&[u8]], other: &Keyed, others: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys = take_columns(&other.key_columns, others)?;
        self.assemble(&keys, values)
    }

    /// The columns of rows of this side, from what is kept of them.
    pub(crate) fn restore(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let keys = self.key_codec.decode(keys.iter().copied())?;
        self.assemble(&keys, values)
    }

    fn assemble(&self, keys: &[ArrayRef], values: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let values_columns = self.value_codec.decode(values.iter().copied())?;
        let column = |(index, place): (usize, &Place)| match place {
            Place::Key(key) => keys[*key].clone(),
            Place::Value(value) => values_columns[*value].clone(),
            Place::Nowhere => arrow::array::new_null_array(self.input.schema().field(index).data_type(), values.len()),
        };
        Ok(self.places.iter().enumerate().map(column).collect())
    }
}

impl Keyed {
    /// Whether some part of the row's key is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}
