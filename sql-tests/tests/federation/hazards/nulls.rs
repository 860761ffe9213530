//! NULLs in orders, sets and arrays.

use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, both_ways};

async fn everywhere() -> Everywhere {
    let rows =
        "INSERT INTO t VALUES (1, NULL, 'x'), (2, 5, NULL), (3, 1, 'y'), (4, NULL, NULL), (5, 5, 'x'), (6, 1, 'y')";
    Everywhere::with(
        &format!("CREATE TABLE t (id int, v int, s text); {rows}"),
        &format!("CREATE TABLE t (id int, v int, s varchar(10)); {rows}"),
        &format!("CREATE TABLE t (id INTEGER, v INTEGER, s TEXT); {rows}"),
    )
    .await
}

#[tokio::test]
async fn null_sorts_last_unless_the_query_says_otherwise() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for (order, first) in [
        ("v", "1"),
        ("v ASC NULLS FIRST", "NULL"),
        ("v ASC NULLS LAST", "1"),
        ("v DESC", "NULL"),
        ("v DESC NULLS LAST", "5"),
        ("v DESC NULLS FIRST", "NULL"),
    ] {
        for answer in everywhere.agrees(&reference, &format!("SELECT v FROM {{t}} ORDER BY {order} LIMIT 1")).await {
            assert_eq!(answer.unwrap().column(), [first], "{order}");
        }
        for query in [
            format!("SELECT id FROM {{t}} ORDER BY {order}, id LIMIT 3"),
            format!("SELECT id FROM {{t}} ORDER BY {order}, id LIMIT 2 OFFSET 2"),
            format!("SELECT id, v FROM {{t}} WHERE id > 1 ORDER BY {order}, id DESC LIMIT 3"),
            format!("SELECT id FROM {{t}} ORDER BY s, {order}, id LIMIT 4"),
        ] {
            everywhere.agrees(&reference, &query).await;
        }
    }
}

#[tokio::test]
async fn null_in_a_set_makes_not_in_unknown() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for answer in everywhere.agrees(&reference, "SELECT id FROM {t} WHERE v NOT IN (1, NULL)").await {
        assert!(answer.unwrap().rows.is_empty());
    }
    for answer in everywhere.agrees(&reference, "SELECT id FROM {t} WHERE id NOT IN (SELECT v FROM {t})").await {
        assert!(answer.unwrap().rows.is_empty());
    }
    for query in [
        "SELECT id FROM {t} WHERE v IN (1, NULL)",
        "SELECT id FROM {t} WHERE NOT (v IN (1, NULL))",
        "SELECT id FROM {t} WHERE v NOT IN (1)",
        "SELECT id FROM {t} WHERE NOT (v = 1)",
        "SELECT id FROM {t} WHERE NOT (v = 1 AND s = 'y')",
        "SELECT id FROM {t} WHERE NOT (v = 1 OR s = 'y')",
        "SELECT id FROM {t} WHERE v = NULL",
        "SELECT id FROM {t} WHERE v <> NULL OR id = 1",
        "SELECT id FROM {t} WHERE v IS DISTINCT FROM 1",
        "SELECT id FROM {t} WHERE v IS NOT DISTINCT FROM NULL",
        "SELECT id FROM {t} WHERE (v = 1) IS NULL",
        "SELECT id FROM {t} WHERE (v = 1) IS NOT TRUE",
        "SELECT id FROM {t} WHERE (v = 1) IS UNKNOWN",
        "SELECT id FROM {t} WHERE coalesce(v, 0) = 0",
        "SELECT id FROM {t} WHERE nullif(v, 5) IS NULL",
        "SELECT id FROM {t} WHERE v IS NULL AND s IS NOT NULL",
        "SELECT id FROM {t} WHERE v IS NULL OR s = 'y'",
        "SELECT id FROM {t} WHERE v = v",
        "SELECT id FROM {t} WHERE v = id",
        "SELECT id FROM {t} WHERE NOT v BETWEEN 1 AND 3",
        "SELECT id FROM {t} WHERE v BETWEEN NULL AND 3",
        "SELECT id FROM {t} WHERE v NOT BETWEEN 2 AND NULL",
        "SELECT id FROM {t} WHERE s LIKE NULL",
        "SELECT id FROM {t} WHERE NOT (s LIKE 'x%')",
        "SELECT id FROM {t} WHERE CASE WHEN v = 1 THEN NULL ELSE true END",
        "SELECT id FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.v = a.id)",
        "SELECT id FROM {t} a WHERE NOT EXISTS (SELECT 1 FROM {t} b WHERE b.v = a.id)",
    ] {
        for answer in everywhere.agrees(&reference, query).await {
            answer.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}

#[tokio::test]
async fn null_is_one_group_and_no_value() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for query in [
        "SELECT v, s, count(*) FROM {t} GROUP BY v, s",
        "SELECT DISTINCT v, s FROM {t}",
        "SELECT count(DISTINCT v), count(v), count(*), sum(v), avg(v) FROM {t}",
        "SELECT count(*) FROM (SELECT DISTINCT v, s FROM {t})",
        "SELECT sum(v) FROM {t} WHERE id > 100",
        "SELECT count(v), max(s) FROM {t} WHERE false",
        "SELECT v FROM {t} UNION SELECT id FROM {t}",
        "SELECT v FROM {t} INTERSECT SELECT id FROM {t}",
        "SELECT v FROM {t} EXCEPT SELECT id FROM {t}",
        "SELECT v, s FROM {t} UNION ALL SELECT NULL, 'z'",
        "SELECT a.id, b.id FROM {t} a FULL JOIN {t} b ON a.v = b.id",
        "SELECT v, sum(id) OVER (PARTITION BY v ORDER BY id) FROM {t}",
    ] {
        for answer in everywhere.agrees(&reference, query).await {
            answer.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}

#[tokio::test]
async fn nulls_inside_arrays_are_kept() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, ints int[], texts text[], empty int[]); INSERT INTO t VALUES \
         (1, '{1,NULL,3}', '{a,NULL,\"NULL\",\"\",\"q\\\"uote\"}', '{}'), (2, NULL, NULL, NULL), (3, '[5:6]={7,8}', '{x}', '{}'); \
         CREATE TABLE nested (id int, squares int[]); INSERT INTO nested VALUES (1, '{{1,2},{3,NULL}}')",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT ints, texts FROM pg.t WHERE id = 1").await.unwrap();
    assert_eq!(found.texts(), [["[1, , 3]", "[a, , NULL, , q\"uote]"]]);
    assert_eq!(
        both_ways(&engine, "SELECT texts[2] IS NULL, texts[3] = 'NULL' FROM pg.t WHERE id = 1").await.unwrap().texts(),
        [["true", "true"]]
    );
    assert_eq!(both_ways(&engine, "SELECT id FROM pg.t WHERE ints IS NULL").await.unwrap().column(), ["2"]);
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for query in [
        "SELECT ints, empty FROM pg.t",
        "SELECT id, unnest(ints) FROM pg.t WHERE id = 1",
        "SELECT ints[1], array_length(ints) FROM pg.t",
        "SELECT id FROM pg.t WHERE array_has(ints, 3)",
    ] {
        reference.agrees(&engine, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    // More dimensions than the type tells are an error that says so, never a flattened list.
    let message = both_ways(&engine, "SELECT squares FROM pg.nested").await.unwrap_err();
    assert!(message.contains("\"squares\"") && message.contains("dimensions"), "{message}");
    assert_eq!(both_ways(&engine, "SELECT id FROM pg.nested").await.unwrap().column(), ["1"]);
}
