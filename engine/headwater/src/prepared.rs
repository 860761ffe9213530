//! Statements that are planned once and run with values for their parameters.
//!
//! What was planned is kept while it is what planning anew would give (`plan.rs`). A statement without parameters is planned to the end when it is prepared, and its first
//! execution runs that very plan; a client that prepares whatever it runs, as most drivers do, pays for one plan. Later executions run plans that are made from the first one's
//! draft. What an engine's sessions prepared is shared (`drafts.rs`), so a client that prepares the same again, as a pool of connections does, pays for less. A plan is of one user, and is made
//! anew once their rights are others.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, Statement as Named};
use datafusion::sql::parser::Statement;
use parking_lot::Mutex;

use crate::audit::Entry;
use crate::drafts::{Learnt, Shape};
use crate::opaque::Opaque;
use crate::plan::Plan;
use crate::session::is_stale;
use crate::statement::{Request, parse};
use crate::views::{Begin, ViewName, ViewStatement};
use crate::{Answer, Error, Result, Session, TraceParent};

/// A statement that was planned once and runs with values for its parameters.
#[derive(Clone)]
pub struct Prepared {
    session: Session,
    text: Arc<str>,
    schema: SchemaRef,
    parameters: SchemaRef,
    run: Opaque<Run>,
}

/// What an execution does.
#[derive(Clone)]
enum Run {
    Query {
        statement: Arc<Statement>,
        planned: Arc<Mutex<Planned>>,
    },
    /// A subscription begins anew with each execution, and takes no parameters.
    Subscribe {
        view: ViewName,
        begin: Begin,
    },
}

struct Planned {
    plan: Plan,
    /// The statement's constants that are parameters of the plan. A statement that has parameters itself has none.
    constants: Vec<ScalarValue>,
    first: Option<(Answer, Instant)>,
}

/// How long the plan of the first execution is kept for it. Drivers execute what they prepare at once.
const FIRST_LIFE: Duration = Duration::from_secs(30);

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = match &*self.run {
            Run::Query { planned, .. } if self.parameters.fields().is_empty() => planned.lock().plan.has_draft(),
            Run::Query { planned, .. } => planned.lock().plan.has_draft_for_others(),
            Run::Subscribe { .. } => false,
        };
        f.debug_struct("Prepared").field("parameters", &self.parameters).field("draft", &draft).finish_non_exhaustive()
    }
}

impl Prepared {
    pub(crate) async fn new(session: &Session, text: &str) -> Result<Self> {
        let (entry, tracing) = (session.entry(text), session.tracing(text));
        // Each execution says by itself which trace it is part of.
        // Boxed: planning is a large future, which every future that waits for it would hold.
        match Box::pin(Self::planned(&session.under(None), text, entry.clone())).await {
            Ok(prepared) => Ok(prepared),
            Err(error) => Err(session.recorded(text, error, entry, tracing).await),
        }
    }

    async fn planned(session: &Session, text: &str, entry: Option<Entry>) -> Result<Self> {
        let whole_text: Arc<str> = text.into();
        let statement = match parse(text)? {
            Request::Plan(statement) => statement,
            Request::View(ViewStatement::Subscribe { name, begin }) => {
                let schema = session.subscription_columns(&name)?;
                let run = Opaque::new(Run::Subscribe { view: name, begin });
                let parameters = Arc::new(Schema::empty());
                return Ok(Self { session: session.clone(), text: whole_text, schema, parameters, run });
            }
            Request::SearchPath(_) | Request::View(_) => {
                let reason = "only queries and subscriptions can be prepared; run the statement itself".to_owned();
                return Err(Error::Refused { what: "preparing SET or a definition".to_owned(), reason });
            }
        };
        let state = session.own_context().state();
        let shape = Shape::of(session, &state, &statement);
        let planned = Planned::new(session, &state, &statement, shape.as_ref(), entry).await?;
        if let LogicalPlan::Statement(Named::Prepare(_) | Named::Execute(_) | Named::Deallocate(_)) =
            &planned.plan.logical
        {
            let reason = "it is about a prepared statement itself; run it as it is".to_owned();
            return Err(Error::Refused { what: "preparing PREPARE, EXECUTE or DEALLOCATE".to_owned(), reason });
        }
        let parameters = match planned.constants.is_empty() {
            true => parameters(&planned.plan.logical)?,
            false => Arc::new(Schema::empty()),
        };
        let schema = match &planned.first {
            Some((answer, _)) => answer.schema(),
            None => result_schema(&state, &planned.plan.logical, &parameters),
        };
        let planned = Arc::new(Mutex::new(planned));
        let run = Opaque::new(Run::Query { statement: Arc::new(*statement), planned });
        Ok(Self { session: session.clone(), text: whole_text, schema, parameters, run })
    }

    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The parameters in their order, named `$1`, `$2`, ...; one whose type the query leaves open is of type Null.
    pub fn parameters(&self) -> SchemaRef {
        Arc::clone(&self.parameters)
    }

    /// The same statement in a step of its caller's own trace: see [`Session::under`].
    pub fn under(&self, parent: Option<TraceParent>) -> Self {
        Self { session: self.session.under(parent), ..self.clone() }
    }

    /// Plans the query with these values, one for each parameter. They become typed literals of the plan, never text.
    pub async fn execute(&self, values: Vec<ScalarValue>) -> Result<Answer> {
        let (entry, tracing) = (self.session.entry(&self.text), self.session.tracing(&self.text));
        match Box::pin(self.executed(values, entry.clone())).await {
            Ok(answer) => Ok(answer.traced(tracing)),
            Err(error) => Err(self.session.recorded(&self.text, error, entry, tracing).await),
        }
    }

    async fn executed(&self, values: Vec<ScalarValue>, entry: Option<Entry>) -> Result<Answer> {
        let wanted = self.parameters.fields().len();
        if values.len() != wanted {
            let what = format!("running the statement with {} values", values.len());
            return Err(Error::Refused { what, reason: format!("it has {wanted} parameters") });
        }
        let (statement, planned) = match &*self.run {
            Run::Query { statement, planned } => (statement, planned),
            Run::Subscribe { view, begin } => return self.session.subscribe(view, *begin, entry).await,
        };
        let (mut plan, constants, first) = {
            let mut planned = planned.lock();
            (planned.plan.clone(), planned.constants.clone(), planned.first.take())
        };
        if plan.is_of_session() {
            return self.session.run(statement.as_ref().clone(), entry).await;
        }
        let state = self.session.own_context().state();
        let mut bound = if constants.is_empty() { values.clone() } else { constants };
        let mut holds = plan.holds(&self.session, &state).await;
        if holds {
            if let Some((answer, _)) = first.filter(|(_, at)| at.elapsed() < FIRST_LIFE) {
                return Ok(answer);
            }
            match plan.answer_from_draft(&self.session, &state, &bound, entry.clone()).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
                Err(error) if is_stale(&error) => holds = false,
                Err(error) => return Err(error),
            }
        }
        if !holds {
            plan = Plan::new(&self.session, &state, statement, entry.clone()).await?;
            bound = values;
            *planned.lock() = Planned { plan: plan.clone(), constants: vec![], first: None };
        }
        match plan.may_leave_draft(&bound) {
            true => plan.answer_leaving_draft(&self.session, &state, bound, entry).await,
            false => plan.answer(&self.session, &state, bound, entry).await,
        }
    }
}

impl Planned {
    async fn new(
        session: &Session,
        state: &SessionState,
        statement: &Statement,
        shape: Option<&Shape>,
        entry: Option<Entry>,
    ) -> Result<Self> {
        if let Some(shape) = shape
            && !shape.has_parameters()
        {
            let learnt = match session.drafts().answer(session, state, shape, entry.clone()).await? {
                Some(learnt) => learnt,
                None => session.drafts().learn(session, state, statement, shape, entry).await?,
            };
            let Learnt { plan, values, answer } = learnt;
            return Ok(Self { plan, constants: values, first: answer.map(|answer| (answer, Instant::now())) });
        }
        if let Some(shape) = shape {
            let plan = match session.drafts().plan(session, state, shape).await {
                Some(plan) => plan,
                None => {
                    let plan = Plan::new(session, state, statement, entry).await?;
                    session.drafts().keep(shape, &plan);
                    plan
                }
            };
            return Ok(Self { plan, constants: vec![], first: None });
        }
        let mut plan = Plan::new(session, state, statement, entry.clone()).await?;
        let mut first = None;
        if parameters(&plan.logical)?.fields().is_empty() && plan.may_leave_draft(&[]) {
            let answer = match plan.answer_leaving_draft(session, state, vec![], entry.clone()).await {
                // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
                Err(error) if is_stale(&error) => {
                    plan = Plan::new(session, state, statement, entry.clone()).await?;
                    plan.answer_leaving_draft(session, state, vec![], entry).await?
                }
                answer => answer?,
            };
            first = Some((answer, Instant::now()));
        }
        Ok(Self { plan, constants: vec![], first })
    }
}

fn result_schema(state: &SessionState, plan: &LogicalPlan, parameters: &SchemaRef) -> SchemaRef {
    // With typed NULLs for parameters the analyzer coerces types as it will with values.
    let values: Vec<ScalarValue> = parameters
        .fields()
        .iter()
        .map(|field| ScalarValue::try_from(field.data_type()).unwrap_or(ScalarValue::Null))
        .collect();
    let bound = plan.clone().with_param_values(ParamValues::from(values));
    let analyzed = bound.and_then(|plan| state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}));
    let schema = analyzed.as_ref().map_or_else(|_| plan.schema(), LogicalPlan::schema);
    Arc::new(schema.as_arrow().clone())
}

/// The parameters as fields `$1` to `$n`, without gaps.
fn parameters(plan: &LogicalPlan) -> Result<SchemaRef> {
    let types = plan.get_parameter_types()?;
    let mut numbers = Vec::with_capacity(types.len());
    for name in types.keys() {
        match name.trim_start_matches('$').parse::<usize>() {
            Ok(number) if number > 0 => numbers.push(number),
            _ => {
                let reason = "parameters are numbered: $1, $2, ... or ?".to_owned();
                return Err(Error::Refused { what: format!("the parameter {name}"), reason });
            }
        }
    }
    let count = numbers.into_iter().max().unwrap_or(0);
    /// More parameters than any client sends; a slip like `$99999999` must not make a schema of that size.
    const MAX_PARAMETERS: usize = 65_535;
    if count > MAX_PARAMETERS {
        let reason = format!("a statement takes at most {MAX_PARAMETERS}");
        return Err(Error::Refused { what: format!("the parameter ${count}"), reason });
    }
    let fields: Vec<Field> = (1..=count)
        .map(|number| {
            let name = format!("${number}");
            let data_type = types.get(&name).cloned().flatten().unwrap_or(DataType::Null);
            Field::new(name, data_type, true)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}
