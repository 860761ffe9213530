//! A top-N above joins, done at the source of one side once the keys of the others are known.
//!
//! `SELECT ... FROM crm.customers c JOIN shop.orders o ON o.customer = c.id ORDER BY o.placed_on DESC LIMIT 10` orders by columns of one
//! side. Of the orders that have a customer, only the first ten of that order can be in the answer: each of them makes at least
//! one row. Which orders have one is known as soon as all customers' keys are. So the scan is told to cut its rows where every join between it and
//! the sort gives it a complete list of keys; [`Planned`](crate::narrow::Planned) sees at run time whether they do.
//!
//! It holds for inner and semi joins by one equality and nothing else, and for the side of an outer join that keeps all of its rows, which waits for no keys of that join.
//! The local sort stays above.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias, TableScan};
use headwater_source::SortKey;

use super::remote::RemoteQuery;
use crate::RemoteTable;
use crate::narrow::KeyedCut;
use crate::table::First;
use crate::top_n::{below_alias, below_projection, kept_side, with_kept_side};

/// The plan with such scans told so.
pub(super) fn cut_when_keyed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Sort(Sort { expr, input, fetch: Some(rows) }) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let Some(input) = cut(input, expr, *rows, 0)? else { return Ok(Transformed::no(plan)) };
        let (expr, fetch) = (expr.clone(), Some(*rows));
        Ok(Transformed::yes(LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch })))
    })?;
    Ok(rewritten.data)
}

/// The plan with the scan that the keys are of told so; `None` where there is none.
fn cut(plan: &LogicalPlan, keys: &[SortExpr], rows: usize, joins: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::TableScan(scan) if joins > 0 => cut_scan(scan, keys, rows, joins),
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(keys) = below_alias(alias, keys)? else { return Ok(None) };
            let Some(input) = cut(&alias.input, &keys, rows, joins)? else { return Ok(None) };
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).map(LogicalPlan::SubqueryAlias).map(Some)
        }
        LogicalPlan::Projection(projection) => {
            let Some(keys) = below_projection(projection, keys)? else { return Ok(None) };
            let Some(input) = cut(&projection.input, &keys, rows, joins)? else { return Ok(None) };
            let schema = Arc::clone(&projection.schema);
            let projection = Projection::try_new_with_schema(projection.expr.clone(), Arc::new(input), schema)?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::Join(join) => cut_join(join, keys, rows, joins),
        _ => Ok(None),
    }
}

fn cut_join(join: &Join, keys: &[SortExpr], rows: usize, joins: usize) -> Result<Option<LogicalPlan>> {
    if let Some(kept) = kept_side(join, keys) {
        let input = cut(kept, keys, rows, joins)?;
        return Ok(input.map(|input| LogicalPlan::Join(with_kept_side(join, input))));
    }
    let plain = join.on.len() == 1
        && join.filter.is_none()
        && join.null_equality == NullEquality::NullEqualsNothing
        && !join.null_aware;
    if !plain {
        return Ok(None);
    }
    let of = |side: &LogicalPlan| {
        let columns = keys.iter().flat_map(|key| key.expr.column_refs());
        columns.into_iter().all(|column| side.schema().has_column(column))
    };
    let (left, right) = match join.join_type {
        JoinType::Inner => (of(&join.left), of(&join.right)),
        JoinType::LeftSemi => (true, false),
        JoinType::RightSemi => (false, true),
        _ => (false, false),
    };
    let mut join = join.clone();
    match (left, right) {
        (true, false) => match cut(&join.left, keys, rows, joins + 1)? {
            Some(input) => join.left = Arc::new(input),
            None => return Ok(None),
        },
        (false, true) => match cut(&join.right, keys, rows, joins + 1)? {
            Some(input) => join.right = Arc::new(input),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }
    Ok(Some(LogicalPlan::Join(join)))
}

fn cut_scan(scan: &TableScan, keys: &[SortExpr], rows: usize, joins: usize) -> Result<Option<LogicalPlan>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let schema = provider.schema();
    let key = |key: &SortExpr| {
        let Expr::Column(column) = &key.expr else { return None };
        let column = schema.index_of(&column.name).ok()?;
        Some(SortKey { column, descending: !key.asc, nulls_first: key.nulls_first })
    };
    let Some(keys) = keys.iter().map(key).collect::<Option<Vec<SortKey>>>() else { return Ok(None) };
    let cut = KeyedCut { first: First { keys, rows: rows as u64 }, joins };
    let source = if let Some(table) = provider.downcast_ref::<RemoteTable>() {
        table.cut_when_keyed(cut).map(|table| provider_as_source(Arc::new(table)))
    } else if let Some(query) = provider.downcast_ref::<RemoteQuery>() {
        query.cut_when_keyed(cut).map(|query| provider_as_source(Arc::new(query)))
    } else {
        None
    };
    Ok(source.map(|source| LogicalPlan::TableScan(TableScan { source, ..scan.clone() })))
}
