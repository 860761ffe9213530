//! Rows of values that are compared, `(a, b) > (1, 2)` and `(a, b) IN (SELECT ...)`.
//!
//! The planner takes some of them for structs, which are compared as no column of a service is and whose NULLs are equal, and refuses the others: those of expressions, and of subqueries of several columns. Here each is written as
//! comparisons of the values, of which the source and its indexes know: unequal in the first that differs, NULL where that is not known.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SelectItem,
    SetExpr, TableFactor, UnaryOperator, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::refused;
use crate::{Error, Result};

/// What the rows of a subquery are called where they are compared.
const ROWS: &str = "headwater_rows";

/// Functions that are another value each time: what calls them is not written twice.
const VOLATILE: [&str; 2] = ["random", "uuid"];

/// Writes the comparisons of rows in a statement as those of their values.
///
/// # Errors
/// Rows of different lengths are compared.
pub(super) fn mend(sql: &mut (impl Visit + VisitMut)) -> Result<()> {
    if Visit::visit(&*sql, &mut Seek).is_continue() {
        return Ok(());
    }
    match VisitMut::visit(sql, &mut Mend) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Stops at the first row.
struct Seek;

impl Visitor for Seek {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if row(expr).is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

struct Mend;

impl VisitorMut for Mend {
    type Break = Error;

    /// What keeps a row need not tell false from NULL.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for condition in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
            if let Err(error) = in_condition(condition) {
                return ControlFlow::Break(error);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match compared(expr) {
            Ok(Some(written)) => {
                *expr = written;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// The values of a row: `(a, b)` or `ROW(a, b)`.
fn row(expr: &Expr) -> Option<Vec<&Expr>> {
    match expr {
        Expr::Nested(inner) => row(inner),
        Expr::Tuple(values) => Some(values.iter().collect()),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            list.args.iter().map(argument).collect()
        }
        _ => None,
    }
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// A condition that keeps rows, with each part that asks for a row of a subquery as one that asks whether there is such a row.
fn in_condition(condition: &mut Expr) -> Result<()> {
    match condition {
        Expr::Nested(inner) => in_condition(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            in_condition(left)?;
            in_condition(right)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            let mut inner = &mut **expr;
            while let Expr::Nested(nested) = inner {
                inner = nested;
            }
            if let Some(member) = Member::of(inner)? {
                *condition = member.keeps(true);
            }
            Ok(())
        }
        other => {
            if let Some(member) = Member::of(other)? {
                *other = member.keeps(false);
            }
            Ok(())
        }
    }
}

/// The comparison of rows as one of values; `None` of all else.
fn compared(expr: &Expr) -> Result<Option<Expr>> {
    if let Some(member) = Member::of(expr)? {
        return Ok(Some(member.value()));
    }
    let written = match expr {
        Expr::BinaryOp { left, op, right } => match (row(left), row(right)) {
            (Some(a), Some(b)) => by_operator(expr, op, &a, &b)?,
            _ => None,
        },
        Expr::IsDistinctFrom(left, right) => match (row(left), row(right)) {
            (Some(a), Some(b)) => Some(distinct(expr, &a, &b)?),
            _ => None,
        },
        Expr::IsNotDistinctFrom(left, right) => match (row(left), row(right)) {
            (Some(a), Some(b)) => Some(not(distinct(expr, &a, &b)?)),
            _ => None,
        },
        Expr::IsNull(inner) => row(inner).map(|values| of_each(&values, Expr::IsNull)),
        Expr::IsNotNull(inner) => row(inner).map(|values| of_each(&values, Expr::IsNotNull)),
        Expr::Between { expr: value, negated, low, high } => match (row(value), row(low), row(high)) {
            (Some(value), Some(low), Some(high)) => {
                let from = by_operator(expr, &BinaryOperator::GtEq, &value, &low)?;
                let to = by_operator(expr, &BinaryOperator::LtEq, &value, &high)?;
                let both = |(from, to)| nested(binary(from, BinaryOperator::And, to));
                from.zip(to).map(both).map(|both| if *negated { not(both) } else { both })
            }
            _ => None,
        },
        Expr::InList { expr: value, list, negated } => match (row(value), list.iter().map(row).collect()) {
            (Some(value), Some(list)) => {
                let list: Vec<Vec<&Expr>> = list;
                in_list(expr, &value, &list)?.map(|among| if *negated { not(among) } else { among })
            }
            _ => None,
        },
        _ => None,
    };
    Ok(written)
}

fn by_operator(whole: &Expr, op: &BinaryOperator, a: &[&Expr], b: &[&Expr]) -> Result<Option<Expr>> {
    let (first, last) = match op {
        BinaryOperator::Eq => return equal(whole, a, b).map(Some),
        BinaryOperator::NotEq => return equal(whole, a, b).map(not).map(Some),
        BinaryOperator::Lt | BinaryOperator::LtEq => (BinaryOperator::Lt, op.clone()),
        BinaryOperator::Gt | BinaryOperator::GtEq => (BinaryOperator::Gt, op.clone()),
        _ => return Ok(None),
    };
    of_one_length(whole, a.len(), b.len())?;
    if a.iter().chain(b).any(|value| is_volatile(value)) {
        return Ok(None);
    }
    ordered(whole, &first, &last, a, b)
}

/// In the order of the first values that differ: `a >= x AND (a > x OR (b, ...) > (y, ...))`, whose first part finds its rows by an index. `None` of rows without values.
fn ordered(
    whole: &Expr,
    first: &BinaryOperator,
    last: &BinaryOperator,
    a: &[&Expr],
    b: &[&Expr],
) -> Result<Option<Expr>> {
    let ([left, more @ ..], [right, others @ ..]) = (a, b) else { return Ok(None) };
    let Some(rest) = ordered(whole, first, last, more, others)? else {
        return value_by(whole, last, left, right).map(Some);
    };
    let not_beyond = if *first == BinaryOperator::Gt { BinaryOperator::GtEq } else { BinaryOperator::LtEq };
    let decided = nested(binary(value_by(whole, first, left, right)?, BinaryOperator::Or, rest));
    Ok(Some(nested(binary(value_by(whole, &not_beyond, left, right)?, BinaryOperator::And, decided))))
}

/// Two values compared, which may be rows themselves.
fn value_by(whole: &Expr, op: &BinaryOperator, left: &Expr, right: &Expr) -> Result<Expr> {
    let of_rows = match (row(left), row(right)) {
        (Some(a), Some(b)) => by_operator(whole, op, &a, &b)?,
        _ => None,
    };
    Ok(of_rows.unwrap_or_else(|| binary(left.clone(), op.clone(), right.clone())))
}

fn equal(whole: &Expr, a: &[&Expr], b: &[&Expr]) -> Result<Expr> {
    of_one_length(whole, a.len(), b.len())?;
    let pairs = a.iter().zip(b).map(|(a, b)| value_by(whole, &BinaryOperator::Eq, a, b));
    Ok(chain(pairs.collect::<Result<_>>()?, &BinaryOperator::And))
}

fn distinct(whole: &Expr, a: &[&Expr], b: &[&Expr]) -> Result<Expr> {
    of_one_length(whole, a.len(), b.len())?;
    let pair = |(a, b): (&&Expr, &&Expr)| match (row(a), row(b)) {
        (Some(a), Some(b)) => distinct(whole, &a, &b),
        _ => Ok(nested(Expr::IsDistinctFrom(Box::new((*a).clone()), Box::new((*b).clone())))),
    };
    Ok(chain(a.iter().zip(b).map(pair).collect::<Result<_>>()?, &BinaryOperator::Or))
}

fn in_list(whole: &Expr, value: &[&Expr], list: &[Vec<&Expr>]) -> Result<Option<Expr>> {
    if list.len() > 1 && value.iter().any(|value| is_volatile(value)) {
        return Ok(None);
    }
    let equal = list.iter().map(|other| equal(whole, value, other)).collect::<Result<Vec<_>>>()?;
    Ok(Some(chain(equal, &BinaryOperator::Or)))
}

/// `row IN (SELECT ...)`.
struct Member {
    values: Vec<Expr>,
    subquery: Box<Query>,
    negated: bool,
}

impl Member {
    /// `None` of what asks for no row of a subquery.
    fn of(expr: &Expr) -> Result<Option<Self>> {
        let (value, subquery, negated) = match expr {
            Expr::InSubquery { expr, subquery, negated } => (expr, subquery, *negated),
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => match &**right {
                Expr::Subquery(subquery) => (left, subquery, false),
                _ => return Ok(None),
            },
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => match &**right {
                Expr::Subquery(subquery) => (left, subquery, true),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(values) = row(value) else { return Ok(None) };
        if values.iter().any(|value| is_volatile(value)) {
            return Ok(None);
        }
        if let Some(selected) = width(&subquery.body) {
            of_one_length(expr, values.len(), selected)?;
        }
        let values = values.into_iter().cloned().collect();
        Ok(Some(Self { values, subquery: subquery.clone(), negated }))
    }

    /// As a condition that keeps rows.
    fn keeps(self, opposite: bool) -> Expr {
        match self.negated != opposite {
            false => self.exists(Self::equals, false),
            true => self.exists(Self::may_equal, true),
        }
    }

    /// As a value, which is NULL where it is not known.
    fn value(self) -> Expr {
        let when = |condition: Expr, result: Value| CaseWhen { condition, result: Expr::value(result) };
        let conditions = vec![
            when(self.exists(Self::equals, false), Value::Boolean(!self.negated)),
            when(self.exists(Self::may_equal, false), Value::Null),
        ];
        Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions,
            else_result: Some(Box::new(Expr::value(Value::Boolean(self.negated)))),
        }
    }

    fn exists(&self, test: fn(Expr, &Expr) -> Expr, negated: bool) -> Expr {
        let name = |index: usize| format!("{ROWS}_{index}");
        let column = |index| Expr::CompoundIdentifier(vec![Ident::new(ROWS), Ident::new(name(index))]);
        let tests = self.values.iter().enumerate().map(|(index, value)| test(column(index), value)).collect();
        let names: Vec<String> = (0..self.values.len()).map(name).collect();
        // No text of the query's is in it.
        let frame = format!("SELECT 1 FROM (SELECT 1) AS {ROWS} ({}) WHERE TRUE", names.join(", "));
        let mut query = Parser::new(&GenericDialect)
            .try_with_sql(&frame)
            .and_then(|mut parser| parser.parse_query())
            .expect("Invariant: it is a query of fixed words");
        if let SetExpr::Select(select) = &mut *query.body {
            select.selection = Some(chain(tests, &BinaryOperator::And));
            for table in &mut select.from {
                if let TableFactor::Derived { subquery, .. } = &mut table.relation {
                    subquery.clone_from(&self.subquery);
                }
            }
        }
        Expr::Exists { subquery: query, negated }
    }

    fn equals(column: Expr, value: &Expr) -> Expr {
        binary(column, BinaryOperator::Eq, value.clone())
    }

    fn may_equal(column: Expr, value: &Expr) -> Expr {
        let nulls = [column.clone(), value.clone()].map(|part| nested(Expr::IsNull(Box::new(part))));
        let [column_is_null, value_is_null] = nulls;
        chain(vec![Self::equals(column, value), column_is_null, value_is_null], &BinaryOperator::Or)
    }
}

/// How many columns a subquery has, as far as its text says.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) => {
            let is_one =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(is_one).then_some(select.projection.len())
        }
        SetExpr::Query(query) => width(&query.body),
        SetExpr::SetOperation { left, .. } => width(left),
        SetExpr::Values(values) => values.rows.first().map(|row| row.len()),
        _ => None,
    }
}

fn of_one_length(whole: &Expr, a: usize, b: usize) -> Result<()> {
    if a == b && a > 0 {
        return Ok(());
    }
    let reason = format!("rows of {a} and of {b} values are compared; write as many on both sides");
    Err(refused(whole.to_string(), reason))
}

fn is_volatile(expr: &Expr) -> bool {
    struct Calls;
    impl Visitor for Calls {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let is_called = |name: &str| VOLATILE.iter().any(|volatile| name.eq_ignore_ascii_case(volatile));
            match expr {
                Expr::Function(function) if is_called(&function.name.to_string()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Calls).is_break()
}

fn of_each(values: &[&Expr], test: fn(Box<Expr>) -> Expr) -> Expr {
    let tests = values.iter().map(|value| nested(test(Box::new((*value).clone()))));
    chain(tests.collect(), &BinaryOperator::And)
}

/// All of them joined by AND or OR, no deeper than it must be.
fn chain(mut parts: Vec<Expr>, op: &BinaryOperator) -> Expr {
    if parts.len() < 2 {
        return parts.pop().unwrap_or_else(|| Expr::value(Value::Boolean(*op == BinaryOperator::And)));
    }
    let others = parts.split_off(parts.len() / 2);
    nested(binary(chain(parts, op), op.clone(), chain(others, op)))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn not(expr: Expr) -> Expr {
    nested(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(nested(expr)) })
}

fn nested(expr: Expr) -> Expr {
    match expr {
        nested @ Expr::Nested(_) => nested,
        other => Expr::Nested(Box::new(other)),
    }
}
