//! What equalities between columns say together.
//!
//! Of `o.customer = c.id AND p.customer = c.id` follows `o.customer = p.customer`. A join of `o` and `p` alone has no other condition; and where that one has been placed, one of the others
//! says nothing more.

use datafusion::common::{Column, ExprSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, binary_expr};

/// The most columns of which all pairs are taken.
const COLUMNS_MAX: usize = 8;

/// Columns that are equal, by sets.
#[derive(Debug, Default)]
pub(super) struct Equals(Vec<Vec<Column>>);

impl Equals {
    /// Takes a condition; whether it says something that the others do not.
    pub(super) fn adds(&mut self, condition: &Expr) -> bool {
        let Some((a, b)) = columns(condition) else { return true };
        let place = |column: &Column| self.0.iter().position(|set| set.contains(column));
        match (place(a), place(b)) {
            (Some(a), Some(b)) if a == b => return false,
            (Some(a), Some(b)) => {
                let other = self.0.remove(a.max(b));
                self.0[a.min(b)].extend(other);
            }
            (Some(set), None) => self.0[set].push(b.clone()),
            (None, Some(set)) => self.0[set].push(a.clone()),
            (None, None) => self.0.push(vec![a.clone(), b.clone()]),
        }
        true
    }
}

/// The equalities between columns of two inputs that follow from these conditions and are none of them.
pub(super) fn derived(conditions: &[Expr], inputs: &[LogicalPlan]) -> Vec<Expr> {
    let input_of = |column: &Column| inputs.iter().position(|input| input.schema().has_column(column));
    let data_type = |column: &Column| {
        let input = &inputs[input_of(column)?];
        Some(input.schema().field_from_column(column).ok()?.data_type().clone())
    };
    let mut equals = Equals::default();
    for condition in conditions {
        // Numbers that are equal and not alike are not passed on: of zeros there are two.
        let passes = |(a, b): (&Column, &Column)| {
            data_type(a).is_some_and(|data_type| !data_type.is_floating() && !data_type.is_nested())
                && data_type(a) == data_type(b)
        };
        if columns(condition).is_some_and(passes) {
            equals.adds(condition);
        }
    }
    let mut derived = Vec::new();
    for set in equals.0.iter().filter(|set| set.len() <= COLUMNS_MAX) {
        for (place, a) in set.iter().enumerate() {
            for b in &set[place + 1..] {
                let is_said = conditions.iter().filter_map(columns).any(|(c, d)| (a, b) == (c, d) || (a, b) == (d, c));
                if !is_said && input_of(a) != input_of(b) {
                    derived.push(binary_expr(Expr::Column(a.clone()), Operator::Eq, Expr::Column(b.clone())));
                }
            }
        }
    }
    derived
}

/// The two columns that a condition says are equal.
fn columns(condition: &Expr) -> Option<(&Column, &Column)> {
    let Expr::BinaryExpr(equality) = condition else { return None };
    match (equality.op, equality.left.as_ref(), equality.right.as_ref()) {
        (Operator::Eq, Expr::Column(a), Expr::Column(b)) => Some((a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn equality_that_follows_from_others_adds_nothing() {
        let equal = |a: &str, b: &str| col(a).eq(col(b));
        let mut equals = Equals::default();
        assert!(equals.adds(&equal("a.x", "b.x")));
        assert!(equals.adds(&equal("c.x", "d.x")));
        assert!(equals.adds(&equal("d.x", "b.x")));
        assert!(!equals.adds(&equal("a.x", "c.x")));
        assert!(!equals.adds(&equal("b.x", "a.x")));
        assert!(equals.adds(&equal("a.y", "a.x")));
        assert!(equals.adds(&col("a.x").gt(col("b.x"))));
    }
}
