//! A logical plan as a tree of operators.
//!
//! Every node has an operator or is computed anew: by the keys that an epoch touches where the node treats keys apart, otherwise as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{self as logical, Expr, FetchType, LogicalPlan, SkipType, SortExpr, TableScan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::expressions::Column;

use super::evaluate::Evaluator;
use super::input::{Input, Slot, placeholder};
use super::sets::{KeySet, grouping_sets};
use super::time;
use crate::delta::loosened;
use crate::operator::{
    Aggregate, Constant, Expand, Expression, Filter, Join, Keep, MatchKind, Matched, Measure, OfTable, Operator, Order,
    Project, Recompute, RowWise, Scan, Side, Temporal, Top, Union, Watched, accumulator,
};
use crate::table::{By, width};
use crate::{Delta, Result};

type Compiled = Box<dyn Operator>;

/// Operators for a plan.
pub(crate) fn compile(plan: &LogicalPlan, evaluator: &Arc<Evaluator>) -> Result<Compiled> {
    Compiler { evaluator }.node(plan)
}

struct Compiler<'a> {
    evaluator: &'a Arc<Evaluator>,
}

impl Compiler<'_> {
    fn node(&self, plan: &LogicalPlan) -> Result<Compiled> {
        if has_subquery(plan)? {
            return self.subtree(plan);
        }
        self.check_time(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan, plan),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Repartition(repartition) => self.node(&repartition.input),
            // A view has no order; one that decides which rows there are stands below a limit.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Sort(sort) => self.top(&sort.input, &sort.expr, 0, sort.fetch),
            LogicalPlan::Limit(limit) => self.limit(limit, plan),
            LogicalPlan::Join(join) => self.join(join, plan),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, plan),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.node(input)).collect::<Result<_>>()?;
                Ok(Box::new(Union { inputs, schema: loose(plan) }))
            }
            LogicalPlan::Window(window) => self.window(window, plan),
            LogicalPlan::Unnest(unnest) => {
                let input = self.node(&unnest.input)?;
                let strict = strict(&unnest.input);
                let plan_over = over(plan, &[&unnest.input])?;
                let (evaluator, schema) = (Arc::clone(self.evaluator), loose(plan));
                Ok(Box::new(RowWise { name: "unnest".to_owned(), evaluator, plan: plan_over, input, strict, schema }))
            }
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
                let schema = loose(plan);
                let rows = self.evaluator.run(plan, vec![])?;
                let rows = rows.iter().filter(|rows| rows.num_rows() > 0);
                let rows = rows.map(|rows| Ok(Delta::inserted(crate::delta::under(&schema, rows)?)));
                Ok(Box::new(Constant { rows: rows.collect::<Result<_>>()?, schema }))
            }
            other => self.subtree(other),
        }
    }

    fn scan(&self, scan: &TableScan, plan: &LogicalPlan) -> Result<Compiled> {
        let Some(found) = placeholder(scan) else { return self.subtree(plan) };
        let columns = scan.projection.clone().unwrap_or_else(|| (0..found.schema.fields().len()).collect());
        let name = scan.table_name.to_string();
        Ok(Box::new(Scan { input: found.input, name, columns, schema: loose(plan) }))
    }

    fn projection(&self, projection: &logical::Projection) -> Result<Compiled> {
        let schema = loosened(projection.schema.as_arrow());
        let expressions = self.expressions(&projection.expr, projection.input.schema())?;
        let columns: Option<Vec<usize>> =
            expressions.iter().map(|expression| expression.downcast_ref::<Column>().map(Column::index)).collect();
        // Columns that a join would make for nothing are not made.
        if let (Some(columns), LogicalPlan::Join(join)) = (columns, inner_plan(&projection.input))
            && is_inner(join)
            && time::node_tells_time(inner_plan(&projection.input))?.is_none()
            && self.keys_compare(join)?
            && !has_subquery(inner_plan(&projection.input))?
        {
            return Ok(Box::new(self.inner_join(join)?.with_columns(columns, schema)));
        }
        Ok(Box::new(Project { input: self.node(&projection.input)?, expressions, schema }))
    }

    fn filter(&self, filter: &logical::Filter) -> Result<Compiled> {
        let input = self.node(&filter.input)?;
        self.filtered(input, Some(&filter.predicate), filter.input.schema())
    }

    /// Rows for which a condition holds. What of it depends on the time comes after the rest.
    fn filtered(&self, input: Compiled, condition: Option<&Expr>, schema: &DFSchema) -> Result<Compiled> {
        let parts = condition.map(split_conjunction).unwrap_or_default();
        let (temporal, plain): (Vec<&Expr>, Vec<&Expr>) = parts.into_iter().partition(|part| time::tells_time(part));
        let mut input = input;
        if let Some(condition) = conjunction(plain.into_iter().cloned()) {
            let condition = self.expression(&condition, schema)?;
            let schema = SchemaRef::clone(input.schema());
            input = Box::new(Filter { input, condition, schema });
        }
        match conjunction(temporal.into_iter().cloned()) {
            Some(condition) => self.temporal(input, &condition, schema),
            None => Ok(input),
        }
    }

    fn temporal(&self, input: Compiled, condition: &Expr, schema: &DFSchema) -> Result<Compiled> {
        let watched = |crossing: time::Crossing| {
            let time = self.expression(&crossing.time, schema)?;
            Ok(Watched { time, moved: crossing.moved, when: crossing.when })
        };
        let watched = time::crossings(condition)?.into_iter().map(watched).collect::<Result<_>>()?;
        let now = Field::new(time::NOW_COLUMN, DataType::Timestamp(TimeUnit::Nanosecond, None), false);
        let now = DFSchema::from_unqualified_fields(vec![Arc::new(now)].into(), HashMap::new())?;
        let timed = self.expression(&time::with_column(condition)?, &schema.join(&now)?)?;
        Ok(Box::new(Temporal::new(input, timed, time::shown(condition), watched)?))
    }

    /// Refuses a node that depends on the time in a way that no operator follows.
    fn check_time(&self, plan: &LogicalPlan) -> Result<()> {
        let followed = match plan {
            LogicalPlan::Filter(_) => None,
            LogicalPlan::Join(join) if is_inner(join) => {
                join.on.iter().flat_map(|(left, right)| [left, right]).find(|key| time::tells_time(key)).cloned()
            }
            other => time::node_tells_time(other)?,
        };
        followed.map_or(Ok(()), |expr| Err(time::refusal(&expr)))
    }

    fn limit(&self, limit: &logical::Limit, plan: &LogicalPlan) -> Result<Compiled> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return self.recompute("limit", plan);
        };
        self.first_rows(&limit.input, skip, fetch)
    }

    /// A limit's rows. The order that it goes by may stand below columns that are computed, which then are computed of those rows alone.
    fn first_rows(&self, input: &LogicalPlan, skip: usize, fetch: Option<usize>) -> Result<Compiled> {
        match inner_plan(input) {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.top(&sort.input, &sort.expr, skip, fetch),
            LogicalPlan::Projection(projection)
                if is_ordered(&projection.input) && !has_subquery(inner_plan(input))? =>
            {
                let schema = loosened(projection.schema.as_arrow());
                let expressions = self.expressions(&projection.expr, projection.input.schema())?;
                let input = self.first_rows(&projection.input, skip, fetch)?;
                Ok(Box::new(Project { input, expressions, schema }))
            }
            _ => self.top(input, &[], skip, fetch),
        }
    }

    fn top(&self, input: &LogicalPlan, order: &[SortExpr], skip: usize, fetch: Option<usize>) -> Result<Compiled> {
        let ordered = |sort: &SortExpr| {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            Ok(Order { expression: self.expression(&sort.expr, input.schema())?, options })
        };
        let order = order.iter().map(ordered).collect::<Result<_>>()?;
        Ok(Box::new(Top::new(self.node(input)?, order, skip, fetch)?))
    }

    fn join(&self, join: &logical::Join, plan: &LogicalPlan) -> Result<Compiled> {
        if !self.keys_compare(join)? {
            return self.recompute("join of unlike keys", plan);
        }
        if is_inner(join) && join.filter.as_ref().is_some_and(time::tells_time) {
            let all = logical::Join { filter: None, ..join.clone() };
            let schema = join.left.schema().join(join.right.schema())?;
            return self.filtered(Box::new(self.inner_join(&all)?), join.filter.as_ref(), &schema);
        }
        if is_inner(join) {
            return Ok(Box::new(self.inner_join(join)?));
        }
        // NOT IN with more than its one key is not defined by DataFusion's own join either.
        if join.null_aware && (join.join_type != JoinType::LeftAnti || join.on.len() != 1 || join.filter.is_some()) {
            return self.recompute("not in", plan);
        }
        let (kind, swapped) = match join.join_type {
            JoinType::Inner | JoinType::Left => (MatchKind::Left, false),
            JoinType::Right => (MatchKind::Left, true),
            JoinType::Full => (MatchKind::Full, false),
            JoinType::LeftSemi => (MatchKind::Semi, false),
            JoinType::RightSemi => (MatchKind::Semi, true),
            JoinType::LeftAnti if join.null_aware => (MatchKind::NotIn, false),
            JoinType::LeftAnti => (MatchKind::Anti, false),
            JoinType::RightAnti => (MatchKind::Anti, true),
            JoinType::LeftMark => (MatchKind::Mark, false),
            JoinType::RightMark => (MatchKind::Mark, true),
        };
        let filter = self.join_filter(join)?;
        let (left_keys, right_keys) = self.join_keys(join)?;
        let needs_rows = filter.is_some() || matches!(kind, MatchKind::Left | MatchKind::Full);
        let keep = if needs_rows { Keep::Rows } else { Keep::Keys };
        let (left, right) = ((&join.left, left_keys), (&join.right, right_keys));
        let ((left, left_keys), (right, right_keys)) = if swapped { (right, left) } else { (left, right) };
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let table = of_table(right, &right_keys, nulls_match);
        let left = Side::new(self.node(left)?, left_keys, Keep::Rows)?;
        let right = Side::new(self.node(right)?, right_keys, keep)?.of_table(table);
        Ok(Box::new(Matched::new(left, right, kind, filter, nulls_match, swapped, joined(join)?, loose(plan))))
    }

    fn inner_join(&self, join: &logical::Join) -> Result<Join> {
        let (left_keys, right_keys) = self.join_keys(join)?;
        let nulls_match = join.null_equality == NullEquality::NullEqualsNull;
        let left_table = of_table(&join.left, &left_keys, nulls_match);
        let right_table = of_table(&join.right, &right_keys, nulls_match);
        let left = Side::new(self.node(&join.left)?, left_keys, Keep::Rows)?.of_table(left_table);
        let right = Side::new(self.node(&join.right)?, right_keys, Keep::Rows)?.of_table(right_table);
        Ok(Join::new(left, right, self.join_filter(join)?, nulls_match, joined(join)?))
    }

    /// The keys of both sides, in the order of the right side's columns, in which a table's key is most often.
    fn join_keys(&self, join: &logical::Join) -> Result<(Vec<Expression>, Vec<Expression>)> {
        let (left, right): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let left = self.expressions(&left, join.left.schema())?;
        let right = self.expressions(&right, join.right.schema())?;
        let mut pairs: Vec<(Expression, Expression)> = left.into_iter().zip(right).collect();
        pairs.sort_by_key(|(_, right)| right.downcast_ref::<Column>().map_or(usize::MAX, Column::index));
        Ok(pairs.into_iter().unzip())
    }

    /// Whether the keys of both sides have the same types, so that equal ones have equal bytes.
    fn keys_compare(&self, join: &logical::Join) -> Result<bool> {
        let (left, right) = self.join_keys(join)?;
        let (left_schema, right_schema) = (join.left.schema().as_arrow(), join.right.schema().as_arrow());
        for (left, right) in left.iter().zip(&right) {
            if left.data_type(left_schema)? != right.data_type(right_schema)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn join_filter(&self, join: &logical::Join) -> Result<Option<Expression>> {
        let schema = join.left.schema().join(join.right.schema())?;
        join.filter.as_ref().map(|filter| self.expression(filter, &schema)).transpose()
    }

    fn aggregate(&self, aggregate: &logical::Aggregate, plan: &LogicalPlan) -> Result<Compiled> {
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return match self.grouping_sets(aggregate, plan)? {
                Some(compiled) => Ok(compiled),
                None => self.recompute("grouping sets", plan),
            };
        }
        let schema = aggregate.input.schema();
        let keys = self.expressions(&aggregate.group_expr, schema)?;
        let measures = aggregate.aggr_expr.iter().map(|expr| self.measure(expr, schema));
        let measures: Option<Vec<Measure>> = measures.collect::<Result<_>>()?;
        if let Some(measures) = measures {
            return Ok(Box::new(Aggregate::new(self.node(&aggregate.input)?, keys, measures, loose(plan))?));
        }
        let names: Vec<String> = aggregate.aggr_expr.iter().map(|expr| expr.schema_name().to_string()).collect();
        if keys.is_empty() {
            return self.recompute(&format!("aggregate {}", names.join(", ")), plan);
        }
        let output = loose(plan);
        let output_keys = (0..keys.len())
            .map(|index| Arc::new(Column::new(output.field(index).name(), index)) as Expression)
            .collect();
        let name = format!("aggregate {} by group", names.join(", "));
        self.by_key(name, plan, &aggregate.input, (keys, output_keys))
    }

    /// One aggregate over all sets: each row comes once for every set. `None` where an aggregate has no accumulator.
    fn grouping_sets(&self, aggregate: &logical::Aggregate, plan: &LogicalPlan) -> Result<Option<Compiled>> {
        let Some((keys, sets)) = grouping_sets(aggregate)? else { return Ok(None) };
        let schema = aggregate.input.schema();
        let measures = aggregate.aggr_expr.iter().map(|expr| self.measure(expr, schema));
        let Some(measures) = measures.collect::<Result<Option<Vec<Measure>>>>()? else { return Ok(None) };
        // The columns of the input stay where they are, so that what is aggregated is what it would be without sets.
        let (output, first) = (loose(plan), schema.fields().len());
        let of_sets = output.fields().iter().take(keys.len() + 1);
        let fields: Vec<_> = loose(&aggregate.input).fields().iter().chain(of_sets).cloned().collect();
        let expanded = loosened(&Schema::new(fields));
        let column = |place: usize| Arc::new(Column::new(expanded.field(place).name(), place)) as Expression;
        let grouped_by = (first..=first + keys.len()).map(column).collect();
        let standing: Vec<&KeySet> = sets.iter().filter(|set| !set.has.contains(&true)).collect();
        let mut standing_keys: Vec<ArrayRef> = output.fields()[..keys.len()]
            .iter()
            .map(|field| new_null_array(field.data_type(), standing.len()))
            .collect();
        let count = standing.len();
        if count > 0 {
            standing_keys.push(ScalarValue::iter_to_array(standing.into_iter().map(|set| set.id.clone()))?);
        }
        let input = Box::new(Expand {
            input: self.node(&aggregate.input)?,
            keys: self.expressions(&keys, schema)?,
            sets: sets.into_iter().map(|set| (set.has, set.id)).collect(),
            schema: expanded,
        });
        let mut compiled = Aggregate::new(input, grouped_by, measures, output)?;
        if count > 0 {
            compiled.stand(&standing_keys, count)?;
        }
        Ok(Some(Box::new(compiled)))
    }

    /// An aggregate with its accumulator; `None` where there is none.
    fn measure(&self, expr: &Expr, schema: &DFSchema) -> Result<Option<Measure>> {
        let context = PhysicalPlanningContext::default();
        let lowered =
            LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), self.evaluator.properties(), &context);
        let lowered = lowered.build()?;
        if !lowered.order_bys.is_empty()
            && !matches!(lowered.aggregate.fun().name(), "count" | "sum" | "avg" | "min" | "max")
        {
            return Ok(None);
        }
        let function = lowered.aggregate;
        let arguments = function.expressions();
        let types = arguments.iter().map(|argument| Ok(argument.data_type(schema.as_arrow())?));
        let types = types.collect::<Result<Vec<_>>>()?;
        let result = function.field();
        let state = accumulator(function.fun().name(), function.is_distinct(), &types, result.data_type())?;
        let name = function.name().to_owned();
        Ok(state.map(|state| Measure { name, arguments, filter: lowered.filter, state }))
    }

    fn window(&self, window: &logical::Window, plan: &LogicalPlan) -> Result<Compiled> {
        let partitions = window.window_expr.iter().map(partition_of).collect::<Option<Vec<_>>>();
        let common = partitions.and_then(|partitions| {
            let (first, others) = partitions.split_first()?;
            let common = first.iter().filter(|expr| others.iter().all(|other| other.contains(expr)));
            Some(common.cloned().collect::<Vec<Expr>>())
        });
        match common {
            Some(common) if !common.is_empty() => {
                let keys = self.expressions(&common, window.input.schema())?;
                self.by_key("window by partition".to_owned(), plan, &window.input, (keys.clone(), keys))
            }
            _ => self.recompute("window", plan),
        }
    }

    fn by_key(
        &self,
        name: String,
        plan: &LogicalPlan,
        input: &LogicalPlan,
        keys: (Vec<Expression>, Vec<Expression>),
    ) -> Result<Compiled> {
        let over = over(plan, &[input])?;
        let (evaluator, schema) = (Arc::clone(self.evaluator), loose(plan));
        let input = (self.node(input)?, strict(input));
        Ok(Box::new(Recompute::by_key(name, evaluator, over, input, keys, schema)?))
    }

    /// Follows the inputs of a node and computes the node anew.
    fn recompute(&self, name: &str, plan: &LogicalPlan) -> Result<Compiled> {
        let inputs = plan.inputs();
        let over = over(plan, &inputs)?;
        let inputs =
            inputs.into_iter().map(|input| Ok((self.node(input)?, strict(input)))).collect::<Result<Vec<_>>>()?;
        let evaluator = Arc::clone(self.evaluator);
        Ok(Box::new(Recompute::whole(name.to_owned(), evaluator, over, inputs, loose(plan))?))
    }

    /// Computes a whole subtree anew from the tables that it reads.
    fn subtree(&self, plan: &LogicalPlan) -> Result<Compiled> {
        let mut temporal = None;
        plan.apply_with_subqueries(|node| {
            temporal = temporal.take().or(time::node_tells_time(node)?);
            Ok(if temporal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if let Some(expr) = temporal {
            return Err(time::refusal(&expr));
        }
        let mut inputs: Vec<(Compiled, SchemaRef)> = Vec::new();
        let mut failed = None;
        let over = plan
            .clone()
            .transform_up_with_subqueries(|node| {
                let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
                if placeholder(scan).is_none() {
                    return Ok(Transformed::no(node));
                }
                match self.scan(scan, &node) {
                    Ok(input) => inputs.push((input, strict(&node))),
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
                Ok(Transformed::yes(slot(&node, inputs.len().saturating_sub(1))))
            })?
            .data;
        if let Some(error) = failed {
            return Err(error);
        }
        let name = plan.display().to_string();
        let evaluator = Arc::clone(self.evaluator);
        Ok(Box::new(Recompute::whole(name, evaluator, over, inputs, loose(plan))?))
    }

    fn expressions(&self, expressions: &[Expr], schema: &DFSchema) -> Result<Vec<Expression>> {
        expressions.iter().map(|expression| self.expression(expression, schema)).collect()
    }

    fn expression(&self, expression: &Expr, schema: &DFSchema) -> Result<Expression> {
        if time::tells_time(expression) {
            return Err(time::refusal(expression));
        }
        let context = PhysicalPlanningContext::default();
        Ok(create_physical_expr(expression, schema, self.evaluator.properties(), &context)?)
    }
}

/// The table of a service that a plan is with nothing in between, where its rows can be looked up by these keys.
fn of_table(plan: &LogicalPlan, keys: &[Expression], nulls: bool) -> Option<OfTable> {
    let LogicalPlan::TableScan(scan) = inner_plan(plan) else { return None };
    let found = placeholder(scan)?;
    let Input::Table(table) = found.input else { return None };
    let columns = scan.projection.clone().unwrap_or_else(|| (0..found.schema.fields().len()).collect());
    let key_of = |key: &Expression| Some(*columns.get(key.downcast_ref::<Column>()?.index())?);
    let key = keys.iter().map(key_of).collect::<Option<Vec<usize>>>()?;
    let field = |column: &usize| found.schema.field(*column).data_type();
    // A float in a key is compared without the sign of its zero.
    let is_exact = |column: &usize| width(field(column)).is_some() && !field(column).is_floating();
    let is_set = key.iter().enumerate().all(|(place, column)| !key[..place].contains(column));
    // One column of values of many lengths is read with all others of its part of the row: of a wide table that would cost more than it saves.
    let varying = |columns: &[usize]| columns.iter().filter(|column| width(field(column)).is_none()).count();
    let all: Vec<usize> = (0..found.schema.fields().len()).collect();
    let is_narrow = varying(&columns) == 0 || 2 * varying(&columns) >= varying(&all);
    let fits = !key.is_empty() && is_set && key.iter().all(is_exact) && is_narrow;
    let is_whole = scan.filters.is_empty() && scan.fetch.is_none();
    (fits && is_whole).then_some(OfTable { table, by: By { columns: key, nulls }, columns })
}

fn is_inner(join: &logical::Join) -> bool {
    join.join_type == JoinType::Inner
}

/// The plan below names.
fn inner_plan(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => inner_plan(&alias.input),
        other => other,
    }
}

/// Whether a sort decides the order of the plan's rows.
fn is_ordered(plan: &LogicalPlan) -> bool {
    match inner_plan(plan) {
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        _ => false,
    }
}

fn has_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expression| {
        expression.apply(|part| {
            found |= matches!(
                part,
                Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            );
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

fn partition_of(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Alias(alias) => partition_of(&alias.expr),
        Expr::WindowFunction(call) => Some(call.params.partition_by.clone()),
        _ => None,
    }
}

/// The node with slots for its inputs.
fn over(plan: &LogicalPlan, inputs: &[&LogicalPlan]) -> Result<LogicalPlan> {
    let slots = inputs.iter().enumerate().map(|(place, input)| slot(input, place)).collect();
    // Not `with_new_exprs`: the node's own schema stays as it is.
    let mut slots: Vec<Option<LogicalPlan>> = Vec::into_iter(slots).map(Some).collect();
    let mut next = 0;
    let replaced = plan.clone().map_children(|_| {
        let slot = slots.get_mut(next).and_then(Option::take);
        next += 1;
        slot.map(Transformed::yes).ok_or_else(|| {
            datafusion::error::DataFusionError::Internal("a node has more inputs than it said".to_owned())
        })
    })?;
    Ok(replaced.data)
}

/// Stands for the rows of a plan, under the very names that the plan's own have.
fn slot(plan: &LogicalPlan, place: usize) -> LogicalPlan {
    let source = provider_as_source(Arc::new(Slot { place, schema: strict(plan) }));
    LogicalPlan::TableScan(TableScan {
        table_name: "input".into(),
        source,
        projection: None,
        projected_schema: Arc::clone(plan.schema()),
        filters: vec![],
        fetch: None,
        statistics_requests: Default::default(),
    })
}

fn joined(join: &logical::Join) -> Result<SchemaRef> {
    let schema = |plan: &LogicalPlan| plan.schema().as_arrow().fields().clone();
    let fields = schema(&join.left).iter().chain(schema(&join.right).iter()).cloned().collect::<Vec<_>>();
    Ok(loosened(&Schema::new(fields)))
}

fn strict(plan: &LogicalPlan) -> SchemaRef {
    Arc::clone(plan.schema().inner())
}

fn loose(plan: &LogicalPlan) -> SchemaRef {
    loosened(plan.schema().as_arrow())
}
