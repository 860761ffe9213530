//! First rows of an order over the rows of several sources.
//!
//! The first ten rows of `UNION ALL` are among the first ten of each of its inputs: each source orders its own rows and ships as many as are asked for.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias, Union};

use super::estimate::{estimate, source_of};
use super::grow::holds_subquery;
use super::tried::keys_over;
use crate::top_n::cut as cut_scan;

/// The plan with an order and a cut for each input of a union that is ordered and cut.
pub(super) fn cut_inputs(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Sort(Sort { expr, input, fetch: Some(rows) }) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let Some(input) = cut(input, expr, *rows)? else { return Ok(Transformed::no(plan)) };
        let sort = Sort { expr: expr.clone(), input: Arc::new(input), fetch: Some(*rows) };
        Ok(Transformed::yes(LogicalPlan::Sort(sort)))
    })?;
    Ok(rewritten.data)
}

/// The plan with its inputs cut; `None` where it is no union, or no source would ship less.
fn cut(plan: &LogicalPlan, keys: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    if keys.iter().any(|key| key.expr.is_volatile() || holds_subquery(&key.expr)) {
        return Ok(None);
    }
    match plan {
        LogicalPlan::Projection(projection) => {
            let exprs: Vec<Expr> = projection.expr.iter().map(|expr| expr.clone().unalias_nested().data).collect();
            let Some(input) = cut(&projection.input, &keys_over(keys, &projection.schema, &exprs)?, rows)? else {
                return Ok(None);
            };
            let (exprs, schema) = (projection.expr.clone(), Arc::clone(&projection.schema));
            let projection = Projection::try_new_with_schema(exprs, Arc::new(input), schema)?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let columns: Vec<Expr> = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
            let Some(input) = cut(&alias.input, &keys_over(keys, &alias.schema, &columns)?, rows)? else {
                return Ok(None);
            };
            SubqueryAlias::try_new(Arc::new(input), alias.alias.clone()).map(LogicalPlan::SubqueryAlias).map(Some)
        }
        // One source orders and cuts all of it.
        LogicalPlan::Union(_) if source_of(plan).is_some() => Ok(None),
        LogicalPlan::Union(union) => {
            let mut ships_less = false;
            let mut inputs = Vec::with_capacity(union.inputs.len());
            for input in &union.inputs {
                let cut = cut_input(input, union, keys, rows)?;
                ships_less |= cut.is_some();
                inputs.push(cut.map_or_else(|| Arc::clone(input), Arc::new));
            }
            let union = Union { inputs, schema: Arc::clone(&union.schema) };
            Ok(ships_less.then_some(LogicalPlan::Union(union)))
        }
        _ => Ok(None),
    }
}

/// The first rows of an input, where it is of one source that has more.
fn cut_input(input: &LogicalPlan, union: &Union, keys: &[SortExpr], rows: usize) -> Result<Option<LogicalPlan>> {
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut expr = keys_over(keys, &union.schema, &columns)?;
    // What is the same in all rows orders none of them.
    expr.retain(|key| !is_constant(&key.expr, input));
    if expr.is_empty() || source_of(input).is_none() || estimate(input).rows <= rows as f64 {
        return Ok(None);
    }
    let input = cut_scan(input, &expr, rows)?.unwrap_or_else(|| input.clone());
    Ok(Some(LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: Some(rows) })))
}

/// Whether an expression over a plan is a constant that the plan makes.
fn is_constant(expr: &Expr, plan: &LogicalPlan) -> bool {
    match (expr, plan) {
        (Expr::Literal(..), _) => true,
        (Expr::Column(column), LogicalPlan::Projection(projection)) => {
            let place = projection.schema.maybe_index_of_column(column);
            place.is_some_and(|place| {
                is_constant(&projection.expr[place].clone().unalias_nested().data, &projection.input)
            })
        }
        (Expr::Column(column), LogicalPlan::SubqueryAlias(alias)) => {
            let place = alias.schema.maybe_index_of_column(column);
            place.is_some_and(|place| {
                is_constant(&Expr::Column(alias.input.schema().columns()[place].clone()), &alias.input)
            })
        }
        _ => false,
    }
}
