//! The catalog as a caller may know it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_federation::{Catalog, Guard};
use headwater_source::async_trait;

use super::reads::Read;
use super::rights::{Rights, TableRights};
use super::{Access, Caller};
use crate::views::{SYSTEM_SCHEMA, SystemTable, ViewName, ViewTable};

/// Asks for a caller's rights with every name. Cheap to make.
#[derive(Clone)]
pub(crate) struct SessionGuard {
    access: Arc<Access>,
    caller: Caller,
    catalog: Arc<Catalog>,
}

/// A caller's rights over a catalog, at one moment.
#[derive(Clone)]
pub(crate) struct Sight {
    pub(crate) rights: Arc<Rights>,
    catalog: Arc<Catalog>,
    /// Plans rules the same way for everybody, whatever their sessions SET.
    pub(super) planner: Arc<SessionState>,
}

impl fmt::Debug for SessionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionGuard").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sight").field("user", &self.rights.user()).finish_non_exhaustive()
    }
}

impl SessionGuard {
    pub(crate) fn new(access: &Arc<Access>, caller: Caller, catalog: &Arc<Catalog>) -> Arc<Self> {
        Arc::new(Self { access: Arc::clone(access), caller, catalog: Arc::clone(catalog) })
    }

    /// The caller's rights now; `None` where everybody may read everything.
    pub(crate) fn rights(&self) -> Option<Arc<Rights>> {
        self.access.rights(&self.caller)
    }

    /// What the caller sees with these rights.
    pub(crate) fn sight_of(&self, rights: &Arc<Rights>) -> Sight {
        let planner = Arc::clone(self.access.planner());
        Sight { rights: Arc::clone(rights), catalog: Arc::clone(&self.catalog), planner }
    }

    /// What the caller sees now; `None` where everybody sees everything.
    pub(crate) fn sight(&self) -> Option<Sight> {
        self.rights().map(|rights| self.sight_of(&rights))
    }
}

impl Sight {
    pub(crate) fn sees_schema(&self, schema: &str) -> bool {
        schema == SYSTEM_SCHEMA
            || self.rights.names_schema(schema)
            || self
                .catalog
                .local_tables()
                .iter()
                .any(|(local, name, _)| local == schema && self.sees_table(schema, name))
    }

    /// Whether anything may be read of a table, as far as its name tells.
    pub(crate) fn sees_table(&self, schema: &str, table: &str) -> bool {
        match self.catalog.local_table(schema, table) {
            Some(local) => self.table(schema, table, &local).is_some(),
            None => self.rights.names_table(schema, table),
        }
    }

    /// What may be read of a table.
    pub(crate) fn table(&self, schema: &str, table: &str, provider: &Arc<dyn TableProvider>) -> Option<TableRights> {
        if let Some(view) = provider.downcast_ref::<ViewTable>() {
            return self.view(view);
        }
        let fields = provider.schema();
        let columns: Vec<&str> = fields.fields().iter().map(|field| field.name().as_str()).collect();
        match provider.is::<SystemTable>() {
            true => Some(TableRights::whole(columns.len())),
            false => self.rights.of_table(schema, table, &columns),
        }
    }

    /// The places of the columns that may be read of a table that has these, each with whether it is shown as it is. `None` where none may.
    pub(crate) fn columns(&self, schema: &str, table: &str, columns: &Schema) -> Option<Vec<(usize, bool)>> {
        let rights = match self.catalog.local_table(schema, table) {
            Some(local) => self.table(schema, table, &local),
            None => {
                let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
                self.rights.of_table(schema, table, &names)
            }
        };
        Some(rights?.columns.iter().map(|seen| (seen.index, seen.cases.is_empty())).collect())
    }

    /// What may be read of a view: what grants on it say, or all of it where its inputs may be read.
    pub(crate) fn view(&self, view: &ViewTable) -> Option<TableRights> {
        let columns: Vec<&str> = view.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let named = self.rights.of_view(&view.name, &columns);
        match self.reads_inputs(view) {
            true => Some(TableRights::whole(columns.len())),
            false => named,
        }
    }

    /// Whether every column that a view's query reads may be read as it is, in all rows.
    pub(crate) fn reads_inputs(&self, view: &ViewTable) -> bool {
        view.inputs.iter().all(|read| self.reads_plainly(read))
    }

    fn reads_plainly(&self, read: &Read) -> bool {
        let local = self.catalog.local_table(&read.schema, &read.table);
        let found = match &local {
            Some(local) => self.table(&read.schema, &read.table, local).map(|rights| {
                let fields = local.schema();
                let seen: BTreeSet<&str> =
                    rights.columns.iter().map(|seen| fields.field(seen.index).name().as_str()).collect();
                !rights.is_limited() && read.columns.iter().all(|column| seen.contains(column.as_str()))
            }),
            None if read.columns.is_empty() => Some(self.rights.counts_table(&read.schema, &read.table)),
            None => {
                let columns: Vec<&str> = read.columns.iter().map(String::as_str).collect();
                let rights = self.rights.of_table(&read.schema, &read.table, &columns);
                rights.map(|rights| rights.is_whole())
            }
        };
        found.unwrap_or(false)
    }
}

impl Guard for SessionGuard {
    fn sees_schema(&self, schema: &str) -> bool {
        self.sight().is_none_or(|sight| sight.sees_schema(schema))
    }

    fn sees_table(&self, schema: &str, table: &str) -> bool {
        self.sight().is_none_or(|sight| sight.sees_table(schema, table))
    }

    fn guarded(&self, schema: &str, table: &str, provider: Arc<dyn TableProvider>) -> Option<Arc<dyn TableProvider>> {
        let Some(sight) = self.sight() else { return Some(provider) };
        let rights = sight.table(schema, table, &provider)?;
        Some(Arc::new(Guarded::new(schema, table, provider, rights, sight)))
    }
}

/// A table with what a caller may know of it. It stands in plans until they are decided, and can't be scanned.
#[derive(Debug)]
pub(crate) struct Guarded {
    schema: String,
    table: String,
    columns: SchemaRef,
    pub(super) provider: Arc<dyn TableProvider>,
    pub(super) rights: TableRights,
    pub(super) sight: Sight,
}

impl Guarded {
    fn new(schema: &str, table: &str, provider: Arc<dyn TableProvider>, rights: TableRights, sight: Sight) -> Self {
        let fields = provider.schema();
        let shown = rights.columns.iter().map(|seen| {
            let field = fields.field(seen.index).clone();
            // What is shown in its place may be NULL.
            if seen.cases.is_empty() { field } else { field.with_nullable(true) }
        });
        let columns = Arc::new(Schema::new(shown.collect::<Vec<_>>()));
        Self { schema: schema.to_owned(), table: table.to_owned(), columns, provider, rights, sight }
    }

    /// `schema` and `table`.
    pub(super) fn name(&self) -> (String, String) {
        (self.schema.clone(), self.table.clone())
    }
}

/// The table behind a guarded one.
pub(crate) fn unguarded(provider: &Arc<dyn TableProvider>) -> &Arc<dyn TableProvider> {
    provider.downcast_ref::<Guarded>().map_or(provider, |guarded| &guarded.provider)
}

#[async_trait]
impl TableProvider for Guarded {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        self.provider.table_type()
    }

    /// A view's query names columns and values of its inputs.
    fn get_table_definition(&self) -> Option<&str> {
        match self.provider.downcast_ref::<ViewTable>() {
            Some(view) if !self.sight.reads_inputs(view) => None,
            _ => self.provider.get_table_definition(),
        }
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!(
            "table \"{}.{}\" was to be read by a plan that was not decided; ask through the session, and not its context",
            self.schema,
            self.table
        )
    }
}

/// Whether a view is there for a caller, for listings.
pub(crate) fn may_read(sight: Option<&Sight>, view: &ViewTable) -> bool {
    sight.is_none_or(|sight| sight.rights.monitors() || sight.view(view).is_some())
}

/// Whether a caller may know a view's query.
pub(crate) fn may_know(sight: Option<&Sight>, view: &ViewTable, name: &ViewName) -> bool {
    sight.is_none_or(|sight| sight.rights.monitors() || sight.rights.defines(&name.schema) || sight.reads_inputs(view))
}
