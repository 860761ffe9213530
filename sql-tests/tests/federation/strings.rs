//! Random text as values, parameters, patterns, aliases and names, on every source against a local copy.

use datafusion::common::ScalarValue;
use headwater_sql_tests::everywhere::{Everywhere, SERVICES, identifier, literal};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::{Pushdown, Reference, session};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Text made of what breaks quoting and comparing, and of anything else.
fn text() -> impl Strategy<Value = String> {
    let hostile = prop::sample::select(vec![
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "`",
        "%",
        "_",
        "\\%",
        "--",
        "/*",
        ";",
        "$1",
        "?",
        ":a",
        "\0",
        "\n",
        "\r\n",
        "\t",
        " ",
        "a",
        "A",
        "b",
        "0",
        "\u{E4}",
        "e\u{301}",
        "\u{DF}",
        "\u{130}",
        "\u{1F600}",
        "\u{FEFF}",
        "\u{200B}",
        "\u{FFFD}",
        "\u{10FFFF}",
        " OR 1=1 ",
        "{0}",
        "NULL",
    ]);
    let piece = prop_oneof![4 => hostile.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// One table of random texts, and questions about it.
#[derive(Debug, Clone)]
struct Case {
    stored: Vec<String>,
    probes: Vec<String>,
    alias: String,
}

fn case() -> impl Strategy<Value = Case> {
    let stored = prop::collection::vec(text(), 1..12);
    // Half of the probes are stored: a question that finds something.
    let probes = stored.prop_flat_map(|stored| {
        let probe = prop_oneof![prop::sample::select(stored.clone()), text()];
        (Just(stored), prop::collection::vec(probe, 1..4))
    });
    (probes, text()).prop_map(|((stored, probes), alias)| {
        let alias = alias.replace('\0', "");
        Case { stored, probes, alias: if alias.is_empty() { "a".to_owned() } else { alias } }
    })
}

async fn check(everywhere: &Everywhere, case: &Case) {
    let stored: Vec<Option<&str>> = case.stored.iter().map(|text| Some(text.as_str())).chain([None]).collect();
    everywhere.insert_texts(&stored).await;
    let reference = everywhere.reference().await;
    for probe in &case.probes {
        for query in [
            format!("SELECT id, s FROM {{t}} WHERE s = {}", literal(probe)),
            format!("SELECT id FROM {{t}} WHERE s <> {}", literal(probe)),
            format!("SELECT id FROM {{t}} WHERE s >= {} AND s IN ({}, 'a')", literal(probe), literal(probe)),
            format!("SELECT id FROM {{t}} WHERE s LIKE {}", literal(probe)),
            format!(
                "SELECT s AS {} FROM {{t}} WHERE s < {} ORDER BY s LIMIT 3",
                identifier(&case.alias),
                literal(probe)
            ),
        ] {
            everywhere.agrees(&reference, &query).await;
        }
        for service in SERVICES {
            for test in ["s = $1", "s > $1", "s || 'x' = $1 || 'x'", "$1 = s AND s IS NOT NULL"] {
                parameter(everywhere, &reference, &format!("SELECT id FROM {service}.t WHERE {test}"), probe).await;
            }
        }
    }
}

/// A parameter finds what the same text as a literal finds in the local copy.
async fn parameter(everywhere: &Everywhere, reference: &Reference, query: &str, value: &str) {
    let expected =
        reference.ask(&query.replace("$1", &literal(value))).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&everywhere.engine, pushdown).await;
        let prepared = session.prepare(query).await.unwrap_or_else(|error| panic!("{query}: {}", error.report()));
        let answer = prepared
            .execute(vec![ScalarValue::from(value)])
            .await
            .unwrap_or_else(|error| panic!("{query}: {}", error.report()));
        let schema = answer.schema();
        let batches =
            answer.collect().await.unwrap_or_else(|error| panic!("{query} with {value:?}: {}", error.report()));
        if let Some(difference) = Rows::of(&schema, &batches).difference(&expected) {
            panic!("{query} with {value:?}, pushdown {pushdown:?}: {difference}");
        }
    }
}

fn runner(cases: u32) -> TestRunner {
    // Each case asks real servers dozens of times; shrinking is bounded for the same reason.
    TestRunner::new(Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() })
}

/// Proptest wants a failure as a value; the fixtures panic.
fn caught(runtime: &tokio::runtime::Runtime, check: impl Future<Output = ()>) -> Result<(), TestCaseError> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(check)));
    result.map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        TestCaseError::fail(message.unwrap_or_else(|| "panicked".to_owned()))
    })
}

#[test]
fn any_text_as_value_parameter_pattern_or_alias_means_what_it_means_locally() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let everywhere = runtime.block_on(Everywhere::with_texts(&[]));
    let outcome = runner(24).run(&case(), |case| caught(&runtime, check(&everywhere, &case)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Names as stores allow them: not empty, no NUL, at most 20 characters; MariaDB takes no trailing space and only
/// characters of the basic plane.
fn name() -> impl Strategy<Value = String> {
    let allowed = |c: char| c != '\0' && u32::from(c) < 0xD800 && !c.is_control() && c != '\u{FEFF}';
    text()
        .prop_map(move |text| text.chars().filter(|c| allowed(*c)).take(20).collect::<String>().trim().to_owned())
        .prop_filter("a name is not empty", |name| !name.is_empty())
}

async fn check_names(everywhere: &Everywhere, table: &str, columns: &[String]) {
    let create = |quote: char| {
        let quoted = |name: &str| format!("{quote}{}{quote}", name.replace(quote, &quote.to_string().repeat(2)));
        let definitions: Vec<String> = columns.iter().map(|column| format!("{} int", quoted(column))).collect();
        let values: Vec<String> = (0..columns.len()).map(|index| index.to_string()).collect();
        let table = quoted(table);
        [
            format!("CREATE TABLE {table} ({})", definitions.join(", ")),
            format!("INSERT INTO {table} VALUES ({})", values.join(", ")),
            format!("DROP TABLE {table}"),
        ]
    };
    let (double, tick) = (create('"'), create('`'));
    everywhere.postgres.execute(&double[..2].join(";")).await;
    everywhere.mysql.execute(&tick[0]).await;
    everywhere.mysql.execute(&tick[1]).await;
    everywhere.services.sqlite("lite").execute_batch(&double[..2].join(";")).unwrap();
    // What was listed before knows nothing of the new table.
    let engine = everywhere.services.engine().await;
    for service in SERVICES {
        for (index, column) in columns.iter().enumerate() {
            let column = identifier(column);
            let query = format!(
                "SELECT {column} FROM {service}.{} WHERE {column} = {index} ORDER BY {column} LIMIT 1",
                identifier(table)
            );
            let found = headwater_sql_tests::services::both_ways(&engine, &query)
                .await
                .unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(found.column(), [index.to_string()], "{query}");
        }
    }
    everywhere.postgres.execute(&double[2]).await;
    everywhere.mysql.execute(&tick[2]).await;
    everywhere.services.sqlite("lite").execute_batch(&double[2]).unwrap();
}

#[test]
fn any_name_of_a_table_or_column_is_read_and_filtered() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let everywhere = runtime.block_on(Everywhere::with_texts(&[]));
    let distinct = |columns: &Vec<String>| {
        let mut folded: Vec<String> = columns.iter().map(|column| column.to_lowercase()).collect();
        folded.sort();
        folded.dedup();
        folded.len() == columns.len()
    };
    // A table `t` is there already, under any case in MariaDB's and SQLite's eyes; SQLite keeps names that begin so for itself.
    let table = name().prop_filter("a free name", |name| {
        !name.eq_ignore_ascii_case("t") && !name.to_lowercase().starts_with("sqlite_")
    });
    // MariaDB folds accents in names of columns too: one letter more tells them apart.
    let columns = prop::collection::vec(name(), 1..4)
        .prop_map(|names| {
            names.into_iter().enumerate().map(|(index, name)| format!("{name}{index}")).collect::<Vec<_>>()
        })
        .prop_filter("names that differ", distinct);
    let outcome = runner(12)
        .run(&(table, columns), |(table, columns)| caught(&runtime, check_names(&everywhere, &table, &columns)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
