//! What the SQL standard says of a query, where DataFusion alone says something else: each answer stands here as it must be, with pushdown and without, and over a local copy.

mod rows;
mod subqueries;
mod syntax;

use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, session};

/// Asserts that the rows of a query, as texts in any order, are these: with pushdown, without, and over a local copy of the tables. The copy is not asked
/// where no tables are named: it reads a text as DataFusion alone does.
async fn answers(services: &Services, tables: &[&str], query: &str, right: &[&[&str]]) {
    let engine = services.engine().await;
    let mut found = vec![
        ("on", ask(&session(&engine, Pushdown::On).await, query).await),
        ("off", ask(&session(&engine, Pushdown::Off).await, query).await),
    ];
    if !tables.is_empty() {
        found.push(("local copy", Reference::copy(&engine, tables).await.ask(query).await));
    }
    let mut right: Vec<Vec<&str>> = right.iter().map(|row| row.to_vec()).collect();
    right.sort_unstable();
    for (name, found) in found {
        let found = found.unwrap_or_else(|error| panic!("{query}\n{name}: {error}"));
        let mut texts = found.texts();
        texts.sort_unstable();
        assert_eq!(texts, right, "{query}\n{name}");
    }
}
