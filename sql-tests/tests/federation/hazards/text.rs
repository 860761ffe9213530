//! Collations: what a source takes for equal or sorts by its locale is compared by bytes here.

use headwater_sql_tests::everywhere::{Everywhere, literal};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services};

use headwater::Engine;
use mysql_async::prelude::Queryable;

const TEXTS: &[&str] = &[
    "a", "A", "a ", "a  ", " a", "b", "B", "ab", "aB", "\u{E4}", "\u{C4}", "ae", "\u{DF}", "ss", "", " ", "_", "-",
    "z", "a\t", "e\u{301}", "\u{E9}",
];

/// Every comparison of a column with every probe, and orders, groups and aggregates, against a local copy.
async fn compare_all(engine: &Engine, table: &str, columns: &[&str]) {
    let reference = Reference::copy(engine, &[table]).await;
    for column in columns {
        for probe in ["a", "A", "a ", "b", "\u{E4}", "ss", ""] {
            let value = literal(probe);
            for test in [
                format!("{column} = {value}"),
                format!("{column} <> {value}"),
                format!("{column} < {value}"),
                format!("{column} >= {value}"),
                format!("{column} IN ({value}, 'B')"),
                format!("{column} NOT IN ({value}, 'B')"),
                format!("NOT ({column} = {value}) OR {column} IS NULL"),
            ] {
                let query = format!("SELECT id, {column} FROM {table} WHERE {test}");
                reference.agrees(engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            }
        }
        for query in [
            format!("SELECT id FROM {table} WHERE {column} BETWEEN 'A' AND 'b'"),
            format!("SELECT id FROM {table} WHERE {column} LIKE 'a%'"),
            format!("SELECT id FROM {table} WHERE {column} LIKE 'A_'"),
            format!("SELECT id FROM {table} WHERE {column} NOT LIKE '%a'"),
            format!("SELECT id FROM {table} WHERE {column} ILIKE 'A%'"),
            format!("SELECT {column} FROM {table} ORDER BY {column}, id LIMIT 5"),
            format!("SELECT {column}, id FROM {table} ORDER BY {column} DESC NULLS LAST, id LIMIT 5"),
            format!("SELECT {column}, count(*) FROM {table} GROUP BY {column}"),
            format!("SELECT DISTINCT {column} FROM {table}"),
            format!("SELECT count(DISTINCT {column}), min({column}), max({column}) FROM {table}"),
            format!("SELECT l.id, r.id FROM {table} l JOIN {table} r ON l.{column} = r.{column}"),
            format!("SELECT id, {column} || 'x' FROM {table} WHERE {column} || 'x' = 'ax'"),
            format!("SELECT id, length({column}), upper({column}) FROM {table} WHERE length({column}) = 1"),
        ] {
            reference.agrees(engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}

#[tokio::test]
async fn mariadb_collations_never_fold_or_pad() {
    let database = MysqlDatabase::with(
        "CREATE TABLE t (id bigint PRIMARY KEY, ci varchar(20), bin varchar(20) COLLATE utf8mb4_bin, \
         nopad varchar(20) COLLATE utf8mb4_nopad_bin, latin varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci, \
         uni varchar(20) COLLATE utf8mb4_unicode_ci, KEY (ci))",
    )
    .await;
    let mut client = database.client().await;
    for (id, text) in TEXTS.iter().enumerate() {
        // Latin-1 has no combining accent.
        let latin = text.replace('\u{301}', "");
        client.exec_drop("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", (id, text, text, text, latin, text)).await.unwrap();
    }
    client.query_drop("INSERT INTO t VALUES (100, NULL, NULL, NULL, NULL, NULL)").await.unwrap();
    let engine = Services::new().with_mysql("my", &database.url());
    compare_all(&engine.engine().await, "my.t", &["ci", "bin", "nopad", "latin", "uni"]).await;
}

#[tokio::test]
async fn postgres_locales_never_sort_or_fold() {
    let database = PostgresDatabase::with(
        "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE DOMAIN short AS varchar(20) CHECK (length(value) < 20); \
         CREATE TABLE t (id bigint PRIMARY KEY, loc text, c text COLLATE \"C\", icu text COLLATE \"en-x-icu\", \
         fold text COLLATE folding, vc varchar(20), dom short, nam name)",
    )
    .await;
    let client = database.client().await;
    for (id, text) in TEXTS.iter().enumerate() {
        let id = i64::try_from(id).unwrap();
        client
            .execute(
                "INSERT INTO t VALUES ($1, $2, $2::text, $2::text, $2::text, $2::text, $2::text, $2::text)",
                &[&id, &text],
            )
            .await
            .unwrap();
    }
    client.batch_execute("INSERT INTO t VALUES (100)").await.unwrap();
    let services = Services::new().with_postgres("pg", &database.url());
    compare_all(&services.engine().await, "pg.t", &["loc", "c", "icu", "fold", "vc", "dom", "nam"]).await;
}

#[tokio::test]
async fn sqlite_collations_never_fold_or_trim() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, bin TEXT, nocase TEXT COLLATE NOCASE, rtrim TEXT COLLATE RTRIM, vc VARCHAR(20));
         INSERT INTO t VALUES (100, NULL, NULL, NULL, NULL);",
    );
    let sqlite = services.sqlite("lite");
    for (id, text) in TEXTS.iter().enumerate() {
        let id = i64::try_from(id).unwrap();
        sqlite.execute("INSERT INTO t VALUES (?1, ?2, ?2, ?2, ?2)", (id, text)).unwrap();
    }
    compare_all(&services.engine().await, "lite.t", &["bin", "nocase", "rtrim", "vc"]).await;
}

#[tokio::test]
async fn fixed_length_text_is_read_without_padding_and_compared_so() {
    let everywhere = Everywhere::with(
        "CREATE TABLE t (id bigint, c char(5)); INSERT INTO t VALUES (1, 'ab'), (2, 'abcde'), (3, ''), (4, ' a'), (5, NULL)",
        "CREATE TABLE t (id bigint, c char(5)); INSERT INTO t VALUES (1, 'ab'), (2, 'abcde'), (3, ''), (4, ' a'), (5, NULL)",
        "CREATE TABLE t (id INTEGER, c CHAR(5)); INSERT INTO t VALUES (1, 'ab'), (2, 'abcde'), (3, ''), (4, ' a'), (5, NULL)",
    )
    .await;
    let reference = everywhere.reference().await;
    for answer in everywhere.agrees(&reference, "SELECT c, length(c) FROM {t} WHERE id = 1").await {
        assert_eq!(answer.unwrap().texts(), [["ab", "2"]]);
    }
    for test in [
        "c = 'ab'",
        "c = 'ab   '",
        "c = 'ab '",
        "c <> 'ab'",
        "c IN ('ab', 'x')",
        "c IN ('ab   ')",
        "c < 'ab '",
        "c > 'ab'",
        "c LIKE 'ab'",
        "c LIKE 'ab%'",
        "c LIKE 'ab   '",
        "c LIKE '_____'",
        "c LIKE '__'",
        "c NOT LIKE 'ab'",
        "c = ''",
        "c = '     '",
        "c || 'x' = 'abx'",
        "length(c) = 2",
        "c IS NULL",
        "c NOT IN ('ab')",
    ] {
        everywhere.agrees(&reference, &format!("SELECT id, c FROM {{t}} WHERE {test}")).await;
    }
    everywhere.agrees(&reference, "SELECT c FROM {t} ORDER BY c LIMIT 2").await;
}

#[tokio::test]
async fn join_of_services_with_different_collations_compares_bytes() {
    let texts: Vec<Option<&str>> = TEXTS.iter().map(|text| Some(*text)).collect();
    let everywhere = Everywhere::with_texts(&texts).await;
    let reference = everywhere.reference().await;
    for (left, right) in [("pg", "my"), ("my", "lite"), ("lite", "pg")] {
        let joined = format!("SELECT l.id, r.id FROM {left}.t l JOIN {right}.t r ON l.s = r.s");
        let found = reference.agrees(&everywhere.engine, &joined).await.unwrap();
        assert_eq!(found.rows.len(), TEXTS.len(), "{joined}");
        for query in [
            format!("SELECT l.id FROM {left}.t l WHERE l.s IN (SELECT s FROM {right}.t WHERE s = 'a')"),
            format!("SELECT l.id FROM {left}.t l WHERE l.s NOT IN (SELECT s FROM {right}.t WHERE s >= 'a')"),
            format!(
                "SELECT l.id FROM {left}.t l WHERE NOT EXISTS (SELECT 1 FROM {right}.t r WHERE r.s = l.s AND r.s LIKE 'a%')"
            ),
        ] {
            reference.agrees(&everywhere.engine, &query).await.unwrap();
        }
    }
}

#[tokio::test]
async fn labels_sort_as_text_and_not_by_declaration() {
    let everywhere = Everywhere::with(
        "CREATE TYPE size AS ENUM ('small', 'large', 'LARGE'); CREATE TABLE t (id bigint, e size); \
         INSERT INTO t VALUES (1, 'small'), (2, 'large'), (3, 'LARGE'), (4, NULL)",
        "CREATE TABLE t (id bigint, e enum('small', 'large', 'LARGE2', '')); INSERT INTO t VALUES (1, 'small'), (2, 'large'), (3, 'LARGE2'), (4, NULL)",
        "CREATE TABLE t (id INTEGER, e TEXT CHECK (e IN ('small', 'large'))); INSERT INTO t VALUES (1, 'small'), (2, 'large'), (4, NULL)",
    )
    .await;
    let reference = everywhere.reference().await;
    for query in [
        "SELECT id, e FROM {t} WHERE e = 'large'",
        "SELECT id FROM {t} WHERE e = 'Large'",
        "SELECT id FROM {t} WHERE e = 'no such label'",
        "SELECT id FROM {t} WHERE e IN ('large', 'no such label')",
        "SELECT id FROM {t} WHERE e <> 'no such label'",
        "SELECT id FROM {t} WHERE e < 'small'",
        "SELECT id FROM {t} WHERE e > '1'",
        "SELECT id FROM {t} WHERE e LIKE 'l%'",
        "SELECT e FROM {t} ORDER BY e LIMIT 1",
        "SELECT min(e), max(e) FROM {t}",
    ] {
        for answer in everywhere.agrees(&reference, query).await {
            answer.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}
