//! What the standard has and the planner knows under another name, or not at all.
//!
//! - `mod(a, b)` is `a % b`, and `every(a)` is `bool_and(a)`.
//! - `LIKE pattern ESCAPE '!'`: the pattern is written with the backslash, the only character that escapes for the planner.
//! - `COLLATE "C"`: texts are compared byte by byte anyway. Another collation would be another order, and is refused.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::refused;
use crate::{Error, Result};

/// Collations by which texts are compared byte by byte.
const BYTEWISE: [&str; 7] = ["c", "c.utf8", "c.utf-8", "posix", "ucs_basic", "binary", "utf8mb4_bin"];

/// Writes these as the planner knows them.
///
/// # Errors
/// A collation is named that texts are not compared by.
pub(super) fn mend(sql: &mut impl VisitMut) -> Result<()> {
    match VisitMut::visit(sql, &mut Mend) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Mend;

impl VisitorMut for Mend {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Function(function) => {
                if let Some(known) = known(function) {
                    *expr = known;
                }
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                escaped(pattern, escape_char);
            }
            Expr::Collate { expr: inner, collation } => {
                let name = collation.0.last().and_then(ObjectNamePart::as_ident).map(|name| name.value.to_lowercase());
                if !name.is_some_and(|name| BYTEWISE.contains(&name.as_str())) {
                    let reason = "texts are compared byte by byte; leave it out, or compare lower(...)";
                    return ControlFlow::Break(refused(format!("COLLATE {collation}"), reason));
                }
                let inner = std::mem::replace(&mut **inner, Expr::value(Value::Null));
                *expr = Expr::Nested(Box::new(inner));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The function as the planner has it; `None` where that is as it is written.
fn known(function: &mut Function) -> Option<Expr> {
    let [ObjectNamePart::Identifier(name)] = &function.name.0[..] else { return None };
    if name.quote_style.is_some() {
        return None;
    }
    match name.value.to_ascii_lowercase().as_str() {
        "every" => {
            function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("bool_and"))]);
            None
        }
        "mod" => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(a)), FunctionArg::Unnamed(FunctionArgExpr::Expr(b))] =
                &list.args[..]
            else {
                return None;
            };
            let operand = |expr: &Expr| Box::new(Expr::Nested(Box::new(expr.clone())));
            let modulo = Expr::BinaryOp { left: operand(a), op: BinaryOperator::Modulo, right: operand(b) };
            Some(Expr::Nested(Box::new(modulo)))
        }
        _ => None,
    }
}

/// The pattern with the backslash for its own escape character, where both are written down.
fn escaped(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(ValueWithSpan { value: Value::SingleQuotedString(character), .. }) = escape else { return };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) = pattern else { return };
    let mut characters = character.chars();
    let (by, None) = (characters.next(), characters.next()) else { return };
    if by == Some('\\') {
        return;
    }
    let mut written = String::with_capacity(text.len());
    let mut of_text = text.chars();
    while let Some(character) = of_text.next() {
        let literal = if Some(character) == by { of_text.next() } else { None };
        match literal.unwrap_or(character) {
            '\\' => written.push_str("\\\\"),
            special @ ('%' | '_') if literal.is_some() => {
                written.push('\\');
                written.push(special);
            }
            other => written.push(other),
        }
    }
    *text = written;
    *escape = None;
}
