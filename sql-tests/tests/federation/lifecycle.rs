//! Services that come, go and change while they are asked, and clients that leave.

use std::time::{Duration, Instant};

use futures::StreamExt;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::proxy::Proxy;
use headwater_sql_tests::services::{Services, ask, error, rows};
use headwater_sql_tests::wait;

use headwater::Engine;

const DEADLINE: Duration = Duration::from_secs(30);

/// A million rows of some 100 bytes: more than any buffer on the way holds.
const MANY: u64 = 1_000_000;

async fn large_postgres() -> PostgresDatabase {
    let statement = format!(
        "CREATE UNLOGGED TABLE big AS SELECT i::bigint AS id, repeat('x', 100) AS pad FROM generate_series(1, {MANY}) i"
    );
    PostgresDatabase::with(&statement).await
}

async fn large_mysql() -> MysqlDatabase {
    let database = MysqlDatabase::with(
        "CREATE TABLE digits (d int); INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
    )
    .await;
    // A view of a million rows: nothing is stored, everything is computed as it is read.
    database
        .execute(
            "CREATE VIEW big AS SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d AS id, repeat('x', 100) AS pad \
             FROM digits a, digits b, digits c, digits e, digits f, digits g",
        )
        .await;
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_is_down_at_start_works_when_it_comes_back() {
    let database = PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (7)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (8)").await;
    let (before_pg, before_my) = (Proxy::before(&database.url()).await, Proxy::before(&mysql.url()).await);
    before_pg.cut();
    before_my.cut();
    let timeouts = "connect_timeout_ms: 2000";
    let services = Services::new()
        .with_sqlite("lite", "CREATE TABLE l (id INTEGER); INSERT INTO l VALUES (7), (8)")
        .with("pg", &format!("connector: postgres, url: \"{}\", {timeouts}", before_pg.url(&database.url())))
        .with("my", &format!("connector: mysql, url: \"{}\", {timeouts}", before_my.url(&mysql.url())));
    let engine = services.engine().await;
    assert_eq!(rows(&engine, "SELECT count(*) FROM lite.l").await.column(), ["2"]);
    for service in ["pg", "my"] {
        let message = error(&engine, &format!("SELECT * FROM {service}.t")).await;
        assert!(message.contains(&format!("\"{service}\"")) && message.contains("unavailable"), "{message}");
        assert!(!message.contains(&headwater_sql_tests::canary()), "the message has the password");
        let message = error(&engine, &format!("SELECT count(*) FROM lite.l JOIN {service}.t USING (id)")).await;
        assert!(message.contains(&format!("\"{service}\"")), "{message}");
    }
    before_pg.mend().await;
    before_my.mend().await;
    for (service, id) in [("pg", "7"), ("my", "8")] {
        assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.t")).await.column(), [id]);
        assert_eq!(
            rows(&engine, &format!("SELECT l.id FROM lite.l JOIN {service}.t t ON t.id = l.id")).await.column(),
            [id]
        );
    }
    // And again: connections that broke while they lay in the pool are not handed out.
    for _ in 0..2 {
        before_pg.cut();
        before_my.cut();
        for service in ["pg", "my"] {
            let message = error(&engine, &format!("SELECT * FROM {service}.t")).await;
            assert!(message.contains(&format!("\"{service}\"")), "{message}");
        }
        before_pg.mend().await;
        before_my.mend().await;
        for (service, id) in [("pg", "7"), ("my", "8")] {
            assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.t")).await.column(), [id]);
        }
    }
}

/// Reads a batch, breaks the source, and reads on: the stream must end in an error that names the service.
async fn breaks_mid_scan(engine: &Engine, service: &str, break_it: impl AsyncFnOnce()) {
    let mut stream = engine.sql(&format!("SELECT id, pad FROM {service}.big")).await.unwrap().into_stream().unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    break_it().await;
    let ended = wait::within("the stream ends", DEADLINE, async {
        let mut read = 0;
        while let Some(batch) = stream.next().await {
            match batch {
                Ok(batch) => read += batch.num_rows(),
                Err(error) => return Err(headwater::Error::from(error).report()),
            }
        }
        Ok(read)
    });
    match ended.await {
        Ok(read) => panic!("{service}: {read} rows were presented as the whole"),
        Err(message) => assert!(message.contains(&format!("\"{service}\"")), "{message}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_goes_away_mid_scan_is_an_error_and_never_a_short_answer() {
    let (postgres, mysql) = (large_postgres().await, large_mysql().await);
    let (before_pg, before_my) = (Proxy::before(&postgres.url()).await, Proxy::before(&mysql.url()).await);
    let services = Services::new()
        .with_postgres("pg", &postgres.url())
        .with_mysql("my", &mysql.url())
        .with_postgres("pg_net", &before_pg.url(&postgres.url()))
        .with_mysql("my_net", &before_my.url(&mysql.url()));
    let engine = services.engine().await;
    breaks_mid_scan(&engine, "pg", async || postgres.terminate_connections().await).await;
    breaks_mid_scan(&engine, "my", async || mysql.terminate_connections().await).await;
    breaks_mid_scan(&engine, "pg_net", async || before_pg.cut()).await;
    breaks_mid_scan(&engine, "my_net", async || before_my.cut()).await;
    // An aggregate has nothing to show but the error.
    before_pg.mend().await;
    let counting = tokio::spawn({
        let engine = engine.clone();
        async move { ask(&engine.session(), "SELECT count(DISTINCT pad || id) FROM pg_net.big").await }
    });
    wait::until("the scan runs", DEADLINE, async || postgres.running("big").await > 0 || counting.is_finished()).await;
    before_pg.cut();
    let message = wait::within("the query ends", DEADLINE, counting).await.unwrap().unwrap_err();
    assert!(message.contains("\"pg_net\""), "{message}");
    // The service itself is well.
    assert_eq!(rows(&engine, "SELECT id FROM pg.big WHERE id = 5").await.column(), ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_over_a_large_scan_stops_the_remote_statement() {
    let (postgres, mysql) = (large_postgres().await, large_mysql().await);
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    // A filter that stays local: the limit can't go down with it.
    for (service, name) in [("pg", "Postgres"), ("my", "MariaDB")] {
        let started = Instant::now();
        let found = rows(&engine, &format!("SELECT id FROM {service}.big WHERE length(pad) + id > 50 LIMIT 10")).await;
        assert_eq!(found.rows.len(), 10);
        assert!(started.elapsed() < Duration::from_secs(10), "{name} took {:?}", started.elapsed());
    }
    let short = Duration::from_secs(3);
    wait::until("Postgres runs nothing more", short, async || postgres.running("big").await == 0).await;
    wait::until("MariaDB runs nothing more", short, async || mysql.running("big").await == 0).await;
    // A dropped stream: a client that left.
    for service in ["pg", "my"] {
        let mut stream =
            engine.sql(&format!("SELECT id, pad FROM {service}.big")).await.unwrap().into_stream().unwrap();
        assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
        drop(stream);
    }
    wait::until("Postgres runs nothing more", short, async || postgres.running("big").await == 0).await;
    wait::until("MariaDB runs nothing more", short, async || mysql.running("big").await == 0).await;
    for service in ["pg", "my"] {
        assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.big WHERE id = 5")).await.column(), ["5"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_that_waits_at_the_source_is_stopped_when_its_client_leaves() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE VIEW slow AS SELECT id, pg_sleep(600)::text AS s FROM t").await;
    let mysql = MysqlDatabase::with(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE VIEW slow AS SELECT id, sleep(600) AS s FROM t",
    )
    .await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let engine = engine.clone();
        let asking =
            tokio::spawn(async move { ask(&engine.session(), &format!("SELECT s FROM {service}.slow")).await });
        let running =
            async || if service == "pg" { postgres.running("slow").await } else { mysql.running("slow").await };
        wait::until("the statement runs", DEADLINE, async || running().await > 0 || asking.is_finished()).await;
        assert!(!asking.is_finished(), "{service}: the statement sleeps");
        asking.abort();
        wait::until(&format!("{service} stops the statement"), Duration::from_secs(3), async || running().await == 0)
            .await;
    }
    for service in ["pg", "my"] {
        assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.t")).await.column(), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_timeout_is_an_error_that_names_service_and_option() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE VIEW slow AS SELECT id, pg_sleep(600)::text AS s FROM t").await;
    let mysql = MysqlDatabase::with(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE VIEW slow AS SELECT id, sleep(600) AS s FROM t",
    )
    .await;
    let timeout = "statement_timeout_ms: 2000";
    let services = Services::new()
        .with("pg", &format!("connector: postgres, url: \"{}\", {timeout}", postgres.url()))
        .with("my", &format!("connector: mysql, url: \"{}\", {timeout}", mysql.url()));
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let query = format!("SELECT s FROM {service}.slow");
        let message = wait::within("the statement times out", Duration::from_secs(10), error(&engine, &query)).await;
        assert!(message.contains(&format!("\"{service}\"")) && message.contains("statement_timeout_ms"), "{message}");
        assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.t")).await.column(), ["1"]);
    }
    wait::until("nothing runs", Duration::from_secs(3), async || {
        postgres.running("slow").await + mysql.running("slow").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_is_bounded_and_waiting_for_it_too() {
    let postgres =
        PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2), (3)").await;
    let services = Services::new()
        .with("pg", &format!("connector: postgres, url: \"{}\", pool_size: 3", postgres.url()))
        .with("my", &format!("connector: mysql, url: \"{}\", pool_size: 3", mysql.url()));
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let asking: Vec<_> = (0..40)
            .map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move {
                    ask(&engine.session(), &format!("SELECT count(*) FROM {service}.t WHERE id > 0")).await
                })
            })
            .collect();
        let mut most = 0;
        for task in asking {
            most = most.max(if service == "pg" { postgres.connections().await } else { mysql.connections().await });
            task.await.unwrap().unwrap_or_else(|error| panic!("{service}: {error}"));
        }
        // A cancel request of Postgres and a KILL of MariaDB come on a connection of their own.
        assert!((1..=4).contains(&most), "{service}: {most} connections");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn query_that_joins_a_service_with_itself_needs_no_more_connections_than_there_are() {
    let postgres =
        PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2), (3)").await;
    let services = Services::new()
        .with("pg", &format!("connector: postgres, url: \"{}\", pool_size: 1", postgres.url()))
        .with("my", &format!("connector: mysql, url: \"{}\", pool_size: 1", mysql.url()));
    let engine = services.engine().await;
    for (service, count) in [("pg", "1000"), ("my", "3")] {
        let query = format!(
            "SELECT count(*) FROM {service}.t a JOIN {service}.t b ON a.id = b.id JOIN {service}.t c ON b.id = c.id"
        );
        let found =
            wait::within("one connection is enough or there is an error", DEADLINE, ask(&engine.session(), &query))
                .await;
        match found {
            Ok(found) => assert_eq!(found.column(), [count]),
            Err(message) => {
                assert!(message.contains("waiting for a connection") && message.contains("pool_size"), "{message}")
            }
        }
    }
}

#[tokio::test]
async fn changed_schema_is_the_new_one_or_a_named_error_and_never_shifted_columns() {
    let change =
        ["ALTER TABLE t ADD COLUMN c int", "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t RENAME COLUMN b TO a"];
    let postgres =
        PostgresDatabase::with("CREATE TABLE t (id int, a text, b text); INSERT INTO t VALUES (1, 'a', 'b')").await;
    let mysql =
        MysqlDatabase::with("CREATE TABLE t (id int, a text, b text); INSERT INTO t VALUES (1, 'a', 'b')").await;
    let services = Services::new()
        .with_postgres("pg", &postgres.url())
        .with_mysql("my", &mysql.url())
        .with_sqlite("lite", "CREATE TABLE t (id INTEGER, a TEXT, b TEXT); INSERT INTO t VALUES (1, 'a', 'b')");
    let engine = services.engine().await;
    for service in ["pg", "my", "lite"] {
        assert_eq!(rows(&engine, &format!("SELECT * FROM {service}.t")).await.texts(), [["1", "a", "b"]]);
    }
    for (step, statement) in change.iter().enumerate() {
        postgres.execute(statement).await;
        mysql.execute(statement).await;
        services.sqlite("lite").execute_batch(statement).unwrap();
        for service in ["pg", "my", "lite"] {
            for query in [
                format!("SELECT a, b FROM {service}.t"),
                format!("SELECT a FROM {service}.t"),
                format!("SELECT b FROM {service}.t"),
            ] {
                match ask(&engine.session(), &query).await {
                    Ok(found) => {
                        for (index, (name, _)) in found.columns.iter().enumerate() {
                            let value = found.texts()[0][index].to_owned();
                            let expected = if step < 2 { name.as_str() } else { "b" };
                            assert_eq!(value, expected, "after {statement}: {query}");
                        }
                    }
                    Err(message) => {
                        let named = message.contains(service) || message.contains('a') || message.contains('b');
                        assert!(step > 0 && named, "after {statement}: {query}: {message}");
                    }
                }
            }
        }
    }
    for service in ["pg", "my", "lite"] {
        let found = rows(&engine, &format!("SELECT * FROM {service}.t")).await;
        assert_eq!(found.texts(), [["1", "b", "NULL"]], "{service} shows the new columns");
    }
}

#[tokio::test]
async fn column_whose_type_changed_is_never_read_as_the_old_type() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int, a int); INSERT INTO t VALUES (1, 65)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int, a int); INSERT INTO t VALUES (1, 65)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let answer = engine.sql(&format!("SELECT a FROM {service}.t WHERE a = 65")).await.unwrap();
        if service == "pg" {
            postgres.execute("ALTER TABLE t ALTER COLUMN a TYPE text USING a::text").await;
        } else {
            mysql.execute("ALTER TABLE t MODIFY COLUMN a varchar(10)").await;
        }
        let message = answer.collect().await.map(|batches| format!("{batches:?}")).unwrap_err().report();
        assert!(message.contains(&format!("\"{service}\"")) && message.contains("changed"), "{message}");
        assert_eq!(rows(&engine, &format!("SELECT a FROM {service}.t WHERE a = '65'")).await.column(), ["65"]);
    }
}

#[tokio::test]
async fn wrong_password_is_refused_access_and_not_shown() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int)").await;
    let wrong = |url: String| headwater_sql_tests::as_user(&url, "headwater", "canary");
    let services = Services::new().with_postgres("pg", &wrong(postgres.url())).with_mysql("my", &wrong(mysql.url()));
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let message = error(&engine, &format!("SELECT * FROM {service}.t")).await;
        assert!(message.contains(&format!("\"{service}\"")) && message.contains("refused access"), "{message}");
        assert!(!message.contains("canary"), "{message}");
        assert!(!format!("{engine:?}").contains("canary"));
    }
}

#[tokio::test]
async fn tls_is_verified_against_the_given_authority_and_names_what_is_wrong() {
    use headwater_sql_tests::mysql;
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let authority = headwater_sql_tests::postgres::certificate_authority();
    let mysql_authority = mysql::certificate_authority();
    let services = Services::new()
        .with(
            "pg",
            &format!(
                "connector: postgres, url: \"{}\", sslmode: verify-full, sslrootcert: \"{authority}\"",
                postgres.url()
            ),
        )
        .with(
            "my",
            &format!(
                "connector: mysql, url: \"{}\", sslmode: verify-full, sslrootcert: \"{mysql_authority}\"",
                mysql.url()
            ),
        )
        .with("pg_strange", &format!("connector: postgres, url: \"{}\", sslmode: verify-full", postgres.url()))
        .with("my_strange", &format!("connector: mysql, url: \"{}\", sslmode: verify-full", mysql.url()))
        .with("pg_require", &format!("connector: postgres, url: \"{}?sslmode=require\"", postgres.url()))
        .with("my_require", &format!("connector: mysql, url: \"{}?sslmode=require\"", mysql.url()));
    let engine = services.engine().await;
    for service in ["pg", "my", "pg_require", "my_require"] {
        assert_eq!(rows(&engine, &format!("SELECT id FROM {service}.t")).await.column(), ["1"], "{service}");
    }
    for service in ["pg_strange", "my_strange"] {
        let message = error(&engine, &format!("SELECT id FROM {service}.t")).await;
        assert!(
            message.contains(&format!("\"{service}\"")) && message.to_lowercase().contains("certificate"),
            "{message}"
        );
    }
}
