//! Outer joins of which only the rows without a partner are kept, as anti joins.
//!
//! `FROM crm.customers c LEFT JOIN shop.orders o ON o.customer = c.id WHERE o.id IS NULL` asks for the customers without orders. Where a row that has a partner can't be NULL in the column
//! that is tested, an anti join leaves the same rows, and of the other side it needs no more than its [distinct keys](super::tested).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ExprSchema, JoinType, NullEquality, Result, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, Projection};

use super::eager::{Side, through};
use super::estimate::source_of;

/// The plan with anti joins.
pub(super) fn anti_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let unmatched = match filter.input.as_ref() {
            LogicalPlan::Join(join) => unmatched(&filter.predicate, join)?,
            // It leaves columns of the join away.
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Join(join) if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
                    let rows = unmatched(&through(&filter.predicate, projection)?, join)?.map(Arc::new);
                    let (exprs, schema) = (projection.expr.clone(), Arc::clone(&projection.schema));
                    rows.map(|rows| Projection::try_new_with_schema(exprs, rows, schema))
                        .transpose()?
                        .map(LogicalPlan::Projection)
                }
                _ => None,
            },
            _ => None,
        };
        Ok(unmatched.map_or_else(|| Transformed::no(plan.clone()), Transformed::yes))
    })?;
    Ok(rewritten.data)
}

/// Those rows of a join for which the condition is true, where it keeps only rows without a partner.
fn unmatched(predicate: &Expr, join: &Join) -> Result<Option<LogicalPlan>> {
    let (filled, anti) = match join.join_type {
        JoinType::Left => (Side::Right, JoinType::LeftAnti),
        JoinType::Right => (Side::Left, JoinType::RightAnti),
        _ => return Ok(None),
    };
    let (other, kept) = filled.of(join);
    if source_of(other).is_none() || source_of(other) == source_of(kept) {
        return Ok(None);
    }
    let is_decisive = |condition: &Expr| matches!(condition, Expr::IsNull(tested) if matches!(tested.as_ref(), Expr::Column(column) if is_never_null(join, filled, column)));
    let (decisive, others): (Vec<&Expr>, Vec<&Expr>) =
        split_conjunction(predicate).into_iter().partition(|condition| is_decisive(condition));
    if decisive.is_empty() {
        return Ok(None);
    }
    let kept_columns = kept.schema().columns();
    let joined = Join::try_new(
        Arc::clone(&join.left),
        Arc::clone(&join.right),
        join.on.clone(),
        join.filter.clone(),
        anti,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let columns = join.schema.iter().map(|(qualifier, field)| {
        let column = Column::new(qualifier.cloned(), field.name());
        Ok(match kept_columns.contains(&column) {
            true => Expr::Column(column),
            false => {
                let null = Expr::Literal(ScalarValue::try_from(field.data_type())?, None);
                null.alias_qualified(qualifier.cloned(), field.name())
            }
        })
    });
    // A type of which there is no NULL to write.
    let Ok(columns) = columns.collect::<Result<Vec<_>>>() else { return Ok(None) };
    let rows = Projection::try_new_with_schema(columns, Arc::new(LogicalPlan::Join(joined)), Arc::clone(&join.schema))?;
    let rows = LogicalPlan::Projection(rows);
    Ok(Some(match conjunction(others.into_iter().cloned()) {
        Some(others) => LogicalPlan::Filter(Filter::try_new(others, Arc::new(rows))?),
        None => rows,
    }))
}

/// Whether the column, of the side that the join fills with NULLs, has a value in every row that has a partner.
fn is_never_null(join: &Join, filled: Side, column: &Column) -> bool {
    let (other, _) = filled.of(join);
    let Ok(field) = other.schema().field_from_column(column) else { return false };
    let is_key = |(left, right): &(Expr, Expr)| {
        let key = if filled == Side::Left { left } else { right };
        matches!(key, Expr::Column(key) if key == column)
    };
    !field.is_nullable() || join.null_equality == NullEquality::NullEqualsNothing && join.on.iter().any(is_key)
}
