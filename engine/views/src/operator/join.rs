//! Inner and cross joins: dL x R_old + L_new x dR.
//!
//! A side whose rows a table holds is there only as it is now, so the terms go by that: dL x R_new + L_old x dR where that is the right one, and
//! dL x R_new + L_new x dR - dL x dR where both are. While a view is loaded the tables hold all of their rows, and only the other side's are gone through; of two such
//! sides, one.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::side::{Found, Keyed, OfTable, Side};
use super::{Changes, Description, Expression, Mode, Operator, holds};
use crate::arrangement::{Arrangement, narrow};
use crate::delta::{batch, take_columns};
use crate::maintain::TableId;
use crate::mutant::{self, Mutant};
use crate::rows::Fixed;
use crate::table::{Lookup, WARM_ROWS};
use crate::{Delta, Result};

/// An inner join by equal keys; without keys, a cross join.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) left: Side,
    pub(crate) right: Side,
    left_rows: Arrangement,
    right_rows: Arrangement,
    /// Rows and bytes that tables hold for it, as of the last step.
    held: (usize, usize),
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
        Self { left, right, left_rows, right_rows, held: (0, 0), filter, nulls_match, joined, columns, schema }
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
        let begin = || Pairs::of(held.map_or(Found::Kept(vec![]), |lookup| Found::Held(lookup, vec![])));
        let mut pairs = begin();
        for from in (0..keyed.delta.len()).step_by(WARM_ROWS) {
            let until = keyed.delta.len().min(from + WARM_ROWS);
            let hashes = &keyed.hashes[from..until];
            held.map_or_else(|| kept.warm(hashes), |lookup| lookup.warm(hashes));
            for row in from..until {
                if !self.nulls_match && keyed.is_null(row) {
                    continue;
                }
                let (key, weight) = (keyed.keys.bytes(row), keyed.delta.weights()[row]);
                match &mut pairs.found {
                    Found::Held(lookup, places) => lookup.each(keyed.hashes[row], key, |place, count| {
                        places.push(place);
                        pairs.rows.push(narrow(row));
                        pairs.weights.push(weight * count);
                    }),
                    Found::Kept(found) => {
                        for other in kept.get_hashed(keyed.hashes[row], key).map_or(&[][..], |group| group.rows()) {
                            found.push(other.value());
                            pairs.rows.push(narrow(row));
                            pairs.weights.push(weight * other.weight);
                        }
                    }
                    Found::Came(..) => {}
                }
                if pairs.rows.len() >= BATCH_ROWS {
                    self.emit(of, keyed, std::mem::replace(&mut pairs, begin()), out)?;
                }
            }
        }
        self.emit(of, keyed, pairs, out)
    }

    /// Takes back the pairs of what came or went on both sides: dL x dR.
    fn take_back(&self, left: &[Keyed], right: &[Keyed], out: &mut Vec<Delta>) -> Result<()> {
        for right in right {
            let mut rows: HashMap<&[u8], Vec<u32>, Fixed> = HashMap::default();
            for row in (0..right.delta.len()).filter(|row| self.nulls_match || !right.is_null(*row)) {
                rows.entry(right.keys.bytes(row)).or_default().push(narrow(row));
            }
            for left in left {
                let (mut own, mut others, mut weights) = (vec![], vec![], vec![]);
                for (row, weight) in left.delta.weights().iter().enumerate() {
                    for other in rows.get(left.keys.bytes(row)).into_iter().flatten() {
                        own.push(narrow(row));
                        others.push(*other);
                        weights.push(-weight * right.delta.weights()[*other as usize]);
                    }
                    let is_last = row + 1 == left.delta.len();
                    if own.len() >= BATCH_ROWS || is_last {
                        let found = Found::Came(right, std::mem::take(&mut others));
                        let (rows, weights) = (std::mem::take(&mut own), std::mem::take(&mut weights));
                        self.emit(Of::Left, left, Pairs { rows, found, weights }, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn emit(&self, of: Of, keyed: &Keyed, pairs: Pairs<'_>, out: &mut Vec<Delta>) -> Result<()> {
        let rows = pairs.rows.len();
        if rows == 0 {
            return Ok(());
        }
        let own = take_columns(keyed.delta.columns(), &pairs.rows)?;
        let columns: Vec<ArrayRef> = match of {
            Of::Left => own.into_iter().chain(self.right.columns(&pairs.found, keyed, &pairs.rows)?).collect(),
            Of::Right => self.left.columns(&pairs.found, keyed, &pairs.rows)?.into_iter().chain(own).collect(),
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

/// Rows of a delta, and those of the other side that they found.
struct Pairs<'a> {
    rows: Vec<u32>,
    found: Found<'a>,
    weights: Vec<i64>,
}

impl<'a> Pairs<'a> {
    fn of(found: Found<'a>) -> Self {
        Self { rows: vec![], found, weights: vec![] }
    }
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
        let (left_held, right_held) = (self.left.held(changes)?, self.right.held(changes)?);
        // The rows of which side are gone through: those of a table that is loaded are found by those of the other.
        let (goes_left, goes_right) = match (changes.is_loading, left_held, right_held) {
            (true, Some(_), Some(right)) => (right.is_unique(), !right.is_unique()),
            (is_loading, left, right) => (!is_loading || left.is_none(), !is_loading || right.is_none()),
        };
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
        let held = || left_held.iter().chain(&right_held);
        self.held = (held().map(Lookup::rows).sum(), held().map(Lookup::bytes).sum());
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
            rows: self.left_rows.rows() + self.right_rows.rows() + self.held.0,
            bytes: self.left_rows.bytes() + self.right_rows.bytes() + self.held.1,
        }
    }

    fn lookups(&self) -> Vec<(TableId, Vec<usize>)> {
        let tables = [&self.left, &self.right].into_iter().filter_map(Side::table);
        tables.map(|OfTable { table, key, .. }| (*table, key.clone())).collect()
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.left.input.as_ref(), self.right.input.as_ref()]
    }
}
