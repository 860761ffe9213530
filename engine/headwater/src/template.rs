//! What every session of an engine begins with: DataFusion's rules with our own among them, and its settings.

use std::sync::Arc;

use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::optimizer::OptimizerRule;
use datafusion::prelude::SessionConfig;
use headwater_federation::{
    CATALOG, Federation, FirstRows, JoinOrder, LeaveDraft, PromptLimits, SEARCH_PATH_SCHEMA, SemiJoinRows, Settings,
    SubqueryValues, ThroughBarriers, TopN, UnambiguousKeys, UncoupledJoins, YieldingJoins,
};
use headwater_rules::{mended_analyzer_rules, mended_expr_planners, mended_optimizer_rules, mended_scalar_functions};
use parking_lot::Mutex;

use crate::drafts::Drafts;
use crate::governor::Governor;

/// What the sessions of an engine begin with. Functions and rules are looked up and put together once and not for each session.
#[derive(Debug)]
pub(crate) struct Template {
    state: SessionState,
    /// States of sessions as they begin, by their settings, so that sessions with the same have the same options and share what they plan.
    begun: Mutex<Vec<(Settings, SessionState)>>,
    pub(crate) governor: Arc<Governor>,
    pub(crate) drafts: Arc<Drafts>,
}

impl Template {
    pub(crate) fn new(governor: Arc<Governor>) -> Self {
        let state = SessionStateBuilder::new()
            .with_config(config(governor.memory_bytes()))
            .with_runtime_env(Arc::clone(governor.runtime()))
            // Before those of DataFusion.
            .with_expr_planners(mended_expr_planners())
            .with_default_features()
            .with_scalar_functions(mended_scalar_functions())
            .with_analyzer_rules(mended_analyzer_rules())
            .with_query_planner(Arc::new(Federation))
            .with_optimizer_rules(optimizer_rules())
            .with_statistics_registry(SemiJoinRows::registry())
            .with_physical_optimizer_rules(LeaveDraft::among_rules())
            .with_physical_optimizer_rule(Arc::new(UnambiguousKeys))
            .with_physical_optimizer_rule(Arc::new(UncoupledJoins))
            .with_physical_optimizer_rule(Arc::new(PromptLimits))
            .with_physical_optimizer_rule(Arc::new(FirstRows))
            .with_physical_optimizer_rule(Arc::new(SubqueryValues))
            .with_physical_optimizer_rule(Arc::new(YieldingJoins))
            .build();
        Self { state, begun: Mutex::default(), governor, drafts: Arc::default() }
    }

    /// What a session with these settings begins with.
    pub(crate) fn state(&self, settings: &Settings) -> SessionState {
        let mut begun = self.begun.lock();
        if let Some((_, state)) = begun.iter().find(|(known, _)| known == settings) {
            return state.clone();
        }
        let mut state = self.state.clone();
        state.config_mut().options_mut().extensions.insert(settings.clone());
        if begun.len() < BEGUN_MAX {
            begun.push((settings.clone(), state.clone()));
        }
        state
    }

    pub(crate) fn governor(&self) -> &Arc<Governor> {
        &self.governor
    }
}

/// How many states of sessions are kept: sessions begin with the engine's settings, and a part of its search path.
const BEGUN_MAX: usize = 16;

/// How many sorts in all of their partitions may have set aside their part for merging before no memory is left.
const SORT_RESERVATIONS_MAX: usize = 8;

/// The most keys of a join's build side, for each partition, that are sent to the source of its probe side.
const KEYS_MAX: usize = 100_000;

/// The most bytes of such keys, for each partition.
const KEYS_BYTES_MAX: usize = 8 * 1024 * 1024;

fn config(memory_bytes: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SEARCH_PATH_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        // The session's catalog holds an information_schema of its own.
        .with_information_schema(false);
    let options = config.options_mut();
    // Every connector yields Utf8; a second layout of text would only add casts between them and at the clients.
    options.sql_parser.map_string_types_to_utf8view = false;
    // A scan waits for a dynamic filter to be complete before it asks its source. A join's is once its build side is read; those of
    // a top-k or an aggregate never are, and would only be waited for. A top-k's goes to its scan by another way.
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Build sides are chosen by what semi joins leave, too.
    options.optimizer.use_statistics_registry = true;
    // Keys that cross the network are cheap beside the rows that they save: so many of them still go down as a list.
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = KEYS_MAX;
    options.optimizer.hash_join_inlist_pushdown_max_size = KEYS_BYTES_MAX;
    // What each sort sets aside at its start for merging what it will have spilled must leave room for the sort itself.
    let share = memory_bytes / SORT_RESERVATIONS_MAX / options.execution.target_partitions.max(1);
    options.execution.sort_spill_reservation_bytes = options.execution.sort_spill_reservation_bytes.min(share);
    config
}

/// DataFusion's rules with our own among them: joins are put in order before columns are pruned, and scans are cut last.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    const PRUNES_COLUMNS: &str = "optimize_projections";
    let mut rules = mended_optimizer_rules();
    let place = rules.iter().position(|rule| rule.name() == PRUNES_COLUMNS).unwrap_or(rules.len());
    rules.insert(place, Arc::new(JoinOrder));
    const PUSHES_FILTERS: &str = "push_down_filter";
    let place = rules.iter().position(|rule| rule.name() == PUSHES_FILTERS).map_or(rules.len(), |place| place + 1);
    rules.insert(place, Arc::new(ThroughBarriers));
    rules.push(Arc::new(TopN));
    rules
}
