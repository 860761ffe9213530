//! Compiles expressions.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, Expr as Ast, Query as AstQuery, Subscript, TrimWhereField,
    UnaryOperator, Value as Literal, ValueWithSpan,
};

use super::compile::{Compiler, Typed};
use super::names::{Found, folded, kind_of, unknown_column};
use super::plan::{Compare, Compute, EachCompare, Expr, Pattern, Quantity};
use super::value::{Kind, Real, Value};
use crate::pg::error::{PgError, SYNTAX, UNSUPPORTED};

impl Compiler<'_> {
    /// An expression that is a condition.
    pub(super) fn flag(&mut self, expr: &Ast) -> Result<Expr, PgError> {
        let term = self.term(expr)?;
        self.coerced(term, &Kind::Bool)
    }

    pub(super) fn term(&mut self, expr: &Ast) -> Result<Typed, PgError> {
        self.deeper(|compiler| compiler.whole_term(expr))
    }

    pub(super) fn terms(&mut self, exprs: &[Ast]) -> Result<Vec<Typed>, PgError> {
        exprs.iter().map(|expr| self.term(expr)).collect()
    }

    fn whole_term(&mut self, expr: &Ast) -> Result<Typed, PgError> {
        Ok(match expr {
            Ast::Nested(inner) | Ast::Collate { expr: inner, .. } => self.term(inner)?,
            Ast::Identifier(name) => self.named(&[folded(name)], name.quote_style.is_none())?,
            Ast::CompoundIdentifier(names) => {
                let names: Vec<String> = names.iter().map(folded).collect();
                self.named(&names, false)?
            }
            Ast::CompoundFieldAccess { root, access_chain } => {
                let root = self.term(root)?;
                access_chain.iter().try_fold(root, |term, access| self.accessed(term, access))?
            }
            Ast::Value(value) => self.literal(value)?,
            Ast::TypedString(typed) => {
                let value = self.literal(&typed.value)?;
                self.cast_to(value, &kind_of(&typed.data_type))?
            }
            Ast::Cast { kind: CastKind::Cast | CastKind::DoubleColon | CastKind::TryCast, expr, data_type, .. } => {
                let term = self.term(expr)?;
                self.cast_to(term, &kind_of(data_type))?
            }
            Ast::Interval(_) => typed(Expr::Constant(Value::text("")), Kind::Text),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr)?,
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Ast::IsNull(inner) => flag(Expr::IsNull(Box::new(self.term(inner)?.expr))),
            Ast::IsNotNull(inner) => flag(not(Expr::IsNull(Box::new(self.term(inner)?.expr)))),
            Ast::IsUnknown(inner) => flag(Expr::IsNull(Box::new(self.flag(inner)?))),
            Ast::IsNotUnknown(inner) => flag(not(Expr::IsNull(Box::new(self.flag(inner)?)))),
            Ast::IsTrue(inner) => flag(Expr::Is(Box::new(self.flag(inner)?), true)),
            Ast::IsFalse(inner) => flag(Expr::Is(Box::new(self.flag(inner)?), false)),
            Ast::IsNotTrue(inner) => flag(not(Expr::Is(Box::new(self.flag(inner)?), true))),
            Ast::IsNotFalse(inner) => flag(not(Expr::Is(Box::new(self.flag(inner)?), false))),
            Ast::IsDistinctFrom(one, other) => flag(self.distinct(one, other)?),
            Ast::IsNotDistinctFrom(one, other) => flag(not(self.distinct(one, other)?)),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated)?,
            Ast::InSubquery { expr, subquery, negated } => {
                let value = self.term(expr)?;
                let found = self.each(Quantity::Any, EachCompare::Ordered(Compare::Equal), value, subquery)?;
                negated_where(*negated, found)
            }
            Ast::Between { expr, negated, low, high } => {
                let mut sides = Vec::new();
                for (how, bound) in [(Compare::AtLeast, low), (Compare::AtMost, high)] {
                    let (value, bound) = (self.term(expr)?, self.term(bound)?);
                    sides.push(self.compared(how, value, bound)?.expr);
                }
                negated_where(*negated, flag(Expr::All(sides)))
            }
            Ast::Like { negated, expr, pattern, escape_char, .. } => {
                self.like(expr, pattern, escape_char.as_ref(), false, *negated)?
            }
            Ast::ILike { negated, expr, pattern, escape_char, .. } => {
                self.like(expr, pattern, escape_char.as_ref(), true, *negated)?
            }
            Ast::AnyOp { left, compare_op, right, .. } => self.quantified(Quantity::Any, left, compare_op, right)?,
            Ast::AllOp { left, compare_op, right } => self.quantified(Quantity::All, left, compare_op, right)?,
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            Ast::Exists { subquery, negated } => {
                negated_where(*negated, flag(Expr::Exists(Box::new(self.query(subquery)?))))
            }
            Ast::Subquery(query) => {
                let query = self.query(query)?;
                let kind = query.columns.first().map_or(Kind::Text, |column| column.kind.clone());
                typed(Expr::Value(Box::new(query)), kind)
            }
            Ast::Array(array) => {
                let items = self.terms(&array.elem)?;
                let kind = common(&items);
                let items = items.into_iter().map(|item| self.coerced(item, &kind)).collect::<Result<_, _>>()?;
                typed(Expr::List(items), kind.list())
            }
            Ast::Tuple(parts) => {
                let parts = self.terms(parts)?;
                let fields = parts.iter().zip(1..).map(|(part, number)| (format!("f{number}"), part.kind.clone()));
                let kind = Kind::Record(fields.collect());
                typed(Expr::Record(parts.into_iter().map(|part| part.expr).collect()), kind)
            }
            Ast::Function(function) => self.function(function)?,
            Ast::Position { expr, r#in } => {
                let arguments = vec![self.term(r#in)?, self.term(expr)?];
                self.called("position", arguments)?
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.term(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.term(from)?),
                    None => arguments.push(typed(Expr::Constant(Value::Int(1)), Kind::Int4)),
                }
                if let Some(count) = substring_for {
                    arguments.push(self.term(count)?);
                }
                self.called("substring", arguments)?
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut arguments = vec![self.term(expr)?];
                let what = trim_what.as_deref().or_else(|| trim_characters.as_ref().and_then(|all| all.first()));
                if let Some(what) = what {
                    arguments.push(self.term(what)?);
                }
                self.called(name, arguments)?
            }
            Ast::Ceil { expr, .. } => {
                let arguments = vec![self.term(expr)?];
                self.called("ceil", arguments)?
            }
            Ast::Floor { expr, .. } => {
                let arguments = vec![self.term(expr)?];
                self.called("floor", arguments)?
            }
            Ast::AtTimeZone { timestamp, .. } => self.term(timestamp)?,
            _ => {
                return Err(PgError::new(
                    UNSUPPORTED,
                    "an expression of this kind is not supported in questions of the catalog",
                ));
            }
        })
    }

    // ---- names and literals

    fn named(&mut self, names: &[String], may_be_register: bool) -> Result<Typed, PgError> {
        for (depth, scope) in self.scopes.iter().enumerate().rev() {
            let Some(found) = scope.find(names)? else { continue };
            let up = self.scopes.len() - 1 - depth;
            let (asked, term) = match found {
                Found::Column(index, kind) => (index..index + 1, typed(Expr::Column { up, index }, kind)),
                Found::Row(offset, columns) => {
                    let asked = offset..offset + columns.len();
                    let fields = asked.clone().map(|index| Expr::Column { up, index }).collect();
                    let kinds = columns.into_iter().map(|column| (column.name, column.kind));
                    (asked, typed(Expr::Record(fields), Kind::Record(kinds.collect())))
                }
            };
            self.asks(depth + 1);
            for (_, asks) in self.marks.iter_mut().filter(|(of, _)| *of == depth) {
                asks.extend(asked.clone());
            }
            return Ok(term);
        }
        if let Some(oid) = self.scopes.iter().rev().find_map(|scope| scope.table_oid(names)) {
            return Ok(typed(Expr::Constant(Value::Int(oid)), Kind::Oid));
        }
        if let ([name], true) = (names, may_be_register) {
            match name.as_str() {
                "current_user" | "session_user" | "user" | "current_role" => {
                    return Ok(typed(Expr::Constant(Value::text(&self.tables.user)), Kind::Name));
                }
                "current_catalog" | "current_schema" | "current_timestamp" => return self.called(name, vec![]),
                "current_date" => return self.called("now", vec![]),
                _ => {}
            }
        }
        Err(unknown_column(names))
    }

    fn literal(&mut self, value: &ValueWithSpan) -> Result<Typed, PgError> {
        Ok(match &value.value {
            Literal::Number(number, _) => match number.parse::<i64>() {
                Ok(whole) => {
                    let kind = if i32::try_from(whole).is_ok() { Kind::Int4 } else { Kind::Int8 };
                    typed(Expr::Constant(Value::Int(whole)), kind)
                }
                Err(_) => {
                    let number = number.parse().map_err(|_| PgError::new(SYNTAX, "a number can't be read"))?;
                    typed(Expr::Constant(Value::Float(Real(number))), Kind::Float8)
                }
            },
            Literal::SingleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text)
            | Literal::NationalStringLiteral(text) => typed(Expr::Constant(Value::text(text)), Kind::Unknown),
            Literal::DollarQuotedString(text) => typed(Expr::Constant(Value::text(&text.value)), Kind::Unknown),
            Literal::Boolean(flag) => typed(Expr::Constant(Value::Bool(*flag)), Kind::Bool),
            Literal::Null => typed(Expr::Constant(Value::Null), Kind::Unknown),
            Literal::Placeholder(name) => {
                let number =
                    name.trim_start_matches('$').parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                let index = number.ok_or_else(|| PgError::new(SYNTAX, "a parameter is written as $ and a number"))?;
                typed(Expr::Parameter(index), self.parameter(index)?)
            }
            _ => {
                return Err(PgError::new(
                    UNSUPPORTED,
                    "a literal of this kind is not supported in questions of the catalog",
                ));
            }
        })
    }

    fn accessed(&mut self, term: Typed, access: &AccessExpr) -> Result<Typed, PgError> {
        match access {
            AccessExpr::Dot(Ast::Identifier(name)) => {
                let Kind::Record(fields) = &term.kind else {
                    return Err(PgError::new("42809", "only a record has fields"));
                };
                let name = folded(name);
                let found = fields.iter().position(|(field, _)| *field == name);
                let index = found.ok_or_else(|| unknown_column(&[name]))?;
                let kind = fields[index].1.clone();
                Ok(typed(Expr::Field(Box::new(term.expr), index), kind))
            }
            AccessExpr::Dot(_) => Err(PgError::new(UNSUPPORTED, "a field is a name")),
            AccessExpr::Subscript(subscript) => {
                let (element, first) = match &term.kind {
                    Kind::Unknown | Kind::Text => (Kind::Text, 1),
                    kind => match kind.element() {
                        Some(element) => (element.clone(), kind.first_index()),
                        None => return Err(PgError::new("42804", "only a list has items")),
                    },
                };
                let list = Box::new(term.expr);
                match subscript {
                    Subscript::Index { index } => {
                        let index = self.term(index)?;
                        let index = Box::new(self.coerced(index, &Kind::Int8)?);
                        Ok(typed(Expr::Item { list, index, first }, element))
                    }
                    Subscript::Slice { lower_bound, upper_bound, .. } => {
                        let mut bound = |bound: &Option<Ast>| match bound {
                            Some(bound) => {
                                let bound = self.term(bound)?;
                                Ok::<_, PgError>(Some(Box::new(self.coerced(bound, &Kind::Int8)?)))
                            }
                            None => Ok(None),
                        };
                        let (from, to) = (bound(lower_bound)?, bound(upper_bound)?);
                        Ok(typed(Expr::Slice { list, from, to, first }, element.list()))
                    }
                }
            }
        }
    }

    // ---- types

    /// An open expression as text.
    pub(super) fn settled(&mut self, term: Typed) -> Typed {
        if let (Expr::Parameter(index), Kind::Unknown) = (&term.expr, &term.kind) {
            self.settle(*index, &Kind::Text);
        }
        let kind = if term.kind == Kind::Unknown { Kind::Text } else { term.kind };
        Typed { expr: term.expr, kind }
    }

    /// An expression where another type is wanted.
    pub(super) fn coerced(&mut self, term: Typed, to: &Kind) -> Result<Expr, PgError> {
        if let (Expr::Parameter(index), Kind::Unknown) = (&term.expr, &term.kind) {
            self.settle(*index, to);
            let from = self.parameter(*index)?;
            return Ok(cast(term.expr, &from, to));
        }
        Ok(cast(term.expr, &term.kind, to))
    }

    fn cast_to(&mut self, term: Typed, to: &Kind) -> Result<Typed, PgError> {
        if *to == Kind::Char {
            // A byte is cut off, also from what is a text already.
            let term = self.settled(term);
            let expr = Expr::Cast { value: Box::new(term.expr), from: term.kind, to: Kind::Char };
            return Ok(typed(expr, Kind::Char));
        }
        Ok(typed(self.coerced(term, to)?, to.clone()))
    }

    // ---- operators

    fn unary(&mut self, op: UnaryOperator, expr: &Ast) -> Result<Typed, PgError> {
        Ok(match op {
            UnaryOperator::Not => flag(not(self.flag(expr)?)),
            UnaryOperator::Plus => self.term(expr)?,
            UnaryOperator::Minus => {
                let term = self.term(expr)?;
                if let Expr::Constant(Value::Int(number)) = term.expr {
                    return Ok(typed(Expr::Constant(Value::Int(-number)), term.kind));
                }
                let zero = Expr::Constant(Value::Int(0));
                typed(Expr::Compute(Compute::Subtract, Box::new(zero), Box::new(term.expr)), term.kind)
            }
            _ => {
                return Err(PgError::new(
                    UNSUPPORTED,
                    format!("the operator {op} is not supported in questions of the catalog"),
                ));
            }
        })
    }

    fn binary(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Result<Typed, PgError> {
        if let BinaryOperator::And | BinaryOperator::Or = op {
            let parts = vec![self.flag(left)?, self.flag(right)?];
            return Ok(flag(if *op == BinaryOperator::And { Expr::All(parts) } else { Expr::Some(parts) }));
        }
        if let Some(how) = comparison(op) {
            let (one, other) = (self.term(left)?, self.term(right)?);
            return self.compared(how, one, other);
        }
        if let Some(pattern) = pattern(op) {
            let (text, pattern_text) = (self.text(left)?, self.text(right)?);
            return Ok(flag(Expr::Matches(pattern, Box::new(text), Box::new(pattern_text))));
        }
        let how = computation(op).ok_or_else(|| {
            PgError::new(UNSUPPORTED, format!("the operator {op} is not supported in questions of the catalog"))
        })?;
        let (one, other) = (self.term(left)?, self.term(right)?);
        self.computed(how, one, other)
    }

    fn computed(&mut self, how: Compute, one: Typed, other: Typed) -> Result<Typed, PgError> {
        let kind = match how {
            Compute::Overlaps | Compute::Contains => Kind::Bool,
            Compute::Join if one.kind.element().is_some() => one.kind.clone(),
            Compute::Join if other.kind.element().is_some() => other.kind.clone(),
            Compute::Join => {
                let (one, other) = (self.coerced(one, &Kind::Text)?, self.coerced(other, &Kind::Text)?);
                return Ok(typed(Expr::Compute(how, Box::new(one), Box::new(other)), Kind::Text));
            }
            _ => match one.kind.common(&other.kind) {
                Kind::Unknown | Kind::Text => Kind::Int4,
                Kind::Oid | Kind::Reg(_) => Kind::Int8,
                kind => kind,
            },
        };
        let (one, other) = match how {
            Compute::Join => {
                let element = kind.element().cloned().unwrap_or(Kind::Text);
                let fit = |compiler: &mut Self, term: Typed| match term.kind.element() {
                    Some(_) => Ok(term.expr),
                    None if term.kind == Kind::Unknown => compiler.coerced(term, &kind),
                    None => compiler.coerced(term, &element),
                };
                (fit(self, one)?, fit(self, other)?)
            }
            Compute::Overlaps | Compute::Contains => {
                let common = one.kind.common(&other.kind);
                (self.coerced(one, &common)?, self.coerced(other, &common)?)
            }
            _ => (self.coerced(one, &kind)?, self.coerced(other, &kind)?),
        };
        Ok(typed(Expr::Compute(how, Box::new(one), Box::new(other)), kind))
    }

    /// A comparison, of values of one type.
    pub(super) fn compared(&mut self, how: Compare, one: Typed, other: Typed) -> Result<Typed, PgError> {
        let common = match one.kind.common(&other.kind) {
            Kind::Unknown => Kind::Text,
            kind => kind,
        };
        let (one, other) = (self.coerced(one, &common)?, self.coerced(other, &common)?);
        Ok(flag(Expr::Compare(how, Box::new(one), Box::new(other))))
    }

    fn distinct(&mut self, one: &Ast, other: &Ast) -> Result<Expr, PgError> {
        let (one, other) = (self.term(one)?, self.term(other)?);
        let common = one.kind.common(&other.kind);
        let (one, other) = (self.coerced(one, &common)?, self.coerced(other, &common)?);
        Ok(Expr::Distinct(Box::new(one), Box::new(other)))
    }

    fn text(&mut self, expr: &Ast) -> Result<Expr, PgError> {
        let term = self.term(expr)?;
        self.coerced(term, &Kind::Text)
    }

    fn like(
        &mut self,
        expr: &Ast,
        pattern: &Ast,
        escape: Option<&ValueWithSpan>,
        ignores_case: bool,
        is_negated: bool,
    ) -> Result<Typed, PgError> {
        let escape = match escape.map(|value| &value.value) {
            None => Some('\\'),
            Some(Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text)) => text.chars().next(),
            Some(_) => return Err(PgError::new(SYNTAX, "ESCAPE takes a text")),
        };
        let (text, pattern) = (self.text(expr)?, self.text(pattern)?);
        Ok(flag(Expr::Matches(Pattern::Like { escape, ignores_case, is_negated }, Box::new(text), Box::new(pattern))))
    }

    fn in_list(&mut self, expr: &Ast, list: &[Ast], negated: bool) -> Result<Typed, PgError> {
        let value = self.term(expr)?;
        let items = self.terms(list)?;
        let kind = items.iter().fold(value.kind.clone(), |kind, item| kind.common(&item.kind));
        let kind = if kind == Kind::Unknown { Kind::Text } else { kind };
        let value = self.coerced(value, &kind)?;
        let items = items.into_iter().map(|item| self.coerced(item, &kind)).collect::<Result<_, _>>()?;
        Ok(negated_where(negated, flag(Expr::In(Box::new(value), items))))
    }

    fn quantified(
        &mut self,
        quantity: Quantity,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
    ) -> Result<Typed, PgError> {
        let compare = match (comparison(op), pattern(op)) {
            (Some(how), _) => EachCompare::Ordered(how),
            (None, Some(pattern)) => EachCompare::Matching(pattern),
            (None, None) => {
                return Err(PgError::new(UNSUPPORTED, format!("ANY and ALL are not supported with {op}")));
            }
        };
        let value = self.term(left)?;
        let mut right = right;
        while let Ast::Nested(inner) = right {
            right = inner;
        }
        if let Ast::Subquery(query) = right {
            return self.each(quantity, compare, value, query);
        }
        let list = self.term(right)?;
        let element = match (&list.kind, &value.kind) {
            (Kind::Unknown, Kind::Unknown) => Kind::Text,
            // A list in quotes has items of the value's type.
            (Kind::Unknown, Kind::Reg(_)) => Kind::Oid,
            (Kind::Unknown, kind) => kind.clone(),
            (list, kind) => list.element().cloned().unwrap_or(Kind::Text).common(kind),
        };
        let list = self.coerced(list, &element.clone().list())?;
        let value = self.coerced(value, &element)?;
        Ok(flag(Expr::Each { quantity, compare, value: Box::new(value), list: Box::new(list) }))
    }

    /// A comparison with each row of a query.
    fn each(
        &mut self,
        quantity: Quantity,
        compare: EachCompare,
        value: Typed,
        query: &AstQuery,
    ) -> Result<Typed, PgError> {
        let mut query = self.query(query)?;
        let value = match value.kind {
            // Rows against rows: each row of the query becomes one value.
            Kind::Record(_) => {
                let width = query.columns.len();
                let id = self.id();
                let columns = (0..width).map(|index| Expr::Column { up: 0, index }).collect();
                let is_free = query.is_free;
                let select = super::plan::Select {
                    steps: vec![super::plan::Step {
                        source: super::plan::Source::Query { query: Box::new(query), is_lateral: false },
                        offset: 0,
                        width,
                        join: super::plan::Join::Inner,
                        on: vec![],
                        on_asks: vec![],
                        filters: vec![],
                        key: None,
                    }],
                    width,
                    columns: vec![Expr::Record(columns)],
                    ..super::plan::Select::default()
                };
                query = super::plan::Query {
                    id,
                    is_free,
                    tables: vec![],
                    body: super::plan::Body::Select(Box::new(select)),
                    order: vec![],
                    limit: None,
                    offset: None,
                    columns: vec![super::plan::Column { name: "row".to_owned(), kind: value.kind.clone() }],
                };
                value.expr
            }
            _ => {
                let kind = query.columns.first().map_or(Kind::Text, |column| column.kind.clone());
                let common = kind.common(&value.kind);
                let list = cast(Expr::ListOf(Box::new(query)), &kind.list(), &common.clone().list());
                let value = self.coerced(value, &common)?;
                return Ok(flag(Expr::Each { quantity, compare, value: Box::new(value), list: Box::new(list) }));
            }
        };
        let list = Box::new(Expr::ListOf(Box::new(query)));
        Ok(flag(Expr::Each { quantity, compare, value: Box::new(value), list }))
    }

    fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
    ) -> Result<Typed, PgError> {
        let mut tests = Vec::new();
        for when in conditions {
            tests.push(match operand {
                None => self.flag(&when.condition)?,
                Some(operand) => {
                    let (one, other) = (self.term(operand)?, self.term(&when.condition)?);
                    self.compared(Compare::Equal, one, other)?.expr
                }
            });
        }
        let mut results = conditions.iter().map(|when| self.term(&when.result)).collect::<Result<Vec<_>, _>>()?;
        results.push(match otherwise {
            Some(otherwise) => self.term(otherwise)?,
            None => typed(Expr::Constant(Value::Null), Kind::Unknown),
        });
        let kind = common(&results);
        let mut results =
            results.into_iter().map(|result| self.coerced(result, &kind)).collect::<Result<Vec<_>, _>>()?;
        let otherwise = Box::new(results.pop().unwrap_or(Expr::Constant(Value::Null)));
        let branches = tests.into_iter().zip(results).collect();
        Ok(typed(Expr::Case { branches, otherwise }, kind))
    }
}

pub(super) fn typed(expr: Expr, kind: Kind) -> Typed {
    Typed { expr, kind }
}

fn flag(expr: Expr) -> Typed {
    typed(expr, Kind::Bool)
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn negated_where(negated: bool, term: Typed) -> Typed {
    if negated { flag(not(term.expr)) } else { term }
}

/// The type that all have in common; text where it is open.
pub(super) fn common(terms: &[Typed]) -> Kind {
    match terms.iter().fold(Kind::Unknown, |kind, term| kind.common(&term.kind)) {
        Kind::Unknown => Kind::Text,
        kind => kind,
    }
}

/// An expression as another type; as it is where values of the two look the same.
pub(super) fn cast(expr: Expr, from: &Kind, to: &Kind) -> Expr {
    let is_same = from == to
        || matches!(expr, Expr::Constant(Value::Null))
        || (from.is_text() && to.is_text() && *to != Kind::Char)
        || (from.is_integer() && to.is_integer())
        || matches!((from.element(), to.element()), (Some(one), Some(other)) if one == other
            || (one.is_integer() && other.is_integer()) || (one.is_text() && other.is_text()))
        || matches!(to, Kind::Record(_));
    if is_same {
        return expr;
    }
    Expr::Cast { value: Box::new(expr), from: from.clone(), to: to.clone() }
}

fn comparison(op: &BinaryOperator) -> Option<Compare> {
    Some(match op {
        BinaryOperator::Eq => Compare::Equal,
        BinaryOperator::NotEq => Compare::Unequal,
        BinaryOperator::Lt => Compare::Less,
        BinaryOperator::LtEq => Compare::AtMost,
        BinaryOperator::Gt => Compare::Greater,
        BinaryOperator::GtEq => Compare::AtLeast,
        BinaryOperator::PGCustomBinaryOperator(name) => return comparison(&plain(name)?),
        _ => return None,
    })
}

fn pattern(op: &BinaryOperator) -> Option<Pattern> {
    let regex = |ignores_case, is_negated| Pattern::Regex { ignores_case, is_negated };
    let like = |ignores_case, is_negated| Pattern::Like { escape: Some('\\'), ignores_case, is_negated };
    Some(match op {
        BinaryOperator::PGRegexMatch => regex(false, false),
        BinaryOperator::PGRegexIMatch => regex(true, false),
        BinaryOperator::PGRegexNotMatch => regex(false, true),
        BinaryOperator::PGRegexNotIMatch => regex(true, true),
        BinaryOperator::PGLikeMatch => like(false, false),
        BinaryOperator::PGILikeMatch => like(true, false),
        BinaryOperator::PGNotLikeMatch => like(false, true),
        BinaryOperator::PGNotILikeMatch => like(true, true),
        BinaryOperator::PGCustomBinaryOperator(name) => return pattern(&plain(name)?),
        _ => return None,
    })
}

fn computation(op: &BinaryOperator) -> Option<Compute> {
    Some(match op {
        BinaryOperator::Plus => Compute::Add,
        BinaryOperator::Minus => Compute::Subtract,
        BinaryOperator::Multiply => Compute::Multiply,
        BinaryOperator::Divide => Compute::Divide,
        BinaryOperator::Modulo => Compute::Remainder,
        BinaryOperator::BitwiseAnd => Compute::And,
        BinaryOperator::BitwiseOr => Compute::Or,
        BinaryOperator::PGBitwiseShiftLeft => Compute::ShiftLeft,
        BinaryOperator::PGBitwiseShiftRight => Compute::ShiftRight,
        BinaryOperator::StringConcat => Compute::Join,
        BinaryOperator::PGOverlap => Compute::Overlaps,
        BinaryOperator::AtArrow => Compute::Contains,
        BinaryOperator::PGCustomBinaryOperator(name) => return computation(&plain(name)?),
        _ => return None,
    })
}

/// `OPERATOR(pg_catalog.~)` as the operator that it is.
fn plain(name: &[String]) -> Option<BinaryOperator> {
    Some(match name.last()?.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}
