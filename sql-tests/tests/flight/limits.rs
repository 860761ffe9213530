//! The limits of an engine over real sources, and the file that sets them.

use std::process::{Output, Stdio};
use std::time::Duration;

use headwater::{Engine, Limits};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tokio::process::Command;

use headwater_sql_tests::process::headwater;

/// How scans are known among the statements that run.
const SCAN: &str = "counted_";

const DEADLINE: Duration = Duration::from_secs(60);

async fn engine(services: &Services, limits: Limits) -> Engine {
    let connectors = headwater_connectors::all();
    Engine::builder().services_dir(services.manifests()).connectors(connectors).limits(limits).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_three_statements_to_one_database_all_answer_under_a_limit_of_one() {
    let filled = |rows: &str| {
        let table = |name| format!("CREATE TABLE {name} (id bigint); INSERT INTO {name} SELECT {rows};");
        ["counted_a", "counted_b", "counted_c"].map(table).concat()
    };
    let postgres = PostgresDatabase::with(&filled("generate_series(1, 20000)")).await;
    let mysql = MysqlDatabase::with(&filled("seq FROM seq_1_to_20000")).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = engine(&services, Limits { statements_max: 1, ..Limits::default() }).await;
    for service in ["pg", "my"] {
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let session = engine.session();
                tokio::spawn(async move {
                    // Three scans, read side by side by a merge of sorted inputs.
                    session.sql("SET headwater.pushdown = off").await?;
                    session.sql("SET datafusion.optimizer.prefer_hash_join = false").await?;
                    let query = format!(
                        "SELECT a.id FROM {service}.counted_a a JOIN {service}.counted_b b ON a.id = b.id \
                         JOIN {service}.counted_c c ON b.id = c.id"
                    );
                    session.sql(&query).await?.collect().await
                })
            })
            .collect();
        let mut most = 0;
        for asked in asking {
            let running = if service == "pg" { postgres.running(SCAN).await } else { mysql.running(SCAN).await };
            most = most.max(running);
            let batches = wait::within("every query answers", DEADLINE, asked).await.unwrap();
            let batches = batches.unwrap_or_else(|error: headwater::Error| panic!("{service}: {}", error.report()));
            assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 20_000);
        }
        assert!(most <= 4, "{service}: {most} statements, where one query runs one and another three");
    }
}

async fn asked(services: &Services, config: &str, statement: &str) -> Output {
    let file = services.directory().join("headwater.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(headwater());
    command.arg("sql").arg("--services").arg(services.manifests()).arg("--config").arg(&file).arg(statement);
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output();
    wait::within("the command ends", DEADLINE, output).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn file_sets_the_limits_of_the_command_line_and_its_faults_are_told() {
    let services = Services::new().with_sqlite("lite", "CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1), (2)");
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let endless = "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b, lite.t \
                   WHERE a.value + b.value < t.id";
    let late = asked(&services, "limits: {query_deadline_ms: 500}", endless).await;
    assert_eq!(late.status.code(), Some(1), "{}", said(&late));
    assert!(said(&late).contains("500 ms") && said(&late).contains("query_deadline_ms"), "{}", said(&late));
    let fine = asked(&services, "limits: {query_deadline_ms: 60000}", "SELECT id FROM lite.t").await;
    assert!(fine.status.success(), "{}", said(&fine));
    assert!(said(&fine).contains("1 remote statement, 2 rows"), "{}", said(&fine));
    let faulty = asked(&services, "limits:\n  memry_bytes: 1\n", "SELECT 1").await;
    assert_eq!(faulty.status.code(), Some(1));
    let expected = "headwater.yaml:2: limits.memry_bytes: unknown key \"memry_bytes\"; did you mean \"memory_bytes\"?";
    assert!(said(&faulty).contains(expected), "{}", said(&faulty));
}
