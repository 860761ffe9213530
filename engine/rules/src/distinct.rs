//! Keeps the types of aggregates beside one that takes each value once.
//!
//! `SELECT sum(price), count(DISTINCT customer)` is computed by DataFusion in groups of the customers, and the sums of the groups are summed up (`SingleDistinctToGroupBy` of
//! datafusion-optimizer 55.2). A sum of decimals has ten digits more than they have, so the sum of sums had ten more than the query was planned with: what a client was told, as by a prepared
//! statement, is not what came. Its result is cast to the type that was planned.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_fn::cast;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's rule, in whose place it stands.
#[derive(Debug, Default)]
pub struct DistinctToGroups(SingleDistinctToGroupBy);

impl OptimizerRule for DistinctToGroups {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let planned = Arc::clone(plan.schema());
        let grouped = self.0.rewrite(plan, config)?;
        let found = Arc::clone(grouped.data.schema());
        let is_same = planned
            .fields()
            .iter()
            .zip(found.fields())
            .all(|(planned, found)| planned.data_type() == found.data_type());
        if !grouped.transformed || is_same {
            return Ok(grouped);
        }
        let columns = planned.iter().zip(found.iter()).map(|((qualifier, field), own)| {
            let column = Expr::Column(Column::from(own));
            match own.1.data_type() == field.data_type() {
                true => column,
                false => cast(column, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name()),
            }
        });
        grouped.map_data(|plan| Projection::try_new(columns.collect(), Arc::new(plan)).map(LogicalPlan::Projection))
    }
}
