//! Filters as the engine evaluates them: what a pushed filter is held against.

use arrow::array::ArrayRef;
use arrow::compute::{self, SortColumn, SortOptions};
use arrow::record_batch::RecordBatch;
use headwater_connectors::conformance::local;
use headwater_source::{Expr, ScalarValue, SortKey};

/// The rows for which the filter is true.
pub(super) fn filtered(batch: &RecordBatch, filter: &Expr) -> RecordBatch {
    local::filter(filter, batch).expect("a filter over the batch")
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
