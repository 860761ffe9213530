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
use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
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
    /// A plan with parameters for the constants; or without.
    Plan { plan: Box<Plan>, is_general: bool },
    /// Each needs a plan of its own, as was found then.
    Apart(Instant),
}

/// A statement that was planned: its plan, the values for the plan's parameters, and its answer, where that may wait until it is asked for.
pub(crate) struct Learnt {
    pub(crate) plan: Plan,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) answer: Option<Answer>,
}

/// How long statements of a shape are planned apart until it is tried again: constants that happen to be equal may have been why.
const APART: Duration = Duration::from_secs(60);

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
    /// Of the constants that others may take the place of: a draft serves one type.
    types: Vec<DataType>,
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

    /// The answer of a statement from the draft of another of its shape, where there is one.
    ///
    /// # Errors
    /// What DataFusion's rules and the sources say.
    pub(crate) async fn answer(
        &self,
        session: &Session,
        state: &SessionState,
        shape: &Shape,
        entry: Option<Entry>,
    ) -> Result<Option<Learnt>> {
        let Some((plan, values)) = self.found(shape) else { return Ok(None) };
        if !plan.holds(session, state).await {
            return Ok(None);
        }
        match plan.answer_from_draft(session, state, &values, entry).await {
            // The table's description was older than the table: it is forgotten by now, so the statement is planned with the new one.
            Err(error) if is_stale(&error) => Ok(None),
            answer => Ok(answer?.map(|answer| Learnt { plan, values, answer: Some(answer) })),
        }
    }

    /// Whether the statement is to leave a draft: one like it was asked before, and left one or was not to.
    pub(crate) fn wants(&self, shape: &Shape) -> bool {
        let Parts { general, exact, .. } = &*shape.0;
        let mut kept = self.0.lock();
        let key = match kept.plans.peek(general) {
            Some(Known::Apart(_)) => exact.as_ref().unwrap_or(general),
            _ => general,
        };
        if let Some(Known::Plan { plan, .. }) = kept.plans.peek(key) {
            return !plan.leaves_no_draft();
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        kept.asked.put(hasher.finish(), ()).is_some()
    }

    /// Keeps the plan of a statement with parameters.
    pub(crate) fn keep(&self, shape: &Shape, plan: &Plan) {
        if plan.reads_services() {
            self.put(&shape.0.general, Known::Plan { plan: Box::new(plan.clone()), is_general: true });
        }
    }

    /// Plans a statement without parameters, such that others like it are planned from its draft.
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
    ) -> Result<Learnt> {
        let learnt = async || {
            let Parts { general, exact, constants, .. } = &*shape.0;
            if exact.is_some() && !self.is_apart(general) {
                // With parameters for its constants nothing but those is taken for a parameter, a rule's constant least of all. What does not go so goes as it is.
                let plan = Plan::new(session, state, &general.statement(), entry.clone()).await.ok();
                if let Some(plan) = plan.filter(|plan| plan.reads_services() && plan.may_leave_draft(constants)) {
                    let answer = plan.answer_leaving_draft(session, state, constants.clone(), entry.clone()).await?;
                    let known = Known::Plan { plan: Box::new(plan.clone()), is_general: true };
                    match (plan.has_draft_for_others(), exact) {
                        (false, Some(exact)) => {
                            self.set_apart(general);
                            self.put(exact, known);
                        }
                        _ => self.put(general, known),
                    }
                    return Ok(Learnt { plan, values: constants.clone(), answer: Some(answer) });
                }
                self.set_apart(general);
            }
            let plan = Plan::new(session, state, statement, entry.clone()).await?;
            if !plan.may_leave_draft(&[]) {
                return Ok(Learnt { plan, values: vec![], answer: None });
            }
            let answer = plan.answer_leaving_draft(session, state, vec![], entry.clone()).await?;
            if plan.reads_services() {
                let known = Known::Plan { plan: Box::new(plan.clone()), is_general: false };
                self.put(exact.as_ref().unwrap_or(general), known);
            }
            Ok(Learnt { plan, values: vec![], answer: Some(answer) })
        };
        match learnt().await {
            // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
            Err(error) if is_stale(&error) => learnt().await,
            other => other,
        }
    }

    fn put(&self, key: &Key, known: Known) {
        self.0.lock().plans.put(key.clone(), known);
    }

    /// Notes that a statement needs a plan of its own. Where others of its shape have a draft that serves them, they keep it.
    fn set_apart(&self, key: &Key) {
        let mut kept = self.0.lock();
        if !matches!(kept.plans.peek(key), Some(Known::Plan { plan, .. }) if plan.has_draft_for_others()) {
            kept.plans.put(key.clone(), Known::Apart(Instant::now()));
        }
    }

    fn is_apart(&self, key: &Key) -> bool {
        matches!(self.0.lock().plans.peek(key), Some(Known::Apart(since)) if since.elapsed() < APART)
    }

    fn found(&self, shape: &Shape) -> Option<(Plan, Vec<ScalarValue>)> {
        let mut kept = self.0.lock();
        let known = match kept.plans.get(&shape.0.general)? {
            Known::Apart(_) => kept.plans.get(shape.0.exact.as_ref()?)?,
            known => known,
        };
        match known {
            Known::Plan { plan, is_general: true } => Some((plan.as_ref().clone(), shape.0.constants.clone())),
            Known::Plan { plan, is_general: false } => Some((plan.as_ref().clone(), vec![])),
            Known::Apart(_) => None,
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
        let key = |query: Query, types| Key { query: Arc::new(query), types, user: user.clone(), options };
        let mut lifted = query.as_ref().clone();
        let mut lift = Lift::default();
        let _ = VisitMut::visit(&mut lifted, &mut lift);
        let as_it_is = key(query.as_ref().clone(), vec![]);
        let Lift { constants, has_parameters, .. } = lift;
        Some(Self(Opaque::new(match has_parameters || constants.is_empty() {
            true => Parts { general: as_it_is, exact: None, constants: vec![], has_parameters },
            false => {
                let types = constants.iter().map(ScalarValue::data_type).collect();
                Parts { general: key(lifted, types), exact: Some(as_it_is), constants, has_parameters }
            }
        })))
    }

    /// Whether the statement has parameters of its own.
    pub(crate) fn has_parameters(&self) -> bool {
        self.0.has_parameters
    }
}

impl Key {
    fn statement(&self) -> Statement {
        Statement::Statement(Box::new(Sql::Query(Box::new(self.query.as_ref().clone()))))
    }
}

/// Puts parameters in the place of constants that columns are to equal. A statement that has parameters of its own is left as it is.
#[derive(Default)]
struct Lift {
    constants: Vec<ScalarValue>,
    has_parameters: bool,
    /// Of the parameters that were put there, how many are still to be visited.
    lifted: usize,
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
            **constant = Expr::value(Value::Placeholder(format!("${}", self.constants.len())));
            self.lifted += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if matches!(&value.value, Value::Placeholder(_)) {
            // Those that were put there are visited as well.
            match self.lifted.checked_sub(1) {
                Some(left) => self.lifted = left,
                None => self.has_parameters = true,
            }
        }
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
