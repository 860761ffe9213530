//! Tables and columns, from pg_catalog, in one query per call.
//!
//! Shown are tables, partitioned tables, views, materialized views and foreign tables of which the role may select at least one
//! column, with the columns that it may select. A partition is part of its table: it is found by name, and not listed.

use headwater_source::{ColumnDef, Error, Result, TableDef, TableKind, ValueClass};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Oid;

use super::answer::{Fault, Row};
use super::error::{Phase, Place};
use super::known::Description;
use super::types::{CatalogType, TextOrder, map};
use super::wire::Wire;

const COLUMNS: &str = include_str!("discover.sql");
const LISTED: &str = r" AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'";
/// The dotted name splits between schema and table wherever that finds something: either may hold dots.
const NAMED: &str = r" AND (pg_catalog.concat(n.nspname, '.', c.relname) = $1::text
    OR c.relname = $1::text AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema')";
const AT: &str = " AND n.nspname = $1::text AND c.relname = $2::text";
const ORDER: &str = " ORDER BY n.nspname, c.relname, a.attnum";

/// Every relation's dotted name, and whether the role may read it.
const NAMES: &str = r"SELECT n.nspname::text, c.relname::text,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, c.relname";

/// The schema that a name without one is looked for in first.
const FIRST_SCHEMA: &str = "public";

/// Every table that the role may read.
pub(super) async fn tables(wire: &mut Wire, place: &Place) -> Result<Vec<Description>> {
    let rows = wire.query(&format!("{COLUMNS}{LISTED}{ORDER}"), &[]).await;
    rows.and_then(|rows| from_rows(&rows, place)).map_err(|fault| failed(place, fault))
}

/// The table that a manifest calls `from`, or why there is none. The outer error is the connection's.
pub(super) async fn table(wire: &mut Wire, place: &Place, from: &str) -> Result<Result<Description>> {
    let rows = match from.contains('\0') {
        true => Ok(vec![]),
        false => wire.query(&format!("{COLUMNS}{NAMED}{ORDER}"), &[from]).await,
    };
    let found = rows.and_then(|rows| from_rows(&rows, place)).map_err(|fault| failed(place, fault))?;
    match choose(found, from).transpose() {
        Some(chosen) => Ok(chosen),
        None => Ok(Err(missing(wire, place, from).await?)),
    }
}

/// The table at a path as it is now, for a scan that was planned earlier; `None` where it is gone or hidden.
pub(super) async fn described(wire: &mut Wire, place: &Place, path: &[String]) -> Result<Option<Description>, Fault> {
    let [schema, name] = path else { return Ok(None) };
    let rows = wire.query(&format!("{COLUMNS}{AT}{ORDER}"), &[schema, name]).await?;
    Ok(from_rows(&rows, place)?.pop())
}

/// A cancelled query of the catalog is one that ran into the limit: nobody else cancels it.
pub(super) fn failed(place: &Place, fault: Fault) -> Error {
    let cancelled = matches!(&fault, Fault::Server(error) if error.code == SqlState::QUERY_CANCELED.code());
    if cancelled && place.statement_timeout.is_some() {
        return place.statement_timeout();
    }
    place.statement("pg_catalog", Phase::Starting, std::time::Instant::now(), fault)
}

/// A dotted name wins, then the first schema, then the only one.
fn choose(mut found: Vec<Description>, from: &str) -> Result<Option<Description>> {
    if found.iter().any(|found| found.table.full_name() == from) {
        found.retain(|found| found.table.full_name() == from);
    } else if found.iter().any(|found| found.table.path[0] == FIRST_SCHEMA) {
        found.retain(|found| found.table.path[0] == FIRST_SCHEMA);
    }
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|found| format!("{:?}", found.table.path)).collect();
        return Err(Error::config(format!("table {from:?} is ambiguous: there are {}", names.join(" and "))));
    }
    Ok(found.pop())
}

/// Why there is no such table: it is hidden from the role, or it does not exist.
async fn missing(wire: &mut Wire, place: &Place, from: &str) -> Result<Error> {
    let rows = wire.query(NAMES, &[]).await.map_err(|fault| failed(place, fault))?;
    let mut known = vec![];
    for row in rows {
        let read = |row: &Row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<bool>(2)?));
        let (schema, name, readable) = read(&row).map_err(|fault| failed(place, fault))?;
        let full = format!("{schema}.{name}");
        if !readable && (full == from || name == from) {
            let cause =
                format!("the role may not select from {full:?}; GRANT SELECT on it and USAGE on its schema").into();
            let (service, location) = (place.service.clone(), place.location.clone());
            return Ok(Error::AccessDenied { service, location, cause });
        }
        if readable && schema == FIRST_SCHEMA {
            known.push(name);
        }
        if readable {
            known.push(full);
        }
    }
    Ok(Error::TableNotFound { service: place.service.clone(), table: from.to_owned(), known })
}

/// Rows come by table and column number; a table without columns has one row without a column.
fn from_rows(rows: &[Row], place: &Place) -> Result<Vec<Description>, Fault> {
    let mut tables: Vec<Description> = vec![];
    for row in rows {
        let (schema, name): (String, String) = (row.get(0)?, row.get(1)?);
        if tables.last().is_none_or(|last| last.table.path != [schema.as_str(), name.as_str()]) {
            let state = [row.get::<String>(23)?, row.get::<Oid>(22)?.to_string(), row.get(24)?].join(" ");
            let pages = row.get::<Option<i32>>(27)?.and_then(|pages| u32::try_from(pages).ok());
            let table = table_of(row, schema, name)?;
            tables.push(Description { table, oid: row.get(22)?, state, pages, indexed: vec![], types: vec![] });
        }
        let (Some(description), Some(column)) = (tables.last_mut(), column_of(row, place)?) else { continue };
        description.types.push((row.get(11)?, row.get(15)?));
        description.add(column, row.get(25)?, row.get(26)?, &row.get::<Option<Vec<i16>>>(28)?.unwrap_or_default());
    }
    for Description { table, .. } in &mut tables {
        let visible = |name: &String| table.columns.iter().any(|column| &column.name == name);
        table.key = table.key.take().filter(|key| key.iter().all(visible));
    }
    Ok(tables)
}

fn table_of(row: &Row, schema: String, name: String) -> Result<TableDef, Fault> {
    let kind: String = row.get(2)?;
    let rows: Option<f64> = row.get(5)?;
    let key: Option<Vec<String>> = row.get(6)?;
    Ok(TableDef {
        path: vec![schema, name.clone()],
        name,
        kind: if matches!(kind.as_str(), "v" | "m") { TableKind::View } else { TableKind::Table },
        columns: vec![],
        key: if inherited(row)? { None } else { key },
        comment: row.get(4)?,
        // An estimate: what a float cannot say exactly does not matter.
        rows_estimate: rows.map(|rows| rows.max(0.0) as u64),
    })
}

/// Whether the relation also shows the rows of children that its constraints do not bind (inheritance, not partitions).
fn inherited(row: &Row) -> Result<bool, Fault> {
    Ok(row.get::<String>(2)? == "r" && row.get::<bool>(3)?)
}

fn column_of(row: &Row, place: &Place) -> Result<Option<ColumnDef>, Fault> {
    let Some(name) = row.get::<Option<String>>(7)? else { return Ok(None) };
    let base = CatalogType { oid: row.get(11)?, name: row.get(12)?, kind: row.get(13)?, modifier: row.get(14)? };
    let element = match row.get::<Option<Oid>>(15)? {
        Some(oid) => Some(CatalogType { oid, name: row.get(16)?, kind: row.get(17)?, modifier: row.get(18)? }),
        None => None,
    };
    let (data_type, class) = map(&base, element.as_ref(), text_order(row)?, place.loose);
    // A foreign table's NOT NULL is a claim about a store that Postgres does not check.
    let checked = row.get::<String>(2)? != "f" && !inherited(row)?;
    Ok(Some(ColumnDef {
        name,
        nullable: !(row.get::<bool>(8)? && checked),
        remote_type: row.get(9)?,
        collation: match class {
            ValueClass::Text | ValueClass::TextFolded | ValueClass::TextPadded => row.get(19)?,
            _ => None,
        },
        data_type,
        class,
        comment: row.get(10)?,
    }))
}

fn text_order(row: &Row) -> Result<TextOrder, Fault> {
    let (deterministic, encoding): (bool, String) = (row.get(20)?, row.get(21)?);
    Ok(match (encoding.as_str(), deterministic) {
        ("UTF8", true) => TextOrder::Deterministic,
        ("UTF8", false) => TextOrder::Folded,
        _ => TextOrder::OtherEncoding,
    })
}
