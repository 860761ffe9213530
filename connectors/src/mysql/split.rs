//! A scan of a large table in parts: ranges of the first column of its primary key, in which InnoDB keeps the rows.
//!
//! The ranges lie between the least and the greatest key of now. Parts are only read of one state (`snapshot`).

use headwater_source::{Expr, Result, ScanRequest, TableDef, TableKind};
use tracing::debug;

use super::connect::Pool;
use super::snapshot::ToldBy;
use super::{statistics, types};
use crate::ranges::divided;

/// How many rows a table must have for parts to pay, by the server's estimate.
const ROWS_MIN: u64 = 200_000;

/// The filters of the parts; `None` where the request is better read whole, or must be.
pub(super) async fn ranges(pool: &Pool, request: &ScanRequest) -> Option<Vec<Expr>> {
    let whole = request.limit.is_some() || !request.sort.is_empty() || pool.states_are_told_by() == ToldBy::Nothing;
    // More parts than connections could never be read at the same time.
    let count = request.partitions_max.min(pool.config().pool_size);
    if whole || count < 2 || request.table.rows_estimate.is_none_or(|rows| rows < ROWS_MIN) {
        return None;
    }
    let column = key_column(&request.table)?;
    match ends(pool, &request.table, column).await {
        Ok(Some(ends)) => divided(column, &request.table.columns[column].data_type, ends, count),
        Ok(None) => None,
        Err(error) => {
            debug!(service = %pool.site().service, %error, "the ends of a key could not be read; the table is read whole");
            None
        }
    }
}

/// The first column of the primary key, where it is an integer.
fn key_column(table: &TableDef) -> Option<usize> {
    let column = table.column_index(table.key.as_ref()?.first()?)?;
    let described = &table.columns[column];
    let whole =
        described.data_type.is_integer() && !matches!(types::base(&described.remote_type).as_str(), "year" | "bit");
    (table.kind == TableKind::Table && whole).then_some(column)
}

async fn ends(pool: &Pool, table: &TableDef, column: usize) -> Result<Option<(i128, i128)>> {
    let mut lease = pool.lease().await?;
    let ends = statistics::key_ends(lease.conn(), &pool.site().service, table, column).await;
    let ends = ends.map_err(|error| pool.site().describing(error))?;
    lease.release();
    Ok(ends)
}
