//! GROUP BY with accumulators that rows can be taken from; DISTINCT, where there is nothing to accumulate.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use super::accumulate::{Accumulate, Input};
use super::{Changes, Description, Expression, Mode, Operator, evaluate, holds};
use crate::arrangement::narrow;
use crate::delta::{batch, take_columns};
use crate::rows::{Bytes, Codec, hash, keyed};
use crate::{Delta, Error, Result};

/// One aggregate: its arguments, its FILTER and its state.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) arguments: Vec<Expression>,
    pub(crate) filter: Option<Expression>,
    pub(crate) state: Box<dyn Accumulate>,
}

#[derive(Debug)]
pub(crate) struct Aggregate {
    input: Box<dyn Operator>,
    keys: Vec<Expression>,
    measures: Vec<Measure>,
    codec: Codec,
    results: Codec,
    index: HashTable<u32>,
    groups: Vec<Group>,
    free: Vec<u32>,
    heap: usize,
    /// How many groups, the first ones, are there without rows too: those that group by nothing.
    standing: usize,
    /// The number of the step, by which a group is touched at most once in each.
    step: u64,
    schema: SchemaRef,
}

#[derive(Debug)]
struct Group {
    key: Bytes,
    hash: u64,
    /// How many rows it has.
    rows: i64,
    /// The last step that touched it.
    touched: u64,
}

/// Results before a step, of the groups that it touched.
#[derive(Debug, Default)]
struct Before {
    groups: Vec<u32>,
    /// Whether the group was there, one for each of `groups`.
    shown: Vec<bool>,
    results: Vec<Vec<ArrayRef>>,
}

impl Aggregate {
    pub(crate) fn new(
        input: Box<dyn Operator>,
        keys: Vec<Expression>,
        measures: Vec<Measure>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type()).collect();
        let (codec, results) =
            (Codec::new(types[..keys.len()].iter().copied())?, Codec::new(types[keys.len()..].iter().copied())?);
        let mut aggregate = Self {
            input,
            keys,
            measures,
            codec,
            results,
            index: HashTable::new(),
            groups: vec![],
            free: vec![],
            heap: 0,
            standing: 0,
            step: 0,
            schema,
        };
        // Without GROUP BY there is one group.
        if aggregate.keys.is_empty() {
            aggregate.stand(&[], 1)?;
        }
        Ok(aggregate)
    }

    /// Says that the groups of these keys are there without rows too. Only before any row has come.
    pub(crate) fn stand(&mut self, keys: &[ArrayRef], count: usize) -> Result<()> {
        let encoded = self.codec.encode(keys, count)?;
        (0..count).for_each(|row| {
            self.group_of(encoded.bytes(row));
        });
        self.standing = self.groups.len();
        Ok(())
    }

    fn stands(&self, group: u32) -> bool {
        (group as usize) < self.standing
    }

    fn group_of(&mut self, key: &[u8]) -> u32 {
        let hash = hash(key);
        let groups = &self.groups;
        if let Some(found) = self.index.find(hash, |group| groups[*group as usize].key.as_slice() == key) {
            return *found;
        }
        let group = Group { key: key.into(), hash, rows: 0, touched: 0 };
        self.heap += group.key.heap();
        let place = match self.free.pop() {
            Some(place) => {
                self.groups[place as usize] = group;
                place
            }
            None => {
                self.groups.push(group);
                let count = self.groups.len();
                self.measures.iter_mut().for_each(|measure| measure.state.resize(count));
                narrow(count - 1)
            }
        };
        let groups = &self.groups;
        self.index.insert_unique(hash, place, |group| groups[*group as usize].hash);
        place
    }

    fn remove(&mut self, place: u32) {
        let hash = self.groups[place as usize].hash;
        if let Ok(entry) = self.index.find_entry(hash, |group| *group == place) {
            entry.remove();
        }
        let group = &mut self.groups[place as usize];
        self.heap -= group.key.heap();
        group.key = Bytes::from(&[][..]);
        self.measures.iter_mut().for_each(|measure| measure.state.forget(place));
        self.free.push(place);
    }

    fn update(&mut self, delta: &Delta, before: &mut Before) -> Result<()> {
        let keys = self.keys.iter().map(|key| evaluate(key, delta.rows())).collect::<Result<Vec<_>>>()?;
        let encoded = self.codec.encode(&keyed(keys), delta.len())?;
        let groups: Vec<u32> = (0..delta.len()).map(|row| self.group_of(encoded.bytes(row))).collect();
        self.touch(&groups, before)?;
        for (group, weight) in groups.iter().zip(delta.weights()) {
            self.groups[*group as usize].rows += weight;
        }
        for measure in &mut self.measures {
            let arguments = measure.arguments.iter().map(|argument| evaluate(argument, delta.rows()));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let filter: Option<BooleanArray> =
                measure.filter.as_ref().map(|filter| holds(filter, delta.rows())).transpose()?;
            let weights = delta.weights();
            let rows = Input { groups: &groups, weights, arguments: &arguments, filter: filter.as_ref() };
            measure.state.update(&rows)?;
        }
        Ok(())
    }

    /// Keeps the results of groups that this step has not touched yet.
    fn touch(&mut self, groups: &[u32], before: &mut Before) -> Result<()> {
        let first = before.groups.len();
        for place in groups {
            let stands = self.stands(*place);
            let group = &mut self.groups[*place as usize];
            if group.touched != self.step {
                group.touched = self.step;
                before.groups.push(*place);
                before.shown.push(group.rows > 0 || (stands && self.step > 1));
            }
        }
        let shown: Vec<u32> = before.groups[first..]
            .iter()
            .zip(&before.shown[first..])
            .filter_map(|(group, shown)| shown.then_some(*group))
            .collect();
        if !shown.is_empty() {
            before.results.push(self.evaluate(&shown)?);
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.measures.iter().map(|measure| measure.state.evaluate(groups)).collect()
    }

    /// What the touched groups give back and out: nothing where a group shows what it showed before.
    fn settle(&mut self, before: Before) -> Result<Vec<Delta>> {
        let old = self.concat(&before)?;
        let old_bytes = self.results.encode(&old, before.shown.iter().filter(|shown| **shown).count())?;
        let shows = |group: u32| self.groups[group as usize].rows > 0 || self.stands(group);
        let live: Vec<u32> = before.groups.iter().copied().filter(|group| shows(*group)).collect();
        let new = self.evaluate(&live)?;
        let new_bytes = self.results.encode(&new, live.len())?;
        let (mut gone, mut gone_groups, mut come, mut come_groups) = (vec![], vec![], vec![], vec![]);
        let (mut old_row, mut new_row) = (0, 0);
        for (group, shown) in before.groups.iter().zip(&before.shown) {
            if self.groups[*group as usize].rows < 0 {
                return Err(Error::invariant("a group holds less than no rows"));
            }
            let shows = shows(*group);
            let same = *shown && shows && old_bytes.bytes(old_row) == new_bytes.bytes(new_row);
            if *shown && !same {
                gone.push(narrow(old_row));
                gone_groups.push(*group);
            }
            if shows && !same {
                come.push(narrow(new_row));
                come_groups.push(*group);
            }
            old_row += usize::from(*shown);
            new_row += usize::from(shows);
        }
        let mut out = Vec::new();
        self.emit(&gone_groups, take_columns(&old, &gone)?, -1, &mut out)?;
        self.emit(&come_groups, take_columns(&new, &come)?, 1, &mut out)?;
        for group in before.groups {
            if self.groups[group as usize].rows == 0 && !self.stands(group) {
                self.remove(group);
            }
        }
        Ok(out)
    }

    fn concat(&self, before: &Before) -> Result<Vec<ArrayRef>> {
        let column = |index: usize| -> Result<ArrayRef> {
            let parts: Vec<&dyn arrow::array::Array> =
                before.results.iter().map(|results| results[index].as_ref()).collect();
            let data_type = self.schema.field(self.keys.len() + index).data_type();
            Ok(if parts.is_empty() {
                arrow::array::new_empty_array(data_type)
            } else {
                arrow::compute::concat(&parts)?
            })
        };
        (0..self.measures.len()).map(column).collect()
    }

    fn emit(&self, groups: &[u32], results: Vec<ArrayRef>, weight: i64, out: &mut Vec<Delta>) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let keys = self.codec.decode(groups.iter().map(|group| self.groups[*group as usize].key.as_slice()))?;
        let columns = keys.into_iter().chain(results).collect();
        let rows = batch(&self.schema, columns, groups.len())?;
        out.push(Delta::new(rows, vec![weight; groups.len()])?);
        Ok(())
    }
}

impl Operator for Aggregate {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let deltas = self.input.step(changes)?;
        self.step += 1;
        let mut before = Before::default();
        if changes.first {
            let standing: Vec<u32> = (0..narrow(self.standing)).collect();
            self.touch(&standing, &mut before)?;
        }
        for delta in deltas.iter().filter(|delta| !delta.is_empty()) {
            self.update(delta, &mut before)?;
        }
        self.settle(before)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        let names: Vec<&str> = self.measures.iter().map(|measure| measure.name.as_str()).collect();
        let keys: Vec<&str> =
            self.schema.fields()[..self.keys.len()].iter().map(|field| field.name().as_str()).collect();
        let operator = match (keys.is_empty(), names.is_empty()) {
            (_, true) => format!("distinct {}", keys.join(", ")),
            (true, _) => format!("aggregate {}", names.join(", ")),
            _ => format!("aggregate {} by {}", names.join(", "), keys.join(", ")),
        };
        Description {
            operator,
            mode: Mode::Incremental,
            rows: self.groups.len() - self.free.len(),
            bytes: self.heap
                + self.groups.capacity() * size_of::<Group>()
                + self.index.capacity() * (size_of::<u32>() + 1)
                + self.measures.iter().map(|measure| measure.state.bytes()).sum::<usize>(),
        }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}
