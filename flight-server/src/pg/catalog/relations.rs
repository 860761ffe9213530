//! What the engine knows of its tables, with the numbers that `pg_catalog` has for them.
//!
//! An object's number (oid) goes by its name, so that it is the same on every connection and after a restart; where two fall together the second moves on, in the
//! order of names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use headwater::{Session, TableInfo};

use super::fixed::{CATALOG_OID, INFORMATION_OID};
use super::functions::{quote, quoted_name};
use super::{SCHEMA, shape};

/// The first oid that is not PostgreSQL's own.
const OIDS_FROM: i64 = 16_384;

/// How many there are: oids fit into 31 bits, which is all that some clients read.
const OIDS: u64 = (i32::MAX as u64) - 16_384;

/// What the engine knows, with numbers.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// Schemas and their oids.
    pub(super) schemas: BTreeMap<String, i64>,
    pub(super) tables: Vec<Table>,
    search_path: Vec<String>,
    pub(super) views: BTreeMap<(String, String), String>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) index: Option<i64>,
    pub(super) constraint: Option<i64>,
    pub(super) info: TableInfo,
}

impl Relations {
    /// Asks the engine for what the session's user may know. What a service that is down has is listed without columns.
    pub(super) async fn of(engine: &Session, search_path: Vec<String>) -> Self {
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
        let parts = split_name(name);
        let find = |schema: &str, name: &str| {
            self.tables
                .iter()
                .find(|table| table.info.service == schema && table.info.name == name)
                .map(|table| table.oid)
        };
        match &parts[..] {
            [name] if shape::is_known(name) => Some(shape::catalog_oid(name)),
            [schema, name] if shape::find(schema, name).is_some() => shape::find(schema, name).map(|shape| shape.oid),
            [name] => self.search_path.iter().find_map(|schema| find(schema, name)),
            [schema, name] => find(schema, name),
            _ => None,
        }
    }

    /// The name of a table, with its schema where the search path does not lead to it.
    pub(super) fn table_name(&self, oid: i64) -> Option<String> {
        if let Some(shape) = shape::of_oid(oid) {
            return Some(if shape.schema == SCHEMA {
                shape.name.to_owned()
            } else {
                quoted_name(shape.schema, shape.name)
            });
        }
        if let Some(table) = self.tables.iter().find(|table| table.index == Some(oid)) {
            let name = format!("{}_pkey", table.info.name);
            return Some(if self.is_visible(oid) { quote(&name) } else { quoted_name(&table.info.service, &name) });
        }
        let table = self.tables.iter().find(|table| table.oid == oid)?;
        match self.is_visible(oid) {
            true => Some(quote(&table.info.name)),
            false => Some(quoted_name(&table.info.service, &table.info.name)),
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
            "information_schema" => Some(INFORMATION_OID),
            _ => self.schemas.get(name).copied(),
        }
    }

    pub(super) fn schema_name(&self, oid: i64) -> Option<String> {
        match oid {
            CATALOG_OID => return Some(SCHEMA.to_owned()),
            INFORMATION_OID => return Some("information_schema".to_owned()),
            _ => {}
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
}

/// The parts of a name as SQL writes it: folded to lower case where they are not quoted.
fn split_name(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut in_quotes) = (Vec::new(), String::new(), false);
    let mut chars = name.trim().chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '"' if in_quotes && chars.peek() == Some(&'"') => part.extend(chars.next()),
            '"' => in_quotes = !in_quotes,
            '.' if !in_quotes => parts.push(std::mem::take(&mut part)),
            other if in_quotes => part.push(other),
            other => part.extend(other.to_lowercase()),
        }
    }
    parts.push(part);
    parts
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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

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

    pub(in crate::pg::catalog) fn relations() -> Relations {
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
        assert_eq!(relations.table_name(1259).as_deref(), Some("pg_class"));
        assert_eq!(split_name("A.\"b.\"\"C\""), ["a", "b.\"C"]);
        assert_eq!(relations.table_oid("nothing"), None);
    }
}
