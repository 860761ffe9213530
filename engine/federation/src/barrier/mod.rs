//! A place in a plan beneath which a query's own expressions are not evaluated.
//!
//! A row filter decides which rows somebody may read. An optimizer is free to evaluate the filters of a query in any order, and a source is too; so a
//! filter of the query that fails, as `1 / (salary - 100) = 0` does, would tell of rows that the row filter takes away. A [`Barrier`] stands above
//! the row filter. What is known to fail for no row ([`is_leakproof`]) goes through it ([`ThroughBarriers`]), the rest is evaluated above it, over rows that may be
//! read; in the physical plan it is an operator through which nothing moves, neither filters, nor projections, nor keys of joins. PostgreSQL's security
//! barrier views do the same (<https://www.postgresql.org/docs/current/rules-privileges.html>).
//!
//! Where a statement has no expression that can fail at all, its barriers are taken away ([`remove_harmless_barriers`]), and the row filter
//! goes to the source as part of whatever statement the source can answer whole.
//!
//! Rejected: evaluating the row filter first by its place in a conjunction. No database promises an order, and neither does DataFusion.

mod exec;
mod leakproof;
mod through;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

pub(crate) use exec::BarrierPlanner;
pub use through::ThroughBarriers;

/// The node: its input's rows, as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Barrier {
    input: LogicalPlan,
}

impl Barrier {
    /// A barrier above a plan.
    pub fn above(input: LogicalPlan) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Self { input }) })
    }

    /// What is beneath, where a plan is a barrier.
    pub fn beneath(plan: &LogicalPlan) -> Option<&LogicalPlan> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Self>().map(|node| &node.input),
            _ => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for Barrier {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    /// All of them: what may go through is `ThroughBarriers`' to say.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.input.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input }),
            _ => internal_err!("a barrier has one input"),
        }
    }

    /// A column that nobody reads above is not read below either.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// The plan without its barriers, where nothing above them can fail. Types must be settled, as the analyzer does: a comparison of two types hides a
/// cast, which may fail.
///
/// # Errors
/// The plan is malformed.
pub fn remove_harmless_barriers(plan: LogicalPlan, analyzed: &LogicalPlan) -> Result<LogicalPlan> {
    if !leakproof::is_harmless(analyzed)? {
        return Ok(plan);
    }
    let removed = plan.transform_up_with_subqueries(|node| {
        Ok(match Barrier::beneath(&node) {
            Some(input) => Transformed::yes(input.clone()),
            None => Transformed::no(node),
        })
    })?;
    Ok(removed.data)
}
