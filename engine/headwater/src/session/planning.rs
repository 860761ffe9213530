//! How a statement becomes a plan that may run, and that an answer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use headwater_federation::{Barrier, Draft, DraftSlot, remove_harmless_barriers};

use super::Session;
use super::rights::{explanation, kind_of, may_explain, shown};
use crate::access::enforce::enforce;
use crate::access::reads::reads;
use crate::access::{Enforced, Leave, Sight};
use crate::audit::Entry;
use crate::statement::guard_plan;
use crate::views::{Demand, Found, Pin, explained, inline_views, parse_query, reads_views};
use crate::{Answer, Result, Stamp};

/// What was decided of a statement when it was planned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decided {
    pub(crate) leave: Option<Leave>,
    pub(crate) entry: Option<Entry>,
    /// What EXPLAIN shows of a plan over such tables.
    shown: Option<Arc<str>>,
    /// What kind of statement it is.
    kind: &'static str,
}

impl Decided {
    /// Of a statement of this kind that reads nothing.
    pub(super) fn kind(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    /// The same, of another statement that reads the same.
    pub(crate) fn of(&self, entry: Option<Entry>) -> Self {
        let entry = match (entry, &self.entry) {
            (Some(entry), Some(known)) => Some(entry.reading_as(known)),
            (entry, _) => entry,
        };
        Self { entry, ..self.clone() }
    }
}

/// A plan that may run.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) plan: LogicalPlan,
    pub(crate) decided: Decided,
}

impl Session {
    /// The logical plan, with what the session's caller may read of each table in that table's place. Nothing looked at it before.
    ///
    /// # Errors
    /// What planning says; a rule of the access file does not fit a table; the caller's rights changed meanwhile.
    pub(crate) async fn admit(
        &self,
        state: &SessionState,
        statement: &Statement,
        entry: Option<Entry>,
    ) -> Result<Admitted> {
        let leave = self.leave();
        let plan = self.plan(state, statement).await?;
        let kind = kind_of(&plan);
        let entry = match entry {
            Some(entry) => Some(entry.reading(kind, reads(&plan)?)),
            None => None,
        };
        let Some(leave) = leave else {
            return Ok(Admitted { plan, decided: Decided { entry, ..Decided::kind(kind) } });
        };
        let sight = self.sight(&leave);
        let written = matches!(plan, LogicalPlan::Explain(_)).then(|| plan.clone());
        let Enforced { plan, limited } = enforce(plan, sight.as_ref())?;
        let shown = match written {
            _ if limited.is_empty() => None,
            Some(written) => shown(&written, &limited, state)?,
            None => may_explain(&plan, &limited).map(|()| None)?,
        };
        Ok(Admitted { plan, decided: Decided { leave: Some(leave), entry, shown, kind } })
    }

    /// The logical plan. A name that is not found may be newer than what is remembered: then the tables of the statement
    /// are described anew, once.
    pub(crate) async fn plan(&self, state: &SessionState, statement: &Statement) -> Result<LogicalPlan> {
        self.views.shared().await_return(&state.resolve_table_references(statement)?).await?;
        self.plan_now(state, statement).await
    }

    /// The same, whether or not the views that it names are back since the engine started.
    pub(crate) async fn plan_now(&self, state: &SessionState, statement: &Statement) -> Result<LogicalPlan> {
        let names = state.resolve_table_references(statement)?;
        if names.iter().any(|name| name.schema().is_some_and(|schema| schema == "information_schema")) {
            crate::engine::discover_unseen(self.catalog.catalog()).await;
        }
        let planned = match state.statement_to_plan(statement.clone()).await {
            Err(error) if is_unknown_column(&error) && self.forget(&names) => {
                state.statement_to_plan(statement.clone()).await
            }
            other => other,
        };
        match planned {
            Ok(plan) => guard_plan(plan),
            Err(error) => Err(self.explained(error, &names).await),
        }
    }

    /// Makes the physical plan. A state is a copy of a few hundred entries, so one serves a query from its text to its answer; only
    /// what changes the session itself goes through the session's own.
    pub(crate) async fn answer(&self, state: &SessionState, admitted: Admitted) -> Result<Answer> {
        let Admitted { plan, decided } = admitted;
        if let Some(text) = &decided.shown {
            let answer = self.answer_rows(explanation(text)?)?;
            return Ok(answer.decided(decided.leave, decided.entry).of(decided.kind));
        }
        let (plan, context, stamp) = if matches!(plan, LogicalPlan::Statement(_)) {
            let frame = self.context.execute_logical_plan(plan).await?;
            self.refresh_settings();
            let context = frame.task_ctx();
            (frame.create_physical_plan().await?, context, None)
        } else {
            let (state, plan, stamp) = self.pinned(state, plan).await?;
            let sight = decided.leave.as_ref().and_then(|leave| self.sight(leave));
            let (plan, context, of_views) = self.planned(state, plan, sight.as_ref()).await?;
            (plan, context, of_views.or(stamp))
        };
        let deadline = self.settings.read().deadline();
        let answer = Answer::new(plan, context, &self.governor, deadline).stamped(stamp);
        Ok(answer.decided(decided.leave, decided.entry).of(decided.kind))
    }

    /// The same; and the draft that further executions can run from, where the plan leaves one.
    pub(crate) async fn answer_leaving_draft(
        &self,
        state: &SessionState,
        admitted: Admitted,
    ) -> Result<(Answer, Option<Draft>)> {
        // Whether a view is fresh enough to answer is found out for each execution.
        if Demand::of(&self.settings.read()).bounds_staleness() || matches!(admitted.plan, LogicalPlan::Explain(_)) {
            return Ok((self.answer(state, admitted).await?, None));
        }
        let slot = DraftSlot::default();
        let mut state = state.clone();
        state.config_mut().options_mut().extensions.insert(slot.clone());
        let answer = self.answer(&state, admitted).await?;
        Ok((answer, slot.take()))
    }

    /// The answer of a plan that was made from a draft.
    pub(crate) fn answer_planned(
        &self,
        state: &SessionState,
        plan: Arc<dyn ExecutionPlan>,
        decided: Decided,
    ) -> Answer {
        let deadline = self.settings.read().deadline();
        let answer = Answer::new(plan, TaskContext::from(state), &self.governor, deadline);
        answer.decided(decided.leave, decided.entry).of(decided.kind)
    }

    /// The physical plan, with what views hold read from them where the session bounds how old an answer may be.
    async fn planned(
        &self,
        mut state: Cow<'_, SessionState>,
        mut plan: LogicalPlan,
        sight: Option<&Sight>,
    ) -> Result<(Arc<dyn ExecutionPlan>, TaskContext, Option<Stamp>)> {
        if sight.is_some() {
            let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
            plan = remove_harmless_barriers(plan, &analyzed)?;
        }
        let demand = Demand::of(&self.settings.read());
        let pinned = state.config().get_extension::<Pin>().and_then(|pin| pin.pinned());
        let answered = self.views.shared().answer_from_views(plan, state.as_ref(), &demand, pinned, sight).await?;
        let mut stamp = None;
        if let Some(epoch) = answered.epoch {
            let views = reads_views(&answered.plan)?;
            stamp = Some(self.views.shared().stamp(&epoch, views.iter().map(|(_, view)| *view)));
            state.to_mut().config_mut().set_extension(Arc::new(Pin::to(epoch)));
        }
        let plan = state.create_physical_plan(&answered.plan).await?;
        let context = TaskContext::from(state.as_ref());
        if answered.notes.is_empty() || !matches!(answered.plan, LogicalPlan::Explain(_)) {
            return Ok((plan, context, stamp));
        }
        let plan = explained(plan, Arc::new(TaskContext::from(state.as_ref())), &answered.notes).await?;
        Ok((plan, context, stamp))
    }

    /// Pins one epoch for all the views that a query reads, as fresh as the session demands; or puts the views' own queries in their place.
    async fn pinned<'s>(
        &self,
        state: &'s SessionState,
        plan: LogicalPlan,
    ) -> Result<(Cow<'s, SessionState>, LogicalPlan, Option<Stamp>)> {
        let mut state = Cow::Borrowed(state);
        let views = reads_views(&plan)?;
        if views.is_empty() {
            return Ok((state, plan, None));
        }
        let demand = Demand::of(&self.settings.read());
        match self.views.shared().fresh(&views, &demand).await? {
            Found::Epoch(epoch) => {
                let stamp = self.views.shared().stamp(&epoch, views.iter().map(|(_, view)| *view));
                state.to_mut().config_mut().set_extension(Arc::new(Pin::to(epoch)));
                Ok((state, plan, Some(stamp)))
            }
            Found::Live => {
                let live = self.live(plan).await?;
                Ok((state, live, None))
            }
        }
    }

    /// The plan with each view replaced by its query over the services.
    async fn live(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let mut plan = plan;
        loop {
            let views = reads_views(&plan)?;
            if views.is_empty() {
                return Ok(plan);
            }
            let mut queries = HashMap::new();
            for (name, view) in views {
                let (sql, search_path) = self.views.shared().query_of(&name)?;
                let session = self.beside(search_path);
                let statement = parse_query(&sql)?;
                // Boxed, since a view may read views.
                let query = Box::pin(session.plan(&session.context.state(), &statement)).await?;
                // Who may read the view need not be who may read its inputs: the rows that its query takes away are none of a caller's.
                let query = if self.sees_everything() { query } else { Barrier::above(query) };
                queries.insert(view, query);
            }
            plan = inline_views(plan, &queries)?;
        }
    }
}

fn is_unknown_column(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }))
}
