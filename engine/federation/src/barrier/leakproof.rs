//! Which expressions fail for no row, wherever they are evaluated: here, or at any source.
//!
//! The list is closed. Arithmetic is not on it (PostgreSQL fails on overflow where DataFusion wraps around), nor are functions, nor casts that may
//! not fit, nor LIKE whose pattern could end in an escape. What is missing costs speed and no secret.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, Like};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use super::Barrier;

/// Aggregates that fail for no value, or only over all that they are given, which are rows that may be read.
const AGGREGATES: [&str; 5] = ["count", "sum", "min", "max", "avg"];

/// Whether no expression above the plan's barriers can fail. What is beneath a barrier is not the query's own.
pub(super) fn is_harmless(plan: &LogicalPlan) -> Result<bool> {
    let mut harmless = true;
    plan.apply_with_subqueries(|node| {
        if Barrier::beneath(node).is_some() {
            return Ok(TreeNodeRecursion::Jump);
        }
        harmless = is_known(node) && are_leakproof(node)?;
        Ok(if harmless { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(harmless)
}

fn is_known(node: &LogicalPlan) -> bool {
    matches!(
        node,
        LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Distinct(_)
    )
}

fn are_leakproof(node: &LogicalPlan) -> Result<bool> {
    let schema = merge_schema(&node.inputs());
    let mut leakproof = true;
    node.apply_expressions(|expression| {
        leakproof &= is_leakproof(expression, &schema);
        Ok(if leakproof { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(leakproof)
}

/// Whether an expression over columns of this schema fails for no row.
pub(super) fn is_leakproof(expression: &Expr, schema: &DFSchema) -> bool {
    let mut leakproof = true;
    let looked = expression.apply(|part| {
        leakproof = is_leakproof_part(part, schema);
        Ok(if leakproof { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    looked.is_ok() && leakproof
}

/// Whether an expression may be moved beneath a barrier: it speaks of nothing but the columns there.
pub(super) fn is_movable(expression: &Expr) -> bool {
    let mut movable = true;
    let looked = expression.apply(|part| {
        movable = !matches!(
            part,
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..) | Expr::AggregateFunction(_)
        );
        Ok(if movable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    looked.is_ok() && movable
}

/// The same of an expression whose parts are.
fn is_leakproof_part(part: &Expr, schema: &DFSchema) -> bool {
    match part {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Case(_)
        | Expr::TryCast(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_) => true,
        Expr::BinaryExpr(binary) => matches!(
            binary.op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::And
                | Operator::Or
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
        ),
        Expr::Like(like) => is_plain_like(like),
        Expr::Cast(cast) => always_fits(cast, schema),
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            AGGREGATES.contains(&func.name()) && params.order_by.is_empty()
        }
        _ => false,
    }
}

/// LIKE with a pattern that is there already and has no escape: PostgreSQL fails on the rows for which it comes to an escape at the end.
fn is_plain_like(like: &Like) -> bool {
    let Expr::Literal(pattern, _) = like.pattern.as_ref() else { return false };
    let pattern = pattern.try_as_str().flatten();
    like.escape_char.is_none() && pattern.is_some_and(|pattern| !pattern.contains('\\'))
}

/// Whether every value of the one type is one of the other.
fn always_fits(cast: &Cast, schema: &DFSchema) -> bool {
    use DataType::{
        Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Null, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let Ok(from) = cast.expr.get_type(schema) else { return false };
    let to = cast.field.data_type();
    match (&from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64) => true,
        (Int16, Int32 | Int64 | Float32 | Float64) => true,
        (Int32, Int64 | Float32 | Float64) => true,
        (Int64 | UInt64, Float32 | Float64) => true,
        (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64 | Float32 | Float64) => true,
        (UInt16, UInt32 | UInt64 | Int32 | Int64 | Float32 | Float64) => true,
        (UInt32, UInt64 | Int64 | Float32 | Float64) => true,
        (Float32, Float64) => true,
        (DataType::Decimal128(digits, scale), DataType::Decimal128(to_digits, to_scale)) => {
            to_scale >= scale && i16::from(*to_digits) - i16::from(*to_scale) >= i16::from(*digits) - i16::from(*scale)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col, lit, try_cast};

    use super::*;

    fn schema() -> DFSchema {
        let fields = [("n", DataType::Int64), ("s", DataType::Utf8), ("small", DataType::Int32)];
        let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        DFSchema::try_from(Arc::new(Schema::new(fields))).unwrap()
    }

    #[test]
    fn comparison_is_leakproof_and_what_may_fail_is_not() {
        let schema = schema();
        for expression in [
            col("n").eq(lit(1_i64)),
            col("n").gt(lit(1_i64)).and(col("s").is_null().or(col("s").like(lit("a%")))),
            col("n").in_list(vec![lit(1_i64), lit(2_i64)], false),
            cast(col("small"), DataType::Int64).lt(col("n")),
            try_cast(col("s"), DataType::Int64).eq(lit(1_i64)),
        ] {
            assert!(is_leakproof(&expression, &schema), "{expression}");
        }
        for expression in [
            (lit(1_i64) / col("n")).eq(lit(0_i64)),
            (col("n") + lit(1_i64)).gt(lit(0_i64)),
            cast(col("s"), DataType::Int64).eq(lit(1_i64)),
            cast(col("n"), DataType::Int32).eq(col("small")),
            col("s").like(lit("a\\")),
            col("s").like(col("s")),
            col("n").is_null().and((lit(1_i64) / col("n")).eq(lit(0_i64))),
        ] {
            assert!(!is_leakproof(&expression, &schema), "{expression}");
        }
    }
}
