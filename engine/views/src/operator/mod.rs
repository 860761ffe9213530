//! What a view's query is compiled to: a tree of operators, each of which turns the deltas of its inputs into the delta of its output.
//!
//! An operator is asked once an epoch. What it gives is exact as a multiset: added up with all that it gave before, it is what the query
//! over its inputs gives now. An operator that failed is not asked again; its view is rebuilt.

mod accumulate;
mod aggregate;
mod came;
mod constant;
mod exact;
mod extremes;
mod join;
mod matched;
mod mean;
mod recompute;
mod side;
mod stateless;
mod temporal;
mod top;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

pub(crate) use accumulate::accumulator;
pub(crate) use aggregate::{Aggregate, Measure};
pub(crate) use constant::Constant;
pub(crate) use join::Join;
pub(crate) use matched::{MatchKind, Matched};
pub(crate) use recompute::{Recompute, RowWise};
pub(crate) use side::{Keep, OfTable, Side};
pub(crate) use stateless::{Expand, Filter, Project, Scan, Union};
pub(crate) use temporal::{Temporal, Waiting, Watched};
pub(crate) use top::{Order, Top};

use crate::maintain::{TableId, Tables};
use crate::plan::Input;
use crate::table::By;
use crate::{Delta, Result};

/// What an epoch did to the tables and views that a query reads.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    /// By input. One that is not there did not change.
    pub(crate) deltas: HashMap<Input, Vec<Delta>>,
    /// The tables as they are now.
    pub(crate) tables: Tables<'a>,
    /// Whether this is the first that the operators see.
    pub(crate) first: bool,
    /// Whether these are rows that the tables hold already: a piece of the contents from which a view begins.
    pub(crate) is_loading: bool,
    /// The time, in nanoseconds since 1970. It never goes back.
    pub(crate) now: i64,
}

/// A node of a view's query.
pub(crate) trait Operator: Debug + Send {
    /// What the changes do to the operator's output.
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>>;

    /// The output's columns, all nullable.
    fn schema(&self) -> &SchemaRef;

    /// What it is and how it is kept, for EXPLAIN.
    fn describe(&self) -> Description;

    /// Its inputs.
    fn children(&self) -> Vec<&dyn Operator>;

    /// The tables in which it looks rows up, and by which columns; its inputs' own are theirs.
    fn lookups(&self) -> Vec<(TableId, By)> {
        vec![]
    }

    /// What it reads, where that is an input of the view.
    fn reads(&self) -> Option<Input> {
        None
    }

    /// Its inputs whose contents it takes while a view is loaded.
    fn gathers(&self, _: Tables<'_>) -> Result<Vec<&dyn Operator>> {
        Ok(self.children())
    }

    /// How many rows the last step gave out, where those may be many more than came.
    fn multiplied(&self) -> usize {
        0
    }

    /// The rows that it looks at again as the time goes on; its inputs' own are theirs.
    fn waiting(&self) -> Option<&Waiting> {
        None
    }
}

/// How an operator follows its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By deltas alone.
    Incremental,
    /// The groups, partitions or rows that an epoch touches are computed anew.
    RecomputeTouched,
    /// All of it is computed anew in each epoch that touches it.
    Recompute,
}

/// A line of EXPLAIN.
#[derive(Debug, Clone)]
pub struct Description {
    /// The operator, with what tells it from others of its kind.
    pub operator: String,
    /// How it is kept.
    pub mode: Mode,
    /// Rows of state.
    pub rows: usize,
    /// Bytes of state.
    pub bytes: usize,
}

impl Description {
    fn stateless(operator: impl Into<String>) -> Self {
        Self { operator: operator.into(), mode: Mode::Incremental, rows: 0, bytes: 0 }
    }
}

pub(crate) type Expression = Arc<dyn PhysicalExpr>;

pub(crate) fn evaluate(expression: &Expression, rows: &RecordBatch) -> Result<ArrayRef> {
    Ok(expression.evaluate(rows)?.into_array(rows.num_rows())?)
}

/// Where a condition holds: NULL is no.
pub(crate) fn holds(condition: &Expression, rows: &RecordBatch) -> Result<BooleanArray> {
    let found = evaluate(condition, rows)?;
    let found = found.as_boolean();
    Ok(if found.nulls().is_some() { arrow::compute::prep_null_mask_filter(found) } else { found.clone() })
}

/// The next moment at which anything in a whole tree has to be looked at.
pub(crate) fn next_moment(root: &dyn Operator) -> Option<i64> {
    let own = root.waiting().and_then(Waiting::next);
    root.children().into_iter().filter_map(next_moment).chain(own).min()
}

/// How far the time may go for no operator of a tree to look at more rows than these.
pub(crate) fn reach(root: &dyn Operator, until: i64, rows_max: usize) -> i64 {
    let own = root.waiting().map_or(until, |waiting| waiting.reach(until, rows_max));
    root.children().into_iter().fold(own, |until, child| reach(child, until, rows_max))
}

/// The lookups of a whole tree.
pub(crate) fn lookups(root: &dyn Operator) -> Vec<(TableId, By)> {
    root.children().into_iter().flat_map(lookups).chain(root.lookups()).collect()
}

/// The inputs whose contents a whole tree takes while it is loaded.
pub(crate) fn gathered(root: &dyn Operator, tables: Tables<'_>, inputs: &mut BTreeSet<Input>) -> Result<()> {
    inputs.extend(root.reads());
    root.gathers(tables)?.into_iter().try_for_each(|child| gathered(child, tables, inputs))
}

/// The most rows that any operator of a whole tree gave out in the last step.
pub(crate) fn multiplied(root: &dyn Operator) -> usize {
    root.children().into_iter().map(multiplied).max().unwrap_or(0).max(root.multiplied())
}

/// The bytes of the states of a whole tree.
pub(crate) fn bytes(root: &dyn Operator) -> usize {
    root.describe().bytes + root.children().into_iter().map(bytes).sum::<usize>()
}
