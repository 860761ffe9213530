//! Filters of a request as DataFusion's physical expressions.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, IsNotNullExpr, IsNullExpr, NotExpr, in_list, like, lit,
};
use headwater_source::{CompareOp, Expr, ScalarValue, TableDef};

/// Translates filters over a table into expressions over batches whose columns have the table's names and types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translator<'a> {
    /// The table whose columns the filters mean.
    pub(super) table: &'a TableDef,
    /// The schema of the batches.
    pub(super) schema: &'a Schema,
}

impl Translator<'_> {
    /// The conjunction of the filters, or `None` of none.
    pub(super) fn all<'e>(&self, filters: impl IntoIterator<Item = &'e Expr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let parts = filters.into_iter().map(|filter| self.expr(filter)).collect::<Result<Vec<_>>>()?;
        Ok(balanced(parts, Operator::And))
    }

    fn expr(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(match expr {
            Expr::Column(index) => self.column(*index)?,
            Expr::Literal(value) => lit(value.clone()),
            Expr::Compare { op, left, right } => {
                Arc::new(BinaryExpr::new(self.expr(left)?, operator(*op), self.expr(right)?))
            }
            Expr::And(parts) => self.chain(parts, Operator::And)?,
            Expr::Or(parts) => self.chain(parts, Operator::Or)?,
            Expr::Not(inner) => Arc::new(NotExpr::new(self.expr(inner)?)),
            Expr::IsNull(inner) => Arc::new(IsNullExpr::new(self.expr(inner)?)),
            Expr::IsNotNull(inner) => Arc::new(IsNotNullExpr::new(self.expr(inner)?)),
            Expr::InList { expr, values, negated } => self.in_list(expr, values, *negated)?,
            Expr::Like(pattern) => {
                let text = lit(ScalarValue::Utf8(Some(pattern.pattern.clone())));
                like(pattern.negated, pattern.case_insensitive, self.expr(&pattern.expr)?, text, self.schema)?
            }
            other => return datafusion::common::not_impl_err!("the filter {other}"),
        })
    }

    fn column(&self, index: usize) -> Result<Arc<dyn PhysicalExpr>> {
        let name = &self.table.columns[index].name;
        Ok(Arc::new(Column::new(name, self.schema.index_of(name)?)))
    }

    fn chain(&self, parts: &[Expr], operator: Operator) -> Result<Arc<dyn PhysicalExpr>> {
        let parts = parts.iter().map(|part| self.expr(part)).collect::<Result<Vec<_>>>()?;
        balanced(parts, operator).map_or_else(|| datafusion::common::plan_err!("an empty {operator}"), Ok)
    }

    /// DataFusion's sets compare bits: with either zero both are in it.
    fn in_list(&self, expr: &Expr, values: &[ScalarValue], negated: bool) -> Result<Arc<dyn PhysicalExpr>> {
        let is_zero = |value: &&ScalarValue| match value {
            ScalarValue::Float32(Some(number)) => *number == 0.0,
            ScalarValue::Float64(Some(number)) => *number == 0.0,
            _ => false,
        };
        let zeros = values.iter().filter(is_zero).map(ScalarValue::arithmetic_negate).collect::<Result<Vec<_>>>()?;
        let literals = values.iter().cloned().chain(zeros).map(lit).collect();
        in_list(self.expr(expr)?, literals, &negated, self.schema)
    }
}

/// The parts joined as a tree whose depth is the logarithm of their number: DataFusion walks expressions recursively, and a
/// chain of a thousand parts overflows the stack.
fn balanced(mut parts: Vec<Arc<dyn PhysicalExpr>>, operator: Operator) -> Option<Arc<dyn PhysicalExpr>> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let right = balanced(parts.split_off(parts.len() / 2), operator)?;
    let left = balanced(parts, operator)?;
    Some(Arc::new(BinaryExpr::new(left, operator, right)))
}

/// The filters with conjunctions taken apart, so that each part can be looked at by itself.
pub(super) fn conjuncts(filters: &[Expr]) -> Vec<&Expr> {
    filters
        .iter()
        .flat_map(|filter| match filter {
            Expr::And(parts) => conjuncts(parts),
            other => vec![other],
        })
        .collect()
}

fn operator(op: CompareOp) -> Operator {
    match op {
        CompareOp::Equal => Operator::Eq,
        CompareOp::NotEqual => Operator::NotEq,
        CompareOp::Less => Operator::Lt,
        CompareOp::LessOrEqual => Operator::LtEq,
        CompareOp::Greater => Operator::Gt,
        CompareOp::GreaterOrEqual => Operator::GtEq,
    }
}
