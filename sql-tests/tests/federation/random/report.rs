//! A failure as text: all that is needed to see it again.

use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::ask;

use super::judge::in_time;
use super::question::{Question, Way};
use super::schema::Place;
use super::shrink::Failure;
use super::world::{World, file_text, tables_text};

/// How many rows of an answer are printed.
const ROWS_MAX: usize = 30;

/// The stores, the question, the answers and the plan.
pub(super) async fn report(failure: &Failure) -> String {
    let schema = &failure.world.schema;
    let mut text = format!("{:?}\n", failure.fault);
    for (title, places) in [
        ("Postgres (services pg and pg2)", [Place::Postgres, Place::PostgresTwin]),
        ("MariaDB (services my and my2)", [Place::Mysql, Place::MysqlTwin]),
        ("SQLite (service lite)", [Place::Sqlite, Place::SqliteStrict]),
    ] {
        let statements = tables_text(schema, &places);
        if !statements.is_empty() {
            text += &format!("-- {title}\n{statements}");
        }
    }
    for table in schema.tables.iter().filter(|table| table.place.service() == "files") {
        text += &format!("-- file {} ({:?})\n{}", table.name, table.place, file_text(table));
    }
    text +=
        &format!("-- session\n{}", failure.world.settings.iter().map(|set| format!("{set};\n")).collect::<String>());
    if let Question::Views { view, .. } = &failure.question {
        text += &format!("-- view\n{};\n", view.sql());
    }
    if let Question::Again { query, way: Way::Prepared, .. } = &failure.question {
        text += &format!("-- prepared\n{};\n", query.with_parameters().0);
    }
    for answers in &failure.answers {
        text += &format!("-- query\n{};\n", answers.query);
        for (name, answer) in [("on", &answers.on), ("off", &answers.off), ("local copy", &answers.plain)] {
            text += &format!("-- {name}: {}\n", shown(answer));
        }
        let plan = explained(&failure.world, &answers.query).await;
        text += &plan.map_or_else(|error| error, |rows| rows.texts().concat().join("\n"));
    }
    text
}

/// What a query is planned as. Planning it may be what panics.
async fn explained(world: &World, query: &str) -> Result<Rows, String> {
    let (on, explain) = (world.on.clone(), format!("EXPLAIN {query}"));
    in_time(async move { ask(&on, &explain).await }).await
}

/// Whether a draft is kept for a query like this.
pub(super) async fn has_draft(world: &World, query: &str) -> bool {
    world.on.prepare(query).await.is_ok_and(|prepared| format!("{prepared:?}").contains("draft: true"))
}

/// Ways to answer a query: the operator that shows it, and what its line holds.
const WAYS: [(&str, &str, &[&str]); 7] = [
    ("joined or grouped at a source", "RemoteScanExec", &[" JOIN ", " GROUP BY ", "count(", "EXISTS (", "IN (SELECT "]),
    ("keys to a scan", "RemoteScanExec", &["keys=["]),
    ("groups of groups", "AggregateExec", &["merged_"]),
    ("answer by keys", "KeyedExec", &[""]),
    ("first rows tried", "TriedExec", &[""]),
    ("computed once", "SharedExec", &[""]),
    ("rows of several plans", "UnionExec", &[""]),
];

/// In which of these ways a query is answered.
pub(super) async fn ways(world: &World, query: &str) -> Vec<&'static str> {
    let Ok(plan) = ask(&world.on, &format!("EXPLAIN {query}")).await else { return vec![] };
    let plan = plan.texts().concat().join("\n");
    let shows = |operator: &str, parts: &[&str]| {
        let mut lines = plan.lines().filter(|line| line.contains(operator));
        lines.any(|line| parts.iter().any(|part| line.contains(part)))
    };
    WAYS.iter().filter(|(_, operator, parts)| shows(operator, parts)).map(|(way, ..)| *way).collect()
}

/// Whether a view answers this query, or a part of it.
pub(super) async fn is_viewed(world: &World, query: &str) -> bool {
    let Ok(plan) = ask(&world.on, &format!("EXPLAIN {query}")).await else { return false };
    plan.texts().concat().join("\n").contains("random.view read")
}

fn shown(answer: &Result<Rows, String>) -> String {
    match answer {
        Err(error) => format!("error: {error}"),
        Ok(rows) => {
            let types: Vec<String> = rows.columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            let lines: Vec<String> = rows.texts().iter().take(ROWS_MAX).map(|row| format!("\n--   {row:?}")).collect();
            format!("{} rows of ({}){}", rows.rows.len(), types.join(", "), lines.concat())
        }
    }
}
