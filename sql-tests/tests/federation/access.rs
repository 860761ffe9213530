//! Row filters and masks over real stores: what goes down with them, and what an expression that fails may not tell.

use headwater::{Caller, Engine, Session};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, ask};

const TABLES: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name varchar(20), country varchar(2));
    INSERT INTO customers VALUES (1, 'ada', 'uk'), (2, 'bob', 'us');
    CREATE TABLE orders (id int PRIMARY KEY, customer int, total int, code varchar(20), region varchar(2));
    INSERT INTO orders VALUES (10, 1, 100, '1', 'eu'), (11, 1, 200, '2', 'eu'), (12, 2, 500, 'x', 'us'), (13, 2, 600, '3', 'us')";

const ACCESS: &str = "roles:
  eu:
    members: [ada]
    grants:
      - {service: crm, tables: [customers], masks: {country: \"'**'\"}}
      - {service: shop, tables: [orders], rows: \"region = 'eu'\"}
";

fn granted(services: &Services) {
    std::fs::write(services.manifests().join("access.yaml"), ACCESS).unwrap();
}

async fn statements(session: &Session, sql: &str) -> (Vec<String>, Vec<String>) {
    let answer = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
    let log = answer.remote_statements();
    let schema = answer.schema();
    let batches = answer.collect().await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
    let rows = headwater_sql_tests::rows::Rows::of(&schema, &batches);
    let rows = rows.texts().into_iter().map(|row| row.join("|")).collect();
    (rows, log.statements().into_iter().map(|report| report.statement).collect())
}

/// What fails or not by the rows that it is evaluated on: in this engine, in Postgres, in MariaDB's strict mode.
const LEAKY: [&str; 6] = [
    "SELECT id FROM shop.orders WHERE 1 / (total - 500) < 5 ORDER BY id",
    "SELECT id FROM shop.orders WHERE CAST(code AS INT) > 0 AND id > 0 ORDER BY id",
    "SELECT id, total, CAST(code AS INT) FROM shop.orders ORDER BY id",
    "SELECT o.id FROM shop.orders o JOIN crm.customers c ON c.id = o.customer WHERE 1 / (o.total - 500) < 5 ORDER BY o.id",
    "SELECT customer, sum(1 / (total - 500)) FROM shop.orders GROUP BY customer",
    "SELECT id FROM shop.orders o WHERE EXISTS (SELECT 1 FROM crm.customers c WHERE c.id = o.customer AND CAST(o.code AS INT) > 0) ORDER BY id",
];

async fn holds(engine: &Engine) {
    let (ada, all) = (engine.session_as(&Caller::user("ada")), engine.session());
    for pushdown in ["on", "off"] {
        for session in [&ada, &all] {
            ask(session, &format!("SET headwater.pushdown = {pushdown}")).await.unwrap();
        }
        for statement in LEAKY {
            assert!(ask(&all, statement).await.is_err(), "it must fail over all rows: {statement}");
            ask(&ada, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        let (rows, _) = statements(&ada, "SELECT c.name, c.country, sum(o.total) AS total FROM crm.customers c JOIN shop.orders o ON o.customer = c.id GROUP BY c.name, c.country").await;
        assert_eq!(rows, ["ada|**|300"]);
        // A mask is all that filters and joins see.
        let (rows, _) = statements(&ada, "SELECT count(*) FROM crm.customers WHERE country = 'uk'").await;
        assert_eq!(rows, ["0"]);
    }
    ask(&ada, "SET headwater.pushdown = on").await.unwrap();
    // Nothing in it can fail, so it is one statement with the rule in it.
    let (rows, sent) =
        statements(&ada, "SELECT o.customer, sum(o.total) AS total, count(*) AS n FROM shop.orders o JOIN crm.customers c ON c.id = o.customer WHERE o.id > 10 GROUP BY o.customer").await;
    assert_eq!(rows, ["1|200|1"]);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].contains("JOIN") && sent[0].contains("region"), "{sent:?}");
    // What can fail stays here, and what can not goes down beside the rule.
    let (rows, sent) = statements(&ada, "SELECT id FROM shop.orders WHERE id > 10 AND 1 / (total - 500) < 5").await;
    assert_eq!(rows, ["11"]);
    assert!(sent.len() == 1 && sent[0].contains("region") && !sent[0].contains('/'), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_sent_the_rule_and_nothing_that_could_fail_beside_it() {
    let database = PostgresDatabase::with(TABLES).await;
    let services = Services::new().with_postgres("shop", &database.url()).with_postgres("crm", &database.url());
    granted(&services);
    holds(&services.engine().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_sent_the_rule_and_nothing_that_could_fail_beside_it() {
    let database = MysqlDatabase::with(TABLES).await;
    let services = Services::new().with_mysql("shop", &database.url()).with_mysql("crm", &database.url());
    granted(&services);
    holds(&services.engine().await).await;
}
