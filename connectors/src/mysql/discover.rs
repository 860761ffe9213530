//! Tables, columns and keys from `information_schema`.
//!
//! Only what the role may read is there: a column without SELECT on it is left out, and so is a table without columns.

use std::collections::HashMap;

use headwater_source::{ColumnDef, TableDef, TableKind};
use mysql_common::params::Params;
use mysql_common::row::Row;
use mysql_common::value::Value;
use mysql_common::value::convert::FromValue;

use super::types::CatalogColumn;
use super::wire::{Conn, Result};

/// Which tables to describe.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Those of every database but the server's own.
    Server,
    /// Those of one database.
    Database(&'a str),
    /// One table.
    Table(&'a str, &'a str),
}

const TABLES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_COMMENT, TABLE_ROWS FROM information_schema.TABLES \
     WHERE TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') AND ";

const COLUMNS: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, NUMERIC_PRECISION, \
     NUMERIC_SCALE, CHARACTER_SET_NAME, COLLATION_NAME, COLUMN_COMMENT, PRIVILEGES FROM information_schema.COLUMNS WHERE ";

const COLUMNS_ORDER: &str = " ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION";

const KEYS: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
     WHERE INDEX_NAME = 'PRIMARY' AND ";

const KEYS_ORDER: &str = " ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX";

/// A table's database and name.
type Path = (String, String);

impl Scope<'_> {
    fn condition(self) -> &'static str {
        match self {
            Self::Server => "TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
            Self::Database(_) => "TABLE_SCHEMA = ?",
            Self::Table(..) => "TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        }
    }

    fn binds(self) -> Params {
        match self {
            Self::Server => Params::Empty,
            Self::Database(database) => Params::Positional(vec![database.into()]),
            Self::Table(database, table) => Params::Positional(vec![database.into(), table.into()]),
        }
    }

    /// The catalog compares names by its own collation; a name is just its bytes.
    fn holds(self, (database, table): &Path) -> bool {
        match self {
            Self::Server => true,
            Self::Database(name) => database == name,
            Self::Table(name, exact) => database == name && table == exact,
        }
    }
}

/// Describes the tables, in the order of their names.
pub(super) async fn tables(conn: &mut Conn, scope: Scope<'_>) -> Result<Vec<TableDef>> {
    let mut columns: HashMap<Path, Vec<ColumnDef>> = HashMap::new();
    for (path, column) in catalog_columns(conn, scope).await? {
        columns.entry(path).or_default().push(column);
    }
    let mut keys: HashMap<Path, Vec<String>> = HashMap::new();
    for mut row in rows(conn, &format!("{KEYS}{}{KEYS_ORDER}", scope.condition()), scope).await? {
        keys.entry(path(&mut row)).or_default().push(text(&mut row, 2));
    }
    let mut tables = Vec::new();
    for mut row in rows(conn, &format!("{TABLES}{}", scope.condition()), scope).await? {
        let path = path(&mut row);
        if let Some(columns) = columns.remove(&path) {
            let key = keys.remove(&path);
            tables.push(table(path, &mut row, columns, key));
        }
    }
    tables.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tables)
}

/// The columns of one table that the role may read, in the table's order; none where there is no such table.
pub(super) async fn columns(conn: &mut Conn, database: &str, table: &str) -> Result<Vec<ColumnDef>> {
    let found = catalog_columns(conn, Scope::Table(database, table)).await?;
    Ok(found.into_iter().map(|(_, column)| column).collect())
}

async fn catalog_columns(conn: &mut Conn, scope: Scope<'_>) -> Result<Vec<(Path, ColumnDef)>> {
    let rows = rows(conn, &format!("{COLUMNS}{}{COLUMNS_ORDER}", scope.condition()), scope).await?;
    Ok(rows.into_iter().filter_map(column).filter(|(path, _)| scope.holds(path)).collect())
}

async fn rows(conn: &mut Conn, statement: &str, scope: Scope<'_>) -> Result<Vec<Row>> {
    conn.exec(statement, scope.binds()).await
}

fn table(path: Path, row: &mut Row, columns: Vec<ColumnDef>, key: Option<Vec<String>>) -> TableDef {
    let view = text(row, 2) == "VIEW";
    let comment = text(row, 3);
    let visible = |name: &String| columns.iter().any(|column| column.name == *name);
    let key = key.filter(|key| key.iter().all(visible));
    let mut table = TableDef::new([path.0, path.1], columns);
    table.kind = if view { TableKind::View } else { TableKind::Table };
    table.key = key;
    // Every view's comment is the word VIEW.
    table.comment = Some(comment).filter(|comment| !comment.is_empty() && !view);
    table.rows_estimate = take(row, 4);
    table
}

fn column(mut row: Row) -> Option<(Path, ColumnDef)> {
    let privileges = text(&mut row, 11);
    if !privileges.split(',').any(|privilege| privilege.trim().eq_ignore_ascii_case("select")) {
        return None;
    }
    let column = CatalogColumn {
        name: text(&mut row, 2),
        base: text(&mut row, 3),
        full: text(&mut row, 4),
        nullable: text(&mut row, 5) != "NO",
        precision: take(&mut row, 6),
        scale: take(&mut row, 7),
        charset: take(&mut row, 8),
        collation: take(&mut row, 9),
        comment: text(&mut row, 10),
    };
    Some((path(&mut row), column.describe()))
}

fn path(row: &mut Row) -> Path {
    (text(row, 0), text(row, 1))
}

fn text(row: &mut Row, index: usize) -> String {
    take(row, index).unwrap_or_default()
}

/// A value of the catalog, or `None` where it is NULL.
fn take<T: FromValue>(row: &mut Row, index: usize) -> Option<T> {
    let value: Value = row.take(index)?;
    match value {
        Value::NULL => None,
        value => T::from_value_opt(value).ok(),
    }
}
