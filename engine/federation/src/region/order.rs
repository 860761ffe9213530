//! The order of inner joins: tables of one source side by side, and small inputs first.
//!
//! DataFusion joins in the order of the text. Where tables of several sources stand mixed, that order decides how much is shipped: tables of
//! one source can only become one statement where they are joined with each other first, and the keys of a join's other side can
//! only be sent to a source where that side is read before. So a tree of inner joins is taken apart into its inputs and
//! conditions; inputs of one source that a condition connects form a cluster; and clusters are joined one after the other, the smallest
//! first, then whichever makes the fewest rows.
//!
//! Rows are estimated from the sources' own counts, keys and documented guesses: see [`estimate`](super::estimate). An estimate that is
//! wrong costs time and never a row.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Join, JoinConstraint, LogicalPlan, Operator, Projection, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::estimate::{Estimate, estimate, source_of};

/// The optimizer rule. It runs after filters were pushed down and before columns are pruned.
#[derive(Debug, Default)]
pub struct JoinOrder;

impl OptimizerRule for JoinOrder {
    fn name(&self) -> &str {
        "headwater_join_order"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        reorder(plan)
    }
}

/// The inputs of a tree of inner joins, and the conditions between them.
#[derive(Debug, Default)]
struct Tree {
    inputs: Vec<LogicalPlan>,
    conditions: Vec<Expr>,
}

/// Inputs joined so far.
#[derive(Debug, Clone)]
struct Part {
    plan: LogicalPlan,
    inputs: BTreeSet<usize>,
    rows: f64,
}

/// A condition and the inputs that it reads.
#[derive(Debug, Clone)]
struct Condition {
    expr: Expr,
    inputs: BTreeSet<usize>,
}

/// The fewest inputs that have more than one order.
const INPUTS_MIN: usize = 3;

fn reorder(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    use datafusion::common::tree_node::TreeNode;
    if !is_inner(&plan) {
        return plan.map_children(reorder);
    }
    let schema = Arc::clone(plan.schema());
    let mut tree = Tree::default();
    tree.take_apart(plan.clone());
    if tree.inputs.len() < INPUTS_MIN || tree.inputs.iter().any(hides_join) {
        return plan.map_children(reorder);
    }
    let inputs = std::mem::take(&mut tree.inputs);
    tree.inputs = inputs.into_iter().map(|input| Ok(reorder(input)?.data)).collect::<Result<_>>()?;
    let joined = tree.joined()?;
    if joined.schema() == &schema {
        return Ok(Transformed::yes(joined));
    }
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?)))
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner
        && join.null_equality == NullEquality::NullEqualsNothing && !join.null_aware)
}

/// Whether the input is a join behind a projection: one whose order was chosen before.
fn hides_join(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_inner(&projection.input) || hides_join(&projection.input),
        _ => false,
    }
}

impl Tree {
    fn take_apart(&mut self, plan: LogicalPlan) {
        match plan {
            LogicalPlan::Join(join) if is_inner(&LogicalPlan::Join(join.clone())) => {
                let on = join.on.into_iter().map(|(left, right)| binary_expr(left, Operator::Eq, right));
                self.conditions.extend(on);
                self.conditions.extend(join.filter.into_iter().flat_map(split_conjunction_owned));
                self.take_apart(Arc::unwrap_or_clone(join.left));
                self.take_apart(Arc::unwrap_or_clone(join.right));
            }
            input => self.inputs.push(input),
        }
    }

    fn joined(self) -> Result<LogicalPlan> {
        let estimates: Vec<Estimate> = self.inputs.iter().map(estimate).collect();
        let mut conditions: Vec<Condition> = self.conditions.iter().map(|expr| self.condition(expr)).collect();
        let clusters = self.clusters(&conditions);
        let single = |index: usize| Part {
            plan: self.inputs[index].clone(),
            inputs: BTreeSet::from([index]),
            rows: estimates[index].rows,
        };
        let mut parts = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            parts.push(in_order(cluster.into_iter().map(single).collect(), &mut conditions, &estimates)?);
        }
        let whole = in_order(parts, &mut conditions, &estimates)?;
        // What reads no input at all, or was not placed for any other reason, is a filter.
        match conjunction(conditions.into_iter().map(|condition| condition.expr)) {
            None => Ok(whole.plan),
            Some(rest) => {
                let filter = datafusion::logical_expr::Filter::try_new(rest, Arc::new(whole.plan))?;
                Ok(LogicalPlan::Filter(filter))
            }
        }
    }

    fn condition(&self, expr: &Expr) -> Condition {
        let reads = |column: &&Column| self.inputs.iter().position(|input| input.schema().has_column(column));
        let inputs = expr.column_refs().iter().filter_map(reads).collect();
        Condition { expr: expr.clone(), inputs }
    }

    /// The inputs, those of one source together that an equality connects.
    fn clusters(&self, conditions: &[Condition]) -> Vec<Vec<usize>> {
        let sources: Vec<Option<String>> = self.inputs.iter().map(source_of).collect();
        let mut cluster_of: Vec<usize> = (0..self.inputs.len()).collect();
        for condition in conditions.iter().filter(|condition| is_equality(&condition.expr)) {
            let mut inputs = condition.inputs.iter().copied();
            let (Some(a), Some(b), None) = (inputs.next(), inputs.next(), inputs.next()) else { continue };
            if sources[a].is_some() && sources[a] == sources[b] {
                let (kept, gone) = (cluster_of[a], cluster_of[b]);
                cluster_of.iter_mut().filter(|cluster| **cluster == gone).for_each(|cluster| *cluster = kept);
            }
        }
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        let mut names: Vec<usize> = Vec::new();
        for (input, cluster) in cluster_of.iter().enumerate() {
            match names.iter().position(|name| name == cluster) {
                Some(place) => clusters[place].push(input),
                None => {
                    names.push(*cluster);
                    clusters.push(vec![input]);
                }
            }
        }
        clusters
    }
}

/// The parts joined one after the other. Takes the conditions that it places.
fn in_order(mut parts: Vec<Part>, conditions: &mut Vec<Condition>, estimates: &[Estimate]) -> Result<Part> {
    let least = |parts: &[Part], rows: &dyn Fn(&Part) -> f64| {
        (0..parts.len()).min_by(|a, b| rows(&parts[*a]).total_cmp(&rows(&parts[*b]))).unwrap_or(0)
    };
    let first = least(&parts, &|part| part.rows);
    let mut done = parts.remove(first);
    while !parts.is_empty() {
        let connected = |part: &Part| {
            conditions.iter().any(|condition| {
                is_equality(&condition.expr)
                    && !condition.inputs.is_disjoint(&part.inputs)
                    && !condition.inputs.is_disjoint(&done.inputs)
                    && condition.inputs.iter().all(|input| part.inputs.contains(input) || done.inputs.contains(input))
            })
        };
        let rows = |part: &Part| match connected(part) {
            true => joined_rows(&done, part, conditions, estimates),
            // Rows of a cross product come last.
            false => f64::MAX / 2.0 + part.rows,
        };
        let next = least(&parts, &rows);
        let next_rows = rows(&parts[next]).min(done.rows * parts[next].rows);
        let next = parts.remove(next);
        done = join(done, next, next_rows, conditions)?;
    }
    Ok(done)
}

/// How many rows the join of two parts is guessed to have.
fn joined_rows(left: &Part, right: &Part, conditions: &[Condition], estimates: &[Estimate]) -> f64 {
    let mut rows = left.rows * right.rows;
    for condition in conditions {
        let Expr::BinaryExpr(equality) = &condition.expr else { continue };
        let crosses = !condition.inputs.is_disjoint(&left.inputs)
            && !condition.inputs.is_disjoint(&right.inputs)
            && condition.inputs.iter().all(|input| left.inputs.contains(input) || right.inputs.contains(input));
        if equality.op == Operator::Eq && crosses {
            let distinct = |side: &Expr| {
                let columns = side.column_refs();
                let of = |estimate: &Estimate| columns.iter().find_map(|column| estimate.distinct(column));
                condition.inputs.iter().find_map(|input| of(&estimates[*input])).unwrap_or(1.0)
            };
            rows /= distinct(&equality.left).max(distinct(&equality.right)).max(1.0);
        }
    }
    rows.max(1.0)
}

fn join(left: Part, right: Part, rows: f64, conditions: &mut Vec<Condition>) -> Result<Part> {
    let inputs: BTreeSet<usize> = left.inputs.union(&right.inputs).copied().collect();
    let (placed, rest): (Vec<Condition>, Vec<Condition>) = std::mem::take(conditions)
        .into_iter()
        .partition(|condition| !condition.inputs.is_empty() && condition.inputs.is_subset(&inputs));
    *conditions = rest;
    let (mut on, mut filters) = (Vec::new(), Vec::new());
    for Condition { expr, .. } in placed {
        match sides(&expr, &left.plan, &right.plan) {
            Some(pair) => on.push(pair),
            None => filters.push(expr),
        }
    }
    let join = Join::try_new(
        Arc::new(left.plan),
        Arc::new(right.plan),
        on,
        conjunction(filters),
        JoinType::Inner,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    Ok(Part { plan: LogicalPlan::Join(join), inputs, rows })
}

/// An equality of an expression of the left plan and one of the right.
fn sides(expr: &Expr, left: &LogicalPlan, right: &LogicalPlan) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(equality) = expr else { return None };
    if equality.op != Operator::Eq {
        return None;
    }
    let of = |expr: &Expr, plan: &LogicalPlan| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| plan.schema().has_column(column))
    };
    let (a, b) = (&*equality.left, &*equality.right);
    if of(a, left) && of(b, right) {
        return Some((a.clone(), b.clone()));
    }
    (of(b, left) && of(a, right)).then(|| (b.clone(), a.clone()))
}

fn is_equality(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(binary) if binary.op == Operator::Eq)
}
