//! The tables of `pg_catalog` that are made of what the engine knows.

use std::collections::HashSet;

use arrow::datatypes::Field;
use postgres_types::Kind;

use super::eval::{Table as Made, Tables};
use super::fixed::{CATALOG_OID, COLLATION_OID, INFORMATION_OID, OWNER_OID, length};
use super::functions::{quote, quoted_columns, quoted_name, type_oid};
use super::relations::{Relations, Table};
use super::rows::{Cell, Rows};
use super::{Context, SCHEMA, fixed, information, shape};
use crate::pg::types::{modifier, of};

impl Relations {
    /// What `pg_class.relkind` says of a table.
    pub(super) fn kind(&self, table: &Table) -> &'static str {
        match (self.views.contains_key(&(table.info.service.clone(), table.info.name.clone())), table.info.kind) {
            (true, _) => "m",
            (false, "VIEW") => "v",
            _ => "r",
        }
    }

    /// Every table of the catalog. Those that the statement does not name are left without rows.
    pub(super) fn tables(&self, asks: Context, names: &HashSet<String>) -> Tables {
        let tables = shape::all().iter().map(|shape| {
            let rows = match (names.contains(shape.name), shape.schema) {
                (false, _) => Rows::none(),
                (true, SCHEMA) => {
                    self.rows(shape.name).or_else(|| fixed::rows(shape.name, &asks)).unwrap_or_else(Rows::none)
                }
                (true, _) => information::rows(shape.name, self, &asks).unwrap_or_else(Rows::none),
            };
            Made::new(shape.schema, shape.name, shape.columns, &rows.names, &rows.rows)
        });
        let tables = tables.collect();
        Tables::new(tables, asks.user, asks.settings, asks.process)
    }

    fn rows(&self, name: &str) -> Option<Rows> {
        Some(match name {
            "pg_namespace" => self.namespaces(),
            "pg_class" => self.classes(),
            "pg_attribute" => self.attributes(),
            "pg_index" => self.indexes(),
            "pg_constraint" => self.constraints(),
            "pg_description" => self.descriptions(),
            "pg_tables" => self.listed("r", &["schemaname", "tablename", "tableowner", "hasindexes"]),
            "pg_views" => self.listed("v", &["schemaname", "viewname", "viewowner", "definition"]),
            "pg_matviews" => self.matviews(),
            "pg_indexes" => self.index_list(),
            "pg_stat_user_tables" | "pg_stat_all_tables" | "pg_statio_user_tables" => self.statistics(),
            _ => return None,
        })
    }

    fn namespaces(&self) -> Rows {
        let mut rows = Rows::new(&["oid", "nspname", "nspowner"]);
        let own = [(SCHEMA.to_owned(), CATALOG_OID), ("information_schema".to_owned(), INFORMATION_OID)];
        for (name, oid) in own.into_iter().chain(self.schemas.clone()) {
            rows.add([Cell::Number(oid), Cell::from(name.as_str()), Cell::Number(OWNER_OID)]);
        }
        rows
    }

    fn schema_of(&self, table: &Table) -> i64 {
        self.schemas.get(&table.info.service).copied().unwrap_or_default()
    }

    fn classes(&self) -> Rows {
        let mut rows = Rows::new(&[
            "oid",
            "relname",
            "relnamespace",
            "reltype",
            "reloftype",
            "relowner",
            "relam",
            "relfilenode",
            "reltablespace",
            "relpages",
            "reltuples",
            "relallvisible",
            "reltoastrelid",
            "relhasindex",
            "relisshared",
            "relpersistence",
            "relkind",
            "relnatts",
            "relchecks",
            "relhasrules",
            "relhastriggers",
            "relhassubclass",
            "relrowsecurity",
            "relforcerowsecurity",
            "relispopulated",
            "relreplident",
            "relispartition",
            "relrewrite",
            "relfrozenxid",
            "relminmxid",
        ]);
        let mut add = |oid: i64, name: &str, schema: i64, kind: &str, columns: usize, has_index: bool| {
            use Cell::{Flag, Number};
            let access = match kind {
                "i" => 403,
                "v" => 0,
                _ => 2,
            };
            rows.add([
                Number(oid),
                Cell::from(name),
                Number(schema),
                Number(0),
                Number(0),
                Number(OWNER_OID),
                Number(access),
                Number(0),
                Number(0),
                Number(0),
                Number(-1),
                Number(0),
                Number(0),
                Flag(has_index),
                Flag(false),
                Cell::from("p"),
                Cell::from(kind),
                Number(columns as i64),
                Number(0),
                Flag(false),
                Flag(false),
                Flag(false),
                Flag(false),
                Flag(false),
                Flag(true),
                Cell::from("d"),
                Flag(false),
                Number(0),
                Number(0),
                Number(0),
            ]);
        };
        // The relations of the catalog itself: clients join their oids with those of comments.
        for shape in shape::all() {
            let schema = if shape.schema == SCHEMA { CATALOG_OID } else { INFORMATION_OID };
            add(shape.oid, shape.name, schema, shape.kind, shape.columns.split(' ').count(), false);
        }
        for table in &self.tables {
            let schema = self.schema_of(table);
            let columns = table.info.schema.as_ref().map_or(0, |schema| schema.fields().len());
            add(table.oid, &table.info.name, schema, self.kind(table), columns, table.index.is_some());
            if let (Some(index), Some(key)) = (table.index, &table.info.key) {
                add(index, &format!("{}_pkey", table.info.name), schema, "i", key.len(), false);
            }
        }
        rows
    }

    fn attributes(&self) -> Rows {
        let mut rows = Rows::new(&[
            "attrelid",
            "attname",
            "atttypid",
            "attstattarget",
            "attlen",
            "attnum",
            "attndims",
            "attcacheoff",
            "atttypmod",
            "attbyval",
            "attalign",
            "attstorage",
            "attcompression",
            "attnotnull",
            "atthasdef",
            "atthasmissing",
            "attidentity",
            "attgenerated",
            "attisdropped",
            "attislocal",
            "attinhcount",
            "attcollation",
        ]);
        let mut add =
            |relation: i64, number: i64, name: &str, pg: &postgres_types::Type, modifier: i32, not_null: bool| {
                use Cell::{Flag, Number};
                let dimensions = i64::from(matches!(pg.kind(), Kind::Array(_)));
                let is_text = matches!(*pg, postgres_types::Type::TEXT | postgres_types::Type::VARCHAR);
                let size = length(pg);
                rows.add([
                    Number(relation),
                    Cell::from(name),
                    Number(i64::from(pg.oid())),
                    Number(-1),
                    Number(size),
                    Number(number),
                    Number(dimensions),
                    Number(-1),
                    Number(i64::from(modifier)),
                    Flag(size > 0 && size <= 8),
                    Cell::from("i"),
                    Cell::from(if size > 0 { "p" } else { "x" }),
                    Cell::from(""),
                    Flag(not_null),
                    Flag(false),
                    Flag(false),
                    Cell::from(""),
                    Cell::from(""),
                    Flag(false),
                    Flag(true),
                    Number(0),
                    Number(if is_text { COLLATION_OID } else { 0 }),
                ]);
            };
        for shape in shape::all() {
            for (column, number) in shape.columns.split(' ').zip(1..) {
                let Some((name, kind)) = column.split_once(':') else { continue };
                let oid = type_oid(&match kind.strip_prefix('_') {
                    Some(element) => format!("{element}[]"),
                    None => kind.to_owned(),
                });
                let pg = oid.and_then(|oid| postgres_types::Type::from_oid(u32::try_from(oid).ok()?));
                add(shape.oid, number, name, &pg.unwrap_or(postgres_types::Type::TEXT), -1, false);
            }
        }
        for table in &self.tables {
            let Some(schema) = &table.info.schema else { continue };
            let mut field = |relation: i64, number: i64, field: &Field| {
                let pg = of(field.data_type());
                add(relation, number, field.name(), &pg, modifier(field.data_type()), !field.is_nullable());
            };
            for (column, number) in schema.fields().iter().zip(1..) {
                field(table.oid, number, column);
            }
            if let (Some(index), Some(key)) = (table.index, &table.info.key) {
                for (column, number) in key.iter().zip(1..) {
                    if let Ok(column) = schema.field_with_name(column) {
                        field(index, number, column);
                    }
                }
            }
        }
        rows
    }

    fn indexes(&self) -> Rows {
        let mut rows = Rows::new(&[
            "indexrelid",
            "indrelid",
            "indnatts",
            "indnkeyatts",
            "indisunique",
            "indnullsnotdistinct",
            "indisprimary",
            "indisexclusion",
            "indimmediate",
            "indisclustered",
            "indisvalid",
            "indcheckxmin",
            "indisready",
            "indislive",
            "indisreplident",
            "indkey",
            "indcollation",
            "indclass",
            "indoption",
        ]);
        for (table, index, _, columns) in self.keys() {
            use Cell::{Flag, Number};
            let count = columns.len() as i64;
            // No collation, class or direction is other than the usual one.
            let none = Cell::Numbers(vec![0; columns.len()]);
            rows.add([
                Number(index),
                Number(table.oid),
                Number(count),
                Number(count),
                Flag(true),
                Flag(false),
                Flag(true),
                Flag(false),
                Flag(true),
                Flag(false),
                Flag(true),
                Flag(false),
                Flag(true),
                Flag(true),
                Flag(false),
                Cell::Numbers(columns),
                none.clone(),
                none.clone(),
                none,
            ]);
        }
        rows
    }

    fn constraints(&self) -> Rows {
        let mut rows = Rows::new(&[
            "oid",
            "conname",
            "connamespace",
            "contype",
            "condeferrable",
            "condeferred",
            "convalidated",
            "conrelid",
            "contypid",
            "conindid",
            "conparentid",
            "confrelid",
            "confupdtype",
            "confdeltype",
            "confmatchtype",
            "conislocal",
            "coninhcount",
            "connoinherit",
            "conkey",
        ]);
        for (table, index, constraint, columns) in self.keys() {
            use Cell::{Flag, Number};
            rows.add([
                Number(constraint),
                Cell::from(format!("{}_pkey", table.info.name).as_str()),
                Number(self.schema_of(table)),
                Cell::from("p"),
                Flag(false),
                Flag(false),
                Flag(true),
                Number(table.oid),
                Number(0),
                Number(index),
                Number(0),
                Number(0),
                Cell::from(" "),
                Cell::from(" "),
                Cell::from(" "),
                Flag(true),
                Number(0),
                Flag(true),
                Cell::Numbers(columns),
            ]);
        }
        rows
    }

    /// The primary keys: table, index, constraint, numbers of the columns.
    fn keys(&self) -> impl Iterator<Item = (&Table, i64, i64, Vec<i64>)> {
        self.tables.iter().filter_map(|table| {
            let (schema, key) = (table.info.schema.as_ref()?, table.info.key.as_ref()?);
            let numbers = key.iter().filter_map(|column| Some(schema.index_of(column).ok()? as i64 + 1)).collect();
            Some((table, table.index?, table.constraint?, numbers))
        })
    }

    fn descriptions(&self) -> Rows {
        let mut rows = Rows::new(&["objoid", "classoid", "objsubid", "description"]);
        for table in &self.tables {
            if let Some(comment) = &table.info.comment {
                let class = Cell::Number(shape::catalog_oid("pg_class"));
                rows.add([Cell::Number(table.oid), class, Cell::Number(0), Cell::from(comment.as_str())]);
            }
        }
        rows
    }

    fn listed(&self, kind: &str, columns: &[&'static str]) -> Rows {
        let mut rows = Rows::new(columns);
        for table in self.tables.iter().filter(|table| self.kind(table) == kind) {
            let last = if kind == "r" { Cell::Flag(table.index.is_some()) } else { Cell::Null };
            rows.add([
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from("headwater"),
                last,
            ]);
        }
        rows
    }

    fn matviews(&self) -> Rows {
        let mut rows =
            Rows::new(&["schemaname", "matviewname", "matviewowner", "hasindexes", "ispopulated", "definition"]);
        for table in self.tables.iter().filter(|table| self.kind(table) == "m") {
            rows.add([
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from("headwater"),
                Cell::Flag(false),
                Cell::Flag(true),
                self.view_query(table.oid).map_or(Cell::Null, Cell::from),
            ]);
        }
        rows
    }

    fn index_list(&self) -> Rows {
        let mut rows = Rows::new(&["schemaname", "tablename", "indexname", "indexdef"]);
        for table in &self.tables {
            if let (Some(_), Some(key)) = (table.index, &table.info.key) {
                let (schema, name) = (table.info.service.as_str(), table.info.name.as_str());
                let index = format!("{name}_pkey");
                let definition = format!(
                    "CREATE UNIQUE INDEX {} ON {} USING btree ({})",
                    quote(&index),
                    quoted_name(schema, name),
                    quoted_columns(key)
                );
                rows.add([
                    Cell::from(schema),
                    Cell::from(name),
                    Cell::from(index.as_str()),
                    Cell::from(definition.as_str()),
                ]);
            }
        }
        rows
    }

    fn statistics(&self) -> Rows {
        let mut rows = Rows::new(&["relid", "schemaname", "relname"]);
        for table in self.tables.iter().filter(|table| self.kind(table) != "v") {
            rows.add([
                Cell::Number(table.oid),
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
            ]);
        }
        rows
    }
}
