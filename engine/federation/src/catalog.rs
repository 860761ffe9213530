//! Names: catalog `headwater`, a schema for each service, and the search path.
//!
//! Each session has a [`SessionCatalog`] over the shared [`Catalog`], because a table carries the session's pushdown setting
//! and an unqualified name is looked up along the session's search path. DataFusion sees the search path as one more schema,
//! [`SEARCH_PATH_SCHEMA`], which is its default and is listed nowhere. A session may have a [`Guard`], which decides what of all this is there for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use headwater_source::ServiceName;
use parking_lot::RwLock;

use crate::information::information_schema;
use crate::{RemoteTable, Service, SharedSettings, to_datafusion};

/// The name of the only catalog.
pub const CATALOG: &str = "headwater";

/// The schema that stands for the session's search path.
pub const SEARCH_PATH_SCHEMA: &str = "search_path";

/// All services, and the tables that the embedding program registered beside them.
#[derive(Debug, Default)]
pub struct Catalog {
    services: BTreeMap<ServiceName, Arc<Service>>,
    local: RwLock<BTreeMap<String, LocalTables>>,
}

/// The embedding program's tables of one schema.
type LocalTables = BTreeMap<String, Arc<dyn TableProvider>>;

/// What a session may know of the catalog. It is asked with every name, so what it says may change at any time.
///
/// Invariant: what a guard hides is answered as what is not there, whether or not it is, and its source is not asked.
pub trait Guard: std::fmt::Debug + Send + Sync {
    /// Whether a schema may be listed.
    fn sees_schema(&self, schema: &str) -> bool;

    /// Whether anything of a table may be read, as far as its name tells.
    fn sees_table(&self, schema: &str, table: &str) -> bool;

    /// The table with what may be known of it; `None` where nothing may.
    fn guarded(&self, schema: &str, table: &str, provider: Arc<dyn TableProvider>) -> Option<Arc<dyn TableProvider>>;
}

/// The catalog as one session sees it.
#[derive(Debug, Clone)]
pub struct SessionCatalog {
    catalog: Arc<Catalog>,
    settings: SharedSettings,
    guard: Option<Arc<dyn Guard>>,
}

impl Catalog {
    /// A catalog of these services.
    pub fn new(services: impl IntoIterator<Item = Arc<Service>>) -> Arc<Self> {
        let services = services.into_iter().map(|service| (service.name().clone(), service)).collect();
        Arc::new(Self { services, local: RwLock::default() })
    }

    /// The services, in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// A service.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|(service, _)| service.as_str() == name).map(|(_, service)| service)
    }

    /// Registers a table of the embedding program in a schema that no service has. Replaces one of the same name.
    pub fn register_local(&self, schema: &ServiceName, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        if self.services.contains_key(schema) {
            return Err(DataFusionError::Plan(format!(
                "schema \"{schema}\" is a service; register \"{name}\" in another"
            )));
        }
        self.local.write().entry(schema.to_string()).or_default().insert(name.to_owned(), table);
        Ok(())
    }

    /// Takes a table of the embedding program away.
    pub fn unregister_local(&self, schema: &str, name: &str) {
        let mut local = self.local.write();
        if let Some(tables) = local.get_mut(schema) {
            tables.remove(name);
            if tables.is_empty() {
                local.remove(schema);
            }
        }
    }

    /// The names of all schemas that hold tables.
    pub fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.services.keys().map(ToString::to_string).collect();
        names.extend(self.local.read().keys().cloned());
        names
    }

    /// The schemas that hold a table of this name, as far as is known without asking the sources.
    pub fn schemas_with(&self, table: &str) -> Vec<String> {
        let services = self.services.values().filter(|service| service.table_names().iter().any(|name| name == table));
        let mut found: Vec<String> = services.map(|service| service.name().to_string()).collect();
        let local = self.local.read();
        found.extend(local.iter().filter(|(_, tables)| tables.contains_key(table)).map(|(schema, _)| schema.clone()));
        found
    }

    /// The tables of the embedding program: schema, name, table.
    pub fn local_tables(&self) -> Vec<(String, String, Arc<dyn TableProvider>)> {
        let local = self.local.read();
        let of_schema = |(schema, tables): (&String, &LocalTables)| {
            let schema = schema.clone();
            tables
                .iter()
                .map(move |(name, table)| (schema.clone(), name.clone(), Arc::clone(table)))
                .collect::<Vec<_>>()
        };
        local.iter().flat_map(of_schema).collect()
    }

    /// A table of the embedding program.
    pub fn local_table(&self, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.local.read().get(schema).and_then(|tables| tables.get(name)).cloned()
    }

    pub(crate) fn local_schema(&self, schema: &str) -> Option<LocalTables> {
        self.local.read().get(schema).cloned()
    }
}

impl SessionCatalog {
    /// The catalog for a session with these settings. Without a guard it sees everything.
    pub fn new(catalog: Arc<Catalog>, settings: SharedSettings, guard: Option<Arc<dyn Guard>>) -> Arc<Self> {
        Arc::new(Self { catalog, settings, guard })
    }

    /// The catalog that all sessions share.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The names of the schemas that the session sees.
    pub fn seen_schemas(&self) -> Vec<String> {
        let mut names = self.catalog.schema_names();
        if let Some(guard) = &self.guard {
            names.retain(|name| guard.sees_schema(name));
        }
        names
    }

    /// The tables of a schema that the session sees, as far as is known without asking the sources.
    pub fn seen_tables(&self, schema: &str) -> Vec<String> {
        let mut names = match self.catalog.service(schema) {
            Some(service) => service.table_names(),
            None => self.catalog.local_schema(schema).map(|tables| tables.into_keys().collect()).unwrap_or_default(),
        };
        if let Some(guard) = &self.guard {
            names.retain(|name| guard.sees_table(schema, name));
        }
        names
    }

    /// The schemas in which the session sees a table of this name, as far as is known without asking the sources.
    pub fn seen_schemas_with(&self, table: &str) -> Vec<String> {
        let mut schemas = self.catalog.schemas_with(table);
        if let Some(guard) = &self.guard {
            schemas.retain(|schema| guard.sees_table(schema, table));
        }
        schemas
    }

    /// A table by its schema and name, as the session sees it.
    pub async fn table(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(guard) = &self.guard else { return self.unguarded(schema, name).await };
        if !guard.sees_table(schema, name) {
            return Ok(None);
        }
        let found = self.unguarded(schema, name).await?;
        Ok(found.and_then(|table| guard.guarded(schema, name, table)))
    }

    async fn unguarded(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(service) = self.catalog.service(schema) {
            let Some(table) = service.table(name).await.map_err(to_datafusion)? else { return Ok(None) };
            let statistics = service.statistics(name, &table).await;
            let pushdown = self.settings.read().pushdown;
            return Ok(Some(Arc::new(RemoteTable::new(Arc::clone(service), name, table, statistics, pushdown))));
        }
        Ok(self.catalog.local_schema(schema).and_then(|tables| tables.get(name).cloned()))
    }

    /// The first table of that name along the search path.
    async fn search(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let path = self.settings.read().search_path.clone();
        for schema in path {
            if let Some(table) = self.table(&schema, name).await? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }
}

impl CatalogProviderList for SessionCatalog {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for SessionCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.seen_schemas()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            INFORMATION_SCHEMA => Some(information_schema(Arc::clone(&self.catalog), self.guard.clone())),
            SEARCH_PATH_SCHEMA => Some(Arc::new(Schema { session: self.clone(), name: None })),
            name if self.schema_names().iter().any(|known| known == name) => {
                Some(Arc::new(Schema { session: self.clone(), name: Some(name.to_owned()) }))
            }
            _ => None,
        }
    }
}

/// One service's tables, or (without a name) those along the search path.
#[derive(Debug)]
struct Schema {
    session: SessionCatalog,
    name: Option<String>,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.name.as_deref().map(|name| self.session.seen_tables(name)).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match &self.name {
            Some(schema) => self.session.table(schema, name).await,
            None => self.session.search(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
