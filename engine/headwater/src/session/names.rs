//! The names of a statement: where they are looked up, and what is said of one that is not found.

use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use headwater_federation::{Settings, source_error};

use super::Session;
use crate::{Error, Result};

impl Session {
    pub(super) fn set_search_path(&self, path: Vec<String>) -> Result<()> {
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

    /// Forgets the descriptions of these tables; whether there was any to forget.
    pub(super) fn forget(&self, names: &[TableReference]) -> bool {
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
    pub(super) async fn explained(&self, error: DataFusionError, names: &[TableReference]) -> Error {
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

fn hint(name: &str, known: &[String]) -> String {
    headwater_source::nearest(name, known.iter().map(String::as_str))
        .map(|name| format!("; did you mean \"{name}\"?"))
        .unwrap_or_default()
}
