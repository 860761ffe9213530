//! What servers compute of whole queries, entry by entry of their capability tables over the edges of each type: the answer is that of a
//! local copy, and it is one statement.

mod mysql;
mod postgres;

use headwater_sql_tests::services::{Reference, Services, rows};

/// A column's name, type and values; NULL is added.
type Column = (&'static str, &'static str, &'static [&'static str]);

/// A table `t` with a row for each place in the longest list of values and rows that repeat some.
fn insert(columns: &[Column], quote: char) -> String {
    let longest = columns.iter().map(|(_, _, values)| values.len()).max().unwrap_or(0);
    let names =
        columns.iter().map(|(name, sql, _)| format!("{quote}{name}{quote} {sql}")).collect::<Vec<_>>().join(", ");
    let row = |row: usize| {
        let value = |(_, _, values): &Column| match row {
            row if row <= longest => values.get(row).copied().unwrap_or("NULL"),
            row => values[row % values.len()],
        };
        format!("({row}, {})", columns.iter().map(value).collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = (0..longest + 9).map(row).collect();
    format!("CREATE TABLE t (id int PRIMARY KEY, {names}); INSERT INTO t VALUES {}", rows.join(", "))
}

/// Asks each query of `s.t` and asserts that it is one statement that groups or joins, and the answer of a local copy.
async fn agree(services: Services, queries: &[String]) {
    let computes = |text: &str| {
        text.contains(" GROUP BY ")
            || text.contains(" JOIN ")
            || text.contains("(DISTINCT ")
            || text.contains("SELECT count(")
            || text.contains(" IN (SELECT ")
            || text.contains("EXISTS (")
    };
    let whole = |plan: &str| {
        let statements: Vec<&str> = plan.split("statement=").skip(1).collect();
        statements.len() == 1 && statements.iter().all(|text| computes(text))
    };
    agree_as(services, queries, whole, "is not one statement that computes").await;
}

/// Asks each query of `s.t` and asserts that its source leaves out what it can of rows that are looked at again, and the answer of a local copy.
async fn agree_beside(services: Services, queries: &[String]) {
    let narrowed = |plan: &str| {
        let statement = plan.split("statement=").nth(1).unwrap_or_default();
        statement.contains(" WHERE ") && plan.contains("the case of letters beyond ASCII differs")
    };
    agree_as(services, queries, narrowed, "leaves nothing out").await;
}

/// The answer of a local copy, with a plan as it should be.
async fn agree_as(services: Services, queries: &[String], is_right: impl Fn(&str) -> bool, fault: &str) {
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["s.t"]).await;
    let mut wrong = Vec::new();
    for query in queries {
        if let Err(difference) = reference.agrees(&engine, query).await {
            wrong.push(format!("{query}\n{difference}"));
        }
        let plan = rows(&engine, &format!("EXPLAIN {query}")).await.texts().concat().concat();
        if !is_right(&plan) {
            wrong.push(format!("{query}\n{fault}:\n{plan}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Conditions on small and capital letters.
fn cased(columns: &[Column]) -> Vec<String> {
    let of = |c: String| {
        [
            format!("SELECT id FROM s.t WHERE lower({c}) = 'a'"),
            format!("SELECT id FROM s.t WHERE lower({c}) <> 'á'"),
            format!("SELECT id FROM s.t WHERE upper({c}) IN ('A', 'SS', 'Á', 'AB')"),
            format!("SELECT id FROM s.t WHERE lower({c}) LIKE 'a%' AND id > 2"),
            format!("SELECT id FROM s.t WHERE lower(substr({c}, 1, 1)) = 'z' OR upper({c}) > 'Z'"),
            format!("SELECT id FROM s.t WHERE lower({c}) = upper(bytewise)"),
            format!("SELECT count(*) FROM s.t WHERE upper({c}) = 'A'"),
        ]
    };
    names(columns).flat_map(of).collect()
}

fn names(columns: &[Column]) -> impl Iterator<Item = String> {
    columns.iter().map(|(name, ..)| format!("\"{name}\""))
}

/// Groups, distinct counts and joins by a column.
fn keyed(columns: &[Column]) -> Vec<String> {
    let of = |c: String| {
        [
            format!("SELECT {c}, count(*) AS n FROM s.t GROUP BY {c}"),
            format!("SELECT count(DISTINCT {c}) FROM s.t"),
            format!("SELECT a.id, b.id FROM s.t a JOIN s.t b ON a.{c} = b.{c}"),
            format!("SELECT a.id, b.id FROM s.t a LEFT JOIN s.t b ON a.{c} = b.{c} AND b.id > 3"),
            format!("SELECT a.id FROM s.t a WHERE a.{c} IN (SELECT b.{c} FROM s.t b WHERE b.id % 3 = 1)"),
            format!(
                "SELECT a.id FROM s.t a WHERE NOT EXISTS (SELECT 1 FROM s.t b WHERE b.id % 3 = 1 AND b.{c} = a.{c})"
            ),
        ]
    };
    names(columns).flat_map(of).collect()
}

/// The least, the greatest, and the first of an order.
fn ordered(columns: &[Column]) -> Vec<String> {
    let of = |c: String| {
        let top = |order: &str| format!("SELECT {c}, count(*) AS n FROM s.t GROUP BY {c} ORDER BY {c} {order} LIMIT 3");
        [
            format!("SELECT count(*), min({c}), max({c}) FROM s.t"),
            format!("SELECT id % 3, min({c}), max({c}) FROM s.t GROUP BY id % 3"),
            format!("SELECT a.id, b.id FROM s.t a JOIN s.t b ON a.id = b.id + 1 AND a.{c} < b.{c}"),
            top("ASC NULLS FIRST"),
            top("ASC NULLS LAST"),
            top("DESC NULLS FIRST"),
            top("DESC NULLS LAST"),
        ]
    };
    names(columns).flat_map(of).collect()
}

/// CASE and COALESCE with a constant of the column's type.
fn chosen(columns: &[Column], constant: &str) -> Vec<String> {
    let of = |c: String| {
        [
            format!("SELECT coalesce({c}, {constant}) AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!("SELECT CASE WHEN id > 4 THEN {c} END AS v, count(*) AS n FROM s.t GROUP BY 1"),
            format!(
                "SELECT CASE WHEN {c} IS NULL THEN {constant} WHEN id > 3 THEN {c} END AS v, count(*) AS n FROM s.t GROUP BY 1"
            ),
            format!("SELECT count(*) FROM s.t WHERE coalesce({c}, {constant}) = {constant}"),
        ]
    };
    names(columns).flat_map(of).collect()
}

/// Fields of dates and timestamps, and what they are truncated to. `units` are those that the source truncates to; `timed` says of a column whether it tells a time.
fn calendar(columns: &[Column], units: &[&str], timed: impl Fn(&str) -> bool) -> Vec<String> {
    let grouped = |value: &str| format!("SELECT {value} AS v, count(*) AS n FROM s.t GROUP BY 1");
    let of = |c: String| {
        let fields = ["year", "month", "day", "quarter", "week", "dow", "doy"].iter();
        let times = ["hour", "minute", "second"].iter().filter(|_| timed(&c));
        let mut queries: Vec<String> =
            fields.chain(times).map(|field| grouped(&format!("date_part('{field}', {c})"))).collect();
        queries.extend(units.iter().map(|unit| grouped(&format!("date_trunc('{unit}', {c})"))));
        if timed(&c) {
            queries.push(grouped(&format!("CAST({c} AS DATE)")));
            queries.push(format!("SELECT count(*) FROM s.t WHERE CAST({c} AS DATE) = DATE '2020-02-29'"));
            queries.push(format!("SELECT count(*) FROM s.t WHERE CAST({c} AS DATE) > DATE '2020-02-28'"));
        }
        queries.push(format!("SELECT count(*) FROM s.t WHERE date_trunc('month', {c}) = '2020-02-01'"));
        queries.push(format!("SELECT count(*) FROM s.t WHERE date_trunc('year', {c}) <= '1969-01-01'"));
        queries.push(format!("SELECT count(*), max(date_trunc('quarter', {c})) FROM s.t"));
        queries
    };
    names(columns).flat_map(of).collect()
}

/// What is made of the characters of texts.
fn spelled(columns: &[Column]) -> Vec<String> {
    let of = |c: String| {
        [
            format!("SELECT btrim({c}), ltrim({c}), rtrim({c}), count(*) AS n FROM s.t GROUP BY 1, 2, 3"),
            format!("SELECT left({c}, 1), right({c}, 1), right({c}, 0), count(*) AS n FROM s.t GROUP BY 1, 2, 3"),
            format!("SELECT replace({c}, 'a', 'x'), replace({c}, 'ss', ''), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!(
                "SELECT strpos({c}, 'a'), strpos({c}, ''), position('s' IN {c}), count(*) AS n FROM s.t GROUP BY 1, 2, 3"
            ),
            format!("SELECT concat({c}, '|'), concat({c}, '-', id % 2), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!("SELECT count(*) FROM s.t WHERE right({c}, 1) = 'a' OR strpos({c}, 'b') > 0"),
            format!("SELECT count(*) FROM s.t WHERE strpos({c}, substr({c}, 2)) = 1"),
        ]
    };
    names(columns).flat_map(of).collect()
}

/// The greatest and the least of several values.
fn extremes(columns: &[Column], constant: &str) -> Vec<String> {
    let of = |c: String| {
        [
            format!("SELECT greatest({c}, {constant}), least({c}, {constant}), count(*) AS n FROM s.t GROUP BY 1, 2"),
            format!("SELECT count(*) FROM s.t WHERE greatest({c}, {constant}) = {c}"),
            format!("SELECT greatest({c}, nullif({c}, {c}), {constant}), count(*) AS n FROM s.t GROUP BY 1"),
        ]
    };
    names(columns).flat_map(of).collect()
}
