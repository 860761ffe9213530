//! Keeps joins from waiting for one another's partitions for ever.
//!
//! A hash join that collects its build side tells its keys once all its output partitions have asked for them, and each waits for
//! the others. Beneath a join that is read partition by partition, one partition may never ask: where the upper join's own
//! build side is empty for it, it has no use for the lower one. The others would wait without end. Such a lower join is made to
//! tell no keys; an exchange between the two (a repartitioning) reads all partitions and needs no such care.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

use crate::RemoteScanExec;

/// The physical optimizer rule. It runs after DataFusion's own, when every join has its filter and its mode.
#[derive(Debug, Default)]
pub struct UncoupledJoins;

impl PhysicalOptimizerRule for UncoupledJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        uncouple(plan, Reader::All)
    }

    fn name(&self) -> &str {
        "headwater_uncoupled_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// How the partitions of a node are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// All of them, whatever comes.
    All,
    /// Each by a partition of a join, which may do without it.
    Each,
}

fn uncouple(plan: Arc<dyn ExecutionPlan>, reader: Reader) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = if reader == Reader::Each { without_keys(plan)? } else { plan };
    let children: Vec<Arc<dyn ExecutionPlan>> = plan
        .children()
        .into_iter()
        .enumerate()
        .map(|(index, child)| uncouple(Arc::clone(child), reader_of_child(&plan, index, reader)))
        .collect::<Result<_>>()?;
    replace_children_if_necessary(plan, children)
}

fn reader_of_child(plan: &Arc<dyn ExecutionPlan>, index: usize, reader: Reader) -> Reader {
    if plan.is::<RepartitionExec>() || plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() {
        return Reader::All;
    }
    match plan.downcast_ref::<HashJoinExec>().map(HashJoinExec::partition_mode) {
        Some(PartitionMode::Partitioned) => Reader::Each,
        // The build side is collected whole.
        Some(_) if index == 0 => Reader::All,
        Some(_) => reader,
        None if plan.is::<SortMergeJoinExec>() => Reader::Each,
        None => reader,
    }
}

/// The plan, where it is a join that would make its partitions wait for one another, without its keys.
fn without_keys(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let waits = plan.downcast_ref::<HashJoinExec>().is_some_and(|join| {
        *join.partition_mode() == PartitionMode::CollectLeft && plan.output_partitioning().partition_count() > 1
    });
    let filters: Vec<u64> =
        plan.dynamic_expressions_produced().iter().filter_map(|filter| filter.expression_id()).collect();
    if !waits || filters.is_empty() {
        return Ok(plan);
    }
    // What a join forgets when it is reset is its filter and what it has built; it has built nothing yet.
    let told_nothing = Arc::clone(&plan).reset_state()?.transform_down(|node| {
        Ok(match node.downcast_ref::<RemoteScanExec>() {
            Some(scan) => Transformed::yes(Arc::new(scan.without(&filters)) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })?;
    Ok(told_nothing.data)
}
