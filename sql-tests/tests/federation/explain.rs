//! What EXPLAIN says of filters that go down, that are checked again and that stay; values never appear in the statements.

use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::services::{Pushdown, ask, rows, session};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;

/// The physical plan's lines about remote scans, without the paths that change from run to run.
fn remote_lines(plan: &Rows) -> String {
    let physical = plan.texts().into_iter().find(|row| row[0] == "physical_plan").map(|row| row[1].to_owned());
    let physical = physical.unwrap_or_else(|| panic!("EXPLAIN shows a physical plan: {:?}", plan.texts()));
    physical
        .lines()
        .map(str::trim_end)
        .filter(|line| line.contains("Remote"))
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The sizes of files written by another version of Arrow would differ.
fn without_sizes(text: &str) -> String {
    let mut parts = text.split("bytes=");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("bytes=N");
        kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    kept
}

async fn everywhere() -> Everywhere {
    Everywhere::with(
        "CREATE TABLE t (id bigint PRIMARY KEY, s text COLLATE \"C\", loc text, d double precision, n numeric(10,2), j jsonb, day date, u uuid)",
        "CREATE TABLE t (id bigint PRIMARY KEY, s varchar(20) COLLATE utf8mb4_nopad_bin, loc varchar(20), d double, n decimal(10,2), j json, day date, u uuid)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, loc TEXT COLLATE NOCASE, d DOUBLE, n DECIMAL(10,2), j JSON, day DATE, u TEXT)",
    )
    .await
}

#[tokio::test]
async fn explain_shows_what_goes_down_and_why_the_rest_stays() {
    let everywhere = everywhere().await;
    for service in ["pg", "my", "lite"] {
        let mut shown = Vec::new();
        for (what, test) in [
            ("integer", "id = 4711 AND id < 4799"),
            ("bytewise text", "s = 'secret' OR s IS NULL"),
            ("text under a collation", "loc = 'secret' AND loc < 'secret2'"),
            ("float", "d > 47.11"),
            ("decimal", "n >= 47.11"),
            ("json", "j = '{}'"),
            ("date", "day BETWEEN DATE '2024-01-01' AND DATE '2024-12-31'"),
            ("list", "id IN (4711, 4712, 4713, 4714, 4715)"),
            ("pattern", "s LIKE 'secret%'"),
            ("function", "upper(s) = 'SECRET'"),
            ("nothing", "true"),
        ] {
            let plan = rows(&everywhere.engine, &format!("EXPLAIN SELECT id FROM {service}.t WHERE {test}")).await;
            shown.push(format!("{what}\n{}", remote_lines(&plan)));
        }
        let plan = rows(
            &everywhere.engine,
            &format!("EXPLAIN SELECT s FROM {service}.t WHERE id > 4711 ORDER BY id DESC LIMIT 10"),
        )
        .await;
        shown.push(format!("top 10\n{}", remote_lines(&plan)));
        let plan =
            rows(&everywhere.engine, &format!("EXPLAIN SELECT s FROM {service}.t WHERE id > 4711 LIMIT 10")).await;
        shown.push(format!("limit\n{}", remote_lines(&plan)));
        let off = session(&everywhere.engine, Pushdown::Off).await;
        let plan = ask(&off, &format!("EXPLAIN SELECT s FROM {service}.t WHERE id > 4711 ORDER BY id LIMIT 10"))
            .await
            .unwrap();
        shown.push(format!("pushdown off\n{}", remote_lines(&plan)));
        for text in &shown {
            // What the source is sent holds no value; what stays local is the user's own filter, shown to the user.
            let sent = text.split(", local=[").next().unwrap();
            assert!(!sent.contains("4711") && !sent.contains("secret"), "a value is in the statement: {text}");
        }
        insta::assert_snapshot!(
            format!("explain_{service}"),
            headwater_sql_tests::without_guesses(&shown.join("\n\n")).replace(everywhere.mysql.name(), "DATABASE")
        );
    }
}

#[tokio::test]
async fn filter_that_stays_local_is_evaluated_once() {
    let everywhere = everywhere().await;
    for (service, other) in [("pg", "lite"), ("my", "pg"), ("lite", "my")] {
        for (test, evaluated) in
            [("abs(a.d) > 47.11", "abs(d@"), ("upper(a.s) = 'SECRET'", "upper(s@"), ("upper(a.j) = '{}'", "upper(j@")]
        {
            // Beneath an alias, a join and a subquery too.
            for query in [
                format!("SELECT a.id FROM {service}.t AS a WHERE {test} LIMIT 3"),
                format!("SELECT b.id FROM {other}.t AS b JOIN {service}.t AS a ON a.id = b.id WHERE {test}"),
                format!("SELECT id FROM {other}.t WHERE id IN (SELECT id FROM {service}.t AS a WHERE {test})"),
            ] {
                let plan = rows(&everywhere.engine, &format!("EXPLAIN {query}")).await;
                let plan = plan.texts().into_iter().find(|row| row[0] == "physical_plan").unwrap()[1].to_owned();
                let filters: Vec<&str> = plan.lines().filter(|line| line.contains("FilterExec")).collect();
                let times: usize = filters.iter().map(|line| line.matches(evaluated).count()).sum();
                assert_eq!(times, 1, "{query}: {evaluated} in {filters:?}");
            }
        }
    }
}

#[tokio::test]
async fn explain_shows_how_files_are_read() {
    let services = Services::new().with_files("files");
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let s: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("s", s, true)]).unwrap();
    let file = std::fs::File::create(services.folder("files").join("t.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::write(services.folder("files").join("c.csv"), "id,s\n1,a\n2,b\n").unwrap();
    let engine = services.engine().await;
    let mut shown = Vec::new();
    for query in [
        "SELECT s FROM files.t WHERE id = 4711",
        "SELECT s FROM files.c WHERE s > 'secret' AND length(s) = 1",
        "SELECT count(*) FROM files.t",
    ] {
        shown.push(remote_lines(&rows(&engine, &format!("EXPLAIN {query}")).await));
    }
    let directory = services.directory().canonicalize().unwrap().display().to_string();
    insta::assert_snapshot!("explain_files", without_sizes(&shown.join("\n").replace(&directory, "DIRECTORY")));
}

#[tokio::test]
async fn explain_analyze_counts_rows_bytes_and_time_of_each_remote_statement() {
    let everywhere = Everywhere::with_texts(&[Some("a"), Some("b"), None]).await;
    for service in ["pg", "my", "lite"] {
        let plan = rows(&everywhere.engine, &format!("EXPLAIN ANALYZE SELECT s FROM {service}.t WHERE id < 2")).await;
        let text = plan.texts().into_iter().flatten().collect::<Vec<_>>().join("\n");
        for part in ["RemoteScanExec", "rows=2", "bytes=", "elapsed="] {
            assert!(text.contains(part), "{service}: {part} in {text}");
        }
        let answer = everywhere.engine.sql(&format!("SELECT s FROM {service}.t WHERE id < 2")).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        let statements = log.statements();
        assert_eq!(statements.len(), 1);
        assert_eq!(
            (statements[0].service.as_str(), statements[0].rows, statements[0].statements),
            (service, 2, 1),
            "{statements:?}"
        );
    }
}

#[tokio::test]
async fn rows_that_the_answer_does_not_need_are_not_shipped() {
    let everywhere = Everywhere::with(
        "CREATE TABLE t (id bigint PRIMARY KEY, v int); INSERT INTO t SELECT i, i % 10 FROM generate_series(1, 1000) i",
        "CREATE TABLE t (id bigint PRIMARY KEY, v int); INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000) SELECT x, x % 10 FROM c",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER NOT NULL); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000) INSERT INTO t SELECT x, x % 10 FROM c",
    )
    .await;
    for service in ["pg", "my", "lite"] {
        for (query, most) in [
            ("SELECT v FROM {t} WHERE id = 7", 1),
            ("SELECT v FROM {t} WHERE id BETWEEN 11 AND 20", 10),
            ("SELECT id FROM {t} ORDER BY id DESC LIMIT 3", 3),
            ("SELECT id FROM {t} LIMIT 5", 5),
            ("SELECT id FROM {t} WHERE id > 100 ORDER BY id LIMIT 3 OFFSET 2", 5),
            ("SELECT id FROM {t} WHERE id IN (1, 2, 3) OR id > 998", 5),
        ] {
            let answer = everywhere.engine.sql(&query.replace("{t}", &format!("{service}.t"))).await.unwrap();
            let log = answer.remote_statements();
            answer.collect().await.unwrap();
            let shipped: u64 = log.statements().iter().map(|statement| statement.rows).sum();
            assert!(shipped <= most, "{service}: {query} shipped {shipped} rows: {}", log.statements()[0].statement);
        }
    }
}
