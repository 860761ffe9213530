//! A scan of a large table in parts: ranges of the rowid, by which SQLite keeps rows. Parts are only read of one state (`snapshot`).
//!
//! Rows that are all wanted are read whole: whoever takes them keeps another core busy, and would hold twice as much of them. Where rows are tested, who takes them waits.

use headwater_source::{Expr, ScalarValue, ScanRequest};

use super::config::Config;
use crate::ranges::divided;

/// The filters of the parts; `None` where the request is better read whole, or must be.
pub(super) fn ranges(config: &Config, request: &ScanRequest) -> Option<Vec<Expr>> {
    let count = request.partitions_max.min(config.pool_size);
    if request.filters.is_empty() || request.limit.is_some() || !request.sort.is_empty() || count < 2 {
        return None;
    }
    let column = rowid(request)?;
    let known = request.known.as_ref()?.statistics.columns.get(column)?;
    let ends = (whole(known.min.as_ref()?)?, whole(known.max.as_ref()?)?);
    divided(column, &request.table.columns[column].data_type, ends, count)
}

/// The column that is the rowid. One that is declared like it and may be NULL (`INTEGER PRIMARY KEY DESC`) is none, and rows without a value would be in no range.
fn rowid(request: &ScanRequest) -> Option<usize> {
    let [key] = request.table.key.as_deref()? else { return None };
    let column = request.table.column_index(key)?;
    let described = &request.table.columns[column];
    let is_whole = described.remote_type.eq_ignore_ascii_case("integer") && described.data_type.is_integer();
    (is_whole && !described.nullable).then_some(column)
}

fn whole(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int64(Some(value)) => Some(i128::from(*value)),
        _ => None,
    }
}
