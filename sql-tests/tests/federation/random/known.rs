//! Defects of DataFusion 55.2 itself, in which its answer depends on the plan and not only on the question. Each has a reason and
//! a way to see it. Nothing of ours stands here.
//!
//! Forms that are not asked at all, because they fail for no good reason of their own:
//! - `round` of a decimal: its type is told from its arguments before they are coerced, and another after they are folded.
//!   `SELECT count(*) FROM t WHERE 1 = round(CAST('2.50' AS DECIMAL(18, 2)), 1)` compares Decimal128(19, 2) with
//!   Decimal128(18, 1) and fails, where there is a row to compare.
//! - `date_trunc` of a time that does not fit into nanoseconds (before 1677, after 2262) fails.
//! - decimals compared or computed with floats: the float becomes a decimal, so NaN fails.
//! - `min` and `max` of floats with NaN: in a group, NaN is passed over or stays, by the order in which the rows come.
//!   `SELECT k, max(x) FROM (VALUES (1, CAST('NaN' AS DOUBLE)), (1, 1.0)) AS t (k, x) GROUP BY k` answers NaN, and 1 with the
//!   rows in the other order.

use headwater_sql_tests::rows::Rows;

use super::judge::{Answers, Fault};

/// Why this is a defect that is known, or `None`.
pub(super) fn reason(fault: Fault, answers: &Answers) -> Option<&'static str> {
    match fault {
        Fault::OnDiffers | Fault::OffDiffers | Fault::PlainPartsDiffer => {
            sum_of_nothing(answers).or_else(|| unsorted(answers))
        }
        Fault::PlainFails => lost_order(answers),
        _ => None,
    }
}

/// `SELECT sum(x) FROM (SELECT 1 AS x FROM t)` over a memory table without rows is 0 and not NULL: the rule `aggregate_statistics`
/// multiplies the constant with the count of rows. Our scans know no exact count, and so answer NULL.
fn sum_of_nothing(answers: &Answers) -> Option<&'static str> {
    let (Ok(on), Ok(off), Ok(plain)) = (&answers.on, &answers.off, &answers.plain) else { return None };
    let same = on.difference(off).is_none() && on.rows.len() == plain.rows.len() && answers.query.contains("sum(");
    (same && is_zero_for_null(on, plain)).then_some("the sum of a constant over no rows is 0")
}

fn is_zero_for_null(ours: &Rows, plain: &Rows) -> bool {
    let mut ours = ours.clone();
    for (row, other) in ours.rows.iter_mut().zip(&plain.rows) {
        for (value, other) in row.iter_mut().zip(other) {
            if value.is_none() && other.as_deref() == Some("0") {
                value.clone_from(other);
            }
        }
    }
    ours.difference(plain).is_none()
}

/// The order by a constant, or by one column twice, is forgotten above joins and unions, and the check of the finished plan fails. Ours is sorted again
/// before it; see `rows_are_ordered_by_a_constant_above_a_join` among the cases.
fn lost_order(answers: &Answers) -> Option<&'static str> {
    let lost = answers
        .plain
        .as_ref()
        .is_err_and(|error| error.contains("SanityCheckPlan") && error.contains("order requirements"));
    lost.then_some("an order by a constant is forgotten")
}

/// `SELECT u.one FROM t FULL JOIN (SELECT 'a' AS one, x FROM t) AS u ON t.x = u.x ORDER BY 1`: a column that is constant on its own side is taken for constant
/// above an outer join too, where it may be NULL, and its rows are not sorted.
fn unsorted(answers: &Answers) -> Option<&'static str> {
    let (Ok(on), Ok(off), Ok(plain)) = (&answers.on, &answers.off, &answers.plain) else { return None };
    let outer = ["LEFT JOIN", "RIGHT JOIN", "FULL JOIN"].iter().any(|join| answers.query.contains(join));
    let same = outer && on.rows == off.rows && on.difference(plain).is_none();
    (same && is_sorted_by_first(on) && !is_sorted_by_first(plain))
        .then_some("a constant of an outer join's side is not sorted")
}

/// Whether the NULLs of the first column stand together at an end: enough to tell rows that were sorted from those that were not.
fn is_sorted_by_first(rows: &Rows) -> bool {
    let nulls: Vec<bool> = rows.rows.iter().map(|row| row.first().is_some_and(Option::is_none)).collect();
    nulls.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 1
}
