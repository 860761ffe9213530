//! Statements that are planned once and run with values for their parameters.
//!
//! What was planned is kept while it is what planning anew would give: the session's options are the same, and every table that the
//! plan reads is still described as it was. A statement without parameters is planned to the end when it is prepared, and its first
//! execution runs that very plan; a client that prepares whatever it runs, as most drivers do, pays for one plan. Later executions run
//! plans that are made from the first one's draft ([`headwater_federation::Draft`]), until it is so old that the sources' statistics may be
//! others; where the statement allows it, with other values too (`generic.rs`). A plan is of one session and so of one caller, and is made anew once their rights are others.
//!
//! Invariant: a physical plan runs once. A plan in which the time of the query is folded in (`now()`) is not kept: each execution has
//! a time of its own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
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
use crate::opaque::Opaque;
use crate::session::{Admitted, Decided, is_stale};
use crate::statement::{Request, parse};
use crate::views::{Begin, ViewName, ViewStatement, reads_views};
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

/// What planning gave, and what it depends on.
#[derive(Clone)]
struct Plan {
    logical: LogicalPlan,
    /// For whom it was planned, and what they may read.
    decided: Decided,
    /// Held, so that a session that changes its options changes a copy of these.
    options: Arc<ConfigOptions>,
    tables: Vec<(TableReference, Arc<dyn TableProvider>)>,
    /// What further executions are planned from.
    draft: Arc<Mutex<Option<Kept>>>,
    /// Whether a draft serves other values than those that it was planned with.
    is_generic: bool,
}

/// A draft, the values that it was planned with, and when.
#[derive(Clone)]
struct Kept {
    draft: Draft,
    values: Vec<ScalarValue>,
    since: Instant,
}

struct Planned {
    plan: Plan,
    first: Option<(Answer, Instant)>,
}

/// How long the plan of the first execution is kept for it. Drivers execute what they prepare at once.
const FIRST_LIFE: Duration = Duration::from_secs(30);

/// How long a draft is used: what it was chosen by, as the number of a table's rows, changes slowly.
const DRAFT_LIFE: Duration = Duration::from_secs(60);

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = match &*self.run {
            Run::Query { planned, .. } => planned.lock().plan.draft.lock().is_some(),
            Run::Subscribe { .. } => false,
        };
        f.debug_struct("Prepared").field("parameters", &self.parameters).field("draft", &draft).finish_non_exhaustive()
    }
}

impl Prepared {
    pub(crate) async fn new(session: &Session, text: &str) -> Result<Self> {
        let (entry, tracing) = (session.entry(text), session.tracing(text));
        // Each execution says by itself which trace it is part of.
        match Self::planned(&session.under(None), text, entry.clone()).await {
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
        let state = session.context().state();
        let mut plan = Plan::new(session, &state, &statement, entry.clone()).await?;
        let parameters = parameters(&plan.logical)?;
        let mut first = None;
        if parameters.fields().is_empty() && can_wait(&plan.logical) {
            first = match plan.answer_with(session, &state, vec![]).await {
                // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
                Err(error) if is_stale(&error) => {
                    plan = Plan::new(session, &state, &statement, entry).await?;
                    Some(plan.answer_with(session, &state, vec![]).await?)
                }
                answer => Some(answer?),
            };
        }
        let schema = first.as_ref().map_or_else(|| result_schema(&state, &plan.logical, &parameters), Answer::schema);
        let planned = Planned { plan, first: first.map(|answer| (answer, Instant::now())) };
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
        match self.executed(values, entry.clone()).await {
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
        let (mut plan, first) = {
            let mut planned = planned.lock();
            (planned.plan.clone(), planned.first.take())
        };
        let state = self.session.context().state();
        if plan.holds(&self.session, &state).await {
            if let Some((answer, _)) = first.filter(|(_, at)| at.elapsed() < FIRST_LIFE) {
                return Ok(answer);
            }
            if let Some(answer) = plan.answer_from_draft(&self.session, &state, &values).await? {
                return Ok(answer);
            }
        } else {
            plan = Plan::new(&self.session, &state, statement, entry).await?;
            planned.lock().plan = plan.clone();
        }
        let leaves_draft =
            if values.is_empty() { can_wait(&plan.logical) } else { plan.is_generic && are_distinct(&values) };
        if leaves_draft {
            return plan.answer_with(&self.session, &state, values).await;
        }
        let bound = plan.logical.with_param_values(ParamValues::from(values))?;
        self.session.answer(&state, Admitted { plan: bound, decided: plan.decided }).await
    }
}

impl Plan {
    async fn new(session: &Session, state: &SessionState, statement: &Statement, entry: Option<Entry>) -> Result<Self> {
        let Admitted { plan: logical, decided } = session.admit(state, statement, entry).await?;
        let tables = tables(&logical)?;
        let options = Arc::clone(state.config().options());
        let is_generic = can_wait(&logical) && is_generic(&logical)?;
        Ok(Self { logical, decided, options, tables, draft: Arc::default(), is_generic })
    }

    /// An answer, whose draft is kept.
    async fn answer_with(&self, session: &Session, state: &SessionState, values: Vec<ScalarValue>) -> Result<Answer> {
        let since = Instant::now();
        let plan = match values.is_empty() {
            true => self.logical.clone(),
            false => self.logical.clone().with_param_values(ParamValues::from(values.clone()))?,
        };
        let (answer, draft) =
            session.answer_leaving_draft(state, Admitted { plan, decided: self.decided.clone() }).await?;
        let draft = match draft {
            Some(draft) if values.is_empty() || draft.takes(&values)? => Some(draft),
            _ => None,
        };
        *self.draft.lock() = draft.map(|draft| Kept { draft, values, since });
        Ok(answer)
    }

    /// An answer that is planned from the draft, where there is one that serves these values.
    async fn answer_from_draft(
        &self,
        session: &Session,
        state: &SessionState,
        values: &[ScalarValue],
    ) -> Result<Option<Answer>> {
        let kept = self.draft.lock().clone();
        let Some(Kept { draft, values: planned, .. }) = kept.filter(|kept| kept.since.elapsed() < DRAFT_LIFE) else {
            return Ok(None);
        };
        let types = |values: &[ScalarValue]| values.iter().map(ScalarValue::data_type).collect::<Vec<_>>();
        if values.iter().any(ScalarValue::is_null) || types(values) != types(&planned) {
            return Ok(None);
        }
        let plan = match values.is_empty() {
            true => Some(draft.plan(state)?),
            false => draft.plan_with(state, &planned, values).await?,
        };
        Ok(plan.map(|plan| session.answer_planned(state, plan, self.decided.clone())))
    }

    /// Whether planning anew would give the same. Descriptions that are old are asked for again.
    async fn holds(&self, session: &Session, state: &SessionState) -> bool {
        if !Arc::ptr_eq(&self.options, state.config().options()) {
            return false;
        }
        // What was decided for rights that were taken back serves nobody.
        if self.decided.leave.as_ref().is_some_and(|leave| !leave.holds()) {
            return false;
        }
        for (name, planned) in &self.tables {
            match session.context().table_provider(name.clone()).await {
                Ok(now) if is_same(planned, &now) => {}
                // What is wrong is told by the plan that is made now.
                _ => return false,
            }
        }
        true
    }
}

fn is_same(planned: &Arc<dyn TableProvider>, now: &Arc<dyn TableProvider>) -> bool {
    let now = unguarded(now);
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
