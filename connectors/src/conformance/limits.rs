//! Limits and orders.

use std::ops::ControlFlow;

use arrow::compute::concat_batches;
use headwater_source::{CompareOp, Expr, ScalarValue, ScanRequest, SortKey, Support};

use super::local::{self, multiset};
use super::read::{Checked, Subject, broken, ensure};

pub(super) async fn limit_yields_so_many_rows_of_the_right_ones(subject: &Subject) -> Checked {
    const RULE: &str = "a limit yields so many rows, all of them right";
    let whole = subject.read_whole(RULE, &subject.all()).await?;
    let all = multiset(&whole.schema(), std::slice::from_ref(&whole)).map_err(broken(RULE))?;
    for limit in [0, 1, 5, all.len() as u64, all.len() as u64 + 10] {
        for batch_rows in [2, ScanRequest::DEFAULT_BATCH_ROWS] {
            let request = ScanRequest { limit: Some(limit), batch_rows, ..subject.all() };
            let batches = subject.read(RULE, &request).await?;
            let rows = multiset(&request.schema(), &batches).map_err(broken(RULE))?;
            ensure(RULE, rows.len() as u64 == limit.min(all.len() as u64), || {
                format!("{} rows of {limit}", rows.len())
            })?;
            ensure(RULE, rows.iter().all(|row| all.binary_search(row).is_ok()), || {
                "a row that is not there".to_owned()
            })?;
        }
    }
    limit_applies_after_the_filters(subject, RULE).await
}

async fn limit_applies_after_the_filters(subject: &Subject, rule: &'static str) -> Checked {
    let id = subject.id()?;
    let high = ScalarValue::from(subject.expected.num_rows() as i64 - 3);
    let filter = Expr::compare(CompareOp::Greater, Expr::Column(id), Expr::Literal(high));
    let offer = subject.source.capabilities().offer(&filter, &subject.table);
    let (Some(pushed), Support::Exact) = (offer.filter, offer.support) else { return Ok(()) };
    let request = ScanRequest { filters: vec![pushed], limit: Some(10), ..subject.all() };
    let rows = subject.read_whole(rule, &request).await?.num_rows();
    ensure(rule, rows == 3, || format!("{rows} rows pass a filter that 3 rows pass"))
}

pub(super) async fn pushed_order_is_that_of_arrow(subject: &Subject) -> Checked {
    let orders = (0..subject.table.columns.len()).flat_map(|column| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(descending, nulls_first)| SortKey {
            column,
            descending,
            nulls_first,
        })
    });
    for key in orders {
        if let ControlFlow::Continue(keys) = pushable(subject, key) {
            for limit in [None, Some(1), Some(10)] {
                check_order(subject, &keys, limit).await?;
            }
        }
    }
    Ok(())
}

/// The order by the key, made unique by `id` where that can be pushed too.
fn pushable(subject: &Subject, key: SortKey) -> ControlFlow<(), Vec<SortKey>> {
    let can = |keys: &[SortKey]| subject.source.capabilities().offer_sort(keys, &subject.table).is_ok();
    if !can(&[key]) {
        return ControlFlow::Break(());
    }
    let id = subject.table.column_index("id").map(|column| SortKey { column, descending: false, nulls_first: false });
    let unique: Vec<SortKey> = [key].into_iter().chain(id).collect();
    ControlFlow::Continue(if can(&unique) { unique } else { vec![key] })
}

async fn check_order(subject: &Subject, keys: &[SortKey], limit: Option<u64>) -> Checked {
    const RULE: &str = "a pushed order is that of Arrow";
    let whole = subject.read_whole(RULE, &subject.all()).await?;
    let request = ScanRequest { sort: keys.to_vec(), limit, batch_rows: 7, ..subject.all() };
    let scan = subject.prepare(RULE, &request).await?;
    if limit.is_some() {
        ensure(RULE, scan.partitions() == 1, || format!("{} partitions with a limit", scan.partitions()))?;
    }
    let columns: Vec<usize> = keys.iter().map(|key| key.column).collect();
    let got = concat_batches(&request.schema(), &subject.read(RULE, &request).await?).map_err(broken(RULE))?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let right = local::sort(keys, limit, &whole).map_err(broken(RULE))?;
    let project = |batch: arrow::record_batch::RecordBatch| batch.project(&columns).map_err(broken(RULE));
    // Only the keys: rows with equal keys may come in any order.
    let (got, right) = (project(got)?, project(right)?);
    ensure(RULE, got == right, || format!("by {keys:?} with the limit {limit:?}: got {got:?}, right is {right:?}"))
}
