//! Where regions come into planning: between the optimized logical plan and the physical one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::eager::aggregate_early;
use super::estimate::estimate;
use super::grow::Grower;
use super::keyed::{Tries, aggregate_by_keys};
use super::keyed_cut::cut_when_keyed;
use super::keyed_exec::KeyedPlanner;
use super::remote::RemoteQuery;
use crate::barrier::BarrierPlanner;
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
        let plan = cut_when_keyed(federated(logical_plan.clone(), Tries::Keys)?)?;
        let planner =
            DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(KeyedPlanner), Arc::new(BarrierPlanner)]);
        let plan = match session.as_any().downcast_ref::<SessionState>() {
            Some(state) if reads_little(&plan) => {
                let mut alone = state.clone();
                alone.config_mut().options_mut().execution.target_partitions = 1;
                planner.create_physical_plan(&plan, &alone).await?
            }
            _ => planner.create_physical_plan(&plan, session).await?,
        };
        tie(&plan);
        Ok(plan)
    }
}

/// Lets the statements of a plan that is about to run share what they can.
pub(crate) fn tie(plan: &Arc<dyn ExecutionPlan>) {
    read_once(plan);
    share_snapshots(plan);
}

/// How many rows a scan is guessed to have, at most, that is not worth a second thread.
const FEW_ROWS: f64 = 1_000.0;

/// Whether every scan is guessed to have so few rows, and no join to make many of them, that handing rows between threads would cost more
/// than it saves.
fn reads_little(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok();
            let rows = match provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteQuery>()) {
                Some(query) => query.rows,
                None => estimate(plan).rows,
            };
            rows <= FEW_ROWS
        }
        LogicalPlan::Join(join) if join.on.is_empty() => false,
        other => other.inputs().into_iter().all(reads_little),
    }
}

/// The plan with its regions: aggregates by keys first, then those beneath joins, then whatever one source answers whole.
fn federated(plan: LogicalPlan, tries: Tries) -> Result<LogicalPlan> {
    let plan = match tries {
        Tries::Keys => aggregate_by_keys(plan, &federated, &mut Grower::default())?,
        Tries::NoKeys => plan,
    };
    let mut partial = Vec::new();
    let plan = aggregate_early(plan, &mut partial)?;
    let mut grower = Grower::of_partial(partial);
    grower.find_repeated(&plan)?;
    grower.federate(plan)
}
