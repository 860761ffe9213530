//! Counts equal rows where `INTERSECT ALL` and `EXCEPT ALL` do.
//!
//! Of a row that is there twice on the left and once on the right, `INTERSECT ALL` leaves one, and so does `EXCEPT ALL`. DataFusion makes both a semi or anti join of all columns in which NULLs are equal
//! (`LogicalPlanBuilder::intersect` and `except` of datafusion-expr 55.2): it leaves two and none. The equal rows of each side are numbered here, and the numbers are compared as well.
//!
//! No other join looks so in a plan that is not optimized yet. Later one may, that of `LEFT SEMI JOIN` by `IS NOT DISTINCT FROM` (`extract_equijoin_predicate` of datafusion-optimizer 55.2), and rules
//! are run several times. So the sides of such a join are exchanged when its keys are found. A subquery's is known by its name.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Dependency, JoinType, NullEquality, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Cast, Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, Projection, Window, lit};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// What the names of the numbers begin with.
const NUMBER: &str = "__equal_row";

/// What DataFusion calls a subquery that has become a side of a join.
const SUBQUERY: &str = "__correlated_sq";

/// The optimizer rule. It runs first.
#[derive(Debug, Default)]
pub struct NumberedRows;

/// DataFusion's rule that finds the keys of joins, in whose place it stands.
#[derive(Debug, Default)]
pub struct KeysOfJoins(ExtractEquijoinPredicate);

impl OptimizerRule for NumberedRows {
    fn name(&self) -> &str {
        "headwater_numbered_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        if !is_multiset(join) {
            return Ok(Transformed::no(plan));
        }
        let names = [config.alias_generator().next(NUMBER), config.alias_generator().next(NUMBER)];
        let [left_number, right_number] = names.clone().map(|name| Expr::Column(Column::from_name(name)));
        let [left_name, right_name] = names;
        let mut on = join.on.clone();
        on.push((left_number, right_number));
        let numbered = Join::try_new(
            numbered(&join.left, &left_name)?,
            numbered(&join.right, &right_name)?,
            on,
            None,
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
        let projection = Projection::try_new(columns, Arc::new(LogicalPlan::Join(numbered)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}

/// The rows with a number among those that are equal.
fn numbered(rows: &Arc<LogicalPlan>, name: &str) -> Result<Arc<LogicalPlan>> {
    // Not by the keys, which may be casts: DataFusion takes a cast of a column that is sorted for sorted, and then fails.
    let keys = rows.schema().iter().map(|(relation, field)| {
        let column = Expr::Column(Column::from((relation, field)));
        // Of the two zeros, which are equal, it makes one.
        match field.data_type() {
            DataType::Float32 => column + lit(0.0_f32),
            DataType::Float64 => column + lit(0.0_f64),
            _ => column,
        }
    });
    let number = row_number().partition_by(keys.collect()).build()?;
    let column = Expr::Column(Column::from_name(number.schema_name().to_string())).alias(name);
    let window = Window::try_new(vec![number], Arc::clone(rows))?;
    let columns = rows.schema().columns().into_iter().map(Expr::Column);
    let projection = Projection::try_new(columns.chain([column]).collect(), Arc::new(LogicalPlan::Window(window)))?;
    Ok(Arc::new(LogicalPlan::Projection(projection)))
}

/// Whether the join is a set operation that counts equal rows, and they may be.
fn is_multiset(join: &Join) -> bool {
    let columns = |side: &LogicalPlan| side.schema().columns();
    let (left, right) = (columns(&join.left), columns(&join.right));
    let is_set_operation = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !join.null_aware
        && join.on.len() == left.len()
        && join.on.len() == right.len();
    let keys = join.on.iter().zip(left.iter().zip(&right));
    let is_own = |column: &Column| column.name.starts_with(NUMBER) || is_of_subquery(column);
    is_set_operation
        && keys.into_iter().all(|((left_key, right_key), (left, right))| {
            key(left_key) == Some(left) && key(right_key) == Some(right) && !is_own(left) && !is_own(right)
        })
        && !is_unique(&join.left)
}

fn is_of_subquery(column: &Column) -> bool {
    column.relation.as_ref().is_some_and(|relation| relation.table().starts_with(SUBQUERY))
}

/// The column that a key is, but for its type.
fn key(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(Cast { expr, .. }) => key(expr),
        _ => None,
    }
}

/// Whether no two rows are equal, so that nothing is to be counted: the left side of a set operation without `ALL` is made so.
fn is_unique(rows: &LogicalPlan) -> bool {
    match rows {
        LogicalPlan::Distinct(Distinct::All(_)) => true,
        LogicalPlan::Aggregate(groups) => !groups.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))),
        LogicalPlan::Filter(filter) => is_unique(&filter.input),
        LogicalPlan::Sort(sort) => is_unique(&sort.input),
        LogicalPlan::Limit(limit) => is_unique(&limit.input),
        LogicalPlan::SubqueryAlias(named) => is_unique(&named.input),
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => {
            is_unique(&join.left)
        }
        LogicalPlan::Projection(projection) => {
            let columns = projection.input.schema().columns();
            let keeps = |column: &Column| projection.expr.iter().any(|expr| bare(expr) == Some(column));
            (columns.iter().all(keeps) && is_unique(&projection.input)) || has_key(rows)
        }
        _ => has_key(rows),
    }
}

fn bare(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => bare(&alias.expr),
        _ => None,
    }
}

fn has_key(rows: &LogicalPlan) -> bool {
    let keys = rows.schema().functional_dependencies();
    keys.iter().any(|key| key.mode == Dependency::Single && !key.nullable)
}

impl OptimizerRule for KeysOfJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let had_keys = matches!(&plan, LogicalPlan::Join(join) if !join.on.is_empty());
        let keyed = self.0.rewrite(plan, config)?;
        if had_keys {
            return Ok(keyed);
        }
        keyed.map_data(|plan| match plan {
            LogicalPlan::Join(join) if looks_like_one(&join) => exchanged(join).map(LogicalPlan::Join),
            other => Ok(other),
        })
    }
}

/// Whether nothing but columns that others may leave out tells the join from a set operation.
fn looks_like_one(join: &Join) -> bool {
    let is_of_subquery = |key: &Expr| key.column_refs().into_iter().all(is_of_subquery);
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !join.null_aware
        && !join.on.iter().all(|(_, right)| is_of_subquery(right))
}

/// The join with its sides exchanged.
fn exchanged(join: Join) -> Result<Join> {
    let join_type = join.join_type.swap();
    let on = join.on.into_iter().map(|(left, right)| (right, left)).collect();
    Join::try_new(
        join.right,
        join.left,
        on,
        join.filter,
        join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}
