//! Sub-plans that a query needs more than once, computed once.
//!
//! `WITH spent AS (SELECT c.region, sum(o.total) AS total FROM crm.customers c JOIN shop.orders o ON o.customer = c.id GROUP BY c.region) SELECT * FROM spent WHERE total > (SELECT avg(total)
//! FROM spent)` is planned with the join twice. Where two sub-plans differ in nothing but which of their columns are read, one with the columns of both takes their place: whoever comes first
//! computes it, and the rows are kept for the others ([`SharedExec`](super::shared_exec::SharedExec)).
//!
//! What one source answers whole is left to the statements, of which equal ones are sent once ([`crate::once`]). And a sub-plan is shared only where somebody reads all of it anyway: where each of
//! several joins would ask for the rows of a few keys, they ask for these.
//!
//! Groups and the like are shared before aggregates are moved beneath joins: so one partial aggregate serves for all that is computed of the groups. Joins are shared afterwards: each of two aggregates
//! over one join may ship less for itself than the join does once.

use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Extension, JoinType, LogicalPlan, Projection, TableScan, TableScanBuilder,
    UserDefinedLogicalNodeCore,
};

use super::estimate::{estimate, source_of};
use super::grow::{Grower, holds_subquery};
use super::grown::Grown;
use super::shared_exec::SharedRows;
use crate::once::ROWS_MAX;
use crate::{Pushdown, RemoteTable};

/// How many times as many rows one side of a join must have as the other before it is taken to be read by keys.
const READ_BY_KEYS: f64 = 2.0;

/// The logical operator: its input's rows, which several operators of the plan read.
#[derive(Debug, Clone)]
pub(super) struct SharedNode {
    input: LogicalPlan,
    pub(super) rows: Arc<SharedRows>,
}

impl SharedNode {
    /// What is computed, and the rows of it, where a plan is such an operator.
    pub(super) fn beneath(plan: &LogicalPlan) -> Option<(&LogicalPlan, &Arc<SharedRows>)> {
        match plan {
            LogicalPlan::Extension(extension) => {
                extension.node.as_any().downcast_ref::<Self>().map(|node| (&node.input, &node.rows))
            }
            _ => None,
        }
    }
}

/// A sub-plan where it stands in the plan.
struct Place {
    plan: LogicalPlan,
    /// Whether all of its rows are read, as far as can be told.
    read_whole: bool,
    /// How many operators were entered before it.
    entered: usize,
    /// Where the places begin that are not beneath it.
    end: usize,
}

/// What takes the place of sub-plans.
struct Shared {
    /// What they are, with the columns of all.
    all: LogicalPlan,
    node: LogicalPlan,
}

/// Which sub-plans are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Those of which nothing that is above could be moved into them, as groups.
    Finished,
    All,
}

/// Which columns two sub-plans must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    /// Whichever each of them reads: others change no row.
    Any,
    /// The same ones: they decide which rows there are.
    Same,
}

/// The plan with what it needs more than once computed once. `partial` are the schemas of its aggregates that are only partial.
pub(super) fn share(plan: LogicalPlan, sharing: Sharing, partial: &[DFSchemaRef]) -> Result<LogicalPlan> {
    if source_of(&plan).is_some() || !reads_again(&plan)? {
        return Ok(plan);
    }
    let likeness = Likeness { partial };
    let mut places = sharing.places(&plan)?;
    let mut found = Vec::new();
    let mut taken = vec![false; places.len()];
    let mut index = 0;
    while index < places.len() {
        let is_alike = |other: &usize| !taken[*other] && likeness.alike(&places[index].plan, &places[*other].plan);
        let alike: Vec<usize> = (index..places.len()).filter(is_alike).collect();
        if !taken[index] && alike.len() > 1 {
            match likeness.computed_once(&places, &alike)? {
                Some((all, members)) => {
                    members.into_iter().for_each(|index| taken[index..places[index].end].fill(true));
                    // What is beneath them is there once, with the columns of all.
                    let offset = places.len();
                    for input in all.inputs() {
                        let beneath = sharing.places(input)?.into_iter();
                        places.extend(beneath.map(|place| Place { end: place.end + offset, ..place }));
                    }
                    taken.resize(places.len(), false);
                    found.push(all);
                }
                // Nor does it for the others; for what is beneath them it may.
                None => alike.into_iter().for_each(|index| taken[index] = true),
            }
        }
        index += 1;
    }
    // One may be needed beneath a larger one.
    found.sort_by_key(operators);
    let mut shared = Vec::with_capacity(found.len());
    for all in found {
        let input = likeness.exchanged(all.clone(), &shared)?.data;
        let node = LogicalPlan::Extension(Extension { node: Arc::new(SharedNode { input, rows: Arc::default() }) });
        shared.push(Shared { all, node });
    }
    if shared.is_empty() { Ok(plan) } else { Ok(likeness.exchanged(plan, &shared)?.data) }
}

/// How many operators it is made of.
fn operators(plan: &LogicalPlan) -> usize {
    plan.inputs().into_iter().map(operators).sum::<usize>() + 1
}

/// Whether it reads a table twice.
fn reads_again(plan: &LogicalPlan) -> Result<bool> {
    let (mut seen, mut again) = (Vec::new(), false);
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let provider = source_as_provider(&scan.source)?;
            if let Some(table) = provider.downcast_ref::<RemoteTable>() {
                let table = Arc::as_ptr(table.definition());
                again |= seen.contains(&table);
                seen.push(table);
            }
        }
        Ok(if again { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(again)
}

/// Whether sub-plans beneath it are looked at: what another operator hands its inputs to may read them again, or never.
fn is_open(plan: &LogicalPlan) -> bool {
    !matches!(plan, LogicalPlan::Extension(_) | LogicalPlan::RecursiveQuery(_))
}

/// What a sub-plan is, for whether it may be shared.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// Whether it is more than a scan.
    is_work: bool,
    /// Whether it is made of operators that [`Likeness`] knows, and says the same whenever it is asked in a query.
    is_the_same_twice: bool,
    /// Whether its rows come in an order, which those of a plan that is shared do not.
    is_ordered: bool,
    /// Whether nothing that is above it could be moved into it.
    is_finished: bool,
}

impl Sharing {
    /// Every sub-plan that may be shared, each before those beneath it.
    fn places(self, plan: &LogicalPlan) -> Result<Vec<Place>> {
        let mut finder = Finder { sharing: self, places: vec![], entered: 0 };
        finder.find(plan, Read::default())?;
        let Finder { mut places, .. } = finder;
        places.sort_by_key(|place| place.entered);
        // Those of one sub-plan are one after the other now.
        let ends: Vec<usize> = places.iter().map(|place| places.partition_point(|at| at.entered < place.end)).collect();
        places.iter_mut().zip(ends).for_each(|(place, end)| place.end = end);
        Ok(places)
    }
}

/// How the rows of a sub-plan are read, as far as can be told.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    /// Only those of a few keys.
    by_keys: bool,
    /// Only the first ones.
    cut: bool,
}

struct Finder {
    sharing: Sharing,
    places: Vec<Place>,
    /// How many operators were entered.
    entered: usize,
}

impl Finder {
    fn find(&mut self, plan: &LogicalPlan, read: Read) -> Result<Facts> {
        const OTHER: Facts = Facts { is_work: false, is_the_same_twice: false, is_ordered: false, is_finished: false };
        if !is_open(plan) {
            return Ok(OTHER);
        }
        let entered = self.entered;
        self.entered += 1;
        let inputs = match plan {
            LogicalPlan::Join(join) => {
                let (left, right) = (estimate(&join.left).rows, estimate(&join.right).rows);
                let by_keys = |ours: f64, other: f64, kept: bool| !kept && ours > other * READ_BY_KEYS;
                // The rows of the side that an outer join keeps are not read by keys.
                let keeps_all = join.join_type == JoinType::Full;
                let keeps_left = matches!(join.join_type, JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark);
                let keeps_right = matches!(join.join_type, JoinType::Right | JoinType::RightAnti | JoinType::RightMark);
                let left_by_keys = read.by_keys || by_keys(left, right, keeps_left || keeps_all);
                let right_by_keys = read.by_keys || by_keys(right, left, keeps_right || keeps_all);
                let left = self.find(&join.left, Read { by_keys: left_by_keys, ..read })?;
                vec![left, self.find(&join.right, Read { by_keys: right_by_keys, ..read })?]
            }
            // Of rows that are cut the source may send the first ones only.
            LogicalPlan::Limit(limit) => vec![self.find(&limit.input, Read { cut: true, ..read })?],
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => {
                vec![self.find(&sort.input, Read { cut: true, ..read })?]
            }
            LogicalPlan::Aggregate(aggregate) => vec![self.find(&aggregate.input, Read { cut: false, ..read })?],
            _ => plan.inputs().into_iter().map(|input| self.find(input, read)).collect::<Result<_>>()?,
        };
        plan.apply_subqueries(|subquery| {
            self.find(subquery, Read::default())?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        let facts = Facts::of(plan, &inputs)?;
        let takes = self.sharing == Sharing::All || facts.is_finished;
        if facts.is_work && facts.is_the_same_twice && !facts.is_ordered && takes {
            let read_whole = !read.by_keys && !read.cut;
            self.places.push(Place { plan: plan.clone(), read_whole, entered, end: self.entered });
        }
        Ok(facts)
    }
}

impl Facts {
    fn of(plan: &LogicalPlan, inputs: &[Self]) -> Result<Self> {
        let is_known = match plan {
            LogicalPlan::TableScan(scan) => is_of_table(scan),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(Distinct::All(_)) => true,
            _ => false,
        };
        let mut is_settled = true;
        plan.apply_expressions(|expr| {
            is_settled &= !expr.is_volatile() && !expr.contains_outer() && !holds_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let all = |fact: fn(&Self) -> bool| inputs.iter().all(fact);
        let makes = matches!(
            plan,
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) | LogicalPlan::Window(_) | LogicalPlan::Union(_)
        );
        let passes_on = matches!(
            plan,
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_)
        );
        let is_cut = match plan {
            LogicalPlan::Sort(sort) => sort.fetch.is_some(),
            LogicalPlan::Limit(_) => true,
            LogicalPlan::Union(_) => all(|input| input.is_finished),
            _ => makes,
        };
        Ok(Self {
            is_work: makes || matches!(plan, LogicalPlan::Join(_)) || inputs.iter().any(|input| input.is_work),
            is_the_same_twice: is_known && is_settled && all(|input| input.is_the_same_twice),
            is_ordered: matches!(plan, LogicalPlan::Sort(_)) || (passes_on && all(|input| input.is_ordered)),
            is_finished: is_cut || (passes_on && all(|input| input.is_finished)),
        })
    }
}

/// Whether a scan reads all of a service's table, but for its filters.
fn is_of_table(scan: &TableScan) -> bool {
    let provider = source_as_provider(&scan.source).ok();
    let table = provider.as_ref().and_then(|provider| provider.downcast_ref::<RemoteTable>());
    scan.fetch.is_none() && table.is_some_and(|table| table.is_uncut() && table.pushdown() == Pushdown::On)
}

/// Whether two scans are of one table.
fn are_of_one_table(a: &TableScan, b: &TableScan) -> bool {
    let (Ok(a), Ok(b)) = (source_as_provider(&a.source), source_as_provider(&b.source)) else { return false };
    match (a.downcast_ref::<RemoteTable>(), b.downcast_ref::<RemoteTable>()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a.definition(), b.definition()) && Arc::ptr_eq(a.service(), b.service()),
        _ => false,
    }
}

/// How sub-plans are compared.
struct Likeness<'a> {
    /// The schemas of aggregates that are only partial, which their source may make in parts.
    partial: &'a [DFSchemaRef],
}

impl Likeness<'_> {
    /// Whether two sub-plans have the same rows, but for columns.
    fn alike(&self, a: &LogicalPlan, b: &LogicalPlan) -> bool {
        self.have_the_same_rows(a, b, Columns::Any)
    }

    fn is_partial(&self, aggregate: &Aggregate) -> bool {
        self.partial.iter().any(|partial| Arc::ptr_eq(partial, &aggregate.schema))
    }

    fn have_the_same_rows(&self, a: &LogicalPlan, b: &LogicalPlan, columns: Columns) -> bool {
        let free = columns == Columns::Any;
        let (operators, columns) = match (a, b) {
            (LogicalPlan::TableScan(a), LogicalPlan::TableScan(b)) => {
                let one_name = a.table_name == b.table_name && a.filters == b.filters;
                (one_name && (free || a.projection == b.projection) && are_of_one_table(a, b), columns)
            }
            (LogicalPlan::Projection(a), LogicalPlan::Projection(b)) => (free || a.expr == b.expr, columns),
            (LogicalPlan::Filter(a), LogicalPlan::Filter(b)) => (a.predicate == b.predicate, columns),
            (LogicalPlan::SubqueryAlias(a), LogicalPlan::SubqueryAlias(b)) => (a.alias == b.alias, columns),
            (LogicalPlan::Window(a), LogicalPlan::Window(b)) => (a.window_expr == b.window_expr, columns),
            (LogicalPlan::Aggregate(a), LogicalPlan::Aggregate(b)) => {
                let calls = free || a.aggr_expr == b.aggr_expr;
                (a.group_expr == b.group_expr && calls && self.is_partial(a) == self.is_partial(b), columns)
            }
            (LogicalPlan::Join(a), LogicalPlan::Join(b)) => {
                let kind = a.join_type == b.join_type && a.null_equality == b.null_equality;
                (kind && a.null_aware == b.null_aware && a.on == b.on && a.filter == b.filter, columns)
            }
            (LogicalPlan::Sort(a), LogicalPlan::Sort(b)) => (a.expr == b.expr && a.fetch == b.fetch, columns),
            (LogicalPlan::Limit(a), LogicalPlan::Limit(b)) => (a.skip == b.skip && a.fetch == b.fetch, columns),
            (LogicalPlan::Distinct(Distinct::All(_)), LogicalPlan::Distinct(Distinct::All(_))) => (true, Columns::Same),
            (LogicalPlan::Union(a), LogicalPlan::Union(b)) => (a.inputs.len() == b.inputs.len(), Columns::Same),
            _ => (false, columns),
        };
        operators && a.inputs().into_iter().zip(b.inputs()).all(|(a, b)| self.have_the_same_rows(a, b, columns))
    }

    /// What takes the place of sub-plans that are alike, and of which of them; `None` where that does not pay.
    fn computed_once(&self, places: &[Place], alike: &[usize]) -> Result<Option<(LogicalPlan, Vec<usize>)>> {
        let [first, others @ ..] = alike else { return Ok(None) };
        let first_plan = &places[*first].plan;
        if others.is_empty() || estimate(first_plan).rows > ROWS_MAX {
            return Ok(None);
        }
        if matches!(Grower::default().grow(first_plan.clone())?, Grown::Region(_)) {
            return Ok(None);
        }
        let (mut all, mut members) = (first_plan.clone(), vec![*first]);
        for other in others {
            if let Some(both) = with_columns_of(&all, &places[*other].plan) {
                all = both;
                members.push(*other);
            }
        }
        let pays = members.len() > 1 && members.iter().any(|member| places[*member].read_whole);
        Ok(pays.then_some((all, members)))
    }

    /// The plan with what is shared in its places.
    fn exchanged(&self, plan: LogicalPlan, shared: &[Shared]) -> Result<Transformed<LogicalPlan>> {
        if !is_open(&plan) {
            return Ok(Transformed::no(plan));
        }
        let has_all_of = |shared: &&Shared| {
            self.alike(&shared.all, &plan) && with_columns_of(&shared.all, &plan).as_ref() == Some(&shared.all)
        };
        if let Some(shared) = shared.iter().find(has_all_of) {
            let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
            let schema = Arc::clone(plan.schema());
            let chosen = Projection::try_new_with_schema(columns, Arc::new(shared.node.clone()), schema)?;
            return Ok(Transformed::yes(LogicalPlan::Projection(chosen)));
        }
        let plan = plan.map_children(|input| self.exchanged(input, shared))?;
        plan.transform_data(|plan| plan.map_subqueries(|subquery| self.exchanged(subquery, shared)))
    }
}

/// The sub-plan with all columns of another that is alike; `None` where columns of theirs that are not the same have one name.
fn with_columns_of(plan: &LogicalPlan, other: &LogicalPlan) -> Option<LogicalPlan> {
    let both = merged(plan, other).ok().flatten()?;
    let has_columns_of = |plan: &LogicalPlan| {
        plan.schema().iter().all(|(table, field)| {
            let place = both.schema().index_of_column_by_name(table, field.name());
            place.is_some_and(|place| both.schema().field(place).as_ref() == field.as_ref())
        })
    };
    (has_columns_of(plan) && has_columns_of(other)).then_some(both)
}

/// The sub-plan with the columns of both; `None` where different ones have one name.
fn merged(a: &LogicalPlan, b: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    if let (LogicalPlan::TableScan(a), LogicalPlan::TableScan(b)) = (a, b) {
        return scan_of_both(a, b).map(|scan| Some(LogicalPlan::TableScan(scan)));
    }
    let mut inputs = Vec::new();
    for (a, b) in a.inputs().into_iter().zip(b.inputs()) {
        match merged(a, b)? {
            Some(input) => inputs.push(input),
            None => return Ok(None),
        }
    }
    let input = |mut inputs: Vec<LogicalPlan>| inputs.pop().map(Arc::new);
    match (a, b) {
        (LogicalPlan::Projection(a), LogicalPlan::Projection(b)) if a.expr != b.expr => {
            let (Some(exprs), Some(input)) = (of_both(&a.expr, &b.expr), input(inputs)) else { return Ok(None) };
            Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
        }
        (LogicalPlan::Aggregate(a), LogicalPlan::Aggregate(b)) if a.aggr_expr != b.aggr_expr => {
            let calls = of_both(&a.aggr_expr, &b.aggr_expr);
            let (Some(calls), Some(input)) = (calls, input(inputs)) else { return Ok(None) };
            Ok(Some(LogicalPlan::Aggregate(Aggregate::try_new(input, a.group_expr.clone(), calls)?)))
        }
        _ if a.inputs().into_iter().eq(&inputs) => Ok(Some(a.clone())),
        _ => a.with_new_exprs(a.expressions(), inputs).map(Some),
    }
}

fn scan_of_both(a: &TableScan, b: &TableScan) -> Result<TableScan> {
    let projection = match (&a.projection, &b.projection) {
        (Some(a), Some(b)) => {
            let others = b.iter().filter(|column| !a.contains(column));
            Some(a.iter().chain(others).copied().collect())
        }
        _ => None,
    };
    match projection == a.projection {
        true => Ok(a.clone()),
        false => TableScanBuilder::from(a.clone()).with_projection(projection).build(),
    }
}

/// The expressions of both, each once; `None` where two have one name.
fn of_both(a: &[Expr], b: &[Expr]) -> Option<Vec<Expr>> {
    let mut both = a.to_vec();
    for expr in b {
        if both.contains(expr) {
            continue;
        }
        if both.iter().any(|known| known.qualified_name() == expr.qualified_name()) {
            return None;
        }
        both.push(expr.clone());
    }
    Some(both)
}

impl UserDefinedLogicalNodeCore for SharedNode {
    fn name(&self) -> &str {
        "Shared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input, rows: Arc::clone(&self.rows) }),
            Err(inputs) => internal_err!("Shared has one input, found {}", inputs.len()),
        }
    }
}

// Two such operators are the same only where they read the same rows.
impl PartialEq for SharedNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows)
    }
}

impl Eq for SharedNode {}

impl PartialOrd for SharedNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl std::hash::Hash for SharedNode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.rows).hash(state);
    }
}
