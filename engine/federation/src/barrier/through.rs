//! What of a query's filters goes through a barrier.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::Barrier;
use super::leakproof::{is_leakproof, is_movable};

/// The optimizer's rule. It runs after filters were pushed down, so that they stand right above the barrier.
#[derive(Debug, Default)]
pub struct ThroughBarriers;

impl OptimizerRule for ThroughBarriers {
    fn name(&self) -> &'static str {
        "headwater_through_barriers"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let Some(input) = Barrier::beneath(&filter.input) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let schema = Arc::clone(input.schema());
        let (through, above): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate.clone())
            .into_iter()
            .partition(|part| is_movable(part) && is_leakproof(part, &schema));
        let Some(through) = conjunction(through) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let below = LogicalPlan::Filter(Filter::try_new(through, Arc::new(input.clone()))?);
        let barrier = Barrier::above(below);
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(barrier))?),
            None => barrier,
        }))
    }
}
