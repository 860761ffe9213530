//! One state of a MariaDB that has no binary log to prove it by: what InnoDB shows of its read views does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headwater::Engine;
use headwater_sql_tests::canary;
use headwater_sql_tests::own::OwnServer;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use mysql_async::prelude::Queryable;

/// How long something may take that is waited for.
const DEADLINE: Duration = Duration::from_secs(90);

/// Each amount is ten, and moves from one end of the table to the other.
const LEDGER: &[&str] = &[
    "CREATE TABLE ledger (id BIGINT NOT NULL PRIMARY KEY, amount BIGINT NOT NULL) STATS_AUTO_RECALC=0",
    "INSERT INTO ledger SELECT seq, 10 FROM seq_1_to_400000",
    "ANALYZE TABLE ledger",
    "CREATE USER clerk@'%'",
    "GRANT SELECT ON test.* TO clerk@'%'",
];

async fn connect(url: &str) -> mysql_async::Conn {
    mysql_async::Conn::new(mysql_async::Opts::from_url(url).unwrap()).await.unwrap()
}

/// In how many parts the ledger was read, each of which ships one row. It adds up, whatever is written meanwhile.
async fn parts(engine: &Engine) -> u64 {
    let query = "SELECT count(*) AS n, sum(amount) AS total FROM shop.ledger WHERE amount > -1000000000";
    let answer = engine.sql(query).await.unwrap();
    let log = answer.remote_statements();
    let batches = answer.collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    assert!(text.contains("| 400000 | 4000000 |"), "{text}");
    let totals = log.totals();
    assert_eq!(totals.statements, totals.rows, "a part that asks nothing is no statement");
    totals.rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_without_a_binary_log_is_read_in_parts_of_one_state_unless_a_transaction_runs_on_beside_committed_ones()
{
    let server = OwnServer::mariadb(&["--skip-log-bin"]).await;
    let as_user = |user: &str| server.url().replace(&format!("headwater:{}", canary()), user);
    // Only the server's first user may make others.
    let mut conn = connect(&as_user("root")).await;
    for statement in LEDGER {
        conn.query_drop(*statement).await.unwrap();
    }
    let services = Services::new().with_mysql("shop", &server.url());
    let engine = services.engine().await;
    let is_divided = async || parts(&engine).await > 1;
    wait::until("nobody writes, and it is read in parts", DEADLINE, is_divided).await;

    // Transactions that are short and far between leave moments in which none runs.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (url, stop) = (server.url(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut conn = connect(&url).await;
            let mut turn = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                turn += 1;
                let (from, to) = (1 + turn % 1000, 399_000 - turn % 1000);
                for statement in [
                    "BEGIN".to_owned(),
                    format!("UPDATE ledger SET amount = amount - {} WHERE id = {from}", 1 + turn % 7),
                    format!("UPDATE ledger SET amount = amount + {} WHERE id = {to}", 1 + turn % 7),
                    "COMMIT".to_owned(),
                ] {
                    conn.query_drop(statement).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(turn % 4)).await;
            }
            turn
        })
    };
    let start = Instant::now();
    let mut in_parts = 0;
    while in_parts < 10 {
        in_parts += u32::from(parts(&engine).await > 1);
        assert!(start.elapsed() < DEADLINE, "{in_parts} were read in parts");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 10, "the writer wrote too little");

    // A view sees the transactions below a number, and that is all of it while nothing above is committed.
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE ledger SET amount = 0 WHERE id = 7").await.unwrap();
    wait::until("a transaction runs alone, and it is read in parts", DEADLINE, is_divided).await;
    connect(&server.url())
        .await
        .query_drop("UPDATE ledger SET amount = amount + 2 * id - 17 WHERE id IN (8, 9)")
        .await
        .unwrap();
    assert_eq!(parts(&engine).await, 1, "it runs beside one that is committed");
    conn.query_drop("ROLLBACK").await.unwrap();
    wait::until("it has ended", DEADLINE, is_divided).await;

    // What InnoDB shows is for those with the privilege PROCESS.
    let services = Services::new().with_mysql("shop", &as_user("clerk"));
    assert_eq!(parts(&services.engine().await).await, 1, "it may not see them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_and_single_statements_that_want_all_of_a_pool_do_not_wait_for_one_another() {
    let server = OwnServer::mariadb(&["--skip-log-bin"]).await;
    let mut conn = connect(&server.url().replace(&format!("headwater:{}", canary()), "root")).await;
    for statement in LEDGER {
        conn.query_drop(*statement).await.unwrap();
    }
    // Whoever waits for a connection as long as this waits for somebody who waits for it.
    let service = format!("connector: mysql, url: \"{}\", pool_size: 2, pool_wait_ms: 10000", server.url());
    let services = Services::new().with("shop", &service);
    let engine = services.engine().await;
    wait::until("it is read in parts", DEADLINE, async || parts(&engine).await > 1).await;
    let in_parts = (0..4).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                parts(&engine).await;
            }
        })
    });
    let single = (0..12).map(|id| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                let query = format!("SELECT amount FROM shop.ledger WHERE id = {}", id + 1);
                let found = engine.sql(&query).await.unwrap().collect().await.unwrap();
                assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
            }
        })
    });
    let asking: Vec<_> = in_parts.chain(single).collect();
    for task in asking {
        task.await.unwrap();
    }
}
