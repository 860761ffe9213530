//! Lets a source return only the first rows of an order.
//!
//! A sort with a fetch over a scan, with nothing but renamings between, needs no other rows than the first of that order. Nor does one over the side of an outer join that keeps all
//! of its rows, where it sorts by columns of that side: each of them makes at least one row.
//! The rule hands order and count to the scan and leaves the local sort where it is: the source's part is to ship less,
//! the order of the answer stays DataFusion's.
//!
//! It runs after DataFusion's own rules, when filters and limits have gone as far down as they go: a filter that still stands
//! between sort and scan means that the source does not do it exactly, and then nothing is cut.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use headwater_source::SortKey;

use crate::RemoteTable;

/// The optimizer rule.
#[derive(Debug, Default)]
pub struct TopN;

impl OptimizerRule for TopN {
    fn name(&self) -> &str {
        "headwater_top_n"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(sort) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(rows) = sort.fetch else { return Ok(Transformed::no(plan)) };
        let Some(input) = cut(&sort.input, &sort.expr, rows)? else { return Ok(Transformed::no(plan)) };
        let sort = Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: sort.fetch };
        Ok(Transformed::yes(LogicalPlan::Sort(sort)))
    }
}

/// The plan with its scan cut to the first `rows` of the order, where that is possible and not done yet.
pub(crate) fn cut(plan: &LogicalPlan, keys: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::TableScan(scan) => cut_scan(scan, keys, rows),
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(keys) = below_alias(alias, keys)? else { return Ok(None) };
            let Some(input) = cut(&alias.input, &keys, rows)? else { return Ok(None) };
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).map(LogicalPlan::SubqueryAlias).map(Some)
        }
        LogicalPlan::Projection(projection) => {
            let Some(keys) = below_projection(projection, keys)? else { return Ok(None) };
            let Some(input) = cut(&projection.input, &keys, rows)? else { return Ok(None) };
            let projection = Projection::try_new_with_schema(
                projection.expr.clone(),
                Arc::new(input),
                Arc::clone(&projection.schema),
            )?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::Join(join) => {
            let Some(kept) = kept_side(join, keys) else { return Ok(None) };
            let Some(input) = cut(kept, keys, rows)? else { return Ok(None) };
            Ok(Some(LogicalPlan::Join(with_kept_side(join, input))))
        }
        _ => Ok(None),
    }
}

/// The side of an outer join of which all rows are kept, where the keys are columns of it.
pub(crate) fn kept_side<'a>(join: &'a Join, keys: &[SortExpr]) -> Option<&'a LogicalPlan> {
    let kept = match join.join_type {
        JoinType::Left => &join.left,
        JoinType::Right => &join.right,
        _ => return None,
    };
    let mut columns = keys.iter().flat_map(|key| key.expr.column_refs());
    columns.all(|column| kept.schema().has_column(column)).then_some(kept.as_ref())
}

/// The outer join with another input in the place of its [`kept_side`].
pub(crate) fn with_kept_side(join: &Join, input: LogicalPlan) -> Join {
    let mut join = join.clone();
    match join.join_type {
        JoinType::Right => join.right = Arc::new(input),
        _ => join.left = Arc::new(input),
    }
    join
}

fn cut_scan(scan: &TableScan, keys: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(table) = provider.downcast_ref::<RemoteTable>() else { return Ok(None) };
    let keys: Option<Vec<SortKey>> = keys.iter().map(|key| sort_key(key, table)).collect();
    let Some(table) = keys.and_then(|keys| table.cut(keys, rows as u64)) else { return Ok(None) };
    Ok(Some(LogicalPlan::TableScan(TableScan { source: provider_as_source(Arc::new(table)), ..scan.clone() })))
}

fn sort_key(key: &SortExpr, table: &RemoteTable) -> Option<SortKey> {
    let Expr::Column(column) = &key.expr else { return None };
    let column = table.column_index(&column.name)?;
    Some(SortKey { column, descending: !key.asc, nulls_first: key.nulls_first })
}

/// The keys in the names of the projection's input; `None` where one is computed.
pub(crate) fn below_projection(projection: &Projection, keys: &[SortExpr]) -> Result<Option<Vec<SortExpr>>> {
    let mut below = Vec::with_capacity(keys.len());
    for key in keys {
        let Expr::Column(column) = &key.expr else { return Ok(None) };
        let index = projection.schema.index_of_column(column)?;
        let source = projection.expr[index].clone().unalias_nested().data;
        if !matches!(source, Expr::Column(_)) {
            return Ok(None);
        }
        below.push(SortExpr { expr: source, ..key.clone() });
    }
    Ok(Some(below))
}

/// The keys in the names of the alias's input: by position, since an alias renames the relation only.
pub(crate) fn below_alias(alias: &SubqueryAlias, keys: &[SortExpr]) -> Result<Option<Vec<SortExpr>>> {
    let mut below = Vec::with_capacity(keys.len());
    for key in keys {
        let Expr::Column(column) = &key.expr else { return Ok(None) };
        let index = alias.schema.index_of_column(column)?;
        let expr = Expr::Column(alias.input.schema().columns()[index].clone());
        below.push(SortExpr { expr, ..key.clone() });
    }
    Ok(Some(below))
}
