//! Where regions come into planning: between the optimized logical plan and the physical one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use headwater_rules::refused_subquery;

use super::eager::aggregate_early;
use super::either::joined_by_either;
use super::grow::Grower;
use super::keyed::aggregate_by_keys;
use super::keyed_cut::cut_when_keyed;
use super::keyed_exec::KeyedPlanner;
use super::shared::{Sharing, share};
use super::shared_exec::SharedPlanner;
use super::small::plans_little;
use super::tested::tested_once;
use super::tried::try_first_rows;
use super::tried_exec::{TriedExec, TriedPlanner};
use super::unions::cut_inputs;
use super::unmatched::anti_joins;
use crate::barrier::BarrierPlanner;
use crate::checked::told_what_is_checked;
use crate::once::read_once;
use crate::snapshot::share_snapshots;

/// The query planner of a session: DataFusion's own, over a plan whose regions are remote relations.
#[derive(Debug, Default)]
pub struct Federation;

#[async_trait]
impl QueryPlanner for Federation {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = cut_when_keyed(federated(logical_plan.clone(), Tries::FirstRows)?)?;
        let plan = told_what_is_checked(plan)?;
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(KeyedPlanner),
            Arc::new(TriedPlanner),
            Arc::new(SharedPlanner),
            Arc::new(BarrierPlanner),
        ]);
        let plan = match session.as_any().downcast_ref::<SessionState>() {
            Some(state) if state.config().target_partitions() > 1 && plans_little(&plan) => {
                let mut alone = state.clone();
                alone.config_mut().options_mut().execution.target_partitions = 1;
                planner.create_physical_plan(&plan, &alone).await
            }
            _ => planner.create_physical_plan(&plan, session).await,
        }
        .map_err(told_of_subqueries)?;
        tie(&plan);
        Ok(plan)
    }
}

/// The error of a plan in which a subquery is left that could not be made a join, in words of the query.
fn told_of_subqueries(error: DataFusionError) -> DataFusionError {
    const LEFT: [&str; 4] = ["ScalarSubquery(", "OuterReferenceColumn(", "InSubquery(", "Exists("];
    let is_left = match error.find_root() {
        DataFusionError::NotImplemented(message) => {
            let expression = message.strip_prefix("Physical plan does not support logical expression ");
            expression.is_some_and(|expression| LEFT.iter().any(|left| expression.starts_with(left)))
        }
        _ => false,
    };
    if is_left { refused_subquery() } else { error }
}

/// Lets the statements of a plan that is about to run share what they can. Of two plans of which one answers, each shares with itself.
pub(crate) fn tie(plan: &Arc<dyn ExecutionPlan>) {
    let mut node = plan;
    loop {
        match (node.is::<TriedExec>(), node.children().as_slice()) {
            (true, plans) => return plans.iter().for_each(|plan| tie(plan)),
            (false, [input]) => node = input,
            _ => break,
        }
    }
    read_once(plan);
    share_snapshots(plan);
}

/// What is tried in a plan before it is answered in the ordinary way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tries {
    /// The first rows of its order, and what follows.
    FirstRows,
    /// Aggregates by keys.
    Keys,
    Nothing,
}

/// The plan with its regions: aggregates by keys first, then those beneath joins, then whatever one source answers whole.
fn federated(plan: LogicalPlan, tries: Tries) -> Result<LogicalPlan> {
    if tries == Tries::FirstRows
        && let Some(tried) = try_first_rows(&plan, &federated)?
    {
        return Ok(tried);
    }
    let plan = share(plan, Sharing::Finished, &[])?;
    let plan = match tries {
        Tries::FirstRows | Tries::Keys => aggregate_by_keys(plan, &federated, &mut Grower::default())?,
        Tries::Nothing => plan,
    };
    let mut partial = Vec::new();
    let plan = rewritten(plan, &mut partial)?;
    let plan = share(plan, Sharing::All, &partial)?;
    let mut grower = Grower::of_partial(partial);
    grower.find_repeated(&plan)?;
    grower.federate(plan)
}

/// The plan, and those of its subqueries, in the forms that ship the least.
fn rewritten(plan: LogicalPlan, partial: &mut Vec<DFSchemaRef>) -> Result<LogicalPlan> {
    let plan = aggregate_early(anti_joins(plan)?, partial)?;
    let plan = tested_once(plan, partial)?;
    let plan = cut_inputs(joined_by_either(plan)?)?;
    let with_subqueries = plan.transform_down(|plan| {
        plan.map_subqueries(|subquery| subquery.map_children(|plan| rewritten(plan, partial).map(Transformed::yes)))
    })?;
    Ok(with_subqueries.data)
}
