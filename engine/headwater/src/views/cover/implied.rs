//! Whether one condition follows from another.

use std::cmp::Ordering;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Whether every row that satisfies `given` satisfies `wanted`. `false` where it is not known.
pub(super) fn implies(given: &Expr, wanted: &Expr) -> bool {
    if given == wanted {
        return true;
    }
    if let Some((one, other)) = sides(given, Operator::Or) {
        return implies(one, wanted) && implies(other, wanted);
    }
    if let Some((one, other)) = sides(given, Operator::And) {
        return implies(one, wanted) || implies(other, wanted);
    }
    if let Some((one, other)) = sides(wanted, Operator::Or) {
        return implies(given, one) || implies(given, other);
    }
    if let Some((one, other)) = sides(wanted, Operator::And) {
        return implies(given, one) && implies(given, other);
    }
    match wanted {
        Expr::IsNotNull(wanted) => comparison(given).is_some_and(|(given, ..)| *given == **wanted),
        Expr::InList(wanted) if !wanted.negated => match given {
            Expr::InList(given) if !given.negated && given.expr == wanted.expr => {
                given.list.iter().all(|item| wanted.list.contains(item))
            }
            _ => comparison(given).is_some_and(|(expression, op, _)| {
                *expression == *wanted.expr
                    && op == Operator::Eq
                    && sides(given, Operator::Eq).is_some_and(|(_, value)| wanted.list.contains(value))
            }),
        },
        _ => narrower(given, wanted),
    }
}

/// Whether one comparison with a value keeps a part of what the other keeps.
fn narrower(given: &Expr, wanted: &Expr) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (Some((one, given, low)), Some((other, wanted, bound))) = (comparison(given), comparison(wanted)) else {
        return false;
    };
    // Of floating-point numbers NaN is in no order that both sides would be sure to mean.
    if one != other || low.data_type() != bound.data_type() || low.data_type().is_floating() {
        return false;
    }
    let Some(order) = low.partial_cmp(bound) else { return false };
    match (given, wanted) {
        (Gt, Gt) | (Gt | GtEq | Eq, GtEq) | (Lt, Lt) | (Lt | LtEq | Eq, LtEq) if order == Ordering::Equal => true,
        (Gt | GtEq | Eq, Gt | GtEq) => order == Ordering::Greater,
        (Lt | LtEq | Eq, Lt | LtEq) => order == Ordering::Less,
        (Gt, NotEq) => order != Ordering::Less,
        (Lt, NotEq) => order != Ordering::Greater,
        (Eq, NotEq) => order != Ordering::Equal,
        (GtEq, NotEq) => order == Ordering::Greater,
        (LtEq, NotEq) => order == Ordering::Less,
        _ => false,
    }
}

/// An expression compared with a value that is not NULL. No row with a NULL there satisfies it.
fn comparison(condition: &Expr) -> Option<(&Expr, Operator, &ScalarValue)> {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let Expr::Literal(value, _) = &**right else { return None };
    (matches!(op, Eq | NotEq | Gt | GtEq | Lt | LtEq) && !value.is_null()).then_some((left, *op, value))
}

fn sides(condition: &Expr, wanted: Operator) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == wanted => Some((left, right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, in_list, lit};

    use super::*;

    #[test]
    fn condition_that_keeps_a_part_of_the_rows_implies_the_wider_one_and_no_other() {
        let x = || col("x");
        for (given, wanted, holds) in [
            (x().gt(lit(5)), x().gt(lit(5)), true),
            (x().gt(lit(6)), x().gt(lit(5)), true),
            (x().gt_eq(lit(6)), x().gt(lit(5)), true),
            (x().gt_eq(lit(5)), x().gt(lit(5)), false),
            (x().gt(lit(4)), x().gt(lit(5)), false),
            (x().gt(lit(5)), x().gt_eq(lit(5)), true),
            (x().eq(lit(7)), x().gt(lit(5)), true),
            (x().eq(lit(5)), x().gt(lit(5)), false),
            (x().eq(lit(5)), x().gt_eq(lit(5)), true),
            (x().lt(lit(4)), x().lt_eq(lit(5)), true),
            (x().lt_eq(lit(5)), x().lt(lit(5)), false),
            (x().lt(lit(6)), x().lt(lit(5)), false),
            (x().gt(lit(5)), x().lt(lit(50)), false),
            (x().eq(lit(1)), x().not_eq(lit(2)), true),
            (x().eq(lit(2)), x().not_eq(lit(2)), false),
            (x().gt(lit(2)), x().not_eq(lit(2)), true),
            (x().gt_eq(lit(2)), x().not_eq(lit(2)), false),
            (x().not_eq(lit(2)), x().gt(lit(1)), false),
            (x().gt(lit(5)), x().is_not_null(), true),
            (x().gt(lit(5)), col("y").is_not_null(), false),
            (x().is_not_null(), x().gt(lit(5)), false),
            (x().eq(lit(1)), x().eq(lit(1)).or(x().eq(lit(2))), true),
            (x().eq(lit(1)).or(x().eq(lit(2))), x().eq(lit(1)), false),
            (x().eq(lit(1)).or(x().eq(lit(2))), x().lt(lit(3)), true),
            (x().eq(lit(3)), in_list(x(), vec![lit(1), lit(3)], false), true),
            (x().eq(lit(4)), in_list(x(), vec![lit(1), lit(3)], false), false),
            (in_list(x(), vec![lit(1)], false), in_list(x(), vec![lit(1), lit(3)], false), true),
            (in_list(x(), vec![lit(1), lit(4)], false), in_list(x(), vec![lit(1), lit(3)], false), false),
            (in_list(x(), vec![lit(1)], true), in_list(x(), vec![lit(1), lit(3)], false), false),
            (x().gt(lit(5_i64)), x().gt(lit(4_i32)), false),
            (x().gt(lit(5.0)), x().gt(lit(4.0)), false),
        ] {
            assert_eq!(implies(&given, &wanted), holds, "{given} => {wanted}");
        }
    }
}
