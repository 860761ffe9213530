//! Inner and cross joins: dL x R_old + L_new x dR.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::side::{Keyed, Side};
use super::{Changes, Description, Expression, Mode, Operator, holds};
use crate::arrangement::Arrangement;
use crate::delta::{batch, take_columns};
use crate::mutant::{self, Mutant};
use crate::{Delta, Result};

/// An inner join by equal keys; without keys, a cross join.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) left: Side,
    pub(crate) right: Side,
    left_rows: Arrangement,
    right_rows: Arrangement,
    /// What must hold besides, over the columns of both sides.
    filter: Option<Expression>,
    /// Whether NULL is equal to NULL.
    nulls_match: bool,
    /// The columns of both sides.
    joined: SchemaRef,
    /// Those that go on.
    columns: Vec<usize>,
    schema: SchemaRef,
}

/// A delta batch has at most about so many rows.
pub(crate) const BATCH_ROWS: usize = 32_768;

impl Join {
    pub(crate) fn new(
        left: Side,
        right: Side,
        filter: Option<Expression>,
        nulls_match: bool,
        joined: SchemaRef,
    ) -> Self {
        let columns = (0..joined.fields().len()).collect();
        let (left_rows, right_rows) = Default::default();
        let schema = SchemaRef::clone(&joined);
        Self { left, right, left_rows, right_rows, filter, nulls_match, joined, columns, schema }
    }

    /// The same join that lets only some columns go on.
    pub(crate) fn with_columns(mut self, columns: Vec<usize>, schema: SchemaRef) -> Self {
        (self.columns, self.schema) = (columns, schema);
        self
    }

    fn pairs(&self, of: Of, keyed: &Keyed, out: &mut Vec<Delta>) -> Result<()> {
        let other = match of {
            Of::Left => &self.right_rows,
            Of::Right => &self.left_rows,
        };
        other.warm(&keyed.hashes);
        let mut pairs = Pairs::default();
        for (row, weight) in keyed.delta.weights().iter().enumerate() {
            if !self.nulls_match && keyed.is_null(row) {
                continue;
            }
            let Some(group) = other.get_hashed(keyed.hashes[row], keyed.keys.bytes(row)) else { continue };
            for found in group.rows() {
                pairs.rows.push(crate::arrangement::narrow(row));
                pairs.found.push(found.value());
                pairs.weights.push(weight * found.weight);
                if pairs.rows.len() >= BATCH_ROWS {
                    self.emit(of, keyed, std::mem::take(&mut pairs), out)?;
                }
            }
        }
        self.emit(of, keyed, pairs, out)
    }

    fn emit(&self, of: Of, keyed: &Keyed, pairs: Pairs<'_>, out: &mut Vec<Delta>) -> Result<()> {
        let rows = pairs.rows.len();
        if rows == 0 {
            return Ok(());
        }
        let own = take_columns(keyed.delta.columns(), &pairs.rows)?;
        let columns: Vec<ArrayRef> = match of {
            Of::Left => own.into_iter().chain(self.right.found(&pairs.found, keyed, &pairs.rows)?).collect(),
            Of::Right => self.left.found(&pairs.found, keyed, &pairs.rows)?.into_iter().chain(own).collect(),
        };
        let project = |columns: &[ArrayRef], rows| {
            batch(&self.schema, self.columns.iter().map(|column| columns[*column].clone()).collect(), rows)
        };
        let Some(filter) = &self.filter else {
            out.push(Delta::new(project(&columns, rows)?, pairs.weights)?);
            return Ok(());
        };
        let joined = Delta::new(batch(&self.joined, columns, rows)?, pairs.weights)?;
        let joined = joined.filtered(&holds(filter, joined.rows())?)?;
        if !joined.is_empty() {
            out.push(joined.with_rows(project(joined.columns(), joined.len())?));
        }
        Ok(())
    }
}

/// Whose delta meets the rows of the other.
#[derive(Debug, Clone, Copy)]
enum Of {
    Left,
    Right,
}

#[derive(Default)]
struct Pairs<'a> {
    rows: Vec<u32>,
    found: Vec<&'a [u8]>,
    weights: Vec<i64>,
}

fn insert(rows: &mut Arrangement, keyed: &Keyed, nulls_match: bool) {
    rows.warm(&keyed.hashes);
    for (row, weight) in keyed.delta.weights().iter().enumerate() {
        if nulls_match || !keyed.is_null(row) {
            rows.add_hashed(keyed.hashes[row], keyed.keys.bytes(row), keyed.values.bytes(row), *weight);
        }
    }
}

impl Operator for Join {
    fn step(&mut self, changes: &Changes) -> Result<Vec<Delta>> {
        let (left, right) = (self.left.step(changes)?, self.right.step(changes)?);
        let mut out = Vec::new();
        for keyed in &left {
            self.pairs(Of::Left, keyed, &mut out)?;
        }
        let forgets = mutant::has(Mutant::JoinForgetsPairsOfNewRows);
        if forgets {
            right.iter().try_for_each(|keyed| self.pairs(Of::Right, keyed, &mut out))?;
        }
        for keyed in &left {
            insert(&mut self.left_rows, keyed, self.nulls_match);
        }
        for keyed in right.iter().filter(|_| !forgets) {
            self.pairs(Of::Right, keyed, &mut out)?;
        }
        for keyed in &right {
            insert(&mut self.right_rows, keyed, self.nulls_match);
        }
        Ok(out)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        let filter = self.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
        Description {
            operator: format!("inner join{filter}"),
            mode: Mode::Incremental,
            rows: self.left_rows.rows() + self.right_rows.rows(),
            bytes: self.left_rows.bytes() + self.right_rows.bytes(),
        }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.left.input.as_ref(), self.right.input.as_ref()]
    }
}
