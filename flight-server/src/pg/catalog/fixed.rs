//! What of `pg_catalog` is the same whatever tables there are: its types, its roles, its server.

use postgres_types::Type;

use super::Context;
use super::rows::{Cell, Rows};
use crate::pg::settings::DATABASE;

pub(super) const CATALOG_OID: i64 = 11;
pub(super) const INFORMATION_OID: i64 = 13_000;
pub(super) const OWNER_OID: i64 = 10;
pub(super) const DATABASE_OID: i64 = 16_383;

/// Who owns everything.
const OWNER: &str = "headwater";

/// The collation of every text: its bytes.
pub(super) const COLLATION_OID: i64 = 100;

/// A type: its category, whether it is the one preferred in it, its array, its functions (in, out, receive, send), alignment and storage. PostgreSQL's own numbers.
struct Described(Type, &'static str, bool, i64, [i64; 4], &'static str, &'static str);

const TYPES: [Described; 26] = [
    Described(Type::BOOL, "B", true, 1000, [1242, 1243, 2436, 2437], "c", "p"),
    Described(Type::BYTEA, "U", false, 1001, [1244, 31, 2412, 2413], "i", "x"),
    Described(Type::CHAR, "Z", false, 1002, [1245, 33, 2434, 2435], "c", "p"),
    Described(Type::NAME, "S", false, 1003, [34, 35, 2422, 2423], "c", "p"),
    Described(Type::INT8, "N", false, 1016, [460, 461, 2408, 2409], "d", "p"),
    Described(Type::INT2, "N", false, 1005, [38, 39, 2404, 2405], "s", "p"),
    Described(Type::INT2_VECTOR, "A", false, 1006, [40, 41, 2410, 2411], "i", "p"),
    Described(Type::INT4, "N", false, 1007, [42, 43, 2406, 2407], "i", "p"),
    Described(Type::REGPROC, "N", false, 1008, [44, 45, 2444, 2445], "i", "p"),
    Described(Type::TEXT, "S", true, 1009, [46, 47, 2414, 2415], "i", "x"),
    Described(Type::OID, "N", true, 1028, [1798, 1799, 2418, 2419], "i", "p"),
    Described(Type::OID_VECTOR, "A", false, 1013, [54, 55, 2420, 2421], "i", "p"),
    Described(Type::JSON, "U", false, 199, [321, 322, 323, 324], "i", "x"),
    Described(Type::FLOAT4, "N", false, 1021, [200, 201, 2424, 2425], "i", "p"),
    Described(Type::FLOAT8, "N", true, 1022, [214, 215, 2426, 2427], "d", "p"),
    Described(Type::BPCHAR, "S", false, 1014, [1044, 1045, 2430, 2431], "i", "x"),
    Described(Type::VARCHAR, "S", false, 1015, [1046, 1047, 2432, 2433], "i", "x"),
    Described(Type::DATE, "D", false, 1182, [1084, 1085, 2468, 2469], "i", "p"),
    Described(Type::TIME, "D", false, 1183, [1143, 1144, 2470, 2471], "d", "p"),
    Described(Type::TIMESTAMP, "D", false, 1115, [1312, 1313, 2474, 2475], "d", "p"),
    Described(Type::TIMESTAMPTZ, "D", true, 1185, [1150, 1151, 2476, 2477], "d", "p"),
    Described(Type::INTERVAL, "T", true, 1187, [1160, 1161, 2478, 2479], "d", "p"),
    Described(Type::NUMERIC, "N", false, 1231, [1701, 1702, 2460, 2461], "i", "m"),
    Described(Type::REGCLASS, "N", false, 2210, [2218, 2219, 2452, 2453], "i", "p"),
    Described(Type::REGTYPE, "N", false, 2211, [2220, 2221, 2454, 2455], "i", "p"),
    Described(Type::UUID, "U", false, 2951, [2952, 2953, 2961, 2962], "c", "p"),
];

/// The functions of arrays: in, out, receive, send.
const ARRAYS: [(i64, &str); 4] = [(750, "array_in"), (751, "array_out"), (2400, "array_recv"), (2401, "array_send")];

/// The functions by which types are read and written.
fn procedures() -> impl Iterator<Item = (i64, String, i64)> {
    let endings = ["in", "out", "recv", "send"];
    let of_types = TYPES.iter().flat_map(move |Described(pg, _, _, _, functions, ..)| {
        functions
            .iter()
            .zip(endings)
            .map(move |(oid, ending)| (*oid, format!("{}{ending}", pg.name()), i64::from(pg.oid())))
    });
    ARRAYS.into_iter().map(|(oid, name)| (oid, name.to_owned(), 2277)).chain(of_types)
}

/// The name of a function.
pub(super) fn procedure_name(oid: i64) -> Option<String> {
    procedures().find(|(known, ..)| *known == oid).map(|(_, name, _)| name)
}

/// The number of a function.
pub(super) fn procedure_oid(name: &str) -> Option<i64> {
    let name = name.trim_start_matches("pg_catalog.");
    procedures().find(|(_, known, _)| known == name).map(|(oid, ..)| oid)
}

/// The name of a role: the owner, or the user who asks.
pub(super) fn role_name(oid: i64, user: &str) -> Option<String> {
    match oid - OWNER_OID {
        0 => Some(OWNER.to_owned()),
        1 if user != OWNER => Some(user.to_owned()),
        _ => None,
    }
}

/// The number of a role.
pub(super) fn role_oid(name: &str, user: &str) -> Option<i64> {
    match name {
        OWNER => Some(OWNER_OID),
        name if name == user => Some(OWNER_OID + 1),
        _ => None,
    }
}

/// The roles that there are: the owner, and the user who asks.
fn roles(asks: &Context) -> Vec<(i64, String)> {
    (0..2).filter_map(|number| Some((OWNER_OID + number, role_name(OWNER_OID + number, &asks.user)?))).collect()
}

/// The rows of a table that is the same whatever tables there are; `None` where it is none of these.
pub(super) fn rows(name: &str, asks: &Context) -> Option<Rows> {
    Some(match name {
        "pg_type" => types(),
        "pg_proc" => functions(),
        "pg_database" => databases(),
        "pg_roles" => role_rows(asks),
        "pg_user" => user_rows(asks),
        "pg_settings" => settings(asks),
        "pg_am" => {
            let mut rows = Rows::new(&["oid", "amname", "amhandler", "amtype"]);
            rows.add([Cell::Number(2), Cell::from("heap"), Cell::Number(3), Cell::from("t")]);
            rows.add([Cell::Number(403), Cell::from("btree"), Cell::Number(330), Cell::from("i")]);
            rows
        }
        "pg_tablespace" => {
            let mut rows = Rows::new(&["oid", "spcname", "spcowner"]);
            rows.add([Cell::Number(1663), Cell::from("pg_default"), Cell::Number(OWNER_OID)]);
            rows.add([Cell::Number(1664), Cell::from("pg_global"), Cell::Number(OWNER_OID)]);
            rows
        }
        "pg_collation" => {
            let mut rows = Rows::new(&[
                "oid",
                "collname",
                "collnamespace",
                "collowner",
                "collprovider",
                "collisdeterministic",
                "collencoding",
                "collcollate",
                "collctype",
            ]);
            for (oid, name) in [(COLLATION_OID, "default"), (950, "C")] {
                rows.add([
                    Cell::Number(oid),
                    Cell::from(name),
                    Cell::Number(CATALOG_OID),
                    Cell::Number(OWNER_OID),
                    Cell::from("c"),
                    Cell::Flag(true),
                    Cell::Number(-1),
                    Cell::from("C"),
                    Cell::from("C"),
                ]);
            }
            rows
        }
        "pg_timezone_names" => {
            let mut rows = Rows::new(&["name", "abbrev", "utc_offset", "is_dst"]);
            rows.add([Cell::from("UTC"), Cell::from("UTC"), Cell::from("00:00:00"), Cell::Flag(false)]);
            rows
        }
        _ => return None,
    })
}

fn databases() -> Rows {
    let mut rows = Rows::new(&[
        "oid",
        "datname",
        "datdba",
        "encoding",
        "datlocprovider",
        "datistemplate",
        "datallowconn",
        "datconnlimit",
        "dattablespace",
        "datcollate",
        "datctype",
    ]);
    rows.add([
        Cell::Number(DATABASE_OID),
        Cell::from(DATABASE),
        Cell::Number(OWNER_OID),
        Cell::Number(6),
        Cell::from("c"),
        Cell::Flag(false),
        Cell::Flag(true),
        Cell::Number(-1),
        Cell::Number(1663),
        Cell::from("C"),
        Cell::from("C"),
    ]);
    rows
}

fn role_rows(asks: &Context) -> Rows {
    let mut rows = Rows::new(&[
        "rolname",
        "rolsuper",
        "rolinherit",
        "rolcreaterole",
        "rolcreatedb",
        "rolcanlogin",
        "rolreplication",
        "rolconnlimit",
        "rolbypassrls",
        "oid",
    ]);
    for (oid, name) in roles(asks) {
        rows.add([
            Cell::from(name.as_str()),
            Cell::Flag(false),
            Cell::Flag(true),
            Cell::Flag(false),
            Cell::Flag(false),
            Cell::Flag(true),
            Cell::Flag(false),
            Cell::Number(-1),
            Cell::Flag(false),
            Cell::Number(oid),
        ]);
    }
    rows
}

fn user_rows(asks: &Context) -> Rows {
    let mut rows = Rows::new(&["usename", "usesysid", "usecreatedb", "usesuper", "userepl", "usebypassrls"]);
    for (oid, name) in roles(asks) {
        let no = Cell::Flag(false);
        rows.add([Cell::from(name.as_str()), Cell::Number(oid), no.clone(), no.clone(), no.clone(), no]);
    }
    rows
}

fn settings(asks: &Context) -> Rows {
    let mut rows = Rows::new(&["name", "setting", "context", "vartype", "source", "pending_restart"]);
    for (name, value) in asks.settings.all() {
        rows.add([
            Cell::from(name),
            Cell::from(value),
            Cell::from("user"),
            Cell::from("string"),
            Cell::from("default"),
            Cell::Flag(false),
        ]);
    }
    rows
}

fn functions() -> Rows {
    let mut rows = Rows::new(&[
        "oid",
        "proname",
        "pronamespace",
        "proowner",
        "prokind",
        "prosecdef",
        "proleakproof",
        "proisstrict",
        "proretset",
        "provolatile",
        "pronargs",
        "prorettype",
        "prosrc",
    ]);
    for (oid, name, returns) in procedures() {
        rows.add([
            Cell::Number(oid),
            Cell::from(name.as_str()),
            Cell::Number(CATALOG_OID),
            Cell::Number(OWNER_OID),
            Cell::from("f"),
            Cell::Flag(false),
            Cell::Flag(false),
            Cell::Flag(true),
            Cell::Flag(false),
            Cell::from("i"),
            Cell::Number(1),
            Cell::Number(returns),
            Cell::from(name.as_str()),
        ]);
    }
    rows
}

/// The types that columns have here, and those that clients look for.
fn types() -> Rows {
    let mut rows = Rows::new(&[
        "oid",
        "typname",
        "typnamespace",
        "typowner",
        "typlen",
        "typbyval",
        "typtype",
        "typcategory",
        "typispreferred",
        "typisdefined",
        "typdelim",
        "typrelid",
        "typsubscript",
        "typelem",
        "typarray",
        "typinput",
        "typoutput",
        "typreceive",
        "typsend",
        "typmodin",
        "typmodout",
        "typanalyze",
        "typalign",
        "typstorage",
        "typnotnull",
        "typbasetype",
        "typtypmod",
        "typndims",
        "typcollation",
    ]);
    let mut add = |oid: i64,
                   name: &str,
                   pg: &Type,
                   kind: &str,
                   about: (&str, bool, i64, i64),
                   functions: [i64; 4],
                   how: (&str, &str)| {
        use Cell::{Flag, Number};
        let (category, is_preferred, element, array) = about;
        let size = length(pg);
        let collation = if category == "S" { COLLATION_OID } else { 0 };
        rows.add([
            Number(oid),
            Cell::from(name),
            Number(CATALOG_OID),
            Number(OWNER_OID),
            Number(size),
            Flag(size > 0 && size <= 8),
            Cell::from(kind),
            Cell::from(category),
            Flag(is_preferred),
            Flag(true),
            Cell::from(","),
            Number(0),
            Number(0),
            Number(element),
            Number(array),
            Number(functions[0]),
            Number(functions[1]),
            Number(functions[2]),
            Number(functions[3]),
            Number(0),
            Number(0),
            Number(0),
            Cell::from(how.0),
            Cell::from(how.1),
            Flag(false),
            Number(0),
            Number(-1),
            Number(0),
            Number(collation),
        ]);
    };
    for Described(pg, category, is_preferred, array, functions, align, storage) in &TYPES {
        let oid = i64::from(pg.oid());
        let element = match *pg {
            Type::INT2_VECTOR => i64::from(Type::INT2.oid()),
            Type::OID_VECTOR => i64::from(Type::OID.oid()),
            _ => 0,
        };
        add(oid, pg.name(), pg, "b", (category, *is_preferred, element, *array), *functions, (align, storage));
        let align = if *align == "d" { "d" } else { "i" };
        let name = format!("_{}", pg.name());
        add(*array, &name, &Type::TEXT_ARRAY, "b", ("A", false, oid, 0), ARRAYS.map(|(oid, _)| oid), (align, "x"));
    }
    for (oid, pg) in [(2249, Type::RECORD), (2278, Type::VOID), (705, Type::UNKNOWN)] {
        add(oid, pg.name(), &pg, "p", ("P", false, 0, 0), [0; 4], ("i", "p"));
    }
    rows
}

/// Bytes of a value, as PostgreSQL counts them.
pub(super) fn length(pg: &Type) -> i64 {
    match *pg {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4
        | Type::FLOAT4
        | Type::DATE
        | Type::OID
        | Type::REGPROC
        | Type::REGCLASS
        | Type::REGTYPE
        | Type::VOID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::NAME => 64,
        _ => -1,
    }
}
