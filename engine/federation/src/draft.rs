//! Plans that are made once and run many times.
//!
//! A physical plan runs once: its joins hold what they built, its scans the keys that they were told. What it was made of can be used
//! again: a [`Draft`] is the plan as it is before joins are tied to the scans beneath them, which is the last thing that planning does and the
//! cheapest. Each run makes its operators anew from the draft and ties them again.
//!
//! Invariant: a run holds nothing of a source's state from before it was planned. What is no more than a statement is used again ([`headwater_source::Scan::is_timeless`]); another
//! scan, as of a list of files, is prepared anew.
//!
//! Who wants a draft puts a [`DraftSlot`] into the options of the state that plans, and looks into it afterwards. A plan of which
//! a part keeps more than its operators show leaves none.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use headwater_rules::mended_physical_optimizer_rules;
use parking_lot::Mutex;

use crate::RemoteScanExec;
use crate::region::{Handed, tie};
use crate::windows::OpenWindows;

/// A physical plan but for what ties its operators together.
#[derive(Debug, Clone)]
pub struct Draft(pub(crate) Arc<dyn ExecutionPlan>);

/// Where planning leaves the draft of a plan.
#[derive(Debug, Clone, Default)]
pub struct DraftSlot(Arc<Mutex<Option<Draft>>>);

/// The physical optimizer rule that leaves the draft. What comes after it is done again for each run.
#[derive(Debug, Default)]
pub struct LeaveDraft;

/// DataFusion's rule that ties joins to scans.
const TIES_JOINS: &str = "FilterPushdown(Post)";

/// Operators that are as new once they were reset, and share nothing with others of their plan.
const RESETTABLE: [&str; 25] = [
    "AggregateExec",
    "BarrierExec",
    "BoundedWindowAggExec",
    "CoalesceBatchesExec",
    "CoalescePartitionsExec",
    "CooperativeExec",
    "CrossJoinExec",
    "EmptyExec",
    "FilterExec",
    "GlobalLimitExec",
    "HashJoinExec",
    "KeyedExec",
    "LocalLimitExec",
    "NestedLoopJoinExec",
    "PlaceholderRowExec",
    "ProjectionExec",
    "RemoteScanExec",
    "RepartitionExec",
    "ReplayExec",
    "SortExec",
    "SortPreservingMergeExec",
    "TriedExec",
    "UnionExec",
    "UnlikeRowsExec",
    "WindowAggExec",
];

impl DraftSlot {
    /// The draft that planning left, if it left one.
    pub fn take(&self) -> Option<Draft> {
        self.0.lock().take()
    }
}

impl Draft {
    /// The plan tied together.
    pub(crate) fn tied(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        let rules = state.physical_optimizers();
        let after = rules.iter().position(|rule| rule.name() == LeaveDraft.name()).map_or(0, |place| place + 1);
        let mut plan = afresh(&self.0)?;
        for rule in &rules[after..] {
            plan = rule.optimize(plan, state.config_options())?;
        }
        tie(&plan);
        Ok(plan)
    }
}

impl LeaveDraft {
    /// DataFusion's rules with this one where the draft is to be left, and what is done to each run before joins are tied.
    pub fn among_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
        let mut rules = mended_physical_optimizer_rules();
        let place = rules.iter().position(|rule| rule.name() == TIES_JOINS).unwrap_or(rules.len());
        rules.insert(place, Arc::new(Self));
        rules.insert(place + 1, Arc::new(OpenWindows));
        rules
    }
}

impl PhysicalOptimizerRule for LeaveDraft {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(slot) = config.extensions.get::<DraftSlot>() else { return Ok(plan) };
        // A statement's own plan comes after any that was planned on the way to it.
        *slot.0.lock() = None;
        if !is_resettable(&plan)? {
            return Ok(plan);
        }
        // What runs must not be the draft: operators that the rules to come leave as they are would keep in it what they built.
        let runs = afresh(&plan)?;
        *slot.0.lock() = Some(Draft(plan));
        Ok(runs)
    }

    fn name(&self) -> &str {
        "headwater_leave_draft"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_resettable(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut all = true;
    plan.apply(|node| {
        let again = node.downcast_ref::<RemoteScanExec>().is_none_or(RemoteScanExec::can_be_planned_again);
        all &= again && RESETTABLE.contains(&node.name());
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(all)
}

/// The same operators as they are before they run.
pub(crate) fn afresh(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut handed = Handed::default();
    let anew = Arc::clone(plan).transform_up(|node| Ok(Transformed::yes(handed.afresh(node)?)))?;
    Ok(anew.data)
}

impl ConfigExtension for DraftSlot {
    const PREFIX: &'static str = "headwater_draft";
}

impl ExtensionOptions for DraftSlot {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        plan_err!("there is no setting {}.{key}", Self::PREFIX)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}
