//! Queries over services' tables, answered from materialized views.
//!
//! A session that sets `headwater.max_staleness` says how old an answer may be, so a view that is as fresh as that may give it. From the root
//! of the plan down, each part is held against each view that reads nothing but tables of the query: same joins, filters that keep no more rows
//! than the view has, and columns, groups and aggregates that can be read out of it ([`fit`]). The first part that a view has is read there, from
//! the epoch that the query pins; the rest of the query is as it was. Where several views have a part, the one with the fewest rows is read.
//!
//! What can't be known to be the same is not used: sums of floating-point numbers by groups, averages of averages, views that move with the time.

mod block;
mod fit;
mod implied;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Analyze, Explain, Expr, LogicalPlan, LogicalPlanBuilder, Volatility};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::{ExecutionPlan, collect};
use headwater_federation::RemoteTable;
use headwater_rules::mended_optimizer_rules_of;
use headwater_views::Epoch;

use self::block::Block;
use self::fit::Fit;
use super::ask::ViewName;
use super::fresh::Demand;
use super::registry::Shared;
use super::table::ViewTable;
use crate::access::Sight;

/// A view as something that may answer queries.
#[derive(Debug)]
pub(crate) struct Shape {
    plan: LogicalPlan,
    pub(crate) table: Arc<ViewTable>,
    tables: BTreeSet<String>,
    /// The normal form in each reading, or why the view answers no query but one that names it. Computed when it is first needed.
    blocks: OnceLock<std::result::Result<[Block; 2], String>>,
}

/// Where filters stand in a plan that is brought to its normal form.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// At their tables, so that a part of a join has the filters that are its own.
    FiltersBelow,
    /// Where they were written: above outer joins, into whose sides they would also be moved as new ones.
    FiltersAsWritten,
}

/// What became of a view that might have answered: a line of EXPLAIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    view: ViewName,
    said: String,
}

/// A plan of which parts may be read from views.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) plan: LogicalPlan,
    /// The epoch that the views are to be read at, where any is read.
    pub(crate) epoch: Option<Arc<Epoch>>,
    pub(crate) notes: Vec<Note>,
}

struct Candidate {
    name: ViewName,
    shape: Arc<Shape>,
    rows: usize,
    /// Why it was not used, as far as is known by now; `true` where it reads what a part of the query reads.
    why: (bool, String),
}

impl Shape {
    /// Of a view's query, as it was planned.
    pub(crate) fn new(plan: LogicalPlan, table: Arc<ViewTable>) -> Result<Self> {
        let tables = block::tables(&plan)?.into_iter().collect();
        Ok(Self { plan, table, tables, blocks: OnceLock::new() })
    }

    fn block(&self, reading: Reading, state: &SessionState) -> std::result::Result<&Block, String> {
        let blocks = self.blocks.get_or_init(|| {
            if !is_stable(&self.plan).unwrap_or(false) {
                return Err("it moves with the time".to_owned());
            }
            // A view has no order, whatever its query says.
            let mut plan = &self.plan;
            while let LogicalPlan::Sort(sort) = plan
                && sort.fetch.is_none()
            {
                plan = &sort.input;
            }
            let block = |reading| Block::of(&normal(plan.clone(), reading, state)?);
            let blocks = block(Reading::FiltersBelow).and_then(|below| Ok([below, block(Reading::FiltersAsWritten)?]));
            blocks.map_err(|error| error.to_string())
        });
        let [below, as_written] = blocks.as_ref().map_err(Clone::clone)?;
        Ok(match reading {
            Reading::FiltersBelow => below,
            Reading::FiltersAsWritten => as_written,
        })
    }

    fn scan(&self) -> Result<LogicalPlan> {
        let name = &self.table.name;
        let reference = TableReference::partial(name.schema.as_str(), name.name.as_str());
        LogicalPlanBuilder::scan(reference, provider_as_source(Arc::clone(&self.table) as _), None)?.build()
    }
}

impl Shared {
    /// The plan with what views hold, as fresh as the session demands, read from them. `pinned` is the epoch of the views that it names. A view of which whoever
    /// asks may not read every input as it is answers nothing for them, and is not named.
    pub(crate) async fn answer_from_views(
        self: &Arc<Self>,
        plan: LogicalPlan,
        state: &SessionState,
        demand: &Demand,
        pinned: Option<Arc<Epoch>>,
        sight: Option<&Sight>,
    ) -> crate::Result<Answered> {
        let untouched = |plan, notes| Ok(Answered { plan, epoch: None, notes });
        let is_explained = matches!(plan, LogicalPlan::Explain(_));
        if !(demand.bounds_staleness() || is_explained) || self.definitions.read().is_empty() || !reads_services(&plan)?
        {
            return untouched(plan, vec![]);
        }
        let tables: BTreeSet<String> = block::tables(&plan)?.into_iter().collect();
        let mut candidates = self.candidates(&tables, sight);
        if candidates.is_empty() {
            return untouched(plan, vec![]);
        }
        if !demand.bounds_staleness() {
            let why = "headwater.max_staleness is not set, so the query reads the services";
            let notes =
                candidates.into_iter().map(|candidate| Note { view: candidate.name, said: format!("not read: {why}") });
            return untouched(plan, notes.collect());
        }
        let views: Vec<_> = candidates.iter().map(|found| (found.name.clone(), found.shape.table.view)).collect();
        let (epoch, stale) = self.fresh_now(&views, demand, pinned).await?;
        for (candidate, why) in candidates.iter_mut().zip(stale) {
            match (why, epoch.view(candidate.shape.table.view)) {
                (Some(why), _) => candidate.why = (true, why),
                (None, Some(shown)) => candidate.rows = shown.version.num_rows(),
                (None, None) => candidate.why = (true, "it is not loaded yet".to_owned()),
            }
        }
        candidates.sort_by_key(|candidate| candidate.rows);
        let (mut usable, mut refused): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|found| found.why.1.is_empty());
        let (covered, mut notes) = cover(&plan, state, &mut usable)?;
        refused.extend(usable.into_iter().filter(|found| notes.iter().all(|note| note.view != found.name)));
        notes.extend(
            refused.into_iter().map(|found| Note { said: format!("not read: {}", found.why.1), view: found.name }),
        );
        match covered {
            Some(plan) => Ok(Answered { plan, epoch: Some(epoch), notes }),
            None => untouched(plan, notes),
        }
    }

    /// The views that read none but these tables.
    fn candidates(&self, tables: &BTreeSet<String>, sight: Option<&Sight>) -> Vec<Candidate> {
        let definitions = self.definitions.read();
        let is_open =
            |view: &super::registry::Definition| sight.is_none_or(|sight| sight.reads_inputs(&view.shape.table));
        let fitting = definitions
            .iter()
            .filter(|(_, view)| !view.shape.tables.is_empty() && view.shape.tables.is_subset(tables) && is_open(view));
        let candidate = |(name, view): (&ViewName, &super::registry::Definition)| Candidate {
            name: name.clone(),
            shape: Arc::clone(&view.shape),
            rows: 0,
            why: (false, String::new()),
        };
        fitting.map(candidate).collect()
    }
}

/// The answer of an EXPLAIN with what became of the views below it.
pub(crate) async fn explained(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    notes: &[Note],
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let mut rows = collect(plan, context).await?;
    let lines: Vec<String> = notes.iter().map(|note| format!("{} {}", note.view, note.said)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["materialized_views"])),
        Arc::new(StringArray::from(vec![lines.join("\n")])),
    ];
    rows.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    Ok(MemorySourceConfig::try_new_exec(&[rows], schema, None)?)
}

/// The plan with views in the place of its parts, if there is a part that one has; each view that is read, and how.
fn cover(
    plan: &LogicalPlan,
    state: &SessionState,
    candidates: &mut [Candidate],
) -> Result<(Option<LogicalPlan>, Vec<Note>)> {
    // What is explained is not yet optimized in the sight of its reader.
    if let LogicalPlan::Explain(explain) = plan {
        let (covered, notes) = cover(&explain.plan, state, candidates)?;
        let explained = covered.map(|plan| LogicalPlan::Explain(Explain { plan: Arc::new(plan), ..explain.clone() }));
        return Ok((explained, notes));
    }
    if let LogicalPlan::Analyze(analyze) = plan {
        let (covered, notes) = cover(&analyze.input, state, candidates)?;
        let analyzed = covered.map(|plan| LogicalPlan::Analyze(Analyze { input: Arc::new(plan), ..analyze.clone() }));
        return Ok((analyzed, notes));
    }
    for reading in [Reading::FiltersBelow, Reading::FiltersAsWritten] {
        let (covered, notes) = cover_reading(plan, reading, state, candidates)?;
        if covered.is_some() {
            return Ok((covered, notes));
        }
    }
    Ok((None, vec![]))
}

fn cover_reading(
    plan: &LogicalPlan,
    reading: Reading,
    state: &SessionState,
    candidates: &mut [Candidate],
) -> Result<(Option<LogicalPlan>, Vec<Note>)> {
    let mut notes: Vec<Note> = Vec::new();
    let rewritten = normal(plan.clone(), reading, state)?.transform_down_with_subqueries(|node| {
        if !reads_services(&node)? {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        let query = Block::of(&node)?;
        for candidate in &mut *candidates {
            let found = match candidate.shape.block(reading, state) {
                Ok(view) => fit::fit(&query, node.schema(), view, &candidate.shape.scan()?)?,
                Err(why) => Fit::Not { close: true, why },
            };
            match found {
                Fit::Answers(plan, how) => {
                    let said = format!("read: it holds {how} of this part of the query");
                    if notes.iter().all(|note| note.view != candidate.name) {
                        notes.push(Note { view: candidate.name.clone(), said });
                    }
                    return Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump));
                }
                Fit::Not { close, why } if close || !candidate.why.0 => {
                    // What the first part lacks that reads the same is what its reader wants to know.
                    if candidate.why.1.is_empty() || (close && !candidate.why.0) {
                        candidate.why = (close, why);
                    }
                }
                Fit::Not { .. } => {}
            }
        }
        Ok(Transformed::no(node))
    })?;
    if !rewritten.transformed {
        return Ok((None, notes));
    }
    // Whether a column may be NULL is known of the view in another way than of what it stands for.
    let plan = rewritten.data.transform_up_with_subqueries(|node| Ok(Transformed::yes(node.recompute_schema()?)))?.data;
    Ok((Some(plan), notes))
}

/// The plan with types settled, expressions simplified, subqueries made joins, filters in their places, and no column that nobody needs.
fn normal(plan: LogicalPlan, reading: Reading, state: &SessionState) -> Result<LogicalPlan> {
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let mut rules = vec![
        "simplify_expressions",
        "decorrelate_predicate_subquery",
        "scalar_subquery_to_join",
        // Until then nothing says which columns the other side of the join reads.
        "decorrelate_lateral_join",
        // A constant that filters is not to be tested beneath groups: without groups there is an answer of no rows too.
        "eliminate_filter",
        "optimize_projections",
    ];
    if let Reading::FiltersBelow = reading {
        rules.push("push_down_filter");
    }
    let rules = mended_optimizer_rules_of(&rules);
    Optimizer::with_rules(rules).optimize(plan, state, |_, _| {})
}

fn reads_services(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && source_as_provider(&scan.source).is_ok_and(|provider| provider.is::<RemoteTable>())
        {
            reads = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}

/// Whether no function of the plan depends on anything but its arguments.
fn is_stable(plan: &LogicalPlan) -> Result<bool> {
    let mut stable = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part {
                    stable &= call.func.signature().volatility == Volatility::Immutable;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(stable)
}
