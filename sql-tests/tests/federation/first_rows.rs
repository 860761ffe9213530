//! The first rows of an order over Parquet: what cannot be among them is not read, and the answer is the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use headwater::Engine;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, rows, session};

const ROWS: i64 = 160_000;
const ROW_GROUP: usize = 4_000;

/// Orders in Parquet, in many row groups, and customers in Postgres. Prices come in no order, days in the order of the file.
struct Shop {
    engine: Engine,
    reference: Reference,
    _services: Services,
    _postgres: PostgresDatabase,
}

impl Shop {
    async fn new() -> Self {
        let postgres = PostgresDatabase::with(
            "CREATE TABLE customers (id bigint PRIMARY KEY, name text); \
             INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 900) i; ANALYZE",
        )
        .await;
        let services = Services::new().with_files("files").with_postgres("pg", &postgres.url());
        let ids = || 0..ROWS;
        let mixed = |id: i64| id * 7919 % ROWS;
        let id: ArrayRef = Arc::new(ids().map(Some).collect::<Int64Array>());
        let customer: ArrayRef = Arc::new(ids().map(|id| Some(mixed(id) % 1000)).collect::<Int64Array>());
        let price = ids().map(|id| (mixed(id) % 50 != 7).then(|| i128::from(mixed(id) / 4)));
        let price: ArrayRef = Arc::new(price.collect::<Decimal128Array>().with_precision_and_scale(15, 2).unwrap());
        let weight: ArrayRef = Arc::new(ids().map(|id| Some(mixed(id) as f64 / 8.0)).collect::<Float64Array>());
        let day: ArrayRef = Arc::new(ids().map(|id| i32::try_from(id / 100).ok()).collect::<Int32Array>());
        let note: ArrayRef = Arc::new(ids().map(|id| Some(format!("note {}", mixed(id)))).collect::<StringArray>());
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", id, false),
            ("customer", customer, false),
            ("price", price, true),
            ("weight", weight, true),
            ("day", day, true),
            ("note", note, true),
        ])
        .unwrap();
        let file = std::fs::File::create(services.folder("files").join("orders.parquet")).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP)).build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let engine = services.engine().await;
        let reference = Reference::copy(&engine, &["files.orders", "pg.customers"]).await;
        Self { engine, reference, _services: services, _postgres: postgres }
    }

    /// Asserts that the answer is right with pushdown and without; how many rows of the file were read with it.
    async fn read(&self, query: &str) -> u64 {
        let right = self.reference.ask(query).await.unwrap();
        // From the third time on a statement runs from a draft.
        for pushdown in [Pushdown::On, Pushdown::Off] {
            let session = session(&self.engine, pushdown).await;
            for time in 1..=4 {
                let found = ask(&session, query).await.unwrap();
                assert_eq!(found.rows, right.rows, "{query}\npushdown {pushdown:?}, asked for the {time}. time");
            }
        }
        let answer = self.engine.sql(query).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        log.statements().iter().filter(|statement| statement.service == "files").map(|statement| statement.rows).sum()
    }
}

#[tokio::test]
async fn rows_beyond_the_first_of_an_order_are_not_read_from_parquet() {
    let shop = Shop::new().await;
    for query in [
        "SELECT * FROM files.orders ORDER BY price DESC NULLS LAST, id LIMIT 10",
        "SELECT * FROM files.orders ORDER BY price, id LIMIT 10",
        "SELECT * FROM files.orders ORDER BY price NULLS FIRST, id DESC LIMIT 10",
        "SELECT * FROM files.orders ORDER BY note, id LIMIT 5 OFFSET 5",
        "SELECT id, note FROM files.orders ORDER BY day, id LIMIT 5",
        // A key that may not be tested in the file is left out of the condition.
        "SELECT id, note FROM files.orders ORDER BY price DESC NULLS LAST, weight LIMIT 10",
        "SELECT id, note FROM files.orders WHERE weight > 100 AND note LIKE '%1%' ORDER BY price DESC NULLS LAST, id LIMIT 10",
        // Beneath joins, on the side that is read second.
        "SELECT o.id, c.name, o.price FROM files.orders o JOIN pg.customers c ON o.customer = c.id \
            ORDER BY o.price DESC NULLS LAST, c.name, o.id LIMIT 10",
        "SELECT o.id, c.name, o.price FROM files.orders o LEFT JOIN pg.customers c ON o.customer = c.id \
            ORDER BY o.price DESC NULLS LAST, o.id LIMIT 10",
        "SELECT o.id, o.price FROM files.orders o WHERE EXISTS (SELECT 1 FROM pg.customers c WHERE o.customer = c.id) \
            ORDER BY o.price DESC NULLS LAST, o.id LIMIT 10",
        "SELECT id, price FROM (SELECT id, price FROM files.orders UNION ALL SELECT id, NULL FROM pg.customers) u \
            ORDER BY price DESC NULLS LAST, id LIMIT 10",
    ] {
        let read = shop.read(query).await;
        let plan = rows(&shop.engine, &format!("EXPLAIN {query}")).await;
        assert!(read < ROWS as u64 / 4, "{query}: {read} rows of {ROWS}\n{}", plan.texts().concat().join("\n"));
    }
}

/// Where a row that is left out would change what becomes of others, where all rows are needed to know the first, and by what a file cannot be tested, all are read.
#[tokio::test]
async fn first_rows_that_depend_on_others_are_read_in_full() {
    let shop = Shop::new().await;
    for query in [
        "SELECT c.id, o.price FROM pg.customers c LEFT JOIN files.orders o ON o.customer = c.id \
            ORDER BY o.price NULLS FIRST, c.id, o.id LIMIT 10",
        "SELECT c.id, o.price FROM pg.customers c FULL JOIN files.orders o ON o.customer = c.id \
            ORDER BY o.price NULLS LAST, c.id, o.id LIMIT 10",
        "SELECT price, count(*) AS many FROM files.orders GROUP BY price ORDER BY many DESC, price LIMIT 10",
        "SELECT max(day) AS day, price FROM files.orders GROUP BY price ORDER BY price DESC NULLS LAST LIMIT 3",
        "SELECT id, row_number() OVER (ORDER BY id) AS place FROM files.orders ORDER BY id DESC LIMIT 3",
        "SELECT id FROM files.orders ORDER BY price * 2 DESC NULLS LAST, id LIMIT 3",
        "SELECT id FROM files.orders ORDER BY weight DESC, id LIMIT 3",
    ] {
        // A join's keys may leave some out.
        let read = shop.read(query).await;
        assert!(read > ROWS as u64 * 8 / 10, "{query}: {read} rows of {ROWS}");
        let plan = rows(&shop.engine, &format!("EXPLAIN {query}")).await;
        assert!(!plan.texts().concat().join("\n").contains("skips="), "{query}: {plan:?}");
    }
    // The inner order is by its own rows.
    shop.read(
        "SELECT id, price FROM (SELECT id, price FROM files.orders ORDER BY id LIMIT 50) o \
         ORDER BY price DESC NULLS LAST, id LIMIT 3",
    )
    .await;
}

/// Files of one row group each, of which one has another layout of a column and lacks one, in directories that are a column.
#[tokio::test]
async fn first_rows_of_unlike_files_are_the_first_of_all() {
    const EACH: i64 = 60_000;
    let services = Services::new().with_files("files");
    for (region, first) in [("eu", 0), ("us", EACH)] {
        let ids = || first..first + EACH;
        let mixed = |id: i64| id * 7919 % (2 * EACH);
        let id: ArrayRef = Arc::new(ids().map(Some).collect::<Int64Array>());
        let at = ids().map(|id| (mixed(id) % 9 != 0).then(|| mixed(id) * 1_000_000));
        let at: ArrayRef = Arc::new(at.collect::<TimestampMicrosecondArray>().with_timezone("UTC"));
        let kinds: Vec<String> = ids().map(|id| format!("kind {:05}", mixed(id) % 1000)).collect();
        let kinds = kinds.iter().map(|kind| Some(kind.as_str()));
        let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("id", id, false), ("at", at, true)];
        if region == "eu" {
            columns.push(("kind", Arc::new(kinds.collect::<DictionaryArray<Int32Type>>()), true));
            columns.push(("n", Arc::new(ids().map(|id| i32::try_from(mixed(id)).ok()).collect::<Int32Array>()), true));
        } else {
            columns.push(("kind", Arc::new(kinds.collect::<StringArray>()), true));
        }
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let directory = services.folder("files").join(format!("events/region={region}"));
        std::fs::create_dir_all(&directory).unwrap();
        let file = std::fs::File::create(directory.join("part.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["files.events"]).await;
    for (order, most) in [
        ("at DESC NULLS LAST, id", EACH),
        ("at NULLS FIRST, id", EACH),
        ("at, id DESC", EACH),
        ("kind, id", EACH),
        ("kind DESC, n DESC, id", EACH),
        ("id", EACH),
        ("n DESC NULLS LAST, id", 2 * EACH),
        ("n NULLS FIRST, id", 2 * EACH),
        ("region DESC, at, id", 2 * EACH),
        ("region, n, id", 2 * EACH),
    ] {
        let query = format!("SELECT id, region, kind, n FROM files.events ORDER BY {order} LIMIT 20");
        let right = reference.ask(&query).await.unwrap();
        let answer = engine.sql(&query).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        let read: u64 = log.statements().iter().map(|statement| statement.rows).sum();
        assert!(read <= most as u64, "{query}: {read} rows");
        for pushdown in [Pushdown::On, Pushdown::Off] {
            let found = ask(&session(&engine, pushdown).await, &query).await.unwrap();
            assert_eq!(found.rows, right.rows, "{query}\npushdown {pushdown:?}");
        }
    }
}
