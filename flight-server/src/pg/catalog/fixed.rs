//! What of `pg_catalog` is the same whatever tables there are: which tables it has, its types, its server.

use arrow::datatypes::{DataType, Field};
use postgres_types::Type;

use super::Context;
use super::rows::{Cell, Rows};
use crate::pg::settings::DATABASE;

pub(super) const CATALOG_OID: i64 = 11;
pub(super) const INFORMATION_OID: i64 = 13_000;
pub(super) const OWNER_OID: i64 = 10;
pub(super) const DATABASE_OID: i64 = 16_383;

/// Tables that PostgreSQL has and that are empty here, with the columns that clients name.
pub(super) const EMPTY: [(&str, &[&str]); 34] = [
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

/// Tables that are made of what the engine knows, or of the server.
pub(super) const MADE: [&str; 17] = [
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

/// What is the same whatever tables there are.
pub(super) fn server_tables(asks: &Context) -> Vec<(&'static str, Rows)> {
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
pub(super) fn types() -> Rows {
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
pub(super) fn length(pg: &Type) -> i64 {
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
pub(super) fn catalog_oid(name: &str) -> i64 {
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

pub(super) fn empty_column(name: &str) -> Field {
    let is_number =
        name.ends_with("oid") || name.ends_with("id") || name.ends_with("num") || name.ends_with("namespace");
    Field::new(name, if is_number { DataType::Int64 } else { DataType::Utf8 }, true)
}
