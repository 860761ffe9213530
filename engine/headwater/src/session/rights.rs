//! What a session's caller may do, where it is no plan that decides: views, listings, and what is written of a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, Statement as Named};
use headwater_federation::Guard;

use crate::access::enforce::parts;
use crate::access::guard::{may_know, may_read};
use crate::access::reads::reads;
use crate::access::{CallerRights, Leave, Read, Sight};
use crate::audit::{End, Entry};
use crate::engine::listed;
use crate::session::Session;
use crate::statement::{Request, parse};
use crate::trace::Tracing;
use crate::views::{Done, ViewName, ViewStatement, parse_query};
use crate::{Error, Result, TableInfo};

impl Session {
    /// What this session's caller may know of tables: every published one of which anything may be read, with the columns that may be. Services that were
    /// not asked yet are asked now; of one that is down the tables that its manifest names are listed without columns.
    pub async fn catalog(&self) -> Vec<TableInfo> {
        let mut tables = listed(self.shared_catalog()).await;
        let Some(sight) = self.sight_now() else { return tables };
        tables.retain_mut(|table| seen(table, &sight));
        tables
    }

    /// The names of the services that this session's caller may know of, in order.
    pub fn services(&self) -> Vec<String> {
        let services = self.shared_catalog().services().map(|service| service.name().to_string());
        match self.guard() {
            Some(guard) => services.filter(|name| guard.sees_schema(name)).collect(),
            None => services.collect(),
        }
    }

    /// The materialized views that this session's caller may know of: schema, name, and the query that defines each, empty where they may not know it.
    pub fn materialized_views(&self) -> Vec<(String, String, String)> {
        self.shared_views().defined(self.sight_now().as_ref())
    }

    /// What this session's caller may read now.
    pub fn rights(&self) -> CallerRights {
        CallerRights(self.leave())
    }

    fn sight_now(&self) -> Option<Sight> {
        self.guard().and_then(|guard| guard.sight())
    }

    /// Whether the caller may read everything now, as where there is no access file.
    pub(crate) fn sees_everything(&self) -> bool {
        self.guard().is_none_or(|guard| guard.rights().is_none())
    }

    /// The caller's rights as they are now, for a plan that is about to be made; `None` in a session that may do everything for good.
    pub(crate) fn leave(&self) -> Option<Leave> {
        self.guard().map(|guard| Leave::new(Arc::clone(guard), guard.rights()))
    }

    /// What is seen with the rights of a leave; `None` where that is everything.
    pub(crate) fn sight(&self, leave: &Leave) -> Option<Sight> {
        Some(self.guard()?.sight_of(leave.rights()?))
    }

    /// The columns of a view whose changes may be followed: all rows and columns of it may be read.
    pub(crate) fn may_subscribe(&self, name: &ViewName) -> Result<SchemaRef> {
        let Some(sight) = self.sight_now() else { return Ok(self.shared_views().definition(name)?.schema) };
        let definition = self.seen_view(name, &sight)?;
        match sight.view(&definition.shape.table).is_some_and(|rights| rights.is_whole()) {
            true => Ok(definition.schema),
            false => Err(Error::Denied(format!(
                "permission denied to subscribe to \"{name}\": a subscription tells of all rows and columns of a view, and you may read a part; query it instead"
            ))),
        }
    }

    /// Refuses to tell how a view is kept, where its query may not be known.
    pub(crate) fn may_know_view(&self, name: &ViewName) -> Result<()> {
        let Some(sight) = self.sight_now() else { return Ok(()) };
        let definition = self.seen_view(name, &sight)?;
        match may_know(Some(&sight), &definition.shape.table, name) {
            true => Ok(()),
            false => Err(Error::Denied(format!(
                "permission denied to explain \"{name}\": its query tells of inputs that you may not read"
            ))),
        }
    }

    fn seen_view(&self, name: &ViewName, sight: &Sight) -> Result<crate::views::Definition> {
        let found = self.shared_views().definition(name).ok();
        let found = found.filter(|definition| may_read(Some(sight), &definition.shape.table));
        found.ok_or_else(|| self.shared_views().unknown(name, Some(sight)))
    }

    /// Runs a statement that defines views, for who may.
    pub(crate) async fn define(&self, statement: ViewStatement, entry: Option<Entry>) -> Result<Done> {
        let read = self.may_define(&statement).await?;
        let kind = match &statement {
            ViewStatement::Create { .. } => "create view",
            ViewStatement::Drop { .. } => "drop view",
            _ => "refresh view",
        };
        let query = self.next_query();
        let entry = entry.map(|entry| entry.changing(kind, read));
        if let Some(entry) = &entry {
            entry.start(query)?;
        }
        let done = match self.guard() {
            // The view is computed for nobody, so its query is planned for nobody.
            Some(_) => self.shared_views().define(&self.trusted(), statement).await,
            None => self.shared_views().define(self, statement).await,
        };
        if let Some(entry) = &entry {
            let end = match &done {
                Ok(_) => End::Complete,
                Err(error) => End::Failed(error.kind()),
            };
            entry.end(query, 0, end);
        }
        done
    }

    /// Whether the caller may run a statement that defines views; what it is about, for the audit log.
    async fn may_define(&self, statement: &ViewStatement) -> Result<Vec<Read>> {
        let name = statement.name();
        let of_view = Read { schema: name.schema.clone(), table: name.name.clone(), columns: vec![] };
        let Some(sight) = self.sight_now() else { return Ok(vec![of_view]) };
        if !sight.rights.defines(&name.schema) {
            return Err(Error::Denied(format!(
                "permission denied to define materialized views in schema \"{}\"; a role that defines there is needed",
                name.schema
            )));
        }
        match statement {
            ViewStatement::Create { sql, .. } => {
                let mut read = self.may_show(name, sql).await?;
                read.insert(0, of_view);
                Ok(read)
            }
            ViewStatement::Drop { if_exists: true, .. } => Ok(vec![of_view]),
            _ if self.shared_views().definition(name).is_ok() => Ok(vec![of_view]),
            _ => Err(self.shared_views().unknown(name, Some(&sight))),
        }
    }

    /// Whether the caller may show others what a query reads: all of it is theirs to read, whole and as it is.
    async fn may_show(&self, name: &ViewName, sql: &str) -> Result<Vec<Read>> {
        let statement = parse_query(sql)?;
        let seen = self.plan(&self.own_context().state(), &statement).await?;
        let denied = |tables: &str| {
            Error::Denied(format!(
                "permission denied to define \"{name}\": a view shows its inputs to others, and you may not read all of {tables}"
            ))
        };
        let parts = parts(&seen)?;
        if !parts.is_empty() {
            return Err(denied(&parts.join(", ")));
        }
        // Planned for nobody, an unqualified name may mean a table that the caller does not see.
        let trusted = self.trusted();
        let meant = trusted.plan(&trusted.own_context().state(), &statement).await.map_err(|_| denied("its inputs"))?;
        let (seen, meant) = (reads(&seen)?, reads(&meant)?);
        match seen == meant {
            true => Ok(meant),
            false => Err(denied("its inputs; write each as service.table")),
        }
    }

    /// A statement of this text on its way into the audit log; `None` where there is none.
    pub(crate) fn entry(&self, text: &str) -> Option<Entry> {
        let log = self.asker().audit.as_ref()?;
        Some(Entry::new(log, &self.asker().caller, text))
    }

    /// The error of a statement that was not run, once it is in the audit log and in the trace.
    pub(crate) async fn recorded(
        &self,
        text: &str,
        error: Error,
        entry: Option<Entry>,
        tracing: Option<Tracing>,
    ) -> Error {
        if entry.is_none() && tracing.is_none() {
            return error;
        }
        let query = self.next_query();
        if let Some(tracing) = tracing {
            tracing.failed(query, &error);
        }
        // What the log itself could not take is told by the next statement too.
        if let Some(entry) = entry.filter(|_| !matches!(error, Error::Unaudited(_))) {
            let hidden = self.hidden(text, &error).await.unwrap_or_default();
            entry.refused(query, &error, hidden);
        }
        error
    }

    /// What a statement named that is there, and that the caller may not know of. Of what is not there nothing is told: a name may be anything.
    async fn hidden(&self, text: &str, error: &Error) -> Option<Vec<Read>> {
        let sight = self.sight_now()?;
        let state = self.own_context().state();
        let names = match parse(text).ok()? {
            Request::Plan(statement) => state.resolve_table_references(&statement).ok()?,
            Request::View(ViewStatement::Create { sql, .. }) => {
                state.resolve_table_references(&parse_query(&sql).ok()?).ok()?
            }
            Request::View(statement) => {
                let ViewName { schema, name } = statement.name();
                vec![TableReference::partial(schema.as_str(), name.as_str())]
            }
            Request::SearchPath(_) => return None,
        };
        let missing = missing_column(error);
        let mut found = BTreeSet::new();
        for name in &names {
            let schemas = match name.schema() {
                Some(schema) => vec![schema.to_owned()],
                None => self.search_path(),
            };
            for schema in schemas {
                let table = name.table().to_owned();
                // Whether there is such a table may not be known yet of a service that publishes all of its tables.
                if let Some(service) = self.shared_catalog().service(&schema) {
                    service.discover_unseen().await;
                }
                let Some(columns) = self.columns_of(&schema, &table) else { continue };
                if !sight.sees_table(&schema, &table) {
                    found.insert((schema, table, None));
                } else if let Some(column) = missing.as_ref().filter(|column| columns.contains(*column)) {
                    // It is there, and planning has not found it.
                    found.insert((schema, table, Some(column.clone())));
                }
            }
        }
        let read = |(schema, table, column): (String, String, Option<String>)| Read {
            schema,
            table,
            columns: column.into_iter().collect(),
        };
        Some(found.into_iter().map(read).collect())
    }

    /// The columns of a table as far as they are known; `None` where there is no such table.
    fn columns_of(&self, schema: &str, table: &str) -> Option<Vec<String>> {
        let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect();
        let catalog = self.shared_catalog();
        match catalog.service(schema) {
            Some(service) if service.table_names().iter().any(|name| name == table) => {
                Some(service.last_seen(table).map(|table| names(&table.schema())).unwrap_or_default())
            }
            Some(_) => None,
            None => catalog.local_table(schema, table).map(|table| names(&table.schema())),
        }
    }
}

/// Leaves of a listed table what may be known of it; whether anything may.
fn seen(table: &mut TableInfo, sight: &Sight) -> bool {
    if !sight.sees_table(&table.service, &table.name) {
        return false;
    }
    let Some(schema) = &table.schema else { return true };
    let Some(places) = sight.columns(&table.service, &table.name, schema) else { return false };
    let fields: Vec<_> = places
        .iter()
        .map(|(place, is_plain)| {
            let field = schema.field(*place).clone();
            if *is_plain { field } else { field.with_nullable(true) }
        })
        .collect();
    let is_there = |column: &String| fields.iter().any(|field| field.name() == column);
    table.key = table.key.take().filter(|key| key.iter().all(is_there));
    table.schema = Some(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())));
    true
}

/// The column that planning did not find, where that is the error.
fn missing_column(error: &Error) -> Option<String> {
    let Error::Query(error) = error else { return None };
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// What kind of statement a plan is of, for the audit log.
pub(crate) fn kind_of(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Explain(_) => "explain",
        LogicalPlan::Analyze(_) => "explain analyze",
        LogicalPlan::DescribeTable(_) => "describe",
        LogicalPlan::Statement(Named::Prepare(_)) => "prepare",
        LogicalPlan::Statement(Named::Execute(_)) => "execute",
        LogicalPlan::Statement(_) => "set",
        _ => "query",
    }
}

/// What EXPLAIN shows of a plan over tables of which a part may be read: the plan as it was written, over the tables as they are shown, and no step beneath. `None`
/// where the statement is no EXPLAIN.
pub(crate) fn shown(plan: &LogicalPlan, limited: &[String], state: &SessionState) -> Result<Option<Arc<str>>> {
    let LogicalPlan::Explain(explain) = plan else { return Ok(None) };
    let plan = state.optimize(&explain.plan)?.display_indent().to_string();
    Ok(Some(format!("{plan}\n{}", limited.join(", ")).into()))
}

/// Refuses every other way to have a plan over such tables explained: one that runs it, and an EXPLAIN inside of another statement, as of PREPARE.
pub(crate) fn may_explain(plan: &LogicalPlan, limited: &[String]) -> Result<()> {
    let explains = plan.exists(|node| Ok(matches!(node, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_))))?;
    match explains {
        false => Ok(()),
        true => Err(Error::Denied(format!(
            "permission denied to EXPLAIN so a query over {}: it would tell of rows that you may not read; use a plain EXPLAIN",
            limited.join(", ")
        ))),
    }
}

/// The rows of such an EXPLAIN.
pub(crate) fn explanation(shown: &str) -> Result<RecordBatch> {
    let (plan, limited) = shown.rsplit_once('\n').unwrap_or((shown, ""));
    let access = format!(
        "of {limited} you may read a part, or not what it is made of. How it is read is not shown, and it is not answered from other materialized views"
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["logical_plan", "access"])),
        Arc::new(StringArray::from(vec![plan.to_owned(), access])),
    ];
    Ok(RecordBatch::try_new(LogicalPlan::explain_schema(), columns).map_err(DataFusionError::from)?)
}
