//! A directory of manifests, the engine over it, and asking it both ways: with pushdown and without.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionConfig;
use headwater::{Engine, Session};
use headwater_rules::{mended_optimizer_rules, mended_physical_optimizer_rules, mended_scalar_functions};
use tempfile::TempDir;

use crate::rows::Rows;

/// A directory of services: `services/` holds the manifests, the directory itself SQLite files and folders of files.
#[derive(Debug)]
pub struct Services {
    directory: TempDir,
    names: Vec<String>,
}

impl Default for Services {
    fn default() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        std::fs::create_dir(directory.path().join("services")).expect("a directory can be made");
        Self { directory, names: Vec::new() }
    }
}

impl Services {
    /// No services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where SQLite files and folders of files go.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the manifests are.
    pub fn manifests(&self) -> PathBuf {
        self.directory.path().join("services")
    }

    /// Adds a service that publishes every table. `source` is what stands between the braces of `source: {...}`.
    pub fn with(self, service: &str, source: &str) -> Self {
        self.with_tables(service, source, "\"*\"")
    }

    /// Adds a service that publishes every table and whose changes are followed. `feed` is what stands between the braces of `feed: {...}`.
    pub fn with_feed(self, service: &str, source: &str, feed: &str) -> Self {
        self.with_tables(service, source, &format!("\"*\"\nfeed: {{{feed}}}"))
    }

    /// Adds a service that publishes what it says, in YAML on one line.
    pub fn with_tables(mut self, service: &str, source: &str, publishes: &str) -> Self {
        let text = format!("service: {service}\nsource: {{{source}}}\npublishes: {publishes}\n");
        std::fs::write(self.manifests().join(format!("{service}.yaml")), text).expect("a manifest can be written");
        self.names.push(service.to_owned());
        self
    }

    /// Adds a service whose store is a Postgres database.
    pub fn with_postgres(self, service: &str, url: &str) -> Self {
        self.with(service, &format!("connector: postgres, url: \"{url}\""))
    }

    /// Adds a service whose store is a MariaDB database.
    pub fn with_mysql(self, service: &str, url: &str) -> Self {
        self.with(service, &format!("connector: mysql, url: \"{url}\""))
    }

    /// Adds a service whose store is a new SQLite file, in which the statements have run.
    pub fn with_sqlite(self, service: &str, statements: &str) -> Self {
        self.sqlite(service).execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
        self.with(service, &format!("connector: sqlite, path: ../{service}.db"))
    }

    /// Adds a service whose store is a new folder of files, empty.
    pub fn with_files(self, service: &str) -> Self {
        std::fs::create_dir(self.folder(service)).expect("a directory can be made");
        self.with(service, &format!("connector: files, url: ../{service}/"))
    }

    /// The folder of a service of files.
    pub fn folder(&self, service: &str) -> PathBuf {
        self.directory.path().join(service)
    }

    /// A connection to the SQLite file of a service.
    pub fn sqlite(&self, service: &str) -> rusqlite::Connection {
        let path = self.directory.path().join(format!("{service}.db"));
        rusqlite::Connection::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The engine over the manifests, with every service in the search path.
    pub async fn engine(&self) -> Engine {
        self.try_engine().await.unwrap_or_else(|error| panic!("the engine does not start: {}", error.report()))
    }

    /// The engine over the manifests, or why it does not start.
    pub async fn try_engine(&self) -> Result<Engine, headwater::Error> {
        Engine::builder()
            .services_dir(self.manifests())
            .connectors(headwater_connectors::all())
            .search_path(self.names.clone())
            .build()
            .await
    }
}

/// Whether filters, order and limits go to the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushdown {
    /// They do, where that is safe.
    On,
    /// Every source is only scanned.
    Off,
}

/// A session of its own.
pub async fn session(engine: &Engine, pushdown: Pushdown) -> Session {
    let session = engine.session();
    let statement = match pushdown {
        Pushdown::On => "SET headwater.pushdown = on",
        Pushdown::Off => "SET headwater.pushdown = off",
    };
    ask(&session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    session
}

/// The whole answer, or the error as a user reads it.
pub async fn ask(session: &Session, sql: &str) -> Result<Rows, String> {
    let answer = session.sql(sql).await.map_err(|error| error.report())?;
    let schema = answer.schema();
    let batches = answer.collect().await.map_err(|error| error.report())?;
    Ok(Rows::of(&schema, &batches))
}

/// The answer of a statement that works. Panics with the error where it does not.
pub async fn rows(engine: &Engine, sql: &str) -> Rows {
    ask(&engine.session(), sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
}

/// The error of a statement that fails. Panics with the answer where it does not.
pub async fn error(engine: &Engine, sql: &str) -> String {
    match ask(&engine.session(), sql).await {
        Ok(rows) => panic!("{sql}\nmust fail and answers {:?}", rows.texts()),
        Err(error) => error,
    }
}

/// The answer with pushdown on, after asserting that the answer with pushdown off is the same, or the same error.
pub async fn both_ways(engine: &Engine, sql: &str) -> Result<Rows, String> {
    let on = ask(&session(engine, Pushdown::On).await, sql).await;
    let off = ask(&session(engine, Pushdown::Off).await, sql).await;
    match (&on, &off) {
        (Ok(on), Ok(off)) => {
            if let Some(difference) = on.difference(off) {
                panic!("{sql}\npushdown changes the answer (first: on): {difference}");
            }
        }
        (Err(on), Err(off)) => assert_eq!(on, off, "{sql}\npushdown changes the error"),
        _ => panic!("{sql}\npushdown changes whether there is an answer:\non:  {on:?}\noff: {off:?}"),
    }
    on
}

/// A plain DataFusion over copies of tables: the reference of every answer. Clones share it.
#[derive(Clone)]
pub struct Reference {
    context: SessionContext,
}

impl Reference {
    /// Copies tables, named `service.table`, as a scan without pushdown reads them.
    pub async fn copy(engine: &Engine, tables: &[&str]) -> Self {
        let session = session(engine, Pushdown::Off).await;
        let reference = Self::empty();
        for name in tables {
            let (service, table) = name.split_once('.').expect("a table is named service.table");
            let answer = session.sql(&format!("SELECT * FROM {service}.\"{table}\"")).await;
            let answer = answer.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
            let schema = answer.schema();
            let batches = answer.collect().await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
            reference.register(
                service,
                table,
                MemTable::try_new(schema, vec![batches]).expect("batches have their schema"),
            );
        }
        reference
    }

    /// A reference without tables, configured as the engine is where that decides types.
    pub fn empty() -> Self {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema("headwater", "public")
            .with_information_schema(true)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        // What DataFusion answers wrong is no reference.
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_scalar_functions(mended_scalar_functions())
            .with_optimizer_rules(mended_optimizer_rules())
            .with_physical_optimizer_rules(mended_physical_optimizer_rules())
            .build();
        Self { context: SessionContext::new_with_state(state) }
    }

    /// Adds a table under a service's schema and under the default schema.
    pub fn register(&self, service: &str, name: &str, table: MemTable) {
        let catalog = self.context.catalog("headwater").unwrap_or_else(|| {
            let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            self.context.register_catalog("headwater", Arc::clone(&catalog));
            catalog
        });
        let table = Arc::new(table);
        for schema in [service, "public"] {
            let provider = catalog.schema(schema).unwrap_or_else(|| {
                let provider: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(schema, Arc::clone(&provider)).expect("a schema can be added");
                provider
            });
            // As along a search path, the first of two tables of one name stays.
            if !provider.table_exist(name) {
                provider.register_table(name.to_owned(), Arc::clone(&table) as _).expect("a table can be added");
            }
        }
    }

    /// The reference's answer or error.
    pub async fn ask(&self, sql: &str) -> Result<Rows, String> {
        let frame = self.context.sql(sql).await.map_err(|error| error.to_string())?;
        let context = Arc::new(frame.task_ctx());
        // Its types are those after coercion: those of a frame are from before it.
        let plan = frame.create_physical_plan().await.map_err(|error| error.to_string())?;
        let schema = plan.schema();
        let batches = collect(plan, context).await.map_err(|error| error.to_string())?;
        Ok(Rows::of(&schema, &batches))
    }

    /// Asserts that Headwater answers as the reference does, pushdown on and off. Where the reference fails, so must Headwater.
    pub async fn agrees(&self, engine: &Engine, sql: &str) -> Result<Rows, String> {
        let ours = both_ways(engine, sql).await;
        let theirs = self.ask(sql).await;
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                if let Some(difference) = ours.difference(theirs) {
                    panic!("{sql}\nthe answer is not that of a local copy (first: headwater): {difference}");
                }
            }
            (Err(_), Err(_)) => {}
            _ => panic!("{sql}\nheadwater: {ours:?}\nlocal copy: {theirs:?}"),
        }
        ours
    }
}
