//! Rows that are there from the first epoch on and never change: VALUES, a SELECT without FROM.

use arrow::datatypes::SchemaRef;

use super::{Changes, Description, Operator};
use crate::{Delta, Result};

#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) rows: Vec<Delta>,
    pub(crate) schema: SchemaRef,
}

impl Operator for Constant {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        Ok(if changes.first { self.rows.clone() } else { vec![] })
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        let bytes = self.rows.iter().map(|delta| delta.rows().get_array_memory_size()).sum();
        let rows = self.rows.iter().map(Delta::len).sum();
        Description { rows, bytes, ..Description::stateless("values") }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![]
    }
}
