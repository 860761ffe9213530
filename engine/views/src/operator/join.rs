//! Inner and cross joins: dL x R_old + L_new x dR.
//!
//! A side whose rows a table holds is there only as it is now, so the terms go by that: dL x R_new + L_old x dR where that is the right one, and
//! dL x R_new + L_new x dR - dL x dR where both are. While a view is loaded the tables hold all of their rows, and only the other side's are gone through; of two such
//! sides, one.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::came::Came;
use super::side::{Found, Keyed, OfTable, Pairs, Rows, Side};
use super::{Changes, Description, Expression, Mode, Operator, holds};
use crate::arrangement::{Arrangement, narrow};
use crate::delta::{batch, take_columns};
use crate::maintain::{TableId, Tables};
use crate::mutant::{self, Mutant};
use crate::table::{By, Lookup, WARM_ROWS};
use crate::{Delta, Result};

/// An inner join by equal keys; without keys, a cross join.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) left: Side,
    pub(crate) right: Side,
    left_rows: Arrangement,
    right_rows: Arrangement,
    /// Rows that tables hold for it, and rows that it gave out, as of the last step.
    held: usize,
    multiplied: usize,
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
        let (held, multiplied) = (0, 0);
        Self { left, right, left_rows, right_rows, held, multiplied, filter, nulls_match, joined, columns, schema }
    }

    /// The same join that lets only some columns go on.
    pub(crate) fn with_columns(mut self, columns: Vec<usize>, schema: SchemaRef) -> Self {
        (self.columns, self.schema) = (columns, schema);
        self
    }

    /// Pairs of a delta of one side and the rows of the other.
    fn pairs(&self, of: Of, keyed: &Keyed, held: Option<Lookup<'_>>, out: &mut Vec<Delta>) -> Result<()> {
        let kept = match of {
            Of::Left => &self.right_rows,
            Of::Right => &self.left_rows,
        };
        let others = Rows::of(kept, held);
        let mut pairs = Pairs::of(&others);
        let mut full = |pairs: &mut Pairs<'_>| self.emit(of, keyed, pairs, out);
        for from in (0..keyed.delta.len()).step_by(WARM_ROWS) {
            let until = keyed.delta.len().min(from + WARM_ROWS);
            others.warm(&keyed.hashes[from..until]);
            for row in (from..until).filter(|row| self.nulls_match || !keyed.is_null(*row)) {
                others.meet((keyed, row, keyed.delta.weights()[row]), &mut pairs, &mut full)?;
            }
        }
        full(&mut pairs)
    }

    /// Takes back the pairs of what came or went on both sides: dL x dR.
    fn take_back(&self, left: &[Keyed], right: &[Keyed], out: &mut Vec<Delta>) -> Result<()> {
        let rows = |side: &[Keyed]| side.iter().map(|keyed| keyed.delta.len()).sum::<usize>();
        let (of, more, fewer) =
            if rows(left) < rows(right) { (Of::Right, right, left) } else { (Of::Left, left, right) };
        if fewer.is_empty() {
            return Ok(());
        }
        let came = Came::of(fewer, self.nulls_match);
        for keyed in more {
            let mut of_deltas: Vec<Pairs<'_>> = fewer.iter().map(Pairs::that_came).collect();
            for (row, weight) in keyed.delta.weights().iter().enumerate() {
                came.each(keyed.hashes[row], keyed.keys.bytes(row), |delta, other| {
                    let pairs = &mut of_deltas[delta];
                    pairs.rows.push(narrow(row));
                    pairs.weights.push(-weight * fewer[delta].delta.weights()[other]);
                    if let Found::Came(_, found) = &mut pairs.found {
                        found.push(narrow(other));
                    }
                    if pairs.rows.len() >= BATCH_ROWS { self.emit(of, keyed, pairs, out) } else { Ok(()) }
                })?;
            }
            of_deltas.iter_mut().try_for_each(|pairs| self.emit(of, keyed, pairs, out))?;
        }
        Ok(())
    }

    /// The rows of which sides are gone through: those of a table that is loaded are found by those of the other side.
    fn goes_through(&self, is_loading: bool, left: Option<Lookup<'_>>, right: Option<Lookup<'_>>) -> (bool, bool) {
        match (left, right) {
            _ if !is_loading => (true, true),
            (Some(left), Some(right)) => {
                let goes_left = match (left.is_unique(), right.is_unique()) {
                    (_, true) => true,
                    (true, false) => false,
                    (false, false) => left.rows() >= right.rows(),
                };
                (goes_left, !goes_left)
            }
            (left, right) => (left.is_none(), right.is_none()),
        }
    }

    /// Gives pairs out; they are taken.
    fn emit(&self, of: Of, keyed: &Keyed, pairs: &mut Pairs<'_>, out: &mut Vec<Delta>) -> Result<()> {
        let rows = pairs.rows.len();
        if rows == 0 {
            return Ok(());
        }
        let own = take_columns(keyed.delta.columns(), &pairs.rows)?;
        let columns: Vec<ArrayRef> = match of {
            Of::Left => own.into_iter().chain(self.right.columns(&pairs.found, keyed, &pairs.rows)?).collect(),
            Of::Right => self.left.columns(&pairs.found, keyed, &pairs.rows)?.into_iter().chain(own).collect(),
        };
        let weights = std::mem::take(&mut pairs.weights);
        pairs.clear();
        let project = |columns: &[ArrayRef], rows| {
            batch(&self.schema, self.columns.iter().map(|column| columns[*column].clone()).collect(), rows)
        };
        let Some(filter) = &self.filter else {
            out.push(Delta::new(project(&columns, rows)?, weights)?);
            return Ok(());
        };
        let joined = Delta::new(batch(&self.joined, columns, rows)?, weights)?;
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

fn insert(rows: &mut Arrangement, keyed: &[Keyed], nulls_match: bool) {
    for keyed in keyed {
        for (row, weight) in keyed.delta.weights().iter().enumerate() {
            if row % WARM_ROWS == 0 {
                rows.warm(&keyed.hashes[row..keyed.hashes.len().min(row + WARM_ROWS)]);
            }
            if nulls_match || !keyed.is_null(row) {
                rows.add_hashed(keyed.hashes[row], keyed.keys.bytes(row), keyed.values.bytes(row), *weight);
            }
        }
    }
}

impl Operator for Join {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let (left_held, right_held) = (self.left.held(changes.tables)?, self.right.held(changes.tables)?);
        let (goes_left, goes_right) = self.goes_through(changes.is_loading, left_held, right_held);
        let left = if goes_left { self.left.step(changes)? } else { vec![] };
        let right = if goes_right { self.right.step(changes)? } else { vec![] };
        let mut out = Vec::new();
        left.iter().try_for_each(|keyed| self.pairs(Of::Left, keyed, right_held, &mut out))?;
        if left_held.is_none() && right_held.is_none() {
            insert(&mut self.left_rows, &left, self.nulls_match);
        }
        right.iter().try_for_each(|keyed| self.pairs(Of::Right, keyed, left_held, &mut out))?;
        if left_held.is_none() && right_held.is_some() {
            insert(&mut self.left_rows, &left, self.nulls_match);
        }
        if right_held.is_none() {
            insert(&mut self.right_rows, &right, self.nulls_match);
        }
        if left_held.is_some() && right_held.is_some() {
            self.take_back(&left, &right, &mut out)?;
        }
        if mutant::has(Mutant::JoinForgetsPairsOfNewRows) {
            self.take_back(&left, &right, &mut out)?;
        }
        self.held = left_held.iter().chain(&right_held).map(Lookup::rows).sum();
        self.multiplied = out.iter().map(Delta::len).sum();
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
            rows: self.left_rows.rows() + self.right_rows.rows() + self.held,
            bytes: self.left_rows.bytes() + self.right_rows.bytes(),
        }
    }

    fn lookups(&self) -> Vec<(TableId, By)> {
        let tables = [&self.left, &self.right].into_iter().filter_map(Side::table);
        tables.map(|OfTable { table, by, .. }| (*table, by.clone())).collect()
    }

    fn gathers(&self, tables: Tables<'_>) -> Result<Vec<&dyn Operator>> {
        let goes = self.goes_through(true, self.left.held(tables)?, self.right.held(tables)?);
        let sides = [(goes.0, &self.left), (goes.1, &self.right)];
        Ok(sides.into_iter().filter(|(goes, _)| *goes).map(|(_, side)| side.input.as_ref()).collect())
    }

    fn multiplied(&self) -> usize {
        self.multiplied
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.left.input.as_ref(), self.right.input.as_ref()]
    }
}
