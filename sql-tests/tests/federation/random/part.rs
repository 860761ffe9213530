//! The part of each table that who asks may read: some rows, some columns, and NULL in the place of one.

use datafusion::datasource::MemTable;
use headwater::{Caller, Engine, Session};
use headwater_sql_tests::everywhere::identifier;
use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, session as of_program};

use super::schema::{Schema, Table};

/// Who may read a part.
const USER: &str = "part";

/// Whether a column is not there.
pub(super) fn hides(table: &Table, column: usize) -> bool {
    table.columns.len() >= 3 && column == 1
}

/// Whether a column is NULL.
fn masks(table: &Table, column: usize) -> bool {
    table.columns.len() >= 4 && column == table.columns.len() - 1
}

/// Which rows are there: a condition that the sources can do, over columns that are there, hidden or masked.
fn rows(table: &Table) -> String {
    let column = |index: usize| identifier(&table.columns[index % table.columns.len()].name);
    match table.rows.len() % 3 {
        0 => format!("{} IS NOT NULL", column(0)),
        1 => format!("{} IS NULL OR {} IS NOT NULL", column(1), column(2)),
        _ => format!("{0} IS NOT NULL AND {0} = {0}", column(1)),
    }
}

/// Writes the access file of the services.
pub(super) fn grant(services: &Services, schema: &Schema) {
    // JSON is YAML, whatever names hold.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!("roles:\n  part:\n    members: [{USER}]\n    grants:\n");
    for table in &schema.tables {
        let there = table.columns.iter().enumerate().filter(|(index, _)| !hides(table, *index));
        let columns: Vec<String> = there.map(|(_, column)| quoted(&column.name)).collect();
        let masked = table.columns.iter().enumerate().filter(|(index, _)| masks(table, *index));
        let masked: Vec<String> = masked.map(|(_, column)| format!("{}: \"NULL\"", quoted(&column.name))).collect();
        text += &format!(
            "      - {{service: {}, tables: [{}], columns: [{}], rows: {}, masks: {{{}}}}}\n",
            table.place.service(),
            quoted(&table.name),
            columns.join(", "),
            quoted(&rows(table)),
            masked.join(", "),
        );
    }
    std::fs::write(services.manifests().join("access.yaml"), text).expect("a file can be written");
}

/// A session of who may read a part.
pub(super) async fn session(engine: &Engine, pushdown: &str) -> Session {
    let session = engine.session_as(&Caller::user(USER));
    let statement = format!("SET headwater.pushdown = {pushdown}");
    ask(&session, &statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    session
}

/// A copy of the parts, read by somebody who may read everything.
pub(super) async fn copy(engine: &Engine, schema: &Schema) -> Reference {
    let reader = of_program(engine, Pushdown::Off).await;
    let reference = Reference::empty();
    for table in &schema.tables {
        let there = table.columns.iter().enumerate().filter(|(index, _)| !hides(table, *index));
        let columns = there.map(|(index, column)| {
            let name = identifier(&column.name);
            if masks(table, index) { format!("CASE WHEN false THEN {name} END AS {name}") } else { name }
        });
        let columns: Vec<String> = columns.collect();
        let sql = format!("SELECT {} FROM {} WHERE {}", columns.join(", "), table.sql(), rows(table));
        let answer = reader.sql(&sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
        let schema = answer.schema();
        let batches = answer.collect().await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
        let copied = MemTable::try_new(schema, vec![batches]).expect("batches have their schema");
        reference.register(table.place.service(), &table.name, copied);
    }
    reference
}
