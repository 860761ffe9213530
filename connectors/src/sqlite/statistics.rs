//! What SQLite knows of a table's rows without reading them: what ANALYZE counted, and what the ends of its indexes say.
//!
//! Every number is found by a few steps down a B-tree or in `sqlite_stat1` and `sqlite_stat4`; none decides an answer.

use std::collections::BTreeSet;

use headwater_source::{ColumnDef, Index, ScalarValue, TableDef, TableKind, TableStatistics};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::decode::ColumnBuilder;
use super::dialect::Sqlite;
use crate::sql::{self, Dialect};

/// The fewest bytes that a row takes on its page: what a file's size says of how many there can be.
const ROW_BYTES_MIN: i64 = 8;

/// How many rows a table has: what ANALYZE counted, or what its rowids leave room for; `None` of a view, and where nothing is known.
pub(super) fn rows(connection: &Connection, table: &TableDef) -> rusqlite::Result<Option<u64>> {
    if table.kind == TableKind::View {
        return Ok(None);
    }
    let counted = analyzed(connection, &table.name)?.into_iter().map(|entry| entry.rows).max();
    match counted {
        Some(rows) => Ok(Some(rows)),
        None => room(connection, table),
    }
}

/// Everything that is known of a table.
pub(super) fn of(connection: &Connection, table: &TableDef) -> rusqlite::Result<TableStatistics> {
    let mut known = TableStatistics::of(table);
    known.rows = rows(connection, table)?;
    if table.kind == TableKind::View {
        return Ok(known);
    }
    let entries = analyzed(connection, &table.name)?;
    let indexes = indexes(connection, table)?;
    for named in &indexes {
        let Some(first) = named.index.columns.first() else { continue };
        let column = &mut known.columns[*first];
        if let Some(entry) = entries.iter().find(|entry| entry.index == named.name) {
            column.distinct = column.distinct.or(entry.distinct);
            column.null_fraction = column.null_fraction.or(null_fraction(connection, table, entry)?);
        }
    }
    for index in &known.indexes {
        // The rowid, which is no index in the catalog, and every key.
        if let ([only], true) = (index.columns.as_slice(), index.unique) {
            known.columns[*only].distinct = known.columns[*only].distinct.or(known.rows);
        }
    }
    let keys = known.indexes.iter().chain(indexes.iter().map(|named| &named.index));
    let firsts: BTreeSet<usize> = keys.filter_map(|index| index.columns.first()).copied().collect();
    for first in firsts {
        let column = &table.columns[first];
        known.columns[first].min = end(connection, table, column, "min")?;
        known.columns[first].max = end(connection, table, column, "max")?;
    }
    // The rowid is the only key that is not among the indexes.
    known.indexes.retain(|index| !indexes.iter().any(|named| named.index.columns == index.columns));
    known.indexes.extend(indexes.into_iter().map(|named| named.index));
    Ok(known)
}

/// An entry of `sqlite_stat1`.
struct Entry {
    index: String,
    rows: u64,
    /// How many values the index's first column has.
    distinct: Option<u64>,
}

/// An index, with its name.
struct Named {
    name: String,
    index: Index,
}

/// What ANALYZE wrote of a table.
fn analyzed(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Entry>> {
    if !is_there(connection, "sqlite_stat1")? {
        return Ok(vec![]);
    }
    let query = "SELECT idx, stat FROM sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE";
    let mut statement = connection.prepare(query)?;
    let mut found = statement.query([table])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()? {
        // Anyone may write into the table: what is no text of numbers says nothing.
        let (index, stat): (Option<String>, Option<String>) = (row.get(0).ok().flatten(), row.get(1).ok().flatten());
        let stat = stat.unwrap_or_default();
        let mut numbers = stat.split(' ').map_while(|number| number.parse::<u64>().ok());
        let Some(rows) = numbers.next() else { continue };
        // The second number is how many rows share a value of the first column, rounded up.
        let distinct = numbers.next().filter(|per_value| *per_value > 0).map(|per_value| rows.div_ceil(per_value));
        entries.push(Entry { index: index.unwrap_or_default(), rows, distinct });
    }
    Ok(entries)
}

/// The share of rows whose first indexed column is NULL, where `sqlite_stat4` has a sample that tells it.
fn null_fraction(connection: &Connection, table: &TableDef, entry: &Entry) -> rusqlite::Result<Option<f64>> {
    if entry.rows == 0 || !is_there(connection, "sqlite_stat4")? {
        return Ok(None);
    }
    // NULLs come first in an index, so the first sample is one of them or says how many rows come before it.
    let query = "SELECT CAST(neq AS INTEGER), CAST(nlt AS INTEGER), sample FROM sqlite_stat4 \
                 WHERE tbl = ?1 COLLATE NOCASE AND idx = ?2 ORDER BY 2 LIMIT 1";
    let first = connection.query_row(query, [&table.name, &entry.index], |row| {
        let sample = match row.get_ref(2)? {
            // A record: the header's length, then the type of each value; type 0 is NULL
            // (<https://www.sqlite.org/fileformat2.html>, section 2.1).
            ValueRef::Blob([_, first_type, ..]) => Some(*first_type),
            _ => None,
        };
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, sample))
    });
    Ok(match first.optional()? {
        Some((equal, _, Some(0))) => Some((equal as f64 / entry.rows as f64).clamp(0.0, 1.0)),
        Some((_, 0, Some(_))) => Some(0.0),
        _ => None,
    })
}

/// Every index whose columns are the table's own, over all of its rows, in the columns' own collations.
fn indexes(connection: &Connection, table: &TableDef) -> rusqlite::Result<Vec<Named>> {
    let query = "SELECT name, \"unique\" FROM pragma_index_list(?1, 'main') WHERE NOT partial ORDER BY seq";
    let mut statement = connection.prepare(query)?;
    let listed = statement.query_map([&table.name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    let mut found = Vec::new();
    for listed in listed {
        let (name, unique) = listed?;
        if let Some(columns) = columns(connection, table, &name)? {
            found.push(Named { name, index: Index { columns, unique } });
        }
    }
    Ok(found)
}

fn columns(connection: &Connection, table: &TableDef, index: &str) -> rusqlite::Result<Option<Vec<usize>>> {
    let query = "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE \"key\" ORDER BY seqno";
    let mut statement = connection.prepare(query)?;
    let keys = statement.query_map([index], |row| {
        let (name, collation): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
        // The rowid under no name, or an expression.
        let Some(place) = name.and_then(|name| table.column_index(&name)) else { return Ok(None) };
        let own = table.columns[place].collation.as_deref().unwrap_or("BINARY");
        Ok(collation.filter(|collation| collation.eq_ignore_ascii_case(own)).map(|_| place))
    })?;
    let columns = keys.collect::<rusqlite::Result<Option<Vec<usize>>>>()?;
    Ok(columns.filter(|columns| !columns.is_empty()))
}

/// The least or greatest value of the first column of an index, if it is one that the column may hold.
fn end(
    connection: &Connection,
    table: &TableDef,
    column: &ColumnDef,
    function: &str,
) -> rusqlite::Result<Option<ScalarValue>> {
    let Some((table, name)) = sql::quoted(&table.name, Sqlite::QUOTE).zip(sql::quoted(&column.name, Sqlite::QUOTE))
    else {
        return Ok(None);
    };
    let collation = column.collation.as_deref().unwrap_or("BINARY");
    if collation != "BINARY" {
        return Ok(None);
    }
    connection.query_row(&format!("SELECT {function}(t1.{name}) FROM {table} t1"), [], |row| {
        let mut builder = ColumnBuilder::new(column);
        let value = row.get_ref(0)?;
        let fits = value != ValueRef::Null && builder.append(value).is_ok();
        Ok(fits.then(|| ScalarValue::try_from_array(&builder.finish(), 0).ok()).flatten())
    })
}

/// How many rows there can be between the least and the greatest rowid, in a file of this size.
fn room(connection: &Connection, table: &TableDef) -> rusqlite::Result<Option<u64>> {
    let query = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main' AND type = 'table'";
    let without_rowid: Option<bool> = connection.query_row(query, [&table.name], |row| row.get(0)).optional()?;
    let taken = |name: &&str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let name = ["_rowid_", "rowid", "oid"].into_iter().find(|name| !taken(name));
    let (Some(false), Some(rowid), Some(table)) = (without_rowid, name, sql::quoted(&table.name, Sqlite::QUOTE)) else {
        return Ok(None);
    };
    let ends = format!("SELECT (SELECT min({rowid}) FROM {table}), (SELECT max({rowid}) FROM {table})");
    let (first, last): (Option<i64>, Option<i64>) =
        connection.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(Some(0)) };
    let bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = connection.query_row(bytes, [], |row| row.get(0))?;
    let span = last.saturating_sub(first).saturating_add(1);
    Ok(u64::try_from(span.min(bytes / ROW_BYTES_MIN)).ok())
}

fn is_there(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
}
