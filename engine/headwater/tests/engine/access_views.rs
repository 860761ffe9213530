//! Materialized views and who may read them: what their inputs forbid, what names them, who makes them, and what they answer.

use headwater::ErrorKind;

use crate::access::{World, refusal, rows, told};

const ACCESS: &str = "roles:
  all: {members: [root], grants: [{service: \"*\"}], defines: [\"*\"], monitors: true}
  orders: {members: [ada], grants: [{service: orders}]}
  ids: {members: [bob], grants: [{service: orders, tables: [orders], columns: [id]}]}
  few: {members: [eve], grants: [{service: orders, tables: [orders], rows: \"id < 3\"}, {service: orders, tables: [lines]}]}
  sums: {members: [dan], grants: [{view: v.sums}, {view: v.big, rows: \"id < 8\", masks: {amount: \"0\"}}]}
  maker: {members: [ada, eve], defines: [made]}
";

async fn world() -> World {
    let world = World::new(ACCESS).await;
    let root = world.user("root");
    for statement in [
        "CREATE MATERIALIZED VIEW v.big AS SELECT id, amount FROM orders.orders WHERE amount >= 20",
        "CREATE MATERIALIZED VIEW v.ids AS SELECT id FROM orders.orders",
        "CREATE MATERIALIZED VIEW v.sums AS SELECT count(*) AS n, sum(amount) AS total FROM orders.orders",
        "CREATE MATERIALIZED VIEW v.over AS SELECT total FROM v.sums",
    ] {
        rows(&root, statement).await;
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn view_is_there_for_who_may_read_its_inputs_and_for_whom_a_grant_names_it() {
    let world = world().await;
    let views = "SELECT schema || '.' || name FROM headwater.views ORDER BY 1";
    assert_eq!(rows(&world.user("ada"), views).await, ["v.big", "v.ids", "v.over", "v.sums"]);
    assert_eq!(rows(&world.user("bob"), views).await, ["v.ids"]);
    assert_eq!(rows(&world.user("eve"), views).await, Vec::<String>::new());
    // Who may read the sums may read what is made of them alone.
    assert_eq!(rows(&world.user("dan"), views).await, ["v.big", "v.over", "v.sums"]);
    for (user, statement, expected) in [
        ("ada", "SELECT total FROM v.sums", Some("450")),
        ("bob", "SELECT count(*) FROM v.ids", Some("10")),
        ("bob", "SELECT total FROM v.sums", None),
        ("eve", "SELECT total FROM v.sums", None),
        ("eve", "SELECT total FROM v.over", None),
        ("dan", "SELECT total FROM v.sums", Some("450")),
        ("dan", "SELECT total FROM v.over", Some("450")),
        ("dan", "SELECT count(*), max(id), max(amount) FROM v.big", Some("6|7|0")),
        ("dan", "SELECT count(*) FROM v.ids", None),
        ("dan", "SELECT count(*) FROM orders.orders", None),
    ] {
        let session = world.user(user);
        match expected {
            Some(row) => assert_eq!(rows(&session, statement).await, [row], "{user}: {statement}"),
            None => assert_eq!(refusal(&session, statement).await.0, ErrorKind::NotFound, "{user}: {statement}"),
        }
    }
    // Where a view is read from its services, it is for everybody who may read it, and shows the same rows.
    let dan = world.user("dan");
    rows(&dan, "SET headwater.max_staleness = '0 ms'").await;
    rows(&dan, "SET headwater.on_stale = live").await;
    world.orders.take_down();
    world.orders.bring_back();
    assert_eq!(rows(&dan, "SELECT total FROM v.sums").await, ["450"]);
    let text = rows(&dan, "EXPLAIN SELECT total FROM v.sums").await.join("\n");
    assert!(!text.contains("orders.orders"), "{text}");
    let (kind, _) = refusal(&dan, "EXPLAIN ANALYZE SELECT total FROM v.sums").await;
    assert_eq!(kind, ErrorKind::Denied);
    rows(&dan, "SELECT id FROM v.big WHERE 1 / (id - 9) < 5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn query_of_a_view_and_its_numbers_are_told_to_who_may_read_its_inputs() {
    let world = world().await;
    let told_of = "SELECT definition IS NULL, rows IS NULL, vector IS NULL FROM headwater.views WHERE name = 'sums'";
    assert_eq!(rows(&world.user("ada"), told_of).await, ["false|false|false"]);
    assert_eq!(rows(&world.user("dan"), told_of).await, ["true|true|true"]);
    let definition = "SELECT definition IS NULL FROM information_schema.views WHERE table_name = 'sums'";
    assert_eq!(rows(&world.user("ada"), definition).await, ["false"]);
    assert_eq!(rows(&world.user("dan"), definition).await, ["true"]);
    let sql = |views: Vec<(String, String, String)>| views.into_iter().find(|view| view.1 == "sums").map(|view| view.2);
    assert!(sql(world.user("ada").materialized_views()).unwrap().contains("orders.orders"));
    assert_eq!(sql(world.user("dan").materialized_views()).unwrap(), "");
    assert_eq!(sql(world.user("eve").materialized_views()), None);
    rows(&world.user("ada"), "EXPLAIN MATERIALIZED VIEW v.sums").await;
    assert_eq!(refusal(&world.user("dan"), "EXPLAIN MATERIALIZED VIEW v.sums").await.0, ErrorKind::Denied);
    let (_, hidden) = refusal(&world.user("eve"), "EXPLAIN MATERIALIZED VIEW v.sums").await;
    assert!(hidden.contains("there is none of that name"), "{hidden}");
    assert_eq!(rows(&world.user("ada"), "SELECT count(*) FROM headwater.feeds").await, ["1"]);
    assert_eq!(rows(&world.user("bob"), "SELECT count(*) FROM headwater.feeds").await, ["0"]);
    assert_eq!(rows(&world.user("dan"), "SELECT count(*) FROM headwater.freshness").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_made_by_who_defines_in_the_schema_and_reads_the_inputs_whole() {
    let world = world().await;
    let (ada, bob, eve) = (world.user("ada"), world.user("bob"), world.user("eve"));
    let create = |name: &str, query: &str| format!("CREATE MATERIALIZED VIEW {name} AS {query}");
    rows(&ada, &create("made.all", "SELECT * FROM orders.orders")).await;
    assert_eq!(rows(&ada, "SELECT count(*) FROM made.all").await, ["10"]);
    for (session, statement) in [
        (&ada, create("v.mine", "SELECT id FROM orders.orders")),
        (&bob, create("made.mine", "SELECT id FROM orders.orders")),
        (&eve, create("made.mine", "SELECT id FROM orders.orders")),
        (&eve, create("made.mine", "SELECT l.id FROM orders.lines l WHERE l.id IN (SELECT id FROM orders.orders)")),
        (&ada, "DROP MATERIALIZED VIEW v.sums".to_owned()),
        (&ada, "DROP MATERIALIZED VIEW IF EXISTS v.sums".to_owned()),
        (&ada, "REFRESH MATERIALIZED VIEW v.sums".to_owned()),
        (&bob, "DROP MATERIALIZED VIEW made.all".to_owned()),
    ] {
        let (kind, error) = refusal(session, &statement).await;
        assert!(kind == ErrorKind::Denied && error.contains("permission denied"), "{statement}: {error}");
    }
    assert_eq!(refusal(&eve, &create("made.mine", "SELECT * FROM stock.stock")).await.0, ErrorKind::NotFound);
    rows(&eve, &create("made.lines", "SELECT id FROM orders.lines")).await;
    rows(&ada, "REFRESH MATERIALIZED VIEW made.all").await;
    rows(&ada, "DROP MATERIALIZED VIEW made.all").await;
    let (_, error) = refusal(&ada, "DROP MATERIALIZED VIEW made.none").await;
    assert!(error.contains("there is none of that name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_answer_nobody_who_may_not_read_their_inputs_as_they_are() {
    let world = world().await;
    let query = "SELECT id, amount FROM orders.orders WHERE amount >= 20";
    for (user, is_read) in [("ada", true), ("root", true), ("eve", false)] {
        let session = world.user(user);
        rows(&session, "SET headwater.max_staleness = '1 h'").await;
        let explained = rows(&session, &format!("EXPLAIN {query}")).await.join("\n");
        assert_eq!(explained.contains("v.big read"), is_read, "{user}: {explained}");
        assert_eq!(explained.contains("v.big"), is_read, "{user}: {explained}");
        let expected = if is_read { 8 } else { 1 };
        assert_eq!(rows(&session, query).await.len(), expected, "{user}");
    }
    // A view that reads more of the table than may be read is not named, and one that does not answers.
    let bob = world.user("bob");
    rows(&bob, "SET headwater.max_staleness = '1 h'").await;
    let explained = rows(&bob, "EXPLAIN SELECT id FROM orders.orders WHERE id > 3").await.join("\n");
    assert!(explained.contains("v.ids read") && !explained.contains("v.big"), "{explained}");
    assert_eq!(rows(&bob, "SELECT count(*) FROM orders.orders WHERE id > 3").await, ["6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_is_for_who_may_read_the_whole_view_and_ends_with_the_right() {
    use futures::StreamExt;
    let world = world().await;
    let dan = world.user("dan");
    let (kind, error) = refusal(&dan, "SUBSCRIBE TO v.big WITH SNAPSHOT").await;
    assert!(kind == ErrorKind::Denied && error.contains("permission denied to subscribe"), "{error}");
    let (_, hidden) = refusal(&world.user("eve"), "SUBSCRIBE TO v.big").await;
    assert!(hidden.contains("there is none of that name") && !hidden.contains("did you mean"), "{hidden}");
    assert!(world.user("eve").prepare("SUBSCRIBE TO v.big").await.is_err());
    let answer = dan.sql("SUBSCRIBE TO v.sums WITH SNAPSHOT").await.unwrap();
    let mut batches = answer.into_stream().unwrap();
    batches.next().await.unwrap().unwrap();
    world.write(&ACCESS.replace("{view: v.sums}, ", ""));
    world.engine.reload_access().unwrap();
    world.orders.commit(&[("orders", 100, Some(1))]);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), batches.next()).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("what you may read has changed"));
    assert!(told(&dan, "SUBSCRIBE TO v.sums").await.is_err());
}
