//! MIN, MAX and COUNT(DISTINCT): the values of each group as an ordered multiset, so that the next one is there when one goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::DataType;

use super::accumulate::{Accumulate, Input};
use crate::arrangement::narrow;
use crate::rows::{Bytes, Codec};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Least,
    Greatest,
}

/// The least or the greatest value of each group.
#[derive(Debug)]
pub(crate) struct Extreme {
    values: Values,
    which: Which,
    data_type: DataType,
}

/// How many different values each group has.
#[derive(Debug)]
pub(crate) struct CountDistinct {
    values: Values,
}

#[derive(Debug)]
struct Values {
    codec: Codec,
    groups: Vec<BTreeMap<Bytes, i64>>,
    entries: usize,
    heap: usize,
}

impl Extreme {
    pub(crate) fn new(data_type: &DataType, which: Which) -> Result<Self> {
        Ok(Self { values: Values::new(data_type)?, which, data_type: data_type.clone() })
    }
}

impl CountDistinct {
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        Ok(Self { values: Values::new(data_type)? })
    }
}

impl Values {
    fn new(data_type: &DataType) -> Result<Self> {
        Ok(Self { codec: Codec::new([data_type])?, groups: vec![], entries: 0, heap: 0 })
    }

    fn update(&mut self, rows: &Input<'_>, columns: Vec<ArrayRef>) -> Result<()> {
        let encoded = self.codec.encode(&columns, rows.groups.len())?;
        rows.each(|row, group, weight| {
            let bytes = encoded.bytes(row);
            let values = &mut self.groups[group];
            match values.get_mut(bytes) {
                Some(count) => {
                    *count += weight;
                    if *count == 0 {
                        values.remove(bytes);
                        self.entries -= 1;
                        self.heap -= Bytes::from(bytes).heap();
                    }
                }
                None => {
                    let value = Bytes::from(bytes);
                    self.heap += value.heap();
                    self.entries += 1;
                    values.insert(value, weight);
                }
            }
        });
        Ok(())
    }

    fn forget(&mut self, group: u32) {
        let values = std::mem::take(&mut self.groups[group as usize]);
        self.entries -= values.len();
        self.heap -= values.keys().map(Bytes::heap).sum::<usize>();
    }

    fn bytes(&self) -> usize {
        self.heap
            + self.groups.capacity() * size_of::<BTreeMap<Bytes, i64>>()
            // A node of a B-tree is two thirds full on average.
            + self.entries * (size_of::<Bytes>() + size_of::<i64>()) * 3 / 2
    }
}

impl Accumulate for Extreme {
    fn resize(&mut self, groups: usize) {
        self.values.groups.resize_with(groups, BTreeMap::new);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        self.values.update(rows, vec![Arc::clone(&rows.arguments[0])])
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let mut found = Vec::new();
        let mut places = Vec::with_capacity(groups.len());
        for group in groups {
            let values = &self.values.groups[*group as usize];
            let extreme = match self.which {
                Which::Least => values.first_key_value(),
                Which::Greatest => values.last_key_value(),
            };
            places.push(extreme.map(|(value, _)| {
                found.push(value.as_slice());
                narrow(found.len() - 1)
            }));
        }
        let decoded = self.values.codec.decode(found.iter().copied())?;
        let decoded = decoded.into_iter().next().ok_or_else(|| Error::invariant("a column was not decoded"))?;
        if decoded.is_empty() {
            return Ok(new_null_array(&self.data_type, groups.len()));
        }
        if places.iter().all(Option::is_some) {
            return Ok(decoded);
        }
        Ok(take(&decoded, &UInt32Array::from(places), None)?)
    }

    fn forget(&mut self, group: u32) {
        self.values.forget(group);
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
    }
}

impl Accumulate for CountDistinct {
    fn resize(&mut self, groups: usize) {
        self.values.groups.resize_with(groups, BTreeMap::new);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        self.values.update(rows, crate::rows::keyed(vec![Arc::clone(&rows.arguments[0])]))
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let count = |group: &u32| i64::try_from(self.values.groups[*group as usize].len()).unwrap_or(i64::MAX);
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(count))))
    }

    fn forget(&mut self, group: u32) {
        self.values.forget(group);
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
    }
}
