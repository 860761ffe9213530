//! `pg_catalog`: what clients ask of PostgreSQL's own tables, answered from what the engine knows.
//!
//! A statement that asks `pg_catalog` is answered by a DataFusion of its own, over tables that are made anew for it ([`tables`]), with PostgreSQL's functions
//! ([`functions`]); what DataFusion has no word for is rewritten in the statement's tree ([`rewrite`]). All other statements go to the engine as they
//! are, so nothing of this can change the answer of a query over services. One statement asks the one or the other.
//!
//! Services are schemas, materialized views are `relkind` m, primary keys are constraints and indexes. Of what there is nothing here (triggers, rules, policies,
//! extensions, ...) the tables are there and empty.

mod fixed;
mod functions;
mod relations;
mod rewrite;
mod rows;
mod tables;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::{PgError, SYNTAX, UNSUPPORTED};
use super::settings::Settings;
use crate::text::words;
use relations::Relations;

/// The schema that holds the tables.
const SCHEMA: &str = "pg_catalog";

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
}

/// Whether a statement asks `pg_catalog`: it names the schema or one of its tables, or calls its functions and reads no table at all.
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
        (name == SCHEMA && next == Some(&Token::Period))
            || (fixed::is_known(&name) && is_read(index))
            || (!reads
                && next == Some(&Token::LParen)
                && (FUNCTIONS.contains(&name.as_str()) || name.starts_with("has_")))
            || (!reads && REGISTERS.contains(&name.as_str()))
    })
}

/// A statement over `pg_catalog`, planned.
pub(in crate::pg) struct Statement {
    context: SessionContext,
    plan: LogicalPlan,
    parameters: SchemaRef,
}

impl Statement {
    /// Plans a statement over what the session's user may know now.
    pub(in crate::pg) async fn new(
        session: &headwater::Session,
        context: Context,
        text: &str,
    ) -> Result<Self, PgError> {
        let search_path = super::session::engine_value(session, "search_path").await.unwrap_or_default();
        let search_path: Vec<String> =
            search_path.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let relations = Relations::of(session, search_path).await;
        let mut parsed =
            Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|error| PgError::new(SYNTAX, error.to_string()))?;
        let (Some(mut statement), None) = (parsed.pop(), parsed.pop()) else {
            return Err(PgError::new(SYNTAX, "one statement is taken at a time"));
        };
        rewrite::rewrite(&mut statement, &relations, &context)?;
        // What asks the catalog reads: there is nothing else that this DataFusion could do, and it is not to try.
        if !matches!(statement, datafusion::sql::sqlparser::ast::Statement::Query(_)) {
            return Err(PgError::new(UNSUPPORTED, "of pg_catalog only queries are answered"));
        }
        let config = SessionConfig::new()
            .with_default_catalog_and_schema("headwater", SCHEMA)
            .with_information_schema(false)
            .with_target_partitions(1)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let datafusion = SessionContext::new_with_config(config);
        relations.register(&datafusion, &context).map_err(|error| told(&error))?;
        functions::register(&datafusion, &Arc::new(relations), &context);
        let parsed = Parsed::Statement(Box::new(statement));
        let plan = datafusion.state().statement_to_plan(parsed).await.map_err(|error| told(&error))?;
        let parameters = parameters(&plan, text).map_err(|error| told(&error))?;
        Ok(Self { context: datafusion, plan, parameters })
    }

    /// The columns, by the names that PostgreSQL would give them.
    pub(in crate::pg) fn schema(&self) -> SchemaRef {
        named(self.plan.schema().as_arrow())
    }

    pub(in crate::pg) fn parameters(&self) -> SchemaRef {
        Arc::clone(&self.parameters)
    }

    /// Runs it to its end: nothing here is large.
    pub(in crate::pg) async fn run(&self, values: Vec<ScalarValue>) -> Result<(SchemaRef, Vec<RecordBatch>), PgError> {
        let plan = match values.is_empty() {
            true => self.plan.clone(),
            false => self.plan.clone().with_param_values(ParamValues::from(values)).map_err(|error| told(&error))?,
        };
        let frame = self.context.execute_logical_plan(plan).await.map_err(|error| told(&error))?;
        let batches = frame.collect().await.map_err(|error| told(&error))?;
        let schema = match batches.first() {
            Some(batch) => named(&batch.schema()),
            None => self.schema(),
        };
        let renamed = batches.into_iter().map(|batch| {
            let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &rows)
        });
        let renamed = renamed.collect::<Result<_, _>>().map_err(|error| told(&DataFusionError::from(error)))?;
        Ok((schema, renamed))
    }
}

/// The schema without what made names differ that PostgreSQL lets be the same.
fn named(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let name = field.name().split(rewrite::MARK).next().unwrap_or_default();
        Field::new(name, field.data_type().clone(), true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The parameters that the text names, also those of parts that were taken away: clients bind them all. One whose type is open is text.
fn parameters(plan: &LogicalPlan, text: &str) -> Result<SchemaRef, DataFusionError> {
    let numbers = words(text).into_iter().filter_map(|(token, _)| match token {
        Token::Placeholder(name) => name.trim_start_matches('$').parse::<usize>().ok(),
        _ => None,
    });
    let count = numbers.max().unwrap_or_default();
    if count > PARAMETERS_MAX {
        return datafusion::common::plan_err!("a statement has at most {PARAMETERS_MAX} parameters");
    }
    let found = plan.get_parameter_types()?;
    let field = |number: usize| {
        let name = format!("${number}");
        let data_type = found.get(&name).cloned().flatten().unwrap_or(DataType::Utf8);
        Field::new(name, data_type, true)
    };
    Ok(Arc::new(Schema::new((1..=count).map(field).collect::<Vec<_>>())))
}

fn told(error: &DataFusionError) -> PgError {
    let message = error.strip_backtrace();
    let code = match error.find_root() {
        DataFusionError::Plan(message) if message.contains("not found") => super::error::UNDEFINED_TABLE,
        DataFusionError::NotImplemented(_) => UNSUPPORTED,
        DataFusionError::SchemaError(..) => "42703",
        _ => "42000",
    };
    PgError::new(code, format!("this question of pg_catalog can't be answered: {message}"))
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
