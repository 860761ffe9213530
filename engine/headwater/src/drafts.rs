//! Drafts that the sessions of an engine share, so that a statement that was asked before, by whomever, is not planned to the end again.
//!
//! A statement's text is looked up by its [`Shape`]: what it is without the constants that it compares with columns for equality, so that `id = 1` and `id = 2` are one. What a
//! draft is good for is decided where it is made (`plan.rs`, `generic.rs`, [`headwater_federation::Draft::takes`]): for other constants, or for the very same text alone. The second statement of
//! a shape leaves the draft, since most texts are asked once.
//!
//! Kept apart: what one user asks from what another does, and sessions with other options. A session that a program has got at ([`Session::context`]) may have functions and rules of
//! its own, and shares nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use lru::LruCache;
use parking_lot::Mutex;
use sqlparser::ast::{
    BinaryOperator, Expr, Query, Statement as Sql, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use crate::audit::Entry;
use crate::opaque::Opaque;
use crate::plan::Plan;
use crate::session::is_stale;
use crate::{Answer, Result, Session};

/// How many plans are kept.
const PLANS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("Invariant: it is not zero");

/// How many shapes are remembered that were asked once.
const ASKED_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("Invariant: it is not zero");

/// What the sessions of an engine share of what they planned.
#[derive(Debug)]
pub(crate) struct Drafts(Opaque<Mutex<Kept>>);

struct Kept {
    plans: LruCache<Key, Known>,
    asked: LruCache<u64, ()>,
}

/// What is known of statements of a shape.
#[derive(Clone)]
enum Known {
    /// A plan whose draft may serve all of them.
    Plan(Box<Plan>),
    /// Each needs a plan of its own.
    Apart,
}

/// What statements have in common that may share a draft.
#[derive(Clone)]
pub(crate) struct Shape(Opaque<Parts>);

struct Parts {
    /// The statement without the constants that others may take the place of.
    general: Key,
    /// The statement as it is, where it has any.
    exact: Option<Key>,
    constants: Vec<ScalarValue>,
    has_parameters: bool,
}

/// A statement of a user in a session with some options.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    query: Arc<Query>,
    /// `None` where the session reads everything for good; a name, where the user is known by one.
    user: Option<Option<Arc<str>>>,
    /// The address of the options. A plan that is kept holds its own, so that no others have that.
    options: usize,
}

impl Default for Drafts {
    fn default() -> Self {
        Self(Opaque::new(Mutex::new(Kept { plans: LruCache::new(PLANS_MAX), asked: LruCache::new(ASKED_MAX) })))
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("plans", &self.plans.len()).field("asked", &self.asked.len()).finish()
    }
}

impl Drafts {
    /// The plan of a statement with parameters, where it still holds.
    pub(crate) async fn plan(&self, session: &Session, state: &SessionState, shape: &Shape) -> Option<Plan> {
        let (plan, _) = self.found(shape)?;
        plan.holds(session, state).await.then_some(plan)
    }

    /// The answer of a statement from the draft of another of its shape; and the plan that has the draft, with the constants that it served.
    ///
    /// # Errors
    /// What DataFusion's rules and the sources say.
    pub(crate) async fn answer(
        &self,
        session: &Session,
        state: &SessionState,
        shape: &Shape,
        entry: Option<Entry>,
    ) -> Result<Option<(Answer, Plan, Vec<ScalarValue>)>> {
        let Some((plan, constants)) = self.found(shape) else { return Ok(None) };
        if !plan.holds(session, state).await {
            return Ok(None);
        }
        match plan.answer_from_draft(session, state, &constants, entry).await {
            // The table's description was older than the table: it is forgotten by now, so the statement is planned with the new one.
            Err(error) if is_stale(&error) => Ok(None),
            answer => Ok(answer?.map(|answer| (answer, plan, constants))),
        }
    }

    /// Whether the statement is to leave a draft: one like it was asked before, and left one or was not to.
    pub(crate) fn wants(&self, shape: &Shape) -> bool {
        let Parts { general, exact, .. } = &*shape.0;
        let mut kept = self.0.lock();
        let key = match kept.plans.peek(general) {
            Some(Known::Plan(plan)) => return !plan.leaves_no_draft(),
            Some(Known::Apart) => exact.as_ref().unwrap_or(general),
            None => general,
        };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        kept.asked.put(hasher.finish(), ()).is_some()
    }

    /// Keeps the plan of a statement of this shape.
    pub(crate) fn keep(&self, shape: &Shape, plan: &Plan) {
        let Parts { general, exact, .. } = &*shape.0;
        if !plan.reads_services() {
            return;
        }
        let mut kept = self.0.lock();
        let key = match exact {
            Some(exact) if plan.drafted_constants().is_none() => {
                kept.plans.put(general.clone(), Known::Apart);
                exact
            }
            _ => general,
        };
        kept.plans.put(key.clone(), Known::Plan(Box::new(plan.clone())));
    }

    /// Plans a statement, such that others like it are planned from its draft.
    ///
    /// # Errors
    /// What planning says.
    pub(crate) async fn learn(
        &self,
        session: &Session,
        state: &SessionState,
        statement: &Statement,
        shape: &Shape,
        entry: Option<Entry>,
    ) -> Result<Answer> {
        let learnt = self.learn_now(session, state, statement, shape, entry.clone());
        match learnt.await {
            // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
            Err(error) if is_stale(&error) => self.learn_now(session, state, statement, shape, entry).await,
            other => other,
        }
    }

    async fn learn_now(
        &self,
        session: &Session,
        state: &SessionState,
        statement: &Statement,
        shape: &Shape,
        entry: Option<Entry>,
    ) -> Result<Answer> {
        let plan = Plan::new(session, state, statement, shape.constants().to_vec(), entry.clone()).await?;
        if !plan.reads_services() || !plan.may_leave_draft(&[]) {
            return plan.answer(session, state, vec![], entry).await;
        }
        let answer = plan.answer_leaving_draft(session, state, vec![], entry).await?;
        self.keep(shape, &plan);
        Ok(answer)
    }

    fn found(&self, shape: &Shape) -> Option<(Plan, Vec<ScalarValue>)> {
        let mut kept = self.0.lock();
        match kept.plans.get(&shape.0.general)? {
            Known::Plan(plan) => Some((plan.as_ref().clone(), shape.0.constants.clone())),
            Known::Apart => match kept.plans.get(shape.0.exact.as_ref()?)? {
                Known::Plan(plan) => Some((plan.as_ref().clone(), vec![])),
                Known::Apart => None,
            },
        }
    }
}

impl Shape {
    /// The shape of a query; `None` of other statements, and in a session that shares nothing.
    pub(crate) fn of(session: &Session, state: &SessionState, statement: &Statement) -> Option<Self> {
        let Statement::Statement(statement) = statement else { return None };
        if !session.shares_drafts() {
            return None;
        }
        let Sql::Query(query) = statement.as_ref() else { return None };
        let user = session.guard().map(|_| session.asker().caller.name().map(Arc::from));
        let options = Arc::as_ptr(state.config().options()).addr();
        let key = |query: Query| Key { query: Arc::new(query), user: user.clone(), options };
        let mut general = query.as_ref().clone();
        let mut lift = Lift::default();
        let _ = VisitMut::visit(&mut general, &mut lift);
        let Lift { constants, has_parameters } = lift;
        let as_it_is = || key(query.as_ref().clone());
        let parts = match (has_parameters, constants.is_empty()) {
            (true, _) => Parts { general: as_it_is(), exact: None, constants: vec![], has_parameters },
            (false, true) => Parts { general: key(general), exact: None, constants, has_parameters },
            (false, false) => Parts { general: key(general), exact: Some(as_it_is()), constants, has_parameters },
        };
        Some(Self(Opaque::new(parts)))
    }

    /// The constants that others may take the place of.
    pub(crate) fn constants(&self) -> &[ScalarValue] {
        &self.0.constants
    }

    /// Whether the statement has parameters; then it counts with all of its constants.
    pub(crate) fn has_parameters(&self) -> bool {
        self.0.has_parameters
    }
}

/// What stands in the place of a constant. No parameter is written so.
const LIFTED: Value = Value::Placeholder(String::new());

/// Puts parameters in the place of constants that columns are to equal. A statement that has parameters of its own is left as it is.
#[derive(Default)]
struct Lift {
    constants: Vec<ScalarValue>,
    has_parameters: bool,
}

impl VisitorMut for Lift {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr else { return ControlFlow::Continue(()) };
        let constant = match (left.as_ref(), right.as_ref()) {
            (column, _) if is_column(column) => right,
            (_, column) if is_column(column) => left,
            _ => return ControlFlow::Continue(()),
        };
        if let Some(value) = constant_of(constant) {
            self.constants.push(value);
            **constant = Expr::value(LIFTED);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        self.has_parameters |= matches!(&value.value, parameter @ Value::Placeholder(_) if *parameter != LIFTED);
        ControlFlow::Continue(())
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// The value of a constant, as DataFusion reads it.
fn constant_of(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok().map(|number| ScalarValue::Int64(Some(number))),
            Value::SingleQuotedString(text) => Some(ScalarValue::from(text.as_str())),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match constant_of(expr)? {
            ScalarValue::Int64(Some(number)) => Some(ScalarValue::Int64(Some(number.checked_neg()?))),
            _ => None,
        },
        _ => None,
    }
}
