//! What the connector knows of a table's rows.

use headwater_source::{Index, ScalarValue};
use mysql_async::prelude::Queryable;

use super::{Database, open, table};

const SHOP: &[&str] = &[
    "CREATE TABLE orders (id BIGINT NOT NULL, line INT NOT NULL, customer INT, day DATE, name VARCHAR(20), note VARCHAR(99), \
     PRIMARY KEY (id, line), KEY customer (customer, day), UNIQUE KEY name (name), KEY (note(5)), FULLTEXT KEY (note))",
    "INSERT INTO orders SELECT seq DIV 2, seq MOD 2, IF(seq % 4 = 0, NULL, seq % 50), '2020-01-01' + INTERVAL seq % 100 DAY, \
     CONCAT('n', seq), REPEAT('x', 10) FROM seq_2_to_2001",
    "INSERT INTO orders VALUES (-5, 0, -7, '0000-00-00', NULL, NULL)",
    "ANALYZE TABLE orders",
];

async fn shop() -> Database {
    let mut database = Database::new().await;
    for statement in SHOP {
        database.run(statement).await;
    }
    database
}

#[tokio::test]
async fn rows_values_ends_and_indexes_are_told() {
    let database = shop().await;
    let source = database.source();
    let orders = table(&source, "orders").await;
    let known = source.statistics(&orders).await.unwrap().unwrap();
    let near = |found: Option<u64>, right: u64| {
        let found = found.unwrap_or_else(|| panic!("no number where there are {right}"));
        assert!(found >= right / 2 && found <= right * 2, "{found} is not near {right}");
    };
    near(known.rows, 2001);
    let [id, line, customer, day, name, note] = known.columns.as_slice() else { panic!("six columns") };
    near(id.distinct, 1001);
    near(customer.distinct, 38);
    near(name.distinct, 2001);
    assert_eq!((line.distinct, day.distinct, note.distinct), (None, None, None));
    assert_eq!((&id.min, &id.max), (&Some(ScalarValue::from(-5_i64)), &Some(ScalarValue::from(1000_i64))));
    assert_eq!((&customer.min, &customer.max), (&Some(ScalarValue::from(-7_i32)), &Some(ScalarValue::from(49_i32))));
    assert_eq!((&day.min, &name.min), (&None, &None), "no index starts with it, or it is text");
    assert_eq!((id.null_fraction, customer.null_fraction), (Some(0.0), None));
    assert_eq!((id.width_bytes, line.width_bytes), (Some(8.0), Some(4.0)));
    let mut indexes = known.indexes.clone();
    indexes.sort_by(|a, b| a.columns.cmp(&b.columns));
    let index = |columns: &[usize], unique| Index { columns: columns.to_vec(), unique };
    assert_eq!(indexes, [index(&[0, 1], true), index(&[2, 3], false), index(&[4], true)]);
}

#[tokio::test]
async fn statistics_that_mariadb_collected_itself_are_read() {
    let mut database = shop().await;
    database.run("ANALYZE TABLE orders PERSISTENT FOR ALL").await;
    let source = database.source();
    let orders = table(&source, "orders").await;
    let known = source.statistics(&orders).await.unwrap().unwrap();
    let [_, line, customer, day, _, note] = known.columns.as_slice() else { panic!("six columns") };
    assert_eq!(line.distinct.map(|values| (1..=3).contains(&values)), Some(true), "{line:?}");
    assert!(customer.null_fraction.is_some_and(|share| (share - 0.25).abs() < 0.01), "{customer:?}");
    assert_eq!(day.max, Some(ScalarValue::Date32(Some(18_361))), "2020-04-09");
    assert!(note.width_bytes.is_some_and(|bytes| (9.0..=12.0).contains(&bytes)), "{note:?}");
}

#[tokio::test]
async fn role_that_may_only_read_the_table_gets_what_the_catalog_shows() {
    let mut database = shop().await;
    let user = format!("{}_reader", database.name);
    database.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'")).await;
    database.run(&format!("GRANT SELECT ON {}.orders TO '{user}'@'%'", database.name)).await;
    let mut url = database.url();
    url.set_username(&user).unwrap();
    url.set_password(Some("secret")).unwrap();
    let source = open(url.as_str(), &[]).unwrap();
    let orders = table(&source, "orders").await;
    let known = source.statistics(&orders).await.unwrap().unwrap();
    assert!(known.rows.is_some_and(|rows| rows > 1000) && known.columns[0].distinct.is_some());
    assert_eq!(known.columns[0].max, Some(ScalarValue::from(1000_i64)));
    database.admin.query_drop(format!("DROP USER '{user}'@'%'")).await.unwrap();
}

#[tokio::test]
async fn view_has_no_statistics_and_another_engine_no_ends() {
    let mut database = shop().await;
    database.run("CREATE VIEW v AS SELECT * FROM orders").await;
    database.run("CREATE TABLE flat (id INT NOT NULL PRIMARY KEY) ENGINE=MyISAM").await;
    database.run("INSERT INTO flat VALUES (1), (2)").await;
    let source = database.source();
    assert_eq!(source.statistics(table(&source, "v").await.as_ref()).await.unwrap(), None);
    let flat = source.statistics(table(&source, "flat").await.as_ref()).await.unwrap().unwrap();
    assert_eq!((flat.rows, &flat.columns[0].max, flat.indexes.len()), (Some(2), &None, 1));
}
