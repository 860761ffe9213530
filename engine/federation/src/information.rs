//! `information_schema` over what was last seen of the services.
//!
//! DataFusion fills it by opening every table, and one service that is down would fail it all. Here a table that was
//! never seen is listed without columns, and nothing is asked of a source.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::TableType;
use headwater_source::TableKind;

use crate::{CATALOG, Catalog, Guard, Pushdown, RemoteTable};

/// The schema provider of `information_schema`, with what a guard shows.
pub(crate) fn information_schema(catalog: Arc<Catalog>, guard: Option<Arc<dyn Guard>>) -> Arc<dyn SchemaProvider> {
    Arc::new(InformationSchemaProvider::new(Arc::new(Remembered { catalog, guard })))
}

/// The catalog from memory.
#[derive(Debug, Clone)]
struct Remembered {
    catalog: Arc<Catalog>,
    guard: Option<Arc<dyn Guard>>,
}

#[derive(Debug)]
struct RememberedSchema {
    catalog: Arc<Catalog>,
    guard: Option<Arc<dyn Guard>>,
    name: String,
}

impl CatalogProviderList for Remembered {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, _: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::new(self.clone()))
    }
}

impl CatalogProvider for Remembered {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.catalog.schema_names();
        if let Some(guard) = &self.guard {
            names.retain(|name| guard.sees_schema(name));
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (catalog, guard) = (Arc::clone(&self.catalog), self.guard.clone());
        Some(Arc::new(RememberedSchema { catalog, guard, name: name.to_owned() }))
    }
}

#[async_trait]
impl SchemaProvider for RememberedSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = match self.catalog.service(&self.name) {
            Some(service) => service.table_names(),
            None => {
                self.catalog.local_schema(&self.name).map(|tables| tables.into_keys().collect()).unwrap_or_default()
            }
        };
        names.retain(|name| self.sees(name));
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !self.sees(name) {
            return Ok(None);
        }
        let found = match self.catalog.service(&self.name) {
            None => self.catalog.local_schema(&self.name).and_then(|tables| tables.get(name).cloned()),
            Some(service) => service.last_seen(name).map(|table| -> Arc<dyn TableProvider> {
                let statistics = service.last_statistics(name, &table);
                Arc::new(RemoteTable::new(Arc::clone(service), name, table, statistics, Pushdown::On))
            }),
        };
        Ok(match &self.guard {
            Some(guard) => found.and_then(|table| guard.guarded(&self.name, name, table)),
            None => found,
        })
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if !self.sees(name) {
            return Ok(None);
        }
        let Some(service) = self.catalog.service(&self.name) else {
            return Ok(self.table(name).await?.map(|table| table.table_type()));
        };
        Ok(Some(match service.last_seen(name).map(|table| table.kind) {
            Some(TableKind::View) => TableType::View,
            Some(TableKind::Table) | None => TableType::Base,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

impl RememberedSchema {
    fn sees(&self, table: &str) -> bool {
        self.guard.as_ref().is_none_or(|guard| guard.sees_table(&self.name, table))
    }
}
