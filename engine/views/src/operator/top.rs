//! ORDER BY with LIMIT: all rows in order, of which a window shows.
//!
//! Rows that are equal in what they are ordered by are ordered by all of their columns, so that which of them show is always the same.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::{Changes, Description, Expression, Mode, Operator, evaluate};
use crate::delta::batch;
use crate::rows::{Bytes, Codec, Fixed};
use crate::{Delta, Error, Result};

/// What rows are ordered by.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) expression: Expression,
    pub(crate) options: SortOptions,
}

#[derive(Debug)]
pub(crate) struct Top {
    input: Box<dyn Operator>,
    order: Vec<Order>,
    skip: usize,
    fetch: Option<usize>,
    order_codec: Codec,
    codec: Codec,
    rows: BTreeMap<(Bytes, Bytes), i64>,
    heap: usize,
    /// How many rows have a weight below zero: none but while an epoch is under way.
    negative: usize,
}

impl Top {
    pub(crate) fn new(input: Box<dyn Operator>, order: Vec<Order>, skip: usize, fetch: Option<usize>) -> Result<Self> {
        let schema = input.schema();
        let types = order
            .iter()
            .map(|order| Ok((order.expression.data_type(schema)?, order.options)))
            .collect::<Result<Vec<_>>>()?;
        let order_codec = Codec::ordered(types.iter().map(|(data_type, options)| (data_type, *options)))?;
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        Ok(Self { input, order, skip, fetch, order_codec, codec, rows: BTreeMap::new(), heap: 0, negative: 0 })
    }

    /// The rows that show, each with how often.
    fn window(&self) -> Vec<(Bytes, i64)> {
        let mut skip = i64::try_from(self.skip).unwrap_or(i64::MAX);
        let mut left = self.fetch.map_or(i64::MAX, |fetch| i64::try_from(fetch).unwrap_or(i64::MAX));
        let mut shown = Vec::new();
        for ((_, row), weight) in &self.rows {
            if left == 0 {
                break;
            }
            let skipped = skip.min(*weight);
            skip -= skipped;
            let show = (weight - skipped).min(left);
            if show > 0 {
                left -= show;
                shown.push((row.clone(), show));
            }
        }
        shown
    }

    fn apply(&mut self, delta: &Delta) -> Result<()> {
        let keys: Vec<ArrayRef> =
            self.order.iter().map(|order| evaluate(&order.expression, delta.rows())).collect::<Result<_>>()?;
        let keys = self.order_codec.encode(&keys, delta.len())?;
        let rows = self.codec.encode(delta.columns(), delta.len())?;
        for (row, weight) in delta.weights().iter().enumerate() {
            let place = (Bytes::from(keys.bytes(row)), Bytes::from(rows.bytes(row)));
            let heap = place.0.heap() + place.1.heap();
            match self.rows.entry(place) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(*weight);
                    self.heap += heap;
                    self.negative += usize::from(*weight < 0);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let before = *entry.get();
                    *entry.get_mut() += weight;
                    self.negative -= usize::from(before < 0);
                    self.negative += usize::from(before + weight < 0);
                    if *entry.get() == 0 {
                        entry.remove();
                        self.heap -= heap;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Operator for Top {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let deltas = self.input.step(changes)?;
        if deltas.is_empty() {
            return Ok(vec![]);
        }
        let before = self.window();
        for delta in &deltas {
            self.apply(delta)?;
        }
        if self.negative != 0 {
            return Err(Error::invariant("an ordered row is there less than no times"));
        }
        let mut change: HashMap<Bytes, i64, Fixed> = HashMap::default();
        let after = self.window();
        let signed =
            before.iter().map(|(row, weight)| (row, -weight)).chain(after.iter().map(|(row, weight)| (row, *weight)));
        for (row, weight) in signed {
            *change.entry(row.clone()).or_insert(0) += weight;
        }
        let changed: Vec<(&Bytes, i64)> =
            change.iter().filter(|(_, weight)| **weight != 0).map(|(row, weight)| (row, *weight)).collect();
        if changed.is_empty() {
            return Ok(vec![]);
        }
        let columns = self.codec.decode(changed.iter().map(|(row, _)| row.as_slice()))?;
        let rows = batch(self.input.schema(), columns, changed.len())?;
        Ok(vec![Delta::new(rows, changed.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())?])
    }

    fn schema(&self) -> &SchemaRef {
        self.input.schema()
    }

    fn describe(&self) -> Description {
        let order: Vec<String> = self.order.iter().map(|order| order.expression.to_string()).collect();
        let fetch = self.fetch.map(|fetch| format!(" limit {fetch}")).unwrap_or_default();
        let skip = if self.skip > 0 { format!(" offset {}", self.skip) } else { String::new() };
        Description {
            operator: format!("top by {}{fetch}{skip}", order.join(", ")),
            mode: Mode::Incremental,
            rows: self.rows.len(),
            bytes: self.heap + self.rows.len() * (2 * size_of::<Bytes>() + size_of::<i64>()) * 3 / 2,
        }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}
