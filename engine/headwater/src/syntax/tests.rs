use datafusion::sql::parser::DFParser;

use super::*;

fn mended(text: &str) -> Result<String> {
    let mut statement = DFParser::parse_sql(text).unwrap().pop_front().unwrap();
    mend(&mut statement)?;
    Ok(statement.to_string())
}

/// The statement with each operator's operands in parentheses, as far as the operators are those that are mended.
fn grouped(condition: &str) -> String {
    fn group(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", group(left), group(right)),
            Expr::UnaryOp { op, expr } => format!("({op} {})", group(expr)),
            Expr::IsDistinctFrom(left, right) => format!("({} <> {})", group(left), group(right)),
            Expr::IsNotDistinctFrom(left, right) => format!("({} == {})", group(left), group(right)),
            Expr::IsNull(expr) => format!("({} IS NULL)", group(expr)),
            other => other.to_string(),
        }
    }
    let mut statement = DFParser::parse_sql(&format!("SELECT {condition}")).unwrap().pop_front().unwrap();
    mend(&mut statement).unwrap();
    let Statement::Statement(sql) = statement else { panic!("{condition}") };
    let Sql::Query(query) = *sql else { panic!("{condition}") };
    let SetExpr::Select(select) = *query.body else { panic!("{condition}") };
    match &select.projection[0] {
        sqlparser::ast::SelectItem::UnnamedExpr(expr) => group(expr),
        other => panic!("{other}"),
    }
}

#[test]
fn distinct_from_takes_its_own_operand() {
    for (text, right) in [
        ("a IS DISTINCT FROM b", "(a <> b)"),
        ("a IS DISTINCT FROM b AND c", "((a <> b) AND c)"),
        ("a IS DISTINCT FROM (b AND c)", "(a <> (b AND c))"),
        ("a IS NOT DISTINCT FROM b + 1 AND c > 3", "((a == (b + 1)) AND (c > 3))"),
        ("a IS DISTINCT FROM b = c OR d", "((a <> (b = c)) OR d)"),
        ("a IS DISTINCT FROM b AND c IS DISTINCT FROM d OR e", "(((a <> b) AND (c <> d)) OR e)"),
        ("a IS DISTINCT FROM b OR c IS NOT DISTINCT FROM d AND e", "((a <> b) OR ((c == d) AND e))"),
        ("a AND b IS DISTINCT FROM c OR d", "((a AND (b <> c)) OR d)"),
        ("a OR b IS DISTINCT FROM c AND d AND e", "(a OR (((b <> c) AND d) AND e))"),
        ("NOT a IS DISTINCT FROM b AND c", "((NOT (a <> b)) AND c)"),
        ("a IS DISTINCT FROM NOT b AND c", "((a <> (NOT b)) AND c)"),
        ("a IS DISTINCT FROM NOT b IS DISTINCT FROM c AND d", "((a <> (NOT (b <> c))) AND d)"),
        ("a IS DISTINCT FROM b IS DISTINCT FROM c AND d", "(((a <> b) <> c) AND d)"),
        ("a IS DISTINCT FROM b IS NULL AND c", "(((a <> b) IS NULL) AND c)"),
        ("a IS DISTINCT FROM b BETWEEN c AND d AND e", "((a <> b BETWEEN c AND d) AND e)"),
        ("a BETWEEN b AND c IS DISTINCT FROM d AND e", "((a BETWEEN b AND c <> d) AND e)"),
        ("a IS NULL AND b", "((a IS NULL) AND b)"),
    ] {
        assert_eq!(grouped(text), right, "{text}");
    }
    for text in [
        "CASE WHEN (SELECT a IS DISTINCT FROM b AND c) THEN 1 END",
        "f(x, a IS DISTINCT FROM b AND c)",
        "CASE WHEN a IS DISTINCT FROM b AND c THEN 1 END",
    ] {
        let mut statement = DFParser::parse_sql(&format!("SELECT {text}")).unwrap().pop_front().unwrap();
        mend(&mut statement).unwrap();
        let mut seek = Joined(false);
        let Statement::Statement(sql) = &mut statement else { panic!("{text}") };
        let _done = VisitMut::visit(sql, &mut seek);
        assert!(seek.0, "{text}");
    }
}

/// Whether an AND has what is distinct on its left.
struct Joined(bool);

impl VisitorMut for Joined {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0 |= matches!(expr, Expr::BinaryOp { left, .. } if matches!(**left, Expr::IsDistinctFrom(..)));
        ControlFlow::Continue(())
    }
}

fn assert_mended(text: &str, right: &str) {
    assert_eq!(mended(text).unwrap_or_else(|error| panic!("{text}: {error}")), right, "{text}");
    assert_eq!(mended(right).unwrap(), right, "it stays");
}

fn assert_refused(text: &str, part: &str) {
    let error = mended(text).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(part), "{text}: {error}");
}

#[test]
fn windows_are_put_where_they_are_named() {
    for (text, right) in [
        (
            "SELECT sum(a) OVER (w ORDER BY a) FROM x WINDOW w AS (PARTITION BY b)",
            "SELECT sum(a) OVER (PARTITION BY b ORDER BY a) FROM x",
        ),
        (
            "SELECT sum(a) OVER (w) FROM x WINDOW w AS (PARTITION BY b ORDER BY c)",
            "SELECT sum(a) OVER (PARTITION BY b ORDER BY c) FROM x",
        ),
        (
            "SELECT sum(a) OVER (W ROWS 1 PRECEDING) FROM x WINDOW w AS (ORDER BY c)",
            "SELECT sum(a) OVER (ORDER BY c ROWS 1 PRECEDING) FROM x",
        ),
        (
            "SELECT sum(a) OVER v FROM x WINDOW w AS (PARTITION BY b), v AS (w ORDER BY c ROWS 1 PRECEDING)",
            "SELECT sum(a) OVER (PARTITION BY b ORDER BY c ROWS 1 PRECEDING) FROM x",
        ),
        (
            "SELECT a FROM x WINDOW w AS (ORDER BY a) ORDER BY rank() OVER w",
            "SELECT a FROM x ORDER BY rank() OVER (ORDER BY a)",
        ),
        (
            "SELECT (SELECT sum(c) OVER (w) FROM y WINDOW w AS (ORDER BY d)), sum(a) OVER w FROM x WINDOW w AS (ORDER BY a)",
            "SELECT (SELECT sum(c) OVER (ORDER BY d) FROM y), sum(a) OVER (ORDER BY a) FROM x",
        ),
    ] {
        assert_mended(text, right);
    }
    for (text, part) in [
        (
            "SELECT sum(a) OVER (w PARTITION BY a) FROM x WINDOW w AS (ORDER BY a)",
            "cannot override PARTITION BY clause of window \"w\"",
        ),
        (
            "SELECT sum(a) OVER (w ORDER BY a) FROM x WINDOW w AS (ORDER BY a)",
            "cannot override ORDER BY clause of window \"w\"",
        ),
        (
            "SELECT sum(a) OVER (w) FROM x WINDOW w AS (ORDER BY a ROWS 1 PRECEDING)",
            "cannot override frame clause of window \"w\"",
        ),
        ("SELECT sum(a) OVER (v) FROM x WINDOW w AS (ORDER BY a)", "\"v\""),
        ("SELECT sum(a) OVER v FROM x", "\"v\""),
        ("SELECT sum(a) OVER w FROM x WINDOW w AS (ORDER BY a), w AS (ORDER BY b)", "defined twice"),
        ("SELECT (SELECT sum(b) OVER w FROM y) FROM x WINDOW w AS (ORDER BY a)", "\"w\""),
    ] {
        assert_refused(text, part);
    }
}

#[test]
fn outer_joins_with_using_name_the_side_that_has_the_value() {
    for (text, right) in [
        (
            "SELECT * FROM s.z LEFT JOIN y AS b USING (id)",
            "SELECT s.z.id AS id, s.z.* EXCLUDE (id), b.* EXCLUDE (id) FROM s.z LEFT JOIN y AS b ON s.z.id = b.id",
        ),
        (
            "SELECT id, x FROM z RIGHT JOIN y USING (ID) WHERE id > 3 ORDER BY id",
            "SELECT y.ID AS id, x FROM z RIGHT JOIN y ON z.ID = y.ID WHERE y.ID > 3 ORDER BY y.ID",
        ),
        (
            "SELECT id, count(*) FROM z FULL JOIN y USING (id) GROUP BY id HAVING id > 1 ORDER BY id",
            "SELECT coalesce(z.id, y.id) AS id, count(*) FROM z FULL JOIN y ON z.id = y.id \
             GROUP BY coalesce(z.id, y.id) HAVING coalesce(z.id, y.id) > 1 ORDER BY id",
        ),
        (
            "SELECT x AS id FROM z FULL JOIN y USING (id) ORDER BY id, id + 1",
            "SELECT x AS id FROM z FULL JOIN y ON z.id = y.id ORDER BY id, coalesce(z.id, y.id) + 1",
        ),
        (
            "SELECT id FROM a FULL JOIN b USING (id, k) FULL JOIN c USING (id) WHERE k = 4",
            "SELECT coalesce(a.id, b.id, c.id) AS id FROM a FULL JOIN b ON a.id = b.id AND a.k = b.k \
             FULL JOIN c ON coalesce(a.id, b.id) = c.id WHERE coalesce(a.k, b.k) = 4",
        ),
        (
            "SELECT * FROM a LEFT JOIN b USING (id) JOIN c USING (id) JOIN d ON d.x = id",
            "SELECT a.id AS id, a.* EXCLUDE (id), b.* EXCLUDE (id), c.* EXCLUDE (id), d.* FROM a LEFT JOIN b ON a.id = b.id \
             JOIN c ON a.id = c.id JOIN d ON d.x = a.id",
        ),
        (
            "SELECT id FROM a RIGHT JOIN b USING (id) LEFT JOIN c USING (id)",
            "SELECT b.id AS id FROM a RIGHT JOIN b ON a.id = b.id LEFT JOIN c ON b.id = c.id",
        ),
        (
            "SELECT id FROM a FULL JOIN b USING (id) LEFT JOIN c USING (k)",
            "SELECT coalesce(a.id, b.id) AS id FROM a FULL JOIN b ON a.id = b.id LEFT JOIN c USING(k)",
        ),
        (
            "SELECT * FROM (SELECT * FROM x FULL JOIN y USING (k)) AS a RIGHT JOIN b USING (id)",
            "SELECT b.id AS id, a.* EXCLUDE (id), b.* EXCLUDE (id) FROM (SELECT coalesce(x.k, y.k) AS k, x.* EXCLUDE (k), y.* EXCLUDE (k) \
             FROM x FULL JOIN y ON x.k = y.k) AS a RIGHT JOIN b ON a.id = b.id",
        ),
        (
            "SELECT id FROM a FULL JOIN b USING (id) WHERE EXISTS (SELECT id FROM c)",
            "SELECT coalesce(a.id, b.id) AS id FROM a FULL JOIN b ON a.id = b.id WHERE EXISTS (SELECT id FROM c)",
        ),
        (
            "SELECT id FROM a FULL JOIN b USING (id) UNION ALL SELECT 1 ORDER BY id",
            "SELECT coalesce(a.id, b.id) AS id FROM a FULL JOIN b ON a.id = b.id UNION ALL SELECT 1 ORDER BY id",
        ),
    ] {
        assert_mended(text, right);
    }
    for text in [
        "SELECT * FROM a JOIN b USING (id) INNER JOIN c USING (id)",
        "SELECT id FROM a LEFT JOIN b USING(id) LEFT JOIN c USING(k) ORDER BY k",
        "SELECT * FROM a NATURAL JOIN b",
        "SELECT * FROM a LEFT JOIN b ON a.id = b.id",
    ] {
        assert_eq!(mended(text).unwrap(), mended(&mended(text).unwrap()).unwrap());
        assert!(!mended(text).unwrap().contains("coalesce"), "{text}");
        assert!(!mended(text).unwrap().contains("EXCLUDE"), "{text}");
    }
}

#[test]
fn left_joins_of_which_the_planner_shows_the_left_side_are_left_to_it() {
    for text in [
        "SELECT * FROM a LEFT JOIN b USING(id) LEFT JOIN c USING(k)",
        "SELECT * FROM (SELECT 1 AS id) LEFT JOIN b USING(id)",
        "SELECT * EXCLUDE (x) FROM a LEFT JOIN b USING(id)",
        "SELECT * FROM a JOIN b USING(k) LEFT JOIN c USING(v) ORDER BY a.x",
    ] {
        assert_eq!(mended(text).unwrap(), text);
    }
}

#[test]
fn outer_joins_of_which_the_columns_are_not_known_are_refused() {
    for (text, part) in [
        ("SELECT * FROM z LEFT JOIN b USING (id) LEFT JOIN c USING (k)", "USING (k)"),
        ("SELECT 1 FROM a JOIN b ON true FULL JOIN c USING (k)", "write ON"),
        ("SELECT a.x FROM a NATURAL LEFT JOIN b", "write USING"),
        ("SELECT a.x FROM a NATURAL FULL JOIN b", "write USING"),
        ("SELECT * FROM b LEFT JOIN (SELECT 1 AS id) USING (id)", "write ON"),
        ("SELECT * EXCLUDE (x) FROM b LEFT JOIN a USING (id)", "write the columns"),
        ("SELECT id FROM a FULL JOIN b USING (id), c FULL JOIN d USING (id)", "ambiguous column id"),
        ("EXPLAIN SELECT a.x FROM a NATURAL LEFT JOIN b", "write USING"),
        ("WITH c AS (SELECT a.x FROM a NATURAL RIGHT JOIN b) SELECT * FROM c", "write USING"),
    ] {
        assert_refused(text, part);
    }
}

#[test]
fn first_rows_are_fetched() {
    for (text, right) in [
        ("SELECT a FROM x ORDER BY a FETCH FIRST 3 ROWS ONLY", "SELECT a FROM x ORDER BY a LIMIT 3"),
        ("SELECT a FROM x ORDER BY a FETCH NEXT ROW ONLY", "SELECT a FROM x ORDER BY a LIMIT 1"),
        ("SELECT a FROM x OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY", "SELECT a FROM x LIMIT 3 OFFSET 2 ROWS"),
        ("SELECT a FROM x FETCH FIRST 3 ROWS WITH TIES", "SELECT a FROM x FETCH FIRST 3 ROWS WITH TIES"),
    ] {
        assert_mended(text, right);
    }
}
