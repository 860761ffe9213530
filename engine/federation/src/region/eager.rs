//! Partial aggregates beneath joins of two sources.
//!
//! `SELECT c.name, sum(o.price) FROM crm.customers c JOIN shop.orders o ... GROUP BY c.name` needs of each customer's orders only
//! their sum. Where all that is aggregated comes from one side of a join and that side is of one source, the source groups it by the
//! join's keys (and by what else of that side the query groups by), ships one row for each group, and the aggregate above the
//! join merges the groups: counts and sums are added up, minima and maxima compared, averages divided at the end.
//!
//! It is right for inner joins because all rows of a group meet the same partners, and for outer joins that keep the other side because
//! a row without partner adds NULL, which these aggregates skip. It is done where the groups are guessed to be at most half of the
//! rows. Eager aggregation: Yan and Larson, "Eager Aggregation and Lazy Aggregation", VLDB 1995.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef, JoinType, NullEquality, Result};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, Join, LogicalPlan, Projection, cast};

use super::estimate::{estimate, source_of};
use super::grow::Grower;
use super::mean::{counted, mean};

/// How many rows there must be for each group, at least, that grouping at the source may pay.
const ROWS_PER_GROUP_MIN: f64 = 2.0;

/// The plan with partial aggregates where they ship less.
///
/// Leaves the schemas of these partial aggregates in `partial`.
pub(super) fn aggregate_early(plan: LogicalPlan, partial: &mut Vec<DFSchemaRef>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        Ok(match &plan {
            LogicalPlan::Aggregate(aggregate) => match early(aggregate, partial)? {
                Some(early) => Transformed::yes(early),
                None => Transformed::no(plan),
            },
            _ => Transformed::no(plan),
        })
    })?;
    Ok(rewritten.data)
}

/// Which side of the join is grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

fn early(aggregate: &Aggregate, partial: &mut Vec<DFSchemaRef>) -> Result<Option<LogicalPlan>> {
    let Some((join, inlined)) = join_beneath(aggregate)? else { return Ok(None) };
    if join.null_equality != NullEquality::NullEqualsNothing {
        return Ok(None);
    }
    for side in [Side::Right, Side::Left] {
        if let Some(plan) = grouped(aggregate, &join, &inlined, side, partial)? {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

/// The aggregate's expressions over the join's own columns.
struct Inlined {
    keys: Vec<Expr>,
    calls: Vec<AggregateFunction>,
}

/// The join that the aggregate stands on, where its aggregates can be done in two steps.
fn join_beneath(aggregate: &Aggregate) -> Result<Option<(Join, Inlined)>> {
    let Some((join, keys, calls)) = inlined_join(aggregate)? else { return Ok(None) };
    let calls: Option<Vec<AggregateFunction>> = calls.into_iter().map(call_of).collect();
    Ok(calls.map(|calls| (join, Inlined { keys, calls })))
}

/// A join; an aggregate's keys; its calls.
pub(super) type InlinedJoin = (Join, Vec<Expr>, Vec<Expr>);

/// The join that the aggregate stands on, with nothing but projections between; the aggregate's keys and calls over the join's own
/// columns.
pub(super) fn inlined_join(aggregate: &Aggregate) -> Result<Option<InlinedJoin>> {
    let mut keys = aggregate.group_expr.clone();
    let mut calls = aggregate.aggr_expr.clone();
    let mut input = aggregate.input.as_ref();
    loop {
        match input {
            LogicalPlan::Projection(projection) => {
                for expr in keys.iter_mut().chain(&mut calls) {
                    *expr = through(expr, projection)?;
                }
                input = &projection.input;
            }
            LogicalPlan::Join(join) => return Ok(Some((join.clone(), keys, calls))),
            _ => return Ok(None),
        }
    }
}

/// The expression over the projection's input.
fn through(expr: &Expr, projection: &Projection) -> Result<Expr> {
    let replaced = expr.clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match projection.schema.maybe_index_of_column(column) {
                Some(index) => Transformed::yes(projection.expr[index].clone().unalias_nested().data),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

fn call_of(expr: Expr) -> Option<AggregateFunction> {
    match expr {
        Expr::Alias(alias) => call_of(*alias.expr),
        Expr::AggregateFunction(call) => {
            let params = &call.params;
            let plain = !params.distinct && params.order_by.is_empty() && params.null_treatment.is_none();
            let known = matches!(call.func.name(), "count" | "sum" | "min" | "max" | "avg");
            (plain && known && params.filter.is_none()).then_some(call)
        }
        _ => None,
    }
}

fn grouped(
    aggregate: &Aggregate,
    join: &Join,
    inlined: &Inlined,
    side: Side,
    partial_schemas: &mut Vec<DFSchemaRef>,
) -> Result<Option<LogicalPlan>> {
    let (ours, other) = match side {
        Side::Left => (&join.left, &join.right),
        Side::Right => (&join.right, &join.left),
    };
    let outer = match (join.join_type, side) {
        (JoinType::Inner, _) => false,
        (JoinType::Left, Side::Right) | (JoinType::Right, Side::Left) => true,
        _ => return Ok(None),
    };
    let source = source_of(ours);
    if source.is_none() || source == source_of(other) || !is_of(inlined, ours.schema(), outer) {
        return Ok(None);
    }
    let keys = keys_of(join, inlined, ours.schema());
    let keys: Vec<Expr> = keys.into_iter().map(Expr::Column).collect();
    let rows = estimate(ours);
    // Without keys there is a row even of no rows: it would meet partners where there are none to meet.
    if keys.is_empty() || rows.rows < rows.groups(&keys) * ROWS_PER_GROUP_MIN {
        return Ok(None);
    }
    let Some(partials) = Partials::of(inlined, ours.schema()) else { return Ok(None) };
    let partial = LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(ours), keys, partials.exprs.clone())?);
    // A source that is asked in parts groups each of them: the groups are put together above the join either way.
    if !Grower::of_partial(vec![Arc::clone(partial.schema())]).groups_at_source(&partial)? {
        return Ok(None);
    }
    partial_schemas.push(Arc::clone(partial.schema()));
    let partial = Arc::new(partial);
    let (left, right) = match side {
        Side::Left => (partial, Arc::clone(&join.right)),
        Side::Right => (Arc::clone(&join.left), partial),
    };
    let joined = Join::try_new(
        left,
        right,
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    partials.above(LogicalPlan::Join(joined), inlined.keys.clone(), aggregate).map(Some)
}

/// An aggregate as one over groups of groups.
pub(super) struct TwoSteps {
    /// The first step: any rows of a group may be in groups of their own.
    pub(super) partial: Aggregate,
    partials: Partials,
}

/// The aggregate in two steps; `None` where the first step's groups could not be put together.
pub(super) fn two_steps(aggregate: &Aggregate) -> Result<Option<TwoSteps>> {
    let calls: Option<Vec<AggregateFunction>> = aggregate.aggr_expr.iter().cloned().map(call_of).collect();
    let Some(calls) = calls else { return Ok(None) };
    let inlined = Inlined { keys: aggregate.group_expr.clone(), calls };
    let Some(partials) = Partials::of(&inlined, aggregate.input.schema()) else { return Ok(None) };
    let partial = Aggregate::try_new(Arc::clone(&aggregate.input), inlined.keys, partials.exprs.clone())?;
    Ok(Some(TwoSteps { partial, partials }))
}

impl TwoSteps {
    /// The aggregate over rows of the first step.
    pub(super) fn merged(&self, rows: LogicalPlan, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let keys = self.partial.schema.columns().into_iter().take(self.partial.group_expr.len());
        self.partials.above(rows, keys.map(Expr::Column).collect(), aggregate)
    }
}

/// Whether all that is aggregated is of this side, and each key is of one side. Beneath an outer join what is aggregated must be NULL
/// where the side is, which a plain column is.
fn is_of(inlined: &Inlined, ours: &DFSchemaRef, outer: bool) -> bool {
    let of_ours = |expr: &Expr| expr.column_refs().iter().all(|column| ours.has_column(column));
    let is_column = |expr: &Expr| match expr {
        Expr::Cast(cast) => matches!(*cast.expr, Expr::Column(_)),
        other => matches!(other, Expr::Column(_)),
    };
    let args = inlined.calls.iter().all(|call| match call.params.args.as_slice() {
        [arg] => of_ours(arg) && (!outer || is_column(arg)),
        _ => false,
    });
    args && inlined.keys.iter().all(|key| {
        !matches!(key, Expr::GroupingSet(_))
            && (of_ours(key) || key.column_refs().iter().all(|column| !ours.has_column(column)))
    })
}

/// The columns of this side that the join or the query's keys read.
fn keys_of(join: &Join, inlined: &Inlined, ours: &DFSchemaRef) -> Vec<Column> {
    let on = join.on.iter().flat_map(|(left, right)| [left, right]);
    let read: BTreeSet<&Column> =
        on.chain(&join.filter).chain(&inlined.keys).flat_map(|expr| expr.column_refs()).collect();
    // In the side's own order.
    ours.columns().into_iter().filter(|column| read.contains(column)).collect()
}

/// What the source aggregates, and how the groups are merged.
struct Partials {
    /// Named `partial_0`, `partial_1`, ...
    exprs: Vec<Expr>,
    /// For each aggregate of the query its place among the partials.
    merges: Vec<Merge>,
}

enum Merge {
    Count(usize),
    Same(usize, AggregateFunction),
    Mean { sum: usize, count: usize },
}

impl Partials {
    fn of(inlined: &Inlined, schema: &DFSchemaRef) -> Option<Self> {
        let mut partials = Self { exprs: vec![], merges: vec![] };
        for call in &inlined.calls {
            let merge = match call.func.name() {
                "count" => Merge::Count(partials.push(Expr::AggregateFunction(call.clone()))),
                "avg" => {
                    let arg = summed(call.params.args.first()?, schema)?;
                    let (sum, count) = (partials.push(sum(arg.clone())), partials.push(count(arg)));
                    Merge::Mean { sum, count }
                }
                _ => Merge::Same(partials.push(Expr::AggregateFunction(call.clone())), call.clone()),
            };
            partials.merges.push(merge);
        }
        Some(partials)
    }

    fn push(&mut self, expr: Expr) -> usize {
        let place = self.exprs.len();
        self.exprs.push(expr.alias(name(place)));
        place
    }

    /// The aggregate over rows that hold the partials.
    fn above(&self, rows: LogicalPlan, keys: Vec<Expr>, aggregate: &Aggregate) -> Result<LogicalPlan> {
        // Two keys may be one column beneath a projection, of which an aggregate makes one.
        let mut grouped: Vec<Expr> = Vec::with_capacity(keys.len());
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            let place = grouped.iter().position(|known| *known == key).unwrap_or(grouped.len());
            if place == grouped.len() {
                grouped.push(key);
            }
            places.push(place);
        }
        // Two casts of one column have its name.
        let named = |(place, key): (usize, Expr)| match key {
            Expr::Column(_) => key,
            computed => computed.alias(format!("__headwater_key_{place}")),
        };
        let grouped = grouped.into_iter().enumerate().map(named).collect();
        let merged = Aggregate::try_new(Arc::new(rows), grouped, self.merged())?;
        let outputs = self.outputs(&merged, &places, &aggregate.schema);
        let named = outputs
            .into_iter()
            .zip(aggregate.schema.iter())
            .map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()))
            .collect();
        let merged = Arc::new(LogicalPlan::Aggregate(merged));
        let projection = Projection::try_new_with_schema(named, merged, Arc::clone(&aggregate.schema))?;
        Ok(LogicalPlan::Projection(projection))
    }

    /// The aggregates of the partials.
    fn merged(&self) -> Vec<Expr> {
        let partial = |place: usize| Expr::Column(Column::from_name(name(place)));
        let added = |place: usize| sum(partial(place)).alias(format!("merged_{place}"));
        self.merges
            .iter()
            .flat_map(|merge| match merge {
                Merge::Count(place) => vec![added(*place)],
                Merge::Mean { sum, count } => vec![added(*sum), added(*count)],
                Merge::Same(place, call) => {
                    let mut call = call.clone();
                    call.params.args = vec![partial(*place)];
                    vec![Expr::AggregateFunction(call).alias(format!("merged_{place}"))]
                }
            })
            .collect()
    }

    /// The query's columns over the merged ones, whose keys are at these places.
    fn outputs(&self, merged: &Aggregate, keys: &[usize], schema: &DFSchemaRef) -> Vec<Expr> {
        let columns = merged.schema.columns();
        let mut next = columns.iter().skip(merged.group_expr.len()).cloned().map(Expr::Column);
        let mut outputs: Vec<Expr> = keys.iter().map(|place| Expr::Column(columns[*place].clone())).collect();
        for (index, merge) in self.merges.iter().enumerate() {
            let data_type = schema.field(keys.len() + index).data_type().clone();
            let Some(first) = next.next() else { return outputs };
            outputs.push(match merge {
                Merge::Count(_) => counted(first),
                Merge::Same(..) => typed(first, merged, data_type),
                Merge::Mean { .. } => {
                    let Some(count) = next.next() else { return outputs };
                    mean(first, count, data_type)
                }
            });
        }
        outputs
    }
}

/// A sum of sums has more digits than the sum.
fn typed(expr: Expr, merged: &Aggregate, data_type: DataType) -> Expr {
    match expr.get_type(&merged.schema) {
        Ok(now) if now == data_type => expr,
        _ => cast(expr, data_type),
    }
}

fn name(place: usize) -> String {
    format!("partial_{place}")
}

/// What an average sums up, where the sum can't leave its type's range: decimals of few digits, integers of up to 32 bits.
fn summed(arg: &Expr, schema: &DFSchemaRef) -> Option<Expr> {
    /// The digits that a sum of decimals has more than its argument, and the most that there are.
    const SUM_DIGITS: (u8, u8) = (10, 38);
    if let Expr::Cast(inner) = arg
        && *inner.field.data_type() == DataType::Float64
    {
        let small = matches!(
            inner.expr.get_type(schema).ok()?,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16
        );
        return small.then(|| cast(inner.expr.as_ref().clone(), DataType::Int64));
    }
    match arg.get_type(schema).ok()? {
        DataType::Decimal128(precision, _) if precision + SUM_DIGITS.0 <= SUM_DIGITS.1 => Some(arg.clone()),
        _ => None,
    }
}
