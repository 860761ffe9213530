//! The tables that are followed: what of them decides how their changes are read, and whether they are still what they were.
//!
//! Invariant: a change is read only by columns that were its table's when it was made. The server describes a table before its first
//! change and whenever something of it changed; what it says must be what the catalog says now, and what the catalog says now must be what
//! whoever follows it knows. A column that was dropped and made again under its name and type looks the same in
//! both; it is told by the catalog's rows of the columns, whose transactions are a table's [`Followed::print`].

use headwater_source::{ColumnDef, Lack, Result, TableDef, ValueClass};
use tokio_postgres::types::{Oid, Type};

use super::super::answer::{Fault, Row};
use super::super::discover;
use super::super::error::Place;
use super::super::wire::Wire;
use super::message::Relation;
use super::text::Form;

const TABLES: &str = include_str!("tables.sql");

/// A table that is followed, as the catalog has it now.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) table: TableDef,
    pub(super) oid: Oid,
    /// The columns that the server sends, in its order.
    columns: Vec<Sent>,
    /// The columns' numbers and the transactions that wrote the catalog's rows of them.
    pub(super) print: String,
    kind: String,
    persistence: String,
    has_children: bool,
    pub(super) is_owned: bool,
    identity: String,
    identity_columns: Vec<String>,
    generated: Vec<String>,
    /// Columns that are read through a cast of a type of their own.
    cast: Vec<(String, String)>,
}

/// A column that the server sends.
#[derive(Debug, Clone)]
struct Sent {
    name: String,
    type_oid: Oid,
    modifier: i32,
    /// Which column of the table it is, and how its text is read; `None` where the role may not see it.
    read: Option<(usize, Form)>,
}

/// How rows that went are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// By the columns of the table's key.
    Key,
    /// By all columns.
    Row,
}

/// How the changes behind a description are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) identity: Identity,
    /// For each column that the server sends, which column of the table it is and how its text is read.
    pub(super) columns: Vec<Option<(usize, Form)>>,
}

/// Describes tables as they are now.
///
/// # Errors
/// [`headwater_source::Error::SchemaChanged`] where a table is gone or its columns are not those that are followed.
pub(super) async fn followed(wire: &mut Wire, place: &Place, tables: &[TableDef]) -> Result<Vec<Followed>> {
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        let found = one(wire, place, table).await.map_err(|fault| discover::failed(place, fault))?;
        let found = found.map_err(|change| place.changed(&table.full_name(), change))?;
        all.push(found);
    }
    Ok(all)
}

async fn one(wire: &mut Wire, place: &Place, table: &TableDef) -> Result<Result<Followed, String>, Fault> {
    let described = discover::described(wire, place, &table.path).await?;
    let Some(now) = described else { return Ok(Err("it is gone".to_owned())) };
    if let Some(change) = difference(table, &now.table) {
        return Ok(Err(change));
    }
    let [schema, name] = table.path.as_slice() else { return Ok(Err("it is gone".to_owned())) };
    let rows = wire.query(TABLES, &[schema, name]).await?;
    let Some(first) = rows.first() else { return Ok(Err("it is gone".to_owned())) };
    let mut followed = Followed {
        table: table.clone(),
        oid: first.get(0)?,
        columns: vec![],
        print: first.get::<Oid>(0)?.to_string(),
        kind: first.get(1)?,
        persistence: first.get(2)?,
        has_children: first.get(3)?,
        identity: first.get(4)?,
        is_owned: first.get(5)?,
        identity_columns: first.get(6)?,
        generated: vec![],
        cast: vec![],
    };
    for row in &rows {
        let types = |name: &str| now.types.get(now.table.column_index(name)?).copied();
        followed.add(row, types)?;
    }
    Ok(Ok(followed))
}

/// How the columns differ from those that are followed.
fn difference(followed: &TableDef, now: &TableDef) -> Option<String> {
    for column in &followed.columns {
        match now.columns.iter().find(|other| other.name == column.name) {
            None => return Some(format!("column \"{}\" is gone", column.name)),
            Some(other) if other.data_type != column.data_type || other.class != column.class => {
                let (name, was, is) = (&column.name, &column.remote_type, &other.remote_type);
                return Some(format!("column \"{name}\" was {was} and is {is}"));
            }
            Some(other) if other.nullable && !column.nullable => {
                return Some(format!("column \"{}\" may be NULL now", column.name));
            }
            Some(_) => {}
        }
    }
    let is_new = |column: &&ColumnDef| followed.column_index(&column.name).is_none();
    now.columns.iter().find(is_new).map(|column| format!("column \"{}\" is new", column.name))
}

impl Followed {
    fn add(&mut self, row: &Row, types: impl Fn(&str) -> Option<(Oid, Option<Oid>)>) -> Result<(), Fault> {
        let name: String = row.get(7)?;
        let is_visible: bool = row.get(12)?;
        let index = self.table.column_index(&name).filter(|_| is_visible);
        if index.is_some() {
            self.print.push_str(&format!(" {}", row.get::<String>(11)?));
        }
        if !row.get::<String>(10)?.is_empty() {
            if index.is_some() {
                self.generated.push(name);
            }
            return Ok(());
        }
        if let (Some(cast), Some(_)) = (row.get::<Option<String>>(13)?, index) {
            self.cast.push((name.clone(), cast));
        }
        let form = |index: usize| form(&self.table.columns[index], types(&name));
        let read = index.map(|index| (index, form(index)));
        self.columns.push(Sent { name, type_oid: row.get(8)?, modifier: row.get(9)?, read });
        Ok(())
    }

    /// How changes are read that were made while the table was as the server describes it, or what of it was different then.
    pub(super) fn reading(&self, relation: &Relation) -> Result<Reading, String> {
        if relation.oid != self.oid {
            return Err("it was dropped and made anew".to_owned());
        }
        if let Some(change) = self.change_to(relation) {
            return Err(change);
        }
        let identifies =
            |name: &String| relation.columns.iter().any(|column| column.identifies && &column.name == name);
        let identity = match &self.table.key {
            Some(key) if relation.identity == b'f' || key.iter().all(identifies) => Identity::Key,
            None if relation.identity == b'f' => Identity::Row,
            _ => return Err(format!("its replica identity does not tell its rows apart; {}", self.identity_remedy())),
        };
        Ok(Reading { identity, columns: self.columns.iter().map(|column| column.read).collect() })
    }

    /// How the columns that the server describes differ from those that are followed.
    fn change_to(&self, relation: &Relation) -> Option<String> {
        for column in &self.columns {
            let Some(then) = relation.columns.iter().find(|then| then.name == column.name) else {
                return Some(format!("column \"{}\" is gone", column.name));
            };
            if (then.type_oid, then.modifier) != (column.type_oid, column.modifier) {
                return Some(format!("column \"{}\" is of another type", column.name));
            }
        }
        let is_known = |name: &String| self.columns.iter().any(|column| column.name == *name);
        if let Some(new) = relation.columns.iter().find(|then| !is_known(&then.name)) {
            return Some(format!("column \"{}\" is new", new.name));
        }
        let same_order = self.columns.iter().zip(&relation.columns).all(|(column, then)| column.name == then.name);
        (!same_order).then(|| "its columns have another order".to_owned())
    }

    /// What keeps the table from being followed, and what mends it.
    pub(super) fn lacks(&self) -> Vec<Lack> {
        let name = self.table.full_name();
        let lack = |what: String, remedy: String| Lack { what, remedy };
        let mut lacks = vec![];
        match self.kind.as_str() {
            "r" if self.has_children => lacks.push(lack(
                format!("table \"{name}\" has children that inherit from it, whose changes are not its own"),
                "publish the children as tables of their own".to_owned(),
            )),
            "r" => {}
            "p" => lacks.push(lack(
                format!("table \"{name}\" is partitioned, and attaching, detaching or truncating a partition is not in the log"),
                "publish the partitions as tables of their own".to_owned(),
            )),
            _ => lacks.push(lack(
                format!("\"{name}\" is a view or a foreign table, which has no changes of its own"),
                "publish the tables that it reads".to_owned(),
            )),
        }
        if self.persistence != "p" && self.kind == "r" {
            lacks.push(lack(
                format!("table \"{name}\" is unlogged"),
                format!("ALTER TABLE {} SET LOGGED", self.sql_name()),
            ));
        }
        for column in &self.generated {
            lacks.push(lack(
                format!("column \"{column}\" of table \"{name}\" is generated, and the log does not carry it"),
                format!(
                    "ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION, and let a trigger fill it; or keep the role from seeing it: \
                     REVOKE SELECT on the table and GRANT SELECT on its other columns",
                    self.sql_name(),
                    quoted(column)
                ),
            ));
        }
        for (column, sql_type) in &self.cast {
            lacks.push(lack(
                format!("column \"{column}\" of table \"{name}\" is read through the cast of {sql_type} to text, which the log does not go through"),
                "keep the role from seeing it: REVOKE SELECT on the table and GRANT SELECT on its other columns".to_owned(),
            ));
        }
        if self.kind == "r" && !self.tells_rows_apart() {
            lacks.push(lack(
                format!("table \"{name}\" has a replica identity that does not tell its rows apart"),
                self.identity_remedy(),
            ));
        }
        lacks
    }

    fn tells_rows_apart(&self) -> bool {
        self.identity == "f"
            || self.table.key.as_ref().is_some_and(|key| {
                !self.identity_columns.is_empty() && key.iter().all(|column| self.identity_columns.contains(column))
            })
    }

    fn identity_remedy(&self) -> String {
        format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.sql_name())
    }

    /// The table's name in a statement.
    pub(super) fn sql_name(&self) -> String {
        self.table.path.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }
}

/// A name from the catalog in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn form(column: &ColumnDef, types: Option<(Oid, Option<Oid>)>) -> Form {
    let is = |oid: Option<Oid>, known: Type| oid == Some(known.oid());
    match types {
        Some((base, _)) if base == Type::INET.oid() && column.class == ValueClass::Opaque => Form::Address,
        Some((_, element)) if is(element, Type::BPCHAR) => Form::PaddedElements,
        _ => Form::Printed,
    }
}
