//! Gives the columns of a correlated subquery names that no other has.
//!
//! `EXISTS (SELECT o.id FROM orders o JOIN lines l ON l.order_id = o.id WHERE l.id = c.id)` becomes a join with a derived table of what the subquery selects and of what its
//! correlated conditions compare: `o.id` and `l.id`. DataFusion names both `id` there and takes the first (`decorrelate_predicate_subquery` and `scalar_subquery_to_join` of
//! datafusion-optimizer 55.2), so the condition is tested against another column. Services name their columns alike. Where such names meet, what is
//! compared gets a name of its own here, beneath the condition and before the subquery is made a join.
//!
//! `EXISTS (SELECT 1 FROM (SELECT o.total AS n FROM orders o WHERE o.customer = c.id) d WHERE d.n > 5)` fails: the column that the condition compares is handed up through `d`, whose columns DataFusion
//! does not look at again (`decorrelate`, as above). The derived table becomes a choice of columns under its name.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, Subquery};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// What is computed for IN has such a name.
const MEMBER: &str = "__member";

/// The optimizer rule. It runs before subqueries are made joins.
#[derive(Debug, Default)]
pub struct UnambiguousSubqueries;

impl OptimizerRule for UnambiguousSubqueries {
    fn name(&self) -> &str {
        "headwater_unambiguous_subqueries"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let values = subqueries(&plan, |part| matches!(part, Expr::ScalarSubquery(_)))?;
        let members = subqueries(&plan, |part| matches!(part, Expr::InSubquery(_)))?;
        plan.map_subqueries(|subquery| {
            let LogicalPlan::Subquery(subquery) = subquery else { return Ok(Transformed::no(subquery)) };
            // DataFusion wants the groups of a subquery that is one value named as its conditions name them.
            let is_value = values.contains(&Arc::as_ptr(&subquery.subquery));
            let is_member = members.contains(&Arc::as_ptr(&subquery.subquery));
            let plan = without_aliases(&subquery, is_value)?;
            let plan = plan.transform_data(|plan| match is_member && !subquery.outer_ref_columns.is_empty() {
                true => under_a_name(plan, config),
                false => Ok(Transformed::no(plan)),
            })?;
            let plan = plan.transform_data(|plan| match is_ambiguous(&plan)? && !(is_value && has_groups(&plan)?) {
                true => plan.transform_up(|node| renamed(node, config)),
                false => Ok(Transformed::no(plan)),
            })?;
            Ok(plan.update_data(|plan| LogicalPlan::Subquery(Subquery { subquery: Arc::new(plan), ..subquery })))
        })
    }
}

/// The subquery's rows, with its derived tables that read from outside of it as choices of columns. `counts` says whether DataFusion knows that an aggregate of all rows is there without
/// rows, too; where it does not, such a one is refused.
pub(crate) fn without_aliases(subquery: &Subquery, counts: bool) -> Result<Transformed<LogicalPlan>> {
    let rows = subquery.subquery.as_ref().clone();
    if subquery.outer_ref_columns.is_empty() {
        return Ok(Transformed::no(rows));
    }
    rows.transform_down(|node| {
        let named = match &node {
            LogicalPlan::SubqueryAlias(named) => named,
            // What these hand up is looked at again.
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_) => return Ok(Transformed::no(node)),
            _ => return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump)),
        };
        let is_lateral = matches!(named.input.as_ref(), LogicalPlan::Subquery(_));
        if is_lateral || !reads(&named.input, &subquery.outer_ref_columns) {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        let is_of_all = |node: &LogicalPlan| match node {
            LogicalPlan::Aggregate(groups) => groups.group_expr.is_empty() && reads(node, &subquery.outer_ref_columns),
            _ => false,
        };
        if !counts && named.input.exists(|node| Ok(is_of_all(node)))? {
            return Err(refused_subquery());
        }
        let under_its_name = |column: Column| {
            let name = column.name.clone();
            Expr::Column(column).alias_qualified(Some(named.alias.clone()), name)
        };
        let columns = named.input.schema().columns().into_iter().map(under_its_name).collect();
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(&named.input))?)))
    })
}

/// Whether the rows read any of these columns from outside. What a lateral join reads of its left side is not from outside.
pub(crate) fn reads(rows: &LogicalPlan, outside: &[Expr]) -> bool {
    rows.all_out_ref_exprs().iter().any(|column| outside.contains(column))
}

/// Whether the condition holds a subquery that reads further out than these rows.
pub(crate) fn asks_beyond(condition: &Expr, rows: &LogicalPlan) -> Result<bool> {
    condition.exists(|part| {
        let (Expr::ScalarSubquery(subquery)
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })) = part
        else {
            return Ok(matches!(part, Expr::SetComparison(_)));
        };
        let is_own = |column: &Expr| match column {
            Expr::OuterReferenceColumn(_, column) => rows.schema().has_column(column),
            _ => false,
        };
        Ok(!subquery.outer_ref_columns.iter().all(is_own))
    })
}

/// That a subquery is refused which can't be made a join.
pub fn refused_subquery() -> DataFusionError {
    DataFusionError::NotImplemented(
        "a subquery that reads a column from outside, where it is no condition of a join: beneath LIMIT, windows, groups, DISTINCT or UNION it may ask whether one of its columns is \
         equal (=) to what is outside, and nothing else; write it as a join"
            .to_owned(),
    )
}

/// The rows of a subquery of IN with a name of its own for what is computed: DataFusion takes a column beneath that has its name for it, as `y.b` in `CAST(y.b AS BIGINT)`.
fn under_a_name(rows: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let is_of_table = |expr: &Expr| matches!(expr, Expr::Column(Column { relation: Some(_), .. }));
    if matches!(&rows, LogicalPlan::Projection(projection) if projection.expr.iter().all(is_of_table)) {
        return Ok(Transformed::no(rows));
    }
    if rows.schema().field(0).name().starts_with(MEMBER) {
        return Ok(Transformed::no(rows));
    }
    let column = Expr::Column(Column::from(rows.schema().qualified_field(0)));
    let named = column.alias(config.alias_generator().next(MEMBER));
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(vec![named], Arc::new(rows))?)))
}

/// The subqueries of the operator that are such expressions.
fn subqueries(plan: &LogicalPlan, is_such: impl Fn(&Expr) -> bool) -> Result<Vec<*const LogicalPlan>> {
    let mut found = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::ScalarSubquery(subquery) | Expr::InSubquery(InSubquery { subquery, .. }) = part
                && is_such(part)
            {
                found.push(Arc::as_ptr(&subquery.subquery));
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

fn has_groups(subquery: &LogicalPlan) -> Result<bool> {
    subquery.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty())))
}

/// Whether two columns of one name are among what the subquery selects and what its correlated conditions read.
pub(crate) fn is_ambiguous(subquery: &LogicalPlan) -> Result<bool> {
    let mut read = BTreeSet::new();
    // A cast has the name of the column that it is of, and is another.
    let mut computed = BTreeSet::new();
    subquery.apply(|node| {
        match node {
            LogicalPlan::Filter(filter) => read.extend(correlated(filter)),
            LogicalPlan::Projection(projection) => {
                let named = projection.expr.iter().zip(projection.schema.fields());
                let other = named.filter(|(expr, _)| !matches!(expr, Expr::Column(_)));
                computed.extend(other.map(|(_, field)| field.name().clone()));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let is_computed = |column: &Column| computed.contains(column.name()) || computed.contains(&column.flat_name());
    if read.iter().any(is_computed) {
        return Ok(true);
    }
    let columns: BTreeSet<Column> = selected(subquery).into_iter().chain(read).collect();
    let names: BTreeSet<&str> = columns.iter().map(Column::name).collect();
    Ok(names.len() < columns.len())
}

/// What the subquery selects, as its own tables call it where it is a plain column.
fn selected(subquery: &LogicalPlan) -> BTreeSet<Column> {
    match subquery {
        LogicalPlan::Projection(projection) => projection
            .expr
            .iter()
            .zip(projection.schema.columns())
            .map(|(expr, output)| match expr {
                Expr::Column(column) => column.clone(),
                _ => output,
            })
            .collect(),
        other => other.schema().columns().into_iter().collect(),
    }
}

/// The subquery's own columns in the conditions that read a column from outside.
pub(crate) fn correlated(filter: &Filter) -> BTreeSet<Column> {
    let conditions = split_conjunction(&filter.predicate).into_iter().filter(|condition| condition.contains_outer());
    conditions.flat_map(|condition| condition.column_refs().into_iter().cloned().collect::<Vec<_>>()).collect()
}

/// A filter whose correlated conditions read columns of new names.
pub(crate) fn renamed(node: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    // What stands above a filter that has a column more has it too.
    let node = node.recompute_schema()?;
    let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::yes(node)) };
    let columns = correlated(filter);
    if columns.is_empty() {
        return Ok(Transformed::yes(node));
    }
    let names: Vec<(Column, Column)> = columns
        .into_iter()
        .map(|column| (column, Column::from_name(config.alias_generator().next("__correlated"))))
        .collect();
    let kept = filter.input.schema().columns().into_iter().map(Expr::Column);
    let added = names.iter().map(|(column, name)| Expr::Column(column.clone()).alias(name.name()));
    let input = Projection::try_new(kept.chain(added).collect(), Arc::clone(&filter.input))?;
    let predicate = filter.predicate.clone().transform_down(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match names.iter().find(|(known, _)| known == column) {
                Some((_, name)) => Transformed::yes(Expr::Column(name.clone())),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    })?;
    let input = Arc::new(LogicalPlan::Projection(input));
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate.data, input)?)))
}
