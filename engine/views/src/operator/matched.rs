//! Outer, semi, anti and mark joins: each row is kept with how many rows of the other side it matches.
//!
//! A delta of the right side meets the old left rows and moves their counts; then a delta of the left side meets the new right rows, which
//! counts for new rows and moves the counts of the right ones. What was touched gives its old part back and its new part out.
//!
//! Right rows of which nobody asks how many matches they have are not kept where a table holds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::side::{Found, Keyed, OfTable, Pairs, Rows, Side};
use super::{Changes, Description, Expression, Mode, Operator, holds};
use crate::arrangement::{Arrangement, narrow};
use crate::delta::{batch, take_columns};
use crate::maintain::{TableId, Tables};
use crate::rows::Fixed;
use crate::table::{By, Lookup, WARM_ROWS};
use crate::{Delta, Error, Result};

/// Which rows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchKind {
    /// Pairs, and left rows without a match beside NULLs.
    Left,
    /// Pairs, and rows of either side without a match beside NULLs.
    Full,
    /// Left rows with a match.
    Semi,
    /// Left rows without one.
    Anti,
    /// NOT IN: none while the right side has a NULL, all while it has no row, otherwise left rows without NULL and without a match.
    NotIn,
    /// Left rows with whether they have a match.
    Mark,
}

#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) left: Side,
    pub(crate) right: Side,
    left_rows: Arrangement<i64>,
    right_rows: Arrangement<i64>,
    /// Rows that a table holds for it, and rows that it gave out, as of the last step.
    held: usize,
    multiplied: usize,
    kind: MatchKind,
    filter: Option<Expression>,
    nulls_match: bool,
    /// The left side stands to the right in what `filter` and a pair see.
    swapped: bool,
    /// The columns of both sides, for `filter`.
    joined: SchemaRef,
    schema: SchemaRef,
    not_in: NotIn,
}

/// What NOT IN must know besides.
#[derive(Debug, Default)]
struct NotIn {
    /// Right rows, and those with a NULL among them.
    total: i64,
    nulls: i64,
    /// Left rows with a NULL.
    left: Arrangement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    All,
    Unmatched,
}

/// Weight and matches before the epoch, of each row that it touched.
type Touched = HashMap<(Box<[u8]>, Box<[u8]>), (i64, i64), Fixed>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Left,
    Right,
}

/// A key, a row under it, and by how much the number of its matches changes.
type Moved = (Box<[u8]>, Box<[u8]>, i64);

impl Matched {
    #[allow(clippy::too_many_arguments, reason = "the parts of a join's definition")]
    pub(crate) fn new(
        left: Side,
        mut right: Side,
        kind: MatchKind,
        filter: Option<Expression>,
        nulls_match: bool,
        swapped: bool,
        joined: SchemaRef,
        schema: SchemaRef,
    ) -> Self {
        let (left_rows, right_rows, not_in) = Default::default();
        if matches!(kind, MatchKind::Full | MatchKind::NotIn) {
            right = right.of_table(None);
        }
        Self {
            left,
            right,
            left_rows,
            right_rows,
            held: 0,
            multiplied: 0,
            kind,
            filter,
            nulls_match,
            swapped,
            joined,
            schema,
            not_in,
        }
    }

    fn has_pairs(&self) -> bool {
        matches!(self.kind, MatchKind::Left | MatchKind::Full)
    }

    /// A delta of one side meets the rows of the other: moves their counts, counts its own matches, and gives the pairs out.
    fn meet(
        &mut self,
        of: Which,
        keyed: &Keyed,
        held: Option<Lookup<'_>>,
        touched: &mut Touched,
        out: &mut Vec<Delta>,
    ) -> Result<Vec<i64>> {
        let mut matches = vec![0; keyed.delta.len()];
        let others = match of {
            Which::Left => Rows::of(&self.right_rows, held),
            Which::Right => Rows::Kept(&self.left_rows),
        };
        let counts_alone = of == Which::Left && self.filter.is_none() && !self.has_pairs();
        let mut moved: Vec<Moved> = Vec::new();
        let mut pairs = Pairs::of(&others);
        let mut full = |pairs: &mut Pairs<'_>| self.meet_pairs(of, keyed, pairs, (&mut matches, &mut moved), &mut *out);
        for row in 0..keyed.delta.len() {
            if row % WARM_ROWS == 0 {
                others.warm(&keyed.hashes[row..keyed.hashes.len().min(row + WARM_ROWS)]);
            }
            if !counts_alone && (self.nulls_match || !keyed.is_null(row)) {
                others.meet((keyed, row, 1), &mut pairs, &mut full)?;
            }
        }
        full(&mut pairs)?;
        if counts_alone {
            for row in (0..keyed.delta.len()).filter(|row| self.nulls_match || !keyed.is_null(*row)) {
                matches[row] = others.count(keyed, row);
            }
        }
        let other = match of {
            Which::Left => &mut self.right_rows,
            Which::Right => &mut self.left_rows,
        };
        for (key, value, weight) in moved {
            let row = other.row_mut(&key, &value).ok_or_else(|| Error::invariant("a matched row is gone"))?;
            let before = (row.weight, row.extra);
            row.extra += weight;
            touched.entry((key, value)).or_insert(before);
        }
        Ok(matches)
    }

    /// What comes of pairs: counts of matches, of own rows and of those that were found, and the pairs themselves.
    fn meet_pairs(
        &self,
        of: Which,
        keyed: &Keyed,
        pairs: &mut Pairs<'_>,
        (matches, moved): (&mut [i64], &mut Vec<Moved>),
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        if pairs.rows.is_empty() {
            return Ok(());
        }
        let passed = self.passing(of, keyed, pairs)?;
        for (pair, own) in pairs.rows.iter().enumerate() {
            if passed.as_ref().is_some_and(|passed| !passed.value(pair)) {
                continue;
            }
            let own = *own as usize;
            matches[own] += pairs.weights[pair];
            // Only a full join asks how many matches a right row has.
            if let Found::Kept(found) = &pairs.found
                && (of == Which::Right || self.kind == MatchKind::Full)
            {
                moved.push((keyed.keys.bytes(own).into(), found[pair].into(), keyed.delta.weights()[own]));
            }
        }
        if self.has_pairs() {
            self.emit_pairs(of, keyed, pairs, passed.as_ref(), out)?;
        }
        pairs.clear();
        Ok(())
    }

    /// For which pairs the filter holds; `None` where there is no filter.
    fn passing(&self, of: Which, keyed: &Keyed, pairs: &Pairs<'_>) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let columns = self.pair_columns(of, keyed, pairs)?;
        Ok(Some(holds(filter, &batch(&self.joined, columns, pairs.rows.len())?)?))
    }

    /// The columns of pairs in the order in which the query has them.
    fn pair_columns(&self, of: Which, keyed: &Keyed, pairs: &Pairs<'_>) -> Result<Vec<ArrayRef>> {
        let Pairs { rows, found, .. } = pairs;
        let own = take_columns(keyed.delta.columns(), rows)?;
        let (left, right) = match of {
            Which::Left => (own, self.right.columns(found, keyed, rows)?),
            Which::Right => (self.left.columns(found, keyed, rows)?, own),
        };
        Ok(self.in_order(left, right))
    }

    fn in_order(&self, left: Vec<ArrayRef>, right: Vec<ArrayRef>) -> Vec<ArrayRef> {
        if self.swapped { right.into_iter().chain(left).collect() } else { left.into_iter().chain(right).collect() }
    }

    fn emit_pairs(
        &self,
        of: Which,
        keyed: &Keyed,
        pairs: &Pairs<'_>,
        passed: Option<&BooleanArray>,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        let columns = self.pair_columns(of, keyed, pairs)?;
        let (rows, own) = (&pairs.rows, keyed.delta.weights());
        let weights = rows.iter().zip(&pairs.weights).map(|(row, weight)| own[*row as usize] * weight);
        let weights: Vec<i64> = weights.collect();
        let mut pairs = Delta::new(batch(&self.schema, columns, rows.len())?, weights)?;
        if let Some(passed) = passed {
            pairs = pairs.filtered(passed)?;
        }
        if !pairs.is_empty() {
            out.push(pairs);
        }
        Ok(())
    }

    /// Adds a delta to its own side's rows.
    fn insert(
        &mut self,
        of: Which,
        keyed: &Keyed,
        matches: &[i64],
        touched: &mut Touched,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        let mut alone = Vec::new();
        let rows = match of {
            Which::Left => &mut self.left_rows,
            Which::Right => &mut self.right_rows,
        };
        for (row, weight) in keyed.delta.weights().iter().enumerate() {
            if keyed.is_null(row) && !self.nulls_match {
                alone.push(row);
                continue;
            }
            let (key, value) = (keyed.keys.bytes(row), keyed.values.bytes(row));
            if of == Which::Left || self.kind == MatchKind::Full {
                let before = rows.row(key, value).map_or((0, matches[row]), |row| (row.weight, row.extra));
                touched.entry((key.into(), value.into())).or_insert(before);
            }
            rows.add_with(key, value, *weight, || matches[row]);
        }
        self.match_nothing(of, keyed, &alone, out)
    }

    /// Rows whose key is NULL match nothing, ever.
    fn match_nothing(&mut self, of: Which, keyed: &Keyed, rows: &[usize], out: &mut Vec<Delta>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.kind == MatchKind::NotIn {
            for row in rows.iter().filter(|_| of == Which::Left) {
                let weight = keyed.delta.weights()[*row];
                self.not_in.left.add(keyed.keys.bytes(*row), keyed.values.bytes(*row), weight);
            }
            return Ok(());
        }
        let indices: Vec<u32> = rows.iter().map(|row| narrow(*row)).collect();
        let columns = take_columns(keyed.delta.columns(), &indices)?;
        let weights = rows.iter().map(|row| keyed.delta.weights()[*row]).collect();
        self.emit_single(of, columns, weights, false, out)
    }

    /// Gives rows of one side out as the join does for rows with or without a match.
    fn emit_single(
        &self,
        of: Which,
        columns: Vec<ArrayRef>,
        weights: Vec<i64>,
        matched: bool,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        let rows = weights.len();
        let nulls = |side: &Side| -> Vec<ArrayRef> {
            side.input.schema().fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect()
        };
        let columns = match (self.kind, of, matched) {
            (MatchKind::Left | MatchKind::Full, Which::Left, false) => self.in_order(columns, nulls(&self.right)),
            (MatchKind::Full, Which::Right, false) => self.in_order(nulls(&self.left), columns),
            (MatchKind::Semi, Which::Left, true) | (MatchKind::Anti | MatchKind::NotIn, Which::Left, false) => columns,
            (MatchKind::Mark, Which::Left, matched) => {
                let mark: ArrayRef = Arc::new(BooleanArray::from(vec![matched; rows]));
                columns.into_iter().chain([mark]).collect()
            }
            _ => return Ok(()),
        };
        if rows > 0 {
            out.push(Delta::new(batch(&self.schema, columns, rows)?, weights)?);
        }
        Ok(())
    }

    /// What touched rows give back and out.
    fn settle(&self, of: Which, touched: &Touched, out: &mut Vec<Delta>) -> Result<()> {
        let (side, rows) = match of {
            Which::Left => (&self.left, &self.left_rows),
            Which::Right => (&self.right, &self.right_rows),
        };
        for matched in [false, true] {
            let (mut keys, mut values, mut weights) = (Vec::new(), Vec::new(), Vec::new());
            for ((key, value), (old_weight, old_matches)) in touched {
                let (weight, matches) = rows.row(key, value).map_or((0, 0), |row| (row.weight, row.extra));
                if weight < 0 || matches < 0 {
                    return Err(Error::invariant("a join holds a row less than no times"));
                }
                let part = |weight: i64, matches: i64| if (matches > 0) == matched { weight } else { 0 };
                let change = part(weight, matches) - part(*old_weight, *old_matches);
                if change != 0 {
                    keys.push(&key[..]);
                    values.push(&value[..]);
                    weights.push(change);
                }
            }
            if !weights.is_empty() {
                self.emit_single(of, side.restore(&keys, &values)?, weights, matched, out)?;
            }
        }
        Ok(())
    }

    fn gate(&self) -> Gate {
        match (self.not_in.nulls, self.not_in.total) {
            (1.., _) => Gate::Shut,
            (_, 0) => Gate::All,
            _ => Gate::Unmatched,
        }
    }

    /// Everything that NOT IN gives while the gate stands so.
    fn not_in_rows(&self, gate: Gate, sign: i64, out: &mut Vec<Delta>) -> Result<()> {
        let (mut keys, mut values, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let unmatched = self.left_rows.groups().iter().filter(|_| gate != Gate::Shut);
        for group in unmatched {
            for row in group.rows().iter().filter(|row| row.extra == 0) {
                keys.push(group.key());
                values.push(row.value());
                weights.push(sign * row.weight);
            }
        }
        for group in self.not_in.left.groups().iter().filter(|_| gate == Gate::All) {
            for row in group.rows() {
                keys.push(group.key());
                values.push(row.value());
                weights.push(sign * row.weight);
            }
        }
        if weights.is_empty() {
            return Ok(());
        }
        self.emit_single(Which::Left, self.left.restore(&keys, &values)?, weights, false, out)
    }

    /// NOT IN depends on all of the right side at once: where that turns, everything is given back and out.
    fn step_not_in(&mut self, left: &[Keyed], right: &[Keyed]) -> Result<Vec<Delta>> {
        let mut out = Vec::new();
        let before = self.gate();
        for keyed in right {
            for (row, weight) in keyed.delta.weights().iter().enumerate() {
                self.not_in.total += weight;
                self.not_in.nulls += if keyed.is_null(row) { *weight } else { 0 };
            }
        }
        let after = self.gate();
        if before != after || after == Gate::All {
            self.not_in_rows(before, -1, &mut out)?;
        }
        let mut gradual = Vec::new();
        self.follow(left, right, None, &mut gradual)?;
        if before != after || after == Gate::All {
            self.not_in_rows(after, 1, &mut out)?;
        } else if after == Gate::Unmatched {
            out = gradual;
        }
        Ok(out)
    }

    fn follow(
        &mut self,
        left: &[Keyed],
        right: &[Keyed],
        held: Option<Lookup<'_>>,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        let (mut of_left, mut of_right) = (Touched::default(), Touched::default());
        for keyed in right {
            let matches = self.meet(Which::Right, keyed, held, &mut of_left, out)?;
            if held.is_none() {
                self.insert(Which::Right, keyed, &matches, &mut of_right, out)?;
            }
        }
        for keyed in left {
            let matches = self.meet(Which::Left, keyed, held, &mut of_right, out)?;
            self.insert(Which::Left, keyed, &matches, &mut of_left, out)?;
        }
        self.settle(Which::Left, &of_left, out)?;
        self.settle(Which::Right, &of_right, out)
    }
}

impl Operator for Matched {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let held = self.right.held(changes.tables)?;
        self.held = held.map_or(0, |lookup| lookup.rows());
        let left = self.left.step(changes)?;
        // A table that is loaded holds all of its rows already: those of the left side find them.
        let right = if changes.is_loading && held.is_some() { vec![] } else { self.right.step(changes)? };
        self.multiplied = 0;
        if left.is_empty() && right.is_empty() {
            return Ok(vec![]);
        }
        if self.kind == MatchKind::NotIn {
            return self.step_not_in(&left, &right);
        }
        let mut out = Vec::new();
        self.follow(&left, &right, held, &mut out)?;
        self.multiplied = out.iter().map(Delta::len).sum();
        Ok(out)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        let name = match self.kind {
            MatchKind::Left if self.swapped => "right join",
            MatchKind::Left => "left join",
            MatchKind::Full => "full join",
            MatchKind::Semi => "semi join",
            MatchKind::Anti => "anti join",
            MatchKind::NotIn => "not in",
            MatchKind::Mark => "mark join",
        };
        let filter = self.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
        Description {
            operator: format!("{name}{filter}"),
            mode: Mode::Incremental,
            rows: self.left_rows.rows() + self.right_rows.rows() + self.not_in.left.rows() + self.held,
            bytes: self.left_rows.bytes() + self.right_rows.bytes() + self.not_in.left.bytes(),
        }
    }

    fn lookups(&self) -> Vec<(TableId, By)> {
        self.right.table().map(|OfTable { table, by, .. }| (*table, by.clone())).into_iter().collect()
    }

    fn gathers(&self, _: Tables<'_>) -> Result<Vec<&dyn Operator>> {
        let right = self.right.table().is_none().then_some(&self.right);
        Ok([Some(&self.left), right].into_iter().flatten().map(|side| side.input.as_ref()).collect())
    }

    fn multiplied(&self) -> usize {
        self.multiplied
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.left.input.as_ref(), self.right.input.as_ref()]
    }
}
