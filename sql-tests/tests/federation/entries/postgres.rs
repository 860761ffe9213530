//! Postgres's table of whole queries.

use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::Services;

use super::{Column, agree, agree_beside, calendar, cased, chosen, extremes, insert, keyed, names, ordered, spelled};

const NUMBERS: &[Column] = &[
    ("small", "smallint", &["-32768", "-3", "0", "2", "8", "32767"]),
    ("whole", "int", &["-2147483648", "-7", "0", "4", "10", "2147483647"]),
    ("big", "bigint", &["-9223372036854775808", "-9", "0", "5", "11", "9223372036854775807"]),
    ("money", "numeric(10,2)", &["-99999999.99", "-0.01", "0", "0.1", "2.50", "99999999.99"]),
    (
        "digits",
        "numeric(38,6)",
        &[
            "-12345678901234567890123456789.123456",
            "-1",
            "0",
            "0.000001",
            "1",
            "99999999999999999999999999999999.999999",
        ],
    ),
    (
        "tail",
        "numeric(20,20)",
        &["-0.00000000000000000001", "0.1", "0", "0.00000000000000000001", "0.5", "0.99999999999999999999"],
    ),
];

const FLAGS: &[Column] = &[("flag", "boolean", &["true", "false"])];

const WORDS: &[&str] = &[
    "''",
    "' '",
    "'a'",
    "'A'",
    "'á'",
    "'a '",
    "'ab'",
    "E'a\\tb'",
    "'ß'",
    "'ss'",
    "'Z'",
    "'€'",
    "'\\'",
    "'%'",
    "'_'",
    "'it''s'",
    "'0'",
    "'😀'",
    "'日本'",
    "'e\u{301}'",
    "'é'",
    "'ÿ'",
];

const TEXTS: &[Column] = &[
    ("folded", "text COLLATE folding", WORDS),
    ("local", "text COLLATE \"en-x-icu\"", WORDS),
    ("bytewise", "varchar(20) COLLATE \"C\"", WORDS),
    ("fixed", "char(20)", WORDS),
    ("fixed_folded", "char(20) COLLATE folding", WORDS),
];

const LABELS: &[Column] = &[("label", "mood", &["'b'", "'A'", "'é'", "'0'", "'it''s'"])];

const DATES: &[Column] = &[
    (
        "day",
        "date",
        &[
            "'4713-01-01 BC'",
            "'0002-12-31 BC'",
            "'0001-02-29 BC'",
            "'0001-01-01'",
            "'1969-12-31'",
            "'2020-02-29'",
            "'9999-12-31'",
            "'262142-12-31'",
            "'262143-01-01'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    (
        "moment",
        "timestamp",
        &[
            "'4713-01-01 00:00:00 BC'",
            "'0001-12-31 23:59:59.999999 BC'",
            "'0001-01-01 00:00:00'",
            "'1969-12-31 23:59:59.999999'",
            "'2020-02-29 12:00:00.5'",
            "'9999-12-31 23:59:59.999999'",
            "'262142-12-31 23:59:59.999999'",
            "'262143-01-01'",
            "'294246-12-31'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
];

const INSTANTS: &[Column] = &[(
    "instant",
    "timestamptz",
    &[
        "'0001-12-31 23:59:59.999999+00 BC'",
        "'1969-12-31 23:59:59.999999+00'",
        "'2021-03-28 02:30:00+01'",
        "'infinity'",
        "'-infinity'",
    ],
)];

const OTHERS: &[Column] = &[
    ("clock", "time", &["'00:00:00'", "'23:59:59.999999'", "'12:00'"]),
    ("raw", "bytea", &["''", "'\\x00'", "'\\x0000'", "'a'", "'a '", "'A'", "'\\xff'"]),
    ("u", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-0000-1000-8000-000000000001'"]),
];

const UNITS: &[&str] = &["year", "quarter", "month", "week", "day", "hour", "minute", "second"];

/// Asks each query and asserts that it is one statement that groups or joins, and the answer of a local copy.
async fn check(columns: &[Column], queries: &[String]) {
    let (_database, services) = with_table(columns).await;
    agree(services, queries).await;
}

async fn with_table(columns: &[Column]) -> (PostgresDatabase, Services) {
    let table = format!(
        "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TYPE mood AS ENUM ('b', 'A', 'é', '0', 'it''s'); {}",
        insert(columns, '"')
    );
    let database = PostgresDatabase::with(&table).await;
    let services = Services::new().with_postgres("s", &database.url());
    (database, services)
}

#[tokio::test]
async fn numbers_are_computed_grouped_and_joined_as_here() {
    let of = |c: String| {
        [
            format!("SELECT count(*), sum({c}), count({c}) FROM s.t"),
            format!("SELECT id % 3, sum({c}) FROM s.t GROUP BY id % 3"),
            format!("SELECT count(*), sum({c}) FILTER (WHERE id > 3) FROM s.t"),
            format!("SELECT nullif({c}, 0) AS v, count(*) AS n FROM s.t GROUP BY 1"),
        ]
    };
    let integers = ["small", "whole"].into_iter().flat_map(|c| {
        [
            format!("SELECT {c} + 1 AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT {c} - 7 AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT {c} * 3 AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT {c} / 3, {c} % 3, {c} / 1000, {c} % 1000, count(*) AS n FROM s.t GROUP BY 1, 2, 3, 4"),
            format!("SELECT -CAST({c} AS bigint), CAST({c} AS decimal(20,3)), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!("SELECT a.id, b.id FROM s.t a JOIN s.t b ON a.{c} + 1 = b.{c} * 2 - 3"),
            format!("SELECT count(*), avg({c}) FROM s.t"),
        ]
    });
    let decimals = ["money", "tail"].into_iter().flat_map(|c| {
        [
            format!("SELECT {c} + CAST(1.5 AS decimal(2,1)) AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT {c} - CAST(7.25 AS decimal(3,2)) AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!(
                "SELECT {c} * CAST(3.5 AS decimal(2,1)) AS v, {c} * money AS w, count(*) AS n FROM s.t GROUP BY 1, 2"
            ),
            format!("SELECT {c} * (1 - money) AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT -({c} * CAST(1 AS decimal(1,0))) AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT count(*), avg({c}) FROM s.t"),
            format!("SELECT count(*), sum({c} * money), sum(money + small) FROM s.t"),
        ]
    });
    let more =
        ["SELECT big / 3, big % 3, big / 9223372036854775807, count(*) AS n FROM s.t GROUP BY 1, 2, 3".to_owned()];
    let mut queries = [keyed(NUMBERS), ordered(NUMBERS), chosen(NUMBERS, "5")].concat();
    queries.retain(|query| !(query.contains("\"tail\"") && query.contains("5)")));
    queries.extend(extremes(&NUMBERS[..5], "2"));
    let absolute = ["money", "digits", "tail"];
    queries.extend(absolute.map(|c| format!("SELECT abs({c}) AS v, count(*) AS n FROM s.t GROUP BY 1")));
    let digits = ["small", "whole", "big"];
    queries.extend(digits.map(|c| format!("SELECT CAST({c} AS varchar) AS v, count(*) AS n FROM s.t GROUP BY 1")));
    queries.extend(digits.map(|c| format!("SELECT count(*) FROM s.t WHERE CAST({c} AS varchar) LIKE '-%'")));
    queries.extend(names(NUMBERS).flat_map(of).chain(integers).chain(decimals).chain(more));
    check(NUMBERS, &queries).await;
}

#[tokio::test]
async fn booleans_are_values_keys_and_conditions_as_here() {
    let mut queries = [keyed(FLAGS), chosen(FLAGS, "true")].concat();
    // The planner makes conditions with a constant NULL of CASE over booleans.
    queries.retain(|query| !query.contains("CASE"));
    queries.extend([
        "SELECT id > 2 AND flag AS v, count(*) AS n FROM s.t GROUP BY 1".to_owned(),
        "SELECT count(*) FILTER (WHERE flag), count(*) FILTER (WHERE NOT flag), count(flag) FROM s.t".to_owned(),
        "SELECT flag, count(*) AS n FROM s.t GROUP BY flag ORDER BY flag DESC NULLS LAST LIMIT 2".to_owned(),
    ]);
    check(FLAGS, &queries).await;
}

#[tokio::test]
async fn texts_are_computed_grouped_and_joined_by_their_characters_and_bytes() {
    let of = |c: String| {
        [
            format!(
                "SELECT character_length({c}), substr({c}, 1, 1), substr({c}, 2), substr({c}, 1, 0), count(*) AS n FROM s.t GROUP BY 1, 2, 3, 4"
            ),
            format!("SELECT {c} || '|' || {c}, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT {c} || folded, coalesce({c}, bytewise), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!("SELECT count(*) FROM s.t WHERE {c} LIKE 'a%'"),
            format!("SELECT count(*) FROM s.t WHERE {c} LIKE '_' OR {c} NOT LIKE '%a%'"),
            format!("SELECT count(*) FROM s.t WHERE {c} || '_x' LIKE '_\\_x'"),
            format!("SELECT count(*) FROM s.t WHERE substr({c}, 1, 1) <> 'a' OR substr({c}, 1, 1) < 'Z'"),
            format!("SELECT count(*) FROM s.t WHERE substr({c}, 1, 1) IN ('a', 'á', '😀')"),
            format!("SELECT a.id, b.id FROM s.t a JOIN s.t b ON substr(a.{c}, 1, 1) = substr(b.folded, 1, 1)"),
        ]
    };
    let mut queries = [keyed(TEXTS), ordered(TEXTS), chosen(TEXTS, "'é'")].concat();
    // A join by a collation that folds, or that ignores trailing spaces, would be a superset.
    let folds = |column: &str| ["folded", "fixed", "fixed_folded"].contains(&column);
    queries.retain(|query| {
        match query
            .split_once("a.\"")
            .filter(|_| query.contains("= b.\"") || query.contains(" IN (SELECT") || query.contains("EXISTS"))
        {
            Some((_, rest)) => !folds(rest.split('"').next().unwrap()),
            None => true,
        }
    });
    queries.extend(names(TEXTS).flat_map(of));
    queries.extend(spelled(TEXTS));
    check(TEXTS, &queries).await;
}

#[tokio::test]
async fn texts_in_small_or_capital_letters_are_looked_at_again() {
    let (_database, services) = with_table(TEXTS).await;
    agree_beside(services, &cased(TEXTS)).await;
}

#[tokio::test]
async fn labels_are_grouped_and_joined_as_texts() {
    check(LABELS, &keyed(LABELS)).await;
}

#[tokio::test]
async fn dates_are_computed_grouped_and_joined_as_they_are_read() {
    let of = |c: String| {
        [format!(
            "SELECT extract(year FROM {c}), extract(month FROM {c}), extract(day FROM {c}), count(*) AS n FROM s.t GROUP BY 1, 2, 3"
        )]
    };
    let mut queries = [keyed(DATES), ordered(DATES)].concat();
    queries.extend(chosen(&DATES[..1], "DATE '2020-02-29'"));
    queries.extend(chosen(&DATES[1..], "arrow_cast('2020-02-29 12:00:00.5', 'Timestamp(Microsecond, None)')"));
    queries.extend(names(DATES).flat_map(of));
    // The last of the days is past the timestamps, here as there.
    let within = |query: String| match query.contains("date_trunc(") && query.contains("\"day\"") {
        true => query.replace(" FROM s.t", " FROM (SELECT * FROM s.t WHERE id % 12 <> 9) AS t"),
        false => query,
    };
    queries.extend(calendar(DATES, UNITS, |column| column != "\"day\"").into_iter().map(within));
    queries.extend(extremes(&DATES[..1], "DATE '2020-02-29'"));
    check(DATES, &queries).await;
    let mut queries = [keyed(INSTANTS), ordered(INSTANTS), calendar(INSTANTS, UNITS, |_| true)].concat();
    queries.extend(chosen(INSTANTS, "arrow_cast('2020-02-29 12:00:00.5', 'Timestamp(Microsecond, Some(\"UTC\"))')"));
    check(INSTANTS, &queries).await;
}

#[tokio::test]
async fn times_binary_strings_and_uuids_are_grouped_and_joined_as_here() {
    check(OTHERS, &[keyed(OTHERS), ordered(&OTHERS[..1])].concat()).await;
}
