//! Names and values that break careless SQL.

use std::collections::BTreeSet;

use headwater_source::{CompareOp, Expr, ScalarValue, ScanRequest, SortKey};

use super::{Database, ids, read, read_all, table};

const ODD_NAMES: &[&str] = &[
    "a`b",
    "a b",
    "select",
    "ünï😀cödé",
    "a.b",
    "a:b",
    "a?b",
    "a'b",
    "a\"b",
    "a\\",
    "a--b",
    "a/*b",
    "#",
    "`",
    "``; DROP TABLE t; --",
];

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[tokio::test]
async fn odd_identifiers_are_read_filtered_and_sorted() {
    let mut database = Database::new().await;
    let source = database.source();
    for name in ODD_NAMES.iter().filter(|name| !name.contains('😀')) {
        let (table_name, column_name) = (quoted(name), quoted(&format!("c{name}")));
        database.run(&format!("CREATE TABLE {table_name} (id INT NOT NULL PRIMARY KEY, {column_name} INT)")).await;
        database.run(&format!("INSERT INTO {table_name} VALUES (1, 5), (2, 6)")).await;
        let described = table(&source, name).await;
        assert_eq!((described.name.as_str(), described.columns[1].name.as_str()), (*name, format!("c{name}").as_str()));
        let mut request = ScanRequest::all(described);
        request.filters =
            vec![Expr::compare(CompareOp::Equal, Expr::Column(1), Expr::Literal(ScalarValue::from(6_i32)))];
        request.sort = vec![SortKey { column: 1, descending: true, nulls_first: false }];
        assert_eq!(ids(&read(&source, request).await.unwrap()), [2], "{name}");
    }
    let listed = source.tables().await.unwrap();
    assert_eq!(listed.len(), ODD_NAMES.len() - 1);
}

#[tokio::test]
async fn table_of_another_database_is_named_by_it() {
    let mut here = Database::new().await;
    let mut there = Database::new().await;
    here.run("CREATE TABLE t (id INT NOT NULL)").await;
    here.run("INSERT INTO t VALUES (1)").await;
    there.run("CREATE TABLE t (id INT NOT NULL)").await;
    there.run("INSERT INTO t VALUES (2)").await;
    let source = here.source();
    assert_eq!(ids(&read_all(&source, "t").await), [1]);
    assert_eq!(ids(&read_all(&source, &format!("{}.t", there.name)).await), [2]);
    let mut url = here.url();
    url.set_path("");
    let server = super::open(url.as_str(), &[]).unwrap();
    assert_eq!(ids(&read_all(&server, &format!("{}.t", there.name)).await), [2]);
    let listed = server.tables().await.unwrap();
    assert!(listed.iter().any(|table| table.path == [here.name.clone(), "t".to_owned()]));
    assert!(listed.iter().all(|table| !["mysql", "sys", "information_schema"].contains(&table.path[0].as_str())));
}

#[tokio::test]
async fn values_that_look_like_sql_are_only_values() {
    let mut database = Database::new().await;
    let source = database.source();
    let values = [
        "say \"hi\"",
        "it's",
        "a''b",
        "x\\",
        "\\') OR 1=1 -- ",
        "\\\\') OR 1=1 -- ",
        "`",
        "?",
        ":a",
        "/* */",
        "-- ",
        "#",
        "\u{1a}\n\r\t",
        "日本😀",
        "%",
        "_",
        "${x}",
        "0x41",
        "NULL",
        "'; DROP TABLE t; --",
    ];
    database
        .run("CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v VARCHAR(50) COLLATE utf8mb4_nopad_bin, w VARCHAR(50))")
        .await;
    for (id, value) in values.iter().enumerate() {
        use mysql_async::prelude::Queryable;
        database.admin.exec_drop("INSERT INTO t VALUES (?, ?, ?)", (id, value, value)).await.unwrap();
    }
    let described = table(&source, "t").await;
    let mut texts = BTreeSet::new();
    for (id, value) in values.iter().enumerate() {
        for column in [1, 2] {
            let filter =
                Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(ScalarValue::from(*value)));
            let mut request = ScanRequest::all(described.clone());
            request.filters = vec![filter];
            let scan = source.prepare(request.clone()).await.unwrap();
            texts.insert(scan.statement().text.clone());
            assert_eq!(ids(&read(&source, request).await.unwrap()), [i32::try_from(id).unwrap()], "{value:?}");
        }
    }
    assert_eq!(texts.len(), 2, "a statement's text depends on the column and on no value: {texts:?}");
}

#[tokio::test]
async fn servers_sql_mode_changes_no_answer() {
    use mysql_async::prelude::Queryable;
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v VARCHAR(20) COLLATE utf8mb4_nopad_bin, c CHAR(5))").await;
    database.run("INSERT INTO t VALUES (1, 'a\\\\b', 'x'), (2, 'a%b', 'y')").await;
    // A user's sessions could start under any mode; a session-wide init_connect stands in for the server's default.
    let old: String = database.ask("SELECT @@GLOBAL.sql_mode").await;
    let strange = "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH";
    database.admin.exec_drop("SET GLOBAL sql_mode = ?", (strange,)).await.unwrap();
    let source = database.source();
    let described = table(&source, "t").await;
    let like = headwater_source::Like {
        expr: Box::new(Expr::Column(1)),
        pattern: "a\\%b".to_owned(),
        negated: false,
        case_insensitive: false,
    };
    let mut request = ScanRequest::all(described);
    request.filters = vec![Expr::Like(like)];
    let outcome = read(&source, request).await;
    database.admin.exec_drop("SET GLOBAL sql_mode = ?", (old,)).await.unwrap();
    let batch = outcome.unwrap();
    assert_eq!(ids(&batch), [2]);
    assert_eq!(ScalarValue::try_from_array(batch.column(2), 0).unwrap(), ScalarValue::from("y"));
}
