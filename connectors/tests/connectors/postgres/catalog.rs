//! Discovery: which tables, which columns, what is said of them.

use headwater_source::{Error, TableKind};

use super::{Database, failure, open, read_all, table, unique, url_as};

#[tokio::test]
async fn every_kind_of_relation_is_described() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TABLE orders (id bigint, line int NOT NULL, gone int, note text COLLATE \"en-x-icu\", PRIMARY KEY (line, id));
             ALTER TABLE orders DROP COLUMN gone;
             COMMENT ON TABLE orders IS 'what was ordered'; COMMENT ON COLUMN orders.note IS 'free text';
             INSERT INTO orders SELECT n, n FROM generate_series(1, 1000) n;
             CREATE VIEW big AS SELECT id FROM orders; CREATE MATERIALIZED VIEW cached AS SELECT id FROM orders;
             CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
             CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
             CREATE TABLE empty ();
             CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
             CREATE FOREIGN TABLE passwd (line text NOT NULL) SERVER files OPTIONS (filename '/etc/passwd');
             ANALYZE orders",
        )
        .await;
    let source = database.source();
    let names: Vec<String> = source.tables().await.unwrap().iter().map(|table| table.full_name()).collect();
    let expected = ["big", "cached", "child", "empty", "orders", "parent", "parts", "passwd"];
    assert_eq!(names, expected.map(|name| format!("public.{name}")));
    let orders = table(&source, "orders").await;
    assert_eq!((orders.kind, orders.rows_estimate), (TableKind::Table, Some(1000)));
    assert_eq!(orders.comment.as_deref(), Some("what was ordered"));
    assert_eq!(orders.key, Some(vec!["line".to_owned(), "id".to_owned()]));
    let columns: Vec<_> = orders.columns.iter().map(|column| (column.name.as_str(), column.nullable)).collect();
    assert_eq!(columns, [("id", false), ("line", false), ("note", true)]);
    assert_eq!(orders.columns[2].collation.as_deref(), Some("en-x-icu"));
    assert_eq!(orders.columns[2].comment.as_deref(), Some("free text"));
    assert_eq!(table(&source, "big").await.kind, TableKind::View);
    assert_eq!(table(&source, "cached").await.kind, TableKind::View);
    assert_eq!(table(&source, "parts_1").await.columns.len(), 1);
    let parent = table(&source, "parent").await;
    assert_eq!((&parent.key, parent.columns[0].nullable), (&None, true), "children are not bound by the parent's key");
    assert!(table(&source, "passwd").await.columns[0].nullable, "a foreign table's NOT NULL is only a claim");
    assert_eq!(read_all(&source, "orders").await.num_rows(), 1000);
    assert_eq!(read_all(&source, "empty").await.num_rows(), 0);
}

#[tokio::test]
async fn name_is_found_by_path_then_in_public_then_where_it_is_alone() {
    let database = Database::new().await;
    database
        .run(
            "CREATE SCHEMA a; CREATE SCHEMA \"a.b\"; CREATE SCHEMA z;
             CREATE TABLE public.t (p int); CREATE TABLE a.t (a int); CREATE TABLE a.u (a int); CREATE TABLE z.v (z int); CREATE TABLE a.v (a int);
             CREATE TABLE a.\"x.y\" (dots int); CREATE TABLE \"a.b\".c (dots int); CREATE TABLE a.\"b.c\" (dots int)",
        )
        .await;
    let source = database.source();
    for (from, path) in [
        ("t", ["public", "t"]),
        ("a.t", ["a", "t"]),
        ("u", ["a", "u"]),
        ("x.y", ["a", "x.y"]),
        ("a.x.y", ["a", "x.y"]),
        ("pg_catalog.pg_class", ["pg_catalog", "pg_class"]),
    ] {
        assert_eq!(table(&source, from).await.path, path, "{from}");
    }
    for ambiguous in ["v", "a.b.c"] {
        let error = failure(source.table(ambiguous).await);
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains("ambiguous"), "{error}");
    }
    for missing in ["tt", "pg_class", "", "a\0b", "b.t"] {
        assert!(matches!(failure(source.table(missing).await), Error::TableNotFound { .. }), "{missing}");
    }
    assert!(failure(source.table("public.tt").await).to_string().contains("did you mean"));
}

#[tokio::test]
async fn role_sees_what_it_may_select_and_is_told_of_the_rest() {
    let database = Database::new().await;
    let role = unique("reader");
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; CREATE TABLE shown (id int, name text); CREATE TABLE hidden (id int);
             CREATE TABLE partly (id int PRIMARY KEY, name text); CREATE SCHEMA closed; CREATE TABLE closed.t (id int);
             GRANT SELECT ON shown, closed.t TO {role}; GRANT SELECT (name) ON partly TO {role}"
        ))
        .await;
    let source = open(&url_as(&role, "secret", &database.name), &[]).unwrap();
    let tables = source.tables().await.unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["partly", "shown"]);
    assert_eq!((tables[0].columns.len(), &tables[0].key), (1, &None));
    for hidden in ["hidden", "public.hidden", "closed.t"] {
        assert!(matches!(failure(source.table(hidden).await), Error::AccessDenied { .. }), "{hidden}");
    }
    read_all(&source, "partly").await;
    drop(source);
    database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
