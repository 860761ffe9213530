//! Which relations PostgreSQL's catalog has, with which columns.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::SCHEMA;

/// A relation of the catalog.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    /// r or v, as in `pg_class.relkind`.
    pub(super) kind: &'static str,
    /// `name:type`, in order, with spaces between.
    pub(super) columns: &'static str,
    pub(super) oid: i64,
}

/// Every relation of `pg_catalog` and `information_schema` that clients may ask.
pub(super) fn all() -> &'static [Shape] {
    static ALL: LazyLock<Vec<Shape>> = LazyLock::new(|| {
        let lines = include_str!("shape.txt").lines().filter(|line| !line.starts_with('#'));
        let shape = |(line, place): (&'static str, i64)| {
            let (name, rest) = line.split_once(' ')?;
            let (schema, name) = name.split_once('.')?;
            let (kind, columns) = rest.split_once(' ')?;
            Some(Shape { schema, name, kind, columns, oid: known_oid(name).unwrap_or(12_000 + place) })
        };
        lines.zip(0..).filter_map(shape).collect()
    });
    &ALL
}

/// The relation of this name.
pub(super) fn find(schema: &str, name: &str) -> Option<&'static Shape> {
    static PLACES: LazyLock<HashMap<(&'static str, &'static str), usize>> =
        LazyLock::new(|| all().iter().enumerate().map(|(place, shape)| ((shape.schema, shape.name), place)).collect());
    PLACES.get(&(schema, name)).and_then(|place| all().get(*place))
}

/// Whether `pg_catalog` has a relation of this name.
pub(super) fn is_known(name: &str) -> bool {
    find(SCHEMA, name).is_some()
}

/// The oid of a relation of `pg_catalog`.
pub(super) fn catalog_oid(name: &str) -> i64 {
    find(SCHEMA, name).map_or(0, |shape| shape.oid)
}

/// The relation with this oid.
pub(super) fn of_oid(oid: i64) -> Option<&'static Shape> {
    all().iter().find(|shape| shape.oid == oid)
}

/// PostgreSQL's own number of those that clients know by it.
fn known_oid(name: &str) -> Option<i64> {
    Some(match name {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_authid" => 1260,
        "pg_database" => 1262,
        "pg_foreign_server" => 1417,
        "pg_constraint" => 2606,
        "pg_description" => 2609,
        "pg_index" => 2610,
        "pg_namespace" => 2615,
        "pg_rewrite" => 2618,
        "pg_trigger" => 2620,
        "pg_tablespace" => 1213,
        "pg_extension" => 3079,
        "pg_collation" => 3456,
        "pg_event_trigger" => 3466,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_have_numbers_that_differ() {
        let mut oids: Vec<i64> = all().iter().map(|shape| shape.oid).collect();
        let count = oids.len();
        assert!(count > 150);
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), count);
        assert_eq!(catalog_oid("pg_class"), 1259);
        assert!(find("information_schema", "columns").is_some_and(|shape| shape.columns.starts_with("table_catalog:")));
    }
}
