//! Defects of DataFusion 55.2 itself, in which its answer depends on the plan and not only on the question. Each has a reason and
//! a way to see it. Nothing of ours stands here. Of the defects that `headwater-rules` mends the reference is mended too; each is a case in `cases.rs`.
//!
//! Forms that are not asked at all, because they fail for no good reason of their own:
//! - `round` of a decimal: its type is told from its arguments before they are coerced, and another after they are folded.
//!   `SELECT count(*) FROM t WHERE 1 = round(CAST('2.50' AS DECIMAL(18, 2)), 1)` compares Decimal128(19, 2) with
//!   Decimal128(18, 1) and fails, where there is a row to compare.
//! - decimals compared or computed with floats: the float becomes a decimal, so NaN fails.
//! - `min` and `max` of floats with NaN: in a group, NaN is passed over or stays, by the order in which the rows come.
//!   `SELECT k, max(x) FROM (VALUES (1, CAST('NaN' AS DOUBLE)), (1, 1.0)) AS t (k, x) GROUP BY k` answers NaN, and 1 with the
//!   rows in the other order.

use headwater_sql_tests::rows::Rows;

use super::judge::{Answers, Fault, wrong};
use super::query::Query;

/// Why this is a defect that is known, or `None`.
pub(super) fn reason(fault: Fault, answers: &Answers, query: Option<&Query>) -> Option<&'static str> {
    match fault {
        Fault::OnDiffers | Fault::OffDiffers => query.and_then(|query| zero_of_a_cut(answers, query)),
        Fault::OnFails => inferred_cast(answers),
        Fault::PlainFails => inferred_cast(answers).or_else(|| lateral_that_is_no_join(answers)),
        _ => None,
    }
}

/// `SELECT u.d FROM t JOIN u ON t.c = u.d WHERE CAST(u.d AS SMALLINT) = 1`: what is tested of one side's key is tested of the other's too, where a row that has no partner
/// may hold a value that can't be cast. Whether such a row is met depends on which side is read first.
fn inferred_cast(answers: &Answers) -> Option<&'static str> {
    let all = [&answers.on, &answers.off, &answers.plain];
    let is_cast = |error: &String| error.contains("Cast error: Can't cast");
    let all_casts = all.iter().filter_map(|answer| answer.as_ref().err()).all(is_cast);
    // Not of a constant, whose cast every engine makes while it plans.
    let casts_column = answers.query.replace("TRY_CAST(", "").contains("CAST(r");
    let by_pushdown = answers.on.is_err() && answers.off.is_ok();
    let inferred = all_casts && casts_column && !by_pushdown && answers.query.contains("JOIN");
    inferred.then_some("a cast of a join's key is tested of the other side, too")
}

/// `SELECT 1 FROM t CROSS JOIN LATERAL (SELECT 1 FROM u WHERE 'A' SIMILAR TO 'a' AND u.x = t.x) LIMIT 0`: what can't be made a join is refused, where it has not been left out before.
fn lateral_that_is_no_join(answers: &Answers) -> Option<&'static str> {
    let refused = answers.plain.as_ref().is_err_and(|error| error.contains("undecorrelated Subquery"));
    refused.then_some("a LATERAL that can't be made a join")
}

/// `SELECT v FROM t ORDER BY v LIMIT 1` over 0.0 in one batch and -0.0 in the next: a sort has -0.0 first, and the condition by which its first rows are found has both equal.
fn zero_of_a_cut(answers: &Answers, query: &Query) -> Option<&'static str> {
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
    let same = query.cuts() && wrong(query, &on, &plain).is_none() && wrong(query, &off, &plain).is_none();
    same.then_some("a cut among zeros keeps either sign")
}
