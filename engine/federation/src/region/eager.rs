//! Partial aggregates beneath joins of two sources.
//!
//! `SELECT c.name, sum(o.price) FROM crm.customers c JOIN shop.orders o ... GROUP BY c.name` needs of each customer's orders only
//! their sum. Where all that is aggregated comes from one side of a join and that side is of one source, the source groups it by the
//! join's keys (and by what else of that side the query groups by), ships one row for each group, and the aggregate above the
//! join merges the groups: counts and sums are added up, minima and maxima compared, averages divided at the end.
//!
//! It is right for inner joins because all rows of a group meet the same partners, or none, and so for outer joins that keep the side; and for those that keep the other side because
//! a row without partner adds NULL, which these aggregates skip. The side may be joined with others one after the other, as the facts of a star are with its dimensions: it is grouped by
//! what all these joins read of it. It is done where the groups are guessed to be at most half of the
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
use super::mean::{counted, mean};
use super::pays::groups_that_pay;
use super::rollup::over_finest_groups;

/// The plan with partial aggregates where they ship less.
///
/// Leaves the schemas of these partial aggregates in `partial`.
pub(super) fn aggregate_early(plan: LogicalPlan, partial: &mut Vec<DFSchemaRef>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        Ok(match &plan {
            LogicalPlan::Aggregate(aggregate) => {
                let rewritten = match early(aggregate, partial)? {
                    Some(early) => Some(early),
                    None => over_finest_groups(aggregate, partial)?,
                };
                rewritten.map_or_else(|| Transformed::no(plan.clone()), Transformed::yes)
            }
            _ => Transformed::no(plan),
        })
    })?;
    Ok(rewritten.data)
}

/// Which side of the join is grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The aggregate over partial ones beneath a join; `None` where there is no such join, or they are no fewer than the rows.
pub(super) fn early(aggregate: &Aggregate, partial: &mut Vec<DFSchemaRef>) -> Result<Option<LogicalPlan>> {
    let calls: Option<Vec<AggregateFunction>> = aggregate.aggr_expr.iter().cloned().map(call_of).collect();
    let Some(calls) = calls else { return Ok(None) };
    let inlined = Inlined { keys: aggregate.group_expr.clone(), calls };
    let start = Descent { inlined, joins: vec![], outer: false };
    let Some((join, descent)) = start.down(&aggregate.input)? else { return Ok(None) };
    beneath(aggregate, &join, &descent, partial)
}

/// The way from the aggregate down to a join.
struct Descent {
    /// Over the columns of that join.
    inlined: Inlined,
    /// The joins above it, the topmost first, each with the side that the way goes on; their conditions are over the columns of the join, too.
    joins: Vec<(Join, Side)>,
    /// Whether a join above it fills this side with NULLs.
    outer: bool,
}

/// The aggregate with groups beneath this join or beneath one of those under it.
fn beneath(
    aggregate: &Aggregate,
    join: &Join,
    descent: &Descent,
    partial: &mut Vec<DFSchemaRef>,
) -> Result<Option<LogicalPlan>> {
    if join.null_equality != NullEquality::NullEqualsNothing {
        return Ok(None);
    }
    for side in [Side::Right, Side::Left] {
        let Some(outer) = side.is_filled_by(join.join_type) else { continue };
        let outer = descent.outer || outer;
        if let Some(plan) = grouped(aggregate, join, descent, side, outer, partial)? {
            return Ok(Some(plan));
        }
        let (ours, _) = side.of(join);
        if !is_of(&descent.inlined, ours.schema(), outer) {
            continue;
        }
        let above = descent.joins.iter().cloned().chain([(join.clone(), side)]).collect();
        let Some((next, descent)) = (Descent { inlined: descent.inlined.clone(), joins: above, outer }).down(ours)?
        else {
            continue;
        };
        if let Some(plan) = beneath(aggregate, &next, &descent, partial)? {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

impl Descent {
    /// Down to the next join, with nothing but projections and names between.
    fn down(mut self, plan: &LogicalPlan) -> Result<Option<(Join, Self)>> {
        let mut plan = plan;
        loop {
            match plan {
                LogicalPlan::Projection(projection) => {
                    let exprs: Vec<Expr> =
                        projection.expr.iter().map(|expr| expr.clone().unalias_nested().data).collect();
                    // What is computed of rows beneath a join that fills them with NULLs is not what would be computed of the NULLs.
                    let moves = |expr: &Expr| matches!(expr, Expr::Column(_)) || (!self.outer && !expr.is_volatile());
                    if !exprs.iter().all(moves) {
                        return Ok(None);
                    }
                    self = self.over_those(&projection.schema, &exprs)?;
                    plan = &projection.input;
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let exprs: Vec<Expr> = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
                    self = self.over_those(&alias.schema, &exprs)?;
                    plan = &alias.input;
                }
                LogicalPlan::Join(join) => return Ok(Some((join.clone(), self))),
                _ => return Ok(None),
            }
        }
    }

    /// All expressions over those that the columns of a schema are.
    fn over_those(mut self, schema: &DFSchemaRef, exprs: &[Expr]) -> Result<Self> {
        for key in &mut self.inlined.keys {
            *key = over(key, schema, exprs)?;
        }
        for call in &mut self.inlined.calls {
            if let Expr::AggregateFunction(inner) = over(&Expr::AggregateFunction(call.clone()), schema, exprs)? {
                *call = inner;
            }
        }
        for (join, side) in &mut self.joins {
            for (left, right) in &mut join.on {
                let ours = if *side == Side::Left { left } else { right };
                *ours = over(ours, schema, exprs)?;
            }
            // A column of the other side may have the name of one that is hidden here.
            let (_, other) = side.of(join);
            let filter = join.filter.as_ref().map(|filter| over_but(filter, schema, exprs, Some(other.schema())));
            join.filter = filter.transpose()?;
        }
        Ok(self)
    }

    /// The joins of the way over other rows than those that it has come to.
    fn over(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        self.joins.iter().rev().try_fold(rows, |rows, (join, side)| side.exchanged(join, rows))
    }
}

impl Side {
    /// This side and the other.
    pub(super) fn of(self, join: &Join) -> (&Arc<LogicalPlan>, &Arc<LogicalPlan>) {
        match self {
            Self::Left => (&join.left, &join.right),
            Self::Right => (&join.right, &join.left),
        }
    }

    /// Whether such a join fills this side with NULLs; `None` of a join beneath which no side of it may be grouped.
    fn is_filled_by(self, join_type: JoinType) -> Option<bool> {
        match (join_type, self) {
            (JoinType::Inner, _) | (JoinType::Left, Self::Left) | (JoinType::Right, Self::Right) => Some(false),
            (JoinType::Left, Self::Right) | (JoinType::Right, Self::Left) => Some(true),
            _ => None,
        }
    }

    /// The columns of this side that the join reads, in the side's own order.
    pub(super) fn read_columns(self, join: &Join) -> Vec<Column> {
        let conditions = join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
        let read: BTreeSet<&Column> = conditions.flat_map(Expr::column_refs).collect();
        self.of(join).0.schema().columns().into_iter().filter(|column| read.contains(column)).collect()
    }

    /// The join with other rows on this side.
    pub(super) fn exchanged(self, join: &Join, rows: LogicalPlan) -> Result<LogicalPlan> {
        let rows = Arc::new(rows);
        let (left, right) = match self {
            Self::Left => (rows, Arc::clone(&join.right)),
            Self::Right => (Arc::clone(&join.left), rows),
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
        Ok(LogicalPlan::Join(joined))
    }
}

/// The aggregate's expressions over the join's own columns.
#[derive(Clone)]
struct Inlined {
    keys: Vec<Expr>,
    calls: Vec<AggregateFunction>,
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
pub(super) fn through(expr: &Expr, projection: &Projection) -> Result<Expr> {
    let exprs: Vec<Expr> = projection.expr.iter().map(|expr| expr.clone().unalias_nested().data).collect();
    over(expr, &projection.schema, &exprs)
}

/// The expression over those that the columns of a schema are.
pub(super) fn over(expr: &Expr, schema: &DFSchemaRef, exprs: &[Expr]) -> Result<Expr> {
    over_but(expr, schema, exprs, None)
}

/// The same but for the columns of another schema.
fn over_but(expr: &Expr, schema: &DFSchemaRef, exprs: &[Expr], other: Option<&DFSchemaRef>) -> Result<Expr> {
    let replaced = expr.clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) if other.is_some_and(|other| other.has_column(column)) => Transformed::no(expr),
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(index) => Transformed::yes(exprs[index].clone()),
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
            let known = match call.func.name() {
                "count" | "sum" | "min" | "max" => true,
                "avg" => params.filter.is_none(),
                _ => false,
            };
            (plain && known).then_some(call)
        }
        _ => None,
    }
}

/// The aggregate with this side of the join grouped at its source.
fn grouped(
    aggregate: &Aggregate,
    join: &Join,
    descent: &Descent,
    side: Side,
    outer: bool,
    partial_schemas: &mut Vec<DFSchemaRef>,
) -> Result<Option<LogicalPlan>> {
    let (inlined, (ours, other)) = (&descent.inlined, side.of(join));
    let source = source_of(ours);
    if source.is_none() || source == source_of(other) || !is_of(inlined, ours.schema(), outer) {
        return Ok(None);
    }
    let Some(partials) = Partials::of(inlined, ours.schema()) else { return Ok(None) };
    let rows = estimate(ours);
    for keys in
        [Keys::computed(join, descent, ours, outer), Some(Keys::read(join, descent, ours))].into_iter().flatten()
    {
        let Keys { at_source, above } = keys;
        // Without keys there is a row even of no rows: it would meet partners where there are none to meet.
        if at_source.is_empty() {
            continue;
        }
        let groups = rows.groups(&at_source);
        let partial = Aggregate::try_new(Arc::clone(ours), at_source, partials.exprs.clone())?;
        let partial = LogicalPlan::Aggregate(partial);
        if groups_that_pay(&partial, rows.rows, groups)?.is_some() {
            let schema = Arc::clone(partial.schema());
            // Without the projections between the joins two columns may have one name.
            let joined = side.exchanged(join, partial).and_then(|rows| descent.over(rows));
            let Ok(whole) = joined.and_then(|joined| partials.above(joined, above, aggregate)) else { return Ok(None) };
            partial_schemas.push(schema);
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

/// What the rows of a side are grouped by.
struct Keys {
    at_source: Vec<Expr>,
    /// The query's keys over the joins of these groups.
    above: Vec<Expr>,
}

impl Keys {
    /// By the columns that the joins and the query's keys read.
    fn read(join: &Join, descent: &Descent, ours: &LogicalPlan) -> Self {
        let keys = &descent.inlined.keys;
        Self { at_source: columns_of(join, descent, keys, ours.schema()), above: keys.clone() }
    }

    /// The same with the query's keys computed at the source: fewer months than days. `None` where it has no such key, and beneath an outer join, which adds rows of NULLs.
    fn computed(join: &Join, descent: &Descent, ours: &LogicalPlan, outer: bool) -> Option<Self> {
        let of_ours = |key: &Expr| {
            let columns = key.column_refs();
            !columns.is_empty() && columns.iter().all(|column| ours.schema().has_column(column))
        };
        let is_computed = |key: &Expr| of_ours(key) && !matches!(key, Expr::Column(_)) && !key.is_volatile();
        let keys = &descent.inlined.keys;
        if outer || !keys.iter().any(is_computed) {
            return None;
        }
        let (computed, plain): (Vec<(usize, &Expr)>, Vec<_>) =
            keys.iter().enumerate().partition(|(_, key)| is_computed(key));
        let plain: Vec<Expr> = plain.into_iter().map(|(_, key)| key.clone()).collect();
        let mut at_source = columns_of(join, descent, &plain, ours.schema());
        let mut above = keys.clone();
        for (place, key) in computed {
            let name = format!("partial_key_{place}");
            at_source.push(key.clone().unalias().alias(&name));
            above[place] = Expr::Column(Column::from_name(name));
        }
        Some(Self { at_source, above })
    }
}

/// An aggregate as one over groups of groups.
pub(super) struct TwoSteps {
    /// The first step: any rows of a group may be in groups of their own.
    pub(super) partial: Aggregate,
    partials: Partials,
}

/// The aggregate in two steps; `None` where the first step's groups could not be put together.
pub(super) fn two_steps(aggregate: &Aggregate) -> Result<Option<TwoSteps>> {
    finest(aggregate, aggregate.group_expr.clone())
}

/// The same with a first step by these keys, which tell all of the aggregate's.
pub(super) fn finest(aggregate: &Aggregate, keys: Vec<Expr>) -> Result<Option<TwoSteps>> {
    let calls: Option<Vec<AggregateFunction>> = aggregate.aggr_expr.iter().cloned().map(call_of).collect();
    let Some(calls) = calls else { return Ok(None) };
    let inlined = Inlined { keys, calls };
    let Some(partials) = Partials::of(&inlined, aggregate.input.schema()) else { return Ok(None) };
    let partial = Aggregate::try_new(Arc::clone(&aggregate.input), inlined.keys, partials.exprs.clone())?;
    Ok(Some(TwoSteps { partial, partials }))
}

impl TwoSteps {
    /// The aggregate over rows of the first step.
    pub(super) fn merged(&self, rows: LogicalPlan, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let keys = self.partial.schema.columns().into_iter().take(self.partial.group_expr.len());
        self.merged_by(rows, keys.map(Expr::Column).collect(), aggregate)
    }

    /// The same by these keys.
    pub(super) fn merged_by(&self, rows: LogicalPlan, keys: Vec<Expr>, aggregate: &Aggregate) -> Result<LogicalPlan> {
        self.partials.above(rows, keys, aggregate)
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
    let args = inlined.calls.iter().all(|call| match (call.params.args.as_slice(), &call.params.filter) {
        ([arg], None) => of_ours(arg) && (!outer || is_column(arg)),
        ([arg], Some(filter)) => of_ours(arg) && of_ours(filter) && !outer,
        _ => false,
    });
    args && inlined.keys.iter().all(|key| {
        !matches!(key, Expr::GroupingSet(_))
            && (of_ours(key) || key.column_refs().iter().all(|column| !ours.has_column(column)))
    })
}

/// The columns of this side that the joins or these keys read, in the side's own order.
fn columns_of(join: &Join, descent: &Descent, keys: &[Expr], ours: &DFSchemaRef) -> Vec<Expr> {
    let joins = descent.joins.iter().map(|(join, _)| join).chain([join]);
    let conditions = joins.flat_map(|join| join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter));
    let read: BTreeSet<&Column> = conditions.chain(keys).flat_map(Expr::column_refs).collect();
    ours.columns().into_iter().filter(|column| read.contains(column)).map(Expr::Column).collect()
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
            Expr::Column(_) | Expr::GroupingSet(_) => key,
            computed => computed.alias(format!("__headwater_key_{place}")),
        };
        let grouped = grouped.into_iter().enumerate().map(named).collect();
        let merged = Aggregate::try_new(Arc::new(rows), grouped, self.merged())?;
        // Grouping sets have a column for each of their keys, and one that tells the set.
        if let [Expr::GroupingSet(_)] = merged.group_expr.as_slice() {
            places = (0..merged.schema.fields().len() - merged.aggr_expr.len()).collect();
        }
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
                    call.params.filter = None;
                    vec![Expr::AggregateFunction(call).alias(format!("merged_{place}"))]
                }
            })
            .collect()
    }

    /// The query's columns over the merged ones, whose keys are at these places.
    fn outputs(&self, merged: &Aggregate, keys: &[usize], schema: &DFSchemaRef) -> Vec<Expr> {
        let columns = merged.schema.columns();
        let mut next = columns.iter().skip(columns.len() - merged.aggr_expr.len()).cloned().map(Expr::Column);
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
