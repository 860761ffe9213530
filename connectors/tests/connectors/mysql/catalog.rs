//! What discovery says of tables, columns and keys.

use headwater_source::{Error, TableKind, ValueClass};

use super::{Database, table};

#[tokio::test]
async fn tables_and_views_are_described_with_keys_and_comments() {
    let mut database = Database::new().await;
    database
        .run(
            "CREATE TABLE orders (id INT NOT NULL, line INT NOT NULL, note VARCHAR(9) COMMENT 'what for', UNIQUE (id), PRIMARY KEY (line, id)) \
             COMMENT 'what was bought'",
        )
        .await;
    database.run("INSERT INTO orders VALUES (1, 1, 'x'), (2, 1, 'y')").await;
    database.run("CREATE TABLE unique_only (id INT NOT NULL UNIQUE)").await;
    database.run("CREATE VIEW big AS SELECT id FROM orders").await;
    database.run("CREATE TABLE history (id INT NOT NULL) WITH SYSTEM VERSIONING").await;
    database.run("CREATE SEQUENCE numbers").await;
    let source = database.source();
    let tables = source.tables().await.unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["big", "history", "orders", "unique_only"]);
    let (big, orders, unique_only) = (&tables[0], &tables[2], &tables[3]);
    assert_eq!((big.kind, &big.comment, &big.key), (TableKind::View, &None, &None));
    assert_eq!(orders.path, [database.name.clone(), "orders".to_owned()]);
    assert_eq!(orders.key.as_deref(), Some(&["line".to_owned(), "id".to_owned()][..]));
    assert_eq!((orders.kind, orders.comment.as_deref()), (TableKind::Table, Some("what was bought")));
    assert!(orders.rows_estimate.is_some());
    assert_eq!(unique_only.key, None, "a unique column is no primary key");
    let note = &orders.columns[2];
    assert_eq!((note.nullable, note.remote_type.as_str()), (true, "varchar(9)"));
    assert_eq!((note.collation.as_deref(), note.comment.as_deref()), (Some("utf8mb4_general_ci"), Some("what for")));
    assert_eq!((orders.columns[0].nullable, note.class), (false, ValueClass::TextFolded));
    assert_eq!(*table(&source, "orders").await, *orders);
}

#[tokio::test]
async fn broken_view_hides_nothing() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    database.run("CREATE TABLE gone (id INT NOT NULL)").await;
    database.run("CREATE VIEW broken AS SELECT id FROM gone").await;
    database.run("DROP TABLE gone").await;
    let source = database.source();
    let names: Vec<String> = source.tables().await.unwrap().into_iter().map(|table| table.name).collect();
    assert!(names.contains(&"t".to_owned()), "{names:?}");
}

#[tokio::test]
async fn misspelt_table_is_not_found_with_its_neighbour() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE orders (id INT NOT NULL)").await;
    let source = database.source();
    let error = source.table("order").await.unwrap_err();
    let Error::TableNotFound { table, known, .. } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), known.as_slice()), ("order", &["orders".to_owned()][..]));
    assert!(error.to_string().contains("did you mean \"orders\"?"), "{error}");
    assert!(matches!(source.table("ORDERS").await, Err(Error::TableNotFound { .. })), "names are their bytes");
}

#[tokio::test]
async fn same_column_and_table_name_in_two_databases_stay_apart() {
    let mut here = Database::new().await;
    let mut there = Database::new().await;
    here.run("CREATE TABLE t (id INT NOT NULL PRIMARY KEY)").await;
    there.run("CREATE TABLE t (name TEXT, other INT)").await;
    let mut url = here.url();
    url.set_path("");
    let source = super::open(url.as_str(), &[]).unwrap();
    let tables = source.tables().await.unwrap();
    let columns = |name: &str| {
        let table = tables.iter().find(|table| table.path[0] == name).unwrap();
        (table.columns.len(), table.key.is_some())
    };
    assert_eq!((columns(&here.name), columns(&there.name)), ((1, true), (2, false)));
}
