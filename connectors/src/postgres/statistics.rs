//! What Postgres knows of a table's rows, from its catalog: pg_class, pg_index and pg_stats, in one round trip.
//!
//! Of a table that was never analyzed rows are told by its pages and its columns' types. A column whose statistics the role may not see has no numbers, a view has
//! nothing. The numbers of a table with partitions or children are those of all of them.

use headwater_source::{ColumnDef, ColumnStatistics, Index, ScalarValue, TableDef, TableStatistics, ValueClass};
use tokio_postgres::error::SqlState;

use super::answer::{Fault, Row};
use super::field::{Reason, int, length_prefixed};
use super::values::Values;
use super::wire::Wire;

/// Rows, and each index that finds rows by equal values.
const TABLE: &str = include_str!("statistics.sql");

/// The columns' statistics; those that count children's rows come last.
const COLUMNS: &str = "SELECT s.attname::text, s.null_frac::float8, s.avg_width::float8, s.n_distinct::float8, s.most_common_vals, \
     s.histogram_bounds FROM pg_catalog.pg_stats s WHERE s.schemaname = $1::text AND s.tablename = $2::text ORDER BY s.inherited";

/// The statistics of a table, `None` where none are kept of its kind.
pub(super) async fn statistics(wire: &mut Wire, table: &TableDef) -> Result<Option<TableStatistics>, Fault> {
    let [schema, name] = table.path.as_slice() else { return Ok(None) };
    let (of_table, of_columns) = wire.query_both([TABLE, COLUMNS], &[schema, name]).await?;
    let of_table = of_table?;
    let Some(first) = of_table.first() else { return Ok(None) };
    // An estimate: what a float cannot say exactly does not matter.
    let rows = first.get::<Option<f64>>(0)?.map(|rows| rows.max(0.0).round() as u64);
    let mut statistics =
        TableStatistics { rows, columns: vec![ColumnStatistics::default(); table.columns.len()], indexes: vec![] };
    for row in &of_table {
        statistics.indexes.extend(index(row, table)?);
    }
    match of_columns {
        Ok(of_columns) => {
            for row in &of_columns {
                if let Some(index) = table.column_index(&row.get::<String>(0)?) {
                    statistics.columns[index] = column(row, &table.columns[index], rows)?;
                }
            }
        }
        Err(Fault::Server(error)) if error.code == SqlState::INSUFFICIENT_PRIVILEGE.code() => {}
        Err(fault) => return Err(fault),
    }
    count_keys(&mut statistics);
    Ok(Some(statistics))
}

/// The index of a row, if there is one and all of its columns are seen.
fn index(row: &Row, table: &TableDef) -> Result<Option<Index>, Fault> {
    let (Some(unique), Some(names)) = (row.get::<Option<bool>>(1)?, row.get::<Option<Vec<String>>>(2)?) else {
        return Ok(None);
    };
    let columns: Option<Vec<usize>> = names.iter().map(|name| table.column_index(name)).collect();
    Ok(columns.filter(|columns| !columns.is_empty()).map(|columns| Index { columns, unique }))
}

fn column(row: &Row, column: &ColumnDef, rows: Option<u64>) -> Result<ColumnStatistics, Fault> {
    let [null_fraction, width_bytes, distinct] =
        [row.get::<Option<f64>>(1)?, row.get::<Option<f64>>(2)?, row.get::<Option<f64>>(3)?];
    // Below zero it is a share of the rows, and zero says that it is not known.
    let distinct = match distinct {
        Some(count) if count > 0.0 => Some(count),
        Some(share) if share < 0.0 => rows.map(|rows| -share * rows as f64),
        _ => None,
    };
    let (min, max) = match column.class {
        ValueClass::Opaque => (None, None),
        // Values that cannot be read say nothing of the others; the scan that meets them tells.
        _ => ends(column, &[row.raw(4)?, row.raw(5)?]).unwrap_or_default(),
    };
    Ok(ColumnStatistics {
        distinct: distinct.map(|count| count.round().max(1.0) as u64),
        null_fraction,
        width_bytes,
        min,
        max,
    })
}

/// A column that alone is unique has as many values as it has rows that are not NULL.
fn count_keys(statistics: &mut TableStatistics) {
    let Some(rows) = statistics.rows else { return };
    for index in statistics.indexes.iter().filter(|index| index.unique) {
        if let [column] = index.columns[..] {
            let column = &mut statistics.columns[column];
            let not_null = rows as f64 * (1.0 - column.null_fraction.unwrap_or(0.0));
            column.distinct = column.distinct.or(Some(not_null.round() as u64));
        }
    }
}

/// The least and the greatest of some arrays' values, as Arrow orders them and not as the column's collation does.
fn ends(column: &ColumnDef, arrays: &[Option<&[u8]>]) -> Result<(Option<ScalarValue>, Option<ScalarValue>), Reason> {
    let mut values = Values::new(&column.data_type, column.class);
    for array in arrays.iter().flatten() {
        push_elements(&mut values, array)?;
    }
    let array = values.finish(None).map_err(|(_, reason)| reason)?;
    let order = arrow::compute::sort_to_indices(&array, None, None).map_err(|error| error.to_string())?;
    let mut sorted = Vec::with_capacity(order.len());
    for index in order.values() {
        let value = ScalarValue::try_from_array(&array, *index as usize).map_err(|error| error.to_string())?;
        if !is_nan(&value) {
            sorted.push(value);
        }
    }
    Ok((sorted.first().cloned(), sorted.pop()))
}

/// The elements of an array as array_send writes it, of whatever type the column has.
fn push_elements(values: &mut Values, array: &[u8]) -> Result<(), Reason> {
    let mut rest = array;
    let (dimensions, _, _) = (int(&mut rest)?, int(&mut rest)?, int(&mut rest)?);
    if dimensions != 1 {
        return Ok(());
    }
    let (length, _) = (int(&mut rest)?, int(&mut rest)?);
    for _ in 0..length {
        if let Some(value) = length_prefixed(&mut rest)? {
            values.push(value)?;
        }
    }
    Ok(())
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}
