//! A scan of a large table in parts: ranges of the first column of its primary key, in which InnoDB keeps the rows.
//!
//! The ranges are of equal width between the least and the greatest key of now, and the outer ones are open: whatever the keys are when the rows
//! are read, each row is in just one part. Parts are only read of one state (`snapshot`).

use arrow::datatypes::DataType;
use headwater_source::{CompareOp, Expr, Result, ScalarValue, ScanRequest, TableDef, TableKind};
use tracing::debug;

use super::connect::Pool;
use super::snapshot::ToldBy;
use super::{statistics, types};

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

fn divided(column: usize, data_type: &DataType, (first, last): (i128, i128), count: usize) -> Option<Vec<Expr>> {
    let parts = i128::try_from(count).ok()?;
    if last - first < parts {
        return None;
    }
    let bound = |op, part: usize| {
        let at = first + (last - first + 1) * i128::try_from(part).ok()? / parts;
        let value = ScalarValue::Decimal128(Some(at), 38, 0).cast_to(data_type).ok()?;
        Some(Expr::compare(op, Expr::Column(column), Expr::Literal(value)))
    };
    (0..count)
        .map(|part| match part {
            0 => bound(CompareOp::Less, 1),
            last if last + 1 == count => bound(CompareOp::GreaterOrEqual, last),
            part => Some(Expr::And(vec![bound(CompareOp::GreaterOrEqual, part)?, bound(CompareOp::Less, part + 1)?])),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(filters: &[Expr]) -> Vec<String> {
        let one = |expr: &Expr| match expr {
            Expr::Compare { op, right, .. } => format!(
                "{}{}",
                op.sql(),
                match right.as_ref() {
                    Expr::Literal(value) => value.to_string(),
                    other => panic!("{other}"),
                }
            ),
            other => panic!("{other}"),
        };
        filters
            .iter()
            .map(|filter| match filter {
                Expr::And(parts) => parts.iter().map(one).collect::<Vec<_>>().join(" "),
                single => one(single),
            })
            .collect()
    }

    #[test]
    fn ranges_meet_and_the_outer_ones_are_open() {
        let parts = divided(0, &DataType::Int64, (1, 300), 3).unwrap();
        assert_eq!(bounds(&parts), ["<101", ">=101 <201", ">=201"]);
        let all = (i128::from(i64::MIN), i128::from(i64::MAX));
        assert_eq!(bounds(&divided(0, &DataType::Int64, all, 2).unwrap()), ["<0", ">=0"]);
        let unsigned = divided(0, &DataType::UInt64, (0, i128::from(u64::MAX)), 2).unwrap();
        assert_eq!(bounds(&unsigned), ["<9223372036854775808", ">=9223372036854775808"]);
    }

    #[test]
    fn fewer_keys_than_parts_are_read_whole() {
        assert_eq!(divided(0, &DataType::Int32, (5, 6), 3), None);
    }
}
