//! `pg_catalog` and `information_schema`: what clients ask of PostgreSQL's own tables, answered from what the engine knows.
//!
//! A statement that asks the catalog is answered by an evaluator of its own ([`eval`]) over tables that are made anew for it ([`tables`], [`information`], [`fixed`]), of
//! PostgreSQL 15's columns and types ([`shape`]). All other statements go to the engine as they are, so nothing of this can change the answer of a query over services.
//! One statement asks the one or the other.
//!
//! Services are schemas, materialized views are `relkind` m, primary keys are constraints and indexes. Of what there is nothing here (triggers, rules, policies,
//! extensions, ...) the tables are there and empty.

mod eval;
mod fixed;
mod functions;
mod information;
mod relations;
mod rows;
mod shape;
mod tables;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use headwater::CallerRights;

use super::error::{INTERNAL, PgError, SYNTAX, UNSUPPORTED};
use super::settings::Settings;
use crate::detached::Threads;
use crate::text::words;
pub(super) use eval::value::split_list;
use relations::Relations;

/// The schema that holds the tables.
const SCHEMA: &str = "pg_catalog";

/// The other schema that is answered here.
const INFORMATION: &str = "information_schema";

/// Functions that only PostgreSQL has and that clients ask for alone: `SELECT version()`.
const FUNCTIONS: [&str; 12] = [
    "version",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "set_config",
    "pg_backend_pid",
    "pg_is_in_recovery",
    "pg_advisory_unlock_all",
    "txid_current",
    "to_regtype",
    "to_regclass",
];

/// Names that stand for a function without parentheses.
const REGISTERS: [&str; 5] = ["current_user", "session_user", "current_catalog", "current_schema", "current_role"];

/// The most parameters of a statement: what the protocol has room for.
const PARAMETERS_MAX: usize = 65_535;

/// What a statement knows of its connection.
pub(in crate::pg) struct Context {
    pub(in crate::pg) user: String,
    pub(in crate::pg) settings: Settings,
    pub(in crate::pg) process: i32,
}

/// Whether a statement asks the catalog: it names its schemas or one of the tables of `pg_catalog`, or calls its functions and reads no table at all.
pub(in crate::pg) fn is_asked(text: &str) -> bool {
    let tokens: Vec<Token> = words(text).into_iter().map(|(token, _)| token).collect();
    let word = |index: usize| match tokens.get(index) {
        Some(Token::Word(word)) => Some(word.value.to_ascii_lowercase()),
        _ => None,
    };
    let reads = (0..tokens.len()).any(|index| word(index).as_deref() == Some("from"));
    // A name of a table stands after FROM, JOIN, ONLY or a comma; elsewhere it is a column or an alias.
    let is_read = |index: usize| match index.checked_sub(1) {
        Some(before) => {
            tokens[before] == Token::Comma
                || word(before).is_some_and(|word| matches!(word.as_str(), "from" | "join" | "only"))
        }
        None => false,
    };
    (0..tokens.len()).any(|index| {
        let Some(name) = word(index) else { return false };
        let follows_period = index > 0 && tokens[index - 1] == Token::Period;
        let next = tokens.get(index + 1);
        if follows_period {
            return false;
        }
        let is_information = || {
            let relation = word(index + 2).unwrap_or_default();
            // Functions of it are asked for too.
            shape::find(INFORMATION, &relation).is_some() || relation.starts_with("_pg_")
        };
        (name == SCHEMA && next == Some(&Token::Period))
            || (name == INFORMATION && next == Some(&Token::Period) && is_information())
            || (shape::is_known(&name) && is_read(index))
            || (!reads
                && next == Some(&Token::LParen)
                && (FUNCTIONS.contains(&name.as_str()) || name.starts_with("has_")))
            || (!reads && REGISTERS.contains(&name.as_str()))
    })
}

/// How long what there is counts as what there was. A driver binds at once what it prepares.
const CURRENT: Duration = Duration::from_secs(1);

/// A statement over the catalog, compiled over what its user might know then.
pub(in crate::pg) struct Statement {
    compiled: Arc<eval::Compiled>,
    rights: CallerRights,
    since: Instant,
}

impl Statement {
    /// Compiles a statement over what the session's user may know now.
    pub(in crate::pg) async fn new(
        session: &headwater::Session,
        context: Context,
        text: &str,
    ) -> Result<Self, PgError> {
        let (rights, since) = (session.rights(), Instant::now());
        let search_path = super::session::engine_value(session, "search_path").await.unwrap_or_default();
        let search_path: Vec<String> =
            search_path.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let relations = Relations::of(session, search_path).await;
        let mut parsed =
            Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|error| PgError::new(SYNTAX, error.to_string()))?;
        let (Some(statement), None) = (parsed.pop(), parsed.pop()) else {
            return Err(PgError::new(SYNTAX, "one statement is taken at a time"));
        };
        // What asks the catalog reads: there is nothing else that could be done, and it is not to be tried.
        let ast::Statement::Query(query) = statement else {
            return Err(PgError::new(UNSUPPORTED, "of the catalog only queries are answered"));
        };
        let (names, parameters) = named(text)?;
        let tables = relations.tables(context, &names);
        let compiled = eval::Compiled::new(&query, tables, relations, parameters)?;
        Ok(Self { compiled: Arc::new(compiled), rights, since })
    }

    /// Whether it knows what its user may know now.
    pub(in crate::pg) fn is_current(&self) -> bool {
        self.rights.hold() && self.since.elapsed() < CURRENT
    }

    /// The columns, by the names that PostgreSQL would give them.
    pub(in crate::pg) fn schema(&self) -> SchemaRef {
        self.compiled.schema()
    }

    pub(in crate::pg) fn parameters(&self) -> SchemaRef {
        self.compiled.parameters()
    }

    /// Runs it to its end on the threads of queries; it ends early where nobody waits for it any more.
    pub(in crate::pg) async fn run(&self, values: Vec<ScalarValue>, threads: &Threads) -> Result<RecordBatch, PgError> {
        let (compiled, unwanted) = (Arc::clone(&self.compiled), Unwanted::default());
        let flag = Arc::clone(&unwanted.0);
        let running = threads.compute(move || compiled.run(&values, &flag));
        running
            .await
            .map_err(|_| PgError::new(INTERNAL, "the server failed in an unexpected way; its log says more"))?
    }
}

/// Says when it is dropped that nobody waits any more.
#[derive(Default)]
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The names that a text holds, and how many parameters.
fn named(text: &str) -> Result<(HashSet<String>, usize), PgError> {
    let (mut names, mut parameters) = (HashSet::new(), 0);
    for (token, _) in words(text) {
        match token {
            Token::Word(word) => drop(names.insert(word.value.to_ascii_lowercase())),
            Token::Placeholder(name) => {
                parameters = parameters.max(name.trim_start_matches('$').parse::<usize>().unwrap_or_default());
            }
            _ => {}
        }
    }
    match parameters <= PARAMETERS_MAX {
        true => Ok((names, parameters)),
        false => Err(PgError::new(SYNTAX, format!("a statement has at most {PARAMETERS_MAX} parameters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_of_the_catalog_is_told_from_one_of_a_service() {
        for text in [
            "SELECT * FROM pg_catalog.pg_class",
            "select oid from pg_type",
            "SELECT version()",
            "SELECT current_database(), current_user",
            "SELECT 'a' WHERE pg_catalog.pg_is_in_recovery()",
        ] {
            assert!(is_asked(text), "{text}");
        }
        for text in [
            "SELECT 'pg_class' FROM orders.orders",
            "SELECT * FROM orders.pg_class",
            "SELECT pg_class.x FROM orders.t AS pg_class",
            "SELECT version FROM orders.releases",
            "SELECT * FROM orders.pg_orders",
        ] {
            assert!(!is_asked(text), "{text}");
        }
    }
}
