//! Statements whose plan is the same whatever values are bound.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use headwater_federation::RemoteTable;

use crate::access::guard::unguarded;

/// Whether the statement only compares its parameters with columns, for equality, and none of its conditions holds a constant: then its plan can serve other values, if what planning
/// makes of it allows it ([`headwater_federation::Draft::takes`]).
///
/// A constant beside a parameter might be left out of the plan because of the parameter's value, as `id > 5` of `id > 5 AND id = $1`.
pub(crate) fn is_generic(plan: &LogicalPlan) -> Result<bool> {
    let mut is = true;
    plan.apply_with_subqueries(|node| {
        is &= match node {
            LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate)
                .into_iter()
                .all(|condition| is_comparison(condition) || is_bare(condition)),
            LogicalPlan::Join(join) => {
                join.filter.iter().all(is_bare) && join.on.iter().all(|(l, r)| is_bare(l) && is_bare(r))
            }
            // Another table may be a query of its own, with conditions that are not seen here.
            LogicalPlan::TableScan(scan) => {
                scan.filters.is_empty() && unguarded(&source_as_provider(&scan.source)?).is::<RemoteTable>()
            }
            LogicalPlan::Subquery(_) | LogicalPlan::Extension(_) => false,
            other => {
                let mut bound = false;
                other.apply_expressions(|expr| {
                    bound |= expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_)) || is_subquery(part)))?;
                    Ok(TreeNodeRecursion::Continue)
                })?;
                !bound
            }
        };
        Ok(if is { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is)
}

/// Whether the values can be told apart in a plan, from each other and from NULL, and are of types that compare as they look.
pub(crate) fn are_distinct(values: &[ScalarValue]) -> bool {
    use datafusion::arrow::datatypes::DataType;
    let plain = |value: &ScalarValue| {
        let data_type = value.data_type();
        !value.is_null()
            && (data_type.is_integer()
                || matches!(data_type, DataType::Utf8 | DataType::Date32 | DataType::Decimal128(..)))
    };
    // As text, so that no cast makes two of them one.
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.iter().all(plain) && texts.iter().enumerate().all(|(at, text)| !texts[..at].contains(text))
}

/// A parameter that a column is to equal.
fn is_comparison(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    matches!(
        (left.as_ref(), right.as_ref()),
        (Expr::Column(_), Expr::Placeholder(_)) | (Expr::Placeholder(_), Expr::Column(_))
    )
}

/// Neither a parameter nor a constant, nor another query.
fn is_bare(condition: &Expr) -> bool {
    let other = |part: &Expr| matches!(part, Expr::Placeholder(_) | Expr::Literal(..)) || is_subquery(part);
    condition.exists(|part| Ok(other(part))).is_ok_and(|found| !found)
}

fn is_subquery(part: &Expr) -> bool {
    matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..))
}
