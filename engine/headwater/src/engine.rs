//! The engine: services opened once and shared by all sessions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::TableType;
use futures::future::join_all;
use headwater_federation::{Catalog, ConnectionsOn, Published, QueryDeadline, Service, Settings, Tables};
use headwater_source::{Connector, Error as SourceError, OpenContext, ServiceName, Source, TableDef, TableKind};
use tokio::runtime::Handle;
use tracing::warn;

use crate::access::{ACCESS_FILE, Access, Otherwise, SessionGuard, is_there};
use crate::governor::Governor;
use crate::manifest::{Fault, INTERVAL_SECONDS, Manifest, POLL_MODE, Publishes, read_directory};
use crate::opaque::Opaque;
use crate::session::Asker;
use crate::template::Template;
use crate::views::{Begin, SYSTEM_SCHEMA, Subscription, ViewFiles, ViewName, ViewOptions, ViewPlan, ViewStep, Views};
use crate::{Answer, AuditLog, Caller, Error, Limits, Metrics, QueryObserver, Result, Session};

/// Services, opened and ready to be asked. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Engine {
    catalog: Opaque<Arc<Catalog>>,
    template: Opaque<Arc<Template>>,
    views: Opaque<Arc<Views>>,
    search_path: Vec<String>,
    deadline: QueryDeadline,
    view_files: Option<PathBuf>,
    access: Opaque<Arc<Access>>,
    audit: Option<Arc<AuditLog>>,
}

/// An engine that a task of its own can come back to without keeping it alive.
#[derive(Debug, Clone)]
pub(crate) struct WeakEngine {
    catalog: Arc<Catalog>,
    template: Arc<Template>,
    views: Weak<Views>,
    search_path: Vec<String>,
    deadline: QueryDeadline,
    view_files: Option<PathBuf>,
    access: Arc<Access>,
    audit: Option<Arc<AuditLog>>,
}

impl WeakEngine {
    /// The engine; `None` once it has ended.
    pub(crate) fn upgrade(&self) -> Option<Engine> {
        Some(Engine {
            catalog: Opaque::new(Arc::clone(&self.catalog)),
            template: Opaque::new(Arc::clone(&self.template)),
            views: Opaque::new(self.views.upgrade()?),
            search_path: self.search_path.clone(),
            deadline: self.deadline,
            view_files: self.view_files.clone(),
            access: Opaque::new(Arc::clone(&self.access)),
            audit: self.audit.clone(),
        })
    }
}

/// Collects what an [`Engine`] is made of.
#[derive(Debug, Default)]
pub struct EngineBuilder {
    directories: Vec<PathBuf>,
    connectors: Vec<Arc<dyn Connector>>,
    sources: Vec<(String, Arc<dyn Source>, Tables)>,
    search_path: Vec<String>,
    limits: Limits,
    views: ViewOptions,
    view_files: Option<PathBuf>,
    access_file: Option<PathBuf>,
    otherwise: Otherwise,
    audit: Option<Arc<AuditLog>>,
    observer: Option<Arc<dyn QueryObserver>>,
    connections: Option<ConnectionsOn>,
}

/// A table as the catalog lists it.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// The service: its schema in SQL.
    pub service: String,
    /// The table's name in SQL.
    pub name: String,
    /// `BASE TABLE` or `VIEW`.
    pub kind: &'static str,
    /// The columns; `None` while the service was never reached.
    pub schema: Option<SchemaRef>,
    /// The primary key's columns, where the source or the manifest declares one.
    pub key: Option<Vec<String>>,
    /// The source's comment.
    pub comment: Option<String>,
}

impl EngineBuilder {
    /// Opens the services of a directory of manifests. May be given more than once. The file `access.yaml` in it, where there is one, says what callers may
    /// read ([`Engine::session_as`]).
    pub fn services_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directories.push(directory.into());
        self
    }

    /// The connectors that manifests may name; usually `headwater_connectors::all()`.
    pub fn connectors(mut self, connectors: impl IntoIterator<Item = Arc<dyn Connector>>) -> Self {
        self.connectors.extend(connectors);
        self
    }

    /// A service of the program's own, without a manifest.
    pub fn source(mut self, service: impl Into<String>, source: Arc<dyn Source>, tables: Tables) -> Self {
        self.sources.push((service.into(), source, tables));
        self
    }

    /// The services in which new sessions look up unqualified table names, in order.
    pub fn search_path<S: Into<String>>(mut self, services: impl IntoIterator<Item = S>) -> Self {
        self.search_path = services.into_iter().map(Into::into).collect();
        self
    }

    /// What the engine may take of its machine and of its sources; otherwise the default limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How materialized views are kept; otherwise the defaults, without a state directory.
    pub fn views(mut self, views: ViewOptions) -> Self {
        self.views = views;
        self
    }

    /// Keeps the materialized views that the files `views/*.sql` of a services directory define: those, and what SQL defines besides.
    pub fn view_files(mut self, services: impl Into<PathBuf>) -> Self {
        self.view_files = Some(services.into());
        self
    }

    /// Takes what callers may read from this file, and not from one in a directory of manifests.
    pub fn access_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.access_file = Some(file.into());
        self
    }

    /// Lets callers read nothing where there is no access file. Otherwise they read everything then.
    pub fn deny_by_default(mut self) -> Self {
        self.otherwise = Otherwise::Denied;
        self
    }

    /// Records in this log who reads what.
    pub fn audit(mut self, log: Arc<AuditLog>) -> Self {
        self.audit = Some(log);
        self
    }

    /// Tells this observer of each statement once it is over.
    pub fn observer(mut self, observer: Arc<dyn QueryObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Opens the connections of queries to their sources on this runtime, which must live as long as the engine; otherwise each is opened on
    /// the runtime of the query that needs it first. Whoever runs queries on several runtimes wants this: a source's connections serve one
    /// query after the other, and a socket is told of what came by the runtime that it was opened on.
    pub fn connections_on(mut self, runtime: Handle) -> Self {
        self.connections = Some(ConnectionsOn(runtime));
        self
    }

    /// Opens everything. Nothing is connected yet: a service that is down fails the queries that need it, and no others.
    ///
    /// # Errors
    /// [`Error::Manifests`] with every fault of every manifest; a name in the search path that is no service; a limit that can't be met.
    pub async fn build(self) -> Result<Engine> {
        let (mut services, mut faults, intervals) = self.open_directories();
        let files = self.view_files.as_deref().map(ViewFiles::read).transpose();
        let files = files.unwrap_or_else(|wrong| {
            faults.extend(wrong);
            None
        });
        let access = self.chosen_access_file().and_then(|file| Access::open(file, self.otherwise));
        let access = access.map_err(|wrong| faults.extend(wrong));
        let (Ok(access), true) = (access, faults.is_empty()) else { return Err(Error::Manifests(faults)) };
        for (name, source, tables) in self.sources {
            services.push(Service::new(ServiceName::parse(&name)?, source, tables));
        }
        let mut names: Vec<&ServiceName> = services.iter().map(|service| service.name()).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SourceError::config(format!("service \"{}\" is defined twice", pair[0])).into());
        }
        let catalog = Catalog::new(services);
        let mut views = self.views;
        views.poll_intervals.extend(intervals);
        let engine = Engine {
            views: Opaque::new(Views::open(Arc::clone(&catalog), views, self.limits.view_memory_bytes)?),
            catalog: Opaque::new(catalog),
            template: Opaque::new(Arc::new(Template::new(Governor::new(
                &self.limits,
                self.observer,
                self.connections,
            )?))),
            search_path: self.search_path,
            deadline: QueryDeadline(self.limits.query_deadline),
            view_files: self.view_files,
            access: Opaque::new(access),
            audit: self.audit,
        };
        engine.views.shared().register_system_tables()?;
        engine.check_search_path()?;
        engine.views.start(&engine, files.as_ref())?;
        Ok(engine)
    }

    /// The access file: the one that was named, or the one of the directories that there is.
    fn chosen_access_file(&self) -> Result<Option<PathBuf>, Vec<Fault>> {
        let fault =
            |file: &Path, message: String| vec![Fault { file: file.to_owned(), line: 0, key: String::new(), message }];
        if let Some(file) = &self.access_file {
            return match is_there(file) {
                true => Ok(Some(file.clone())),
                false => Err(fault(file, "does not exist".to_owned())),
            };
        }
        let files: Vec<PathBuf> = self.directories.iter().map(|directory| directory.join(ACCESS_FILE)).collect();
        let there: Vec<&PathBuf> = files.iter().filter(|file| is_there(file)).collect();
        match &there[..] {
            [] => Ok(files.first().cloned()),
            [one] => Ok(Some((*one).clone())),
            [one, other, ..] => Err(fault(other, format!("there is one in {} already; keep one", one.display()))),
        }
    }

    fn open_directories(&self) -> (Vec<Arc<Service>>, Vec<Fault>, BTreeMap<String, Duration>) {
        let (mut services, mut faults, mut intervals) = (Vec::new(), Vec::new(), BTreeMap::new());
        for directory in &self.directories {
            let (manifests, wrong) = read_directory(directory, &self.connectors, &|name| std::env::var(name).ok());
            faults.extend(wrong);
            for manifest in manifests {
                if let Some(feed) = manifest.feed.as_ref().filter(|feed| feed.mode == POLL_MODE) {
                    let interval = Duration::from_secs(feed.options.count(INTERVAL_SECONDS, 1));
                    intervals.insert(manifest.service.to_string(), interval);
                }
                match open(&manifest, &self.connectors) {
                    Ok(service) => services.push(service),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        (services, faults, intervals)
    }
}

impl Engine {
    /// Starts an engine without services.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// A new session with the engine's defaults. It is the program's own: it reads everything, whatever the access file says. For somebody else
    /// there is [`Engine::session_as`].
    pub fn session(&self) -> Session {
        self.new_session(self.search_path.clone(), None, Caller::anyone())
    }

    /// A new session for somebody who asks the program: it reads what the access file grants them, and knows of nothing else. Without an access file it reads
    /// everything, or nothing where the engine was built so ([`EngineBuilder::deny_by_default`]). What is granted is asked anew with every statement.
    ///
    /// ```
    /// # let rt = tokio::runtime::Runtime::new()?;
    /// # rt.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// # std::fs::write(dir.path().join("orders.csv"), "id,seller,total\n1,ada,20\n2,bob,5\n")?;
    /// # std::fs::write(dir.path().join("orders.yaml"), "service: orders\nsource: {connector: files, url: ./}\npublishes: {orders: {from: orders.csv}}\n")?;
    /// # let services = dir.path();
    /// use headwater::{Caller, Engine};
    ///
    /// std::fs::write(
    ///     services.join("access.yaml"),
    ///     r#"roles: {sellers: {members: ["*"], grants: [{service: orders, tables: [orders], rows: "seller = current_user"}]}}"#,
    /// )?;
    /// let engine = Engine::builder().services_dir(services).connectors(headwater_connectors::all()).build().await?;
    /// let batches = engine.session_as(&Caller::user("ada")).sql("SELECT id FROM orders.orders").await?.collect().await?;
    /// assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn session_as(&self, caller: &Caller) -> Session {
        let guard = SessionGuard::new(&self.access, caller.clone(), &self.catalog);
        let mut search_path = self.search_path.clone();
        search_path.retain(|schema| headwater_federation::Guard::sees_schema(guard.as_ref(), schema));
        self.new_session(search_path, Some(guard), caller.clone())
    }

    fn new_session(&self, search_path: Vec<String>, guard: Option<Arc<SessionGuard>>, caller: Caller) -> Session {
        let settings = Settings { search_path, query_deadline_max: self.deadline, ..Settings::default() };
        let asker = Asker { guard, caller, audit: self.audit.clone() };
        Session::new(Arc::clone(&self.catalog), &self.template, &self.views, settings, asker)
    }

    /// Whether a caller may read [`Engine::metrics`], which name services and views: an access file says so of a role with `monitors: true`.
    pub fn may_monitor(&self, caller: &Caller) -> bool {
        self.access.rights(caller).is_none_or(|rights| rights.monitors())
    }

    /// Reads the access file again where its text has changed; whether it had. It is in force with the next statement, also of sessions and of prepared statements that there are.
    ///
    /// # Errors
    /// [`Error::Manifests`] with every fault of the file, once for each text; what was in force before stays so.
    pub fn reload_access(&self) -> Result<bool> {
        self.access.reload()
    }

    /// Plans one statement in a session of its own.
    pub async fn sql(&self, text: &str) -> Result<Answer> {
        self.session().sql(text).await
    }

    /// Registers a table of the program itself as `schema.name`, in a schema that no service has.
    pub fn register_table(&self, schema: &str, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        Ok(self.catalog.register_local(&ServiceName::parse(schema)?, name, table)?)
    }

    /// Reads the files of views again and brings the views to what they define. Does nothing where the engine was built without
    /// [`EngineBuilder::view_files`].
    ///
    /// # Errors
    /// [`Error::Manifests`] with every fault of the files; then nothing is changed. A view that can't be made; what came before it is done.
    pub async fn reload_views(&self) -> Result<ViewPlan> {
        let Some(services) = &self.view_files else { return Ok(ViewPlan::default()) };
        let plan = self.plan_views(&ViewFiles::read(services).map_err(Error::Manifests)?)?;
        let session = self.session();
        for (view, sql) in &plan.statements {
            session.sql(sql).await.map_err(|error| match plan.step(&view.to_string()).and_then(ViewStep::place) {
                Some((file, line)) => {
                    let message = error.report();
                    Error::Manifests(vec![Fault { file, line, key: view.to_string(), message }])
                }
                None => error,
            })?;
        }
        Ok(plan)
    }

    /// What would change were the views brought to what files define.
    ///
    /// # Errors
    /// [`Error::Manifests`] where that can't be, since views that were made by SQL stand in the way.
    pub fn plan_views(&self, files: &ViewFiles) -> Result<ViewPlan> {
        files.plan(&self.views.shared().known_views()).map_err(Error::Manifests)
    }

    /// Follows a materialized view, `schema.name`: all of its rows now, and then what each epoch changes.
    ///
    /// # Errors
    /// There is no such view.
    pub fn subscribe(&self, view: &str) -> Result<Subscription> {
        self.subscribe_at(view, Begin::Snapshot)
    }

    /// Follows what each epoch from now on changes in a materialized view, without the rows that it has.
    ///
    /// # Errors
    /// There is no such view.
    pub fn subscribe_to_changes(&self, view: &str) -> Result<Subscription> {
        self.subscribe_at(view, Begin::Changes)
    }

    /// Follows a materialized view from where you like: what every epoch changes that comes after [`Begin`], with or without rows to begin with.
    ///
    /// # Errors
    /// There is no such view. What changed since the wanted epoch is not held any more (its kind is
    /// [`HistoryGone`](crate::ErrorKind::HistoryGone)): begin with a snapshot. The engine takes no more subscriptions.
    pub fn subscribe_at(&self, view: &str, begin: Begin) -> Result<Subscription> {
        Subscription::begin(&self.views, &ViewName::parse(view)?, begin)
    }

    /// Stores the state of the materialized views now and lets their sources forget what is stored; without a state directory, nothing.
    pub async fn checkpoint(&self) -> Result<()> {
        self.views.shared().checkpoint().await
    }

    /// What the engine has done and how it stands. Asks no source.
    pub async fn metrics(&self) -> Metrics {
        let (feeds, views) = self.views.shared().metrics().await;
        Metrics { feeds, views, ..self.template.governor().metrics() }
    }

    /// The materialized views: schema, name, and the query that defines each.
    pub fn materialized_views(&self) -> Vec<(String, String, String)> {
        self.views.shared().defined(None)
    }

    /// The services' names, in order.
    pub fn services(&self) -> Vec<String> {
        self.catalog.services().map(|service| service.name().to_string()).collect()
    }

    /// Every published table. Services that were not asked yet are asked now, all at once; of one that is down the tables
    /// that its manifest names are listed without columns.
    pub async fn catalog(&self) -> Vec<TableInfo> {
        listed(&self.catalog).await
    }

    /// Asks every service for its tables now. Returns a line for each table or service that fails.
    pub async fn discover(&self) -> Vec<String> {
        join_all(self.catalog.services().map(faults_of)).await.into_iter().flatten().collect()
    }

    pub(crate) fn downgrade(&self) -> WeakEngine {
        WeakEngine {
            catalog: Arc::clone(&self.catalog),
            template: Arc::clone(&self.template),
            views: Arc::downgrade(&self.views),
            search_path: self.search_path.clone(),
            deadline: self.deadline,
            view_files: self.view_files.clone(),
            access: Arc::clone(&self.access),
            audit: self.audit.clone(),
        }
    }

    fn check_search_path(&self) -> Result<()> {
        let known = self.catalog.schema_names();
        match self.search_path.iter().find(|name| !known.contains(name)) {
            Some(strange) => {
                let hint = headwater_source::nearest(strange, known.iter().map(String::as_str))
                    .map(|name| format!("; did you mean \"{name}\"?"))
                    .unwrap_or_default();
                Err(SourceError::config(format!("search path names \"{strange}\", which is no service{hint}")).into())
            }
            None => Ok(()),
        }
    }
}

/// Every table of a catalog. Services that were not asked yet are asked now.
pub(crate) async fn listed(catalog: &Catalog) -> Vec<TableInfo> {
    discover_unseen(catalog).await;
    let mut tables = Vec::new();
    for service in catalog.services() {
        for name in service.table_names() {
            tables.push(TableInfo::new(service.name().as_str(), &name, service.last_seen(&name).as_deref()));
        }
    }
    // The engine's own tables are no service's; information_schema lists them.
    let local = catalog.local_tables().into_iter().filter(|(schema, ..)| schema != SYSTEM_SCHEMA);
    tables.extend(local.map(|(schema, name, table)| TableInfo {
        service: schema,
        name,
        kind: if table.table_type() == TableType::View { "VIEW" } else { "BASE TABLE" },
        schema: Some(table.schema()),
        key: None,
        comment: None,
    }));
    tables
}

impl TableInfo {
    fn new(service: &str, name: &str, table: Option<&TableDef>) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            kind: match table.map(|table| table.kind) {
                Some(TableKind::View) => "VIEW",
                _ => "BASE TABLE",
            },
            schema: table.map(TableDef::schema),
            key: table.and_then(|table| table.key.clone()),
            comment: table.and_then(|table| table.comment.clone()),
        }
    }
}

/// Asks each service of which nothing was seen yet for its tables, all at once. What fails stays unseen.
pub(crate) async fn discover_unseen(catalog: &Catalog) {
    for found in join_all(catalog.services().map(|service| service.discover_unseen())).await {
        for fault in failures(found) {
            warn!(fault, "service not described");
        }
    }
}

async fn faults_of(service: &Arc<Service>) -> Vec<String> {
    failures(service.discover().await)
}

pub(crate) fn failures(found: Vec<(String, Result<Arc<TableDef>, SourceError>)>) -> Vec<String> {
    found.into_iter().filter_map(|(_, table)| table.err()).map(|error| error.report()).collect()
}

pub(crate) fn open(manifest: &Manifest, connectors: &[Arc<dyn Connector>]) -> Result<Arc<Service>, Fault> {
    let fault = |message: String| Fault { file: manifest.file.clone(), line: 1, key: "source".to_owned(), message };
    let connector = connectors
        .iter()
        .find(|connector| connector.kind() == manifest.connector)
        .ok_or_else(|| fault(format!("this build has no connector \"{}\"", manifest.connector)))?;
    let directory = manifest.file.parent().unwrap_or(Path::new("."));
    let context = OpenContext { service: &manifest.service, directory };
    let source = match &manifest.feed {
        Some(feed) if feed.mode != POLL_MODE => connector.open_followed(context, &manifest.options, feed),
        _ => connector.open(context, &manifest.options),
    };
    let source = source.map_err(|error| fault(error.report()))?;
    let tables = match &manifest.publishes {
        Publishes::All => Tables::All,
        Publishes::Tables(tables) => Tables::Named(
            tables
                .iter()
                .map(|table| Published { name: table.name.clone(), from: table.from.clone(), key: table.key.clone() })
                .collect(),
        ),
    };
    Ok(Service::new(manifest.service.clone(), source, tables))
}
