//! What the server knows of a table's rows, and the ends of its indexes.
//!
//! From `information_schema` always; from `mysql.innodb_index_stats` and MariaDB's `mysql.column_stats` where the role may read them. The least
//! and greatest value of a column are asked for where an index starts with it: that reads the two ends of the index and no rows.
//!
//! Only InnoDB's tables have these ends here. They are what a large query is divided by, and its parts must read one state, which
//! other engines do not keep.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use headwater_source::{Index, ScalarValue, ServiceName, TableDef, TableKind, TableStatistics};
use mysql_common::row::Row;
use mysql_common::row::convert::{FromRow, FromRowError};
use mysql_common::value::Value;
use mysql_common::value::convert::FromValue;

use super::dialect::MysqlDialect;
use super::value::{self, Datum};
use super::wire::{Conn, Failure, Result};
use crate::sql::{Dialect, quote};

const TABLE: &str =
    "SELECT ENGINE, TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";

const INDEXES: &str = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE, CARDINALITY, INDEX_TYPE \
     FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX";

/// How many different values the first columns of an index have; `n_diff_pfx02` is of the first two.
const PREFIXES: &str = "SELECT index_name, stat_value FROM mysql.innodb_index_stats \
     WHERE database_name = ? AND table_name = ? AND stat_name = 'n_diff_pfx01'";

const COLUMNS: &str = "SELECT column_name, min_value, max_value, nulls_ratio, avg_length, avg_frequency \
     FROM mysql.column_stats WHERE db_name = ? AND table_name = ?";

const INNODB: &str = "InnoDB";

/// InnoDB in MariaDB tells the optimizer half as many rows for each value as it counts, and the catalog divides by that.
const CARDINALITY_PER_VALUE: u64 = 2;

/// An index as the catalog lists it, before its columns are looked up.
#[derive(Debug, Default)]
struct CatalogIndex {
    columns: Vec<Option<usize>>,
    unique: bool,
    /// Of its first column, by the catalog.
    cardinality: Option<u64>,
}

/// What is known of the table; `None` of a view.
pub(super) async fn statistics(
    conn: &mut Conn,
    service: &ServiceName,
    table: &TableDef,
) -> Result<Option<TableStatistics>> {
    let (TableKind::Table, [database, name]) = (table.kind, table.path.as_slice()) else { return Ok(None) };
    let path = (database.as_str(), name.as_str());
    let Some((engine, rows)) = conn.exec_first::<(Option<String>, Option<u64>)>(TABLE, path).await? else {
        return Ok(None);
    };
    let mut known = TableStatistics { rows, ..TableStatistics::of(table) };
    let indexes = indexes(conn, table, path).await?;
    let prefixes: Vec<(String, u64)> = readable(conn.exec(PREFIXES, path).await)?;
    for (name, index) in &indexes {
        let counted = prefixes.iter().find(|(index, _)| index == name).map(|(_, values)| *values);
        count_first(&mut known, index, counted);
    }
    for row in readable(conn.exec::<ColumnRow>(COLUMNS, path).await)? {
        row.add(table, &mut known);
    }
    for (column, known) in table.columns.iter().zip(&mut known.columns) {
        let is_nullable = column.nullable;
        known.null_fraction = known.null_fraction.or_else(|| (!is_nullable).then_some(0.0));
        known.width_bytes = known.width_bytes.or_else(|| column.data_type.primitive_width().map(|bytes| bytes as f64));
        known.distinct = known.distinct.map(|values| rows.map_or(values, |rows| values.min(rows)));
    }
    known.indexes = indexes.into_values().filter_map(CatalogIndex::whole).collect();
    if engine.as_deref() == Some(INNODB) {
        ends(conn, service, table, &mut known).await?;
    }
    Ok(Some(known))
}

/// The least and greatest value of a primary key's first column, an integer; `None` of a table without rows and of another engine's.
pub(super) async fn key_ends(
    conn: &mut Conn,
    service: &ServiceName,
    table: &TableDef,
    column: usize,
) -> Result<Option<(i128, i128)>> {
    let [database, name] = table.path.as_slice() else { return Ok(None) };
    let path = (database.as_str(), name.as_str());
    let engine: Option<(Option<String>, Option<u64>)> = conn.exec_first(TABLE, path).await?;
    if engine.and_then(|(engine, _)| engine).as_deref() != Some(INNODB) {
        return Ok(None);
    }
    let mut known = TableStatistics::of(table);
    known.indexes = vec![Index { columns: vec![column], unique: false }];
    ends(conn, service, table, &mut known).await?;
    let whole = |value: &Option<ScalarValue>| {
        let value = value.as_ref()?.cast_to(&DataType::Decimal128(20, 0)).ok()?;
        if let ScalarValue::Decimal128(number, ..) = value { number } else { None }
    };
    let known = &known.columns[column];
    Ok(whole(&known.min).zip(whole(&known.max)))
}

async fn indexes(conn: &mut Conn, table: &TableDef, path: (&str, &str)) -> Result<BTreeMap<String, CatalogIndex>> {
    let mut indexes: BTreeMap<String, CatalogIndex> = BTreeMap::new();
    for row in conn.exec::<IndexRow>(INDEXES, path).await? {
        let index = indexes.entry(row.index).or_default();
        index.unique = row.unique;
        // An expression has no name, and what is only indexed by its beginning can't be looked up by it.
        let column = row.column.as_deref().filter(|_| row.whole).and_then(|name| table.column_index(name));
        if index.columns.is_empty() {
            index.cardinality = row.cardinality;
        }
        index.columns.push(column);
    }
    Ok(indexes)
}

/// The number of values of an index's first column.
fn count_first(known: &mut TableStatistics, index: &CatalogIndex, counted: Option<u64>) {
    let Some(Some(first)) = index.columns.first() else { return };
    let unique = index.unique && index.columns.len() == 1;
    let guess = || index.cardinality.map(|values| (values / CARDINALITY_PER_VALUE).max(1));
    let values = if unique { known.rows } else { counted.or_else(guess) };
    let column = &mut known.columns[*first];
    // A count is better than a guess, and of two counts the larger.
    column.distinct = column.distinct.max(values);
}

impl CatalogIndex {
    fn whole(self) -> Option<Index> {
        let columns: Vec<usize> = self.columns.into_iter().collect::<Option<_>>()?;
        Some(Index { columns, unique: self.unique })
    }
}

/// The least and greatest values of the columns that indexes start with, in one statement.
async fn ends(conn: &mut Conn, service: &ServiceName, table: &TableDef, known: &mut TableStatistics) -> Result<()> {
    let mut first: Vec<usize> = known.indexes.iter().map(|index| index.columns[0]).collect();
    first.sort_unstable();
    first.dedup();
    first.retain(|column| {
        scalar(Datum::Int(0), &table.columns[*column].data_type).is_some() || is_dated(table, *column)
    });
    let name = |part: &str| quote(part, MysqlDialect::QUOTE, service).ok();
    let path: Option<Vec<String>> = table.path.iter().map(|part| name(part)).collect();
    let columns: Option<Vec<String>> = first.iter().map(|column| name(&table.columns[*column].name)).collect();
    let (Some(path), Some(columns)) = (path, columns) else { return Ok(()) };
    if columns.is_empty() {
        return Ok(());
    }
    let path = path.join(".");
    let end = |column: &String| format!("(SELECT MIN({column}) FROM {path}), (SELECT MAX({column}) FROM {path})");
    let statement = format!("SELECT {}", columns.iter().map(end).collect::<Vec<_>>().join(", "));
    let Some(row) = conn.exec_first::<Row>(statement, ()).await? else { return Ok(()) };
    for (place, column) in first.into_iter().enumerate() {
        let data_type = &table.columns[column].data_type;
        let end = |at: usize| row.as_ref(at).and_then(|value| scalar(value.into(), data_type));
        let (min, max) = (end(2 * place), end(2 * place + 1));
        let known = &mut known.columns[column];
        (known.min, known.max) = (min.or(known.min.take()), max.or(known.max.take()));
    }
    Ok(())
}

fn is_dated(table: &TableDef, column: usize) -> bool {
    matches!(table.columns[column].data_type, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The value as one of the column's type; `None` of NULL, of what does not fit, and of types whose ends nobody asks for.
fn scalar(value: Datum<'_>, data_type: &DataType) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Int8 => ScalarValue::Int8(Some(value::integer(value).ok()??)),
        DataType::Int16 => ScalarValue::Int16(Some(value::integer(value).ok()??)),
        DataType::Int32 => ScalarValue::Int32(Some(value::integer(value).ok()??)),
        DataType::Int64 => ScalarValue::Int64(Some(value::integer(value).ok()??)),
        DataType::UInt8 => ScalarValue::UInt8(Some(value::integer(value).ok()??)),
        DataType::UInt16 => ScalarValue::UInt16(Some(value::integer(value).ok()??)),
        DataType::UInt32 => ScalarValue::UInt32(Some(value::integer(value).ok()??)),
        DataType::UInt64 => ScalarValue::UInt64(Some(value::integer(value).ok()??)),
        DataType::Date32 => ScalarValue::Date32(Some(value::date(value).ok()??)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(value::timestamp(value).ok()??), zone.clone())
        }
        _ => return None,
    })
}

/// The rows, or none where the role may not read the table or the server has none.
fn readable<T>(rows: Result<Vec<T>>) -> Result<Vec<T>> {
    match rows {
        // Access to a statement, a table, a column, a database; no such table.
        Err(Failure::Server { code: 1044 | 1142 | 1143 | 1146 | 1227, .. }) => Ok(vec![]),
        rows => rows,
    }
}

/// A column of an index.
struct IndexRow {
    index: String,
    column: Option<String>,
    /// Whether an equality of the whole column is looked up in it.
    whole: bool,
    unique: bool,
    cardinality: Option<u64>,
}

impl FromRow for IndexRow {
    fn from_row_opt(mut row: Row) -> std::result::Result<Self, FromRowError> {
        let kind: String = taken(&mut row, 5).unwrap_or_default();
        Ok(Self {
            index: taken(&mut row, 0).unwrap_or_default(),
            column: taken(&mut row, 1),
            whole: taken::<u64>(&mut row, 2).is_none() && matches!(kind.as_str(), "BTREE" | "HASH"),
            unique: taken(&mut row, 3) == Some(0_u64),
            cardinality: taken(&mut row, 4),
        })
    }
}

/// A row of `mysql.column_stats`.
struct ColumnRow {
    column: String,
    ends: [Option<Vec<u8>>; 2],
    nulls_ratio: Option<f64>,
    avg_length: Option<f64>,
    avg_frequency: Option<f64>,
}

impl FromRow for ColumnRow {
    fn from_row_opt(mut row: Row) -> std::result::Result<Self, FromRowError> {
        let number = |row: &mut Row, index| taken::<String>(row, index).and_then(|digits| digits.parse().ok());
        Ok(Self {
            column: taken(&mut row, 0).unwrap_or_default(),
            ends: [taken(&mut row, 1), taken(&mut row, 2)],
            nulls_ratio: number(&mut row, 3),
            avg_length: number(&mut row, 4),
            avg_frequency: number(&mut row, 5),
        })
    }
}

impl ColumnRow {
    fn add(self, table: &TableDef, known: &mut TableStatistics) {
        let Some(index) = table.column_index(&self.column) else { return };
        let (column, rows) = (&mut known.columns[index], known.rows);
        column.null_fraction = self.nulls_ratio.map(|share| share.clamp(0.0, 1.0));
        column.width_bytes = self.avg_length;
        let filled = rows.map(|rows| rows as f64 * (1.0 - column.null_fraction.unwrap_or(0.0)));
        if let (Some(filled), Some(frequency), None) = (filled, self.avg_frequency, column.distinct) {
            // An estimate: what a float cannot say exactly does not matter.
            column.distinct = (frequency >= 1.0).then(|| (filled / frequency).max(0.0) as u64);
        }
        let [min, max] = self.ends.map(|end| end.and_then(|digits| printed(&digits, &table.columns[index].data_type)));
        (column.min, column.max) = (min, max);
    }
}

/// A value as the server prints it.
fn printed(digits: &[u8], data_type: &DataType) -> Option<ScalarValue> {
    let known = data_type.is_integer() || matches!(data_type, DataType::Decimal128(..) | DataType::Date32);
    let text = std::str::from_utf8(digits).ok().filter(|_| known)?;
    ScalarValue::from(text).cast_to(data_type).ok().filter(|value| !value.is_null())
}

/// A value of a row; `None` of NULL.
fn taken<T: FromValue>(row: &mut Row, index: usize) -> Option<T> {
    match row.take(index)? {
        Value::NULL => None,
        value => T::from_value_opt(value).ok(),
    }
}
