//! Filters as Arrow evaluates them: what a pushed filter is held against.

use arrow::array::{ArrayRef, AsArray, BooleanArray, Scalar, StringArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{self, SortColumn, SortOptions};
use arrow::record_batch::RecordBatch;
use headwater_source::{CompareOp, Expr, ScalarValue, SortKey};

/// The rows for which the filter is true.
pub(super) fn filtered(batch: &RecordBatch, filter: &Expr) -> RecordBatch {
    let truth = evaluate(batch, filter);
    compute::filter_record_batch(batch, &truth).expect("a mask of the batch's length")
}

/// The rows in the order of the keys.
pub(super) fn sorted(batch: &RecordBatch, keys: &[SortKey]) -> RecordBatch {
    let columns: Vec<SortColumn> = keys
        .iter()
        .map(|key| SortColumn {
            values: batch.column(key.column).clone(),
            options: Some(SortOptions { descending: key.descending, nulls_first: key.nulls_first }),
        })
        .collect();
    let indices = compute::lexsort_to_indices(&columns, None).expect("sortable columns");
    compute::take_record_batch(batch, &indices).expect("indices of the batch")
}

fn evaluate(batch: &RecordBatch, filter: &Expr) -> BooleanArray {
    match filter {
        Expr::Column(index) => batch.column(*index).as_boolean().clone(),
        Expr::And(parts) => fold(batch, parts, compute::and_kleene),
        Expr::Or(parts) => fold(batch, parts, compute::or_kleene),
        Expr::Not(inner) => compute::not(&evaluate(batch, inner)).expect("a boolean"),
        Expr::IsNull(inner) => compute::is_null(&value(batch, inner).0).expect("an array"),
        Expr::IsNotNull(inner) => compute::is_not_null(&value(batch, inner).0).expect("an array"),
        Expr::Compare { op, left, right } => compare(batch, *op, left, right),
        Expr::InList { expr, values, negated } => {
            let tests: Vec<Expr> = values
                .iter()
                .map(|value| Expr::compare(CompareOp::Equal, *expr.clone(), Expr::Literal(value.clone())))
                .collect();
            let any = fold(batch, &tests, compute::or_kleene);
            if *negated { compute::not(&any).expect("a boolean") } else { any }
        }
        Expr::Like(like) => {
            let (text, pattern) = (value(batch, &like.expr).0, StringArray::new_scalar(&like.pattern));
            let text = text.as_string::<i32>();
            match like.negated {
                true => compute::kernels::comparison::nlike(text, &pattern),
                false => compute::kernels::comparison::like(text, &pattern),
            }
            .expect("a pattern")
        }
        other => panic!("no local answer for {other}"),
    }
}

type Fold = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, arrow::error::ArrowError>;

fn fold(batch: &RecordBatch, parts: &[Expr], with: Fold) -> BooleanArray {
    let parts = parts.iter().map(|part| evaluate(batch, part));
    parts.reduce(|a, b| with(&a, &b).expect("arrays of one length")).expect("never empty")
}

fn compare(batch: &RecordBatch, op: CompareOp, left: &Expr, right: &Expr) -> BooleanArray {
    let kernel = match op {
        CompareOp::Equal => cmp::eq,
        CompareOp::NotEqual => cmp::neq,
        CompareOp::Less => cmp::lt,
        CompareOp::LessOrEqual => cmp::lt_eq,
        CompareOp::Greater => cmp::gt,
        CompareOp::GreaterOrEqual => cmp::gt_eq,
    };
    let (left, _) = value(batch, left);
    match value(batch, right) {
        (right, true) => kernel(&left, &Scalar::new(right)),
        (right, false) => kernel(&left, &right),
    }
    .expect("values of one type")
}

/// An operand, and whether it is one value for all rows.
fn value(batch: &RecordBatch, expr: &Expr) -> (ArrayRef, bool) {
    match expr {
        Expr::Column(index) => (batch.column(*index).clone(), false),
        Expr::Literal(value) => (value.to_array().expect("a value"), true),
        other => panic!("no operand {other}"),
    }
}

/// The rows as text, in a canonical order.
pub(super) fn multiset(batch: &RecordBatch) -> Vec<String> {
    let mut rows = rows(batch);
    rows.sort_unstable();
    rows
}

/// The rows as text, each value with its bits.
pub(super) fn rows(batch: &RecordBatch) -> Vec<String> {
    let value = |column: &ArrayRef, row| ScalarValue::try_from_array(column, row).expect("a value");
    let cell = |column: &ArrayRef, row: usize| format!("{:?}", value(column, row));
    let row = |row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}
