//! Operators without state: what they do to a row they do to its delta.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;

use super::{Changes, Description, Expression, Operator, evaluate, holds};
use crate::delta::{batch, under};
use crate::plan::Input;
use crate::{Delta, Result};

/// Reads an input.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) input: Input,
    pub(crate) name: String,
    pub(crate) columns: Vec<usize>,
    pub(crate) schema: SchemaRef,
}

/// Computes columns.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) input: Box<dyn Operator>,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) schema: SchemaRef,
}

/// Keeps the rows for which a condition holds.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) input: Box<dyn Operator>,
    pub(crate) condition: Expression,
    /// The columns of the input that go on.
    pub(crate) schema: SchemaRef,
}

/// The rows of all inputs.
#[derive(Debug)]
pub(crate) struct Union {
    pub(crate) inputs: Vec<Box<dyn Operator>>,
    pub(crate) schema: SchemaRef,
}

/// Each row once for every grouping set: its own columns, the keys with NULL for those that the set leaves out, the set's number.
#[derive(Debug)]
pub(crate) struct Expand {
    pub(crate) input: Box<dyn Operator>,
    pub(crate) keys: Vec<Expression>,
    /// For each set which keys it has, and its number.
    pub(crate) sets: Vec<(Vec<bool>, ScalarValue)>,
    pub(crate) schema: SchemaRef,
}

impl Operator for Scan {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let Some(deltas) = changes.deltas.get(&self.input) else { return Ok(vec![]) };
        let pruned = |delta: &Delta| {
            let columns = self.columns.iter().map(|column| Arc::clone(delta.rows().column(*column))).collect();
            Ok(delta.with_rows(batch(&self.schema, columns, delta.len())?))
        };
        deltas.iter().filter(|delta| !delta.is_empty()).map(pruned).collect()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless(format!("scan {}", self.name))
    }

    fn reads(&self) -> Option<Input> {
        Some(self.input)
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![]
    }
}

impl Operator for Project {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let computed = |delta: &Delta| {
            let columns = self.expressions.iter().map(|expression| evaluate(expression, delta.rows()));
            Ok(delta.with_rows(batch(&self.schema, columns.collect::<Result<_>>()?, delta.len())?))
        };
        self.input.step(changes)?.iter().map(computed).collect()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless("project")
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}

impl Operator for Expand {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let mut all = Vec::new();
        for delta in self.input.step(changes)? {
            let keys = self.keys.iter().map(|key| evaluate(key, delta.rows())).collect::<Result<Vec<ArrayRef>>>()?;
            for (has, number) in &self.sets {
                let of_set = keys.iter().zip(has).map(|(key, has)| match has {
                    true => Arc::clone(key),
                    false => new_null_array(key.data_type(), key.len()),
                });
                let number = number.to_array_of_size(delta.len())?;
                let columns = delta.columns().iter().cloned().chain(of_set).chain([number]).collect();
                all.push(delta.with_rows(batch(&self.schema, columns, delta.len())?));
            }
        }
        Ok(all)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless(format!("expand to {} grouping sets", self.sets.len()))
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}

impl Operator for Filter {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let mut kept = Vec::new();
        for delta in self.input.step(changes)? {
            let mask = holds(&self.condition, delta.rows())?;
            match mask.true_count() {
                0 => {}
                all if all == delta.len() => kept.push(delta),
                _ => kept.push(delta.filtered(&mask)?),
            }
        }
        Ok(kept)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless(format!("filter {}", self.condition))
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }
}

impl Operator for Union {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let mut all = Vec::new();
        for input in &mut self.inputs {
            for delta in input.step(changes)? {
                all.push(delta.with_rows(under(&self.schema, delta.rows())?));
            }
        }
        Ok(all)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description::stateless("union all")
    }

    fn children(&self) -> Vec<&dyn Operator> {
        self.inputs.iter().map(AsRef::as_ref).collect()
    }
}
