//! Aggregates over joins whose other side only says which rows count.
//!
//! `SELECT o.priority, count(*) FROM shop.orders o WHERE o.customer IN (SELECT c.id FROM crm.customers c WHERE ...) GROUP BY 1` needs of
//! the customers nothing but their keys. So the keys are read first, and the source of the orders is asked for the finished groups of
//! these customers' orders. The same holds for an inner join of whose other side nothing is used, as long as no key comes twice.
//!
//! How many keys come and whether one comes twice is known only at run time: [`KeyedExec`](super::keyed_exec::KeyedExec) decides then,
//! and has the plan that would have been without this one to fall back on. Statistics say whether it is tried at all.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, Result, TableReference};
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, Projection, UserDefinedLogicalNodeCore,
};
use headwater_source::ScalarValue;

use super::aggregate::{Grouped, aggregated};
use super::eager::inlined_join;
use super::estimate::{estimate, source_of};
use super::grow::{Grower, renamed};
use super::grown::{Grown, Region};
use super::planner::Tries;
use super::remote::Bound;
use super::replay::{Replay, ReplayTable};
use crate::narrow::{BoundKeys, takes_keys};

/// The most keys that are expected to come where the join is done this way.
const KEYS_GUESSED_MAX: f64 = 20_000.0;

/// The share of the aggregated side's values that the keys may be.
const KEYS_SHARE_MAX: f64 = 0.5;

/// How many of the other side's rows must be expected to have a key of their own.
const UNIQUE_SHARE_MIN: f64 = 0.9;

/// Whether a key that comes twice counts rows twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Repeated {
    /// It does not: a semi join.
    CountsOnce,
    /// It does: an inner join.
    CountsAgain,
}

/// The logical operator: reads its keys first, then answers from its source or from the other plan.
#[derive(Debug, Clone)]
pub(super) struct KeyedNode {
    /// The side that is read first.
    pub(super) keys: LogicalPlan,
    /// The whole at the source, for the keys that came.
    pub(super) remote: LogicalPlan,
    /// The whole without it, over what was read first.
    pub(super) fallback: LogicalPlan,
    pub(super) plan: KeyedPlan,
}

/// What the operator has to know at run time.
#[derive(Debug, Clone)]
pub(super) struct KeyedPlan {
    /// Which column of the side that is read first is the key.
    pub(super) key: usize,
    pub(super) keys_max: usize,
    pub(super) repeated: Repeated,
    pub(super) bound: Arc<BoundKeys>,
    pub(super) replay: Arc<Replay>,
}

/// The plan with such aggregates done by keys. `federate` makes a sub-plan's regions.
pub(super) fn aggregate_by_keys(
    plan: LogicalPlan,
    federate: &dyn Fn(LogicalPlan, Tries) -> Result<LogicalPlan>,
    grower: &mut Grower,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(match keyed(aggregate, federate, grower)? {
            Some(keyed) => Transformed::new(keyed, true, TreeNodeRecursion::Jump),
            None => Transformed::no(plan),
        })
    })?;
    Ok(rewritten.data)
}

/// A join seen from the side that is aggregated.
struct Sides<'a> {
    ours: &'a Arc<LogicalPlan>,
    other: &'a Arc<LogicalPlan>,
    our_key: &'a Column,
    other_key: &'a Column,
    repeated: Repeated,
    is_left: bool,
}

fn keyed(
    aggregate: &Aggregate,
    federate: &dyn Fn(LogicalPlan, Tries) -> Result<LogicalPlan>,
    grower: &mut Grower,
) -> Result<Option<LogicalPlan>> {
    let Some((join, keys, calls)) = inlined_join(aggregate)? else { return Ok(None) };
    for sides in sides_of(&join) {
        let own = |expr: &Expr| of_ours(expr, &sides);
        let Some(keys) = keys.iter().map(own).collect::<Option<Vec<Expr>>>() else { continue };
        let Some(calls) = calls.iter().map(own).collect::<Option<Vec<Expr>>>() else { continue };
        // Two keys may have become one column here, of which an aggregate makes one.
        if keys.iter().collect::<HashSet<_>>().len() < keys.len() || !pays(&sides) {
            continue;
        }
        let Ok(ours) = Aggregate::try_new(Arc::clone(sides.ours), keys, calls) else { continue };
        let Some((region, grouped, bound, keys_max)) = at_source(&ours, &sides, grower)? else { continue };
        let remote = grower.bound_scan(&region, grouped, &bound, aggregate)?;
        let replay = Arc::<Replay>::default();
        let fallback = without_other(&LogicalPlan::Aggregate(aggregate.clone()), &join, &sides, &replay)?;
        let plan = KeyedPlan {
            key: sides.other.schema().index_of_column(sides.other_key)?,
            keys_max,
            repeated: sides.repeated,
            bound: bound.keys,
            replay,
        };
        let keys = federate(sides.other.as_ref().clone(), Tries::Keys)?;
        let node = KeyedNode { keys, remote, fallback: federate(fallback, Tries::Nothing)?, plan };
        return Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })));
    }
    Ok(None)
}

/// The ways in which a join may be one of keys.
fn sides_of(join: &Join) -> Vec<Sides<'_>> {
    let plain = join.filter.is_none() && join.null_equality == NullEquality::NullEqualsNothing && !join.null_aware;
    let [(Expr::Column(left), Expr::Column(right))] = join.on.as_slice() else { return vec![] };
    if !plain {
        return vec![];
    }
    let of = |is_left: bool, repeated| {
        let (ours, other) = if is_left { (&join.left, &join.right) } else { (&join.right, &join.left) };
        let (our_key, other_key) = if is_left { (left, right) } else { (right, left) };
        Sides { ours, other, our_key, other_key, repeated, is_left }
    };
    match join.join_type {
        JoinType::LeftSemi => vec![of(true, Repeated::CountsOnce)],
        JoinType::RightSemi => vec![of(false, Repeated::CountsOnce)],
        JoinType::Inner => vec![of(true, Repeated::CountsAgain), of(false, Repeated::CountsAgain)],
        _ => vec![],
    }
}

/// The expression over the aggregated side alone, whose key stands for the other's; `None` where more of the other is used.
fn of_ours(expr: &Expr, sides: &Sides<'_>) -> Option<Expr> {
    let replaced = expr.clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) if column == sides.other_key => Transformed::yes(Expr::Column(sides.our_key.clone())),
            _ => Transformed::no(expr),
        })
    });
    let expr = replaced.ok()?.data;
    expr.column_refs().iter().all(|column| sides.ours.schema().has_column(column)).then_some(expr)
}

fn pays(sides: &Sides<'_>) -> bool {
    let source = source_of(sides.ours);
    if source.is_none() || source == source_of(sides.other) {
        return false;
    }
    let (ours, other) = (estimate(sides.ours), estimate(sides.other));
    let values = |side: &super::estimate::Estimate, key| side.distinct(key).unwrap_or(side.rows);
    let unique =
        sides.repeated == Repeated::CountsOnce || values(&other, sides.other_key) >= other.rows * UNIQUE_SHARE_MIN;
    unique && other.rows <= KEYS_GUESSED_MAX && other.rows <= values(&ours, sides.our_key) * KEYS_SHARE_MAX
}

/// The aggregate as a relation of its source; `None` where the source does not do all of it.
fn at_source(
    aggregate: &Aggregate,
    sides: &Sides<'_>,
    grower: &mut Grower,
) -> Result<Option<(Region, Grouped, Bound, usize)>> {
    let Grown::Region(region) = grower.grow(sides.ours.as_ref().clone())? else { return Ok(None) };
    let Some(column) = region.schema.maybe_index_of_column(sides.our_key) else { return Ok(None) };
    let other = sides.other.schema().index_of_column(sides.other_key)?;
    let alike = sides.other.schema().field(other).data_type() == region.schema.field(column).data_type();
    let Some(keys_max) = takes_keys(&region.service, &region.relation, column).filter(|most| alike && *most > 0) else {
        return Ok(None);
    };
    let sample = ScalarValue::new_default(region.schema.field(column).data_type())?;
    let keyed = Region { relation: region.relation.clone().keyed(column), ..*region };
    let Ok(grouped) = aggregated(aggregate, &keyed) else { return Ok(None) };
    Ok(Some((keyed, grouped, Bound { keys: Arc::default(), sample }, keys_max)))
}

/// The plan over what was read of the other side, instead of that side itself.
fn without_other(plan: &LogicalPlan, join: &Join, sides: &Sides<'_>, replay: &Arc<Replay>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(_) => {
            let schema = sides.other.schema();
            let table = ReplayTable::new(schema.as_arrow(), Arc::clone(replay), estimate(sides.other).rows);
            let name = TableReference::bare("keys_read_first");
            let columns = (0..schema.fields().len()).map(|index| Column::new(Some(name.clone()), format!("c{index}")));
            let columns = columns.map(Expr::Column).collect();
            let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()?;
            let other = Arc::new(renamed(columns, scan, schema)?);
            let (left, right) = match sides.is_left {
                true => (Arc::clone(&join.left), other),
                false => (other, Arc::clone(&join.right)),
            };
            Ok(LogicalPlan::Join(Join { left, right, ..join.clone() }))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let input = Arc::new(without_other(&aggregate.input, join, sides, replay)?);
            let schema = Arc::clone(&aggregate.schema);
            let (keys, calls) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
            Ok(LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, keys, calls, schema)?))
        }
        LogicalPlan::Projection(projection) => {
            let input = Arc::new(without_other(&projection.input, join, sides, replay)?);
            let schema = Arc::clone(&projection.schema);
            Ok(LogicalPlan::Projection(Projection::try_new_with_schema(projection.expr.clone(), input, schema)?))
        }
        // Invariant: `inlined_join` passes no other operator.
        other => Ok(other.clone()),
    }
}

impl UserDefinedLogicalNodeCore for KeyedNode {
    fn name(&self) -> &str {
        "Keyed"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.keys, &self.remote, &self.fallback]
    }

    fn schema(&self) -> &datafusion::common::DFSchemaRef {
        self.remote.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyed: key={}, at most {} keys", self.plan.key, self.plan.keys_max)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 3]>::try_from(inputs) {
            Ok([keys, remote, fallback]) => Ok(Self { keys, remote, fallback, plan: self.plan.clone() }),
            Err(inputs) => datafusion::common::internal_err!("Keyed has three inputs, found {}", inputs.len()),
        }
    }
}

// Two such operators are the same only where they share what they collect.
impl PartialEq for KeyedNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan.bound, &other.plan.bound)
    }
}

impl Eq for KeyedNode {}

impl PartialOrd for KeyedNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl std::hash::Hash for KeyedNode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.plan.bound).hash(state);
    }
}
