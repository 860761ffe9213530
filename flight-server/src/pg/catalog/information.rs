//! `information_schema`, as PostgreSQL shows it.
//!
//! Materialized views are not in it, as they are not in PostgreSQL's; clients find them in `pg_class` and `pg_matviews`. Of what there is nothing here (routines, triggers,
//! domains, ...) the views are there and empty.

use arrow::datatypes::Field;
use postgres_types::{Kind, Type};

use super::relations::{Relations, Table};
use super::rows::{Cell, Rows};
use super::{Context, SCHEMA};
use crate::pg::catalog::functions::format_type;
use crate::pg::settings::DATABASE;
use crate::pg::types::{modifier, of};

/// The rows of one of its views; `None` where there is nothing to show.
pub(super) fn rows(name: &str, relations: &Relations, asks: &Context) -> Option<Rows> {
    Some(match name {
        "information_schema_catalog_name" => {
            let mut rows = Rows::new(&["catalog_name"]);
            rows.add([Cell::from(DATABASE)]);
            rows
        }
        "schemata" => schemata(relations),
        "tables" => tables(relations),
        "views" => views(relations),
        "columns" => columns(relations),
        "element_types" => element_types(relations),
        "table_constraints" => constraints(relations),
        "key_column_usage" => key_columns(relations),
        "constraint_column_usage" => constraint_columns(relations),
        "table_privileges" | "role_table_grants" => privileges(relations, asks),
        "enabled_roles" => {
            let mut rows = Rows::new(&["role_name"]);
            rows.add([Cell::from(asks.user.as_str())]);
            rows
        }
        "character_sets" => {
            let mut rows =
                Rows::new(&["character_set_name", "character_repertoire", "form_of_use", "default_collate_catalog"]);
            rows.add([Cell::from("UTF8"), Cell::from("UCS"), Cell::from("UTF8"), Cell::from(DATABASE)]);
            rows
        }
        _ => return None,
    })
}

/// The tables that it shows.
fn shown(relations: &Relations) -> impl Iterator<Item = &Table> {
    relations.tables.iter().filter(|table| relations.kind(table) != "m")
}

fn schemata(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&["catalog_name", "schema_name", "schema_owner"]);
    for name in [SCHEMA, "information_schema"].into_iter().chain(relations.schemas.keys().map(String::as_str)) {
        rows.add([Cell::from(DATABASE), Cell::from(name), Cell::from("headwater")]);
    }
    rows
}

fn tables(relations: &Relations) -> Rows {
    let mut rows =
        Rows::new(&["table_catalog", "table_schema", "table_name", "table_type", "is_insertable_into", "is_typed"]);
    for table in shown(relations) {
        rows.add([
            Cell::from(DATABASE),
            Cell::from(table.info.service.as_str()),
            Cell::from(table.info.name.as_str()),
            Cell::from(if relations.kind(table) == "v" { "VIEW" } else { "BASE TABLE" }),
            Cell::from("NO"),
            Cell::from("NO"),
        ]);
    }
    rows
}

fn views(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "check_option",
        "is_updatable",
        "is_insertable_into",
        "is_trigger_updatable",
        "is_trigger_deletable",
        "is_trigger_insertable_into",
    ]);
    for table in shown(relations).filter(|table| relations.kind(table) == "v") {
        rows.add([
            Cell::from(DATABASE),
            Cell::from(table.info.service.as_str()),
            Cell::from(table.info.name.as_str()),
            Cell::from("NONE"),
            Cell::from("NO"),
            Cell::from("NO"),
            Cell::from("NO"),
            Cell::from("NO"),
            Cell::from("NO"),
        ]);
    }
    rows
}

/// What a column's type says of its numbers and times: bytes, precision, radix, scale, precision of times.
fn measures(pg: &Type, field: &Field) -> [Cell; 5] {
    let number = Cell::Number;
    match *pg {
        Type::TEXT => [number(1_073_741_824), Cell::Null, Cell::Null, Cell::Null, Cell::Null],
        Type::INT2 => [Cell::Null, number(16), number(2), number(0), Cell::Null],
        Type::INT4 => [Cell::Null, number(32), number(2), number(0), Cell::Null],
        Type::INT8 => [Cell::Null, number(64), number(2), number(0), Cell::Null],
        Type::FLOAT4 => [Cell::Null, number(24), number(2), Cell::Null, Cell::Null],
        Type::FLOAT8 => [Cell::Null, number(53), number(2), Cell::Null, Cell::Null],
        Type::NUMERIC => match modifier(field.data_type()) - 4 {
            packed @ 0.. => [
                Cell::Null,
                number(i64::from(packed >> 16)),
                number(10),
                number(i64::from(packed & 0xffff)),
                Cell::Null,
            ],
            _ => [Cell::Null, Cell::Null, number(10), Cell::Null, Cell::Null],
        },
        Type::DATE => [Cell::Null, Cell::Null, Cell::Null, Cell::Null, number(0)],
        Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => {
            [Cell::Null, Cell::Null, Cell::Null, Cell::Null, number(6)]
        }
        _ => [Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null],
    }
}

/// The name of a type as SQL has it: all arrays are one.
fn data_type(pg: &Type) -> String {
    match pg.kind() {
        Kind::Array(_) => "ARRAY".to_owned(),
        _ => format_type(i64::from(pg.oid()), None).unwrap_or_default(),
    }
}

fn columns(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "is_nullable",
        "data_type",
        "character_octet_length",
        "numeric_precision",
        "numeric_precision_radix",
        "numeric_scale",
        "datetime_precision",
        "udt_catalog",
        "udt_schema",
        "udt_name",
        "dtd_identifier",
        "is_self_referencing",
        "is_identity",
        "identity_cycle",
        "is_generated",
        "is_updatable",
    ]);
    for table in shown(relations) {
        let Some(schema) = &table.info.schema else { continue };
        for (field, number) in schema.fields().iter().zip(1..) {
            let pg = of(field.data_type());
            let [bytes, precision, radix, scale, datetime] = measures(&pg, field);
            rows.add([
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from(field.name().as_str()),
                Cell::Number(number),
                Cell::from(if field.is_nullable() { "YES" } else { "NO" }),
                Cell::from(data_type(&pg).as_str()),
                bytes,
                precision,
                radix,
                scale,
                datetime,
                Cell::from(DATABASE),
                Cell::from(SCHEMA),
                Cell::from(pg.name()),
                Cell::from(number.to_string().as_str()),
                Cell::from("NO"),
                Cell::from("NO"),
                Cell::from("NO"),
                Cell::from("NEVER"),
                Cell::from("NO"),
            ]);
        }
    }
    rows
}

fn element_types(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "object_catalog",
        "object_schema",
        "object_name",
        "object_type",
        "collection_type_identifier",
        "data_type",
        "udt_catalog",
        "udt_schema",
        "udt_name",
        "dtd_identifier",
    ]);
    for table in shown(relations) {
        let Some(schema) = &table.info.schema else { continue };
        for (field, number) in schema.fields().iter().zip(1..) {
            let pg = of(field.data_type());
            let Kind::Array(element) = pg.kind() else { continue };
            let number: i64 = number;
            rows.add([
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from("TABLE"),
                Cell::from(number.to_string().as_str()),
                Cell::from(data_type(element).as_str()),
                Cell::from(DATABASE),
                Cell::from(SCHEMA),
                Cell::from(element.name()),
                Cell::from(format!("a{number}").as_str()),
            ]);
        }
    }
    rows
}

/// The tables that have a key, with it.
fn keyed(relations: &Relations) -> impl Iterator<Item = (&Table, &[String])> {
    shown(relations).filter_map(|table| {
        table.constraint?;
        Some((table, table.info.key.as_deref()?))
    })
}

fn constraints(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_type",
        "is_deferrable",
        "initially_deferred",
        "enforced",
    ]);
    for (table, _) in keyed(relations) {
        rows.add([
            Cell::from(DATABASE),
            Cell::from(table.info.service.as_str()),
            Cell::from(format!("{}_pkey", table.info.name).as_str()),
            Cell::from(DATABASE),
            Cell::from(table.info.service.as_str()),
            Cell::from(table.info.name.as_str()),
            Cell::from("PRIMARY KEY"),
            Cell::from("NO"),
            Cell::from("NO"),
            Cell::from("YES"),
        ]);
    }
    rows
}

fn key_columns(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
    ]);
    for (table, key) in keyed(relations) {
        for (column, number) in key.iter().zip(1..) {
            rows.add([
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(format!("{}_pkey", table.info.name).as_str()),
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from(column.as_str()),
                Cell::Number(number),
            ]);
        }
    }
    rows
}

fn constraint_columns(relations: &Relations) -> Rows {
    let mut rows = Rows::new(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
    ]);
    for (table, key) in keyed(relations) {
        for column in key {
            rows.add([
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(table.info.name.as_str()),
                Cell::from(column.as_str()),
                Cell::from(DATABASE),
                Cell::from(table.info.service.as_str()),
                Cell::from(format!("{}_pkey", table.info.name).as_str()),
            ]);
        }
    }
    rows
}

fn privileges(relations: &Relations, asks: &Context) -> Rows {
    let mut rows = Rows::new(&[
        "grantor",
        "grantee",
        "table_catalog",
        "table_schema",
        "table_name",
        "privilege_type",
        "is_grantable",
        "with_hierarchy",
    ]);
    for table in shown(relations) {
        rows.add([
            Cell::from("headwater"),
            Cell::from(asks.user.as_str()),
            Cell::from(DATABASE),
            Cell::from(table.info.service.as_str()),
            Cell::from(table.info.name.as_str()),
            Cell::from("SELECT"),
            Cell::from("NO"),
            Cell::from("NO"),
        ]);
    }
    rows
}
