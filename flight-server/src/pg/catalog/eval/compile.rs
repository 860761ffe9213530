//! Compiles queries: WITH, sets of rows, ORDER BY, LIMIT.

use datafusion::sql::sqlparser::ast::{
    Expr as Ast, LimitClause, OrderByExpr, OrderByKind, Query as AstQuery, SetExpr, SetOperator, SetQuantifier,
    Value as Literal, Values,
};

use super::Tables;
use super::names::{Scope, folded};
use super::plan::{Aggregate, Asks, Body, By, Call, Column, Cte, Expr, Key, Query, SetHow, Window};
use super::value::Kind;
use crate::pg::error::{PgError, READ_ONLY, SYNTAX, UNSUPPORTED};

/// How deep queries and expressions may stand in one another.
const DEPTH_MAX: usize = 200;

/// Compiles a statement.
pub(super) struct Compiler<'a> {
    pub(super) tables: &'a Tables,
    /// The types of parameters, as far as they are known.
    parameters: Vec<Option<Kind>>,
    /// The SELECTs around what is compiled, the innermost last.
    pub(super) scopes: Vec<Scope>,
    pub(super) beside: Vec<Beside>,
    pub(super) with: Vec<Named>,
    next: usize,
    /// The outermost of what a query asks: 0 where it is never the same twice, else one more than the depth of a scope.
    lowest: usize,
    /// For conditions: which values of the scope of a depth they ask.
    pub(super) marks: Vec<(usize, Asks)>,
    depth: usize,
}

/// What a SELECT computes beside its rows.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) windows: Vec<Window>,
    pub(super) sets: Vec<Call>,
}

/// A query of WITH.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) id: usize,
    pub(super) columns: Vec<Column>,
    pub(super) level: usize,
}

/// An expression and its type.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) expr: Expr,
    pub(super) kind: Kind,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(tables: &'a Tables, parameters: usize) -> Self {
        Self {
            tables,
            parameters: vec![None; parameters],
            scopes: vec![],
            beside: vec![],
            with: vec![],
            next: 0,
            lowest: usize::MAX,
            marks: vec![],
            depth: 0,
        }
    }

    /// The types of the parameters; what is open is text.
    pub(super) fn parameters(self) -> Vec<Kind> {
        self.parameters.into_iter().map(|kind| kind.unwrap_or(Kind::Text)).collect()
    }

    /// The type of a parameter, so far.
    pub(super) fn parameter(&self, index: usize) -> Result<Kind, PgError> {
        match self.parameters.get(index) {
            Some(kind) => Ok(kind.clone().unwrap_or(Kind::Unknown)),
            None => Err(PgError::new("42P02", format!("there is no parameter ${}", index + 1))),
        }
    }

    /// Settles the type of a parameter that is open.
    pub(super) fn settle(&mut self, index: usize, kind: &Kind) {
        if let Some(open @ None) = self.parameters.get_mut(index) {
            *open = Some(match kind {
                Kind::Reg(_) | Kind::Unknown => Kind::Text,
                kind => kind.clone(),
            });
        }
    }

    pub(super) fn asks(&mut self, level: usize) {
        self.lowest = self.lowest.min(level);
    }

    pub(super) fn id(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// One level deeper.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, PgError>) -> Result<T, PgError> {
        if self.depth >= DEPTH_MAX {
            return Err(PgError::new("54001", "the statement's parts stand too deep in one another"));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    pub(super) fn query(&mut self, query: &AstQuery) -> Result<Query, PgError> {
        self.deeper(|compiler| compiler.whole_query(query))
    }

    fn whole_query(&mut self, query: &AstQuery) -> Result<Query, PgError> {
        refuse_locks(query)?;
        let id = self.id();
        let level = self.scopes.len() + 1;
        let before = std::mem::replace(&mut self.lowest, usize::MAX);
        let known = self.with.len();
        let mut tables = Vec::new();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                tables.push(self.cte(cte, with.recursive)?);
            }
        }
        let order: Vec<&OrderByExpr> = match query.order_by.as_ref().map(|order| &order.kind) {
            None => vec![],
            Some(OrderByKind::Expressions(order)) => order.iter().collect(),
            Some(OrderByKind::All(_)) => return Err(PgError::new(UNSUPPORTED, "ORDER BY ALL is not supported")),
        };
        let (body, columns, order) = match &*query.body {
            SetExpr::Select(select) => {
                let (select, columns, keys) = self.select(select, &order)?;
                (Body::Select(Box::new(select)), columns, keys)
            }
            body => {
                let (body, columns) = self.body(body)?;
                let keys = order.iter().map(|key| output_key(key, &columns)).collect::<Result<_, _>>()?;
                (body, columns, keys)
            }
        };
        let (limit, offset) = self.limits(query)?;
        self.with.truncate(known);
        let is_free = self.lowest >= level;
        self.lowest = self.lowest.min(before);
        Ok(Query { id, is_free, tables, body, order, limit, offset, columns })
    }

    fn cte(&mut self, cte: &datafusion::sql::sqlparser::ast::Cte, may_recur: bool) -> Result<Cte, PgError> {
        let (name, id, level) = (folded(&cte.alias.name), self.id(), self.scopes.len() + 1);
        let renamed = |mut columns: Vec<Column>| {
            for (column, alias) in columns.iter_mut().zip(&cte.alias.columns) {
                column.name = folded(&alias.name);
            }
            columns
        };
        let parts = match &*cte.query.body {
            SetExpr::SetOperation { op: SetOperator::Union, left, right, set_quantifier } if may_recur => {
                Some((left, right, set_quantifier))
            }
            _ => None,
        };
        let Some((left, right, quantifier)) = parts else {
            let query = self.query(&cte.query)?;
            let columns = renamed(query.columns.clone());
            self.with.push(Named { name, id, columns, level });
            return Ok(Cte { id, query, is_recursive: false });
        };
        refuse_locks(&cte.query)?;
        let query_id = self.id();
        let (left, columns) = self.body(left)?;
        let columns = renamed(columns);
        // While it is being defined its rows differ from round to round.
        self.with.push(Named { name, id, columns: columns.clone(), level: 0 });
        let (right, _) = self.body(right)?;
        if let Some(named) = self.with.last_mut() {
            named.level = level;
        }
        let is_all = matches!(quantifier, SetQuantifier::All);
        let body = Body::Set { how: SetHow::Union, is_all, left: Box::new(left), right: Box::new(right) };
        let query = Query {
            id: query_id,
            is_free: false,
            tables: vec![],
            body,
            order: vec![],
            limit: None,
            offset: None,
            columns,
        };
        Ok(Cte { id, query, is_recursive: true })
    }

    fn body(&mut self, body: &SetExpr) -> Result<(Body, Vec<Column>), PgError> {
        match body {
            SetExpr::Select(select) => {
                let (select, columns, _) = self.select(select, &[])?;
                Ok((Body::Select(Box::new(select)), columns))
            }
            SetExpr::Query(query) => {
                let query = self.query(query)?;
                let columns = query.columns.clone();
                Ok((Body::Query(Box::new(query)), columns))
            }
            SetExpr::Values(values) => self.values(values),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                self.deeper(|compiler| compiler.set(left, *op, *set_quantifier, right))
            }
            _ => Err(PgError::new(UNSUPPORTED, "of the catalog only queries are answered")),
        }
    }

    fn set(
        &mut self,
        left: &SetExpr,
        op: SetOperator,
        quantifier: SetQuantifier,
        right: &SetExpr,
    ) -> Result<(Body, Vec<Column>), PgError> {
        let (left, columns) = self.body(left)?;
        let (right, others) = self.body(right)?;
        if columns.len() != others.len() {
            return Err(PgError::new(SYNTAX, "each UNION query must have the same number of columns"));
        }
        let common: Vec<Column> = columns
            .iter()
            .zip(&others)
            .map(|(one, other)| Column { name: one.name.clone(), kind: one.kind.common(&other.kind) })
            .collect();
        let how = match op {
            SetOperator::Union => SetHow::Union,
            SetOperator::Except | SetOperator::Minus => SetHow::Except,
            SetOperator::Intersect => SetHow::Intersect,
        };
        let is_all = matches!(quantifier, SetQuantifier::All);
        let (left, right) = (fitted(left, &columns, &common), fitted(right, &others, &common));
        Ok((Body::Set { how, is_all, left: Box::new(left), right: Box::new(right) }, common))
    }

    fn values(&mut self, values: &Values) -> Result<(Body, Vec<Column>), PgError> {
        self.scopes.push(Scope::default());
        self.beside.push(Beside::default());
        let rows =
            values.rows.iter().map(|row| row.iter().map(|value| self.term(value)).collect::<Result<Vec<_>, _>>());
        let rows = rows.collect::<Result<Vec<_>, _>>();
        self.beside.pop();
        self.scopes.pop();
        let rows = rows?;
        let width = rows.first().map_or(0, Vec::len);
        let kinds: Vec<Kind> = (0..width)
            .map(|index| {
                rows.iter().filter_map(|row| row.get(index)).fold(Kind::Unknown, |kind, value| kind.common(&value.kind))
            })
            .map(|kind| if kind == Kind::Unknown { Kind::Text } else { kind })
            .collect();
        let mut fitted = Vec::new();
        for row in rows {
            if row.len() != width {
                return Err(PgError::new(SYNTAX, "VALUES lists must all be the same length"));
            }
            let row = row.into_iter().zip(&kinds).map(|(value, kind)| self.coerced(value, kind));
            fitted.push(row.collect::<Result<Vec<_>, _>>()?);
        }
        let columns = kinds.into_iter().zip(1..).map(|(kind, number)| Column { name: format!("column{number}"), kind });
        Ok((Body::Values(fitted), columns.collect()))
    }

    fn limits(&mut self, query: &AstQuery) -> Result<(Option<Expr>, Option<Expr>), PgError> {
        let (limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
        };
        let limit = limit.or_else(|| query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref()));
        self.scopes.push(Scope::default());
        self.beside.push(Beside::default());
        let mut number = |expr: Option<&Ast>| match expr {
            Some(expr) => {
                let term = self.term(expr)?;
                self.coerced(term, &Kind::Int8).map(Some)
            }
            None => Ok(None),
        };
        let both = number(limit).and_then(|limit| Ok((limit, number(offset)?)));
        self.beside.pop();
        self.scopes.pop();
        both
    }
}

/// Refuses a query that locks rows.
fn refuse_locks(query: &AstQuery) -> Result<(), PgError> {
    if query.locks.is_empty() {
        return Ok(());
    }
    let error = PgError::new(READ_ONLY, "a query that locks rows is refused: nothing is locked in the catalog");
    Err(error.with_hint("leave FOR UPDATE or FOR SHARE out"))
}

/// The rows of a body as other types.
fn fitted(body: Body, from: &[Column], to: &[Column]) -> Body {
    if from.iter().zip(to).all(|(from, to)| from.kind == to.kind) {
        return body;
    }
    match body {
        Body::Select(mut select) => {
            let columns = std::mem::take(&mut select.columns).into_iter().zip(from.iter().zip(to));
            select.columns =
                columns.map(|(column, (from, to))| super::terms::cast(column, &from.kind, &to.kind)).collect();
            Body::Select(select)
        }
        Body::Values(rows) => {
            let fit = |row: Vec<Expr>| {
                let values = row.into_iter().zip(from.iter().zip(to));
                values.map(|(value, (from, to))| super::terms::cast(value, &from.kind, &to.kind)).collect()
            };
            Body::Values(rows.into_iter().map(fit).collect())
        }
        Body::Set { how, is_all, left, right } => Body::Set {
            how,
            is_all,
            left: Box::new(fitted(*left, from, to)),
            right: Box::new(fitted(*right, from, to)),
        },
        // Its rows are of one representation with those of what it is put together with.
        query @ Body::Query(_) => query,
    }
}

/// What rows of a whole result are ordered by: a column of it.
fn output_key(key: &OrderByExpr, columns: &[Column]) -> Result<Key, PgError> {
    let place = match &key.expr {
        Ast::Value(value) => match &value.value {
            Literal::Number(number, _) => number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
            _ => None,
        },
        Ast::Identifier(name) => columns.iter().position(|column| column.name == folded(name)),
        _ => None,
    };
    let place = place.filter(|place| *place < columns.len());
    let place = place.ok_or_else(|| PgError::new(UNSUPPORTED, "rows of a UNION are ordered by its columns alone"))?;
    Ok(keyed(key, By::Output(place)))
}

/// A key with its direction. NULL is the highest value.
pub(super) fn keyed(key: &OrderByExpr, by: By) -> Key {
    let is_descending = key.options.asc == Some(false);
    Key { by, is_descending, nulls_first: key.options.nulls_first.unwrap_or(is_descending) }
}
