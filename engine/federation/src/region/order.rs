//! The order of inner joins: tables of one source side by side, and small inputs first.
//!
//! DataFusion joins in the order of the text. Where tables of several sources stand mixed, that order decides how much is shipped: tables of
//! one source can only become one statement where they are joined with each other first, and the keys of a join's other side can
//! only be sent to a source where that side is read before. So a tree of inner joins is taken apart into its inputs and
//! conditions; inputs of one source that a condition connects form a cluster; and clusters are joined one after the other in the order
//! that costs least: rows that sources ship, less those that keys of what was read before keep out, and rows that joins hold and make.
//!
//! Rows are estimated from the sources' own counts, keys and documented guesses: see [`estimate`](super::estimate). An estimate that is
//! wrong costs time and never a row.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Join, JoinConstraint, LogicalPlan, Operator, Projection, binary_expr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::equals::{Equals, derived};
use super::estimate::{Estimate, estimate, ships, source_of};

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
        reorder_all(plan)
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
    /// Whether its rows come from a source or lie here.
    lies: Lies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    AtSource,
    Here,
}

impl Part {
    /// What one of its rows costs.
    fn shipping(&self) -> f64 {
        match self.lies {
            Lies::AtSource => 1.0,
            Lies::Here => cost::READ,
        }
    }
}

/// A condition and the inputs that it reads.
#[derive(Debug, Clone)]
struct Condition {
    expr: Expr,
    inputs: BTreeSet<usize>,
}

/// The conditions that no join holds yet, and what the others say is equal.
#[derive(Debug, Default)]
struct Unplaced {
    conditions: Vec<Condition>,
    equals: Equals,
}

/// The fewest inputs that have more than one order.
const INPUTS_MIN: usize = 3;

/// The plan and the subqueries of its expressions, which are plans of their own where they are not joined.
fn reorder_all(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    reorder(plan)?.transform_data(|plan| plan.transform_down(|node| node.map_subqueries(reorder_all)))
}

fn reorder(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Join(semi) if matches!(semi.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => sunk(semi)?,
        plan => plan,
    };
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

/// A semi or anti join beneath the inner joins of its left side, at the input that it tests: the fewer rows, the earlier.
fn sunk(semi: Join) -> Result<LogicalPlan> {
    if !is_inner(&semi.left) {
        return Ok(LogicalPlan::Join(semi));
    }
    let LogicalPlan::Join(mut inner) = Arc::unwrap_or_clone(Arc::clone(&semi.left)) else {
        return Ok(LogicalPlan::Join(semi));
    };
    let on = semi.on.iter().flat_map(|(left, right)| [left, right]);
    let read: Vec<&Column> = on.chain(&semi.filter).flat_map(|expr| expr.column_refs()).collect();
    let tests = |input: &LogicalPlan| {
        read.iter().all(|column| input.schema().has_column(column) || semi.right.schema().has_column(column))
    };
    let over = |input: &Arc<LogicalPlan>| {
        sunk(Join { left: Arc::clone(input), schema: Arc::clone(input.schema()), ..semi.clone() })
    };
    if tests(&inner.left) {
        inner.left = Arc::new(over(&inner.left)?);
    } else if tests(&inner.right) {
        inner.right = Arc::new(over(&inner.right)?);
    } else {
        return Ok(LogicalPlan::Join(semi));
    }
    Ok(LogicalPlan::Join(inner))
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
        let derived = derived(&self.conditions, &self.inputs);
        let conditions: Vec<Condition> =
            self.conditions.iter().chain(&derived).map(|expr| self.condition(expr)).collect();
        // Two tables that a third relates may have many pairs without it.
        let pays = |condition: &Condition| {
            let mut inputs = condition.inputs.iter().copied();
            let (Some(a), Some(b)) = (inputs.next(), inputs.next()) else { return true };
            let [one, other] = [a, b].map(|input| (estimates[input].rows, BTreeSet::from([input])));
            let (rows, _) = pairs(one.0, &one.1, other.0, &other.1, &conditions, &estimates);
            rows <= one.0.max(other.0)
        };
        let said = self.conditions.len();
        let connecting = conditions.iter().enumerate().filter(|(place, condition)| *place < said || pays(condition));
        let connecting: Vec<&Condition> = connecting.map(|(_, condition)| condition).collect();
        let clusters = self.clusters(&connecting);
        let mut unplaced = Unplaced { conditions, equals: Equals::default() };
        let single = |index: usize| Part {
            plan: self.inputs[index].clone(),
            inputs: BTreeSet::from([index]),
            rows: estimates[index].rows,
            lies: if ships(&self.inputs[index]) { Lies::AtSource } else { Lies::Here },
        };
        let mut parts = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            parts.push(in_order(cluster.into_iter().map(single).collect(), &mut unplaced, &estimates)?);
        }
        let whole = in_order(parts, &mut unplaced, &estimates)?;
        // What reads no input at all, or was not placed for any other reason, is a filter.
        match conjunction(unplaced.conditions.into_iter().map(|condition| condition.expr)) {
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
    fn clusters(&self, conditions: &[&Condition]) -> Vec<Vec<usize>> {
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
///
/// Of few parts every order is tried (Selinger et al., SIGMOD 1979, without bushy trees); of many, whichever makes the fewest rows is next.
fn in_order(parts: Vec<Part>, unplaced: &mut Unplaced, estimates: &[Estimate]) -> Result<Part> {
    let conditions = &unplaced.conditions;
    let order = match parts.len() {
        2..=PARTS_TRIED_MAX => cheapest_order(&parts, conditions, estimates),
        _ => greedy_order(&parts, conditions, estimates),
    };
    let mut parts: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
    let mut done: Option<Part> = None;
    for index in order {
        let Some(next) = parts[index].take() else { continue };
        done = Some(match done {
            None => next,
            Some(done) => {
                let rows = joined_rows(&done, &next, &unplaced.conditions, estimates).min(done.rows * next.rows);
                // The smaller side is read first: its keys narrow the other.
                let (first, second) = if next.rows < done.rows { (next, done) } else { (done, next) };
                join(first, second, rows, unplaced)?
            }
        });
    }
    match done {
        Some(done) => Ok(done),
        None => datafusion::common::internal_err!("a join of nothing"),
    }
}

/// The most parts of which every order is tried: 2^8 subsets.
const PARTS_TRIED_MAX: usize = 8;

/// What a row costs in its ways through a plan, relative to one that a source ships.
mod cost {
    /// One that is read from files here.
    pub(super) const READ: f64 = 0.1;
    /// One that a join keeps to look others up in.
    pub(super) const BUILT: f64 = 0.3;
    /// One that is looked up.
    pub(super) const PROBED: f64 = 0.1;
    /// One that a join makes.
    pub(super) const MADE: f64 = 0.1;
    /// Rows that have no condition with the others are joined last.
    pub(super) const CROSSED: f64 = 1e3;
}

/// The most keys that are believed to narrow a statement.
const KEYS_MAX: f64 = 60_000.0;

/// Parts joined so far, in an order that is the cheapest for this set of them.
#[derive(Debug, Clone)]
struct Ordered {
    order: Vec<usize>,
    inputs: BTreeSet<usize>,
    rows: f64,
    cost: f64,
}

fn cheapest_order(parts: &[Part], conditions: &[Condition], estimates: &[Estimate]) -> Vec<usize> {
    let mut best: Vec<Option<Ordered>> = vec![None; 1 << parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let cost = part.rows * part.shipping();
        best[1 << index] = Some(Ordered { order: vec![index], inputs: part.inputs.clone(), rows: part.rows, cost });
    }
    for set in 1..best.len() {
        let Some(done) = best[set].clone() else { continue };
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| set & (1 << index) == 0) {
            let next = extended(&done, index, part, conditions, estimates);
            let place = &mut best[set | (1 << index)];
            if place.as_ref().is_none_or(|known| next.cost < known.cost) {
                *place = Some(next);
            }
        }
    }
    best.pop().flatten().map(|whole| whole.order).unwrap_or_else(|| (0..parts.len()).collect())
}

/// The parts so far with one more.
fn extended(done: &Ordered, index: usize, part: &Part, conditions: &[Condition], estimates: &[Estimate]) -> Ordered {
    let (rows, share) = pairs(done.rows, &done.inputs, part.rows, &part.inputs, conditions, estimates);
    let crossed = if connects(&done.inputs, &part.inputs, conditions) { 1.0 } else { cost::CROSSED };
    let joined = if done.rows <= part.rows {
        // Read first, it tells its keys to the other.
        let kept = if done.rows <= KEYS_MAX { part.rows * share } else { part.rows };
        kept * part.shipping() + done.rows * cost::BUILT + kept * cost::PROBED
    } else {
        part.rows * (part.shipping() + cost::BUILT) + done.rows * cost::PROBED
    };
    let mut order = done.order.clone();
    order.push(index);
    let inputs = done.inputs.union(&part.inputs).copied().collect();
    let cost = done.cost + (joined + rows * cost::MADE) * crossed;
    Ordered { order, inputs, rows, cost }
}

/// The smallest first, then whichever makes the fewest rows.
fn greedy_order(parts: &[Part], conditions: &[Condition], estimates: &[Estimate]) -> Vec<usize> {
    let least = |left: &[usize], rows: &dyn Fn(&Part) -> f64| {
        let smaller = |a: &&usize, b: &&usize| rows(&parts[**a]).total_cmp(&rows(&parts[**b]));
        left.iter().min_by(smaller).copied()
    };
    let mut left: Vec<usize> = (0..parts.len()).collect();
    let mut order = Vec::with_capacity(parts.len());
    let (mut inputs, mut rows) = (BTreeSet::new(), 1.0);
    while let Some(next) = least(&left, &|part| match order.is_empty() || connects(&inputs, &part.inputs, conditions) {
        true => pairs(rows, &inputs, part.rows, &part.inputs, conditions, estimates).0,
        // Rows of a cross product come last.
        false => f64::MAX / 2.0 + part.rows,
    }) {
        rows = pairs(rows, &inputs, parts[next].rows, &parts[next].inputs, conditions, estimates).0;
        inputs.extend(&parts[next].inputs);
        left.retain(|index| *index != next);
        order.push(next);
    }
    order
}

/// Whether an equality connects the two sets of inputs.
fn connects(done: &BTreeSet<usize>, next: &BTreeSet<usize>, conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| is_equality(&condition.expr) && crosses(condition, done, next))
}

fn crosses(condition: &Condition, left: &BTreeSet<usize>, right: &BTreeSet<usize>) -> bool {
    !condition.inputs.is_disjoint(left)
        && !condition.inputs.is_disjoint(right)
        && condition.inputs.iter().all(|input| left.contains(input) || right.contains(input))
}

/// How many rows the join of two parts is guessed to have.
fn joined_rows(left: &Part, right: &Part, conditions: &[Condition], estimates: &[Estimate]) -> f64 {
    pairs(left.rows, &left.inputs, right.rows, &right.inputs, conditions, estimates).0
}

/// How many pairs of rows meet all conditions between two sets of inputs, and which share of the second's rows the first's keys leave.
fn pairs(
    rows: f64,
    inputs: &BTreeSet<usize>,
    next_rows: f64,
    next_inputs: &BTreeSet<usize>,
    conditions: &[Condition],
    estimates: &[Estimate],
) -> (f64, f64) {
    let (mut pairs, mut share) = (rows * next_rows, 1.0_f64);
    let mut counted = Equals::default();
    for condition in conditions.iter().filter(|condition| crosses(condition, inputs, next_inputs)) {
        let Expr::BinaryExpr(equality) = &condition.expr else { continue };
        if equality.op != Operator::Eq {
            continue;
        }
        // Of equalities that follow from each other, one narrows.
        if !counted.adds(&condition.expr) {
            continue;
        }
        let (mut of_done, mut of_next) = (1.0_f64, 1.0_f64);
        for side in [&equality.left, &equality.right] {
            let columns = side.column_refs();
            for input in &condition.inputs {
                let Some(distinct) = columns.iter().find_map(|column| estimates[*input].distinct(column)) else {
                    continue;
                };
                let of = if next_inputs.contains(input) { &mut of_next } else { &mut of_done };
                *of = of.max(distinct);
            }
        }
        // No more keys come than there are rows.
        let keys = of_done.min(rows.max(1.0));
        pairs /= of_done.max(of_next).max(1.0);
        share = share.min(keys / of_next.max(1.0));
    }
    (pairs.max(1.0), share.min(1.0))
}

fn join(left: Part, right: Part, rows: f64, unplaced: &mut Unplaced) -> Result<Part> {
    let inputs: BTreeSet<usize> = left.inputs.union(&right.inputs).copied().collect();
    let lies = if left.lies == right.lies { left.lies } else { Lies::AtSource };
    let (placed, rest): (Vec<Condition>, Vec<Condition>) = std::mem::take(&mut unplaced.conditions)
        .into_iter()
        .partition(|condition| !condition.inputs.is_empty() && condition.inputs.is_subset(&inputs));
    unplaced.conditions = rest;
    let (mut on, mut filters) = (Vec::new(), Vec::new());
    for Condition { expr, .. } in placed.into_iter().filter(|condition| unplaced.equals.adds(&condition.expr)) {
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
    Ok(Part { plan: LogicalPlan::Join(join), inputs, rows, lies })
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
