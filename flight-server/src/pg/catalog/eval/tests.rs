//! Questions over a catalog of three tables.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::*;
use crate::pg::catalog::Context;
use crate::pg::catalog::relations::tests::relations;
use crate::pg::encode::Encoder;
use crate::pg::types::settled;

/// What a question yields, as clients read it: columns with `|` between them, NULL as `~`.
fn ask(text: &str) -> Result<Vec<String>, PgError> {
    let Some(Statement::Query(query)) = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().pop() else {
        panic!("{text}")
    };
    let names: HashSet<String> = crate::pg::catalog::named(text)?.0;
    let asks = Context { user: "ada".to_owned(), settings: Settings::default(), process: 7 };
    let relations = relations();
    let tables = relations.tables(asks, &names);
    let compiled = Compiled::new(&query, tables, relations, 0)?;
    let batch = compiled.run(&[], &AtomicBool::new(false))?;
    let encoder = Encoder::new(&batch, &settled(&compiled.schema())).unwrap();
    let value = |column: usize, row: usize| {
        let mut text = String::new();
        if encoder.text(&mut text, column, row).unwrap() { text } else { "~".to_owned() }
    };
    Ok((0..encoder.rows)
        .map(|row| (0..encoder.width()).map(|column| value(column, row)).collect::<Vec<_>>().join("|"))
        .collect())
}

#[track_caller]
fn yields(text: &str, expected: &[&str]) {
    match ask(text) {
        Ok(found) => assert_eq!(found, expected, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn expressions_are_postgres_ones() {
    for (text, expected) in [
        ("SELECT 1 + 2 * 3, 7 / 2, 7 % 2, 1.5 * 2", "7|3|1|3"),
        ("SELECT 'a' || 1 || NULL, 'a' || 'b'", "~|ab"),
        ("SELECT NULL = NULL, NULL IS NULL, 1 IS DISTINCT FROM NULL", "~|t|t"),
        ("SELECT true AND NULL, false AND NULL, true OR NULL, NOT NULL::bool", "~|f|t|~"),
        ("SELECT 1 IN (1, 2), 3 IN (1, NULL), 3 NOT IN (1, 2)", "t|~|t"),
        ("SELECT 'pg_x' LIKE 'pg/_%' ESCAPE '/', 'pgx' LIKE 'pg/_%' ESCAPE '/', 'A' ILIKE 'a'", "t|f|t"),
        ("SELECT 'abc' ~ '^a', 'abc' !~ 'b', 'ABC' ~* 'b'", "t|f|t"),
        ("SELECT ARRAY[1,2]::int[], ARRAY['a','b c'], '{1,2}'::int[]", "{1,2}|{a,\"b c\"}|{1,2}"),
        (
            "SELECT (ARRAY['a','b'])[2], (ARRAY[1,2,3])[2:3], 2 = ANY(ARRAY[1,2]), 3 <> ALL('{1,2}'::int[])",
            "b|{2,3}|t|t",
        ),
        (
            "SELECT array_to_string(ARRAY['a',NULL,'b'], ','), array_length(ARRAY[1,2], 1), array_upper('{}'::int[], 1)",
            "a,b|2|~",
        ),
        ("SELECT string_to_array('a,b', ','), split_part('a.b', '.', 2), quote_ident('A b')", "{a,b}|b|\"A b\""),
        (
            "SELECT CASE WHEN 1 = 2 THEN 'x' ELSE 'y' END, CASE 3 WHEN 3 THEN 'z' END, coalesce(NULL, 'd'), nullif(1, 1)",
            "y|z|d|~",
        ),
        (
            "SELECT substring('abcdef' from 2 for 3), trim(both '\"' from '\"x\"'), position('c' in 'abc'), left('abc', -1)",
            "bcd|x|3|ab",
        ),
        (
            "SELECT format('%I.%s', 'A', 'b'), parse_ident('a.\"B\"'), regexp_replace('a1b2', '[0-9]', '', 'g')",
            "\"A\".b|{a,B}|ab",
        ),
        (
            "SELECT 'pg_class'::regclass::oid, 1259::regclass, 'int4'::regtype, 23::regtype::text",
            "1259|pg_class|integer|integer",
        ),
        (
            "SELECT current_user, current_database(), current_schema(), current_schemas(false)",
            "ada|headwater|orders|{orders,customers}",
        ),
        ("SELECT current_setting('server_version_num')::int / 100, version() LIKE 'PostgreSQL 15%'", "1500|t"),
        ("SELECT (1, 'a') = (1, 'a'), (1, 2) IN (SELECT 1, 2), 5 BETWEEN 1 AND 5", "t|t|t"),
        ("SELECT '5'::int + 1, 3::text || 'x', 'b'::\"char\", true::int, '7' = 7", "6|3x|b|1|t"),
        (
            "SELECT array_agg(x ORDER BY x DESC), count(*), sum(x), string_agg(x::text, '-') FROM unnest(ARRAY[1,3,2]) AS x",
            "{3,2,1}|3|6|1-3-2",
        ),
    ] {
        yields(text, &[expected]);
    }
}

#[test]
fn relations_join_by_every_kind() {
    let values = "WITH a(x, p) AS (VALUES (1, 'a'), (2, 'b')), b(x, q) AS (VALUES (2, 'c'), (3, 'd'))";
    yields(&format!("{values} SELECT a.x, p, q FROM a JOIN b ON a.x = b.x"), &["2|b|c"]);
    yields(&format!("{values} SELECT * FROM a LEFT JOIN b USING (x) ORDER BY 1"), &["1|a|~", "2|b|c"]);
    yields(&format!("{values} SELECT b.x, p, q FROM a RIGHT JOIN b ON a.x = b.x ORDER BY b.x"), &["2|b|c", "3|~|d"]);
    yields(&format!("{values} SELECT a.x, b.x FROM a FULL JOIN b ON a.x = b.x ORDER BY 1, 2"), &["1|~", "2|2", "~|3"]);
    yields(&format!("{values} SELECT a.x, b.x FROM a, b WHERE a.x < b.x AND p = 'b'"), &["2|3"]);
    yields(&format!("{values} SELECT p FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = a.x)"), &["b"]);
    yields(&format!("{values} SELECT p, (SELECT q FROM b WHERE b.x = a.x) FROM a ORDER BY p"), &["a|~", "b|c"]);
    yields(
        &format!("{values} SELECT p, s.q FROM a, LATERAL (SELECT q FROM b WHERE b.x > a.x) s ORDER BY 1, 2"),
        &["a|c", "a|d", "b|d"],
    );
    yields(
        &format!("{values} SELECT a.p, b.q FROM a LEFT JOIN (b JOIN a AS c ON c.x = b.x) ON b.x = a.x ORDER BY 1"),
        &["a|~", "b|c"],
    );
}

#[test]
fn rows_are_grouped_put_together_and_numbered() {
    let values = "WITH t(g, v) AS (VALUES ('a', 1), ('a', 2), ('b', 3))";
    yields(&format!("{values} SELECT g, count(*), max(v) FROM t GROUP BY g HAVING count(*) > 1"), &["a|2|2"]);
    yields(&format!("{values} SELECT count(*) FROM t WHERE v > 9"), &["0"]);
    yields(
        &format!("{values} SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY v DESC) FROM t ORDER BY v"),
        &["a|1|2", "a|2|1", "b|3|1"],
    );
    yields(&format!("{values} SELECT DISTINCT g FROM t ORDER BY g DESC"), &["b", "a"]);
    yields(&format!("{values} SELECT DISTINCT ON (g) g, v FROM t ORDER BY g, v DESC"), &["a|2", "b|3"]);
    yields(&format!("{values} SELECT ARRAY(SELECT v FROM t ORDER BY v DESC LIMIT 2 OFFSET 1)"), &["{2,1}"]);
    yields("SELECT 1 UNION SELECT 1 UNION ALL SELECT 2 ORDER BY 1", &["1", "2"]);
    yields("SELECT x FROM generate_series(1, 4) x EXCEPT SELECT 2", &["1", "3", "4"]);
    yields(
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) SELECT n FROM r",
        &["1", "2", "3", "4"],
    );
}

#[test]
fn lists_become_rows() {
    yields("SELECT unnest(ARRAY['a','b']), generate_subscripts(ARRAY['a','b'], 1)", &["a|1", "b|2"]);
    yields("SELECT x, n FROM unnest(ARRAY['a','b']) WITH ORDINALITY AS t(x, n)", &["a|1", "b|2"]);
    yields("SELECT (information_schema._pg_expandarray(ARRAY[7,8])).n", &["1", "2"]);
    yields(
        "SELECT trim(s[i]) FROM generate_series(1, array_upper(string_to_array('a, b', ','), 1)) AS i, string_to_array('a, b', ',') s",
        &["a", "b"],
    );
    // A vector of the catalog counts from 0.
    yields("SELECT generate_subscripts(indkey, 1), indkey[0], indkey FROM pg_index LIMIT 1", &["0|1|1"]);
}

#[test]
fn catalog_tells_tables_columns_and_keys() {
    yields(
        "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname !~ '^pg_|information_schema' AND c.relkind IN ('r', 'm') ORDER BY 1, 2",
        &["customers|t|r", "orders|lines|m", "orders|t|r"],
    );
    yields(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a \
         WHERE a.attrelid = 'orders.t'::regclass AND a.attnum > 0",
        &["id|bigint|t"],
    );
    yields(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'customers.t'::regclass",
        &["t_pkey|PRIMARY KEY (id)"],
    );
    // In the order in which ODBC's driver writes it, every column would meet every other.
    yields(
        "SELECT ta.attname, ia.attnum FROM pg_attribute ta, pg_attribute ia, pg_class tc, pg_index i, pg_namespace n, pg_class ic \
         WHERE tc.relname = 't' AND n.nspname = 'orders' AND tc.oid = i.indrelid AND n.oid = tc.relnamespace AND i.indisprimary = 't' \
         AND ia.attrelid = i.indexrelid AND ta.attrelid = i.indrelid AND ta.attnum = i.indkey[ia.attnum-1] AND ic.oid = i.indexrelid",
        &["id|1"],
    );
    yields("SELECT table_name FROM information_schema.tables WHERE table_schema = 'orders'", &["t"]);
    yields("SELECT a.tableoid::regclass FROM pg_am a LIMIT 1", &["pg_am"]);
    yields(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_am'::regclass ORDER BY attnum",
        &["oid", "amname", "amhandler", "amtype"],
    );
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    for (text, code, part) in [
        ("SELECT * FROM nothing", "42P01", "nothing"),
        ("SELECT nothing FROM pg_class", "42703", "nothing"),
        ("SELECT nothing(1)", "42883", "nothing"),
        ("SELECT 'nothing'::regclass", "42P01", "nothing"),
        ("SELECT oid FROM pg_class, pg_type", "42702", "oid"),
        ("SELECT 1 / 0", "22012", "zero"),
        ("SELECT (SELECT x FROM generate_series(1, 2) x)", "21000", "more than one row"),
        ("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b", "54000", "rows"),
        ("SELECT 'a' ~ '('", "2201B", "regular expression"),
    ] {
        let error = ask(text).unwrap_err();
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn statement_that_is_no_longer_wanted_ends() {
    let text = "SELECT count(*) FROM generate_series(1, 10000) a, generate_series(1, 10000) b";
    let Some(Statement::Query(query)) = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().pop() else { panic!() };
    let asks = Context { user: "ada".to_owned(), settings: Settings::default(), process: 7 };
    let relations = relations();
    let tables = relations.tables(asks, &HashSet::new());
    let compiled = Compiled::new(&query, tables, relations, 0).unwrap();
    assert_eq!(compiled.run(&[], &AtomicBool::new(true)).unwrap_err().code, crate::pg::error::CANCELED);
}

#[test]
fn question_that_locks_rows_is_refused_wherever_it_stands() {
    for text in [
        "SELECT relname FROM pg_class FOR UPDATE",
        "SELECT * FROM (SELECT relname FROM pg_class FOR SHARE) AS c",
        "WITH c AS (SELECT relname FROM pg_class FOR UPDATE) SELECT * FROM c",
        "WITH RECURSIVE c AS (SELECT 1 AS n UNION SELECT n FROM c FOR UPDATE) SELECT * FROM c",
        "SELECT 'a' UNION (SELECT relname FROM pg_class FOR UPDATE)",
    ] {
        let error = ask(text).unwrap_err();
        assert!(error.message.contains("locks rows"), "{text}: {error}");
    }
}
