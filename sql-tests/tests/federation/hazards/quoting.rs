//! Values and names that would become SQL in an engine that writes them into a statement's text.

use datafusion::common::ScalarValue;
use headwater_sql_tests::everywhere::{Everywhere, SERVICES, identifier, literal};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::{Pushdown, Services, both_ways, rows, session};

const VALUES: &[&str] = &[
    "a'b",
    "a''b",
    "'",
    "''",
    "x\\",
    "x\\\\",
    "\\'",
    "\\') OR 1=1 -- ",
    "\\\\') OR 1=1 -- ",
    "') OR 1=1 -- ",
    "say \"hi\"",
    "`tick`",
    "$1",
    "?",
    ":name",
    "%",
    "_",
    "\\%",
    "; DROP TABLE t; --",
    "/* comment",
    "line\nbreak",
    "tab\t",
    "",
    " ",
    "\u{1F600}",
    "e\u{301}",
    "\u{FEFF}bom",
];

async fn everywhere() -> Everywhere {
    Everywhere::with_texts(&VALUES.iter().map(|value| Some(*value)).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn text_with_quotes_and_backslashes_in_a_literal_finds_just_its_row() {
    let everywhere = everywhere().await;
    for service in SERVICES {
        for (id, value) in VALUES.iter().enumerate() {
            for test in [format!("s = {}", literal(value)), format!("s IN ({}, 'no such text')", literal(value))] {
                let query = format!("SELECT id, s FROM {service}.t WHERE {test}");
                let found =
                    both_ways(&everywhere.engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
                assert_eq!(found.texts(), [[&id.to_string() as &str, value]], "{query}");
            }
        }
    }
}

#[tokio::test]
async fn text_with_quotes_and_backslashes_as_a_parameter_finds_just_its_row() {
    let everywhere = everywhere().await;
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&everywhere.engine, pushdown).await;
        for service in SERVICES {
            let query = format!("SELECT id, s FROM {service}.t WHERE s = $1");
            let prepared = session.prepare(&query).await.unwrap();
            for (id, value) in VALUES.iter().enumerate() {
                let answer = prepared.execute(vec![ScalarValue::from(*value)]).await.unwrap();
                let schema = answer.schema();
                let found = Rows::of(&schema, &answer.collect().await.unwrap());
                assert_eq!(found.texts(), [[&id.to_string() as &str, value]], "{query} with {value:?}");
            }
        }
    }
}

#[tokio::test]
async fn like_with_escapes_and_wildcards_matches_as_locally() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    let patterns = [
        "%\\%%",
        "%\\_%",
        "_",
        "%",
        "",
        "a''%",
        "%\\\\",
        "%\\\\%",
        "x__",
        "%\"%",
        "A%",
        "%B",
        "line%",
        "line_break",
        "_bom",
    ];
    for pattern in patterns {
        for operator in ["LIKE", "NOT LIKE", "ILIKE"] {
            let query = format!("SELECT id FROM {{t}} WHERE s {operator} {}", literal(pattern));
            everywhere.agrees(&reference, &query).await;
        }
    }
    // A copy that reads the text as DataFusion does knows the backslash alone.
    let escaped =
        [("'a!%' ESCAPE '!'", "'a\\%'"), ("'!%!!!_\\%' ESCAPE '!'", "'\\%!\\_\\\\%'"), ("'%\\' ESCAPE ''", "'%\\\\'")];
    for (pattern, right) in escaped {
        let of = |pattern: &str| format!("SELECT s LIKE {pattern} FROM {{t}} ORDER BY id");
        everywhere.agrees(&reference, &of(right)).await;
        for service in SERVICES {
            let of = |pattern: &str| of(pattern).replace("{t}", &format!("{service}.t"));
            let found = [rows(&everywhere.engine, &of(pattern)).await, rows(&everywhere.engine, &of(right)).await];
            assert_eq!(found[0].rows, found[1].rows, "{pattern} in {service}");
        }
    }
    everywhere.agrees(&reference, "SELECT id FROM {t} WHERE s LIKE 'x\\'").await;
}

#[tokio::test]
async fn alias_that_closes_its_quotes_is_only_a_name() {
    let everywhere = everywhere().await;
    let reference = everywhere.reference().await;
    for alias in
        ["a\\\", (SELECT version()) --", "a\"b", "a`b", "a'b", "c0", "", " ", "select", "\\", "\u{1F600}", "a.b"]
    {
        if alias.is_empty() {
            continue;
        }
        let alias = identifier(alias);
        for query in [
            format!("SELECT s AS {alias} FROM {{t}} WHERE id < 3"),
            format!("SELECT {alias} FROM (SELECT s AS {alias}, id FROM {{t}}) AS sub WHERE {alias} = 'a''b'"),
            format!("SELECT {alias}.s FROM {{t}} AS {alias} WHERE {alias}.id = 1 ORDER BY {alias}.id LIMIT 1"),
        ] {
            for answer in everywhere.agrees(&reference, &query).await {
                answer.unwrap_or_else(|error| panic!("{query}: {error}"));
            }
        }
    }
}

const NAMES: &[&str] = &[
    "a\"b",
    "a`b",
    "a'b",
    "a\\b",
    "a b",
    " a",
    "a.b",
    "A",
    "a",
    "select",
    "from",
    "$1",
    "?",
    "a;--",
    "\u{DC}n\u{EF}",
    "\u{1F600}",
    "c0",
    "%s",
    "{0}",
    "/*",
];

#[tokio::test]
async fn column_with_an_odd_name_is_read_and_filtered_at_every_source() {
    // MariaDB and SQLite take "a" and "A" for one name; MariaDB's names are of the basic plane.
    for (service, names) in [
        ("pg", NAMES.to_vec()),
        ("my", NAMES.iter().copied().filter(|name| *name != "A" && *name != "\u{1F600}").collect()),
        ("lite", NAMES.iter().copied().filter(|name| *name != "A").collect::<Vec<_>>()),
    ] {
        let columns = |quote: &str| {
            let column = |name: &&str| format!("{quote}{}{quote} int", name.replace(quote, &quote.repeat(2)));
            names.iter().map(column).collect::<Vec<_>>().join(", ")
        };
        let values =
            |row: usize| (0..names.len()).map(|index| (row * 100 + index).to_string()).collect::<Vec<_>>().join(", ");
        let statements = |quote: &str| {
            format!(
                "CREATE TABLE t ({}); INSERT INTO t VALUES ({}); INSERT INTO t VALUES ({})",
                columns(quote),
                values(1),
                values(2)
            )
        };
        let (postgres, mysql, lite) = match service {
            "pg" => (statements("\""), String::new(), String::new()),
            "my" => (String::new(), statements("`"), String::new()),
            _ => (String::new(), String::new(), statements("\"")),
        };
        let or_nothing = |text: String| if text.is_empty() { "CREATE TABLE u (a int)".to_owned() } else { text };
        let everywhere = Everywhere::with(&or_nothing(postgres), &or_nothing(mysql), &or_nothing(lite)).await;
        for (index, name) in names.iter().enumerate() {
            let column = identifier(name);
            let query =
                format!("SELECT {column} FROM {service}.t WHERE {column} > {} ORDER BY {column} LIMIT 1", 100 + index);
            let found = both_ways(&everywhere.engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(found.column(), [(200 + index).to_string()], "{query}");
            assert_eq!(found.columns[0].0, *name);
        }
    }
}

#[tokio::test]
async fn table_with_an_odd_name_is_read_at_every_source() {
    let names: Vec<&str> =
        NAMES.iter().copied().filter(|name| !["A", " a", "a.b", "/*", "\u{1F600}"].contains(name)).collect();
    let create = |quote: &str| {
        let one = |(index, name): (usize, &&str)| {
            let name = name.replace(quote, &quote.repeat(2));
            format!("CREATE TABLE {quote}{name}{quote} (v int); INSERT INTO {quote}{name}{quote} VALUES ({index})")
        };
        names.iter().enumerate().map(one).collect::<Vec<_>>().join(";")
    };
    let everywhere = Everywhere::with(&create("\""), &create("`"), &create("\"")).await;
    for service in SERVICES {
        for (index, name) in names.iter().enumerate() {
            let query = format!("SELECT v FROM {service}.{} WHERE v >= 0", identifier(name));
            let found = both_ways(&everywhere.engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(found.column(), [index.to_string()], "{query}");
        }
    }
}

#[tokio::test]
async fn value_with_nul_finds_what_it_finds_locally() {
    let everywhere = Everywhere::with_texts(&[Some("a"), Some("a\0b"), Some("a\0"), Some("\0"), None]).await;
    let reference = everywhere.reference().await;
    for test in [
        "s = 'a\0b'",
        "s = 'a'",
        "s <> 'a\0'",
        "s IN ('a\0', 'a')",
        "s > 'a'",
        "s <= 'a\0'",
        "s LIKE 'a%'",
        "s LIKE 'a\0_'",
    ] {
        everywhere.agrees(&reference, &format!("SELECT id, s FROM {{t}} WHERE {test}")).await;
    }
}

#[tokio::test]
async fn column_name_that_no_table_has_never_becomes_a_string_in_sqlite() {
    let services =
        Services::new().with_sqlite("lite", "CREATE TABLE t (a TEXT, b TEXT); INSERT INTO t VALUES ('x', 'c')");
    let engine = services.engine().await;
    assert_eq!(both_ways(&engine, "SELECT b FROM lite.t WHERE b = 'c'").await.unwrap().column(), ["c"]);
    // The column goes away between planning and reading: SQLite would take "b" for a string.
    let answer = engine.sql("SELECT b FROM lite.t WHERE b = 'b'").await.unwrap();
    services.sqlite("lite").execute_batch("ALTER TABLE t RENAME COLUMN b TO c").unwrap();
    let error = answer.collect().await.unwrap_err().report();
    assert!(error.contains("\"lite\"") && error.contains("changed"), "{error}");
}
