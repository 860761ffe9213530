//! Lets a filter that soon has the rows it is to find read its scan as the rows come.
//!
//! DataFusion deals the rows of one stream out to a filter on every core, and collects a full batch for each of them. Beneath a small limit the first
//! rows would wait for thousands that nobody asks for, minutes at a source that makes few a second.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::Partitioning;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

use crate::RemoteScanExec;

/// The physical optimizer rule. It runs after DataFusion's own, when limits are where they stay.
#[derive(Debug, Default)]
pub struct PromptLimits;

impl PhysicalOptimizerRule for PromptLimits {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let batch_rows = config.execution.batch_size.get();
        let prompt = |node: Arc<dyn ExecutionPlan>| match undealt(&node, batch_rows) {
            Some(scan) => replace_children_if_necessary(node, vec![scan]).map(Transformed::yes),
            None => Ok(Transformed::no(node)),
        };
        plan.transform_up(prompt).data()
    }

    fn name(&self) -> &str {
        "headwater_prompt_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The remote scan whose rows are dealt out to this filter, where it is to find fewer than a batch of them.
fn undealt(node: &Arc<dyn ExecutionPlan>, batch_rows: usize) -> Option<Arc<dyn ExecutionPlan>> {
    node.downcast_ref::<FilterExec>()?.fetch().filter(|rows| *rows < batch_rows)?;
    let [child] = node.children()[..] else { return None };
    let dealt = child.downcast_ref::<RepartitionExec>()?;
    let is_dealt = matches!(dealt.partitioning(), Partitioning::RoundRobinBatch(_));
    let scan = dealt.input();
    let is_stream = scan.is::<RemoteScanExec>() && scan.output_partitioning().partition_count() == 1;
    (is_dealt && is_stream).then(|| Arc::clone(scan))
}
