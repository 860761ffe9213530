//! What `pg_stat_activity` says of a query's statements.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use headwater_source::{QueryId, ReadContext, ScanRequest};

use super::{Database, eventually, table, text};

const SECOND: Duration = Duration::from_secs(1);
const NAMES: &str =
    "SELECT coalesce(string_agg(application_name, ',' ORDER BY application_name), '') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'headwater%'";

async fn names(database: &Database) -> String {
    database.client.query_one(NAMES, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn running_statement_names_its_query_and_an_idle_connection_none() {
    let database = Database::new().await;
    database.run("CREATE TABLE many AS SELECT n AS id, repeat('x', 100) AS v FROM generate_series(1, 200000) n").await;
    let source = database.source_with(&[("pool_size", 1)]);
    let scan = source.prepare(ScanRequest::all(table(&source, "many").await)).await.unwrap();
    for query in [41, 42] {
        let mut stream = scan.open_for(0, &QueryId::new(query).into()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        assert_eq!(names(&database).await, format!("headwater shop query={query}"));
        let rest: Vec<_> = stream.try_collect().await.unwrap();
        assert!(rest.len() > 1);
        eventually("the connection claims no query", SECOND, async || names(&database).await == "headwater shop").await;
    }
    // The same connection for nobody's query.
    let mut stream = scan.open(0).await.unwrap();
    stream.next().await.unwrap().unwrap();
    assert_eq!(names(&database).await, "headwater shop");
}

#[tokio::test]
async fn connection_whose_statement_failed_claims_no_query() {
    let database = Database::new().await;
    database.run("CREATE VIEW wrong AS SELECT n AS id, 1 / (n - 30000) AS v FROM generate_series(1, 60000) n").await;
    let source = database.source_with(&[("pool_size", 1)]);
    let scan = source.prepare(ScanRequest::all(table(&source, "wrong").await)).await.unwrap();
    let outcome = match scan.open_for(0, &QueryId::new(5).into()).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(outcome.is_err());
    eventually("the connection claims no query", SECOND, async || names(&database).await == "headwater shop").await;
}

#[tokio::test]
async fn snapshot_and_the_statements_that_read_it_name_their_query() {
    let database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT pg_sleep(60)::text AS v").await;
    let source = database.source();
    let scan = source.prepare(ScanRequest::all(table(&source, "slow").await)).await.unwrap();
    let query = Some(QueryId::new(9));
    let snapshot = source.snapshot(1, query).await.unwrap();
    let reading = tokio::spawn(async move {
        let context = ReadContext { query, snapshot, ..ReadContext::default() };
        scan.open_for(0, &context).await.map(|_| ())
    });
    let expected = "headwater shop query=9,headwater shop snapshot query=9";
    eventually("both name it", 5 * SECOND, async || names(&database).await.contains(expected)).await;
    reading.abort();
    eventually("none names it", 5 * SECOND, async || !names(&database).await.contains("query=")).await;
}

#[tokio::test]
async fn name_of_the_url_is_kept_and_statements_stay_prepared() {
    let database = Database::new().await;
    database.run("CREATE TABLE few AS SELECT n AS id FROM generate_series(1, 3) n").await;
    database.run("CREATE VIEW kept AS SELECT count(*) AS n, current_setting('application_name') AS name FROM pg_prepared_statements").await;
    let url = format!("{}?application_name=shop-reader", database.url());
    let source =
        super::open(&url, &[("sslmode", text("disable")), ("pool_size", headwater_source::OptionValue::Count(1))])
            .unwrap();
    let kept = source.prepare(ScanRequest::all(table(&source, "kept").await)).await.unwrap();
    let few = source.prepare(ScanRequest::all(table(&source, "few").await)).await.unwrap();
    let mut counts = vec![];
    for query in 1..=6 {
        let context = QueryId::new(query).into();
        let rows: Vec<_> = few.open_for(0, &context).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows[0].num_rows(), 3);
        let kept: Vec<_> = kept.open_for(0, &context).await.unwrap().try_collect().await.unwrap();
        let shown = |column| arrow::util::display::array_value_to_string(kept[0].column(column), 0).unwrap();
        assert_eq!(shown(1), format!("shop-reader query={query}"));
        counts.push(shown(0));
    }
    assert_eq!(counts[2..], [counts[1].as_str(); 4], "queries of other numbers prepare nothing anew");
}
