//! Writes comparisons in the form in which DataFusion reads them right: with the constant on the right, and lists of constants alone.
//!
//! Where conditions meet above one scan, DataFusion drops those that others imply (`simplify_predicates` of datafusion-optimizer 55.2). It takes `1 = x` and `x = 1` for two
//! values, between which nothing is left, and passes `5 < x` over for `x >= 5`. Conditions of a `WHERE` are turned before they come there, those of
//! joins are not, nor those in which a column was a constant of a subquery: `a JOIN b ON a.id = b.id AND 1 = a.id WHERE a.id = 1` had no row. So they are turned at each step of
//! the way down.
//!
//! Of two lists for one value it keeps the elements that are in both, or in one and not in the other, as they are written. Two elements that read
//! columns may be written differently and be one value: `x IN (1, x) AND x NOT IN (x, 2)` was `x = 1`. So such elements are compared one by one.
//!
//! A condition that reads no column is tested beneath groups as well as above them, but for the group of all rows, which is there when none is left:
//! `SELECT * FROM (SELECT 1 AS one, max(x) AS m FROM t) AS v WHERE one > 1` had a row. It stays above. So does one that is another each time, as `random() < 0.5`: beneath groups,
//! windows and DISTINCT it would change what they are made of.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, Join, LogicalPlan};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's rule that pushes filters down, in whose place it stands.
#[derive(Debug, Default)]
pub struct PushFilters(PushDownFilter);

/// The optimizer rule for lists. It runs before expressions are simplified.
#[derive(Debug, Default)]
pub struct ListsOfConstants;

impl OptimizerRule for PushFilters {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let (held, plan) = held_back(merged(plan)?)?;
        let plan = with_turned(plan)?;
        let mut pushed = self.0.rewrite(plan.data, config)?;
        pushed.transformed |= plan.transformed;
        pushed.map_data(|plan| filtered(held, Arc::new(plan)))
    }
}

/// The plan with one filter in the place of several above each other.
fn merged(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Filter(filter) = &plan else { return Ok(plan) };
    if !matches!(filter.input.as_ref(), LogicalPlan::Filter(_)) {
        return Ok(plan);
    }
    let mut parts: Vec<Expr> = Vec::new();
    let mut input = &plan;
    while let LogicalPlan::Filter(filter) = input {
        let more = split_conjunction(&filter.predicate).into_iter().filter(|part| !parts.contains(part));
        let more: Vec<Expr> = more.cloned().collect();
        parts.extend(more);
        input = &filter.input;
    }
    filtered(parts, Arc::new(input.clone()))
}

fn filtered(parts: Vec<Expr>, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    Ok(match conjunction(parts) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, input)?),
        None => Arc::unwrap_or_clone(input),
    })
}

/// Of a filter, the conditions that must stay above what is right beneath it, and the plan without them.
fn held_back(plan: LogicalPlan) -> Result<(Vec<Expr>, LogicalPlan)> {
    let LogicalPlan::Filter(filter) = &plan else { return Ok((vec![], plan)) };
    let makes_all_rows = match filter.input.as_ref() {
        LogicalPlan::Aggregate(groups) => {
            groups.group_expr.is_empty() || groups.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)))
        }
        LogicalPlan::Window(_) | LogicalPlan::Distinct(_) => false,
        _ => return Ok((vec![], plan)),
    };
    let stays = |part: &Expr| part.is_volatile() || (makes_all_rows && part.column_refs().is_empty());
    let conditions = split_conjunction(&filter.predicate).into_iter().cloned();
    let (held, others): (Vec<Expr>, Vec<Expr>) = conditions.partition(stays);
    if held.is_empty() {
        return Ok((held, plan));
    }
    Ok((held, filtered(others, Arc::clone(&filter.input))?))
}

/// The plan, whose own conditions are turned.
fn with_turned(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Join(join) => {
            let Some(filter) = &join.filter else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
            let turned = turned(filter.clone())?;
            Ok(turned.update_data(|filter| LogicalPlan::Join(Join { filter: Some(filter), ..join })))
        }
        LogicalPlan::Filter(filter) => {
            let predicate = turned(filter.predicate)?;
            predicate.map_data(|predicate| Filter::try_new(predicate, filter.input).map(LogicalPlan::Filter))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn turned(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if left.as_literal().is_some() && right.as_literal().is_none() =>
            {
                match op.swap() {
                    Some(swapped) => {
                        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: right, op: swapped, right: left }))
                    }
                    None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                }
            }
            other => Transformed::no(other),
        })
    })
}

impl OptimizerRule for ListsOfConstants {
    fn name(&self) -> &str {
        "headwater_lists_of_constants"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let listed = expr.transform_up(|expr| {
                Ok(match expr {
                    Expr::InList(list)
                        if list.list.iter().any(|element| !is_constant(element)) && !list.expr.is_volatile() =>
                    {
                        Transformed::yes(one_by_one(list))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(listed.update_data(|expr| name.restore(expr)))
        })
    }
}

/// Whether the element is the same for all rows, and another text another value.
fn is_constant(element: &Expr) -> bool {
    let varies = |part: &Expr| {
        matches!(
            part,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Placeholder(_)
                | Expr::ScalarVariable(..)
        )
    };
    !element.exists(|part| Ok(varies(part))).unwrap_or(true)
}

/// The constants of a list as a list, and what reads columns as comparisons.
fn one_by_one(list: InList) -> Expr {
    let InList { expr, list, negated } = list;
    let (reading, constants): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(|element| !is_constant(element));
    let compared = reading.into_iter().map(|element| match negated {
        true => expr.as_ref().clone().not_eq(element),
        false => expr.as_ref().clone().eq(element),
    });
    let constants = (!constants.is_empty()).then(|| expr.as_ref().clone().in_list(constants, negated));
    let parts = constants.into_iter().chain(compared);
    // There is a part: something of the list is no constant.
    let all = if negated { conjunction(parts) } else { disjunction(parts) };
    all.unwrap_or(Expr::Literal(ScalarValue::Boolean(None), None))
}
