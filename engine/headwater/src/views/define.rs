//! CREATE, DROP and REFRESH MATERIALIZED VIEW.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::common::TableReference;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use headwater_federation::{RemoteTable, Service};
use headwater_source::{Position, ServiceName, TableDef};
use headwater_views::{Error as ViewError, Input, Maintenance, Query, Resolved, SourceId, TableId, ViewId, ViewState};
use tracing::info;

use super::ask::{ViewName, ViewStatement, parse_query};
use super::cover::Shape;
use super::feed::{Followed, Wanted};
use super::registry::{Definition, Shared, refused};
use super::store::{New, new_id};
use super::table::ViewTable;
use super::{follow, poll};
use crate::{Error, Result, Session};

/// How long CREATE and REFRESH wait for the view to be shown before they leave it to go on by itself.
const SHOWN_WAIT: Duration = Duration::from_secs(30);

const LOADING: &str = "still loading; headwater.views and headwater.feeds tell how far it is";

/// A service and tables of it by their names.
type Tables = (Arc<Service>, BTreeMap<String, Arc<TableDef>>);

/// What the maintenance calls a table, by service and name.
type Ids = BTreeMap<(String, String), (SourceId, TableId)>;

/// What a statement did, a row of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) name: ViewName,
    pub(crate) outcome: String,
}

impl Done {
    pub(crate) fn rows(&self) -> Result<RecordBatch> {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("materialized_view", Arc::new(StringArray::from(vec![self.name.to_string()]))),
            ("outcome", Arc::new(StringArray::from(vec![self.outcome.clone()]))),
        ];
        Ok(RecordBatch::try_from_iter(columns).map_err(DataFusionError::from)?)
    }
}

impl Shared {
    /// A view's query and the search path of its names.
    pub(crate) fn query_of(&self, name: &ViewName) -> Result<(String, Vec<String>)> {
        self.definition(name).map(|definition| (definition.sql, definition.search_path))
    }

    /// Runs a statement that defines views.
    pub(crate) async fn define(self: &Arc<Self>, session: &Session, statement: ViewStatement) -> Result<Done> {
        if !matches!(statement, ViewStatement::Drop { .. }) {
            let ViewName { schema, name } = statement.name();
            self.await_return(&[TableReference::partial(schema.as_str(), name.as_str())]).await?;
        }
        let _one_at_a_time = self.defining.lock().await;
        match statement {
            ViewStatement::Create { name, sql, replace, if_not_exists, file } => {
                if if_not_exists && self.definitions.read().contains_key(&name) {
                    return Ok(Done { name, outcome: "it is there already".to_owned() });
                }
                let outcome = self.create(session, &name, &sql, replace, file).await?;
                Ok(Done { name, outcome })
            }
            ViewStatement::Drop { name, if_exists } => {
                let is_there = self.definitions.read().contains_key(&name) || self.is_returning(&name);
                if if_exists && !is_there {
                    return Ok(Done { name, outcome: "there is none".to_owned() });
                }
                self.drop_view(&name).await?;
                Ok(Done { name, outcome: "dropped".to_owned() })
            }
            ViewStatement::Refresh { name } => {
                let view = self.definition(&name)?.view;
                let shared = Arc::clone(self);
                self.with_core(move |core| core.refresh_view(view).map(|report| shared.deliver(report))).await??;
                let outcome = self.shown(&name, SHOWN_WAIT).await?;
                Ok(Done { name, outcome })
            }
            ViewStatement::Explain { name } | ViewStatement::Subscribe { name, .. } => {
                Err(refused(&format!("defining {name}"), "the statement reads a view and defines none"))
            }
        }
    }

    async fn create(
        self: &Arc<Self>,
        session: &Session,
        name: &ViewName,
        sql: &str,
        replace: bool,
        file: Option<String>,
    ) -> Result<String> {
        self.check_name(name, replace)?;
        let search_path = session.search_path();
        let plan = session.plan(&session.own_context().state(), &parse_query(sql)?).await?;
        let new = New { id: new_id(), name: name.clone(), sql: sql.to_owned(), search_path, file };
        self.add(&new, plan, replace).await?;
        let view = self.definition(name)?.view;
        let outcome = match self.settled(view, SHOWN_WAIT).await {
            ViewState::Failed(reason) => {
                self.drop_view(name).await?;
                return Err(refused(&format!("CREATE MATERIALIZED VIEW {name}"), &reason));
            }
            ViewState::Live => "shown",
            ViewState::Loading => LOADING,
        };
        self.store_definitions()?;
        Ok(outcome.to_owned())
    }

    pub(super) fn check_name(&self, name: &ViewName, replace: bool) -> Result<()> {
        let what = format!("CREATE MATERIALIZED VIEW {name}");
        ServiceName::parse(&name.schema)?;
        if self.catalog.service(&name.schema).is_some() {
            let reason = format!("schema \"{}\" is a service; choose a schema that is none", name.schema);
            return Err(refused(&what, &reason));
        }
        if name.schema == super::system::SCHEMA {
            return Err(refused(&what, "the schema \"headwater\" is the engine's own; choose another"));
        }
        let taken = self
            .catalog
            .local_tables()
            .into_iter()
            .any(|(schema, table, _)| (schema, table) == (name.schema.clone(), name.name.clone()));
        let is_view = self.definitions.read().contains_key(name);
        if taken && !(is_view && replace) {
            let reason =
                if is_view { "there is one already; write CREATE OR REPLACE" } else { "a table has this name" };
            return Err(refused(&what, reason));
        }
        Ok(())
    }

    /// Makes a view out of its planned query and lets the services that it reads be followed.
    pub(super) async fn add(self: &Arc<Self>, new: &New, plan: LogicalPlan, replace: bool) -> Result<()> {
        let (name, sql) = (&new.name, &new.sql);
        let tables = self.tables_of(&plan)?;
        let inputs = crate::access::reads::reads(&plan)?;
        let old = self.definitions.read().get(name).map(|definition| definition.view).filter(|_| replace);
        let written = plan.clone();
        let (shared, wanted, full_name) = (Arc::clone(self), tables.clone(), name.to_string());
        let shared_too = Arc::clone(self);
        let remembered = self.remembered(&new.id).await?;
        let made = self.with_core(move |core| {
            let mut ids = Ids::new();
            for (service, tables) in &wanted {
                let source = core.add_source(service.name().as_str(), covers(service));
                for (table, definition) in tables {
                    let id = core.add_table(source, table, definition)?;
                    ids.insert((service.name().to_string(), table.clone()), (source, id));
                }
            }
            let query = Query::new(plan, &mut |scan| resolve(scan, &ids));
            let made = query.and_then(|query| {
                if let Some(old) = old {
                    shared.deliver(core.drop_view(old)?);
                }
                let (schema, tells_time) = (Arc::clone(query.schema()), query.tells_time());
                let view = core.create_view(&full_name, query)?;
                if let Some(remembered) = remembered {
                    shared.resume(core, view, remembered);
                }
                Ok((view, schema, tells_time, ids))
            });
            // Tables that only the query that failed, or only the view that was replaced, would read.
            let released = shared_too.release_tables(core);
            made.map(|made| (made, released))
        });
        let ((view, schema, tells_time, ids), released) = made.await??;
        let table =
            ViewTable::new(name.clone(), view, Arc::clone(&schema), sql.clone(), inputs, self.published.clone());
        let shape = Arc::new(Shape::new(written, Arc::clone(&table))?);
        let definition = Definition {
            view,
            id: new.id.clone(),
            sql: sql.clone(),
            schema,
            tells_time,
            search_path: new.search_path.clone(),
            file: new.file.clone(),
            shape,
        };
        self.definitions.write().insert(name.clone(), definition);
        if let Some(old) = old {
            self.end_history(old);
        }
        self.catalog.register_local(&ServiceName::parse(&name.schema)?, &name.name, table)?;
        info!(view = %name, "materialized view created");
        self.follow_all(tables, &ids);
        self.follow_no_more(&released);
        let shared = Arc::clone(self);
        self.with_core(move |core| shared.deliver(core.start_views())).await
    }

    /// The tables of services that a plan reads.
    fn tables_of(&self, plan: &LogicalPlan) -> Result<Vec<Tables>> {
        let mut services: Vec<Tables> = Vec::new();
        for scan in scans(plan)? {
            let Ok(provider) = source_as_provider(&scan.source) else { continue };
            let Some(table) = provider.downcast_ref::<RemoteTable>() else { continue };
            let (service, definition) = (table.service(), Arc::clone(table.definition()));
            let place = services.iter().position(|(known, _)| known.name() == service.name()).unwrap_or_else(|| {
                services.push((Arc::clone(service), BTreeMap::new()));
                services.len() - 1
            });
            services[place].1.insert(table.name().to_owned(), definition);
        }
        Ok(services)
    }

    /// Lets services be followed for these tables; those that are followed already for the new ones among them.
    fn follow_all(self: &Arc<Self>, tables: Vec<Tables>, ids: &Ids) {
        for (service, tables) in tables {
            let name = service.name().to_string();
            let Some(((_, _), (source, _))) = ids.iter().find(|((service, _), _)| *service == name) else { continue };
            let source = *source;
            let mut followed = self.followed.write();
            let is_new = !followed.contains_key(&name);
            let entry = Arc::clone(followed.entry(name.clone()).or_insert_with(|| Followed::new(service, source)));
            drop(followed);
            let wanted = tables.into_iter().filter_map(|(table, definition)| {
                ids.get(&(name.clone(), table)).map(|(_, id)| Wanted { id: *id, definition })
            });
            let wanted: Vec<Wanted> = wanted.collect();
            entry.tables.send_if_modified(|held| {
                let new: Vec<Wanted> =
                    wanted.into_iter().filter(|new| held.iter().all(|held| held.id != new.id)).collect();
                held.extend(new.iter().cloned());
                !new.is_empty()
            });
            if is_new && !self.restoring.load(Ordering::SeqCst) {
                self.start(&entry);
            }
        }
    }

    /// Forgets the tables that no view reads; none while views of the state directory are still to come back, which read what it holds.
    pub(super) fn release_tables(&self, core: &mut Maintenance) -> Vec<TableId> {
        match self.returning.borrow().is_empty() {
            true => core.release_tables(),
            false => vec![],
        }
    }

    pub(super) fn follow_no_more(&self, released: &[TableId]) {
        for followed in self.followed.read().values() {
            followed.tables.send_if_modified(|held| {
                let before = held.len();
                held.retain(|held| !released.contains(&held.id));
                held.len() != before
            });
        }
    }

    /// Follows every service that a view reads and that is not followed yet.
    pub(super) fn start_feeds(self: &Arc<Self>) {
        self.restoring.store(false, Ordering::SeqCst);
        let followed: Vec<_> = self.followed.read().values().cloned().collect();
        followed.iter().filter(|followed| !followed.is_running()).for_each(|followed| self.start(followed));
    }

    fn start(self: &Arc<Self>, followed: &Arc<Followed>) {
        let (shared, task) = (Arc::clone(self), Arc::clone(followed));
        let handle = match &followed.feed {
            Some(feed) => self.spawn(follow::follow(shared, task, Arc::clone(feed))),
            None => self.spawn(poll::poll(shared, task)),
        };
        followed.run(handle);
    }

    pub(super) async fn drop_view(self: &Arc<Self>, name: &ViewName) -> Result<()> {
        // Its services need not be there for it to go.
        if self.is_returning(name) && !self.definitions.read().contains_key(name) {
            self.returned(name);
            return self.store_definitions();
        }
        let view = self.definition(name)?.view;
        let shared = Arc::clone(self);
        let released = self.with_core(move |core| {
            let report = core.drop_view(view)?;
            let released = shared.release_tables(core);
            shared.deliver(report);
            Ok::<_, ViewError>(released)
        });
        let released = released.await??;
        self.definitions.write().remove(name);
        self.end_history(view);
        self.catalog.unregister_local(&name.schema, &name.name);
        self.follow_no_more(&released);
        self.store_definitions()?;
        info!(view = %name, "materialized view dropped");
        Ok(())
    }

    /// Nobody follows a view any more that is gone.
    fn end_history(&self, view: ViewId) {
        self.history(view).end();
        self.histories.lock().remove(&view);
    }

    /// What became of a view that was just defined.
    async fn shown(self: &Arc<Self>, name: &ViewName, limit: Duration) -> Result<String> {
        let view = self.definition(name)?.view;
        Ok(match self.settled(view, limit).await {
            ViewState::Live => "shown".to_owned(),
            ViewState::Loading => LOADING.to_owned(),
            ViewState::Failed(reason) => format!("failed: {reason}"),
        })
    }
}

fn scans(plan: &LogicalPlan) -> Result<Vec<TableScan>> {
    use datafusion::common::tree_node::TreeNodeRecursion;
    let mut scans = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.push(scan.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

fn resolve(scan: &TableScan, ids: &Ids) -> headwater_views::Result<Resolved> {
    let unknown = || ViewError::Query {
        reason: format!("\"{}\" is neither a table of a service nor a materialized view", scan.table_name),
    };
    let provider = source_as_provider(&scan.source).map_err(|_| unknown())?;
    if let Some(table) = provider.downcast_ref::<RemoteTable>() {
        let key = (table.service().name().to_string(), table.name().to_owned());
        let (_, id) = ids.get(&key).ok_or_else(unknown)?;
        return Ok(Resolved { input: Input::Table(*id), schema: table.definition().schema() });
    }
    let view = provider.downcast_ref::<ViewTable>().ok_or_else(unknown)?;
    Ok(Resolved { input: Input::View(view.view), schema: Arc::clone(&view.schema) })
}

/// Whether a position of a service's feed covers a token. A polled service has no tokens but the numbers of its readings.
pub(super) fn covers(service: &Arc<Service>) -> headwater_views::Covers {
    let feed = service.source().feed();
    let name = service.name().to_string();
    Arc::new(move |position: &Position, token: &str| match &feed {
        Some(feed) => feed.covers(position, token).map_err(|error| error.report()),
        None => Err(format!("service \"{name}\" has no feed, so it has no positions that a writer could know")),
    })
}

impl From<ViewError> for Error {
    fn from(error: ViewError) -> Self {
        Self::View(Box::new(error))
    }
}
