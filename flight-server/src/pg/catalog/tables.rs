//! The tables of `pg_catalog` that are made of what the engine knows.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use postgres_types::Kind;

use super::fixed::{
    CATALOG_OID, EMPTY, INFORMATION_OID, MADE, OWNER_OID, catalog_oid, empty_column, length, server_tables, types,
};
use super::relations::{Relations, Table};
use super::rows::{Cell, Rows};
use super::{Context, SCHEMA};
use crate::pg::types::{modifier, of};

impl Relations {
    fn kind(&self, table: &Table) -> &'static str {
        match (self.views.contains_key(&(table.info.service.clone(), table.info.name.clone())), table.info.kind) {
            (true, _) => "m",
            (false, "VIEW") => "v",
            _ => "r",
        }
    }

    /// Puts every table into a context.
    pub(super) fn register(&self, context: &SessionContext, asks: &Context) -> Result<()> {
        let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
        let mut tables = vec![
            ("pg_namespace", self.namespaces()),
            ("pg_class", self.classes()),
            ("pg_attribute", self.attributes()),
            ("pg_type", types()),
            ("pg_index", self.indexes()),
            ("pg_constraint", self.constraints()),
            ("pg_description", self.descriptions()),
            ("pg_tables", self.listed("r", &["schemaname", "tablename", "tableowner", "tablespace"])),
            ("pg_views", self.listed("v", &["schemaname", "viewname", "viewowner", "definition"])),
            ("pg_matviews", self.listed("m", &["schemaname", "matviewname", "matviewowner", "definition"])),
        ];
        tables.extend(server_tables(asks));
        for (name, rows) in tables {
            schema.register_table(name.to_owned(), Arc::new(rows.table()?))?;
        }
        for (name, columns) in EMPTY {
            let fields: Vec<Field> = columns.iter().map(|name| empty_column(name)).collect();
            let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]])?;
            schema.register_table(name.to_owned(), Arc::new(table))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, schema)?;
        context.register_catalog("headwater", Arc::new(catalog));
        Ok(())
    }

    fn namespaces(&self) -> Rows {
        let mut rows = Rows::new(&["oid#", "nspname", "nspowner#", "nspacl~"]);
        let own = [(SCHEMA.to_owned(), CATALOG_OID), ("information_schema".to_owned(), INFORMATION_OID)];
        for (name, oid) in own.into_iter().chain(self.schemas.clone()) {
            rows.add([Cell::Number(oid), Cell::from(name.as_str()), Cell::Number(OWNER_OID), Cell::Null]);
        }
        rows
    }

    fn classes(&self) -> Rows {
        let mut rows = Rows::new(&[
            "oid#",
            "relname",
            "relnamespace#",
            "reltype#",
            "reloftype#",
            "relowner#",
            "relam#",
            "relfilenode#",
            "reltablespace#",
            "relpages#",
            "reltuples#",
            "relallvisible#",
            "reltoastrelid#",
            "relhasindex?",
            "relisshared?",
            "relpersistence",
            "relkind",
            "relnatts#",
            "relchecks#",
            "relhasrules?",
            "relhastriggers?",
            "relhassubclass?",
            "relrowsecurity?",
            "relforcerowsecurity?",
            "relispopulated?",
            "relreplident",
            "relispartition?",
            "relrewrite#",
            "relfrozenxid#",
            "relminmxid#",
            "relacl~",
            "reloptions~",
            "relpartbound",
            "relhasoids?",
        ]);
        let mut add = |oid: i64, name: &str, schema: i64, kind: &str, columns: usize, has_index: bool| {
            use Cell::{Flag, Null, Number};
            let access = if kind == "i" { 403 } else { 2 };
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
                Null,
                Null,
                Null,
                Flag(false),
            ]);
        };
        // The tables of the catalog itself: clients join their oids with those of comments.
        for name in MADE.iter().copied().chain(EMPTY.iter().map(|(name, _)| *name)) {
            add(catalog_oid(name), name, CATALOG_OID, "r", 0, false);
        }
        for table in &self.tables {
            let schema = self.schemas.get(&table.info.service).copied().unwrap_or_default();
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
            "attrelid#",
            "attname",
            "atttypid#",
            "attstattarget#",
            "attlen#",
            "attnum#",
            "attndims#",
            "attcacheoff#",
            "atttypmod#",
            "attbyval?",
            "attstorage",
            "attalign",
            "attnotnull?",
            "atthasdef?",
            "atthasmissing?",
            "attidentity",
            "attgenerated",
            "attisdropped?",
            "attislocal?",
            "attinhcount#",
            "attcollation#",
            "attcompression",
            "attacl~",
            "attoptions~",
            "attfdwoptions~",
            "attmissingval",
        ]);
        let mut add = |relation: i64, number: usize, field: &Field| {
            use Cell::{Flag, Null, Number};
            let pg = of(field.data_type());
            let dimensions = i64::from(matches!(pg.kind(), Kind::Array(_)));
            rows.add([
                Number(relation),
                Cell::from(field.name().as_str()),
                Number(i64::from(pg.oid())),
                Number(-1),
                Number(length(&pg)),
                Number(number as i64),
                Number(dimensions),
                Number(-1),
                Number(i64::from(modifier(field.data_type()))),
                Flag(length(&pg) > 0 && length(&pg) <= 8),
                Cell::from("p"),
                Cell::from("i"),
                Flag(!field.is_nullable()),
                Flag(false),
                Flag(false),
                Cell::from(""),
                Cell::from(""),
                Flag(false),
                Flag(true),
                Number(0),
                Number(0),
                Cell::from(""),
                Null,
                Null,
                Null,
                Null,
            ]);
        };
        for table in &self.tables {
            let Some(schema) = &table.info.schema else { continue };
            for (field, number) in schema.fields().iter().zip(1..) {
                add(table.oid, number, field);
            }
            if let (Some(index), Some(key)) = (table.index, &table.info.key) {
                for (column, number) in key.iter().zip(1..) {
                    if let Ok(field) = schema.field_with_name(column) {
                        add(index, number, field);
                    }
                }
            }
        }
        rows
    }

    fn indexes(&self) -> Rows {
        let mut rows = Rows::new(&[
            "indexrelid#",
            "indrelid#",
            "indnatts#",
            "indnkeyatts#",
            "indisunique?",
            "indnullsnotdistinct?",
            "indisprimary?",
            "indisexclusion?",
            "indimmediate?",
            "indisclustered?",
            "indisvalid?",
            "indcheckxmin?",
            "indisready?",
            "indislive?",
            "indisreplident?",
            "indkey[",
            "indcollation[",
            "indclass[",
            "indoption[",
            "indexprs",
            "indpred",
        ]);
        for (table, index, _, columns) in self.keys() {
            use Cell::{Flag, Null, Number};
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
                Null,
                Null,
            ]);
        }
        rows
    }

    fn constraints(&self) -> Rows {
        let mut rows = Rows::new(&[
            "oid#",
            "conname",
            "connamespace#",
            "contype",
            "condeferrable?",
            "condeferred?",
            "convalidated?",
            "conrelid#",
            "contypid#",
            "conindid#",
            "conparentid#",
            "confrelid#",
            "confupdtype",
            "confdeltype",
            "confmatchtype",
            "conislocal?",
            "coninhcount#",
            "connoinherit?",
            "conkey[",
            "confkey[",
            "conpfeqop",
            "conexclop",
            "conbin",
        ]);
        for (table, index, constraint, columns) in self.keys() {
            use Cell::{Flag, Null, Number};
            let schema = self.schemas.get(&table.info.service).copied().unwrap_or_default();
            rows.add([
                Number(constraint),
                Cell::from(format!("{}_pkey", table.info.name).as_str()),
                Number(schema),
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
                Cell::Numbers(vec![]),
                Null,
                Null,
                Null,
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
        let mut rows = Rows::new(&["objoid#", "classoid#", "objsubid#", "description"]);
        for table in &self.tables {
            if let Some(comment) = &table.info.comment {
                rows.add([
                    Cell::Number(table.oid),
                    Cell::Number(catalog_oid("pg_class")),
                    Cell::Number(0),
                    Cell::from(comment.as_str()),
                ]);
            }
        }
        rows
    }

    fn listed(&self, kind: &str, columns: &[&'static str]) -> Rows {
        let mut rows = Rows::new(columns);
        for table in self.tables.iter().filter(|table| self.kind(table) == kind) {
            let last = self.view_query(table.oid).map_or(Cell::Null, Cell::from);
            rows.add([
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from("headwater"),
                last,
            ]);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_can_be_made() {
        let relations = crate::pg::catalog::relations::tests::relations();
        let asks = Context { user: "ada".to_owned(), settings: crate::pg::settings::Settings::default() };
        let context = SessionContext::new();
        relations.register(&context, &asks).unwrap();
        let schema = context.catalog("headwater").unwrap().schema(SCHEMA).unwrap();
        for name in MADE {
            assert!(schema.table_exist(name), "{name}");
        }
    }
}
