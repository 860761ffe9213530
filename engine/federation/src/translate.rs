//! Turns DataFusion's logical expressions into the expressions that may travel to a source.
//!
//! Only shapes whose meaning is the same by construction are translated: columns, literals of the column's own type,
//! comparisons, AND, OR, NOT, IS NULL, IN, BETWEEN and LIKE. Everything else says why it stays local.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, Like as LogicalLike};
use datafusion::logical_expr::{Expr as Logical, Operator};
use headwater_source::{CompareOp, Expr, Like, TableDef};

/// Translates a filter over `table`, or says why it has no counterpart.
pub(crate) fn translate(filter: &Logical, table: &TableDef) -> Result<Expr, String> {
    Translator { table }.expr(filter)
}

struct Translator<'a> {
    table: &'a TableDef,
}

impl Translator<'_> {
    fn expr(&self, expr: &Logical) -> Result<Expr, String> {
        match expr {
            Logical::Column(column) => match self.table.column_index(&column.name) {
                Some(index) => Ok(Expr::Column(index)),
                None => Err(format!("column \"{}\" is not of this table", column.name)),
            },
            Logical::Literal(value, _) => Ok(Expr::Literal(plain_text(value.clone()))),
            Logical::Alias(alias) => self.expr(&alias.expr),
            Logical::Not(inner) => Ok(Expr::Not(Box::new(self.expr(inner)?))),
            Logical::IsNull(inner) => Ok(Expr::IsNull(Box::new(self.expr(inner)?))),
            Logical::IsNotNull(inner) => Ok(Expr::IsNotNull(Box::new(self.expr(inner)?))),
            Logical::BinaryExpr(binary) => self.binary(binary),
            Logical::Between(between) => self.between(between),
            Logical::InList(list) => self.in_list(list),
            Logical::Like(like) => self.like(like),
            other => Err(format!("{} is evaluated locally", kind(other))),
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Result<Expr, String> {
        let (left, right) = (&binary.left, &binary.right);
        let op = match binary.op {
            Operator::And => return self.flat(left, right, Operator::And),
            Operator::Or => return self.flat(left, right, Operator::Or),
            Operator::Eq => CompareOp::Equal,
            Operator::NotEq => CompareOp::NotEqual,
            Operator::Lt => CompareOp::Less,
            Operator::LtEq => CompareOp::LessOrEqual,
            Operator::Gt => CompareOp::Greater,
            Operator::GtEq => CompareOp::GreaterOrEqual,
            other => return Err(format!("the operator {other} is evaluated locally")),
        };
        Ok(Expr::compare(op, self.expr(left)?, self.expr(right)?))
    }

    /// A chain of AND or OR as one n-ary node. A part without a counterpart fails the whole: DataFusion splits top-level
    /// conjunctions before it asks, so only what stands under OR or NOT is lost.
    fn flat(&self, left: &Logical, right: &Logical, op: Operator) -> Result<Expr, String> {
        let mut parts = Vec::new();
        for side in [self.expr(left)?, self.expr(right)?] {
            match (op, side) {
                (Operator::And, Expr::And(inner)) | (Operator::Or, Expr::Or(inner)) => parts.extend(inner),
                (_, other) => parts.push(other),
            }
        }
        Ok(if op == Operator::And { Expr::And(parts) } else { Expr::Or(parts) })
    }

    fn between(&self, between: &Between) -> Result<Expr, String> {
        let expr = self.expr(&between.expr)?;
        let (low, high) = (self.expr(&between.low)?, self.expr(&between.high)?);
        let (below, above) = match between.negated {
            true => (CompareOp::Less, CompareOp::Greater),
            false => (CompareOp::GreaterOrEqual, CompareOp::LessOrEqual),
        };
        let parts = vec![Expr::compare(below, expr.clone(), low), Expr::compare(above, expr, high)];
        Ok(if between.negated { Expr::Or(parts) } else { Expr::And(parts) })
    }

    fn in_list(&self, list: &InList) -> Result<Expr, String> {
        let expr = self.expr(&list.expr)?;
        let values = list.list.iter().map(literal).collect::<Option<Vec<ScalarValue>>>();
        match values {
            Some(values) if values.is_empty() => Err("IN of nothing".to_owned()),
            Some(values) if values.iter().any(ScalarValue::is_null) => {
                Err("IN with NULL is evaluated locally".to_owned())
            }
            Some(values) => Ok(Expr::InList { expr: Box::new(expr), values, negated: list.negated }),
            None => Err("IN of computed values".to_owned()),
        }
    }

    fn like(&self, like: &LogicalLike) -> Result<Expr, String> {
        if !matches!(like.escape_char, None | Some('\\')) {
            return Err("LIKE with an escape character of its own".to_owned());
        }
        match literal(&like.pattern) {
            Some(ScalarValue::Utf8(Some(pattern))) => Ok(Expr::Like(Like {
                expr: Box::new(self.expr(&like.expr)?),
                pattern,
                negated: like.negated,
                case_insensitive: like.case_insensitive,
            })),
            _ => Err("LIKE with a computed pattern".to_owned()),
        }
    }
}

fn literal(expr: &Logical) -> Option<ScalarValue> {
    match expr {
        Logical::Literal(value, _) => Some(plain_text(value.clone())),
        _ => None,
    }
}

/// The three layouts of text hold the same values; sources speak of one.
fn plain_text(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8(text),
        ScalarValue::BinaryView(bytes) | ScalarValue::LargeBinary(bytes) => ScalarValue::Binary(bytes),
        other => other,
    }
}

/// What people call a kind of expression; never its literals.
fn kind(expr: &Logical) -> String {
    match expr {
        Logical::Cast(cast) => format!("a cast to {}", cast.field.data_type()),
        Logical::TryCast(cast) => format!("try_cast to {}", cast.field.data_type()),
        Logical::ScalarFunction(function) => format!("the function {}", function.name()),
        Logical::Case(_) => "CASE".to_owned(),
        Logical::Negative(_) => "a negation".to_owned(),
        Logical::SimilarTo(_) => "SIMILAR TO".to_owned(),
        Logical::InSubquery(_) | Logical::Exists(_) | Logical::ScalarSubquery(_) => "a subquery".to_owned(),
        Logical::IsTrue(_) | Logical::IsFalse(_) | Logical::IsNotTrue(_) | Logical::IsNotFalse(_) => {
            "a test for truth".to_owned()
        }
        other => format!("{} expression", other.variant_name()),
    }
}
