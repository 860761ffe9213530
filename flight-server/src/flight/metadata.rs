//! The catalog as Flight SQL's metadata commands show it: one catalog, a schema per service, a table per published name.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::Result;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables,
};
use headwater::TableInfo;

use super::stream::plain_schema;

/// The name of the one catalog.
pub(crate) const CATALOG: &str = "headwater";

/// The types of tables that there are.
const TABLE_TYPES: [&str; 2] = ["BASE TABLE", "VIEW"];

pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    builder.build()
}

/// The services, and the schemas of tables that belong to the program itself.
pub(super) fn schemas(command: CommandGetDbSchemas, services: &[String], tables: &[TableInfo]) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    let names: BTreeSet<&String> = services.iter().chain(tables.iter().map(|table| &table.service)).collect();
    for name in names {
        builder.append(CATALOG, name);
    }
    builder.build()
}

/// The tables that match. A table whose source can't be reached is listed; its schema has no columns.
pub(super) fn tables(command: CommandGetTables, tables: &[TableInfo]) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    let unknown = Arc::new(Schema::empty());
    for table in tables {
        let schema = plain_schema(table.schema.as_ref().unwrap_or(&unknown));
        builder.append(CATALOG, &table.service, &table.name, table.kind, &schema)?;
    }
    builder.build()
}

pub(super) fn tables_schema(command: CommandGetTables) -> SchemaRef {
    command.into_builder().schema()
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for table_type in TABLE_TYPES {
        builder.append(table_type);
    }
    builder.build()
}

/// The key of one table, a row per column; no rows where it has none or there is no such table.
pub(super) fn primary_keys(command: &CommandGetPrimaryKeys, tables: &[TableInfo]) -> Result<RecordBatch> {
    let is_wanted = |table: &&TableInfo| {
        command.catalog.as_ref().is_none_or(|catalog| catalog == CATALOG)
            && command.db_schema.as_ref().is_none_or(|schema| *schema == table.service)
            && table.name == command.table
    };
    let mut rows = Vec::new();
    for table in tables.iter().filter(is_wanted) {
        let key = table.key.iter().flatten();
        rows.extend(key.zip(1..).map(|(column, place)| (table, column.as_str(), place)));
    }
    let text = |value: &dyn Fn(&TableInfo) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(table, _, _)| value(table))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|_| CATALOG.to_owned()),
        text(&|table| table.service.clone()),
        text(&|table| table.name.clone()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, column, _)| column))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, _, place)| *place))),
        // Sources rarely name their keys, and no statement could use the name.
        Arc::new(StringArray::new_null(rows.len())),
    ];
    Ok(RecordBatch::try_new(primary_keys_schema(), columns)?)
}

pub(super) fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}

/// Foreign keys: none are known, neither within a service nor across them.
pub(super) fn foreign_keys() -> RecordBatch {
    RecordBatch::new_empty(foreign_keys_schema())
}

pub(super) fn foreign_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    fn table(service: &str, name: &str, key: &[&str]) -> TableInfo {
        TableInfo {
            service: service.to_owned(),
            name: name.to_owned(),
            kind: "BASE TABLE",
            schema: Some(Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))),
            key: (!key.is_empty()).then(|| key.iter().map(|column| (*column).to_owned()).collect()),
            comment: None,
        }
    }

    #[test]
    fn patterns_choose_schemas_and_tables() {
        let all =
            [table("orders", "orders", &[]), table("orders", "order_lines", &[]), table("customers", "customers", &[])];
        let command = CommandGetTables {
            db_schema_filter_pattern: Some("ord%".to_owned()),
            table_name_filter_pattern: Some("order_".to_owned()),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let batch = tables(command, &all).unwrap();
        assert_eq!(
            batch.column_by_name("table_name").unwrap().as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("orders")]
        );
        assert_eq!(batch.num_columns(), 5);
        let command = CommandGetTables { table_types: vec!["VIEW".to_owned()], ..CommandGetTables::default() };
        assert_eq!(tables(command, &all).unwrap().num_rows(), 0);
        let command = CommandGetDbSchemas { catalog: Some("other".to_owned()), ..CommandGetDbSchemas::default() };
        assert_eq!(schemas(command, &["orders".to_owned()], &all).unwrap().num_rows(), 0);
        let batch = schemas(CommandGetDbSchemas::default(), &["orders".to_owned(), "empty".to_owned()], &all).unwrap();
        assert_eq!(batch.num_rows(), 3);
    }

    #[test]
    fn key_columns_keep_their_order() {
        let all = [table("orders", "order_lines", &["order_id", "line"]), table("other", "order_lines", &["x"])];
        let command = CommandGetPrimaryKeys {
            catalog: None,
            db_schema: Some("orders".to_owned()),
            table: "order_lines".to_owned(),
        };
        let batch = primary_keys(&command, &all).unwrap();
        assert_eq!(batch.column(3).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("order_id"), Some("line")]);
        assert_eq!(batch.column(4).as_primitive::<Int32Type>().values(), &[1, 2]);
    }

    #[test]
    fn unreachable_table_is_listed_without_columns() {
        let mut unreachable = table("orders", "orders", &[]);
        unreachable.schema = None;
        let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
        assert_eq!(tables(command, &[unreachable]).unwrap().num_rows(), 1);
    }
}
