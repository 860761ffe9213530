//! A session: what one user SETs, and what becomes of a statement that they ask.

mod names;
mod planning;
mod rights;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Deallocate, LogicalPlan, Statement as Named};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use headwater_federation::{Catalog, SessionCatalog, Settings, SharedSettings};
use headwater_source::Error as SourceError;
use parking_lot::Mutex;

pub(crate) use planning::{Admitted, Decided};

use crate::access::{Read, SessionGuard};
use crate::audit::Entry;
use crate::drafts::{Drafts, Learnt, Shape};
use crate::governor::Governor;
use crate::opaque::Opaque;
use crate::statement::{Request, parse};
use crate::template::Template;
use crate::trace::Tracing;
use crate::views::{Begin, Demand, ViewName, ViewStatement, Views, subscription_columns, subscription_plan};
use crate::{Answer, AuditLog, Caller, Error, Prepared, Result, TraceParent};

/// Who asks in a session.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// What they may know and read; `None` where that is everything.
    pub(crate) guard: Option<Arc<SessionGuard>>,
    pub(crate) caller: Caller,
    pub(crate) audit: Option<Arc<AuditLog>>,
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
                let plan = LogicalPlan::EmptyRelation(nothing());
                let nothing = Admitted { plan, decided: Decided::kind("set") };
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

    pub(crate) async fn run(&self, statement: Statement, entry: Option<Entry>) -> Result<Answer> {
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

    fn refresh_settings(&self) {
        let state = self.context.state();
        if let Some(settings) = state.config_options().extensions.get::<Settings>() {
            *self.settings.write() = settings.clone();
        }
    }
}

fn nothing() -> datafusion::logical_expr::EmptyRelation {
    datafusion::logical_expr::EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) }
}

pub(crate) fn is_stale(error: &Error) -> bool {
    matches!(error.source_error(), Some(SourceError::SchemaChanged { .. }))
}
