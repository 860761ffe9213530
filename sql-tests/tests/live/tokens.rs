//! Reading one's own writes: a service gets a token from its own database by SQL, and a query that demands it shows the write.

use std::time::Duration;

use headwater::ViewOptions;
use headwater_sql_tests::services::{Services, ask};

use crate::follow::{asked, create, engine, options};
use crate::store::{Databases, Store, TOKENS, sqlite};

const SCHEMA: &str = "CREATE TABLE notes (id bigint NOT NULL PRIMARY KEY, n bigint NOT NULL);";
const VIEW: (&str, &str) = ("notes", "SELECT id, n * 2 AS twice FROM bank.notes");

/// How often a write is read.
const WRITES: i64 = 30;

async fn reads_its_writes(services: &Services, store: &Store) {
    let engine = engine(services, options()).await;
    create(&engine, &[VIEW]).await;
    let session = engine.session();
    let mut connection = store.connect().await.unwrap();
    for n in 0..WRITES {
        let id = n % 10;
        let begin = store.begin();
        let write = format!("{begin}; DELETE FROM notes WHERE id = {id}; INSERT INTO notes VALUES ({id}, {n}); COMMIT");
        connection.run(&write).await.unwrap();
        let token = connection.token().await.unwrap();
        asked(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
        let shown = asked(&session, &format!("SELECT twice FROM v.notes WHERE id = {id}")).await;
        assert_eq!(shown.column(), [(2 * n).to_string()], "after the token {token}");
    }
    // The same in the middle of a transaction of others that never commits.
    let mut other = store.connect().await.unwrap();
    if !matches!(store, Store::Sqlite(..)) {
        other.run("BEGIN; INSERT INTO notes VALUES (100, 100)").await.unwrap();
    }
    connection.run("INSERT INTO notes VALUES (50, 50)").await.unwrap();
    let token = connection.token().await.unwrap();
    asked(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(asked(&session, "SELECT twice FROM v.notes WHERE id >= 50").await.column(), ["100"]);
}

/// A token that has not come: an error that names it, or the source itself.
async fn refuses_less(services: &Services, future: &str) {
    let options = ViewOptions { stale_wait: Duration::from_millis(300), ..options() };
    let engine = engine(services, options).await;
    create(&engine, &[VIEW]).await;
    let session = engine.session();
    asked(&session, &format!("SET headwater.at_least = '{{bank: {future}}}'")).await;
    for on_stale in ["wait", "error"] {
        asked(&session, &format!("SET headwater.on_stale = '{on_stale}'")).await;
        let error = ask(&session, "SELECT * FROM v.notes").await.unwrap_err();
        assert!(error.contains("\"v.notes\"") && error.contains(future), "{error}");
    }
    asked(&session, "SET headwater.on_stale = 'live'").await;
    let live = asked(&session, "SELECT id, twice FROM v.notes").await;
    let expected = asked(&session, "SELECT id, n * 2 AS twice FROM bank.notes").await;
    assert_eq!(live.difference(&expected), None);
    asked(&session, "SET headwater.at_least = '{bank: no token}'").await;
    assert!(ask(&session, "SELECT * FROM v.notes").await.unwrap_err().contains("token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn write_to_postgres_shows_once_its_token_is_demanded() {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    reads_its_writes(&services, &store).await;
    refuses_less(&services, "7FFFFFF/0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_to_mariadb_shows_once_its_token_is_demanded() {
    let mut databases = Databases::default();
    let (services, store) = databases.mariadb(Services::new(), "bank", SCHEMA).await;
    reads_its_writes(&services, &store).await;
    refuses_less(&services, "0-1-99999999999").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_to_sqlite_shows_once_its_token_is_demanded() {
    let (services, store) = sqlite(Services::new(), "bank", SCHEMA);
    reads_its_writes(&services, &store).await;
    refuses_less(&services, "99999999999").await;
}

#[test]
fn documentation_has_the_statements_that_give_tokens() {
    let page = include_str!("../../../docs/views.md");
    TOKENS.iter().for_each(|statement| assert!(page.contains(statement), "{statement}"));
}
