//! What is kept of a statement that was planned, for as long as planning it anew would give the same.
//!
//! That is while the session's options are the same, the caller's rights are, and every table that the plan reads is still described as it was. Executions run plans that
//! are made from the first one's draft ([`headwater_federation::Draft`]), until it is so old that the sources' statistics may be others; where the statement allows it,
//! with other values too (`generic.rs`).
//!
//! Invariant: a physical plan runs once. A plan in which the time of the query is folded in (`now()`) is not kept: each execution has
//! a time of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::parser::Statement;
use headwater_federation::{Draft, RemoteTable};
use parking_lot::Mutex;

use crate::access::guard::unguarded;
use crate::audit::Entry;
use crate::generic::{are_distinct, is_generic};
use crate::session::{Admitted, Decided};
use crate::views::reads_views;
use crate::{Answer, Result, Session};

/// What planning gave, and what it depends on. Clones share their draft.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) logical: LogicalPlan,
    /// For whom it was planned, and what they may read.
    decided: Decided,
    /// Held, so that a session that changes its options changes a copy of these.
    options: Arc<ConfigOptions>,
    tables: Vec<(TableReference, Arc<dyn TableProvider>)>,
    /// What further executions are planned from.
    draft: Arc<Mutex<Kept>>,
    /// Whether it means the same a little later.
    can_wait: bool,
    /// Whether a draft may serve other values than those that it was planned with.
    is_generic: bool,
}

/// What the last planning left.
#[derive(Clone)]
enum Kept {
    /// Nothing was planned yet.
    Nothing,
    /// A draft, the values that it was planned with, whether it serves others, and when it was made.
    Draft { draft: Draft, values: Vec<ScalarValue>, takes_others: bool, since: Instant },
    /// Planning left none that would serve again.
    None { since: Instant },
}

/// How long a draft is used: what it was chosen by, as the number of a table's rows, changes slowly.
const DRAFT_LIFE: Duration = Duration::from_secs(60);

impl Plan {
    /// Plans a statement as far as its caller's rights decide it.
    pub(crate) async fn new(
        session: &Session,
        state: &SessionState,
        statement: &Statement,
        entry: Option<Entry>,
    ) -> Result<Self> {
        let Admitted { plan: logical, decided } = session.admit(state, statement, entry).await?;
        let tables = tables(&logical)?;
        let options = Arc::clone(state.config().options());
        let can_wait = can_wait(&logical);
        let is_generic = can_wait && is_generic(&logical)?;
        let draft = Arc::new(Mutex::new(Kept::Nothing));
        Ok(Self { logical, decided, options, tables, draft, can_wait, is_generic })
    }

    /// Whether planning it with these values may leave a draft that serves again.
    pub(crate) fn may_leave_draft(&self, values: &[ScalarValue]) -> bool {
        let may = if values.is_empty() { self.can_wait } else { self.is_generic && are_distinct(values) };
        may && !self.leaves_no_draft()
    }

    /// Whether planning left none that serves again, a moment ago.
    pub(crate) fn leaves_no_draft(&self) -> bool {
        matches!(&*self.draft.lock(), Kept::None { since } if since.elapsed() < DRAFT_LIFE)
    }

    /// Whether it does something to its session, as SET does.
    pub(crate) fn is_of_session(&self) -> bool {
        matches!(self.logical, LogicalPlan::Statement(_))
    }

    /// Whether it reads tables of services and nothing else.
    pub(crate) fn reads_services(&self) -> bool {
        self.tables.iter().all(|(_, table)| unguarded(table).is::<RemoteTable>())
    }

    /// Whether there is a draft that serves the values that it was planned with.
    pub(crate) fn has_draft(&self) -> bool {
        self.draft.lock().serves()
    }

    /// Whether it serves others too.
    pub(crate) fn has_draft_for_others(&self) -> bool {
        self.draft.lock().serves_others()
    }

    /// An answer with values for the parameters, whose draft is not kept.
    pub(crate) async fn answer(
        &self,
        session: &Session,
        state: &SessionState,
        values: Vec<ScalarValue>,
        entry: Option<Entry>,
    ) -> Result<Answer> {
        session.answer(state, self.with(&values, entry)?).await
    }

    /// The plan with values for its parameters.
    fn with(&self, values: &[ScalarValue], entry: Option<Entry>) -> Result<Admitted> {
        let plan = self.logical.clone().with_param_values(ParamValues::from(values.to_vec()))?;
        Ok(Admitted { plan, decided: self.decided.of(entry) })
    }

    /// An answer whose draft is kept.
    pub(crate) async fn answer_leaving_draft(
        &self,
        session: &Session,
        state: &SessionState,
        values: Vec<ScalarValue>,
        entry: Option<Entry>,
    ) -> Result<Answer> {
        let since = Instant::now();
        let (answer, draft) = session.answer_leaving_draft(state, self.with(&values, entry)?).await?;
        let takes_others = match &draft {
            Some(draft) => !values.is_empty() && draft.takes(&values)?,
            None => false,
        };
        let mut kept = self.draft.lock();
        // A value that has no place in a plan, as one beyond its column's type, is no reason to lose what serves the others.
        if takes_others || !kept.serves_others() {
            *kept = match draft {
                Some(draft) => Kept::Draft { draft, values, takes_others, since },
                None => Kept::None { since },
            };
        }
        drop(kept);
        Ok(answer)
    }

    /// An answer that is planned from the draft, where there is one that serves these values.
    pub(crate) async fn answer_from_draft(
        &self,
        session: &Session,
        state: &SessionState,
        values: &[ScalarValue],
        entry: Option<Entry>,
    ) -> Result<Option<Answer>> {
        let kept = self.draft.lock().clone();
        let Kept::Draft { draft, values: planned, takes_others, since } = kept else { return Ok(None) };
        if values != planned && !takes_others {
            return Ok(None);
        }
        let types = |values: &[ScalarValue]| values.iter().map(ScalarValue::data_type).collect::<Vec<_>>();
        if since.elapsed() >= DRAFT_LIFE || values.iter().any(ScalarValue::is_null) || types(values) != types(&planned)
        {
            return Ok(None);
        }
        let plan = draft.plan_with(state, &planned, values).await?;
        Ok(plan.map(|plan| session.answer_planned(state, plan, self.decided.of(entry))))
    }

    /// Whether planning anew would give the same. Descriptions that are old are asked for again.
    pub(crate) async fn holds(&self, session: &Session, state: &SessionState) -> bool {
        if !Arc::ptr_eq(&self.options, state.config().options()) {
            return false;
        }
        // What was decided for rights that were taken back serves nobody.
        if self.decided.leave.as_ref().is_some_and(|leave| !leave.holds()) {
            return false;
        }
        for (name, planned) in &self.tables {
            match session.own_context().table_provider(name.clone()).await {
                Ok(now) if is_same(planned, &now) => {}
                // What is wrong is told by the plan that is made now.
                _ => return false,
            }
        }
        true
    }
}

impl Kept {
    fn serves(&self) -> bool {
        matches!(self, Self::Draft { since, .. } if since.elapsed() < DRAFT_LIFE)
    }

    fn serves_others(&self) -> bool {
        matches!(self, Self::Draft { takes_others: true, since, .. } if since.elapsed() < DRAFT_LIFE)
    }
}

fn is_same(planned: &Arc<dyn TableProvider>, now: &Arc<dyn TableProvider>) -> bool {
    let (planned, now) = (unguarded(planned), unguarded(now));
    match (planned.downcast_ref::<RemoteTable>(), now.downcast_ref::<RemoteTable>()) {
        (Some(planned), Some(now)) => {
            Arc::ptr_eq(planned.service(), now.service())
                && (Arc::ptr_eq(planned.definition(), now.definition()) || planned.definition() == now.definition())
        }
        _ => Arc::ptr_eq(planned, now),
    }
}

/// The tables that the plan reads, as it names them.
fn tables(plan: &LogicalPlan) -> Result<Vec<(TableReference, Arc<dyn TableProvider>)>> {
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push((scan.table_name.clone(), source_as_provider(&scan.source)?));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// Whether the plan means the same a little later: it holds nothing that depends on when it was made, and changes nothing in the session.
fn can_wait(plan: &LogicalPlan) -> bool {
    // An answer over views is of the epoch at which it was planned, and the session may have written since.
    let views = reads_views(plan).is_ok_and(|views| views.is_empty());
    let mut can = views && !matches!(plan, LogicalPlan::Statement(_));
    let looked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if matches!(part, Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable)
                {
                    can = false;
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    looked.is_ok() && can
}
