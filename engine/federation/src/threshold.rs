//! What the first rows of an order leave to be read.
//!
//! A sort that keeps only the first rows of its order knows, once it has so many, that what comes after the last of them is not wanted any
//! more. Where its rows come from a scan by operators that only pass on, drop or repeat them, the scan need not read it: a reader of Parquet
//! leaves out row groups by their statistics, and of the others all columns of those rows but the order's.
//!
//! DataFusion has a rule that hands such a filter down by itself. It is off: it goes by the names of columns (see [`ambiguous`](crate::ambiguous)), and
//! what it hands down looks as a join's keys do, for which a scan waits before it asks. Here the way down goes by the places of columns.
//! A statement that a source already answers can be told nothing more, so only scans that say so are told.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};
use headwater_source::{ColumnDef, Expr, Threshold};

use crate::RemoteScanExec;
use crate::keys::{KeyFilter, filter_of};

/// The physical optimizer rule. It runs after DataFusion's own: a sort that is made anew has another filter.
#[derive(Debug, Default)]
pub struct FirstRows;

impl PhysicalOptimizerRule for FirstRows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(tell)?.data)
    }

    fn name(&self) -> &str {
        "headwater_first_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn tell(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_some()) else {
        return Ok(Transformed::no(plan));
    };
    let Some(filter) = plan.dynamic_expressions_produced().into_iter().next() else { return Ok(Transformed::no(plan)) };
    let first = collect_columns(&sort.expr().first().expr).into_iter().map(|column| column.index()).collect();
    let places = (0..sort.input().schema().fields().len()).map(Some).collect();
    let input = descend(sort.input(), &Told { filter, first, places })?;
    replace_children_if_necessary(plan, vec![input]).map(Transformed::yes)
}

/// What a sort tells, at one of the operators beneath it.
struct Told {
    filter: Arc<dyn PhysicalExpr>,
    /// The columns of the sort's input that its first key is made of.
    first: Vec<usize>,
    /// Where the operator has each column of the sort's input.
    places: Vec<Option<usize>>,
}

impl Told {
    /// The same beneath an operator whose columns are found there by `below`.
    fn beneath(&self, below: impl Fn(usize) -> Option<usize>) -> Self {
        let places = self.places.iter().map(|place| place.and_then(&below)).collect();
        Self { filter: Arc::clone(&self.filter), first: self.first.clone(), places }
    }

    /// Whether it says anything here.
    fn is_of_use(&self) -> bool {
        !self.first.is_empty() && self.first.iter().all(|column| self.places[*column].is_some())
    }
}

fn descend(plan: &Arc<dyn ExecutionPlan>, told: &Told) -> Result<Arc<dyn ExecutionPlan>> {
    let unchanged = Arc::clone(plan);
    // Of a choice of rows that an operator makes, none may be missing beneath it.
    if !told.is_of_use() || plan.fetch().is_some() {
        return Ok(unchanged);
    }
    if let Some(scan) = plan.downcast_ref::<RemoteScanExec>() {
        return Ok(match scan.with_threshold(&told.filter, &told.places) {
            Some(scan) => Arc::new(scan),
            None => unchanged,
        });
    }
    let children: Vec<Arc<dyn ExecutionPlan>> = plan
        .children()
        .into_iter()
        .enumerate()
        .map(|(index, child)| match beneath(plan, index, told) {
            Some(told) => descend(child, &told),
            None => Ok(Arc::clone(child)),
        })
        .collect::<Result<_>>()?;
    replace_children_if_necessary(unchanged, children)
}

/// What is told to an operator's input, where a row that is left out of it only leaves out rows that have its values.
fn beneath(plan: &Arc<dyn ExecutionPlan>, child: usize, told: &Told) -> Option<Told> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = |place: usize| projection.expr()[place].expr.downcast_ref::<Column>().map(Column::index);
        return Some(told.beneath(below));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return Some(told.beneath(|place| match filter.projection() {
            Some(projection) => Some(projection[place]),
            None => Some(place),
        }));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        // The other side is read before the first row leaves the join.
        return if child == 1 { beneath_join(join, told) } else { None };
    }
    let passes_on = plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<UnionExec>();
    passes_on.then(|| told.beneath(Some))
}

/// The same for the side of a join that is read second, where none of its rows decides what becomes of the other side's.
fn beneath_join(join: &HashJoinExec, told: &Told) -> Option<Told> {
    let right = join.right().schema().fields().len();
    let start = match join.join_type() {
        JoinType::Inner | JoinType::Right => join.left().schema().fields().len(),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => 0,
        _ => return None,
    };
    Some(told.beneath(|place| {
        let place = join.projection.as_ref().map_or(place, |projection| projection[place]);
        place.checked_sub(start).filter(|place| *place < right)
    }))
}

/// What a sort has told a scan.
#[derive(Debug)]
pub(crate) struct SortThreshold {
    filter: Arc<dyn PhysicalExpr>,
    /// Which of the table's columns each column of the sort's input is.
    places: Vec<Option<usize>>,
    columns: Vec<ColumnDef>,
    /// The table's columns that the sort's keys are made of.
    read: Vec<usize>,
}

impl SortThreshold {
    pub(crate) fn new(filter: Arc<dyn PhysicalExpr>, places: Vec<Option<usize>>, columns: Vec<ColumnDef>) -> Self {
        let keys = filter.children().into_iter().flat_map(collect_columns);
        let mut read: Vec<usize> = keys.filter_map(|key| places.get(key.index()).copied().flatten()).collect();
        read.sort_unstable();
        read.dedup();
        Self { filter, places, columns, read }
    }
}

impl Threshold for SortThreshold {
    fn columns(&self) -> &[usize] {
        &self.read
    }

    fn generation(&self) -> u64 {
        self.filter.snapshot_generation()
    }

    fn current(&self) -> Option<Expr> {
        match filter_of(&self.filter, &self.columns, &self.places) {
            KeyFilter::Nothing => None,
            KeyFilter::NoRow => Some(Expr::Literal(ScalarValue::Boolean(Some(false)))),
            KeyFilter::Rows(filter, _) => Some(filter),
        }
    }
}
