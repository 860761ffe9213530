//! The 22 TPC-H queries over four services, against DataFusion over one copy in memory.

use headwater_sql_tests::services::{Pushdown, Reference, ask, rows, session};
use headwater_sql_tests::tpch::{Tpch, queries};

use datafusion::datasource::MemTable;
use headwater::Engine;

/// The generated data under the types that the services show.
async fn copy_in_memory(tpch: &Tpch, engine: &Engine) -> Reference {
    let reference = Reference::empty();
    for table in &tpch.tables {
        let empty = engine.sql(&format!("SELECT * FROM {}.{} LIMIT 0", table.service, table.name)).await;
        let schema = empty.unwrap_or_else(|error| panic!("{}: {}", table.name, error.report())).schema();
        let copy = MemTable::try_new(schema.clone(), vec![table.cast_to(&schema)]).unwrap();
        reference.register(table.service, table.name, copy);
    }
    reference
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_over_four_services_answers_as_one_copy_does() {
    let tpch = Tpch::load().await;
    let engine = tpch.services.engine().await;
    let reference = copy_in_memory(&tpch, &engine).await;
    let mut faults = Vec::new();
    for table in &tpch.tables {
        let query = format!("SELECT * FROM {}.{}", table.service, table.name);
        if let Some(difference) = rows(&engine, &query).await.difference(&reference.ask(&query).await.unwrap()) {
            faults.push(format!("{}: {difference}", table.name));
        }
    }
    let (on, off) = (session(&engine, Pushdown::On).await, session(&engine, Pushdown::Off).await);
    for (number, query) in queries() {
        let expected = reference.ask(&query).await.unwrap_or_else(|error| panic!("query {number}: {error}"));
        assert!(!expected.rows.is_empty(), "query {number} has an answer that can differ");
        for (how, session) in [("on", &on), ("off", &off)] {
            match ask(session, &query).await {
                Ok(found) => {
                    let difference = found.difference(&expected);
                    faults.extend(difference.map(|difference| format!("query {number}, pushdown {how}: {difference}")));
                }
                Err(error) => faults.push(format!("query {number}, pushdown {how}: {error}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
