//! The tables of `pg_catalog`, made of what the engine knows of its tables.
//!
//! An object's number (oid) goes by its name, so that it is the same on every connection and after a restart; where two fall together the second moves on, in the
//! order of names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use headwater::{Engine, TableInfo};
use postgres_types::{Kind, Type};

use super::{Context, SCHEMA};
use crate::pg::settings::DATABASE;
use crate::pg::types::{modifier, of};

/// The first oid that is not PostgreSQL's own.
const OIDS_FROM: i64 = 16_384;

/// How many there are: oids fit into 31 bits, which is all that some clients read.
const OIDS: u64 = (i32::MAX as u64) - 16_384;

const CATALOG_OID: i64 = 11;
const INFORMATION_OID: i64 = 13_000;
const OWNER_OID: i64 = 10;
pub(super) const DATABASE_OID: i64 = 16_383;

/// Tables that PostgreSQL has and that are empty here, with the columns that clients name.
const EMPTY: [(&str, &[&str]); 34] = [
    ("pg_auth_members", &["roleid", "member", "grantor", "admin_option"]),
    ("pg_attrdef", &["oid", "adrelid", "adnum", "adbin", "adsrc"]),
    (
        "pg_collation",
        &["oid", "collname", "collnamespace", "collprovider", "collencoding", "collcollate", "collisdeterministic"],
    ),
    ("pg_inherits", &["inhrelid", "inhparent", "inhseqno", "inhdetachpending"]),
    ("pg_trigger", &["oid", "tgrelid", "tgname", "tgenabled", "tgisinternal", "tgconstraint", "tgtype", "tgparentid"]),
    ("pg_rewrite", &["oid", "rulename", "ev_class", "ev_type", "ev_enabled", "is_instead"]),
    ("pg_rules", &["schemaname", "tablename", "rulename", "definition"]),
    ("pg_policy", &["oid", "polname", "polrelid", "polcmd", "polpermissive", "polroles", "polqual", "polwithcheck"]),
    ("pg_policies", &["schemaname", "tablename", "policyname", "roles", "cmd", "qual", "with_check"]),
    (
        "pg_statistic_ext",
        &["oid", "stxrelid", "stxname", "stxnamespace", "stxkind", "stxkeys", "stxstattarget", "stxowner"],
    ),
    ("pg_publication", &["oid", "pubname", "puballtables", "pubowner"]),
    ("pg_publication_rel", &["oid", "prpubid", "prrelid", "prqual", "prattrs"]),
    ("pg_publication_namespace", &["oid", "pnpubid", "pnnspid"]),
    ("pg_subscription", &["oid", "subname", "subdbid"]),
    ("pg_extension", &["oid", "extname", "extversion", "extnamespace", "extowner", "extrelocatable"]),
    ("pg_available_extensions", &["name", "default_version", "installed_version", "comment"]),
    ("pg_language", &["oid", "lanname", "lanowner", "lanpltrusted"]),
    (
        "pg_proc",
        &[
            "oid",
            "proname",
            "pronamespace",
            "proowner",
            "prolang",
            "prokind",
            "prorettype",
            "proretset",
            "pronargs",
            "proargtypes",
            "proargnames",
            "proargmodes",
            "proallargtypes",
            "prosrc",
            "provolatile",
            "proisagg",
            "proiswindow",
            "prosecdef",
            "proleakproof",
            "proisstrict",
            "procost",
            "prorows",
        ],
    ),
    ("pg_aggregate", &["aggfnoid", "aggkind"]),
    ("pg_operator", &["oid", "oprname", "oprnamespace", "oprleft", "oprright", "oprresult"]),
    ("pg_opclass", &["oid", "opcname", "opcmethod", "opcnamespace", "opcintype", "opcdefault"]),
    ("pg_enum", &["oid", "enumtypid", "enumsortorder", "enumlabel"]),
    ("pg_range", &["rngtypid", "rngsubtype", "rngmultitypid"]),
    ("pg_depend", &["classid", "objid", "objsubid", "refclassid", "refobjid", "refobjsubid", "deptype"]),
    ("pg_shdescription", &["objoid", "classoid", "description"]),
    ("pg_sequence", &["seqrelid", "seqtypid", "seqstart", "seqincrement", "seqmax", "seqmin", "seqcache", "seqcycle"]),
    ("pg_sequences", &["schemaname", "sequencename", "sequenceowner", "data_type"]),
    ("pg_foreign_table", &["ftrelid", "ftserver", "ftoptions"]),
    ("pg_foreign_server", &["oid", "srvname", "srvowner", "srvfdw", "srvoptions"]),
    ("pg_foreign_data_wrapper", &["oid", "fdwname", "fdwowner"]),
    ("pg_partitioned_table", &["partrelid", "partstrat", "partnatts"]),
    ("pg_event_trigger", &["oid", "evtname", "evtevent", "evtenabled"]),
    ("pg_cast", &["oid", "castsource", "casttarget", "castfunc", "castcontext"]),
    ("pg_seclabel", &["objoid", "classoid", "objsubid", "provider", "label"]),
];

/// Tables that are made below.
const MADE: [&str; 17] = [
    "pg_namespace",
    "pg_class",
    "pg_attribute",
    "pg_type",
    "pg_index",
    "pg_constraint",
    "pg_description",
    "pg_database",
    "pg_roles",
    "pg_user",
    "pg_am",
    "pg_tablespace",
    "pg_settings",
    "pg_tables",
    "pg_views",
    "pg_matviews",
    "pg_stat_activity",
];

/// Whether `pg_catalog` has a table of this name.
pub(super) fn is_known(name: &str) -> bool {
    MADE.contains(&name) || is_empty(name)
}

/// Whether it has one without rows.
pub(super) fn is_empty(name: &str) -> bool {
    EMPTY.iter().any(|(known, _)| *known == name) || matches!(name, "pg_stat_activity" | "pg_tablespace")
}

/// What the engine knows, with numbers.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// Schemas and their oids.
    schemas: BTreeMap<String, i64>,
    tables: Vec<Table>,
    search_path: Vec<String>,
    views: BTreeMap<(String, String), String>,
}

#[derive(Debug)]
struct Table {
    oid: i64,
    index: Option<i64>,
    constraint: Option<i64>,
    info: TableInfo,
}

impl Relations {
    /// Asks the engine. What a service that is down has is listed without columns.
    pub(super) async fn of(engine: &Engine, search_path: Vec<String>) -> Self {
        let mut infos = engine.catalog().await;
        infos.sort_by(|left, right| (&left.service, &left.name).cmp(&(&right.service, &right.name)));
        let defined = engine.materialized_views();
        let views = defined.into_iter().map(|(schema, name, sql)| ((schema, name), sql)).collect();
        Self::made(&engine.services(), infos, views, search_path)
    }

    fn made(
        services: &[String],
        infos: Vec<TableInfo>,
        views: BTreeMap<(String, String), String>,
        search_path: Vec<String>,
    ) -> Self {
        let names: BTreeSet<&String> = services.iter().chain(infos.iter().map(|info| &info.service)).collect();
        let mut used = HashSet::new();
        let schemas = names.into_iter().map(|name| (name.clone(), oid(&[name], &mut used))).collect();
        let tables = infos
            .into_iter()
            .map(|info| {
                let has_key = info.key.as_ref().is_some_and(|key| !key.is_empty());
                Table {
                    oid: oid(&[&info.service, &info.name], &mut used),
                    index: has_key.then(|| oid(&[&info.service, &info.name, "index"], &mut used)),
                    constraint: has_key.then(|| oid(&[&info.service, &info.name, "constraint"], &mut used)),
                    info,
                }
            })
            .collect();
        Self { schemas, tables, search_path, views }
    }

    /// The oid of a table by its name, qualified or along the search path. Tables of `pg_catalog` have one too.
    pub(super) fn table_oid(&self, name: &str) -> Option<i64> {
        let parts: Vec<String> = name.split('.').map(|part| part.trim_matches('"').to_owned()).collect();
        let find = |schema: &str, name: &str| {
            self.tables
                .iter()
                .find(|table| table.info.service == schema && table.info.name == name)
                .map(|table| table.oid)
        };
        match &parts[..] {
            [name] if is_known(name) => Some(catalog_oid(name)),
            [schema, name] if schema == SCHEMA && is_known(name) => Some(catalog_oid(name)),
            [name] => self.search_path.iter().find_map(|schema| find(schema, name)),
            [schema, name] => find(schema, name),
            _ => None,
        }
    }

    /// The name of a table, with its schema where the search path does not lead to it.
    pub(super) fn table_name(&self, oid: i64) -> Option<String> {
        let table = self.tables.iter().find(|table| table.oid == oid)?;
        match self.is_visible(oid) {
            true => Some(table.info.name.clone()),
            false => Some(format!("{}.{}", table.info.service, table.info.name)),
        }
    }

    /// Whether a table is found by its name alone.
    pub(super) fn is_visible(&self, oid: i64) -> bool {
        let found = self.tables.iter().find(|table| table.oid == oid || table.index == Some(oid));
        found.is_some_and(|table| self.table_oid(&table.info.name) == Some(table.oid))
    }

    pub(super) fn schema_oid(&self, name: &str) -> Option<i64> {
        match name {
            SCHEMA => Some(CATALOG_OID),
            _ => self.schemas.get(name).copied(),
        }
    }

    pub(super) fn schema_name(&self, oid: i64) -> Option<String> {
        if oid == CATALOG_OID {
            return Some(SCHEMA.to_owned());
        }
        self.schemas.iter().find(|(_, known)| **known == oid).map(|(name, _)| name.clone())
    }

    pub(super) fn search_path(&self) -> &[String] {
        &self.search_path
    }

    /// The query of a materialized view.
    pub(super) fn view_query(&self, oid: i64) -> Option<&str> {
        let table = self.tables.iter().find(|table| table.oid == oid)?;
        self.views.get(&(table.info.service.clone(), table.info.name.clone())).map(String::as_str)
    }

    /// The primary key of which this is the constraint or the index: schema, table, columns.
    pub(super) fn key(&self, oid: i64) -> Option<(&str, &str, &[String])> {
        let table = self.tables.iter().find(|table| table.index == Some(oid) || table.constraint == Some(oid))?;
        Some((&table.info.service, &table.info.name, table.info.key.as_deref()?))
    }

    pub(super) fn comment(&self, oid: i64) -> Option<&str> {
        self.tables.iter().find(|table| table.oid == oid)?.info.comment.as_deref()
    }

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
            "indcollation",
            "indclass",
            "indoption",
            "indexprs",
            "indpred",
        ]);
        for (table, index, _, columns) in self.keys() {
            use Cell::{Flag, Null, Number};
            let count = columns.len() as i64;
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
                Null,
                Null,
                Null,
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

/// What is the same whatever tables there are.
fn server_tables(asks: &Context) -> Vec<(&'static str, Rows)> {
    use Cell::{Flag, Null, Number};
    let mut databases = Rows::new(&[
        "oid#",
        "datname",
        "datdba#",
        "encoding#",
        "datlocprovider",
        "datistemplate?",
        "datallowconn?",
        "datconnlimit#",
        "dattablespace#",
        "datcollate",
        "datctype",
        "daticulocale",
        "datcollversion",
        "datacl~",
    ]);
    databases.add([
        Number(DATABASE_OID),
        Cell::from(DATABASE),
        Number(OWNER_OID),
        Number(6),
        Cell::from("c"),
        Flag(false),
        Flag(true),
        Number(-1),
        Number(1663),
        Cell::from("C"),
        Cell::from("C"),
        Null,
        Null,
        Null,
    ]);
    let mut roles = Rows::new(&[
        "oid#",
        "rolname",
        "rolsuper?",
        "rolinherit?",
        "rolcreaterole?",
        "rolcreatedb?",
        "rolcanlogin?",
        "rolreplication?",
        "rolconnlimit#",
        "rolpassword",
        "rolvaliduntil",
        "rolbypassrls?",
        "rolconfig~",
    ]);
    let mut users = Rows::new(&[
        "usename",
        "usesysid#",
        "usecreatedb?",
        "usesuper?",
        "userepl?",
        "usebypassrls?",
        "passwd",
        "valuntil",
        "useconfig~",
    ]);
    for (oid, name) in [(OWNER_OID, "headwater"), (OWNER_OID + 1, asks.user.as_str())] {
        if oid != OWNER_OID && name == "headwater" {
            continue;
        }
        roles.add([
            Number(oid),
            Cell::from(name),
            Flag(false),
            Flag(true),
            Flag(false),
            Flag(false),
            Flag(true),
            Flag(false),
            Number(-1),
            Null,
            Null,
            Flag(false),
            Null,
        ]);
        users.add([
            Cell::from(name),
            Number(oid),
            Flag(false),
            Flag(false),
            Flag(false),
            Flag(false),
            Null,
            Null,
            Null,
        ]);
    }
    let mut methods = Rows::new(&["oid#", "amname", "amhandler", "amtype"]);
    methods.add([Number(2), Cell::from("heap"), Cell::from("heap_tableam_handler"), Cell::from("t")]);
    methods.add([Number(403), Cell::from("btree"), Cell::from("bthandler"), Cell::from("i")]);
    let mut settings = Rows::new(&[
        "name",
        "setting",
        "unit",
        "category",
        "short_desc",
        "context",
        "vartype",
        "source",
        "min_val",
        "max_val",
        "enumvals",
        "boot_val",
        "reset_val",
        "pending_restart?",
    ]);
    for (name, value) in asks.settings.all() {
        settings.add([
            Cell::from(name),
            Cell::from(value),
            Null,
            Null,
            Null,
            Cell::from("user"),
            Cell::from("string"),
            Cell::from("default"),
            Null,
            Null,
            Null,
            Null,
            Null,
            Flag(false),
        ]);
    }
    vec![
        ("pg_database", databases),
        ("pg_roles", roles),
        ("pg_user", users),
        ("pg_am", methods),
        ("pg_settings", settings),
        ("pg_tablespace", Rows::new(&["oid#", "spcname", "spcowner#", "spcacl~", "spcoptions~"])),
        (
            "pg_stat_activity",
            Rows::new(&["datid#", "datname", "pid#", "usename", "application_name", "state", "query"]),
        ),
    ]
}

/// The types that columns have here, and those that clients look for.
fn types() -> Rows {
    let mut rows = Rows::new(&[
        "oid#",
        "typname",
        "typnamespace#",
        "typowner#",
        "typlen#",
        "typbyval?",
        "typtype",
        "typcategory",
        "typispreferred?",
        "typisdefined?",
        "typdelim",
        "typrelid#",
        "typsubscript",
        "typelem#",
        "typarray#",
        "typinput",
        "typoutput",
        "typreceive",
        "typsend",
        "typnotnull?",
        "typbasetype#",
        "typtypmod#",
        "typndims#",
        "typcollation#",
        "typdefault",
        "typalign",
        "typstorage",
    ]);
    let scalars = [
        (Type::BOOL, Type::BOOL_ARRAY, "B"),
        (Type::BYTEA, Type::BYTEA_ARRAY, "U"),
        (Type::CHAR, Type::CHAR_ARRAY, "Z"),
        (Type::NAME, Type::NAME_ARRAY, "S"),
        (Type::INT8, Type::INT8_ARRAY, "N"),
        (Type::INT2, Type::INT2_ARRAY, "N"),
        (Type::INT4, Type::INT4_ARRAY, "N"),
        (Type::TEXT, Type::TEXT_ARRAY, "S"),
        (Type::OID, Type::OID_ARRAY, "N"),
        (Type::JSON, Type::JSON_ARRAY, "U"),
        (Type::FLOAT4, Type::FLOAT4_ARRAY, "N"),
        (Type::FLOAT8, Type::FLOAT8_ARRAY, "N"),
        (Type::BPCHAR, Type::BPCHAR_ARRAY, "S"),
        (Type::VARCHAR, Type::VARCHAR_ARRAY, "S"),
        (Type::DATE, Type::DATE_ARRAY, "D"),
        (Type::TIME, Type::TIME_ARRAY, "D"),
        (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY, "D"),
        (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY, "D"),
        (Type::INTERVAL, Type::INTERVAL_ARRAY, "T"),
        (Type::NUMERIC, Type::NUMERIC_ARRAY, "N"),
        (Type::UUID, Type::UUID_ARRAY, "U"),
    ];
    let mut add = |pg: &Type, category: &str, element: u32, array: u32| {
        use Cell::{Flag, Null, Number};
        let size = length(pg);
        rows.add([
            Number(i64::from(pg.oid())),
            Cell::from(pg.name()),
            Number(CATALOG_OID),
            Number(OWNER_OID),
            Number(size),
            Flag(size > 0 && size <= 8),
            Cell::from("b"),
            Cell::from(category),
            Flag(false),
            Flag(true),
            Cell::from(","),
            Number(0),
            Cell::from("-"),
            Number(i64::from(element)),
            Number(i64::from(array)),
            Cell::from(format!("{}in", pg.name()).as_str()),
            Cell::from(format!("{}out", pg.name()).as_str()),
            Cell::from(format!("{}recv", pg.name()).as_str()),
            Cell::from(format!("{}send", pg.name()).as_str()),
            Flag(false),
            Number(0),
            Number(-1),
            Number(0),
            Number(0),
            Null,
            Cell::from("i"),
            Cell::from("p"),
        ]);
    };
    for (scalar, array, category) in scalars {
        add(&scalar, category, 0, array.oid());
        add(&array, "A", scalar.oid(), 0);
    }
    rows
}

/// Bytes of a value, as PostgreSQL counts them.
fn length(pg: &Type) -> i64 {
    match *pg {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// The oid of a table of the catalog. PostgreSQL's own for those that clients know by their numbers.
fn catalog_oid(name: &str) -> i64 {
    match name {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_namespace" => 2615,
        "pg_constraint" => 2606,
        "pg_database" => 1262,
        _ => {
            let place = MADE.iter().copied().chain(EMPTY.iter().map(|(name, _)| *name)).position(|known| known == name);
            12_000 + place.unwrap_or_default() as i64
        }
    }
}

/// An oid of a name: FNV-1a over its parts.
fn oid(parts: &[&str], used: &mut HashSet<i64>) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut place = hash % OIDS;
    loop {
        let oid = OIDS_FROM + i64::try_from(place).unwrap_or_default();
        if used.insert(oid) {
            return oid;
        }
        place = (place + 1) % OIDS;
    }
}

fn empty_column(name: &str) -> Field {
    let is_number =
        name.ends_with("oid") || name.ends_with("id") || name.ends_with("num") || name.ends_with("namespace");
    Field::new(name, if is_number { DataType::Int64 } else { DataType::Utf8 }, true)
}

/// One value of a table.
#[derive(Debug, Clone)]
enum Cell {
    Null,
    Number(i64),
    Flag(bool),
    Text(String),
    Numbers(Vec<i64>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The rows of a table. A column's name says its type by its last character: # a number, ? a flag, [ numbers,
/// ~ a list of texts that is always NULL, and else text.
struct Rows {
    names: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    fn new(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new() }
    }

    fn add<const N: usize>(&mut self, row: [Cell; N]) {
        assert_eq!(N, self.names.len(), "a row must have the columns of its table");
        self.rows.push(row.into());
    }

    fn table(self) -> Result<MemTable> {
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            let cells = self.rows.iter().map(|row| &row[index]);
            let (name, column): (&str, ArrayRef) = if let Some(name) = name.strip_suffix('#') {
                let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
                (name, Arc::new(Int64Array::from_iter(cells.map(number))))
            } else if let Some(name) = name.strip_suffix('?') {
                let flag = |cell: &Cell| if let Cell::Flag(flag) = cell { Some(*flag) } else { None };
                (name, Arc::new(arrow::array::BooleanArray::from_iter(cells.map(flag))))
            } else if let Some(name) = name.strip_suffix('[') {
                let mut lists = ListBuilder::new(arrow::array::Int64Builder::new());
                for cell in cells {
                    if let Cell::Numbers(numbers) = cell {
                        lists.values().append_slice(numbers);
                    }
                    lists.append(matches!(cell, Cell::Numbers(numbers) if !numbers.is_empty()));
                }
                (name, Arc::new(lists.finish()))
            } else if let Some(name) = name.strip_suffix('~') {
                (name, arrow::array::new_null_array(&DataType::new_list(DataType::Utf8, true), self.rows.len()))
            } else {
                let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None };
                (name, Arc::new(StringArray::from_iter(cells.map(text))))
            };
            columns.push((name, column));
        }
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        MemTable::try_new(batch.schema(), vec![vec![batch]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(service: &str, name: &str) -> TableInfo {
        TableInfo {
            service: service.to_owned(),
            name: name.to_owned(),
            kind: "BASE TABLE",
            schema: Some(Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))),
            key: Some(vec!["id".to_owned()]),
            comment: None,
        }
    }

    fn relations() -> Relations {
        let infos = vec![info("customers", "t"), info("orders", "t"), info("orders", "lines")];
        let views = BTreeMap::from([(("orders".to_owned(), "lines".to_owned()), "SELECT 1".to_owned())]);
        Relations::made(&["empty".to_owned()], infos, views, vec!["orders".to_owned(), "customers".to_owned()])
    }

    #[test]
    fn numbers_are_the_same_each_time_and_differ() {
        let (one, two) = (relations(), relations());
        let oids = |relations: &Relations| -> Vec<i64> { relations.tables.iter().map(|table| table.oid).collect() };
        assert_eq!(oids(&one), oids(&two));
        assert_eq!(oids(&one).into_iter().collect::<HashSet<_>>().len(), 3);
        assert!(one.schemas.contains_key("empty"));
    }

    #[test]
    fn name_alone_is_that_of_the_first_table_along_the_search_path() {
        let relations = relations();
        let orders = relations.table_oid("orders.t").unwrap();
        assert_eq!(relations.table_oid("t"), Some(orders));
        let customers = relations.table_oid("customers.t").unwrap();
        assert!(relations.is_visible(orders) && !relations.is_visible(customers));
        assert_eq!(relations.table_name(customers).as_deref(), Some("customers.t"));
        assert_eq!(relations.table_oid("pg_class"), Some(1259));
        assert_eq!(relations.table_oid("nothing"), None);
    }

    #[test]
    fn every_table_can_be_made() {
        let relations = relations();
        let asks = Context { user: "ada".to_owned(), settings: crate::pg::settings::Settings::default() };
        let context = SessionContext::new();
        relations.register(&context, &asks).unwrap();
        let schema = context.catalog("headwater").unwrap().schema(SCHEMA).unwrap();
        for name in MADE {
            assert!(schema.table_exist(name), "{name}");
        }
    }
}
