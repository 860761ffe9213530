//! Prepared statements: what is planned once, and when it is planned anew.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use headwater::{Caller, Engine, Prepared, Session};
use headwater_source::ScalarValue;
use tempfile::TempDir;

use crate::sheet::{Sheet, items};

async fn rows(prepared: &Prepared, values: Vec<ScalarValue>) -> usize {
    let batches = prepared.execute(values).await.unwrap().collect().await.unwrap();
    batches.iter().map(|batch| batch.num_rows()).sum()
}

async fn shop() -> (Sheet, Session) {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    (shop, session)
}

/// An engine whose access file lets one user read one item.
pub(crate) async fn second_item_of_ada() -> (TempDir, Engine) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("access.yaml");
    let rules = "roles:\n  r: {members: [ada], grants: [{service: s, tables: [items], rows: \"id = 2\"}]}\n";
    std::fs::write(&file, rules).unwrap();
    let builder = Engine::builder().source("s", Arc::new(Sheet::new("s")), items()).access_file(&file);
    (directory, builder.build().await.unwrap())
}

#[tokio::test]
async fn statement_without_parameters_is_planned_once_for_its_first_execution() {
    let (shop, session) = shop().await;
    let prepared = session.prepare("SELECT id FROM shop.items WHERE id < 3").await.unwrap();
    assert_eq!(shop.times_asked(), 1);
    assert_eq!(prepared.schema().field(0).name(), "id");
    assert_eq!(rows(&prepared, vec![]).await, 2);
    assert_eq!(shop.times_asked(), 1, "the plan that was made is the plan that ran");
    assert_eq!(rows(&prepared, vec![]).await, 2);
    assert_eq!(rows(&prepared, vec![]).await, 2);
    assert_eq!(shop.times_asked(), 1, "later plans are made of the first one's draft");
}

#[tokio::test]
async fn what_a_source_prepared_for_the_moment_is_prepared_anew() {
    let (shop, session) = shop().await;
    shop.prepare_for_the_moment();
    let prepared = session.prepare("SELECT id FROM shop.items WHERE id < 3").await.unwrap();
    for times in 1..4 {
        assert_eq!(rows(&prepared, vec![]).await, 2);
        assert_eq!(shop.times_asked(), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_of_one_draft_share_nothing() {
    let (left, right) = (Sheet::new("left"), Sheet::new("right"));
    let session = Sheet::engine(&[&left, &right]).await.session();
    for (sql, count) in [
        ("SELECT l.id FROM left.items l JOIN right.items r ON l.id = r.id WHERE l.id > 1 ORDER BY l.id", 3),
        ("SELECT l.name, count(*) FROM left.items l LEFT JOIN right.items r ON l.name = r.name GROUP BY l.name", 4),
        ("SELECT id FROM left.items UNION ALL SELECT id FROM right.items LIMIT 7", 7),
        ("SELECT id FROM left.items WHERE id > (SELECT min(id) FROM right.items)", 3),
        ("SELECT id FROM left.items WHERE id NOT IN (SELECT id FROM right.items WHERE id < 3)", 2),
        ("SELECT id, row_number() OVER (ORDER BY id) FROM left.items ORDER BY id DESC LIMIT 2", 2),
    ] {
        let prepared = session.prepare(sql).await.unwrap();
        for _ in 0..3 {
            let answers = (0..8).map(|_| {
                let prepared = prepared.clone();
                tokio::spawn(async move { rows(&prepared, vec![]).await })
            });
            for answer in futures::future::join_all(answers.collect::<Vec<_>>()).await {
                assert_eq!(answer.unwrap(), count, "{sql}");
            }
        }
    }
}

#[tokio::test]
async fn each_execution_has_its_own_time() {
    let (shop, session) = shop().await;
    let prepared = session.prepare("SELECT id, now() FROM shop.items").await.unwrap();
    assert_eq!(shop.times_asked(), 0, "a plan with the time in it is not kept");
    let mut times = Vec::new();
    for _ in 0..2 {
        let batches = prepared.execute(vec![]).await.unwrap().collect().await.unwrap();
        times.push(arrow::util::display::array_value_to_string(batches[0].column(1), 0).unwrap());
    }
    assert_ne!(times[0], times[1]);
}

#[tokio::test]
async fn changed_settings_and_tables_are_planned_anew() {
    let (shop, session) = shop().await;
    session.sql("SET search_path = shop").await.unwrap();
    let prepared = session.prepare("SELECT * FROM items WHERE id < 3").await.unwrap();
    assert_eq!(shop.last_asked().filters.len(), 1);
    session.sql("SET headwater.pushdown = off").await.unwrap();
    assert_eq!(rows(&prepared, vec![]).await, 2);
    assert!(shop.last_asked().filters.is_empty(), "pushdown is off for it too");
    session.sql("SET search_path = ''").await.unwrap();
    assert!(prepared.execute(vec![]).await.is_err(), "the name is not found any more");
    session.sql("SET search_path = shop").await.unwrap();
    shop.rename_name_to("title");
    // The first plan is older than the table; what it learns is there for the next.
    let _stale = prepared.execute(vec![]).await;
    let answer = prepared.execute(vec![]).await.unwrap();
    assert_eq!(answer.schema().field(1).name(), "title");
}

#[tokio::test]
async fn values_differ_between_executions_of_one_plan() {
    let (shop, session) = shop().await;
    let prepared = session.prepare("SELECT id FROM shop.items WHERE id < $1").await.unwrap();
    assert_eq!(shop.times_asked(), 0);
    for (value, count) in [(2_i64, 1), (4, 3), (2, 1)] {
        assert_eq!(rows(&prepared, vec![ScalarValue::from(value)]).await, count);
    }
}

/// Statements whose plan serves whatever values are bound, and statements whose plan only seems to: each execution gives what its text with the values gives.
#[tokio::test]
async fn draft_with_other_values_gives_what_planning_with_them_gives() {
    let (left, right) = (Sheet::new("left"), Sheet::new("right"));
    let engine = Sheet::engine(&[&left, &right]).await;
    let (session, alone) = (engine.session(), engine.session());
    // With a context of its own it shares no drafts: each text is planned anew.
    let _own = alone.context();
    let join = "SELECT l.id, r.id FROM left.items l JOIN right.items r ON l.id = r.id WHERE l.id = $1 ORDER BY 1";
    for (sql, has_draft) in [
        ("SELECT * FROM left.items WHERE id = $1", true),
        ("SELECT id + 1, 3 FROM left.items WHERE $1 = id LIMIT 3", true),
        (join, true),
        (
            "SELECT r.id, count(*) FROM left.items l LEFT JOIN right.items r ON l.id = r.id WHERE l.id = $1 GROUP BY r.id",
            true,
        ),
        ("SELECT l.id FROM left.items l, right.items r WHERE l.id = $1 AND r.id = $2", true),
        // The values are two of one column, one of a constant's, or a number of rows.
        ("SELECT id FROM left.items WHERE id = $1 AND id = $2", false),
        ("SELECT id FROM left.items WHERE id = $1 OR id = $2", false),
        ("SELECT id FROM left.items WHERE id IN ($1, $2)", false),
        ("SELECT id FROM left.items WHERE id = $1 AND id > 1", false),
        ("SELECT id FROM left.items WHERE id > $1", false),
        ("SELECT id FROM left.items WHERE id = $1 + 1", false),
        ("SELECT id, $1 AS n FROM left.items WHERE id = $2", false),
        ("SELECT id FROM left.items WHERE id = $1 ORDER BY id LIMIT $2", false),
        ("SELECT id FROM left.items WHERE id = $1 AND EXISTS (SELECT 1 FROM right.items r WHERE r.id = 2)", false),
        ("SELECT id FROM left.items WHERE id = (SELECT max(id) FROM right.items WHERE id = $1)", false),
        ("SELECT id, CASE WHEN id = $1 THEN 1 ELSE 0 END AS n FROM left.items ORDER BY id", false),
        // Text is compared without case at the source, and again here.
        ("SELECT * FROM left.items WHERE name = $1", false),
    ] {
        let prepared = session.prepare(sql).await.unwrap();
        let is_text = sql.contains("name = ");
        let value = |number: i64| match is_text {
            true => (ScalarValue::from("b"), "'b'".to_owned()),
            false => (ScalarValue::from(number), number.to_string()),
        };
        let null = (ScalarValue::Int64(None), "NULL".to_owned());
        let pairs = [(2, 3), (3, 2), (1, 1), (4, 1), (i64::MAX, 0), (2, 2)].map(|(one, two)| (value(one), value(two)));
        for ((one, one_text), (two, two_text)) in pairs.into_iter().chain((!is_text).then(|| (null, value(1)))) {
            let written = sql.replace("$1", &one_text).replace("$2", &two_text);
            let expected = alone.sql(&written).await.unwrap().collect().await.unwrap();
            let values = [one, two].into_iter().take(prepared.parameters().fields().len()).collect();
            let answer = prepared.execute(values).await.unwrap().collect().await.unwrap();
            let shown = |batches: &[_]| {
                pretty_format_batches(batches).unwrap().to_string().lines().skip(3).collect::<Vec<_>>().join("\n")
            };
            assert_eq!(shown(&answer), shown(&expected), "{written}");
        }
        assert_eq!(format!("{prepared:?}").contains("draft: true"), has_draft, "{sql}");
    }
}

/// A rule that says what the first value says must not go with it.
#[tokio::test]
async fn row_filter_is_never_taken_for_a_parameter() {
    let (_directory, engine) = second_item_of_ada().await;
    let session = engine.session_as(&Caller::user("ada"));
    let prepared = session.prepare("SELECT id FROM s.items WHERE id = $1").await.unwrap();
    for (value, count) in [(2_i64, 1), (3, 0), (1, 0), (2, 1)] {
        assert_eq!(rows(&prepared, vec![ScalarValue::from(value)]).await, count, "{value}");
    }
}
