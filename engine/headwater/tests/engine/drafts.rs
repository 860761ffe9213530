//! Texts that are planned from the draft of another one: which share one, and that each is answered as if it were planned by itself.

use std::net::IpAddr;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::scalar::ScalarValue;
use headwater::{AuditLog, Caller, Engine, Session};
use serde_json::Value;
use tempfile::TempDir;

use crate::access::rows;
use crate::prepared::second_item_of_ada;
use crate::sheet::{Sheet, items};

async fn told(session: &Session, text: &str) -> String {
    let answer = session.sql(text).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&answer).unwrap().to_string()
}

/// A session that plans each text by itself.
fn alone(engine: &Engine) -> Session {
    let session = engine.session();
    let _own = session.context();
    session
}

#[tokio::test]
async fn third_text_of_a_shape_is_planned_from_the_draft_of_the_second() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    for (text, asked) in [
        ("SELECT id FROM shop.items WHERE id > 2", [1, 2, 2, 2]),
        ("SELECT id FROM shop.items WHERE id = 2", [3, 4, 4, 4]),
        // A value that the draft was not planned with is for the source to prepare; the draft stays as it is.
        ("select id from shop . items where id=3 -- again", [5, 6, 7, 8]),
        ("SELECT id FROM shop.items WHERE id = 2", [8, 8, 8, 8]),
    ] {
        for times in asked {
            // Each in a session of its own, as over a connection without cookies.
            told(&engine.session(), text).await;
            assert_eq!(shop.times_asked(), times, "{text}");
        }
    }
}

/// Texts that share a draft, and texts that only seem to.
#[tokio::test]
async fn texts_are_answered_as_if_each_was_planned_by_itself() {
    let (left, right) = (Sheet::new("left"), Sheet::new("right"));
    let engine = Sheet::engine(&[&left, &right]).await;
    let (session, alone) = (engine.session(), alone(&engine));
    for text in [
        "SELECT * FROM left.items WHERE id = ?",
        "SELECT id + 1, 3 FROM left.items WHERE ? = id LIMIT 3",
        "SELECT l.id, r.id FROM left.items l JOIN right.items r ON l.id = r.id WHERE l.id = ? ORDER BY 1",
        "SELECT r.id, count(*) FROM left.items l LEFT JOIN right.items r ON l.id = r.id WHERE l.id = ? GROUP BY r.id",
        "SELECT l.id FROM left.items l, right.items r WHERE l.id = ? AND r.id = !",
        "SELECT id FROM left.items WHERE id = ? AND id = !",
        "SELECT id FROM left.items WHERE id = ? OR id = !",
        "SELECT id FROM left.items WHERE id = ? AND id > 1",
        "SELECT id FROM left.items WHERE id = ? + 1",
        "SELECT id FROM left.items WHERE id = -?",
        "SELECT id, ? AS n FROM left.items WHERE id = !",
        "SELECT id = ? FROM left.items WHERE id = !",
        "SELECT id = ?, count(*) FROM left.items GROUP BY id = ? ORDER BY 1",
        "SELECT count(*) FILTER (WHERE id = ?) FROM left.items",
        "SELECT count(*) FROM left.items WHERE (id = ?) IS NOT NULL",
        "SELECT id FROM left.items WHERE id = ? ORDER BY id LIMIT !",
        "SELECT id FROM left.items WHERE id = ? AND EXISTS (SELECT 1 FROM right.items r WHERE r.id = !)",
        "SELECT id FROM left.items WHERE id = (SELECT max(id) FROM right.items WHERE id = ?)",
        "SELECT id, CASE WHEN id = ? THEN 1 ELSE 0 END AS n FROM left.items ORDER BY id",
        "WITH l AS (SELECT * FROM left.items WHERE id = ?) SELECT r.id FROM right.items r JOIN l ON l.id = r.id",
        "SELECT id FROM left.items WHERE id = ? UNION ALL SELECT id FROM right.items WHERE id = !",
        "SELECT l.id FROM left.items l LEFT JOIN right.items r ON l.id = r.id AND r.id = ? WHERE l.id = !",
        "SELECT id FROM left.items WHERE name = 'b' AND id = ?",
        "SELECT id FROM left.items WHERE id = 'x' = (id = ?)",
        "SELECT id FROM left.items WHERE name = '?'",
    ] {
        let values = ["2", "3", "2", "1", "9223372036854775807", "4", "2", "-2", "2.0", "'2'", "NULL", "'b'", "2"];
        for (one, two) in values.iter().zip(values.iter().skip(3).chain(&["2", "2", "2"])) {
            let text = text.replace('?', one).replace('!', two);
            let shown = |answer: Result<_, headwater::Error>| answer.map_err(|error| error.to_string());
            let of = async |session: &Session| match session.sql(&text).await {
                Ok(answer) => {
                    shown(answer.collect().await.map(|rows| pretty_format_batches(&rows).unwrap().to_string()))
                }
                Err(error) => shown(Err(error)),
            };
            let expected = of(&alone).await;
            for _ in 0..2 {
                assert_eq!(of(&session).await, expected, "{text}");
            }
            let prepared = match session.prepare(&text).await {
                Ok(prepared) => prepared,
                Err(error) => {
                    assert_eq!(Err(error.to_string()), expected, "{text}");
                    continue;
                }
            };
            for _ in 0..3 {
                let answer = prepared.execute(vec![]).await.unwrap().collect().await;
                let answer = shown(answer.map(|rows| pretty_format_batches(&rows).unwrap().to_string()));
                assert_eq!(answer, expected, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_prepared_again_is_not_planned_again() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let text = "SELECT id FROM shop.items WHERE id = $1";
    for (value, asked) in [(2_i64, 1), (2, 1), (3, 2), (1, 3)] {
        let prepared = engine.session().prepare(text).await.unwrap();
        assert_eq!((prepared.parameters().fields().len(), prepared.schema().fields().len()), (1, 1));
        let answer = prepared.execute(vec![ScalarValue::from(value)]).await.unwrap().collect().await.unwrap();
        assert_eq!(answer[0].num_rows(), 1);
        assert_eq!(shop.times_asked(), asked, "{value}");
    }
    for asked in [4, 4, 4] {
        let prepared = engine.session().prepare("SELECT name FROM shop.items WHERE id = 4").await.unwrap();
        assert_eq!(prepared.execute(vec![]).await.unwrap().collect().await.unwrap()[0].num_rows(), 1);
        assert_eq!(prepared.execute(vec![]).await.unwrap().collect().await.unwrap()[0].num_rows(), 1);
        assert_eq!(shop.times_asked(), asked);
    }
}

#[tokio::test]
async fn users_share_no_draft_and_a_right_that_is_taken_back_ends_one() {
    let directory = TempDir::new().unwrap();
    let (file, log) = (directory.path().join("access.yaml"), directory.path().join("audit.jsonl"));
    let grant = |user: &str, rows: &str| {
        format!("  {user}: {{members: [{user}], grants: [{{service: s, tables: [items], rows: \"{rows}\"}}]}}\n")
    };
    std::fs::write(&file, format!("roles:\n{}{}", grant("ada", "id <= 2"), grant("bob", "id > 2"))).unwrap();
    let sheet = Sheet::new("s");
    let builder = Engine::builder().source("s", Arc::new(sheet.clone()), items()).access_file(&file);
    let engine = builder.audit(AuditLog::open(&log).unwrap()).build().await.unwrap();
    let ask = async |user: &str, id: u32| {
        let caller = Caller::user(user).at("flight", IpAddr::from([10, 0, 0, 1]));
        rows(&engine.session_as(&caller), &format!("SELECT id FROM s.items WHERE id = {id}")).await.len()
    };
    for _ in 0..4 {
        for (user, seen) in [("ada", [1, 1, 0, 0]), ("bob", [0, 0, 1, 1])] {
            for (id, seen) in (1..).zip(seen) {
                assert_eq!(ask(user, id).await, seen, "{user} {id}");
            }
        }
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * 4 * 8);
    for line in &lines {
        assert_eq!(line["tables"][0]["columns"], serde_json::json!(["id"]), "{line}");
        assert_eq!((&line["kind"], &line["address"]), (&"query".into(), &"10.0.0.1".into()), "{line}");
    }
    assert_eq!(lines.iter().filter(|line| line["user"] == "ada").count(), lines.len() / 2);
    std::fs::write(&file, format!("roles:\n{}{}", grant("ada", "id > 2"), grant("bob", "id <= 2"))).unwrap();
    assert!(engine.reload_access().unwrap());
    for _ in 0..3 {
        assert_eq!((ask("ada", 1).await, ask("ada", 3).await, ask("bob", 1).await), (0, 1, 1));
    }
}

/// A rule's condition is no constant of the text, whatever its value.
#[tokio::test]
async fn row_filter_is_never_taken_for_a_constant_of_the_text() {
    let (_directory, engine) = second_item_of_ada().await;
    for text in [
        "SELECT id FROM s.items WHERE id = ?",
        "WITH unused AS (SELECT id FROM s.items WHERE id = ?) SELECT id FROM s.items",
        "SELECT i.id FROM s.items i LEFT JOIN (SELECT id FROM s.items WHERE id = ?) j ON false",
        "SELECT id FROM s.items WHERE id = ? OR true",
    ] {
        for value in [2, 2, 2, 3, 1, 3, 2] {
            let seen = rows(&engine.session_as(&Caller::user("ada")), &text.replace('?', &value.to_string())).await;
            assert!(seen.iter().all(|id| id == "2"), "{text} of {value}: {seen:?}");
            let is_all = text.contains("WITH") || text.contains("JOIN") || text.contains("OR");
            assert_eq!(seen.len(), usize::from(value == 2 || is_all), "{text} of {value}");
        }
    }
}

#[tokio::test]
async fn sessions_with_settings_or_functions_of_their_own_share_nothing() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let text = "SELECT id FROM shop.items WHERE id = 2";
    for _ in 0..3 {
        told(&engine.session(), text).await;
    }
    let without = engine.session();
    without.sql("SET headwater.pushdown = off").await.unwrap();
    for _ in 0..3 {
        told(&without, text).await;
        assert!(shop.last_asked().filters.is_empty());
    }
    told(&engine.session(), "SELECT id FROM shop.items WHERE id = 3").await;
    assert_eq!(shop.last_asked().filters.len(), 1);

    let text = "SELECT lower(name) FROM shop.items WHERE id = 2";
    for _ in 0..3 {
        assert!(told(&engine.session(), text).await.contains("| a "), "{}", told(&engine.session(), text).await);
    }
    let own = engine.session();
    let louder = Arc::new(|_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from("its own"))));
    let lower = create_udf("lower", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, louder);
    own.context().register_udf(lower);
    for _ in 0..3 {
        assert!(told(&own, text).await.contains("its own"));
        assert!(told(&engine.session(), text).await.contains("| a "));
    }
}

#[tokio::test]
async fn table_that_changed_is_read_as_it_is_now() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let session = engine.session();
    session.sql("SET search_path = shop").await.unwrap();
    for text in ["SELECT * FROM items WHERE id = 2", "SELECT * FROM items"] {
        for _ in 0..3 {
            assert!(told(&session, text).await.contains("| name "));
        }
    }
    shop.rename_name_to("title");
    let answer = told(&session, "SELECT * FROM items WHERE id = 3").await;
    assert!(answer.contains("| title "), "{answer}");
    let answer = told(&session, "SELECT * FROM items").await;
    assert!(answer.contains("| title "), "{answer}");
    session.sql("SET search_path = ''").await.unwrap();
    assert!(session.sql("SELECT * FROM items WHERE id = 2").await.is_err(), "the name is not found any more");
}

/// A list of files is of its moment: a plan from a draft reads those that are there now.
#[tokio::test]
async fn files_are_listed_anew_for_each_plan_from_a_draft() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path().join("sales");
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str, rows: &str| std::fs::write(folder.join(name), format!("id,total\n{rows}")).unwrap();
    file("a.csv", "1,10\n2,20\n");
    let manifest = "service: files\nsource: {connector: files, url: ./}\npublishes: {sales: {from: sales/}}\n";
    std::fs::write(directory.path().join("files.yaml"), manifest).unwrap();
    let builder = Engine::builder().services_dir(directory.path()).connectors(headwater_connectors::all());
    let engine = builder.build().await.unwrap();
    let text = "SELECT sum(total) FROM files.sales";
    let prepared = engine.session().prepare(text).await.unwrap();
    assert!(!prepared.execute(vec![]).await.unwrap().collect().await.unwrap().is_empty());
    for (name, lines, sum) in [("b.csv", "3,70\n", "100"), ("a.csv", "1,10\n", "80"), ("c.csv", "", "80")] {
        file(name, lines);
        for _ in 0..3 {
            assert_eq!(rows(&engine.session(), text).await, [sum], "{name}");
            let answer = prepared.execute(vec![]).await.unwrap().collect().await.unwrap();
            assert!(pretty_format_batches(&answer).unwrap().to_string().contains(&format!("| {sum} ")), "{name}");
        }
        assert!(format!("{prepared:?}").contains("draft: true"));
    }
}
