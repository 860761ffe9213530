//! What MariaDB computes of whole queries, entry by entry over the edges of each type: the answer is that of a local copy, and it is one
//! statement.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::services::Services;

use super::{Column, agree, agree_beside, calendar, cased, chosen, extremes, insert, keyed, names, ordered, spelled};

const NUMBERS: &[Column] = &[
    ("tiny", "tinyint", &["-128", "-1", "0", "1", "7", "127"]),
    ("small", "smallint", &["-32768", "-3", "0", "2", "8", "32767"]),
    ("medium", "mediumint", &["-8388608", "-5", "0", "3", "9", "8388607"]),
    ("whole", "int", &["-2147483648", "-7", "0", "4", "10", "2147483647"]),
    ("big", "bigint", &["-9223372036854775808", "-9", "0", "5", "11", "9223372036854775807"]),
    ("money", "decimal(10,2)", &["-99999999.99", "-0.01", "0", "0.1", "2.50", "99999999.99"]),
    (
        "digits",
        "decimal(38,6)",
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
        "decimal(20,20)",
        &["-0.00000000000000000001", "0.1", "0", "0.00000000000000000001", "0.5", "0.99999999999999999999"],
    ),
];

/// Numbers that are compared and grouped, and not computed with.
const OTHER_NUMBERS: &[Column] = &[
    ("utiny", "tinyint unsigned", &["0", "1", "128", "255"]),
    ("ubig", "bigint unsigned", &["0", "1", "9223372036854775808", "18446744073709551615"]),
    ("wide", "decimal(65,30)", &["-0.000000000000000000000000000001", "0", "99999999999999999999999999999999999.5"]),
    ("bits", "bit(64)", &["0", "1", "48", "9223372036854775808", "18446744073709551615"]),
];

const YEARS: &[Column] = &[("year", "year", &["0", "1901", "1970", "2005", "2155"])];

const WORDS: &[&str] = &[
    "''",
    "' '",
    "'a'",
    "'A'",
    "'á'",
    "'a '",
    "'ab'",
    "'a\\tb'",
    "'ß'",
    "'ss'",
    "'Z'",
    "'€'",
    "'\\\\'",
    "'%'",
    "'_'",
    "'it\\'s'",
    "'0'",
    "'1e0'",
    "'😀'",
    "'日本'",
    "'e\u{301}'",
    "'ÿ'",
];

const WESTERN: &[&str] = &["''", "' '", "'a'", "'A'", "'á'", "'a '", "'ab'", "'ß'", "'Z'", "'\\\\'", "'%'", "'ÿ'"];

const TEXTS: &[Column] = &[
    ("folded", "varchar(20)", WORDS),
    ("longest", "varchar(255) COLLATE utf8mb4_unicode_ci", WORDS),
    ("padded", "varchar(20) COLLATE utf8mb4_bin", WORDS),
    ("bytewise", "varchar(20) COLLATE utf8mb4_nopad_bin", WORDS),
    ("fixed", "char(20)", WORDS),
    ("western", "varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", WESTERN),
    ("utf16", "varchar(20) CHARACTER SET utf16 COLLATE utf16_nopad_bin", WORDS),
    ("short", "tinytext", WORDS),
    ("label", "enum('b', 'A', 'é', '0', '2', 'it''s')", &["'b'", "'A'", "'é'", "'none'", "'0'", "'2'", "1", "6"]),
];

const LONG_TEXTS: &[Column] = &[("note", "text", WORDS), ("essay", "longtext", WORDS), ("over", "varchar(256)", WORDS)];

const DATES: &[Column] = &[
    (
        "day",
        "date",
        &[
            "'0000-00-00'",
            "'2020-00-15'",
            "'2020-01-00'",
            "'0000-01-01'",
            "'0001-01-01'",
            "'1969-12-31'",
            "'2020-02-29'",
            "'9999-12-31'",
        ],
    ),
    (
        "second",
        "datetime",
        &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'1969-12-31 23:59:59'", "'9999-12-31 23:59:59'"],
    ),
    (
        "moment",
        "datetime(6)",
        &[
            "'0001-01-01 00:00:00'",
            "'1969-12-31 23:59:59.999999'",
            "'2020-02-29 12:00:00.5'",
            "'9999-12-31 23:59:59.999999'",
        ],
    ),
    (
        "instant",
        "timestamp(6) NULL",
        &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2021-03-28 02:30:00'", "'2038-01-19 03:14:07.999999'"],
    ),
];

const OTHERS: &[Column] = &[
    ("clock", "time(6)", &["'-838:59:59'", "'-00:00:00.000001'", "'0'", "'24:00:00'", "'100:00:00.5'", "'838:59:59'"]),
    ("coarse", "time", &["'-838:59:59'", "'-00:00:01'", "'0'", "'23:59:59'", "'838:59:59'"]),
    ("raw", "varbinary(20)", &["''", "x'00'", "x'0000'", "'a'", "'a '", "'A'", "x'ff'"]),
    ("block", "binary(3)", &["'a'", "'a  '", "x'ff'", "x'000000'"]),
    ("u", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-0000-1000-8000-000000000001'"]),
];

const UNITS: &[&str] = &["year", "quarter", "month", "day", "hour", "minute", "second"];

/// Asks each query and asserts that it is one statement that groups or joins, and the answer of a local copy.
async fn check(columns: &[Column], queries: &[String]) {
    let (_database, services) = with_table(columns).await;
    agree(services, queries).await;
}

async fn with_table(columns: &[Column]) -> (MysqlDatabase, Services) {
    let table = format!("SET sql_mode = '', time_zone = '+00:00'; {}", insert(columns, '`'));
    let database = MysqlDatabase::with(&table).await;
    let services = Services::new().with_mysql("s", &database.url());
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
    let integers = ["tiny", "small", "medium", "whole"].into_iter().flat_map(|c| {
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
    queries.extend(extremes(&NUMBERS[..7], "2"));
    let absolute = ["money", "digits", "tail"];
    queries.extend(absolute.map(|c| format!("SELECT abs({c}) AS v, count(*) AS n FROM s.t GROUP BY 1")));
    let digits = ["tiny", "small", "medium", "whole", "big"];
    queries.extend(digits.map(|c| format!("SELECT CAST({c} AS varchar) AS v, count(*) AS n FROM s.t GROUP BY 1")));
    queries.extend(digits.map(|c| format!("SELECT count(*) FROM s.t WHERE CAST({c} AS varchar) LIKE '-%'")));
    queries.extend(names(NUMBERS).flat_map(of).chain(integers).chain(decimals).chain(more));
    check(NUMBERS, &queries).await;
}

#[tokio::test]
async fn unsigned_and_other_numbers_are_grouped_and_joined_as_here() {
    check(OTHER_NUMBERS, &[keyed(OTHER_NUMBERS), ordered(OTHER_NUMBERS)].concat()).await;
    let computed = [
        "SELECT year + 1 AS v, count(*) AS n FROM s.t GROUP BY 1".to_owned(),
        "SELECT year / 100 AS v, count(*) AS n FROM s.t GROUP BY 1".to_owned(),
        "SELECT year % 100 AS v, count(*) AS n FROM s.t GROUP BY 1".to_owned(),
        "SELECT count(*), sum(year), avg(year) FROM s.t".to_owned(),
    ];
    check(YEARS, &[keyed(YEARS), ordered(YEARS), computed.to_vec()].concat()).await;
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
    // Neither here nor there has a label an order of its own to be the least by.
    queries.retain(|query| !(query.contains("\"label\"") && query.contains("min(")));
    queries.extend(names(TEXTS).flat_map(of));
    queries.extend(spelled(TEXTS));
    // Two of them together are too long for a key.
    let too_long = |query: &str| query.contains("\"longest\" ||") || query.contains("concat(\"longest\"");
    queries.retain(|query| !(too_long(query) && query.contains("GROUP BY")));
    check(TEXTS, &queries).await;
}

#[tokio::test]
async fn texts_in_small_or_capital_letters_are_looked_at_again() {
    let (_database, services) = with_table(TEXTS).await;
    agree_beside(services, &cased(TEXTS)).await;
}

#[tokio::test]
async fn long_texts_are_joined_and_compared_by_all_their_bytes() {
    let of = |c: String| {
        [
            format!("SELECT a.id, b.id FROM s.t a JOIN s.t b ON a.{c} = b.{c}"),
            format!("SELECT count(*), min({c}), max({c}) FROM s.t"),
            format!("SELECT substr({c}, 1, 200) AS k, character_length({c}), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!("SELECT count(*) FROM s.t WHERE {c} LIKE '%a%'"),
        ]
    };
    check(LONG_TEXTS, &names(LONG_TEXTS).flat_map(of).collect::<Vec<_>>()).await;
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
    queries.extend(chosen(&DATES[1..3], "arrow_cast('2020-02-29 12:00:00.5', 'Timestamp(Microsecond, None)')"));
    queries.extend(chosen(&DATES[3..], "arrow_cast('2020-02-29 12:00:00.5', 'Timestamp(Microsecond, Some(\"UTC\"))')"));
    queries.extend(names(DATES).flat_map(of));
    queries.extend(calendar(DATES, UNITS, |column| column != "\"day\""));
    check(DATES, &queries).await;
}

#[tokio::test]
async fn times_binary_strings_and_uuids_are_grouped_and_joined_as_here() {
    check(OTHERS, &[keyed(OTHERS), ordered(&OTHERS[..2])].concat()).await;
}
