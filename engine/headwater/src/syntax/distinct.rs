//! What `IS [NOT] DISTINCT FROM` takes for its right operand.
//!
//! The parser reads all that follows as one expression, the ANDs and ORs too. What is written in parentheses is known to it as such, so the order of the
//! operators in the text is still there: it is read again, by their precedence.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::vec::IntoIter;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Visit, VisitMut, Visitor, VisitorMut};

/// Gives each `IS [NOT] DISTINCT FROM` its own operand and no more.
pub(crate) fn mend(sql: &mut (impl Visit + VisitMut)) {
    if Visit::visit(&*sql, &mut Seek).is_break() {
        let _done = VisitMut::visit(sql, &mut Mend);
    }
}

/// Stops at the first that has too much.
struct Seek;

impl Visitor for Seek {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if has_too_much(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Mends the outermost expressions first: what binds looser ends up around them.
struct Mend;

impl VisitorMut for Mend {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if holds_too_much(expr) {
            let mut parts = vec![];
            flatten(expr, &mut parts);
            if let Some(mended) = climb(&mut parts.into_iter().peekable(), 0) {
                *expr = mended;
            }
        }
        ControlFlow::Continue(())
    }
}

/// A part of an expression, in the order of the text.
enum Part {
    Operand(Box<Expr>),
    Not,
    /// AND and OR.
    Joins(BinaryOperator),
    /// `IS [NOT] DISTINCT FROM`.
    Compares(fn(Box<Expr>, Box<Expr>) -> Expr),
    /// `IS NULL` and the like.
    Tests(Test),
}

type Test = fn(Box<Expr>) -> Expr;

/// How tightly NOT binds.
const NOT: u8 = 3;

impl Part {
    /// How tightly it binds what stands on its left.
    fn binds(&self) -> u8 {
        match self {
            Self::Operand(_) | Self::Not => 0,
            Self::Joins(BinaryOperator::Or) => 1,
            Self::Joins(_) => 2,
            Self::Compares(_) | Self::Tests(_) => 4,
        }
    }
}

fn is_joining(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::And | BinaryOperator::Or)
}

/// The operand of `IS NULL` and the like, and which of them it is.
fn test(expr: &Expr) -> Option<(&Expr, Test)> {
    Some(match expr {
        Expr::IsNull(operand) => (operand, Expr::IsNull),
        Expr::IsNotNull(operand) => (operand, Expr::IsNotNull),
        Expr::IsTrue(operand) => (operand, Expr::IsTrue),
        Expr::IsNotTrue(operand) => (operand, Expr::IsNotTrue),
        Expr::IsFalse(operand) => (operand, Expr::IsFalse),
        Expr::IsNotFalse(operand) => (operand, Expr::IsNotFalse),
        Expr::IsUnknown(operand) => (operand, Expr::IsUnknown),
        Expr::IsNotUnknown(operand) => (operand, Expr::IsNotUnknown),
        _ => return None,
    })
}

/// Whether it is `IS [NOT] DISTINCT FROM` with an operand that binds no tighter.
fn has_too_much(expr: &Expr) -> bool {
    let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = expr else { return false };
    match right.as_ref() {
        Expr::BinaryOp { op, .. } => is_joining(op),
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => true,
        other => test(other).is_some(),
    }
}

/// Whether such a one is among the operators of an expression, outside of its parentheses.
fn holds_too_much(expr: &Expr) -> bool {
    let mut left = vec![expr];
    while let Some(expr) = left.pop() {
        if has_too_much(expr) {
            return true;
        }
        match expr {
            Expr::BinaryOp { left: a, op, right: b } if is_joining(op) => left.extend([a.as_ref(), b.as_ref()]),
            Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => left.extend([a.as_ref(), b.as_ref()]),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => left.push(expr),
            other => left.extend(test(other).map(|(operand, _)| operand)),
        }
    }
    false
}

fn flatten(expr: &Expr, parts: &mut Vec<Part>) {
    match expr {
        Expr::BinaryOp { left, op, right } if is_joining(op) => {
            flatten(left, parts);
            parts.push(Part::Joins(op.clone()));
            flatten(right, parts);
        }
        Expr::IsDistinctFrom(left, right) => {
            flatten(left, parts);
            parts.push(Part::Compares(Expr::IsDistinctFrom));
            flatten(right, parts);
        }
        Expr::IsNotDistinctFrom(left, right) => {
            flatten(left, parts);
            parts.push(Part::Compares(Expr::IsNotDistinctFrom));
            flatten(right, parts);
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            parts.push(Part::Not);
            flatten(expr, parts);
        }
        other => match test(other) {
            Some((operand, test)) => {
                flatten(operand, parts);
                parts.push(Part::Tests(test));
            }
            None => parts.push(Part::Operand(Box::new(other.clone()))),
        },
    }
}

/// The expression of the parts up to the first that binds no tighter than this.
fn climb(parts: &mut Peekable<IntoIter<Part>>, least: u8) -> Option<Expr> {
    let mut left = match parts.next()? {
        Part::Operand(operand) => *operand,
        Part::Not => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(climb(parts, NOT)?) },
        Part::Joins(_) | Part::Compares(_) | Part::Tests(_) => return None,
    };
    while let Some(part) = parts.next_if(|part| part.binds() > least) {
        let binds = part.binds();
        left = match part {
            Part::Joins(op) => Expr::BinaryOp { left: Box::new(left), op, right: Box::new(climb(parts, binds)?) },
            Part::Compares(compare) => compare(Box::new(left), Box::new(climb(parts, binds)?)),
            Part::Tests(test) => test(Box::new(left)),
            Part::Operand(_) | Part::Not => return None,
        };
    }
    Some(left)
}
