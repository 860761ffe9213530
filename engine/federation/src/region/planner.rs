//! Where regions come into planning: between the optimized logical plan and the physical one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::eager::aggregate_early;
use super::grow::Grower;

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
        let plan = aggregate_early(logical_plan.clone())?;
        let plan = Grower::default().federate(plan)?;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, session).await
    }
}
