//! Which columns of which tables a plan reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use headwater_federation::RemoteTable;
use headwater_rules::{mended_analyzer_rules, mended_optimizer_rules_of};

use super::guard::Guarded;
use crate::views::{SYSTEM_SCHEMA, SystemTable, ViewTable};

/// A table and those of its columns that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// In the order of their names; none where rows are only counted.
    pub(crate) columns: Vec<String>,
}

/// The tables of services, views and the program's own that a plan reads, each once, in the order of their names.
pub(crate) fn reads(plan: &LogicalPlan) -> Result<Vec<Read>> {
    let plan = match plan {
        LogicalPlan::Explain(explain) => explain.plan.as_ref(),
        LogicalPlan::Analyze(analyze) => analyze.input.as_ref(),
        plan => plan,
    };
    // Where a plan can't be pruned, as with parameters that have no type yet, what its scans could read is told.
    let pruned = pruned(plan.clone()).unwrap_or_else(|_| plan.clone());
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    pruned.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(name) = named(scan)
        {
            let columns = found.entry(name).or_default();
            columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
            columns
                .extend(scan.filters.iter().flat_map(|filter| filter.column_refs()).map(|column| column.name.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let read = |((schema, table), columns): (_, BTreeSet<String>)| Read {
        schema,
        table,
        columns: columns.into_iter().collect(),
    };
    Ok(found.into_iter().map(read).collect())
}

fn pruned(plan: LogicalPlan) -> Result<LogicalPlan> {
    let analyzer = Analyzer::with_rules(mended_analyzer_rules());
    let plan = analyzer.execute_and_check(plan, &ConfigOptions::default(), |_, _| {})?;
    let rules = mended_optimizer_rules_of(&[
        "decorrelate_predicate_subquery",
        "scalar_subquery_to_join",
        "decorrelate_lateral_join",
        "optimize_projections",
    ]);
    Optimizer::with_rules(rules).optimize(plan, &OptimizerContext::new(), |_, _| {})
}

/// `schema` and `table` of what a scan reads; `None` for what is no table, as `information_schema` and `generate_series`.
fn named(scan: &TableScan) -> Option<(String, String)> {
    let provider = source_as_provider(&scan.source).ok()?;
    if let Some(guarded) = provider.downcast_ref::<Guarded>() {
        return Some(guarded.name());
    }
    table_name(&provider)
}

/// `schema` and `table` of a table that the engine knows.
pub(super) fn table_name(provider: &Arc<dyn TableProvider>) -> Option<(String, String)> {
    if let Some(table) = provider.downcast_ref::<RemoteTable>() {
        return Some((table.service().name().to_string(), table.name().to_owned()));
    }
    if let Some(view) = provider.downcast_ref::<ViewTable>() {
        return Some((view.name.schema.clone(), view.name.name.clone()));
    }
    provider.downcast_ref::<SystemTable>().map(|table| (SYSTEM_SCHEMA.to_owned(), table.name().to_owned()))
}
