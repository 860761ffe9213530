//! Aggregates over what a subquery finds for each row, whatever it compares with the row.
//!
//! `(SELECT count(*) FROM orders o WHERE o.customer = c.id AND o.total > c.limit)`: DataFusion groups the subquery by what it compares, which it can where that is equal to a column and nothing else
//! (`scalar_subquery_to_join` of datafusion-optimizer 55.2), and refuses the others. Here the rows around it, which get a number where they have no key, are joined with what the subquery reads by its conditions, and are grouped by their key or number again.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Dependency, NullEquality, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Expr, ExprSchemable, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator,
    Projection, Subquery, Window, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::correlated::asks_beyond;
use crate::zeros::{holds, under_their_names};

/// The optimizer rule. It runs before subqueries that are values are made joins.
#[derive(Debug, Default)]
pub struct AggregatesOfEachRow;

impl OptimizerRule for AggregatesOfEachRow {
    fn name(&self) -> &str {
        "headwater_aggregates_of_each_row"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let input = match &plan {
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::Projection(projection) => &projection.input,
            _ => return Ok(Transformed::no(plan)),
        };
        if !holds(&plan, |part| matches!(part, Expr::ScalarSubquery(_)))? {
            return Ok(Transformed::no(plan));
        }
        let mut asked = Vec::new();
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarSubquery(subquery) = part
                    && !asked.iter().any(|(known, _)| known == part)
                    && let Some(found) = Asked::of(subquery, input, config)?
                {
                    asked.push((part.clone(), found));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if asked.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let (plan, input) = filtered_first(plan, &asked)?;
        let mut rows = read_by(&plan, &input, &asked)?;
        let mut values = Vec::new();
        for (subquery, asked) in asked {
            let value = config.alias_generator().next("__of_row");
            rows = asked.beside(rows, &value, config)?;
            values.push((subquery, Expr::Column(Column::from_name(value))));
        }
        let shown = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let named = under_their_names(plan, |expr| {
            expr.transform_down(|part| {
                let value = values.iter().find(|(subquery, _)| *subquery == part).map(|(_, value)| value.clone());
                Ok(value.map_or_else(|| Transformed::no(part), Transformed::yes))
            })
        })?;
        let exprs = named.data.expressions();
        let over = named.data.with_new_exprs(exprs, vec![rows])?;
        Ok(Transformed::yes(match over {
            filtered @ LogicalPlan::Filter(_) => {
                LogicalPlan::Projection(Projection::try_new(shown, Arc::new(filtered))?)
            }
            selected => selected,
        }))
    }
}

/// The operator and its input, which the conditions have left that ask nothing of each row.
fn filtered_first(plan: LogicalPlan, asked: &[(Expr, Asked)]) -> Result<(LogicalPlan, Arc<LogicalPlan>)> {
    let filter = match plan {
        LogicalPlan::Filter(filter) => filter,
        other => {
            let input = Arc::new(other.inputs()[0].clone());
            return Ok((other, input));
        }
    };
    let (mut asking, mut own) = (Vec::new(), Vec::new());
    for condition in split_conjunction_owned(filter.predicate) {
        let asks = condition.exists(|part| Ok(asked.iter().any(|(subquery, _)| subquery == part)))?;
        if asks || condition.is_volatile() { asking.push(condition) } else { own.push(condition) }
    }
    let input = match conjunction(own) {
        Some(own) => Arc::new(LogicalPlan::Filter(Filter::try_new(own, filter.input)?)),
        None => filter.input,
    };
    let asking = conjunction(asking).unwrap_or_else(|| lit(true));
    Ok((LogicalPlan::Filter(Filter::try_new(asking, Arc::clone(&input))?), input))
}

/// The columns of a key that no two rows share; none where none is known.
fn key_of(rows: &LogicalPlan) -> Option<Vec<Column>> {
    let keys = rows.schema().functional_dependencies();
    let key = keys.iter().find(|key| key.mode == Dependency::Single && !key.nullable)?;
    let column = |index: &usize| Column::from(rows.schema().qualified_field(*index));
    Some(key.source_indices.iter().map(column).collect())
}

/// The input of an operator with those of its columns that are read above it: all of them by a condition.
fn read_by(plan: &LogicalPlan, input: &LogicalPlan, asked: &[(Expr, Asked)]) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(input.clone()) };
    let mut read: BTreeSet<Column> = projection.expr.iter().flat_map(Expr::column_refs).cloned().collect();
    for expr in &projection.expr {
        expr.apply(|part| {
            if let Expr::ScalarSubquery(Subquery { outer_ref_columns, .. }) = part {
                read.extend(outer_ref_columns.iter().filter_map(outside));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    read.extend(asked.iter().flat_map(|(_, asked)| asked.conditions.iter().flat_map(outside_columns)));
    read.extend(key_of(input).unwrap_or_default());
    let columns = input.schema().columns().into_iter().filter(|column| read.contains(column));
    let columns = columns.map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input.clone()))?))
}

/// What a subquery asks of each row.
struct Asked {
    /// What it reads, without its conditions that read from outside.
    rows: LogicalPlan,
    /// Those, over the columns of the rows.
    conditions: Vec<Expr>,
    aggregates: Vec<Expr>,
    /// The value, over the aggregates' columns.
    value: Expr,
}

impl Asked {
    /// `None` of a subquery that DataFusion makes a join, and of one that is no aggregate of all that it finds.
    fn of(subquery: &Subquery, outer: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<Self>> {
        let mut selected = Vec::new();
        let mut rows = subquery.subquery.as_ref();
        while let LogicalPlan::Projection(projection) = rows {
            selected.push(projection);
            rows = &projection.input;
        }
        let LogicalPlan::Aggregate(groups) = rows else { return Ok(None) };
        let plain = |expr: &Expr| !expr.contains_outer() && !expr.is_volatile();
        let is_function = |expr: &Expr| matches!(expr, Expr::AggregateFunction(_)) && plain(expr);
        if !groups.group_expr.is_empty()
            || !groups.aggr_expr.iter().all(is_function)
            || !selected.iter().flat_map(|projection| &projection.expr).all(plain)
            || !compares_freely(&groups.input)?
        {
            return Ok(None);
        }
        let Some((rows, conditions)) = pulled(&groups.input, config)? else { return Ok(None) };
        let is_known = |column: &Column| outer.schema().has_column(column);
        if !conditions.iter().flat_map(outside_columns).all(|column| is_known(&column)) {
            return Ok(None);
        }
        let mut values: Vec<Expr> = groups.schema.columns().into_iter().map(Expr::Column).collect();
        let mut schema = &groups.schema;
        for projection in selected.into_iter().rev() {
            let of = |part: Expr| match &part {
                Expr::Column(column) => Ok(Transformed::yes(values[schema.index_of_column(column)?].clone())),
                _ => Ok(Transformed::no(part)),
            };
            let computed = |expr: &Expr| Ok(expr.clone().unalias_nested().data.transform_up(of)?.data);
            let next = projection.expr.iter().map(computed).collect::<Result<Vec<_>>>()?;
            (values, schema) = (next, &projection.schema);
        }
        let [value] = &values[..] else { return Ok(None) };
        Ok(Some(Self { rows, conditions, aggregates: groups.aggr_expr.clone(), value: value.clone() }))
    }

    /// The rows of an operator's input with a column for the value.
    fn beside(self, input: LogicalPlan, value: &str, config: &dyn OptimizerConfig) -> Result<LogicalPlan> {
        let name = |prefix: &str| config.alias_generator().next(prefix);
        let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        // A key tells the rows apart, and lets conditions through.
        let (left, place) = match key_of(&input) {
            Some(_) => (input, None),
            None => {
                let place = name("__row");
                let number = row_number();
                let numbered = Expr::Column(Column::from_name(number.schema_name().to_string())).alias(&place);
                let window = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(input))?);
                let numbered = columns.iter().cloned().chain([numbered]).collect();
                let numbered = Projection::try_new(numbered, Arc::new(window))?;
                (LogicalPlan::Projection(numbered), Some(Expr::Column(Column::from_name(place))))
            }
        };

        // Columns of both sides may have one name.
        let read = self.conditions.iter().chain(&self.aggregates).flat_map(Expr::column_refs);
        let read: BTreeSet<Column> = read.cloned().collect();
        let named: Vec<(Column, Column)> =
            read.into_iter().map(|column| (column, Column::from_name(name("__asked")))).collect();
        let found = name("__found");
        let own = named.iter().map(|(column, name)| Expr::Column(column.clone()).alias(name.name()));
        let own = own.chain([lit(true).alias(&found)]).collect();
        let right = LogicalPlan::Projection(Projection::try_new(own, Arc::new(self.rows))?);

        let renamed = |expr: Expr| {
            let renamed = expr.transform_up(|part| {
                Ok(match &part {
                    Expr::Column(column) => match named.iter().find(|(known, _)| known == column) {
                        Some((_, name)) => Transformed::yes(Expr::Column(name.clone())),
                        None => Transformed::no(part),
                    },
                    Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column.clone())),
                    _ => Transformed::no(part),
                })
            });
            Ok::<_, datafusion::common::DataFusionError>(renamed?.data)
        };
        let conditions = self.conditions.into_iter().map(renamed).collect::<Result<Vec<_>>>()?;
        let joined = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            vec![],
            conjunction(conditions),
            JoinType::Left,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;

        let mut of_group = Vec::new();
        let mut aggregates = Vec::new();
        for aggregate in self.aggregates {
            let before = Column::from_name(aggregate.schema_name().to_string());
            let Expr::AggregateFunction(AggregateFunction { func, mut params }) = renamed(aggregate)? else { continue };
            let found = Expr::Column(Column::from_name(&found));
            params.filter = Some(Box::new(match params.filter.take() {
                Some(filter) => found.and(*filter),
                None => found,
            }));
            let aggregate = Expr::AggregateFunction(AggregateFunction { func, params });
            of_group.push((before, Column::from_name(aggregate.schema_name().to_string())));
            aggregates.push(aggregate);
        }
        let by = columns.iter().cloned().chain(place).collect();
        let groups = Aggregate::try_new(Arc::new(LogicalPlan::Join(joined)), by, aggregates)?;
        let computed = self.value.transform_up(|part| {
            Ok(match &part {
                Expr::Column(column) => match of_group.iter().find(|(before, _)| before.name == column.name) {
                    Some((_, now)) => Transformed::yes(Expr::Column(now.clone())),
                    None => Transformed::no(part),
                },
                _ => Transformed::no(part),
            })
        })?;
        let shown = columns.into_iter().chain([computed.data.alias(value)]).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(LogicalPlan::Aggregate(groups)))?))
    }
}

/// Whether a condition that reads from outside asks something else than whether a column is equal to it.
fn compares_freely(rows: &LogicalPlan) -> Result<bool> {
    rows.exists(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(false) };
        let reads = split_conjunction(&filter.predicate).into_iter().filter(|condition| condition.contains_outer());
        let schema = filter.input.schema();
        Ok(reads.into_iter().any(|condition| !is_equality(condition, schema)))
    })
}

/// Whether DataFusion groups the rows right by what is compared: it takes the column of a cast for the key, of which several values may be one when they are cast.
fn is_equality(condition: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let is_column = |expr: &Expr| match expr {
        Expr::Column(_) => true,
        Expr::Cast(Cast { expr, field }) => {
            matches!(expr.as_ref(), Expr::Column(_))
                && expr.get_type(schema).is_ok_and(|from| stays_apart(&from, field.data_type()))
        }
        _ => false,
    };
    (is_column(left) && !right.any_column_refs()) || (is_column(right) && !left.any_column_refs())
}

/// Whether values that differ still do when they are cast.
fn stays_apart(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(_, before), DataType::Decimal128(_, now) | DataType::Decimal256(_, now)) => now >= before,
        (DataType::Date32, DataType::Timestamp(..)) | (DataType::Float32, DataType::Float64) => true,
        (from, to) if from.is_integer() => {
            to.is_integer()
                || matches!(to, DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) if *scale >= 0)
        }
        (from, to) => from.is_string() && to.is_string(),
    }
}

/// The rows without their conditions that read from outside, and those; `None` where more than conditions does, or other rows would be left.
fn pulled(rows: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<Option<(LogicalPlan, Vec<Expr>)>> {
    if rows.all_out_ref_exprs().is_empty() {
        return Ok(Some((rows.clone(), vec![])));
    }
    match rows {
        LogicalPlan::Filter(filter) => {
            let Some((input, mut conditions)) = pulled(&filter.input, config)? else { return Ok(None) };
            let (reading, own): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate.clone())
                .into_iter()
                .partition(|condition| condition.contains_outer());
            for condition in &own {
                if asks_beyond(condition, &input)? {
                    return Ok(None);
                }
            }
            for condition in &reading {
                if condition.is_volatile() || condition.exists(|part| Ok(is_subquery(part)))? {
                    return Ok(None);
                }
            }
            let input = match conjunction(own) {
                Some(own) => LogicalPlan::Filter(Filter::try_new(own, Arc::new(input))?),
                None => input,
            };
            let read: BTreeSet<Column> = reading.iter().flat_map(Expr::column_refs).cloned().collect();
            let named: Vec<(Column, Column)> = read
                .into_iter()
                .map(|column| (column, Column::from_name(config.alias_generator().next("__compared"))))
                .collect();
            let kept = input.schema().columns().into_iter().map(Expr::Column);
            let added = named.iter().map(|(column, name)| Expr::Column(column.clone()).alias(name.name()));
            let columns = kept.chain(added).collect();
            for condition in reading {
                let renamed = condition.transform_up(|part| {
                    Ok(match &part {
                        Expr::Column(column) => match named.iter().find(|(known, _)| known == column) {
                            Some((_, name)) => Transformed::yes(Expr::Column(name.clone())),
                            None => Transformed::no(part),
                        },
                        _ => Transformed::no(part),
                    })
                })?;
                conditions.push(renamed.data);
            }
            Ok(Some((LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?), conditions)))
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::contains_outer) => {
            let Some((input, conditions)) = pulled(&projection.input, config)? else { return Ok(None) };
            let read: BTreeSet<Column> = conditions.iter().flat_map(Expr::column_refs).cloned().collect();
            let columns = projection.expr.iter().cloned().chain(read.into_iter().map(Expr::Column)).collect();
            Ok(Some((LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?), conditions)))
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => pulled(&sort.input, config),
        _ => Ok(None),
    }
}

fn is_subquery(part: &Expr) -> bool {
    matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
}

fn outside(part: &Expr) -> Option<Column> {
    match part {
        Expr::OuterReferenceColumn(_, column) => Some(column.clone()),
        _ => None,
    }
}

/// The columns that an expression reads from outside.
fn outside_columns(expr: &Expr) -> Vec<Column> {
    let mut columns = Vec::new();
    let _visited = expr.apply(|part| {
        columns.extend(outside(part));
        Ok(TreeNodeRecursion::Continue)
    });
    columns
}
