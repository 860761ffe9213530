//! Questions over two databases of which one is asked with the keys of the other: what is shipped, and that the answer stays that of a
//! local copy, also where the keys turn out otherwise than the statistics say.

use arrow::util::pretty::pretty_format_batches;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services};

const CRM: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text, country text);
    INSERT INTO customers SELECT n, 'name ' || n, CASE WHEN n % 100 = 0 THEN 'fr' ELSE 'c' || n % 100 END FROM generate_series(1, 2000) n;
    CREATE TABLE visits (id int PRIMARY KEY, customer int, page text);
    INSERT INTO visits SELECT n, CASE WHEN n = 7 THEN NULL WHEN n = 8 THEN 9 ELSE n END, 'p' || n % 3 FROM generate_series(1, 200) n;
    CREATE TABLE grown (id int, kind text);
    INSERT INTO grown SELECT n, 'a' FROM generate_series(1, 10) n;
    ANALYZE;
    INSERT INTO grown SELECT n, 'a' FROM generate_series(11, 70000) n;
";

const SHOP: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, customer int, status text, price numeric(15,2), placed date);
    INSERT INTO orders SELECT n, CASE WHEN n % 50 = 0 THEN NULL ELSE n * 7 % 2100 END, 's' || n % 5, n * 1.25 % 1000,
        CASE WHEN n % 9 = 0 THEN NULL ELSE DATE '2024-01-01' + n % 300 END FROM generate_series(1, 20000) n;
    CREATE INDEX ON orders (customer);
    ANALYZE;
";

const TABLES: &[&str] = &["crm.customers", "crm.visits", "crm.grown", "shop.orders"];

/// Each with the most rows that it may ship.
const QUERIES: &[(u64, &str)] = &[
    // 20 keys, then five groups.
    (
        25,
        "SELECT status, count(*), sum(price), avg(price) FROM shop.orders WHERE customer IN \
         (SELECT id FROM crm.customers WHERE country = 'fr') GROUP BY status",
    ),
    (
        25,
        "SELECT o.status, max(o.price), count(DISTINCT o.placed) FROM shop.orders o JOIN crm.customers c ON c.id = o.customer \
         WHERE c.country = 'fr' GROUP BY o.status",
    ),
    (21, "SELECT count(*) FROM shop.orders o JOIN crm.customers c ON o.customer = c.id WHERE c.country = 'fr'"),
    // The other side's key is one of the groups' keys, and that is the order's customer too.
    (
        50,
        "SELECT c.id, count(*) FROM crm.customers c JOIN shop.orders o ON o.customer = c.id WHERE c.country = 'fr' GROUP BY c.id",
    ),
    // No key comes: nothing is asked, and there is still one row.
    (
        0,
        "SELECT count(*), sum(price) FROM shop.orders WHERE customer IN (SELECT id FROM crm.customers WHERE country = 'xx')",
    ),
    (
        0,
        "SELECT status, count(*) FROM shop.orders WHERE customer IN (SELECT id FROM crm.customers WHERE country = 'xx') GROUP BY 1",
    ),
    // The first three of the order, and the 20 customers.
    (
        23,
        "SELECT o.id, o.price, c.name FROM crm.customers c JOIN shop.orders o ON o.customer = c.id WHERE c.country = 'fr' \
         ORDER BY o.price DESC, o.id LIMIT 3",
    ),
    (
        25,
        "SELECT o.id, o.placed FROM shop.orders o JOIN crm.customers c ON o.customer = c.id WHERE c.country = 'fr' \
         ORDER BY o.placed NULLS FIRST, o.id DESC LIMIT 3 OFFSET 2",
    ),
    (
        23,
        "SELECT id, price FROM shop.orders WHERE customer IN (SELECT id FROM crm.customers WHERE country = 'fr') \
         ORDER BY price, id LIMIT 3",
    ),
    // Ordered by the other side: every order of these customers may be the first.
    (
        300,
        "SELECT o.id, c.name FROM crm.customers c JOIN shop.orders o ON o.customer = c.id WHERE c.country = 'fr' \
         ORDER BY c.name, o.id LIMIT 3",
    ),
    // A condition on both sides decides after the keys.
    (
        300,
        "SELECT o.id, c.name FROM crm.customers c JOIN shop.orders o ON o.customer = c.id AND o.id > c.id * 9 \
         WHERE c.country = 'fr' ORDER BY o.id LIMIT 3",
    ),
];

/// Conditions on the values of subqueries over the other database, each with the most rows that it may ship.
const SUBQUERIES: &[(u64, &str)] = &[
    // The subquery is joined in the order that ships least, too.
    (
        80,
        "SELECT id, name FROM crm.customers WHERE id = (SELECT min(c.id) FROM shop.orders o JOIN crm.visits v \
         ON v.customer = o.customer JOIN crm.customers c ON v.customer = c.id WHERE c.country = 'c70')",
    ),
    (2, "SELECT id, price FROM shop.orders WHERE id = (SELECT max(id) FROM crm.visits)"),
    (202, "SELECT count(*) AS n FROM shop.orders WHERE id > (SELECT max(id) * 99 FROM crm.visits)"),
    (5, "SELECT id FROM shop.orders WHERE (SELECT min(id) FROM crm.customers) + 3 >= id"),
    (3, "SELECT id FROM shop.orders WHERE id = (SELECT max(id) FROM crm.visits) OR id = 5"),
    (
        3,
        "SELECT id FROM shop.orders WHERE status = 's3' AND id BETWEEN (SELECT min(id) FROM crm.visits) + 2 AND (SELECT min(id) FROM crm.customers) + 3",
    ),
    // NULL, and a value beyond the column's own range.
    (1, "SELECT id FROM shop.orders WHERE id = (SELECT max(id) FROM crm.customers WHERE country = 'nowhere')"),
    (
        1,
        "SELECT id FROM shop.orders WHERE id >= (SELECT max(id) FROM crm.customers WHERE country = 'nowhere') AND price > 1",
    ),
    (20_001, "SELECT count(*) AS n FROM shop.orders WHERE id < (SELECT max(id) * 10000000000 FROM crm.customers)"),
    // Of a side of a join. The other side is read as if there was no such condition.
    (
        2_010,
        "SELECT o.id, c.name FROM shop.orders o JOIN crm.customers c ON o.customer = c.id WHERE o.id < (SELECT min(id) + 7 FROM crm.visits)",
    ),
    (
        210,
        "SELECT o.id, v.page FROM shop.orders o LEFT JOIN crm.visits v ON o.id = v.id WHERE o.id <= (SELECT min(id) + 3 FROM crm.customers)",
    ),
    // The side that may be NULL, and what is cut before it is filtered: only the answer counts.
    (
        20_500,
        "SELECT v.id, o.price FROM crm.visits v LEFT JOIN shop.orders o ON o.id = v.id WHERE coalesce(o.id, 1) <= (SELECT min(id) + 3 FROM crm.customers)",
    ),
    (
        51,
        "SELECT id FROM (SELECT id FROM shop.orders ORDER BY id DESC LIMIT 50) AS o WHERE id < (SELECT max(id) FROM crm.visits) + 19790",
    ),
    (4, "SELECT id FROM shop.orders WHERE id < (SELECT min(id) + 3 FROM crm.visits) ORDER BY price LIMIT 1"),
];

/// Estimates that are wrong, and joins that only look alike: only the answer counts.
const SURPRISES: &[&str] = &[
    // One customer visited twice, and one visit has none.
    "SELECT o.status, count(*) FROM shop.orders o JOIN crm.visits v ON v.customer = o.customer GROUP BY o.status",
    "SELECT o.status, sum(o.price) FROM shop.orders o JOIN crm.visits v ON v.customer = o.customer WHERE v.page = 'p2' GROUP BY o.status",
    "SELECT status, count(*) FROM shop.orders WHERE customer IN (SELECT customer FROM crm.visits) GROUP BY status",
    "SELECT status, count(*) FROM shop.orders WHERE customer NOT IN (SELECT customer FROM crm.visits) GROUP BY status",
    "SELECT status, count(*) FROM shop.orders o WHERE NOT EXISTS (SELECT 1 FROM crm.visits v WHERE v.customer = o.customer) GROUP BY status",
    // More keys than a statement holds.
    "SELECT status, count(*) FROM shop.orders WHERE customer IN (SELECT id FROM crm.grown) GROUP BY status",
    "SELECT o.status, count(*) FROM shop.orders o JOIN crm.grown g ON g.id = o.customer GROUP BY o.status",
    "SELECT o.id, g.kind FROM shop.orders o JOIN crm.grown g ON g.id = o.customer ORDER BY o.price, o.id LIMIT 4",
    // Outer joins keep rows without a partner.
    "SELECT o.status, count(c.id) FROM shop.orders o LEFT JOIN crm.customers c ON c.id = o.customer GROUP BY o.status",
    "SELECT o.id, c.name FROM shop.orders o LEFT JOIN crm.customers c ON c.id = o.customer AND c.country = 'fr' ORDER BY o.price, o.id LIMIT 4",
    // Two joins on the way to the orders.
    "SELECT o.id, c.name, v.page FROM crm.customers c JOIN shop.orders o ON o.customer = c.id JOIN crm.visits v ON v.id = o.id \
     WHERE c.country = 'fr' ORDER BY o.price DESC, o.id LIMIT 3",
    "SELECT o.id FROM crm.customers c JOIN shop.orders o ON o.customer = c.id JOIN crm.visits v ON v.customer = c.id \
     ORDER BY o.price DESC, o.id LIMIT 3",
    // The same statement twice.
    "WITH spent AS (SELECT customer, sum(price) AS total FROM shop.orders GROUP BY customer) \
     SELECT c.name, s.total FROM crm.customers c JOIN spent s ON s.customer = c.id WHERE s.total = (SELECT max(total) FROM spent)",
    "SELECT a.id FROM shop.orders a JOIN crm.customers c ON c.id = a.customer WHERE a.price > (SELECT avg(price) FROM shop.orders) AND c.country = 'fr'",
];

struct Shop {
    engine: headwater::Engine,
    reference: Reference,
    _stores: (PostgresDatabase, PostgresDatabase, Services),
}

async fn shop() -> Shop {
    let (crm, shop) = (PostgresDatabase::with(CRM).await, PostgresDatabase::with(SHOP).await);
    let services = Services::new().with_postgres("crm", &crm.url()).with_postgres("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, TABLES).await;
    Shop { engine, reference, _stores: (crm, shop, services) }
}

#[tokio::test]
async fn question_over_two_databases_ships_what_its_answer_needs() {
    let shop = shop().await;
    let mut wrong = Vec::new();
    for (most, query) in QUERIES.iter().chain(SUBQUERIES) {
        shop.reference.agrees(&shop.engine, query).await.unwrap();
        let answer = shop.engine.sql(query).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        let shipped: u64 = log.statements().iter().map(|statement| statement.rows).sum();
        if shipped > *most {
            wrong.push(format!("{query}\nships {shipped} rows, more than {most}: {:#?}", log.statements()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn keys_that_are_not_as_expected_change_no_answer() {
    let shop = shop().await;
    for query in SURPRISES {
        shop.reference.agrees(&shop.engine, query).await.unwrap();
    }
}

/// What one run of a plan hands from one side to the other is not another's.
#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_draft_hand_over_keys_of_their_own() {
    let shop = shop().await;
    let sorted = |batches: &[_]| {
        let mut lines: Vec<String> =
            pretty_format_batches(batches).unwrap().to_string().lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    for (query, leaves_draft) in
        // A cut by keys keeps more than its operators show.
        QUERIES
            .iter()
            .map(|(_, query)| (query, !query.contains("LIMIT")))
            .chain(SURPRISES.iter().map(|query| (query, false)))
            .chain(SUBQUERIES.iter().map(|(_, query)| (query, false)))
    {
        let alone = shop.engine.session();
        // A session that the program has got at shares no drafts.
        let _own = alone.context();
        let expected = sorted(&alone.sql(query).await.unwrap().collect().await.unwrap());
        let prepared = shop.engine.session().prepare(query).await.unwrap();
        for _ in 0..2 {
            let runs = (0..3).map(|_| {
                let prepared = prepared.clone();
                tokio::spawn(async move { prepared.execute(vec![]).await.unwrap().collect().await.unwrap() })
            });
            for run in runs.collect::<Vec<_>>() {
                assert_eq!(sorted(&run.await.unwrap()), expected, "{query}");
            }
        }
        let plan = shop.engine.sql(&format!("EXPLAIN {query}")).await.unwrap().collect().await.unwrap();
        let plan = pretty_format_batches(&plan).unwrap();
        assert!(!leaves_draft || format!("{prepared:?}").contains("draft: true"), "{query}\n{plan}");
    }
}

/// Whole queries of one source beneath a join with another: each with other keys, as if it were planned by itself.
#[tokio::test]
async fn draft_of_a_whole_query_serves_other_keys() {
    let shop = shop().await;
    let alone = shop.engine.session();
    let _own = alone.context();
    for (query, is_general) in [
        ("SELECT status, count(*), sum(price) FROM shop.orders WHERE customer = $1 GROUP BY status ORDER BY 1", true),
        (
            "SELECT c.name, o.id, p.placed FROM crm.customers c JOIN shop.orders o ON o.customer = c.id \
             JOIN shop.orders p ON p.id = o.id WHERE c.id = $1 ORDER BY o.id",
            true,
        ),
        (
            "SELECT c.name, v.page, o.id FROM crm.customers c JOIN crm.visits v ON v.customer = c.id \
             JOIN shop.orders o ON o.customer = c.id WHERE c.id = $1 ORDER BY o.id",
            true,
        ),
        ("SELECT id, price * 13 FROM shop.orders WHERE customer = $1 AND id = $2", true),
        // A constant in the query itself, a bound, or a text, of which a source may do one and not another.
        ("SELECT status, sum(price * 7) FROM shop.orders WHERE customer = $1 GROUP BY status ORDER BY 1", false),
        ("SELECT count(*) FROM shop.orders WHERE customer = $1 AND id > 100", false),
        ("SELECT count(*) FROM shop.orders WHERE status = 's' || $1", false),
    ] {
        let prepared = shop.engine.session().prepare(query).await.unwrap();
        for (one, two) in [(7_i64, 1_i64), (7, 1), (14, 2), (2099, 7), (700, 100), (7, 1), (i64::MAX, 1)] {
            let text = query.replace("$1", &one.to_string()).replace("$2", &two.to_string());
            let shown = |batches: Vec<_>| pretty_format_batches(&batches).unwrap().to_string();
            let expected = shown(alone.sql(&text).await.unwrap().collect().await.unwrap());
            assert_eq!(shown(shop.engine.sql(&text).await.unwrap().collect().await.unwrap()), expected, "{text}");
            if query.contains("||") {
                continue;
            }
            let values = [one, two].into_iter().take(prepared.parameters().fields().len()).map(Into::into).collect();
            let answer = shown(prepared.execute(values).await.unwrap().collect().await.unwrap());
            assert_eq!(
                answer.lines().skip(3).collect::<Vec<_>>(),
                expected.lines().skip(3).collect::<Vec<_>>(),
                "{text}"
            );
        }
        assert_eq!(format!("{prepared:?}").contains("draft: true"), is_general, "{query}");
    }
}

#[tokio::test]
async fn statement_that_a_query_needs_twice_is_sent_once() {
    let shop = shop().await;
    let query = "WITH spent AS (SELECT customer, sum(price) AS total FROM shop.orders GROUP BY customer) \
        SELECT c.name FROM crm.customers c JOIN spent s ON s.customer = c.id WHERE s.total = (SELECT max(total) FROM spent)";
    let sent = sent_to_shop(&shop.engine, query).await;
    assert_eq!(counted(&sent).0, 1, "{sent:#?}");
}

/// What the shop is sent for a query.
async fn sent_to_shop(engine: &headwater::Engine, query: &str) -> Vec<headwater::RemoteStatementReport> {
    let answer = engine.sql(query).await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    log.statements().into_iter().filter(|sent| sent.service == "shop").collect()
}

/// How many statements, and how many rows.
fn counted(sent: &[headwater::RemoteStatementReport]) -> (u64, u64) {
    sent.iter().fold((0, 0), |(statements, rows), of| (statements + of.statements, rows + of.rows))
}

/// 200,000 orders of two lines each, and the numbers of 70,000 of them in another database: more than the protocol counts binds.
const MANY_LINES: &str = "CREATE TABLE lines (order_id bigint, line int, quantity int, PRIMARY KEY (order_id, line)); \
    INSERT INTO lines SELECT n / 2, n % 2, n % 50 FROM generate_series(0, 399999) n; ANALYZE";
const MANY_ORDERS: &str = "CREATE TABLE wanted (order_id bigint PRIMARY KEY); \
    INSERT INTO wanted SELECT n * 2 + 1 FROM generate_series(1, 70000) n; ANALYZE";

#[tokio::test]
async fn groups_of_a_key_are_asked_in_parts_and_a_long_list_of_integers_as_one_value() {
    let (crm, shop) = (PostgresDatabase::with(MANY_ORDERS).await, PostgresDatabase::with(MANY_LINES).await);
    let services = Services::new().with_postgres("crm", &crm.url()).with_postgres("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["crm.wanted", "shop.lines"]).await;

    let groups = "SELECT order_id, sum(quantity) AS total FROM shop.lines GROUP BY order_id HAVING sum(quantity) > 95";
    let keys = "SELECT l.order_id, l.line, l.quantity FROM crm.wanted w JOIN shop.lines l ON l.order_id = w.order_id";
    for (query, statements_min, rows_max) in [(groups, 2, 8_000), (keys, 1, 140_000)] {
        reference.agrees(&engine, query).await.unwrap();
        let sent = sent_to_shop(&engine, query).await;
        let (statements, rows) = counted(&sent);
        assert!(statements >= statements_min && rows <= rows_max, "{query}: {sent:#?}");
    }
}

/// Each of Postgres's processes would make all of many groups and hand them on one by one, so it makes them with one.
#[tokio::test]
async fn many_groups_of_another_column_are_asked_in_parts_and_few_are_not() {
    const VISITS: &str = "CREATE TABLE visits (id bigint PRIMARY KEY, visitor int, page int, price numeric(10, 2)); \
        INSERT INTO visits SELECT n, nullif(n % 80000, 3), n % 11, n % 97 FROM generate_series(1, 480000) n; ANALYZE";
    let shop = PostgresDatabase::with(VISITS).await;
    let engine = Services::new().with_postgres("shop", &shop.url()).engine().await;
    let reference = Reference::copy(&engine, &["shop.visits"]).await;
    for (column, having, is_in_parts) in
        [("visitor", "", true), ("visitor", "HAVING sum(price) > 400 AND count(*) = 6", true), ("page", "", false)]
    {
        let query = format!(
            "SELECT {column}, count(*) AS n, count(page) AS m, sum(price) AS total, min(price) AS least, avg(price) AS mean \
             FROM shop.visits WHERE page <> 5 GROUP BY {column} {having}"
        );
        reference.agrees(&engine, &query).await.unwrap();
        let sent = sent_to_shop(&engine, &query).await;
        assert_eq!(counted(&sent).0 > 1, is_in_parts, "{query}: {sent:#?}");
    }
    // What cuts, groups or joins the groups goes down with them.
    for query in [
        "SELECT visitor, sum(price) AS s FROM shop.visits GROUP BY visitor ORDER BY s DESC, visitor LIMIT 10",
        "SELECT visitor, sum(price) AS s FROM shop.visits GROUP BY visitor HAVING sum(price) > 380 AND count(*) = 6",
        "SELECT n, count(*) AS m FROM (SELECT visitor, count(*) AS n FROM shop.visits GROUP BY visitor) v GROUP BY n",
    ] {
        let rows = reference.agrees(&engine, query).await.unwrap().rows.len() as u64;
        let sent = sent_to_shop(&engine, query).await;
        assert!((1..9_000).contains(&rows) && counted(&sent) == (1, rows), "{query}, {rows} rows: {sent:#?}");
    }
}

/// 100,000 orders of four lines each: as many as MariaDB is asked for in parts.
const FOUR_LINES: &str = "CREATE TABLE sold (id bigint PRIMARY KEY, order_id bigint, quantity int, KEY (order_id)); \
    INSERT INTO sold SELECT seq, seq DIV 4, seq % 50 FROM seq_0_to_399999; ANALYZE TABLE sold";

/// Those lines in MariaDB, the wanted orders in Postgres, and a local copy of both.
struct Sold {
    engine: headwater::Engine,
    reference: Reference,
    _databases: (PostgresDatabase, MysqlDatabase, Services),
}

async fn sold() -> Sold {
    let (crm, shop) = (PostgresDatabase::with(MANY_ORDERS).await, MysqlDatabase::with(FOUR_LINES).await);
    let services = Services::new().with_postgres("crm", &crm.url()).with_mysql("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["crm.wanted", "shop.sold"]).await;
    Sold { engine, reference, _databases: (crm, shop, services) }
}

#[tokio::test]
async fn source_that_is_asked_for_groups_in_parts_makes_them_beneath_a_join_as_well() {
    let Sold { engine, reference, .. } = &sold().await;
    let query = "SELECT w.order_id, count(*) AS n, sum(l.quantity) AS total FROM crm.wanted w JOIN shop.sold l ON l.order_id = w.order_id \
        WHERE w.order_id < 200 GROUP BY w.order_id";
    reference.agrees(engine, query).await.unwrap();
    let sent = sent_to_shop(engine, query).await;
    assert_eq!(counted(&sent).1, 99, "a row for each order and none for each line: {sent:#?}");

    // Few rows are expected of it, and a whole table is read for them.
    let query = "SELECT count(*) AS n, sum(quantity) AS total FROM shop.sold WHERE quantity = 7";
    reference.agrees(engine, query).await.unwrap();
    let sent = sent_to_shop(engine, query).await;
    assert!(counted(&sent).0 > 1, "{sent:#?}");
}

#[tokio::test]
async fn rows_that_are_looked_up_from_few_others_are_not_asked_for_in_parts() {
    const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer int, KEY (customer)); \
        INSERT INTO orders SELECT seq, seq % 5000 FROM seq_0_to_99999; ANALYZE TABLE orders";
    let shop = MysqlDatabase::with(FOUR_LINES).await;
    shop.execute(ORDERS).await;
    let engine = Services::new().with_mysql("shop", &shop.url()).engine().await;
    let reference = Reference::copy(&engine, &["shop.orders", "shop.sold"]).await;
    for (from, is_in_parts) in [
        ("shop.orders o JOIN shop.sold l ON l.order_id = o.id WHERE o.customer = 7", false),
        ("shop.orders o JOIN shop.sold l ON l.order_id = o.id WHERE o.id < 200", false),
        ("shop.orders o JOIN shop.sold l ON l.order_id = o.id WHERE o.customer <> 7", true),
        // What a condition keeps of the rows says nothing of how many are looked up.
        ("shop.orders o JOIN shop.sold l ON l.order_id = o.id WHERE o.customer < 600 AND l.quantity = 7", true),
        ("shop.sold l LEFT JOIN shop.orders o ON l.order_id = o.id AND o.customer = 7 WHERE l.quantity = 7", true),
    ] {
        let query = format!("SELECT l.quantity, count(*) AS n, count(o.id) AS m FROM {from} GROUP BY l.quantity");
        reference.agrees(&engine, &query).await.unwrap();
        let sent = sent_to_shop(&engine, &query).await;
        assert_eq!(counted(&sent).0 > 1, is_in_parts, "{query}: {sent:#?}");
    }
}

/// MariaDB tells nothing of a column without an index: that one value of it has few rows is no reason to read it first.
#[tokio::test]
async fn column_of_which_nothing_is_known_is_not_taken_for_a_key() {
    let Sold { engine, reference, .. } = &sold().await;
    let query = "SELECT w.order_id, l.id FROM crm.wanted w JOIN shop.sold l ON l.order_id = w.order_id \
        WHERE w.order_id < 200 AND l.quantity = 7";
    reference.agrees(engine, query).await.unwrap();
    let sent = sent_to_shop(engine, query).await;
    assert!(counted(&sent).1 < 100, "{sent:#?}");
}

/// MariaDB takes a list to hold some tens of values, however long it is, and looks each of them up: in a fifth of the table's orders that takes
/// several times as long as to read the table.
#[tokio::test]
async fn list_that_finds_a_large_share_of_a_table_is_tested_and_not_looked_up() {
    let Sold { engine, reference, .. } = &sold().await;
    let joined = |key: &str, below: u32| {
        format!(
            "SELECT l.id, l.quantity FROM crm.wanted w JOIN shop.sold l ON l.{key} = w.order_id WHERE w.order_id < {below}"
        )
    };
    let grouped = |below: u32| {
        format!(
            "SELECT quantity, count(*) FROM shop.sold WHERE order_id IN \
             (SELECT order_id FROM crm.wanted WHERE order_id < {below}) GROUP BY quantity"
        )
    };
    for (query, is_tested) in [
        (joined("order_id", 40_000), true),
        (joined("order_id", 8_000), false),
        (joined("id", 90_000), false), // The table lies by this one.
        (joined("order_id", 40_000).replace(", l.quantity", ""), false), // The index holds all that is read.
        (grouped(30_000), true),
        (grouped(8_000), false),
    ] {
        reference.agrees(engine, &query).await.unwrap();
        let sent = sent_to_shop(engine, &query).await;
        // A plan to fall back on, for keys that are too many, is there too.
        let holds = |part: &str| sent.iter().any(|sent| sent.statement.contains(part));
        assert!(holds("JSON_TABLE"), "{query}: {sent:#?}");
        assert_eq!(holds("COALESCE"), is_tested, "{query}: {sent:#?}");
    }
}

/// Keys that are most of a column's values go down as their range; one that holds the whole column would be tested of each row, and MariaDB might read another table first for it.
#[tokio::test]
async fn range_that_holds_the_whole_column_is_not_sent() {
    const MOST: &str = "CREATE TABLE most (id bigint PRIMARY KEY, part int); \
        INSERT INTO most SELECT n, n / 10000 FROM generate_series(0, 99999) n; ANALYZE";
    let (crm, shop) = (PostgresDatabase::with(MOST).await, MysqlDatabase::with(FOUR_LINES).await);
    let engine = Services::new().with_postgres("crm", &crm.url()).with_mysql("shop", &shop.url()).engine().await;
    let reference = Reference::copy(&engine, &["crm.most", "shop.sold"]).await;
    for (condition, is_sent) in [("m.part <> 5", false), ("m.part >= 3", true), ("m.part < 8", true)] {
        let query = format!(
            "SELECT l.id, l.quantity FROM crm.most m JOIN shop.sold l ON l.order_id = m.id WHERE {condition} AND l.quantity < 40"
        );
        reference.agrees(&engine, &query).await.unwrap();
        let sent = sent_to_shop(&engine, &query).await;
        let has_range = |sent: &headwater::RemoteStatementReport| sent.statement.contains("`order_id` >= ?");
        assert_eq!(sent.iter().any(has_range), is_sent, "{query}: {sent:#?}");
    }
}

const PARTS: &str = "CREATE TABLE parts (id int PRIMARY KEY, name text); \
    INSERT INTO parts SELECT n, 'p' || n / 10 FROM generate_series(1, 10000) n; ANALYZE";
const STOCK: &str = "CREATE TABLE stock (part int, supplier int, quantity int, PRIMARY KEY (part, supplier)); \
    INSERT INTO stock SELECT n / 4 + 1, n % 4, n % 7 FROM generate_series(0, 39999) n; ANALYZE";
const SOLD: &str = "CREATE TABLE sold (part int, supplier int, quantity int, day date); \
    INSERT INTO sold SELECT n % 10000 + 1, n % 4, n % 5, DATE '2024-01-01' + n % 300 FROM generate_series(0, 59999) n; \
    CREATE INDEX ON sold (part); ANALYZE";

/// The parts leave few rows of the stock, and those say which sales count: they must be read first, though more sales than stock are let through by what
/// is known before.
#[tokio::test]
async fn what_a_semi_join_leaves_narrows_the_other_side_of_the_next() {
    let (parts, stock) = (PostgresDatabase::with(PARTS).await, PostgresDatabase::with(STOCK).await);
    let shop = PostgresDatabase::with(SOLD).await;
    let services = Services::new().with_postgres("catalog", &parts.url()).with_postgres("crm", &stock.url());
    let services = services.with_postgres("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["catalog.parts", "crm.stock", "shop.sold"]).await;
    let query = "SELECT s.part, s.supplier FROM crm.stock s WHERE s.part IN (SELECT id FROM catalog.parts WHERE name = 'p7') \
        AND s.quantity > (SELECT 0.5 * sum(o.quantity) FROM shop.sold o WHERE o.part = s.part AND o.supplier = s.supplier \
        AND o.day >= DATE '2024-03-01' AND o.day < DATE '2024-05-01')";
    reference.agrees(&engine, query).await.unwrap();
    let sent = sent_to_shop(&engine, query).await;
    assert!(counted(&sent).1 <= 60, "{sent:#?}");
    // What an anti join leaves is not few.
    let query = query.replacen("IN (", "NOT IN (", 1);
    reference.agrees(&engine, &query).await.unwrap();
}

/// Whole numbers of unlike types are compared as decimals; the keys are those of the column's own type.
#[tokio::test]
async fn keys_of_another_type_of_whole_numbers_are_bound() {
    let shop = MysqlDatabase::with(
        "CREATE TABLE uns (id bigint unsigned PRIMARY KEY, order_id bigint unsigned, KEY (order_id)); \
         INSERT INTO uns SELECT seq, seq DIV 4 FROM seq_0_to_39999; \
         INSERT INTO uns VALUES (18446744073709551615, 18446744073709551615); ANALYZE TABLE uns",
    )
    .await;
    let crm = PostgresDatabase::with(
        "CREATE TABLE wanted (order_id bigint PRIMARY KEY, ref numeric(20, 0), half numeric(12, 1)); \
         INSERT INTO wanted VALUES (7, 9, 9.5), (8, 18446744073709551615, 11.0), (-1, -1, -1.5); \
         CREATE TABLE lines (id bigint PRIMARY KEY, number int); INSERT INTO lines SELECT n, n FROM generate_series(1, 40000) n; ANALYZE",
    )
    .await;
    let services = Services::new().with_postgres("crm", &crm.url()).with_mysql("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["crm.wanted", "crm.lines", "shop.uns"]).await;
    for (query, rows) in [
        ("SELECT w.order_id, u.id FROM crm.wanted w JOIN shop.uns u ON u.order_id = w.order_id", 8),
        ("SELECT w.order_id, u.id FROM crm.wanted w LEFT JOIN shop.uns u ON u.order_id = w.order_id", 8),
        ("SELECT w.ref, u.id FROM crm.wanted w JOIN shop.uns u ON u.order_id = w.ref", 5),
        ("SELECT w.half, u.id FROM crm.wanted w JOIN shop.uns u ON u.order_id = w.half", 4),
    ] {
        reference.agrees(&engine, query).await.unwrap();
        let sent = sent_to_shop(&engine, query).await;
        assert_eq!(counted(&sent).1, rows, "{query}: {sent:#?}");
    }
    let query = "SELECT u.id, l.number FROM shop.uns u JOIN crm.lines l ON l.id = u.order_id WHERE u.id < 20";
    reference.agrees(&engine, query).await.unwrap();
    let answer = engine.sql(query).await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    assert!(counted(&log.statements()).1 <= 30, "{:#?}", log.statements());
}

/// The first rows of an order by one side, whatever the other holds: of that side no others are wanted.
#[tokio::test]
async fn first_rows_above_a_join_are_cut_at_the_source_of_their_order() {
    let (crm, shop) = (PostgresDatabase::with(CRM).await, PostgresDatabase::with(SHOP).await);
    let services = Services::new().with_postgres("crm", &crm.url()).with_postgres("shop", &shop.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, TABLES).await;
    for query in [
        "SELECT o.id, c.name FROM shop.orders o LEFT JOIN crm.customers c ON c.id = o.customer ORDER BY o.price DESC, o.id LIMIT 10",
        "SELECT o.id, c.name FROM crm.customers c RIGHT JOIN shop.orders o ON c.id = o.customer AND c.country = 'fr' ORDER BY o.id LIMIT 10",
        // Nearly every order has one of all the customers.
        "SELECT o.id, c.name FROM shop.orders o JOIN crm.customers c ON c.id = o.customer ORDER BY o.price DESC, o.id LIMIT 500",
        "SELECT o.id, c.name, v.page FROM shop.orders o JOIN crm.customers c ON c.id = o.customer LEFT JOIN crm.visits v ON v.customer = o.customer
         WHERE c.country = 'fr' ORDER BY o.id DESC, v.id LIMIT 10",
    ] {
        reference.agrees(&engine, query).await.unwrap();
        let sent = sent_to_shop(&engine, query).await;
        let rows_max = match query {
            query if query.contains("v.id") => 200,
            query if query.contains("LIMIT 500") => 500,
            _ => 10,
        };
        assert!(counted(&sent).1 <= rows_max, "{query}: {sent:#?}");
    }
}
