//! Reads SQLite's catalog: tables, views, columns, keys, collations, estimates.
//!
//! A table that can't be described (a view on a table that is gone, a virtual table of an unknown module) is left out of
//! the list with a warning, so that it hides no other; asked for by name, it is the error that SQLite gives.

use headwater_source::{ColumnDef, ServiceName, TableDef, TableKind, ValueClass};
use rusqlite::{Connection, Row};
use tracing::warn;

use super::statistics;
use super::types::Kind;

/// Describes every table and view, in the order of their names.
pub(super) fn tables(connection: &Connection, service: &ServiceName) -> rusqlite::Result<Vec<TableDef>> {
    let catalog = Catalog::read(connection)?;
    let mut tables = Vec::new();
    for listed in list(connection, None)? {
        match catalog.estimated(&listed) {
            Ok(table) => tables.push(table),
            Err(error) => warn!(%service, table = %listed.name, %error, "table cannot be described and is left out"),
        }
    }
    Ok(tables)
}

/// Describes one table, by its name in any case, as SQLite knows it.
pub(super) fn table(connection: &Connection, name: &str) -> rusqlite::Result<Option<TableDef>> {
    let catalog = Catalog::read(connection)?;
    list(connection, Some(name))?.first().map(|listed| catalog.estimated(listed)).transpose()
}

/// The same without an estimate of its rows: what a plan is held against.
pub(super) fn columns_now(connection: &Connection, name: &str) -> rusqlite::Result<Option<TableDef>> {
    let catalog = Catalog::read(connection)?;
    list(connection, Some(name))?.first().map(|listed| catalog.describe(listed)).transpose()
}

/// The names of every table and view.
pub(super) fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    Ok(list(connection, None)?.into_iter().map(|listed| listed.name).collect())
}

/// A row of `PRAGMA table_list`.
struct Listed {
    name: String,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Table { rowid: bool, strict: bool },
    View,
    Virtual,
}

/// What makes sure of the storage classes of a column's values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// SQLite itself: a STRICT table or the rowid.
    Enforced,
    /// Nothing, but the column's affinity is known.
    Loose,
    /// Not even that: comparing may convert values in ways that can't be foreseen.
    Unknown,
}

struct Catalog<'a> {
    connection: &'a Connection,
    utf8: bool,
    views: Vec<(String, String)>,
}

/// Shadow tables of virtual tables are not listed: they are storage, not data. Nor are the tables of a feed.
fn list(connection: &Connection, name: Option<&str>) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare(
        "SELECT name, type, wr, strict FROM pragma_table_list(?1) \
         WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name NOT GLOB 'headwater_*_feed_log' AND name NOT GLOB 'headwater_*_feed_tables' \
         ORDER BY name",
    )?;
    statement.query_map([name], listed)?.collect()
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let shape = match row.get_ref(1)?.as_str()? {
        "view" => Shape::View,
        "virtual" => Shape::Virtual,
        _ => Shape::Table { rowid: !row.get::<_, bool>(2)?, strict: row.get(3)? },
    };
    Ok(Listed { name: row.get(0)?, shape })
}

/// A row of `PRAGMA table_xinfo`.
struct Described {
    name: String,
    declared: String,
    not_null: bool,
    /// The place in the primary key, from 1; 0 outside of it.
    key: u32,
}

impl<'a> Catalog<'a> {
    fn read(connection: &'a Connection) -> rusqlite::Result<Self> {
        let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
        let mut statement =
            connection.prepare("SELECT upper(name), upper(sql) FROM sqlite_schema WHERE type = 'view'")?;
        let views = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(Self { connection, utf8: encoding == "UTF-8", views })
    }

    fn describe(&self, listed: &Listed) -> rusqlite::Result<TableDef> {
        let mut described = self.described(&listed.name)?;
        if listed.shape == Shape::View {
            self.undeclare(&listed.name, &mut described)?;
        }
        let alias = self.rowid_alias(listed, &described)?;
        let columns = described
            .iter()
            .map(|column| self.column(listed, column, alias == Some(column.name.as_str())))
            .collect::<rusqlite::Result<_>>()?;
        let mut table = TableDef::new([listed.name.as_str()], columns);
        if listed.shape == Shape::View {
            table.kind = TableKind::View;
        }
        let mut key: Vec<&Described> = described.iter().filter(|column| column.key > 0).collect();
        key.sort_by_key(|column| column.key);
        table.key = (!key.is_empty()).then(|| key.iter().map(|column| column.name.clone()).collect());
        Ok(table)
    }

    /// The same with an estimate of its rows.
    fn estimated(&self, listed: &Listed) -> rusqlite::Result<TableDef> {
        let mut table = self.describe(listed)?;
        table.rows_estimate = statistics::rows(self.connection, &table)?;
        Ok(table)
    }

    /// The columns, generated ones included; hidden columns of virtual tables are arguments, not data.
    fn described(&self, table: &str) -> rusqlite::Result<Vec<Described>> {
        let mut statement = self.connection.prepare(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid",
        )?;
        let rows = statement.query_map([table], |row| {
            let declared: Option<String> = row.get(1)?;
            Ok(Described {
                name: row.get(0)?,
                declared: declared.unwrap_or_default(),
                not_null: row.get(2)?,
                key: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    /// Takes back the type BLOB where SQLite means "none" by it: `table_xinfo` gives it to a view's columns that come from
    /// columns without a type, or from several of different affinities.
    fn undeclare(&self, view: &str, columns: &mut [Described]) -> rusqlite::Result<()> {
        let statement = self.connection.prepare(&format!("SELECT * FROM \"{}\"", view.replace('"', "\"\"")))?;
        for (column, selected) in columns.iter_mut().zip(statement.columns()) {
            let declared = selected.decl_type().is_some_and(|name| Kind::of(name) == Kind::Blob);
            if column.declared == "BLOB" && !declared {
                column.declared.clear();
            }
        }
        Ok(())
    }

    fn column(&self, listed: &Listed, column: &Described, alias: bool) -> rusqlite::Result<ColumnDef> {
        let kind = Kind::of(&column.declared);
        let collation = self.collation(listed, &column.name)?;
        let guard = match listed.shape {
            Shape::Table { strict: true, .. } => Guard::Enforced,
            Shape::Table { .. } if alias => Guard::Enforced,
            Shape::Table { .. } => Guard::Loose,
            Shape::View if self.plain_view(&listed.name) => Guard::Loose,
            Shape::View | Shape::Virtual => Guard::Unknown,
        };
        let class = self.class(kind, guard, collation.as_deref());
        let mut definition = ColumnDef::new(&column.name, kind.data_type(), &column.declared, class);
        definition.nullable = !(column.not_null || alias);
        definition.collation = collation;
        Ok(definition)
    }

    fn class(&self, kind: Kind, guard: Guard, collation: Option<&str>) -> ValueClass {
        let enforced = guard == Guard::Enforced;
        match kind {
            _ if guard == Guard::Unknown => ValueClass::Opaque,
            // BINARY compares the bytes of the encoding, and UTF-16 orders them otherwise than UTF-8.
            Kind::Text | Kind::Date | Kind::Timestamp if !self.utf8 => ValueClass::Opaque,
            Kind::Text if matches!(collation, Some("NOCASE" | "RTRIM")) => ValueClass::TextFolded,
            Kind::Text if enforced => ValueClass::Text,
            Kind::Integer if enforced => ValueClass::Integer,
            Kind::Blob if enforced => ValueClass::Bytes,
            Kind::Text | Kind::Integer | Kind::Blob => ValueClass::Loose,
            Kind::Boolean => ValueClass::Boolean,
            Kind::Float => ValueClass::Float,
            Kind::Decimal { .. } => ValueClass::Decimal,
            Kind::Date => ValueClass::Date,
            Kind::Time => ValueClass::Time,
            Kind::Timestamp => ValueClass::Timestamp,
            Kind::TimestampTz => ValueClass::TimestampTz,
            Kind::Any => ValueClass::Opaque,
        }
    }

    /// The column's own collation; views have none that SQLite tells.
    fn collation(&self, listed: &Listed, column: &str) -> rusqlite::Result<Option<String>> {
        if !matches!(listed.shape, Shape::Table { .. }) {
            return Ok(None);
        }
        let (_, collation, ..) = self.connection.column_metadata(Some("main"), listed.name.as_str(), column)?;
        Ok(collation.map(|name| name.to_string_lossy().to_ascii_uppercase()))
    }

    /// The column that is another name of the rowid: an `INTEGER PRIMARY KEY` that needs no index of its own.
    fn rowid_alias<'d>(&self, listed: &Listed, columns: &'d [Described]) -> rusqlite::Result<Option<&'d str>> {
        let mut key = columns.iter().filter(|column| column.key > 0);
        let (Shape::Table { rowid: true, .. }, Some(column), None) = (listed.shape, key.next(), key.next()) else {
            return Ok(None);
        };
        if !column.declared.eq_ignore_ascii_case("INTEGER") {
            return Ok(None);
        }
        // `INTEGER PRIMARY KEY DESC` has an index and is no alias (<https://www.sqlite.org/lang_createtable.html>, 5).
        let indexed = "SELECT count(*) > 0 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'";
        let indexed: bool = self.connection.query_row(indexed, [&listed.name], |row| row.get(0))?;
        Ok((!indexed).then_some(column.name.as_str()))
    }

    /// Whether the affinity of the view's columns is that of the columns which it names.
    ///
    /// SQLite leaves it open which part of a compound SELECT gives a column its affinity (datatype3.html, section 3.4). The
    /// test is on the text and errs on the safe side: any of the words, or any other view's name, anywhere.
    fn plain_view(&self, name: &str) -> bool {
        let name = name.to_ascii_uppercase();
        let Some((_, sql)) = self.views.iter().find(|(view, _)| *view == name) else { return false };
        let compound = ["UNION", "INTERSECT", "EXCEPT", "VALUES"].iter().any(|word| sql.contains(word));
        let nested = self.views.iter().any(|(view, _)| *view != name && sql.contains(view.as_str()));
        !compound && !nested
    }
}
