//! Keeps keys of groups that have one name.
//!
//! `SELECT count(*) FROM t GROUP BY id, CAST(id AS SMALLINT)` is grouped by `id` alone, and what was a key is computed above the groups (`EliminateGroupByConstant` of
//! datafusion-optimizer 55.2): in a projection whose columns must have names of their own. A cast has its argument's name, and the query was refused. Such groups keep all of their keys.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's rule, in whose place it stands.
#[derive(Debug, Default)]
pub struct RedundantKeys(EliminateGroupByConstant);

impl OptimizerRule for RedundantKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Aggregate(groups) = &plan {
            let mut names = HashSet::new();
            let mut columns = groups.group_expr.iter().chain(&groups.aggr_expr);
            if !columns.all(|column| names.insert(column.schema_name().to_string())) {
                return Ok(Transformed::no(plan));
            }
        }
        self.0.rewrite(plan, config)
    }
}
