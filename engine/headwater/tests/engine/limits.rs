//! The limits of an engine: a query's time, how many queries and statements run, and what a session may do about it.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use headwater::{Engine, EngineBuilder, Error, ErrorKind, Limits, Published, Tables};

use crate::tap::{Flow, Tap};

const SHORT: Duration = Duration::from_millis(50);

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

fn with(tap: &Tap, limits: Limits) -> EngineBuilder {
    let drops = Published { name: "drops".to_owned(), from: "drops".to_owned(), key: None };
    Engine::builder().source("tap", Arc::new(tap.clone()), Tables::Named(vec![drops])).limits(limits)
}

async fn engine(tap: &Tap, limits: Limits) -> Engine {
    with(tap, limits).build().await.unwrap()
}

async fn closes(tap: &Tap) {
    let closed = async {
        while tap.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.expect("the statement is stopped");
}

const ALL: &str = "SELECT id FROM tap.drops";

#[tokio::test]
async fn query_past_its_deadline_ends_in_an_error_that_says_what_to_raise() {
    for flow in [Flow::Never, Flow::Once] {
        let tap = Tap::new(flow);
        let engine = engine(&tap, Limits { query_deadline: Some(SHORT), ..Limits::default() }).await;
        let error = engine.sql(ALL).await.unwrap().collect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let message = error.report();
        for part in ["50 ms", "query_deadline_ms", "headwater.query_deadline"] {
            assert!(message.contains(part), "{message}");
        }
        closes(&tap).await;
    }
}

#[tokio::test]
async fn deadline_stops_the_source_even_where_nobody_reads_on() {
    let tap = Tap::new(Flow::Once);
    let engine = engine(&tap, Limits { query_deadline: Some(SHORT), ..Limits::default() }).await;
    let mut stream = engine.sql(ALL).await.unwrap().into_stream().unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(tap.open(), 1);
    closes(&tap).await;
    let error = Error::from(stream.next().await.unwrap().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn session_tightens_its_deadline_and_the_engine_keeps_its_own() {
    let tap = Tap::new(Flow::Never);
    let engine = engine(&tap, Limits { query_deadline: Some(DEADLINE), ..Limits::default() }).await;
    let session = engine.session();
    let shown = async || {
        let batches = session.sql("SHOW headwater.query_deadline").await.unwrap().collect().await.unwrap();
        arrow::util::display::array_value_to_string(batches[0].column(1), 0).unwrap()
    };
    assert_eq!(shown().await, "30 s");
    session.sql("SET headwater.query_deadline = '50 ms'").await.unwrap();
    assert_eq!(shown().await, "50 ms");
    let error = session.sql(ALL).await.unwrap().collect().await.unwrap_err();
    assert!(error.report().contains("50 ms"), "{error}");
    for refused in ["'31 s'", "'soon'", "'30'"] {
        let error = session.sql(&format!("SET headwater.query_deadline = {refused}")).await.unwrap_err();
        assert!(error.report().contains("headwater.query_deadline"), "{error}");
    }
    session.sql("SET headwater.query_deadline = off").await.unwrap();
    assert_eq!(shown().await, "30 s");
}

#[tokio::test]
async fn engine_runs_so_many_queries_and_the_next_waits_for_one_to_end() {
    let tap = Tap::new(Flow::Once);
    let limits = Limits { queries_max: 1, query_wait: SHORT, ..Limits::default() };
    let engine = engine(&tap, limits).await;
    let mut running = engine.sql(ALL).await.unwrap().into_stream().unwrap();
    running.next().await.unwrap().unwrap();
    let error = engine.sql(ALL).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
    assert!(error.report().contains("1 queries") && error.report().contains("queries_max"), "{error}");
    // What reads nothing waits for nobody.
    let session = engine.session();
    for statement in ["SET headwater.pushdown = off", "SET search_path = tap", "EXPLAIN SELECT id FROM tap.drops"] {
        session.sql(statement).await.unwrap().collect().await.unwrap();
    }
    let mut waiting = engine.sql(ALL).await.unwrap().into_stream().unwrap();
    drop(running);
    assert!(waiting.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn full_store_is_an_error_that_names_the_service() {
    let tap = Tap::new(Flow::Once);
    let engine = engine(&tap, Limits { statements_max: 1, statement_wait: SHORT, ..Limits::default() }).await;
    let mut running = engine.sql(ALL).await.unwrap().into_stream().unwrap();
    running.next().await.unwrap().unwrap();
    let error = engine.sql(ALL).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
    assert!(error.report().contains("service \"tap\"") && error.report().contains("statements_max"), "{error}");
    drop(running);
    let mut next = engine.sql(ALL).await.unwrap().into_stream().unwrap();
    assert!(next.next().await.unwrap().is_ok());
}

/// A merge of three sorted inputs reads from all of them at once.
const THREE: &str = "SELECT count(*) FROM tap.drops a JOIN tap.drops b ON a.id = b.id JOIN tap.drops c ON b.id = c.id";

#[tokio::test(flavor = "multi_thread")]
async fn queries_with_three_statements_to_one_store_all_answer_under_a_limit_of_one() {
    for setting in ["datafusion.optimizer.prefer_hash_join = false", "datafusion.optimizer.prefer_hash_join = true"] {
        let tap = Tap::new(Flow::Batches(20));
        let engine = engine(&tap, Limits { statements_max: 1, ..Limits::default() }).await;
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let session = engine.session();
                tokio::spawn(async move {
                    session.sql(&format!("SET {setting}")).await?;
                    session.sql(THREE).await?.collect().await
                })
            })
            .collect();
        for asked in asking {
            let batches = tokio::time::timeout(DEADLINE, asked).await.expect("in time").unwrap().unwrap();
            let count = arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap();
            assert_eq!(count, "2000");
        }
        assert!(tap.most() <= 4, "one, and the three of the query that goes over: {}", tap.most());
        assert_eq!(tap.open(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn query_with_more_statements_than_the_limit_answers() {
    let tap = Tap::new(Flow::Batches(3));
    let engine = engine(&tap, Limits { statements_max: 2, ..Limits::default() }).await;
    let union = [ALL; 12].join(" UNION ALL ");
    let ordered = format!("SELECT count(*) FROM (SELECT * FROM ({union}) u ORDER BY id)");
    let batches = tokio::time::timeout(DEADLINE, engine.sql(&ordered).await.unwrap().collect()).await.unwrap().unwrap();
    let count = arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap();
    assert_eq!(count, "3600");
}

#[tokio::test]
async fn limits_of_the_engine_are_not_a_sessions_to_change() {
    let tap = Tap::new(Flow::Once);
    let session = engine(&tap, Limits::default()).await.session();
    for statement in [
        "SET datafusion.runtime.memory_limit = '100G'",
        "set DataFusion.Runtime.temp_directory = '/'",
        "SET \"datafusion\".\"runtime\".\"max_temp_directory_size\" = '100G'",
        "RESET datafusion.runtime.memory_limit",
    ] {
        let error = session.sql(statement).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{statement}: {error}");
        assert!(error.report().contains("whole engine"), "{error}");
    }
}

#[tokio::test]
async fn limit_that_cannot_be_met_is_refused_when_the_engine_is_built() {
    let tap = Tap::new(Flow::Once);
    let error = with(&tap, Limits { queries_max: 0, ..Limits::default() }).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.report().contains("queries_max"), "{error}");
}

#[tokio::test]
async fn dropped_answer_closes_its_streams_and_gives_its_turn_back() {
    let tap = Tap::new(Flow::Never);
    let engine = engine(&tap, Limits { queries_max: 1, ..Limits::default() }).await;
    for _ in 0..3 {
        let stream = engine.sql(ALL).await.unwrap().into_stream().unwrap();
        let reading = tokio::time::timeout(SHORT, stream.try_collect::<Vec<_>>());
        assert!(reading.await.is_err(), "no row ever comes");
        closes(&tap).await;
    }
}
