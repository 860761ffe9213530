//! A rule: an SQL expression of an access file over one table.
//!
//! It is parsed when the file is read. `current_user` and `session_user` stand for the name of who asks, as a value that is put into the tree: no name ever
//! becomes text of a statement.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use sqlparser::ast::{
    Expr as Sql, ExprWithAlias, FunctionArguments, Query, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::syntax::mend_expression;

/// The longest rule, in bytes.
const RULE_BYTES_MAX: usize = 16 * 1024;

/// An expression of the file. Two are equal where they are written alike.
#[derive(Clone)]
pub(crate) struct Rule {
    text: String,
    sql: Sql,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rule {}

/// Its place in a log is the file's: what it holds may be nobody's business.
impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rule")
    }
}

impl Rule {
    /// Parses a rule.
    ///
    /// # Errors
    /// What is wrong with it, without what it holds.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > RULE_BYTES_MAX {
            return Err(format!("has {} bytes; a rule has at most {RULE_BYTES_MAX}", text.len()));
        }
        let parsed = Parser::new(&GenericDialect {}).try_with_sql(text).and_then(|mut parser| {
            let sql = parser.parse_expr()?;
            Ok((sql, parser.peek_token().token == Token::EOF))
        });
        let mut sql = match parsed {
            Ok((sql, true)) => sql,
            Ok((_, false)) => return Err("is more than one SQL expression".to_owned()),
            Err(error) => return Err(format!("is no SQL expression: {}", place(&error.to_string()))),
        };
        mend_expression(&mut sql).map_err(|error| format!("is not understood: {error}"))?;
        if Queries.found(&sql) {
            return Err(
                "holds a subquery, which a rule may not; write an expression over the table's own columns".to_owned()
            );
        }
        Ok(Self { text: text.to_owned(), sql })
    }

    /// The rule as an expression over a table's columns, for this user.
    fn expression(&self, user: Option<&str>, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
        let mut sql = self.sql.clone();
        let _done = VisitMut::visit(&mut sql, &mut Users { user });
        let expression = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr: sql, alias: None }, schema)?;
        let mut plain = true;
        expression.apply(|part| {
            plain = !matches!(
                part,
                Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::Placeholder(_) | Expr::Unnest(_)
            );
            Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })?;
        match plain {
            true => Ok(expression),
            false => plan_err!("it has an aggregate, a window, or a parameter, which a rule may not have"),
        }
    }

    /// The rule as a condition.
    ///
    /// # Errors
    /// It does not fit the table, or is true or false of nothing.
    pub(crate) fn condition(&self, user: Option<&str>, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
        let expression = self.expression(user, schema, state)?;
        match expression.get_type(schema)? {
            DataType::Boolean => Ok(expression),
            DataType::Null => Ok(cast(expression, DataType::Boolean)),
            other => plan_err!("it is of type {other} and must be true or false"),
        }
    }

    /// The rule as the value of a column of this type.
    ///
    /// # Errors
    /// It does not fit the table, or is of another kind than the column.
    pub(crate) fn value(
        &self,
        user: Option<&str>,
        wanted: &DataType,
        schema: &DFSchema,
        state: &SessionState,
    ) -> Result<Expr> {
        let expression = self.expression(user, schema, state)?;
        let found = expression.get_type(schema)?;
        if found == *wanted {
            return Ok(expression);
        }
        let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let fits = found == DataType::Null
            || (text(&found) && text(wanted))
            || (found.is_numeric() && wanted.is_numeric())
            || (found.is_temporal() && wanted.is_temporal());
        match fits {
            true => Ok(cast(expression, wanted.clone())),
            false => plan_err!("it is of type {found} and the column of type {wanted}; write a CAST"),
        }
    }
}

/// Where a parser stopped, without what it found there.
fn place(message: &str) -> String {
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    let before = message.split(", found").next().unwrap_or_default();
    match message.rsplit_once(" at Line: ") {
        Some((_, place)) if before.len() < message.len() => format!("{before} at line {place}"),
        _ => "it can't be read".to_owned(),
    }
}

/// Puts the user's name in the place of `current_user` and `session_user`.
struct Users<'a> {
    user: Option<&'a str>,
}

impl VisitorMut for Users<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Sql) -> ControlFlow<Self::Break> {
        let Sql::Function(function) = &*expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_ascii_lowercase();
        let has_none = match &function.args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => list.args.is_empty(),
            FunctionArguments::Subquery(_) => false,
        };
        if has_none && matches!(name.as_str(), "current_user" | "session_user") {
            let value = match self.user {
                Some(user) => Value::SingleQuotedString(user.to_owned()),
                None => Value::Null,
            };
            *expr = Sql::Value(value.into());
        }
        ControlFlow::Continue(())
    }
}

/// Looks for queries.
struct Queries;

impl Queries {
    fn found(mut self, sql: &Sql) -> bool {
        sql.visit(&mut self).is_break()
    }
}

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        ControlFlow::Break(())
    }
}

/// NULL of a type, for where a column may not be read.
pub(crate) fn null(wanted: &DataType) -> Result<Expr> {
    Ok(Expr::Literal(ScalarValue::try_from(wanted)?, None))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::SessionContext;

    use super::*;

    fn schema() -> DFSchema {
        let fields = [("id", DataType::Int64), ("owner", DataType::Utf8)];
        let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        DFSchema::try_from(Arc::new(Schema::new(fields))).unwrap()
    }

    #[test]
    fn name_of_the_user_is_a_value_whatever_it_holds() {
        let state = SessionContext::new().state();
        let rule = Rule::parse("owner = current_user OR owner = SESSION_USER").unwrap();
        let hostile = "' OR 1=1 --";
        let expression = rule.condition(Some(hostile), &schema(), &state).unwrap();
        let mut values = 0;
        expression
            .apply(|part| {
                if let Expr::Literal(value, _) = part {
                    assert_eq!(value.try_as_str(), Some(Some(hostile)));
                    values += 1;
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .unwrap();
        assert_eq!(values, 2);
        rule.condition(None, &schema(), &state).unwrap();
    }

    #[test]
    fn rule_that_is_none_is_refused_without_what_it_holds() {
        for text in
            ["owner = 'canary", "owner = 'canary' id", "EXISTS (SELECT 'canary')", "owner IN (SELECT 'canary')", ""]
        {
            let fault = Rule::parse(text).unwrap_err();
            assert!(!fault.contains("canary"), "{text}: {fault}");
        }
        let state = SessionContext::new().state();
        for text in ["owner", "nothing = 1", "count(*) > 1", "$1 = id", "no_function(id)"] {
            let rule = Rule::parse(text).unwrap();
            assert!(rule.condition(Some("ada"), &schema(), &state).is_err(), "{text}");
        }
        assert!(Rule::parse("owner").unwrap().value(None, &DataType::Int64, &schema(), &state).is_err());
    }
}
