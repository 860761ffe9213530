//! What can't be a view, by name.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::time::is_now;
use crate::{Error, Result};

/// Refuses functions whose result is not given by their arguments: a view that held one would not be what its query gives.
pub(crate) fn unstable(plan: &LogicalPlan) -> Result<()> {
    let mut refusal = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) = node {
            refusal = Some(Error::query("only a SELECT can be a view"));
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                refusal = refusal.take().or_else(|| refused(part));
                Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    refusal.map_or(Ok(()), Err)
}

fn refused(expression: &Expr) -> Option<Error> {
    match expression {
        Expr::ScalarFunction(call) => match call.func.signature().volatility {
            Volatility::Immutable => None,
            // Where it can be followed is told once the query is compiled.
            Volatility::Stable if is_now(call.func.name()) => None,
            Volatility::Stable => Some(Error::query(format!(
                "{}() changes with the time or the session of the query, and a view has neither; leave it to the query that reads the \
                 view, or write a literal",
                call.func.name()
            ))),
            Volatility::Volatile => Some(Error::query(format!(
                "{}() gives another value each time; leave it to the query that reads the view",
                call.func.name()
            ))),
        },
        Expr::AggregateFunction(call) if call.func.signature().volatility == Volatility::Volatile => {
            Some(Error::query(format!("{}() gives another value each time", call.func.name())))
        }
        Expr::Placeholder(placeholder) => {
            Some(Error::query(format!("it has the parameter {}; write a literal", placeholder.id)))
        }
        _ => None,
    }
}
