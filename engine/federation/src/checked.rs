//! Which filters a plan checks right above its scans.
//!
//! A filter that a source does not do whole stays in the plan, in a `Filter` above the scan, and is handed to the scan too. The scan can't see
//! what stands above it, and DataFusion simplifies filters after it has handed them down, so it would check each of them itself, a second time. It is told here
//! which ones it need not check: at the end, when nothing moves a filter any more.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Filter, LogicalPlan, TableScan};

use crate::RemoteTable;

/// The plan, each of whose scans beneath a filter knows what is checked there.
pub(crate) fn told_what_is_checked(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_down_with_subqueries(|plan| {
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::TableScan(scan) = input.as_ref() else { return Ok(Transformed::no(plan)) };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<RemoteTable>() else { return Ok(Transformed::no(plan)) };
        // A scan sees its filters without the table's name.
        let checked = unnormalize_cols(split_conjunction_owned(predicate.clone()));
        let source = provider_as_source(Arc::new(table.with_checked_above(checked)));
        let scan = LogicalPlan::TableScan(TableScan { source, ..scan.clone() });
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate.clone(), Arc::new(scan))?)))
    })?;
    Ok(told.data)
}
