//! Plan shapes in which a pushed filter, limit or order loses or adds rows.

use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::services::{Reference, both_ways};

async fn everywhere() -> (Everywhere, Reference) {
    let t = (0..200).map(|id| format!("({id}, {}, 'g{}')", (id * 37) % 101, id % 7)).collect::<Vec<_>>().join(", ");
    let u = (0..60).map(|id| format!("({id}, {})", if id % 5 == 0 { "NULL".to_owned() } else { (id * 3).to_string() }));
    let u = u.collect::<Vec<_>>().join(", ");
    let statements = |text: &str| {
        format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, g {text}); INSERT INTO t VALUES {t}; \
             CREATE TABLE u (id int PRIMARY KEY, t_id int); INSERT INTO u VALUES {u}"
        )
    };
    let everywhere = Everywhere::with(&statements("text"), &statements("varchar(10)"), &statements("TEXT")).await;
    let reference = Reference::copy(&everywhere.engine, &["pg.t", "my.t", "lite.t", "pg.u", "my.u", "lite.u"]).await;
    (everywhere, reference)
}

/// `{t}` and `{u}` are of one service, `{x}` is `u` of another.
async fn check(queries: &[&str]) {
    let (everywhere, reference) = everywhere().await;
    for (service, other) in [("pg", "my"), ("my", "lite"), ("lite", "pg")] {
        for query in queries {
            let query = query
                .replace("{t}", &format!("{service}.t"))
                .replace("{u}", &format!("{service}.u"))
                .replace("{x}", &format!("{other}.u"));
            reference.agrees(&everywhere.engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}

#[tokio::test]
async fn filter_above_a_limit_stays_above_it() {
    check(&[
        "SELECT * FROM (SELECT id, v FROM {t} ORDER BY id LIMIT 10) WHERE v > 50",
        "SELECT * FROM (SELECT id, v FROM {t} ORDER BY v DESC, id LIMIT 10) AS top WHERE id < 100",
        "SELECT count(*) FROM (SELECT id FROM {t} LIMIT 10) WHERE id >= 0",
        "SELECT count(*) FROM (SELECT id FROM {t} LIMIT 10 OFFSET 195)",
        "SELECT id FROM {t} ORDER BY id LIMIT 5 OFFSET 198",
        "SELECT id FROM (SELECT id, v FROM {t} ORDER BY v, id LIMIT 20) ORDER BY id DESC LIMIT 3",
        "SELECT id FROM (SELECT id, v FROM {t} ORDER BY v, id LIMIT 3) ORDER BY id DESC LIMIT 20",
        "SELECT count(*) FROM (SELECT id FROM {t} WHERE v > 10 LIMIT 7)",
        "SELECT count(*) FROM (SELECT id FROM {t} WHERE g LIKE 'g1%' LIMIT 7)",
        "SELECT count(*) FROM (SELECT id FROM {t} WHERE g LIKE 'g1%' AND v + 0 > 10 LIMIT 7)",
        "SELECT count(*) FROM (SELECT * FROM {t} LIMIT 0)",
        "SELECT max(n) FROM (SELECT count(*) AS n FROM {t} GROUP BY g ORDER BY n LIMIT 2)",
        "SELECT * FROM (SELECT g, max(v) AS m FROM {t} GROUP BY g ORDER BY g LIMIT 3) WHERE m > 95",
        "WITH top AS (SELECT id, v FROM {t} ORDER BY v, id LIMIT 5) SELECT * FROM top a JOIN top b ON a.id = b.id WHERE a.v < 3",
    ])
    .await;
}

#[tokio::test]
async fn limit_on_an_input_of_a_join_is_kept() {
    check(&[
        "SELECT count(*) FROM (SELECT id FROM {t} ORDER BY id LIMIT 5) a CROSS JOIN {u}",
        "SELECT a.id, u.id FROM (SELECT id FROM {t} ORDER BY id DESC LIMIT 30) a JOIN {u} u ON u.t_id = a.id",
        "SELECT a.id, u.id FROM (SELECT id FROM {t} ORDER BY id LIMIT 30) a LEFT JOIN {x} u ON u.t_id = a.id",
        "SELECT id FROM {t} WHERE id IN (SELECT t_id FROM {u} ORDER BY id DESC LIMIT 3)",
        "SELECT id FROM {t} WHERE id IN (SELECT t_id FROM {x} ORDER BY id LIMIT 3)",
        "SELECT id FROM (SELECT id FROM {t} ORDER BY id LIMIT 20) a WHERE NOT EXISTS (SELECT 1 FROM {u} u WHERE u.t_id = a.id)",
        "SELECT id FROM (SELECT id FROM {t} ORDER BY v, id LIMIT 20) a WHERE EXISTS (SELECT 1 FROM {x} u WHERE u.t_id = a.id)",
        "SELECT a.id FROM {t} a JOIN {x} u ON a.id = u.t_id ORDER BY a.v, a.id LIMIT 4",
    ])
    .await;
}

#[tokio::test]
async fn outer_join_keeps_the_rows_that_a_filter_may_not_drop() {
    check(&[
        "SELECT a.id, b.id FROM {t} a FULL JOIN {u} b ON a.id = b.t_id WHERE a.v > 90 OR b.id < 5",
        "SELECT a.id, b.id FROM (SELECT * FROM {t} WHERE v > 90) a FULL JOIN {x} b ON a.id = b.t_id",
        "SELECT a.id, b.id FROM {t} a FULL JOIN {u} b ON a.id = b.t_id AND a.v > 90",
        "SELECT a.id, b.id FROM {t} a LEFT JOIN {u} b ON a.id = b.t_id AND b.id > 20",
        "SELECT a.id, b.id FROM {t} a LEFT JOIN {u} b ON a.id = b.t_id WHERE b.id > 20",
        "SELECT a.id FROM {t} a LEFT JOIN {u} b ON a.id = b.t_id WHERE b.id IS NULL",
        "SELECT a.id, b.id FROM {t} a RIGHT JOIN {x} b ON a.id = b.t_id WHERE a.v IS NULL OR a.v < 50",
        "SELECT a.id, b.id FROM {t} a LEFT JOIN {u} b ON a.id = b.t_id AND a.g = 'g1'",
        "SELECT count(*) FROM {t} a FULL JOIN {x} b ON a.id = b.t_id",
    ])
    .await;
}

#[tokio::test]
async fn subquery_is_never_an_error_nor_another_answer() {
    check(&[
        "SELECT id FROM {t} WHERE id IN (SELECT t_id FROM {u})",
        "SELECT id FROM {t} WHERE id NOT IN (SELECT t_id FROM {u} WHERE t_id IS NOT NULL)",
        "SELECT id FROM {t} WHERE id NOT IN (SELECT t_id FROM {x})",
        "SELECT id FROM {t} WHERE v = (SELECT max(v) FROM {t})",
        "SELECT id, (SELECT count(*) FROM {u} b WHERE b.t_id = a.id) FROM {t} a WHERE a.id < 30",
        "SELECT id FROM {t} a WHERE v > (SELECT avg(v) FROM {t} b WHERE b.g = a.g)",
        "SELECT id FROM {t} WHERE v IN (SELECT v FROM {t} WHERE g = 'g1') OR id IN (SELECT t_id FROM {x})",
        "SELECT id FROM {t} WHERE (SELECT count(*) FROM {x}) = 60 AND id < 3",
    ])
    .await;
}

#[tokio::test]
async fn names_and_columns_that_are_computed_or_absent_mean_what_they_say() {
    check(&[
        "SELECT count(*) FROM {t}",
        "SELECT 1 FROM {t} WHERE id < 3",
        "SELECT count(*) FROM {t} WHERE v > 50",
        "SELECT count(*), count(1) FROM {t} a CROSS JOIN {x} b",
        "SELECT -id AS v FROM {t} ORDER BY v LIMIT 3",
        "SELECT id AS v, v AS id FROM {t} ORDER BY v DESC LIMIT 3",
        "SELECT v AS id FROM {t} ORDER BY id, v LIMIT 3",
        "SELECT v + 1 AS v FROM {t} WHERE v = 5",
        "SELECT id FROM (SELECT v AS id, id AS v FROM {t}) WHERE v = 5",
        "SELECT a.id FROM {t} AS a, {t} AS b WHERE a.id = b.v AND b.id = 7",
        "SELECT a.id, b.id FROM {t} a JOIN {t} b ON a.v = b.v WHERE a.id < 5 AND b.id > 100",
        "SELECT id, id AS again FROM {t} WHERE id = 1",
        "SELECT g, sum(v) AS s FROM {t} GROUP BY g HAVING sum(v) > 1400 ORDER BY s",
        "SELECT g FROM {t} GROUP BY g ORDER BY count(*) DESC, g LIMIT 2",
        "SELECT DISTINCT g FROM {t} ORDER BY g LIMIT 3",
        "SELECT id FROM {t} WHERE id = 1 OR id = 2 OR (v > 99 AND g <> 'g3')",
        "SELECT id FROM {t} WHERE NOT (id > 3 AND NOT (v < 10)) AND id < 20",
        "SELECT id FROM {t} WHERE true AND 1 = 1 AND id < 2",
        "SELECT id FROM {t} WHERE false",
        "SELECT id FROM {t} WHERE 1 = 2 OR id = 3",
        "SELECT id FROM {t} UNION ALL SELECT id FROM {x} ORDER BY 1 LIMIT 5",
        "SELECT id, row_number() OVER (ORDER BY v, id) FROM {t} ORDER BY id LIMIT 5",
        "SELECT * FROM (SELECT id, rank() OVER (PARTITION BY g ORDER BY v) AS r FROM {t}) WHERE r = 1 AND id < 100",
        "SELECT unnest([id, v]) FROM {t} WHERE id < 3",
        "SELECT g, count(*) FILTER (WHERE v > 50) FROM {t} GROUP BY g",
        "SELECT g, v > 50, count(*) FROM {t} GROUP BY ROLLUP (g, v > 50)",
        "VALUES (1), (2)",
    ])
    .await;
}

#[tokio::test]
async fn volatile_function_is_neither_pushed_nor_run_twice() {
    let (everywhere, _) = everywhere().await;
    for service in ["pg", "my", "lite"] {
        let query = format!("SELECT count(DISTINCT r) FROM (SELECT random() AS r FROM {service}.t)");
        assert_eq!(both_ways(&everywhere.engine, &query).await.unwrap().column(), ["200"], "a value for each row");
        let query = format!(
            "SELECT count(*) FROM (SELECT r AS a, r AS b FROM (SELECT random() AS r FROM {service}.t)) WHERE a <> b"
        );
        assert_eq!(both_ways(&everywhere.engine, &query).await.unwrap().column(), ["0"], "one value for each row");
        let query = format!("SELECT count(DISTINCT n) FROM (SELECT now() AS n FROM {service}.t)");
        assert_eq!(both_ways(&everywhere.engine, &query).await.unwrap().column(), ["1"], "one instant for a query");
        let query = format!("SELECT count(*) FROM {service}.t WHERE random() >= 0.0 AND id < 10");
        assert_eq!(both_ways(&everywhere.engine, &query).await.unwrap().column(), ["10"]);
    }
}
