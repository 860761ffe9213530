//! A session: what one user SETs, and the way from a statement's text to its answer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, SchemaError, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Deallocate, LogicalPlan, Statement as Named};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use headwater_federation::{
    Barrier, Catalog, Draft, DraftSlot, SessionCatalog, Settings, SharedSettings, remove_harmless_barriers,
    source_error,
};
use headwater_source::Error as SourceError;
use parking_lot::Mutex;

use crate::access::enforce::enforce;
use crate::access::reads::reads;
use crate::access::{Enforced, Leave, Read, SessionGuard, Sight};
use crate::audit::Entry;
use crate::drafts::{Drafts, Learnt, Shape};
use crate::governor::Governor;
use crate::opaque::Opaque;
use crate::session_rights::{explanation, kind_of, may_explain, shown};
use crate::statement::{Request, guard_plan, parse};
use crate::template::Template;
use crate::trace::Tracing;
use crate::views::{
    Begin, Demand, Found, Pin, ViewName, ViewStatement, Views, explained, inline_views, parse_query, reads_views,
    subscription_columns, subscription_plan,
};
use crate::{Answer, AuditLog, Caller, Error, Prepared, Result, Stamp, TraceParent};

/// Who asks in a session.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// What they may know and read; `None` where that is everything.
    pub(crate) guard: Option<Arc<SessionGuard>>,
    pub(crate) caller: Caller,
    pub(crate) audit: Option<Arc<AuditLog>>,
}

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

/// A session over an [`Engine`](crate::Engine). Clones share their settings.
#[derive(Clone)]
pub struct Session {
    context: Opaque<SessionContext>,
    asker: Opaque<Asker>,
    catalog: Opaque<Arc<SessionCatalog>>,
    governor: Opaque<Arc<Governor>>,
    views: Opaque<Arc<Views>>,
    settings: SharedSettings,
    /// The step of its caller's own trace in which it asks.
    parent: Option<TraceParent>,
    /// The statements of PREPARE, by name.
    named: Opaque<Mutex<HashMap<String, Statement>>>,
    drafts: Arc<Drafts>,
    /// Whether what it plans is what any session of its options and its caller would plan.
    is_plain: Arc<AtomicBool>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("settings", &*self.settings.read()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        template: &Template,
        views: &Arc<Views>,
        settings: Settings,
        asker: Asker,
    ) -> Self {
        let shared = SharedSettings::new(settings.clone().into());
        let catalog = SessionCatalog::new(catalog, Arc::clone(&shared), asker.guard.clone().map(|guard| guard as _));
        let mut state = template.state(&settings);
        state.register_catalog_list(Arc::clone(&catalog) as _);
        Self {
            context: Opaque::new(SessionContext::new_with_state(state)),
            asker: Opaque::new(asker),
            catalog: Opaque::new(catalog),
            governor: Opaque::new(Arc::clone(&template.governor)),
            views: Opaque::new(Arc::clone(views)),
            settings: shared,
            parent: None,
            named: Opaque::new(Mutex::default()),
            drafts: Arc::clone(&template.drafts),
            is_plain: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The same session in a step of its caller's own trace, where the engine has an observer: what is asked in it is part of that. A statement whose text carries one is part of
    /// that of its text.
    pub fn under(&self, parent: Option<TraceParent>) -> Self {
        Self { parent, ..self.clone() }
    }

    /// The DataFusion context behind the session, for what a program wants to add: functions, rules. A plan that is made with it over tables of which the session's
    /// caller may read a part does not run: what may be read is decided by [`Session::sql`].
    pub fn context(&self) -> &SessionContext {
        self.is_plain.store(false, Ordering::Relaxed);
        &self.context
    }

    pub(crate) fn own_context(&self) -> &SessionContext {
        &self.context
    }

    /// What the engine's sessions share of what they planned.
    pub(crate) fn drafts(&self) -> &Drafts {
        &self.drafts
    }

    /// Whether it shares what it plans.
    pub(crate) fn shares_drafts(&self) -> bool {
        self.is_plain.load(Ordering::Relaxed)
    }

    /// Plans one statement. SET takes effect at once; a query runs when its answer is read.
    pub async fn sql(&self, text: &str) -> Result<Answer> {
        let (entry, tracing) = (self.entry(text), self.tracing(text));
        // Boxed: planning is a large future, which every future that waits for it would hold.
        match Box::pin(self.sql_as(text, entry.clone())).await {
            Ok(answer) => Ok(answer.traced(tracing)),
            Err(error) => Err(self.recorded(text, error, entry, tracing).await),
        }
    }

    async fn sql_as(&self, text: &str, entry: Option<Entry>) -> Result<Answer> {
        match parse(text)? {
            Request::SearchPath(path) => {
                self.set_search_path(path)?;
                let decided = Decided { kind: "set", ..Decided::default() };
                let nothing = Admitted { plan: LogicalPlan::EmptyRelation(nothing()), decided };
                self.answer(&self.context.state(), nothing).await
            }
            Request::View(ViewStatement::Subscribe { name, begin }) => self.subscribe(&name, begin, entry).await,
            Request::View(ViewStatement::Explain { name }) => {
                self.may_know_view(&name)?;
                self.answer_rows(self.views.shared().explain(&name).await?)
            }
            Request::View(statement) => {
                let done = self.define(statement, entry).await?;
                self.answer_rows(done.rows()?)
            }
            Request::Plan(statement) => self.run(*statement, entry).await,
        }
    }

    /// An endless answer: what epochs do to a view.
    pub(crate) async fn subscribe(&self, name: &ViewName, begin: Begin, entry: Option<Entry>) -> Result<Answer> {
        self.views.shared().await_return(&[TableReference::partial(name.schema.as_str(), name.name.as_str())]).await?;
        let leave = self.leave();
        let columns = self.may_subscribe(name)?.fields().iter().map(|field| field.name().clone()).collect();
        let demand = Demand::of(&self.settings.read());
        let plan = subscription_plan(&self.views, name, begin, &demand).await?;
        let read = Read { schema: name.schema.clone(), table: name.name.clone(), columns };
        let entry = entry.map(|entry| entry.reading("subscribe", vec![read]));
        let answer = Answer::endless(plan, TaskContext::from(&self.context.state()), &self.governor);
        Ok(answer.decided(leave, entry).of("subscribe"))
    }

    /// The columns of such an answer.
    pub(crate) fn subscription_columns(&self, name: &ViewName) -> Result<SchemaRef> {
        subscription_columns(name, &self.may_subscribe(name)?)
    }

    /// An answer of rows that are there already.
    fn answer_rows(&self, rows: RecordBatch) -> Result<Answer> {
        let state = self.context.state();
        let schema = rows.schema();
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], schema, None)?;
        Ok(Answer::new(plan, TaskContext::from(&state), &self.governor, self.settings.read().deadline()))
    }

    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }

    pub(crate) fn guard(&self) -> Option<&Arc<SessionGuard>> {
        self.asker.guard.as_ref()
    }

    pub(crate) fn shared_catalog(&self) -> &Arc<Catalog> {
        self.catalog.catalog()
    }

    pub(crate) fn shared_views(&self) -> &Arc<crate::views::Shared> {
        self.views.shared()
    }

    pub(crate) fn next_query(&self) -> u64 {
        self.governor.next_query()
    }

    /// A statement of this text, asked now, on its way to the engine's observer; `None` where there is none.
    pub(crate) fn tracing(&self, text: &str) -> Option<Tracing> {
        let observer = self.governor.observer()?;
        Some(Tracing::new(observer, &self.asker.caller, TraceParent::of_statement(text).or(self.parent)))
    }

    /// A session with the same settings that sees everything, for what the engine does by itself.
    pub(crate) fn trusted(&self) -> Self {
        self.beside(self.search_path())
    }

    pub(crate) fn search_path(&self) -> Vec<String> {
        self.settings.read().search_path.clone()
    }

    /// Looks names up along this path, whether or not each of its schemas is there.
    pub(crate) fn use_search_path(&self, path: Vec<String>) {
        self.settings.write().search_path = path;
    }

    /// Plans a query with parameters (`$1` or `?`), whose types are taken from where they stand.
    pub async fn prepare(&self, text: &str) -> Result<Prepared> {
        Prepared::new(self, text).await
    }

    async fn run(&self, statement: Statement, entry: Option<Entry>) -> Result<Answer> {
        let state = self.context.state();
        if let Some(shape) = Shape::of(self, &state, &statement) {
            let kept = self.drafts.answer(self, &state, &shape, entry.clone()).await?;
            if let Some(Learnt { answer: Some(answer), .. }) = kept {
                return Ok(answer);
            }
            if self.drafts.wants(&shape) {
                let Learnt { plan, values, answer } =
                    self.drafts.learn(self, &state, &statement, &shape, entry.clone()).await?;
                let answered = match answer {
                    Some(answer) => Ok(answer),
                    None => plan.answer(self, &state, values, entry.clone()).await,
                };
                if !answered.as_ref().is_err_and(is_stale) {
                    return answered;
                }
            }
        }
        let mut admitted = self.admit(&state, &statement, entry.clone()).await?;
        match &admitted.plan {
            LogicalPlan::Statement(Named::Prepare(prepare)) => {
                self.named.lock().insert(prepare.name.clone(), statement.clone());
            }
            LogicalPlan::Statement(Named::Execute(execute)) => {
                if let Some(decided) = self.prepare_anew(&execute.name, entry.clone()).await? {
                    admitted.decided = decided;
                }
            }
            LogicalPlan::Statement(Named::Deallocate(deallocate)) => {
                self.named.lock().remove(&deallocate.name);
            }
            _ => {}
        }
        match self.answer(&state, admitted).await {
            // The table's description was older than the table: it is forgotten by now, so this plans with the new one.
            Err(error) if is_stale(&error) => self.answer(&state, self.admit(&state, &statement, entry).await?).await,
            other => other,
        }
    }

    /// Plans a statement of PREPARE again before it is executed: tables may have changed since, and so may the settings.
    async fn prepare_anew(&self, name: &str, entry: Option<Entry>) -> Result<Option<Decided>> {
        let Some(statement) = self.named.lock().get(name).cloned() else { return Ok(None) };
        let Admitted { plan, decided } = self.admit(&self.context.state(), &statement, entry).await?;
        let old = LogicalPlan::Statement(Named::Deallocate(Deallocate { name: name.to_owned() }));
        self.context.execute_logical_plan(old).await?;
        self.context.execute_logical_plan(plan).await?;
        Ok(Some(decided))
    }

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
            return Ok(Admitted { plan, decided: Decided { entry, kind, ..Decided::default() } });
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

    /// A session of the same engine with another search path, which sees everything: what is done in it is the engine's own work.
    fn beside(&self, search_path: Vec<String>) -> Self {
        let settings = Settings { search_path, ..self.settings.read().clone() };
        let shared = SharedSettings::new(settings.clone().into());
        let catalog = SessionCatalog::new(Arc::clone(self.catalog.catalog()), Arc::clone(&shared), None);
        let mut state = self.context.state();
        state.config_mut().options_mut().extensions.insert(settings);
        state.register_catalog_list(Arc::clone(&catalog) as _);
        Self {
            context: Opaque::new(SessionContext::new_with_state(state)),
            asker: Opaque::new(Asker { guard: None, caller: self.asker.caller.clone(), audit: None }),
            catalog: Opaque::new(catalog),
            settings: shared,
            governor: self.governor.clone(),
            views: self.views.clone(),
            parent: None,
            named: Opaque::new(Mutex::default()),
            drafts: Arc::clone(&self.drafts),
            // It plans once.
            is_plain: Arc::new(AtomicBool::new(false)),
        }
    }

    fn set_search_path(&self, path: Vec<String>) -> Result<()> {
        let known = self.catalog.seen_schemas();
        if let Some(strange) = path.iter().find(|name| !known.contains(name)) {
            let hint = headwater_source::nearest(strange, known.iter().map(String::as_str))
                .map(|name| format!("; did you mean \"{name}\"?"))
                .unwrap_or_default();
            let reason = format!("there is no service \"{strange}\"{hint}");
            return Err(Error::Refused { what: "SET search_path".to_owned(), reason });
        }
        let state = self.context.state_ref();
        let mut state = state.write();
        if let Some(settings) = state.config_mut().options_mut().extensions.get_mut::<Settings>() {
            settings.search_path.clone_from(&path);
        }
        self.settings.write().search_path = path;
        Ok(())
    }

    fn refresh_settings(&self) {
        let state = self.context.state();
        if let Some(settings) = state.config_options().extensions.get::<Settings>() {
            *self.settings.write() = settings.clone();
        }
    }

    /// Forgets the descriptions of these tables; whether there was any to forget.
    fn forget(&self, names: &[TableReference]) -> bool {
        let mut forgot = false;
        for name in names {
            let schemas = match name.schema() {
                Some(schema) => vec![schema.to_owned()],
                None => self.settings.read().search_path.clone(),
            };
            for schema in schemas {
                if let Some(service) = self.catalog.catalog().service(&schema)
                    && service.last_seen(name.table()).is_some()
                {
                    service.forget(name.table());
                    forgot = true;
                }
            }
        }
        forgot
    }

    /// An unqualified name that the search path does not hold gets an error that says where it would be found.
    async fn explained(&self, error: DataFusionError, names: &[TableReference]) -> Error {
        if source_error(&error).is_some()
            || !matches!(error.find_root(), DataFusionError::Plan(message) if message.starts_with("table '"))
        {
            return error.into();
        }
        for name in names.iter().filter(|name| name.schema().is_none()) {
            if self.context.table_provider(name.clone()).await.is_ok() {
                continue;
            }
            return DataFusionError::Plan(self.where_to_find(name.table())).into();
        }
        for name in names {
            let Some(schema) = name.schema() else { continue };
            let known = self.catalog.seen_schemas();
            if !known.iter().any(|known| known == schema) && schema != "information_schema" {
                let hint = hint(schema, &known);
                return DataFusionError::Plan(format!(
                    "table '{name}' not found: there is no service \"{schema}\"{hint}"
                ))
                .into();
            }
            if self.catalog.catalog().service(schema).is_some()
                && matches!(self.catalog.table(schema, name.table()).await, Ok(None))
            {
                let hint = hint(name.table(), &self.catalog.seen_tables(schema));
                let message = format!(
                    "table '{name}' not found: service \"{schema}\" does not publish \"{}\"{hint}",
                    name.table()
                );
                return DataFusionError::Plan(message).into();
            }
        }
        error.into()
    }

    fn where_to_find(&self, table: &str) -> String {
        let path = self.settings.read().search_path.join(", ");
        let path =
            if path.is_empty() { "search_path is empty".to_owned() } else { format!("not in search_path ({path})") };
        match &self.catalog.seen_schemas_with(table)[..] {
            [] => format!("table '{table}' not found: {path}; write service.table or SET search_path"),
            [first, ..] => {
                format!("table '{table}' not found: {path}; write {first}.{table} or SET search_path = {first}")
            }
        }
    }
}

fn nothing() -> datafusion::logical_expr::EmptyRelation {
    datafusion::logical_expr::EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) }
}

fn hint(name: &str, known: &[String]) -> String {
    headwater_source::nearest(name, known.iter().map(String::as_str))
        .map(|name| format!("; did you mean \"{name}\"?"))
        .unwrap_or_default()
}

pub(crate) fn is_stale(error: &Error) -> bool {
    matches!(error.source_error(), Some(SourceError::SchemaChanged { .. }))
}

fn is_unknown_column(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }))
}
