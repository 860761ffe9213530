//! Queries that read little: what is not worth a second thread, and may pass those that read much.

use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use super::estimate::estimate;
use super::remote::RemoteQuery;

/// How many rows a scan is guessed to have, at most, that is not worth a second thread.
const FEW_ROWS: usize = 1_000;

/// Whether every scan is guessed to have so few rows, and no join to make many of them, that handing rows between threads would cost more
/// than it saves.
pub(crate) fn plans_little(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok();
            let rows = match provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteQuery>()) {
                // Few rows of much work, for which the source's cores are to be used.
                Some(query) if query.division.is_some() => return false,
                Some(query) => query.rows,
                None => estimate(plan).rows,
            };
            rows <= FEW_ROWS as f64
        }
        LogicalPlan::Join(join) if join.on.is_empty() => false,
        other => other.inputs().into_iter().all(plans_little),
    }
}

/// The same of a plan that is ready to run: no leaf of it is guessed to have more rows than a few, and none leaves open how many.
///
/// A guess may be wrong: whoever treats a small query otherwise is to notice when it is none.
pub fn reads_little(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<CrossJoinExec>() || plan.is::<NestedLoopJoinExec>() {
        return false;
    }
    let inputs = plan.children();
    if !inputs.is_empty() {
        return inputs.into_iter().all(reads_little);
    }
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    statistics.is_ok_and(|statistics| statistics.num_rows.get_value().is_some_and(|rows| *rows <= FEW_ROWS))
}
