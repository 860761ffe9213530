//! Parts of a table that can be read at the same time: ranges of its pages.
//!
//! A row is in the page that its `ctid` names, so ranges of `ctid` that meet and whose last is open hold each row once, as long as all
//! of them are read in one snapshot: an update may put a row into another page.

use std::sync::Arc;

use arrow::datatypes::DataType;
use headwater_source::{Bind, ColumnDef, CompareOp, Expr, ScalarValue, ScanRequest, TableDef, ValueClass};

use super::known::Description;

/// A table of fewer pages (of 8 KiB) is read whole: another connection costs more than it saves.
const PAGES_MIN: u32 = 2_000;
/// A part has so many pages at least.
const PART_PAGES_MIN: u32 = 1_000;
/// No page has this number or a greater one.
const PAGES_END: u32 = u32::MAX;

/// The type of the places of rows, in SQL.
pub(super) const PLACE_TYPE: &str = "tid";

/// What stands in a statement for a part's bounds. No text of Postgres holds a zero, so nothing else is taken for one of them.
const BOUNDS: [&str; 2] = ["\0from", "\0until"];

/// A request that asks for one part, and the bounds that stand in it for each part.
pub(super) struct Split {
    /// With what stands for the part's bounds.
    pub(super) request: ScanRequest,
    /// From which place on, and before which.
    pub(super) parts: Vec<[ScalarValue; 2]>,
}

/// How a request is split, where it is. It is not where it has an order or a limit; where the table is no ordinary one (only a heap
/// table without children has pages of its own); where it has few pages; and where an index may find its rows, which a reader of
/// ranges of pages would do without.
pub(super) fn split(request: &ScanRequest, known: &Description) -> Option<Split> {
    let pages = known.pages.filter(|pages| *pages >= PAGES_MIN)?;
    if request.partitions_max < 2 || request.limit.is_some() || !request.sort.is_empty() {
        return None;
    }
    if request.filters.iter().any(|filter| may_use_an_index(filter, &known.indexed)) {
        return None;
    }
    let count = u32::try_from(request.partitions_max).unwrap_or(u32::MAX).min(pages / PART_PAGES_MIN);
    let place = |page: u32| ScalarValue::from(format!("({page},0)"));
    let page = |part: u32| u64::from(pages) * u64::from(part) / u64::from(count);
    let start = |part: u32| u32::try_from(page(part)).unwrap_or(PAGES_END);
    let end = |part: u32| if part + 1 == count { PAGES_END } else { start(part + 1) };
    let parts: Vec<_> = (0..count).map(|part| [place(start(part)), place(end(part))]).collect();
    Some(Split { request: within(request), parts })
}

/// A part's values: those of the statement, with the part's bounds in their places, wherever these are.
pub(super) fn bounded(binds: &[Bind], bounds: &[ScalarValue; 2]) -> Vec<Bind> {
    let bound = |bind: &Bind| {
        let ScalarValue::Utf8(Some(text)) = &bind.value else { return None };
        let place = BOUNDS.iter().position(|bound| text == bound)?;
        Some(Bind { value: bounds[place].clone(), ..bind.clone() })
    };
    binds.iter().map(|bind| bound(bind).unwrap_or_else(|| bind.clone())).collect()
}

/// Whether the filter holds a column with which an index begins to a value or to some.
fn may_use_an_index(filter: &Expr, indexed: &[usize]) -> bool {
    let is_indexed = |side: &Expr| matches!(side, Expr::Column(index) if indexed.contains(index));
    match filter {
        Expr::And(parts) => parts.iter().any(|part| may_use_an_index(part, indexed)),
        Expr::Or(parts) => parts.iter().all(|part| may_use_an_index(part, indexed)),
        Expr::Compare { op: CompareOp::Equal, left, right } => is_indexed(left) || is_indexed(right),
        Expr::InList { expr, negated: false, .. } => is_indexed(expr),
        _ => false,
    }
}

/// The request with the rows of one part only. The place of a row is a column that no table can have otherwise.
fn within(request: &ScanRequest) -> ScanRequest {
    let mut table: TableDef = request.table.as_ref().clone();
    let place = Expr::Column(table.columns.len());
    table.columns.push(ColumnDef::new("ctid", DataType::Utf8, PLACE_TYPE, ValueClass::Opaque));
    let mut request = request.clone();
    request.table = Arc::new(table);
    for (op, bound) in [CompareOp::GreaterOrEqual, CompareOp::Less].into_iter().zip(BOUNDS) {
        request.filters.push(Expr::compare(op, place.clone(), Expr::Literal(ScalarValue::from(bound))));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(pages: Option<u32>) -> Description {
        let columns = ["id", "name"].map(|name| ColumnDef::new(name, DataType::Int64, "bigint", ValueClass::Integer));
        let table = TableDef::new(["public", "t"], columns.to_vec());
        Description { table, oid: 1, state: String::new(), pages, indexed: vec![0], types: vec![] }
    }

    fn parts(pages: Option<u32>, change: impl FnOnce(&mut ScanRequest)) -> Vec<String> {
        let known = description(pages);
        let mut request = ScanRequest::all(Arc::new(known.table.clone()));
        request.partitions_max = 3;
        change(&mut request);
        let parts = split(&request, &known).map(|split| split.parts).unwrap_or_default();
        parts.iter().map(|[start, end]| format!("{start}-{end}")).collect()
    }

    #[test]
    fn parts_meet_and_the_last_is_open() {
        assert_eq!(parts(Some(10_000), |_| {}), ["(0,0)-(3333,0)", "(3333,0)-(6666,0)", "(6666,0)-(4294967295,0)"]);
        assert_eq!(parts(Some(2_999), |_| {}), ["(0,0)-(1499,0)", "(1499,0)-(4294967295,0)"]);
        assert_eq!(parts(Some(u32::MAX - 1), |_| {}).len(), 3);
    }

    #[test]
    fn small_ordered_limited_and_indexed_requests_are_whole() {
        assert!(parts(None, |_| {}).is_empty());
        assert!(parts(Some(1_999), |_| {}).is_empty());
        assert!(parts(Some(10_000), |request| request.limit = Some(1)).is_empty());
        assert!(parts(Some(10_000), |request| request.partitions_max = 1).is_empty());
        let equal =
            |column| Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(ScalarValue::from(1_i64)));
        assert!(parts(Some(10_000), |request| request.filters = vec![equal(0)]).is_empty());
        assert!(parts(Some(10_000), |request| request.filters = vec![Expr::And(vec![equal(1), equal(0)])]).is_empty());
        assert!(!parts(Some(10_000), |request| request.filters = vec![Expr::Or(vec![equal(1), equal(0)])]).is_empty());
        assert!(!parts(Some(10_000), |request| request.filters = vec![equal(1)]).is_empty());
    }
}
