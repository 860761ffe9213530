//! The first rows of an order above joins, tried with the first rows of the side that the order is of.
//!
//! `SELECT o.id, c.name FROM shop.orders o JOIN crm.customers c ON c.id = o.customer ORDER BY o.placed_on DESC LIMIT 50` has its answer in the latest orders, as long as enough of them have a
//! customer. So some more than fifty orders are read first, in that order, and their customers are looked up. Every row of the join is made of one row of the orders, so where fifty rows come of
//! it, they are the first ones: what other orders make comes behind them. Where fewer come, the whole is answered as it would have been without this.
//!
//! [`TriedExec`](super::tried_exec::TriedExec) decides at run time. Estimates say whether it is tried, and with how many rows. Only the whole query's order is looked at: what has been read in vain is
//! then no part of the answer, and may be of another state of its source.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchemaRef, JoinType, Result};
use datafusion::logical_expr::{
    Expr, Extension, Filter, Join, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias, UserDefinedLogicalNodeCore,
};
use headwater_source::Parallel;

use super::eager::over;
use super::estimate::{estimate, source_of};
use super::grow::{Grower, holds_subquery};
use super::grown::{Grown, Region};
use super::planner::Tries;
use crate::top_n::cut;

/// The most rows that are read first.
const TRIED_MAX: f64 = 10_000.0;

/// How many times as many rows the side must be expected to have.
const SHARE_MIN: f64 = 20.0;

/// The most rows of the others of which the keys are rather read first where the side has no index for the order: by them it looks its rows up, and does not sort all of them.
const READ_FIRST_MAX: f64 = 10_000.0;

/// How many rows more are read than are expected to be needed: as many again, and these.
const SPARE: f64 = 64.0;

/// The logical operator: the first plan's rows where there are so many, the second's otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct TriedNode {
    pub(super) first: LogicalPlan,
    pub(super) whole: LogicalPlan,
    pub(super) rows: usize,
}

/// The plan with its order tried. `federate` makes a plan's regions.
pub(super) fn try_first_rows(
    plan: &LogicalPlan,
    federate: &dyn Fn(LogicalPlan, Tries) -> Result<LogicalPlan>,
) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(Sort { expr, input, fetch: Some(rows) }) => {
            // DataFusion runs the subqueries of both plans above them.
            if plan.exists(|node| Ok(node.expressions().iter().any(holds_subquery)))? {
                return Ok(None);
            }
            let Some(input) = first(input, expr, *rows)? else { return Ok(None) };
            let sort = Sort { expr: expr.clone(), input: Arc::new(input), fetch: Some(*rows) };
            let node = TriedNode {
                first: federate(LogicalPlan::Sort(sort), Tries::Keys)?,
                whole: federate(plan.clone(), Tries::Keys)?,
                rows: *rows,
            };
            Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_) => {
            if plan.expressions().iter().any(holds_subquery) {
                return Ok(None);
            }
            let [input] = plan.inputs()[..] else { return Ok(None) };
            let Some(input) = try_first_rows(input, federate)? else { return Ok(None) };
            plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
        }
        _ => Ok(None),
    }
}

/// The plan over the first rows of the side that the order is of; `None` where that is not worth trying.
fn first(plan: &LogicalPlan, keys: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    let made = estimate(plan).rows;
    on_side(plan, keys, None, &|side, keys, others| {
        let there = estimate(side).rows;
        let share = (made / there).min(1.0);
        let tried = (rows as f64 / share).mul_add(2.0, SPARE);
        // Of others that are as few, the keys are read first: with them the side's rows are cut for good.
        if tried > TRIED_MAX || there < tried * SHARE_MIN || others < tried {
            return Ok(None);
        }
        let Grown::Region(region) = Grower::default().grow(side.clone())? else { return Ok(None) };
        if others < READ_FIRST_MAX && !is_along_index(&region, keys) {
            return Ok(None);
        }
        let tried = tried as usize;
        let sort = |input| LogicalPlan::Sort(Sort { expr: keys.to_vec(), input: Arc::new(input), fetch: Some(tried) });
        if let Some(scan) = cut(side, keys, tried)? {
            return Ok(Some(sort(scan)));
        }
        Ok(matches!(region.first(keys, tried as u64), Ok(Some(_))).then(|| sort(side.clone())))
    })
}

/// Whether the side's source may find the first rows of the order along an index. One that asks nothing more of an index than its order must have all of the keys in it, one way.
fn is_along_index(region: &Region, keys: &[SortExpr]) -> bool {
    let column = |key: &SortExpr| match region.translate(&key.expr) {
        Ok(headwater_source::Expr::Column(column)) => region.relation.origin(column),
        _ => None,
    };
    let Some(columns) = keys.iter().map(column).collect::<Option<Vec<_>>>() else { return false };
    let Some((table, leading)) = columns.first() else { return false };
    let sorts_the_rest = region.capabilities().parallel() != Parallel::ByParts;
    let serves = |index: &[usize]| {
        let one_way = keys.iter().all(|key| key.asc == keys[0].asc) && columns.len() <= index.len();
        let all = columns.iter().zip(index).all(|((of, column), indexed)| Arc::ptr_eq(of, table) && column == indexed);
        index.first() == Some(leading) && (sorts_the_rest || one_way && all)
    };
    let known = region.tables.iter().find(|known| Arc::ptr_eq(&known.definition, table));
    known.is_some_and(|known| known.statistics.indexes.iter().any(|index| serves(&index.columns)))
}

/// What is put in the place of a side, which is ordered by these keys and joined with so many rows of others.
type Exchanged<'a> = &'a dyn Fn(&LogicalPlan, &[SortExpr], f64) -> Result<Option<LogicalPlan>>;

/// The plan with another in the place of the side of one source that the keys are of; `None` where there is none, or something on the way makes rows of more than one of the side's.
/// `others` are the rows of the joins that the way has passed.
fn on_side(
    plan: &LogicalPlan,
    keys: &[SortExpr],
    others: Option<f64>,
    exchanged: Exchanged<'_>,
) -> Result<Option<LogicalPlan>> {
    if source_of(plan).is_some() {
        return others.map_or(Ok(None), |others| exchanged(plan, keys, others));
    }
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let columns: Vec<Expr> = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
            let keys = keys_over(keys, &alias.schema, &columns)?;
            let Some(input) = on_side(&alias.input, &keys, others, exchanged)? else { return Ok(None) };
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).map(LogicalPlan::SubqueryAlias).map(Some)
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(holds_subquery) => {
            let exprs: Vec<Expr> = projection.expr.iter().map(|expr| expr.clone().unalias_nested().data).collect();
            let keys = keys_over(keys, &projection.schema, &exprs)?;
            if keys.iter().any(|key| key.expr.is_volatile()) {
                return Ok(None);
            }
            let Some(input) = on_side(&projection.input, &keys, others, exchanged)? else { return Ok(None) };
            let (exprs, schema) = (projection.expr.clone(), Arc::clone(&projection.schema));
            let projection = Projection::try_new_with_schema(exprs, Arc::new(input), schema)?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::Filter(filter) if !holds_subquery(&filter.predicate) && !filter.predicate.is_volatile() => {
            let Some(input) = on_side(&filter.input, keys, others, exchanged)? else { return Ok(None) };
            Filter::try_new(filter.predicate.clone(), Arc::new(input)).map(LogicalPlan::Filter).map(Some)
        }
        LogicalPlan::Join(join) => {
            let of = |side: &LogicalPlan| {
                let mut columns = keys.iter().flat_map(|key| key.expr.column_refs());
                columns.all(|column| side.schema().has_column(column))
            };
            let left = match join.join_type {
                JoinType::Inner => of(&join.left),
                JoinType::LeftSemi | JoinType::LeftAnti => true,
                JoinType::RightSemi | JoinType::RightAnti => false,
                _ => return Ok(None),
            };
            let (side, other) = if left { (&join.left, &join.right) } else { (&join.right, &join.left) };
            // An order of nothing that is of one side is of both.
            if !of(side) || keys.iter().all(|key| key.expr.column_refs().is_empty()) {
                return Ok(None);
            }
            let others = Some(others.unwrap_or_default() + estimate(other).rows);
            let Some(side) = on_side(side, keys, others, exchanged)?.map(Arc::new) else { return Ok(None) };
            let join = join.clone();
            Ok(Some(LogicalPlan::Join(if left { Join { left: side, ..join } } else { Join { right: side, ..join } })))
        }
        _ => Ok(None),
    }
}

/// The keys over the expressions that the columns of a schema are.
pub(super) fn keys_over(keys: &[SortExpr], schema: &DFSchemaRef, exprs: &[Expr]) -> Result<Vec<SortExpr>> {
    keys.iter().map(|key| Ok(SortExpr { expr: over(&key.expr, schema, exprs)?, ..key.clone() })).collect()
}

impl UserDefinedLogicalNodeCore for TriedNode {
    fn name(&self) -> &str {
        "Tried"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.first, &self.whole]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.whole.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tried: {} rows", self.rows)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([first, whole]) => Ok(Self { first, whole, rows: self.rows }),
            Err(inputs) => datafusion::common::internal_err!("Tried has two inputs, found {}", inputs.len()),
        }
    }
}
