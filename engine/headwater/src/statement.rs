//! Which statements the engine runs, and the few that it reads in its own way.
//!
//! Everything that only reads is let through to DataFusion. Whatever writes, defines or copies is refused by name before it is
//! planned; but for materialized views, which are the engine's own. `SET search_path` takes a list, as in Postgres; `?` placeholders become `$1`, `$2`, ... in the order of the text.

use std::ops::ControlFlow;

use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement as Named};
use datafusion::sql::parser::{DFParser, Statement};
use sqlparser::ast::{Expr, Ident, ObjectName, Query, Set, Statement as Sql, Value, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::syntax::mend;
use crate::views::{ViewStatement, known_to_parser, unknown_to_parser};
use crate::{Error, Result};

/// A statement that may run.
#[derive(Debug)]
pub(crate) enum Request {
    /// DataFusion plans and runs it.
    Plan(Box<Statement>),
    /// The session's search path is set.
    SearchPath(Vec<String>),
    /// Materialized views are defined or explained.
    View(ViewStatement),
}

/// Parses one statement and refuses what the engine does not run.
pub(crate) fn parse(text: &str) -> Result<Request> {
    if let Some(statement) = unknown_to_parser(text) {
        return statement.map(Request::View);
    }
    let text = number_placeholders(text)?;
    let mut statements = DFParser::parse_sql(&text)?;
    let Some(mut statement) = statements.pop_front() else {
        return Err(Error::Refused { what: "an empty statement".to_owned(), reason: "write a query".to_owned() });
    };
    if !statements.is_empty() {
        let reason = "send one statement at a time".to_owned();
        return Err(Error::Refused { what: format!("a text of {} statements", statements.len() + 1), reason });
    }
    if let Statement::Statement(sql) = &statement
        && let Some(view) = known_to_parser(sql)
    {
        return view.map(Request::View);
    }
    guard(&statement)?;
    mend(&mut statement)?;
    match statement {
        Statement::Statement(sql) => reading(*sql),
        other => Ok(Request::Plan(Box::new(other))),
    }
}

/// Whether a text is a statement that defines materialized views: CREATE, DROP or REFRESH MATERIALIZED VIEW. It runs when it is asked for
/// its answer, so a client that only describes a statement must not ask for this one's.
pub fn defines_view(text: &str) -> bool {
    matches!(
        parse(text),
        Ok(Request::View(ViewStatement::Create { .. } | ViewStatement::Drop { .. } | ViewStatement::Refresh { .. }))
    )
}

fn reading(sql: Sql) -> Result<Request> {
    let sql = match sql {
        Sql::Set(Set::SingleAssignment { variable, values, .. }) if is(&variable, "search_path") => {
            return path(&values).map(Request::SearchPath);
        }
        Sql::Set(Set::SingleAssignment { variable, values, .. }) if is(&variable, "headwater.search_path") => {
            return path(&values).map(Request::SearchPath);
        }
        Sql::ShowVariable { variable } if matches!(&variable[..], [name] if name.value.eq_ignore_ascii_case("search_path")) => {
            Sql::ShowVariable { variable: vec![Ident::new("headwater"), Ident::new("search_path")] }
        }
        Sql::ShowSchemas { .. } | Sql::ShowDatabases { .. } => {
            return parse("SELECT schema_name FROM information_schema.schemata ORDER BY schema_name");
        }
        other => other,
    };
    Ok(Request::Plan(Box::new(Statement::Statement(Box::new(sql)))))
}

fn is(name: &ObjectName, wanted: &str) -> bool {
    name.to_string().eq_ignore_ascii_case(wanted)
}

fn path(values: &[Expr]) -> Result<Vec<String>> {
    let mut path = Vec::new();
    for value in values {
        match value {
            Expr::Identifier(name) => path.push(name.value.clone()),
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => {
                    path.extend(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
                }
                other => return Err(not_a_path(&other.to_string())),
            },
            other => return Err(not_a_path(&other.to_string())),
        }
    }
    Ok(path)
}

fn not_a_path(found: &str) -> Error {
    let reason = "search_path takes names of services, as in SET search_path = orders, customers".to_owned();
    Error::Refused { what: format!("SET search_path to {found}"), reason }
}

/// Refuses everything that does not only read.
fn guard(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(sql) => guard_sql(sql),
        Statement::Explain(explain) => guard(&explain.statement),
        Statement::Reset(_) => Ok(()),
        Statement::CreateExternalTable(create) => Err(written("CREATE EXTERNAL TABLE", Some(create.name.to_string()))),
        Statement::CopyTo(copy) => Err(written("COPY TO", Some(copy.target.clone()))),
    }
}

fn guard_sql(sql: &Sql) -> Result<()> {
    match sql {
        Sql::Query(query) => refuse_locks(query),
        Sql::ExplainTable { .. }
        | Sql::Set(_)
        | Sql::ShowVariable { .. }
        | Sql::ShowVariables { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowSchemas { .. }
        | Sql::ShowDatabases { .. }
        | Sql::Execute { .. }
        | Sql::Deallocate { .. } => Ok(()),
        Sql::Explain { statement, .. } | Sql::Prepare { statement, .. } => guard_sql(statement),
        Sql::Insert(insert) => Err(written("INSERT", Some(insert.table.to_string()))),
        Sql::Update(update) => Err(written("UPDATE", Some(update.table.to_string()))),
        Sql::Delete(delete) => Err(written("DELETE", tables_of_delete(delete))),
        Sql::Merge(merge) => Err(written("MERGE", Some(merge.table.to_string()))),
        Sql::Truncate(truncate) => Err(written("TRUNCATE", truncate.table_names.first().map(|t| t.name.to_string()))),
        Sql::CreateTable(create) => Err(written("CREATE TABLE", Some(create.name.to_string()))),
        Sql::CreateView(create) => Err(written("CREATE VIEW", Some(create.name.to_string()))),
        Sql::AlterTable(alter) => Err(written("ALTER TABLE", Some(alter.name.to_string()))),
        Sql::Drop { object_type, names, .. } => {
            Err(written(&format!("DROP {object_type}"), names.first().map(ToString::to_string)))
        }
        other => Err(written(&first_words(&other.to_string()), None)),
    }
}

/// Refuses what has a query that locks rows, however deep it stands: no lock would be taken at a source.
pub(crate) fn refuse_locks(sql: &impl Visit) -> Result<()> {
    if sql.visit(&mut Locks).is_continue() {
        return Ok(());
    }
    let reason = "Headwater reads services and locks nothing in them; leave FOR UPDATE or FOR SHARE out".to_owned();
    Err(Error::Refused { what: "a query that locks rows".to_owned(), reason })
}

/// Stops at the first query that locks rows.
struct Locks;

impl Visitor for Locks {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if query.locks.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn tables_of_delete(delete: &sqlparser::ast::Delete) -> Option<String> {
    use sqlparser::ast::FromTable;
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    tables.first().map(|table| table.relation.to_string())
}

fn written(verb: &str, object: Option<String>) -> Error {
    let what = match object {
        Some(name) => format!("{verb} on {name}"),
        None => verb.to_owned(),
    };
    let reason = "the tables of services are read-only here; write through the service that owns them".to_owned();
    Error::Refused { what, reason }
}

/// What the statement guard let through must not turn out to write once it is planned, as SELECT INTO does.
pub(crate) fn guard_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let what = match &plan {
        LogicalPlan::Dml(dml) => format!("{} on {}", dml.op, dml.table_name),
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => format!("SELECT INTO {}", create.name),
        LogicalPlan::Ddl(ddl) => ddl.name().to_owned(),
        LogicalPlan::Copy(_) => "COPY".to_owned(),
        LogicalPlan::Statement(Named::SetVariable(set)) if is_runtime(&set.variable) => {
            return Err(engine_wide("SET", &set.variable));
        }
        LogicalPlan::Statement(Named::ResetVariable(reset)) if is_runtime(&reset.variable) => {
            return Err(engine_wide("RESET", &reset.variable));
        }
        _ => {
            for input in plan.inputs() {
                guard_plan(input.clone())?;
            }
            return Ok(plan);
        }
    };
    let reason = "the tables of services are read-only here; write through the service that owns them".to_owned();
    Err(Error::Refused { what, reason })
}

/// Whether a setting is of the runtime: memory, the directory for spilling, caches. DataFusion would give the session a runtime of its
/// own, beside the engine's limits.
fn is_runtime(variable: &str) -> bool {
    variable.starts_with("datafusion.runtime.")
}

fn engine_wide(verb: &str, variable: &str) -> Error {
    let reason = "it holds for the whole engine and stands in its limits".to_owned();
    Error::Refused { what: format!("{verb} {variable}"), reason }
}

/// The words in front of anything that may be a value or a name.
fn first_words(text: &str) -> String {
    text.split_whitespace()
        .take(2)
        .take_while(|word| word.chars().all(|c| c.is_ascii_uppercase()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Replaces each `?` that stands for a parameter by `$1`, `$2`, ...; quotes and comments are the tokenizer's business.
fn number_placeholders(text: &str) -> Result<String> {
    if !text.contains('?') {
        return Ok(text.to_owned());
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| datafusion::error::DataFusionError::from(sqlparser::parser::ParserError::from(error)))?;
    let numbered = tokens.iter().any(|token| matches!(&token.token, Token::Placeholder(mark) if mark != "?"));
    let marks: Vec<(u64, u64)> = tokens
        .iter()
        .filter(|token| matches!(&token.token, Token::Placeholder(mark) if mark == "?"))
        .map(|token| (token.span.start.line, token.span.start.column))
        .collect();
    if numbered && !marks.is_empty() {
        let reason = "write all parameters as ? or all as $1, $2, ...".to_owned();
        return Err(Error::Refused { what: "mixing ? with numbered parameters".to_owned(), reason });
    }
    let mut numbered = String::with_capacity(text.len() + marks.len());
    let mut next = marks.iter().enumerate().peekable();
    let (mut line, mut column) = (1, 1);
    for c in text.chars() {
        match next.peek() {
            Some((index, place)) if **place == (line, column) && c == '?' => {
                numbered.push_str(&format!("${}", index + 1));
                next.next();
            }
            _ => numbered.push(c),
        }
        match c {
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    Ok(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn writes_are_refused_by_name() {
        for (text, what) in [
            ("INSERT INTO orders.orders VALUES (1)", "INSERT on orders.orders"),
            ("UPDATE orders.orders SET a = 1", "UPDATE on orders.orders"),
            ("DELETE FROM orders.orders WHERE false", "DELETE on orders.orders"),
            ("TRUNCATE TABLE orders.orders", "TRUNCATE on orders.orders"),
            ("DROP TABLE orders.orders", "DROP TABLE on orders.orders"),
            ("ALTER TABLE orders.orders ADD COLUMN x INT", "ALTER TABLE on orders.orders"),
            ("CREATE TABLE orders.x (a INT)", "CREATE TABLE on orders.x"),
            ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE on x"),
            ("COPY (SELECT 1) TO '/tmp/x.csv'", "COPY TO on /tmp/x.csv"),
            ("EXPLAIN ANALYZE INSERT INTO orders.orders VALUES (1)", "INSERT on orders.orders"),
            ("PREPARE p AS DELETE FROM orders.orders", "DELETE on orders.orders"),
            ("CREATE DATABASE x", "CREATE DATABASE"),
            ("BEGIN", "BEGIN"),
        ] {
            let message = refusal(text);
            assert!(message.starts_with(&format!("{what} is refused")), "{text}: {message}");
        }
        assert!(refusal("SELECT 1; SELECT 2").contains("one statement at a time"));
        assert!(refusal(" ;").contains("empty"), "{}", refusal(" ;"));
    }

    #[test]
    fn query_that_locks_rows_is_refused_wherever_it_stands() {
        for text in [
            "SELECT * FROM a FOR UPDATE",
            "SELECT * FROM a FOR SHARE OF a NOWAIT",
            "SELECT * FROM (SELECT * FROM a FOR UPDATE) AS locked",
            "SELECT * FROM a JOIN LATERAL (SELECT 1 FROM b FOR UPDATE SKIP LOCKED) AS b ON true",
            "SELECT * FROM a WHERE id IN (SELECT id FROM b FOR SHARE)",
            "SELECT (SELECT max(id) FROM b FOR UPDATE) FROM a",
            "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b FOR UPDATE) ORDER BY 1",
            "SELECT id FROM a ORDER BY (SELECT 1 FROM b FOR UPDATE)",
            "WITH locked AS (SELECT * FROM a FOR UPDATE) SELECT * FROM locked",
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL (SELECT n FROM r FOR UPDATE)) SELECT * FROM r",
            "SELECT 1 UNION ALL (SELECT 2 FROM b FOR UPDATE)",
            "(SELECT 1 FROM a FOR UPDATE) EXCEPT SELECT 2",
            "SELECT 1 UNION SELECT 2 FROM b FOR UPDATE",
            "EXPLAIN ANALYZE SELECT * FROM (SELECT * FROM a FOR UPDATE) AS locked",
            "PREPARE p AS SELECT * FROM (SELECT * FROM a FOR UPDATE) AS locked",
            "CREATE MATERIALIZED VIEW v.w AS SELECT * FROM (SELECT * FROM a FOR UPDATE) AS locked",
            "CREATE OR REPLACE MATERIALIZED VIEW v.w AS SELECT * FROM a FOR SHARE",
        ] {
            let message = refusal(text);
            assert!(message.starts_with("a query that locks rows is refused"), "{text}: {message}");
        }
        assert!(parse("SELECT 'FOR UPDATE' AS \"for update\" FROM (SELECT 1) AS a -- FOR UPDATE").is_ok());
    }

    #[test]
    fn search_path_takes_a_list_of_names_or_a_text() {
        for text in ["SET search_path = a, b", "SET search_path TO 'a, b'", "SET headwater.search_path = 'a,b'"] {
            assert!(matches!(parse(text), Ok(Request::SearchPath(path)) if path == ["a", "b"]), "{text}");
        }
        assert!(parse("SET search_path = 7").is_err());
    }

    #[test]
    fn question_marks_are_numbered_outside_of_quotes_and_comments() {
        let text = "SELECT '?', \"?\" -- ?\nFROM t WHERE a = ? /* ? */ AND b = ?\n LIMIT ?";
        let numbered = "SELECT '?', \"?\" -- ?\nFROM t WHERE a = $1 /* ? */ AND b = $2\n LIMIT $3";
        assert_eq!(number_placeholders(text).unwrap(), numbered);
        assert!(refusal("SELECT 1 WHERE 1 = $1 AND 2 = ?").contains("mixing ?"));
    }
}
