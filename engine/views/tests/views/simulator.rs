//! Random histories over random rows, a long list of queries, and after every epoch the judge.

use arrow::datatypes::{DataType, TimeUnit};

use crate::dice::Dice;
use crate::model::{CLOCK_US, Model, column};
use crate::world::World;

/// Queries over `t` and `u` of one service, `w` and the keyless `bag` of another.
pub(crate) const QUERIES: &[&str] = &[
    "SELECT * FROM t",
    "SELECT id, a + b AS sum, upper(s) AS s FROM t WHERE a > 0 OR s IS NULL",
    "SELECT * FROM bag",
    "SELECT a, s FROM bag WHERE a IS NOT NULL",
    // Joins.
    "SELECT t.id, u.id AS uid, t.s, u.d FROM t JOIN u ON t.a = u.a",
    "SELECT t.id, w.id AS wid FROM t JOIN w ON t.a = w.a AND t.b < w.b",
    "SELECT x.id, y.id AS yid FROM t x JOIN t y ON x.a = y.b",
    "SELECT t.id, bag.s FROM t, bag WHERE t.s = bag.s",
    "SELECT t.id, u.id AS uid FROM t CROSS JOIN u WHERE t.b > u.b",
    "SELECT t.id, u.id AS uid, w.id AS wid FROM t JOIN u ON t.a = u.a JOIN w ON u.b = w.b",
    "SELECT t.id, t.a, u.id AS uid, u.s FROM t LEFT JOIN u ON t.a = u.a",
    "SELECT t.id, u.id AS uid FROM t LEFT JOIN u ON t.a = u.a AND t.b > u.b",
    "SELECT t.id, w.id AS wid, w.s FROM t RIGHT JOIN w ON t.a = w.a",
    "SELECT t.id, w.id AS wid FROM t FULL JOIN w ON t.a = w.a AND t.s = w.s",
    "SELECT t.id, w.id AS wid FROM t FULL JOIN w ON t.a = w.a AND t.b > w.b",
    "SELECT x.id, y.id AS yid FROM t x LEFT JOIN t y ON x.a = y.b WHERE y.id IS NULL",
    "SELECT bag.a, bag.s, t.id FROM bag LEFT JOIN t ON bag.a = t.a AND bag.f IS NOT DISTINCT FROM t.f",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.s IS NOT DISTINCT FROM u.s",
    "SELECT t.id, u.id AS uid FROM t JOIN u ON t.f = u.f",
    "SELECT t.id, u.id AS uid FROM t LEFT JOIN u ON t.a > u.a",
    // Semi, anti, NOT IN, marks.
    "SELECT id, a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
    "SELECT id, a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a AND u.b > t.b)",
    "SELECT id, a FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
    "SELECT id, a FROM t WHERE NOT EXISTS (SELECT 1 FROM w WHERE w.a = t.a AND w.b <> t.b)",
    "SELECT id, a FROM t WHERE a IN (SELECT a FROM bag)",
    "SELECT id, a FROM t WHERE a NOT IN (SELECT a FROM u WHERE b > 2)",
    "SELECT id, a FROM t WHERE a NOT IN (SELECT a FROM w WHERE a IS NOT NULL AND b = 1)",
    "SELECT id, a FROM t WHERE a IN (SELECT a FROM u WHERE u.s = t.s) OR b > 2",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a) OR s = 'a'",
    "SELECT a, s FROM bag WHERE EXISTS (SELECT 1 FROM t WHERE t.a = bag.a)",
    // Aggregates.
    "SELECT a, count(*) AS n, count(b) AS nb, sum(b) AS sb, min(b) AS lo, max(b) AS hi FROM t GROUP BY a",
    "SELECT count(*) AS n, sum(a) AS sa, avg(a) AS aa, min(s) AS lo, max(s) AS hi, sum(d) AS sd, avg(d) AS ad FROM t",
    "SELECT s, sum(f) AS sf, avg(f) AS af, max(f) AS mf, min(f) AS lf FROM t GROUP BY s",
    "SELECT s, a, sum(d) AS sd, avg(d) AS ad, min(d) AS lo, max(dt) AS hi FROM bag GROUP BY s, a",
    "SELECT a, count(DISTINCT b) AS n FROM t GROUP BY a",
    "SELECT a, count(DISTINCT b) AS n, count(DISTINCT s) AS m, sum(b) AS sb FROM t GROUP BY a",
    "SELECT a, sum(DISTINCT b) AS n, avg(DISTINCT f) AS m FROM t GROUP BY a",
    "SELECT sum(DISTINCT b) AS n FROM t",
    "SELECT a, bool_and(o) AS every, bool_or(o) AS some FROM t GROUP BY a",
    "SELECT a, bit_and(b) AS x, bit_or(b) AS y, bit_xor(b) AS z FROM t GROUP BY a",
    "SELECT a, stddev(f) AS x, var_pop(f) AS y FROM u GROUP BY a",
    "SELECT stddev(b) AS x FROM u",
    "SELECT a, string_agg(s, ',' ORDER BY id) AS x, array_agg(b ORDER BY id) AS y FROM t GROUP BY a",
    "SELECT a, count(*) FILTER (WHERE b > 1) AS n, sum(b) FILTER (WHERE o) AS m FROM t GROUP BY a",
    "SELECT a, sum(b) AS sb FROM t GROUP BY a HAVING sum(b) > 2 AND count(*) > 1",
    "SELECT a % 2 AS p, count(*) AS n FROM t GROUP BY a % 2",
    "SELECT f, count(*) AS n FROM bag GROUP BY f",
    "SELECT u.s, sum(t.b) AS sb, count(*) AS n FROM t JOIN u ON t.a = u.a GROUP BY u.s",
    "SELECT a, b, grouping(a) AS g, sum(id) AS n FROM t GROUP BY ROLLUP (a, b)",
    "SELECT a, b, s, count(*) AS n, max(id) AS m FROM t GROUP BY CUBE (a, b, s)",
    "SELECT a, s, grouping(a, s) AS g, count(DISTINCT b) AS n, avg(d) AS m FROM bag GROUP BY GROUPING SETS ((a, s), (a), (a), (), ())",
    "SELECT a % 2 AS p, count(*) AS n, sum(b) FILTER (WHERE o) AS m FROM t WHERE b > 3 GROUP BY ROLLUP (a % 2) HAVING count(*) <> 1",
    "SELECT a, median(b) AS m FROM t GROUP BY CUBE (a)",
    "SELECT a, median(b) AS m FROM t GROUP BY a",
    "SELECT max(n) AS m FROM (SELECT a, count(*) AS n FROM t GROUP BY a)",
    // Sets.
    "SELECT DISTINCT a, s FROM t",
    "SELECT DISTINCT ON (a) a, id, s FROM t ORDER BY a, id",
    "SELECT a FROM t UNION ALL SELECT b FROM bag",
    "SELECT a, s FROM t UNION SELECT a, s FROM bag",
    "SELECT a FROM t INTERSECT SELECT a FROM u",
    "SELECT a, s FROM t EXCEPT SELECT a, s FROM bag",
    "SELECT a FROM t INTERSECT ALL SELECT a FROM u",
    "SELECT a FROM t EXCEPT ALL SELECT b FROM u",
    // Order.
    "SELECT id, a FROM t ORDER BY a DESC NULLS LAST, id LIMIT 3",
    "SELECT id, a FROM t ORDER BY a NULLS FIRST, id DESC LIMIT 4 OFFSET 2",
    "SELECT id, n FROM (SELECT id, a AS n FROM t ORDER BY b, id LIMIT 5) WHERE n > 0",
    "SELECT * FROM t ORDER BY id",
    // Subqueries.
    "SELECT id, b FROM t WHERE b > (SELECT avg(b) FROM u)",
    "SELECT id, b, (SELECT max(u.b) FROM u WHERE u.a = t.a) AS m FROM t",
    "SELECT id, b FROM t WHERE b = (SELECT min(u.b) FROM u WHERE u.a = t.a)",
    "SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t",
    "SELECT id, (SELECT u.s FROM u WHERE u.a = t.a ORDER BY u.id DESC LIMIT 1) AS last FROM t",
    "SELECT id, (SELECT u.s FROM u WHERE u.id = t.a) AS s FROM t",
    "SELECT t.id, x.id AS uid FROM t CROSS JOIN LATERAL (SELECT u.id FROM u WHERE u.a = t.a ORDER BY u.b, u.id LIMIT 2) x",
    "SELECT id, (SELECT count(*) FROM u WHERE u.a = t.a AND u.b > t.b) AS n FROM t",
    "WITH x AS (SELECT a, sum(b) AS sb FROM t GROUP BY a) SELECT l.a, r.sb FROM x l JOIN x r ON l.sb = r.a",
    // Windows.
    "SELECT id, row_number() OVER (PARTITION BY a ORDER BY id) AS n FROM t",
    "SELECT id, sum(b) OVER (PARTITION BY a ORDER BY id) AS n, rank() OVER (PARTITION BY a, s ORDER BY id) AS r FROM t",
    "SELECT id, lag(b) OVER (ORDER BY id) AS n FROM u",
    // The time.
    "SELECT id, ts FROM t WHERE ts > now() - interval '1 hour'",
    "SELECT a, ts FROM bag WHERE ts <= now()",
    "SELECT id FROM t WHERE ts BETWEEN now() - interval '2 hours' AND now() + interval '30 minutes' AND b > 0",
    "SELECT id FROM u WHERE now() NOT BETWEEN ts AND ts + interval '1 hour'",
    "SELECT id, dt FROM t WHERE dt = current_date OR dt < current_date - interval '11 days'",
    "SELECT id FROM w WHERE ts >= current_date AND NOT (ts + interval '90 minutes' < current_timestamp AND o)",
    "SELECT t.id FROM bag JOIN t ON bag.a = t.b WHERE CASE WHEN bag.o THEN bag.ts > now() ELSE t.ts < now() END",
    "SELECT a, count(*) AS n, max(ts) AS last FROM t WHERE ts < now() GROUP BY a HAVING max(ts) > now() - interval '2 hours'",
    "SELECT t.id, u.id AS uid FROM t LEFT JOIN (SELECT * FROM u WHERE ts > now()) u ON t.a = u.a",
    "SELECT id FROM t WHERE a IN (SELECT a FROM w WHERE ts > now() - interval '1 hour')",
    "SELECT id, row_number() OVER (PARTITION BY a ORDER BY id) AS n FROM t WHERE ts < now()",
    "SELECT id FROM t WHERE (ts > now()) IS NOT TRUE AND CAST(ts AS DATE) = current_date",
    // Others.
    "SELECT 1 AS one, 'x' AS x",
    "SELECT column1 AS a, t.id FROM (VALUES (1), (2)) v JOIN t ON t.a = column1",
    "SELECT id, unnest([a, b]) AS x FROM t",
    "WITH RECURSIVE r(n) AS (SELECT min(b) FROM u UNION ALL SELECT n + 1 FROM r WHERE n < 6) SELECT n FROM r",
    "SELECT CASE WHEN a > 1 THEN 'big' ELSE s END AS x, count(*) AS n FROM t GROUP BY 1",
    // Diamonds over views: view0 is `t`, view31 a global aggregate.
    "SELECT l.id, r.a FROM view0 l JOIN t r ON l.a = r.b",
    "SELECT v.a, v.n, t.id FROM view30 v JOIN t ON t.a = v.a",
];

pub(crate) fn sources() -> Vec<(&'static str, Vec<Model>)> {
    let columns = || {
        vec![
            column("id", DataType::Int64),
            column("a", DataType::Int64),
            column("b", DataType::Int32),
            column("s", DataType::Utf8),
            column("f", DataType::Float64),
            column("d", DataType::Decimal128(12, 2)),
            column("o", DataType::Boolean),
            column("dt", DataType::Date32),
            column("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ]
    };
    let one = vec![Model::new("t", columns(), Some(0)), Model::new("u", columns(), Some(0))];
    let other = vec![Model::new("w", columns(), Some(0)), Model::new("bag", columns(), None)];
    vec![("shop", one), ("stock", other)]
}

/// A history of transactions of two sources, cut into epochs at random.
pub(crate) fn play(seed: u64, queries: &[&str]) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(sources());
    for source in &mut world.sources {
        for model in &mut source.models {
            if !dice.once_in(4) {
                for _ in 0..dice.roll(8) {
                    model.insert(&mut dice);
                }
            }
        }
    }
    let mut clock = CLOCK_US * 1_000;
    world.views.set_clock(clock);
    world.load();
    queries.iter().for_each(|sql| {
        world.create(sql);
    });
    world.check(&format!("seed {seed}, loaded"));
    for epoch in 0..5 {
        for _ in 0..=dice.roll(4) {
            let source = dice.roll(world.sources.len());
            let mut changes = Vec::new();
            for _ in 0..=dice.roll(2) {
                let table = dice.roll(world.sources[source].models.len());
                changes.extend(world.sources[source].models[table].change(table, &mut dice));
            }
            world.offer(source, changes, vec![]);
        }
        // From nothing to hours, and to the very moment at which rows change. DataFusion cuts a literal to the microseconds of a column.
        clock += [0, 1_000, 600_000_000_000, 3_600_000_000_000, 26_000_000_000_000][dice.roll(5)];
        world.views.set_clock(clock);
        if dice.once_in(12) {
            let source = dice.roll(world.sources.len());
            world.load_source(source);
        }
        world.settle();
        world.check(&format!("seed {seed}, epoch {epoch}"));
    }
}
