//! A schema made real: databases and files with its tables, the engine over them, and a plain DataFusion over a copy.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use headwater::{Engine, Session};
use headwater_sql_tests::everywhere::identifier;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, session};

use super::kind::Kind;
use super::part;
use super::schema::{Claim, Column, Place, Schema, Table, WITH_ZEROS};
use super::values::Values;

/// A schema in its stores. Dropping it drops the databases.
pub(super) struct World {
    pub(super) schema: Schema,
    /// What every session is SET to.
    pub(super) settings: Vec<String>,
    /// The tables as the engine publishes them.
    pub(super) relations: Vec<Published>,
    pub(super) on: Session,
    pub(super) off: Session,
    pub(super) reference: Reference,
    _databases: (Option<PostgresDatabase>, Option<MysqlDatabase>),
    _services: Services,
}

/// A table as the engine publishes it.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// Its qualified name in SQL.
    pub(super) sql: String,
    pub(super) columns: Vec<PublishedColumn>,
}

/// A column as the engine publishes it.
#[derive(Debug, Clone)]
pub(super) struct PublishedColumn {
    /// Its name, quoted.
    pub(super) sql: String,
    pub(super) kind: Kind,
    pub(super) values: Values,
    /// Some of its values.
    pub(super) samples: Vec<String>,
}

impl World {
    /// Makes the stores and fills them.
    pub(super) async fn of(schema: &Schema, settings: &[String]) -> Self {
        let mut services = Services::new();
        let postgres = tables_text(schema, &[Place::Postgres, Place::PostgresTwin]);
        let postgres = match postgres.is_empty() {
            true => None,
            false => Some(PostgresDatabase::with(&format!("{TYPES};\n{postgres}")).await),
        };
        let mysql = tables_text(schema, &[Place::Mysql, Place::MysqlTwin]);
        let mysql = match mysql.is_empty() {
            true => None,
            false => Some(MysqlDatabase::with(&format!("{UTC};\n{mysql}")).await),
        };
        if let Some(postgres) = &postgres {
            let twin = format!("connector: postgres, url: \"{}\", numeric: \"decimal(38,9)\"", postgres.url());
            services = services.with_postgres("pg", &postgres.url()).with("pg2", &twin);
        }
        if let Some(mysql) = &mysql {
            services = services.with_mysql("my", &mysql.url()).with_mysql("my2", &mysql.url());
        }
        let sqlite = tables_text(schema, &[Place::Sqlite, Place::SqliteStrict]);
        if !sqlite.is_empty() {
            services = services.with_sqlite("lite", &sqlite);
        }
        if schema.tables.iter().any(|table| table.place.service() == "files") {
            services = services.with_files("files");
            schema.tables.iter().for_each(|table| write_file(&services, table));
        }
        if schema.is_limited {
            part::grant(&services, schema);
        }
        let engine = services.engine().await;
        let relations = published(&engine, schema).await;
        let names: Vec<String> = schema.tables.iter().map(Table::sql).collect();
        let (reference, on, off) = match schema.is_limited {
            true => (
                part::copy(&engine, schema).await,
                part::session(&engine, "on").await,
                part::session(&engine, "off").await,
            ),
            false => (
                Reference::copy(&engine, &names.iter().map(String::as_str).collect::<Vec<_>>()).await,
                session(&engine, Pushdown::On).await,
                session(&engine, Pushdown::Off).await,
            ),
        };
        for setting in settings {
            for answer in [ask(&on, setting).await, ask(&off, setting).await, reference.ask(setting).await] {
                answer.unwrap_or_else(|error| panic!("{setting}: {error}"));
            }
        }
        Self {
            relations,
            schema: schema.clone(),
            settings: settings.to_vec(),
            on,
            off,
            reference,
            _databases: (postgres, mysql),
            _services: services,
        }
    }
}

/// DDL and rows of the tables in these places, as their store takes them; empty where there are none.
pub(super) fn tables_text(schema: &Schema, places: &[Place]) -> String {
    let here = schema.tables.iter().filter(|table| places.contains(&table.place));
    here.map(|table| format!("{};\n", statements(table).join(";\n"))).collect()
}

/// What a file of a table holds, or for Parquet the rows in words.
pub(super) fn file_text(table: &Table) -> String {
    match table.place {
        Place::Csv => csv(table),
        Place::Json => json(table),
        _ => format!("{}\n", statements(table).join(";\n")),
    }
}

const TYPES: &str = "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TYPE label AS ENUM ('b', 'a', 'ab', 'c'); CREATE DOMAIN c_text AS text COLLATE \"C\"";
const UTC: &str = "SET time_zone = '+00:00'";

async fn published(engine: &Engine, schema: &Schema) -> Vec<Published> {
    let faults = engine.discover().await;
    let catalog = engine.catalog().await;
    let described = |table: &Table| {
        let found = catalog.iter().find(|info| info.service == table.place.service() && info.name == table.name);
        let found = found.and_then(|info| info.schema.clone());
        let found =
            found.unwrap_or_else(|| panic!("{} is not published: {faults:?}\n{}", table.sql(), file_text(table)));
        let column = |(index, column): (usize, &Column)| {
            if schema.is_limited && part::hides(table, index) {
                return None;
            }
            let field = found.field_with_name(&column.name).expect("every column is published");
            let kind = Kind::of(field.data_type())?;
            let samples = table.rows.iter().filter_map(|row| row[index].clone());
            // MariaDB's booleans are integers.
            let samples = samples.map(|value| match (kind, value.as_str()) {
                (Kind::Int, "true") => "1".to_owned(),
                (Kind::Int, "false") => "0".to_owned(),
                _ => value,
            });
            let samples = samples.collect();
            Some(PublishedColumn { sql: identifier(&column.name), kind, values: column.values, samples })
        };
        Published { sql: table.sql(), columns: table.columns.iter().enumerate().filter_map(column).collect() }
    };
    schema.tables.iter().map(described).collect()
}

fn statements(table: &Table) -> Vec<String> {
    let quote = |name: &str| match table.place {
        Place::Mysql | Place::MysqlTwin => format!("`{}`", name.replace('`', "``")),
        _ => identifier(name),
    };
    let mut parts: Vec<String> =
        table.columns.iter().map(|column| format!("{} {}", quote(&column.name), column.sql)).collect();
    parts.extend(table.key.map(|key| format!("PRIMARY KEY ({})", quote(&table.columns[key].name))));
    let strict = if table.place == Place::SqliteStrict { " STRICT" } else { "" };
    let mut statements = vec![format!("CREATE TABLE {} ({}){strict}", table.name, parts.join(", "))];
    if let Some(index) = table.index {
        let column = quote(&table.columns[index].name);
        statements.push(format!("CREATE INDEX {0}_i ON {0} ({column})", table.name));
    }
    if !table.rows.is_empty() {
        let rows: Vec<String> = table.rows.iter().map(|row| row_text(table, row)).collect();
        statements.push(format!("INSERT INTO {} VALUES\n  {}", table.name, rows.join(",\n  ")));
    }
    statements.extend(table.claim.iter().flat_map(|claim| claimed(table, *claim, &quote)));
    statements
}

/// Makes the store say so of the table. What files say of themselves is true.
fn claimed(table: &Table, claim: Claim, quote: &dyn Fn(&str) -> String) -> Vec<String> {
    let (name, Claim { rows, values }) = (&table.name, claim);
    match table.place {
        Place::Postgres | Place::PostgresTwin => {
            let column = |column: &Column| {
                format!("ALTER TABLE {name} ALTER COLUMN {} SET (n_distinct = {values})", quote(&column.name))
            };
            let claim = format!(
                "UPDATE pg_catalog.pg_class SET reltuples = {rows}, relpages = 1 WHERE oid = '{name}'::regclass"
            );
            table.columns.iter().map(column).chain([format!("ANALYZE {name}"), claim]).collect()
        }
        Place::Mysql | Place::MysqlTwin => {
            let of = format!("WHERE database_name = DATABASE() AND table_name = '{name}'");
            vec![
                format!("ALTER TABLE {name} STATS_AUTO_RECALC = 0"),
                format!("ANALYZE TABLE {name} PERSISTENT FOR ALL"),
                format!("UPDATE mysql.innodb_table_stats SET n_rows = {rows} {of}"),
                format!("UPDATE mysql.innodb_index_stats SET stat_value = {values} {of} AND stat_name LIKE 'n_diff%'"),
                format!(
                    "UPDATE mysql.column_stats SET avg_frequency = {} WHERE db_name = DATABASE() AND table_name = '{name}'",
                    rows / values
                ),
                // A table of another name is looked up again.
                format!("RENAME TABLE {name} TO {name}_"),
                format!("RENAME TABLE {name}_ TO {name}"),
            ]
        }
        Place::Sqlite | Place::SqliteStrict => {
            let index = table
                .index
                .map(|_| format!("INSERT INTO sqlite_stat1 VALUES ('{name}', '{name}_i', '{rows} {}')", rows / values));
            let analyzed = [
                "ANALYZE".to_owned(),
                format!("DELETE FROM sqlite_stat1 WHERE tbl = '{name}'"),
                format!("INSERT INTO sqlite_stat1 VALUES ('{name}', NULL, '{rows}')"),
            ];
            analyzed.into_iter().chain(index).collect()
        }
        Place::Parquet | Place::Csv | Place::Json => vec![],
    }
}

fn row_text(table: &Table, row: &[Option<String>]) -> String {
    let values: Vec<String> = row
        .iter()
        .zip(&table.columns)
        .map(|(value, column)| {
            value.as_ref().map_or("NULL".to_owned(), |value| store_literal(table.place, column, value))
        })
        .collect();
    format!("({})", values.join(", "))
}

/// What MariaDB keeps of a column that has dates of which the month or the day is zero: those in the place of dates that are far from all others.
fn with_zeros(value: &str) -> &str {
    match value {
        "0001-01-01" => "2020-01-00",
        "1582-10-10" => "2020-00-15",
        "1900-02-28" => "0000-00-00",
        "9999-12-31" => "2021-00-00",
        "0001-01-01 00:00:00" => "2020-00-01 10:00:00",
        "9999-12-31 23:59:59.999999" => "2020-03-00 00:00:00.000001",
        other => other,
    }
}

/// Every store makes of a quoted text what its column's type says.
fn store_literal(place: Place, column: &Column, value: &str) -> String {
    let value = if column.sql.ends_with(WITH_ZEROS) { with_zeros(value) } else { value };
    let quoted = headwater_sql_tests::everywhere::literal(value);
    match (place, column.values) {
        (Place::Postgres | Place::PostgresTwin, Values::Bytes) => format!("'\\x{value}'"),
        (_, Values::Bytes) => format!("x'{value}'"),
        (Place::Mysql | Place::MysqlTwin | Place::Sqlite, Values::Bool) => u8::from(value == "true").to_string(),
        (Place::Mysql | Place::MysqlTwin, _) => quoted.replace('\\', "\\\\"),
        _ => quoted,
    }
}

fn write_file(services: &Services, table: &Table) {
    let path = |extension: &str| services.folder("files").join(format!("{}.{extension}", table.name));
    match table.place {
        Place::Csv => std::fs::write(path("csv"), csv(table)).expect("a file can be written"),
        Place::Json => std::fs::write(path("ndjson"), json(table)).expect("a file can be written"),
        Place::Parquet => {
            let batch = batch(table);
            let file = std::fs::File::create(path("parquet")).expect("a file can be made");
            // Several row groups, of which a reader may leave some out.
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
            let mut writer =
                ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("Parquet has these types");
            writer.write(&batch).expect("rows can be written to Parquet");
            writer.close().expect("a Parquet file can be finished");
        }
        _ => {}
    }
}

fn csv(table: &Table) -> String {
    let field = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |fields: Vec<String>| format!("{}\n", fields.join(","));
    let mut text = line(table.columns.iter().map(|column| field(&column.name)).collect());
    for row in &table.rows {
        text += &line(row.iter().map(|value| value.as_deref().map(field).unwrap_or_default()).collect());
    }
    text
}

fn json(table: &Table) -> String {
    let pair = |(value, column): (&Option<String>, &Column)| {
        let value = match value {
            None => "null".to_owned(),
            Some(value) if column.sql == "text" => serde_json::Value::from(value.as_str()).to_string(),
            Some(value) => value.clone(),
        };
        format!("{}: {value}", serde_json::Value::from(column.name.as_str()))
    };
    let line = |row: &Vec<Option<String>>| {
        let pairs: Vec<String> = row.iter().zip(&table.columns).map(pair).collect();
        format!("{{{}}}\n", pairs.join(", "))
    };
    table.rows.iter().map(line).collect()
}

fn batch(table: &Table) -> RecordBatch {
    let array = |(index, column): (usize, &Column)| -> (String, ArrayRef) {
        let values = table.rows.iter().map(|row| row[index].as_deref());
        if column.values == Values::Bytes {
            let bytes: Vec<Option<Vec<u8>>> = values.map(|value| value.map(bytes_of)).collect();
            return (
                column.name.clone(),
                Arc::new(bytes.iter().map(|bytes| bytes.as_deref()).collect::<BinaryArray>()),
            );
        }
        let data_type: DataType = column.sql.parse().unwrap_or_else(|error| panic!("{}: {error}", column.sql));
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let array = cast_with_options(&values.collect::<StringArray>(), &data_type, &strict);
        (column.name.clone(), array.unwrap_or_else(|error| panic!("{}: {error}", column.sql)))
    };
    let (names, arrays): (Vec<String>, Vec<ArrayRef>) = table.columns.iter().enumerate().map(array).unzip();
    let fields = names.iter().zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, arrays).expect("columns of one length")
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits are ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect()
}

/// What the stores are made to say of a table is what plans are made from.
#[tokio::test]
async fn claims_are_believed() {
    let columns = vec![Column { name: "c0".to_owned(), sql: "int", values: Values::Small }];
    let claim = Some(Claim { rows: 300_000, values: 100 });
    let table = |(number, place)| {
        let rows = vec![vec![Some("1".to_owned())], vec![Some("2".to_owned())]];
        Table { name: format!("t{number}"), place, columns: columns.clone(), rows, key: None, index: Some(0), claim }
    };
    let tables: Vec<Table> =
        [Place::Postgres, Place::Mysql, Place::Sqlite].into_iter().enumerate().map(table).collect();
    let world = World::of(&Schema { tables, is_limited: false }, &[]).await;
    ask(&world.on, "SET datafusion.explain.show_statistics = true").await.unwrap();
    for table in &world.relations {
        let plan =
            ask(&world.on, &format!("EXPLAIN SELECT * FROM {}", table.sql)).await.unwrap().texts().concat().concat();
        assert!(plan.contains("Rows=Inexact(300000)"), "{plan}");
        let grouped = format!("EXPLAIN SELECT c0 FROM {} WHERE c0 = 1", table.sql);
        let plan = ask(&world.on, &grouped).await.unwrap().texts().concat().concat();
        assert!(plan.contains("Rows=Inexact(3000)"), "{plan}");
    }
}
