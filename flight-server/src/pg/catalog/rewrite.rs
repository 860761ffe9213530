//! From PostgreSQL's words to DataFusion's, in the tree of a statement over `pg_catalog`.
//!
//! - Functions, types and operators lose the qualifier `pg_catalog`; collations go, since all text here sorts by its bytes.
//! - `'orders.t'::regclass` is the table's number, `oid::regclass` its name; the same for types and schemas.
//! - `x = ANY (list)` is `array_has`.
//! - Columns have the names that PostgreSQL gives them, made different where they are the same by a mark that is taken off at the end.
//! - What reads a table that is empty here is nothing: a subquery is NULL, EXISTS false, a branch without rows. It is what those parts of clients' questions
//!   that DataFusion can't plan (correlated subqueries, arrays of subqueries) are about: triggers, policies, defaults.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins, UnaryOperator, Value, VisitMut,
    VisitorMut,
};

use super::fixed::is_empty;
use super::functions::type_oid;
use super::relations::Relations;
use super::{Context, REGISTERS};
use crate::pg::error::{PgError, UNDEFINED_OBJECT, UNDEFINED_TABLE};

/// What stands between a name and what makes it differ from an equal one.
pub(super) const MARK: char = '\u{1}';

/// Rewrites a statement.
pub(super) fn rewrite(statement: &mut Statement, relations: &Relations, asks: &Context) -> Result<(), PgError> {
    if let Statement::Query(query) = statement {
        name_columns(&mut query.body);
    }
    let mut words = Words { relations, user: &asks.user };
    match statement.visit(&mut words) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Words<'a> {
    relations: &'a Relations,
    user: &'a str,
}

impl VisitorMut for Words<'_> {
    type Break = Box<PgError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if empties(&mut query.body) {
            // There is nothing to put in order.
            query.order_by = None;
        }
        ControlFlow::Continue(())
    }

    /// Before what is inside: a part that is nothing is not looked into.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Subquery(query) if reads_nothing(query) => *expr = null(),
            Expr::Exists { subquery, negated } if reads_nothing(subquery) => *expr = boolean(*negated),
            Expr::InSubquery { subquery, negated, .. } if reads_nothing(subquery) => *expr = boolean(*negated),
            Expr::Function(function) => {
                if let FunctionArguments::Subquery(query) = &function.args
                    && reads_nothing(query)
                {
                    *expr = null();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match self.replaced(expr) {
            Ok(Some(replaced)) => *expr = replaced,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        ControlFlow::Continue(())
    }
}

impl Words<'_> {
    fn replaced(&self, expr: &mut Expr) -> Result<Option<Expr>, PgError> {
        Ok(match expr {
            // Whatever holds, it is NULL.
            Expr::Case { conditions, else_result, .. }
                if conditions.iter().all(|when| is_null(&when.result))
                    && else_result.as_ref().is_none_or(|result| is_null(result)) =>
            {
                Some(null())
            }
            Expr::Collate { expr: inner, .. } => Some(std::mem::replace(inner, null())),
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(name) = op
                    && let Some(plain) = name.last().and_then(|name| operator(name))
                {
                    *op = plain;
                }
                None
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }
                if !matches!(**right, Expr::Subquery(_)) =>
            {
                Some(has(right, left))
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } if !matches!(**right, Expr::Subquery(_)) => {
                Some(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(has(right, left)) })
            }
            Expr::Identifier(name) if name.quote_style.is_none() => {
                let name = name.value.to_ascii_lowercase();
                (name == "current_schema").then(|| call("current_schema", vec![]))
            }
            Expr::Function(function) => self.function(function),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, .. } => {
                self.cast(inner, data_type)?
            }
            _ => None,
        })
    }

    fn function(&self, function: &mut Function) -> Option<Expr> {
        let name = last(&function.name)?.to_ascii_lowercase();
        if matches!(function.args, FunctionArguments::None) && REGISTERS.contains(&name.as_str()) || name == "user" {
            return Some(match name.as_str() {
                "current_catalog" => call("current_database", vec![]),
                "current_schema" => call("current_schema", vec![]),
                _ => text(self.user),
            });
        }
        if name == "generate_subscripts" {
            let FunctionArguments::List(list) = &function.args else { return None };
            let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(array))) = list.args.first() else { return None };
            let length = call("coalesce", vec![call("array_length", vec![array.clone()]), number(0)]);
            let length = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(length),
                data_type: DataType::BigInt(None),
                array: false,
                format: None,
            };
            return Some(call("unnest", vec![call("generate_series", vec![number(1), length])]));
        }
        if function.name.0.len() > 1 {
            function.name = ObjectName::from(vec![Ident::new(name)]);
        }
        None
    }

    /// A cast to a type that DataFusion has not.
    fn cast(&self, inner: &mut Expr, data_type: &mut DataType) -> Result<Option<Expr>, PgError> {
        let DataType::Custom(name, arguments) = data_type else {
            if matches!(data_type, DataType::Regclass) {
                return self.regclass(inner).map(Some);
            }
            return Ok(None);
        };
        let name = last(name).unwrap_or_default().to_ascii_lowercase();
        let plain = match name.as_str() {
            "regclass" => return self.regclass(inner).map(Some),
            "regtype" => {
                return match literal(inner) {
                    Some(wanted) => match type_oid(&wanted) {
                        Some(oid) => Ok(Some(number(oid))),
                        None => Err(PgError::new(UNDEFINED_OBJECT, format!("type \"{wanted}\" does not exist"))),
                    },
                    None => Ok(Some(call("format_type", vec![inner.clone(), null()]))),
                };
            }
            "regnamespace" => {
                return match literal(inner) {
                    Some(wanted) => match self.relations.schema_oid(wanted.trim_matches('"')) {
                        Some(oid) => Ok(Some(number(oid))),
                        None => Err(PgError::new("3F000", format!("schema \"{wanted}\" does not exist"))),
                    },
                    None => Ok(Some(call("regnamespace_name", vec![inner.clone()]))),
                };
            }
            "oid" | "int8" | "xid" | "cid" => DataType::BigInt(None),
            "int4" => DataType::Int(None),
            "int2" => DataType::SmallInt(None),
            "bool" => DataType::Boolean,
            "float8" => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
            "text" | "name" | "char" | "varchar" | "bpchar" | "regproc" | "regrole" | "unknown" | "cstring"
            | "json" | "jsonb"
                if arguments.is_empty() =>
            {
                DataType::Varchar(None)
            }
            _ => return Ok(None),
        };
        *data_type = plain;
        Ok(None)
    }

    fn regclass(&self, inner: &Expr) -> Result<Expr, PgError> {
        let Some(wanted) = literal(inner) else { return Ok(call("regclass_name", vec![inner.clone()])) };
        // A number in quotes is a number.
        if let Ok(oid) = wanted.parse::<i64>() {
            return Ok(call("regclass_name", vec![number(oid)]));
        }
        match self.relations.table_oid(&wanted) {
            Some(oid) => Ok(number(oid)),
            None => Err(PgError::new(UNDEFINED_TABLE, format!("relation \"{wanted}\" does not exist"))),
        }
    }
}

fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "+" => BinaryOperator::Plus,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        _ => return None,
    })
}

/// Whether a list has a value.
fn has(list: &Expr, value: &Expr) -> Expr {
    let list = match literal(list).as_deref().and_then(|text| text.strip_prefix('{')?.strip_suffix('}')) {
        Some(items) => {
            let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
            Expr::Array(Array { elem: items.map(|item| text(item.trim_matches('"'))).collect(), named: true })
        }
        None => list.clone(),
    };
    call("array_has", vec![list, value.clone()])
}

/// Takes the rows of a part that has none away: its columns are NULL and its condition false. Whether all of it is such.
fn empties(body: &mut SetExpr) -> bool {
    match body {
        SetExpr::Select(select) if select_reads_nothing(select) => {
            let columns = std::mem::take(&mut select.projection).into_iter().enumerate();
            select.projection = columns.map(|(index, item)| nothing(item, index)).collect();
            select.from.clear();
            select.selection = Some(boolean(false));
            select.group_by = GroupByExpr::Expressions(vec![], vec![]);
            (select.having, select.distinct) = (None, None);
            true
        }
        SetExpr::SetOperation { left, right, .. } => {
            let (left, right) = (empties(left), empties(right));
            left && right
        }
        _ => false,
    }
}

fn nothing(item: SelectItem, index: usize) -> SelectItem {
    let alias = match item {
        SelectItem::ExprWithAlias { alias, .. } => alias,
        SelectItem::UnnamedExpr(expr) => Ident::with_quote('"', format!("{}{MARK}{index}", name_of(&expr))),
        _ => Ident::with_quote('"', format!("?column?{MARK}{index}")),
    };
    let expr = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(null()),
        data_type: DataType::Varchar(None),
        array: false,
        format: None,
    };
    SelectItem::ExprWithAlias { expr, alias }
}

fn reads_nothing(query: &Query) -> bool {
    fn of(body: &SetExpr) -> bool {
        match body {
            SetExpr::Select(select) => select_reads_nothing(select),
            SetExpr::SetOperation { left, right, .. } => of(left) && of(right),
            SetExpr::Query(query) => of(&query.body),
            _ => false,
        }
    }
    of(&query.body)
}

/// Whether a SELECT without an aggregate reads a table that is empty, in such a way that nothing comes out.
fn select_reads_nothing(select: &Select) -> bool {
    let aggregates = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => is_aggregate(expr),
        _ => false,
    });
    !aggregates && select.from.iter().any(from_is_empty)
}

/// An aggregate has a row even over nothing.
fn is_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => last(&function.name).is_some_and(|name| {
            ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_or", "bool_and"]
                .contains(&name.to_ascii_lowercase().as_str())
        }),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_aggregate(expr),
        Expr::BinaryOp { left, right, .. } => is_aggregate(left) || is_aggregate(right),
        _ => false,
    }
}

fn from_is_empty(from: &TableWithJoins) -> bool {
    let mut is_nothing = factor_is_empty(&from.relation);
    for join in &from.joins {
        let other = factor_is_empty(&join.relation);
        is_nothing = match &join.join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => is_nothing || other,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => is_nothing,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => other,
            JoinOperator::FullOuter(_) => is_nothing && other,
            _ => false,
        };
    }
    is_nothing
}

fn factor_is_empty(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let parts: Vec<&str> = name.0.iter().filter_map(part).collect();
            matches!(&parts[..], [name] | ["pg_catalog", name] if is_empty(&name.to_ascii_lowercase()))
        }
        TableFactor::Derived { subquery, .. } => reads_nothing(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => from_is_empty(table_with_joins),
        _ => false,
    }
}

/// Gives the columns of a statement the names that PostgreSQL does.
fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let has_wildcard = select.projection.iter().any(is_wildcard);
            let mut used = HashSet::new();
            for (index, item) in select.projection.iter_mut().enumerate() {
                let (name, is_plain) = match item {
                    SelectItem::UnnamedExpr(expr) => {
                        (name_of(expr), matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
                    }
                    SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), true),
                    _ => continue,
                };
                let is_new = used.insert(name.clone()) && !has_wildcard;
                if is_new && is_plain {
                    continue;
                }
                let shown = if is_new { name } else { format!("{name}{MARK}{index}") };
                let alias = Ident::with_quote('"', shown);
                let taken = std::mem::replace(item, SelectItem::UnnamedExpr(null()));
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = taken {
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_columns(left);
            name_columns(right);
        }
        SetExpr::Query(query) => name_columns(&mut query.body),
        _ => {}
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(
        item,
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), _)
    )
}

/// The name that PostgreSQL gives a column of this expression.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()).unwrap_or_default(),
        Expr::Function(function) => last(&function.name).unwrap_or("?column?").to_ascii_lowercase(),
        Expr::Cast { expr, data_type, .. } => match name_of(expr).as_str() {
            "?column?" => match data_type {
                DataType::Custom(name, _) => last(name).unwrap_or("?column?").to_owned(),
                other => other.to_string().to_ascii_lowercase(),
            },
            name => name.to_owned(),
        },
        Expr::Nested(expr) | Expr::Collate { expr, .. } => name_of(expr),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => name_of(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => alias.value.clone(),
                _ => "?column?".to_owned(),
            },
            _ => "?column?".to_owned(),
        },
        _ => "?column?".to_owned(),
    }
}

fn last(name: &ObjectName) -> Option<&str> {
    name.0.last().and_then(part)
}

fn part(part: &ObjectNamePart) -> Option<&str> {
    part.as_ident().map(|ident| ident.value.as_str())
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
            _ => None,
        },
        Expr::Nested(inner) => literal(inner),
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

fn number(value: i64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
