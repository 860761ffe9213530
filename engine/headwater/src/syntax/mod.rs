//! What is mended of a statement between the parser and DataFusion's planner.
//!
//! Each of these is read in another way than the standard says, or not at all: what follows `IS [NOT] DISTINCT FROM` (`distinct.rs`), windows that
//! extend a named one (`windows.rs`), outer joins with USING (`using.rs`, `scope.rs`), rows of values (`rows.rs`), what the planner has under another name (`names.rs`), and FETCH. The statement is rewritten in place, into one that the planner
//! reads as it was meant.

mod distinct;
mod names;
mod rows;
mod scope;
#[cfg(test)]
mod tests;
mod using;
mod windows;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use sqlparser::ast::{
    Expr, Ident, LimitClause, OrderBy, Query, Select, SetExpr, Statement as Sql, Value, Visit, VisitMut, VisitorMut,
};

use crate::{Error, Result};

/// Mends the queries of a statement, however deep they stand.
///
/// # Errors
/// A window is extended as it may not be, an outer join's columns can't be told, rows of different lengths are compared, or a collation is named that texts are not compared by.
pub(crate) fn mend(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(sql) => mend_sql(sql),
        Statement::Explain(explain) => mend(&mut explain.statement),
        _ => Ok(()),
    }
}

/// Mends what may stand in any expression.
///
/// # Errors
/// Rows of different lengths are compared, or a collation is named that texts are not compared by.
pub(crate) fn mend_expression(sql: &mut (impl Visit + VisitMut)) -> Result<()> {
    distinct::mend(sql);
    names::mend(sql)?;
    rows::mend(sql)
}

fn mend_sql(sql: &mut Sql) -> Result<()> {
    mend_expression(sql)?;
    match VisitMut::visit(sql, &mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Mends each query, the outer before those in it.
struct Queries;

impl VisitorMut for Queries {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        fetch(query);
        match mend_body(&mut query.body, query.order_by.as_mut()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// The order is a SELECT's own where the query is nothing else; above a UNION it knows no columns but those of the answer.
fn mend_body(body: &mut SetExpr, mut order_by: Option<&mut OrderBy>) -> Result<()> {
    match body {
        SetExpr::Select(select) => {
            windows::mend(select, order_by.as_deref_mut())?;
            using::mend(select, order_by)
        }
        SetExpr::SetOperation { left, right, .. } => {
            mend_body(left, None)?;
            mend_body(right, None)
        }
        _ => Ok(()),
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`; of other kinds the planner says that it does not know them.
fn fetch(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let rows = || fetch.quantity.clone().unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows()), offset: None, limit_by: vec![] });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows()),
        // Two limits.
        Some(_) => query.fetch = Some(fetch),
    }
}

/// Does something to each expression of a SELECT and its order, after those in it; not to those of the FROM clause, nor of subqueries.
fn each_own(
    select: &mut Select,
    order_by: Option<&mut OrderBy>,
    act: &mut dyn FnMut(&mut Expr) -> Result<()>,
) -> Result<()> {
    each_in(&mut select.distinct, act)?;
    each_in(&mut select.projection, act)?;
    each_in(&mut select.selection, act)?;
    each_in(&mut select.group_by, act)?;
    each_in(&mut select.having, act)?;
    each_in(&mut select.qualify, act)?;
    match order_by {
        Some(order_by) => each_in(order_by, act),
        None => Ok(()),
    }
}

/// Does something to each expression in a part of a SELECT, after those in it; not to those of subqueries.
fn each_in(part: &mut impl VisitMut, act: &mut dyn FnMut(&mut Expr) -> Result<()>) -> Result<()> {
    match VisitMut::visit(part, &mut Own { depth: 0, act }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Own<'a> {
    /// How many subqueries stand around what is visited.
    depth: usize,
    act: &'a mut dyn FnMut(&mut Expr) -> Result<()>,
}

impl VisitorMut for Own<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match (self.act)(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// A name as the planner compares it.
fn normal(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn refused(what: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Refused { what: what.into(), reason: reason.into() }
}
