//! Reads the patterns of `SIMILAR TO` as SQL has them.
//!
//! `SIMILAR TO` is true of a text that its pattern describes whole, in which `%` stands for any text and `_` for any character. DataFusion takes the pattern for a regular expression that is found
//! anywhere in the text (`create_physical_expr` of datafusion-physical-expr 55.2): `'abc' SIMILAR TO 'b'` is true and `'abc' SIMILAR TO 'a%'` false, and an escape character is refused. The
//! pattern is written as the regular expression that it stands for. It must be known for that.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The optimizer rule. It runs before constants are computed.
#[derive(Debug, Default)]
pub struct SimilarTexts;

impl OptimizerRule for SimilarTexts {
    fn name(&self) -> &str {
        "headwater_similar_texts"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&plan);
        let named = |expr: Expr| {
            if !expr.exists(|part| Ok(matches!(part, Expr::SimilarTo(_))))? {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            Ok(expr.transform_up(matched)?.update_data(|expr| name.restore(expr)))
        };
        plan.map_expressions(|expr| match expr {
            // The sets have no name of their own, and are known by their form.
            Expr::GroupingSet(_) => expr.map_children(named),
            _ => named(expr),
        })
    }
}

fn matched(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::SimilarTo(similar) = expr else { return Ok(Transformed::no(expr)) };
    // It is written when its value is bound.
    if similar.pattern.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))? {
        return Ok(Transformed::no(Expr::SimilarTo(similar)));
    }
    let Like { negated, expr, pattern, escape_char, case_insensitive } = similar;
    let Some(pattern) = constant(*pattern) else {
        return plan_err!("SIMILAR TO needs a pattern that is a literal: write one, or use regexp_like");
    };
    let Some(Some(text)) = pattern.try_as_str() else {
        return Ok(Transformed::yes(Expr::Literal(ScalarValue::Boolean(None), None)));
    };
    let regex = ScalarValue::from(regex(text, escape_char.unwrap_or('\\'))?).cast_to(&pattern.data_type())?;
    let op = match (negated, case_insensitive) {
        (false, false) => Operator::RegexMatch,
        (false, true) => Operator::RegexIMatch,
        (true, false) => Operator::RegexNotMatch,
        (true, true) => Operator::RegexNotIMatch,
    };
    let right = Box::new(Expr::Literal(regex, None));
    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: expr, op, right })))
}

/// The value of a pattern that reads nothing.
fn constant(pattern: Expr) -> Option<ScalarValue> {
    let reads = |part: &Expr| {
        matches!(
            part,
            Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::ScalarVariable(..)
        )
    };
    if pattern.is_volatile() || pattern.exists(|part| Ok(reads(part))).unwrap_or(true) {
        return None;
    }
    let pattern = match pattern {
        Expr::Literal(value, _) => return Some(value),
        other => other,
    };
    let context = SimplifyContext::builder().with_schema(Arc::new(DFSchema::empty())).build();
    match ExprSimplifier::new(context).simplify(pattern) {
        Ok(Expr::Literal(value, _)) => Some(value),
        _ => None,
    }
}

/// The regular expression that a pattern stands for.
fn regex(pattern: &str, escape: char) -> Result<String> {
    let mut regex = "(?s)^(?:".to_owned();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            _ if character == escape => match rest.next() {
                Some(escaped) => push_literal(&mut regex, escaped),
                None => return plan_err!("the pattern of SIMILAR TO ends with its escape character"),
            },
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '[' => push_class(&mut regex, &mut rest, escape)?,
            '|' | '*' | '+' | '?' | '{' | '}' | ')' => regex.push(character),
            other => push_literal(&mut regex, other),
        }
    }
    regex.push_str(")$");
    Ok(regex)
}

/// A character that stands for itself.
fn push_literal(regex: &mut String, character: char) {
    if r"\.+*?()|[]{}^$#&-~".contains(character) {
        regex.push('\\');
    }
    regex.push(character);
}

/// What stands in brackets: characters, ranges and classes by name.
fn push_class(regex: &mut String, rest: &mut Peekable<Chars<'_>>, escape: char) -> Result<()> {
    regex.push('[');
    if rest.next_if_eq(&'^').is_some() {
        regex.push('^');
    }
    let mut is_first = true;
    // Whether a hyphen would make a range of what was last.
    let mut can_begin = false;
    while let Some(character) = rest.next() {
        match character {
            _ if character == escape => match rest.next() {
                Some(escaped) => {
                    push_literal(regex, escaped);
                    can_begin = true;
                }
                None => break,
            },
            ']' if !is_first => {
                regex.push(']');
                return Ok(());
            }
            '[' if rest.peek() == Some(&':') => {
                regex.push('[');
                // The name ends with the bracket that follows it.
                for part in rest.by_ref() {
                    regex.push(part);
                    if part == ']' {
                        break;
                    }
                }
                can_begin = false;
            }
            '-' if can_begin && rest.peek().is_some_and(|next| *next != ']') => {
                regex.push('-');
                can_begin = false;
            }
            other => {
                push_literal(regex, other);
                can_begin = true;
            }
        }
        is_first = false;
    }
    plan_err!("a bracket is not closed in the pattern of SIMILAR TO")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_a_regular_expression_of_the_whole_text() {
        for (pattern, right) in [
            ("", "(?s)^(?:)$"),
            ("a%_", "(?s)^(?:a.*.)$"),
            ("(a|b)+c?d*", "(?s)^(?:(?:a|b)+c?d*)$"),
            ("a{2,3}", "(?s)^(?:a{2,3})$"),
            (r"a.b^c$\%\\", r"(?s)^(?:a\.b\^c\$%\\)$"),
            ("[^a-c%_.]", r"(?s)^(?:[^a-c%_\.])$"),
            ("[]a&&[-]", r"(?s)^(?:[\]a\&\&\[\-])$"),
            ("[[:digit:]x]", "(?s)^(?:[[:digit:]x])$"),
        ] {
            assert_eq!(regex(pattern, '\\').unwrap(), right, "{pattern}");
        }
        assert_eq!(regex(r"a#%\", '#').unwrap(), r"(?s)^(?:a%\\)$");
        for pattern in ["[a", "[", r"a\", r"[a\"] {
            assert!(regex(pattern, '\\').is_err(), "{pattern}");
        }
    }
}
