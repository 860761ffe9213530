//! Defects of DataFusion 55.2 itself, in which its answer depends on the plan and not only on the question. Each has a reason and
//! a way to see it. Nothing of ours stands here. Of the defects that `headwater-rules` mends the reference is mended too; each is a case in `cases.rs`.
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
        Fault::OnDiffers | Fault::OffDiffers => sum_of_nothing(answers).or_else(|| zero_of_a_cut(answers)),
        Fault::PlainPartsDiffer => sum_of_nothing(answers),
        Fault::OnFails => inferred_cast(answers),
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

/// `SELECT u.d FROM t JOIN u ON t.c = u.d WHERE CAST(u.d AS SMALLINT) = 1`: what is tested of one side's key is tested of the other's too, where a row that has no partner
/// may hold a value that can't be cast. Whether such a row is met depends on which side is read first.
fn inferred_cast(answers: &Answers) -> Option<&'static str> {
    let fails =
        |answer: &Result<Rows, String>| answer.as_ref().is_err_and(|error| error.contains("Cast error: Can't cast"));
    let inferred =
        fails(&answers.on) && fails(&answers.off) && answers.query.contains("JOIN") && answers.query.contains("CAST(");
    inferred.then_some("a cast of a join's key is tested of the other side, too")
}

/// `SELECT v FROM t ORDER BY v LIMIT 1` over 0.0 in one batch and -0.0 in the next: a sort has -0.0 first, and the condition by which its first rows are found has both equal.
fn zero_of_a_cut(answers: &Answers) -> Option<&'static str> {
    let without_signs = |rows: &Rows| {
        let mut rows = rows.clone();
        rows.rows
            .iter_mut()
            .flatten()
            .flatten()
            .filter(|value| *value == "-0.0")
            .for_each(|value| "0.0".clone_into(value));
        rows
    };
    let (Ok(on), Ok(off), Ok(plain)) = (&answers.on, &answers.off, &answers.plain) else { return None };
    let [on, off, plain] = [on, off, plain].map(without_signs);
    let same = answers.query.contains(" LIMIT ") && on.rows == plain.rows && off.rows == plain.rows;
    same.then_some("a cut among zeros keeps either sign")
}
