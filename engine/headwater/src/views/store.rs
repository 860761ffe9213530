//! Views' state: definitions, and checkpoints of the tables that views read.
//!
//! Parts come before the manifest that names them, and what no manifest names any more is removed after it. Only then are sources told that
//! they may forget. Where the pieces are kept, and that one engine keeps them at a time, is the business of [`Place`].

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::TableReference;
use headwater_source::Error as SourceError;
use headwater_views::{Checkpoint, Maintenance, Options, Vector};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::ask::ViewName;
use super::files::ViewFiles;
use super::journal::Entry;
use super::place::{DEFINITIONS, MANIFEST, Place, StateStore};
use super::registry::{Definition, Shared};
use crate::engine::WeakEngine;
use crate::{Engine, Error, ErrorKind, Result};

/// The longest wait before a view is tried again whose services could not be asked, in milliseconds.
const RETRY_MS_MAX: u64 = 5_000;

/// What an engine keeps of its views.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) place: Box<dyn Place>,
    /// One checkpoint at a time, and none once the engine has ended.
    pub(super) storing: Mutex<Stage>,
    /// Where the journals are, as the place's index says; and whether it does, or could not be written.
    pub(super) journals: Mutex<(Vec<Entry>, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Closed,
}

/// A view that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct New {
    /// What its journal is known by.
    pub(super) id: String,
    pub(crate) name: ViewName,
    pub(crate) sql: String,
    pub(crate) search_path: Vec<String>,
    /// The file that defines it; `None` where it was made by SQL.
    pub(crate) file: Option<String>,
}

impl Store {
    pub(super) fn open(store: &StateStore) -> Result<Self> {
        let store = Self { place: store.open()?, storing: Mutex::new(Stage::Open), journals: Mutex::default() };
        *store.journals.lock() = (store.read_journals()?, true);
        Ok(store)
    }

    /// Lets another engine have the place. What is being stored is finished first.
    pub(super) fn close(&self) {
        *self.storing.lock() = Stage::Closed;
        self.place.close();
    }

    /// The tables as they were stored last; none in a place that is new. The number from which epochs go on is stored before any has it, so that an
    /// engine that comes from the same tables, because this one stored nothing more, has others.
    pub(super) fn restore(&self, options: Options) -> Result<Maintenance> {
        let mut maintenance = self.read(options)?;
        let checkpoint = maintenance.checkpoint()?;
        self.store(&checkpoint).map_err(|error| self.wrong(&error))?;
        Ok(maintenance)
    }

    fn read(&self, options: Options) -> Result<Maintenance> {
        let manifest = self.place.read(MANIFEST).map_err(|error| self.wrong(&error))?;
        let Some(manifest) = manifest else { return Ok(Maintenance::new(options)) };
        // Until a view asks for the service again nothing depends on it.
        let nothing: headwater_views::Covers = Arc::new(|_, _| Err("the service is not open yet".to_owned()));
        let restored = Maintenance::restore(options.clone(), &manifest, &mut |part| self.place.part(part), &|_| {
            Arc::clone(&nothing)
        });
        match restored {
            Ok(maintenance) => {
                info!(epoch = maintenance.published().number, vector = %maintenance.published().vector, "views' state restored");
                Ok(maintenance)
            }
            // Damage costs a new reading of the tables; nothing wrong is ever shown.
            Err(error) => {
                error!(error = error.report(), "views' state cannot be read; tables are read anew from their sources");
                Ok(Maintenance::new(options))
            }
        }
    }

    fn write_definitions(&self, views: &[New]) -> Result<()> {
        // What a checkpoint clears away must not be what is being written here.
        let _one_at_a_time = self.storing.lock();
        let line = |view: &New| {
            let New { id, name, sql, search_path, file } = view;
            json!({ "id": id, "schema": name.schema, "name": name.name, "sql": sql, "search_path": search_path, "file": file })
        };
        let text = json!({ "format": 1, "views": views.iter().map(line).collect::<Vec<_>>() }).to_string();
        self.place.replace(DEFINITIONS, text.as_bytes()).map_err(|error| self.wrong(&error))
    }

    pub(super) fn definitions(&self) -> Result<Vec<New>> {
        let text = self.place.read(DEFINITIONS).map_err(|error| self.wrong(&error))?;
        let Some(text) = text else { return Ok(vec![]) };
        let damaged =
            || SourceError::config(format!("\"{DEFINITIONS}\" of {} is damaged; mend or remove it", self.place.name()));
        let value: Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let views = value.get("views").and_then(Value::as_array).ok_or_else(damaged)?;
        views.iter().map(|view| stored(view).ok_or_else(|| damaged().into())).collect()
    }

    /// Stores tables, and removes what nothing needs any more; not while the index of journals may name other pieces than is known.
    fn store(&self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        for part in &checkpoint.parts {
            self.place.add(&part.name, &part.bytes)?;
        }
        self.place.replace(MANIFEST, &checkpoint.manifest)?;
        let (journals, is_stored) = self.journals.lock().clone();
        let pieces: Vec<String> = journals.iter().flat_map(Entry::pieces).collect();
        if is_stored { self.place.keep_only(&[checkpoint.needed.as_slice(), &pieces].concat()) } else { Ok(()) }
    }

    pub(super) fn wrong(&self, error: &std::io::Error) -> Error {
        SourceError::config(format!("{} cannot be used: {error}", self.place.name())).into()
    }
}

impl Shared {
    /// Stores what changed, and tells the sources that they may forget it.
    pub(crate) async fn checkpoint(self: &Arc<Self>) -> Result<()> {
        if self.store.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || shared.checkpoint_now()).await;
        let vector = stored.map_err(|error| super::registry::refused("storing views", &error.to_string()))??;
        let followed: Vec<_> = self.followed.read().values().cloned().collect();
        for followed in followed {
            let Some((feed, position)) = followed.feed.as_ref().zip(vector.position(followed.name())) else { continue };
            if let Err(error) = feed.acknowledge(position).await {
                // The source keeps what it may forget; the next checkpoint says so again.
                warn!(service = followed.name(), error = error.report(), "source could not be told what is stored");
            }
        }
        Ok(())
    }

    fn checkpoint_now(&self) -> Result<Vector> {
        let Some(store) = &self.store else { return Ok(Vector::default()) };
        let stage = store.storing.lock();
        if *stage == Stage::Closed {
            return Ok(Vector::default());
        }
        self.checkpoint_journals(store);
        let mut core = self.core.lock();
        let vector = core.published().vector.clone();
        let checkpoint = core.checkpoint()?;
        drop(core);
        if let Err(error) = store.store(&checkpoint) {
            self.core.lock().forget_checkpoints();
            return Err(store.wrong(&error));
        }
        Ok(vector)
    }

    /// Checkpoints until the engine ends.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.checkpoint_interval).await;
            if let Err(error) = self.checkpoint().await {
                error!(error = error.report(), "views' state could not be stored");
            }
        }
    }

    /// Writes down which views there are, those that are not back yet among them.
    pub(super) fn store_definitions(&self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let definitions = self.definitions.read().clone();
        // Views only read views that are older; the order in which they were created is that of their numbers.
        let mut ordered: Vec<(ViewName, Definition)> = definitions.into_iter().collect();
        ordered.sort_by_key(|(_, definition)| definition.view);
        let mut views: Vec<New> = ordered
            .into_iter()
            .map(|(name, Definition { id, sql, search_path, file, .. })| New { id, name, sql, search_path, file })
            .collect();
        let missing: Vec<New> = self
            .returning
            .borrow()
            .iter()
            .filter(|new| views.iter().all(|view| view.name != new.name))
            .cloned()
            .collect();
        views.extend(missing);
        store.write_definitions(&views)
    }

    /// Creates the views that are to come back, each once its services can be asked for their tables.
    pub(crate) async fn recreate(self: Arc<Self>, engine: WeakEngine) {
        let mut attempt = 0_u64;
        loop {
            let views = self.returning.borrow().clone();
            for new in views {
                let Some(engine) = engine.upgrade() else { return };
                match self.recreate_one(&engine, &new).await {
                    Ok(()) => {}
                    Err(error) if new.file.is_some() && is_final(&error) => {
                        let (view, file) = (&new.name, new.file.as_deref().unwrap_or_default());
                        error!(%view, file, error = error.report(), "materialized view of a file cannot be made");
                    }
                    Err(error) => {
                        warn!(view = %new.name, attempt, error = error.report(), "materialized view could not be brought back yet");
                        continue;
                    }
                }
                self.returning.send_modify(|returning| returning.retain(|returning| *returning != new));
            }
            let shared = Arc::clone(&self);
            match self.with_core(move |core| shared.release_tables(core)).await {
                Ok(released) => self.follow_no_more(&released),
                Err(error) => error!(error = error.report(), "tables that no view reads could not be released"),
            }
            // Changes are read for all views that are back at once: a table that nobody asks for would be left behind.
            self.start_feeds();
            if self.returning.borrow().is_empty() {
                break;
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_millis((100 * attempt).min(RETRY_MS_MAX))).await;
        }
        if let Err(error) = self.store_definitions() {
            error!(error = error.report(), "views' definitions could not be stored");
        }
    }

    async fn recreate_one(self: &Arc<Self>, engine: &Engine, new: &New) -> Result<()> {
        let session = engine.session();
        session.use_search_path(new.search_path.clone());
        let statement = super::ask::parse_query(&new.sql)?;
        let plan = session.plan_now(&session.own_context().state(), &statement).await?;
        let _one_at_a_time = self.defining.lock().await;
        // It may have been dropped or made anew meanwhile.
        if self.definitions.read().contains_key(&new.name) || !self.returning.borrow().contains(new) {
            return Ok(());
        }
        self.check_name(&new.name, false)?;
        self.add(new, plan, false).await
    }

    pub(super) fn is_returning(&self, name: &ViewName) -> bool {
        self.returning.borrow().iter().any(|stored| stored.name == *name)
    }

    /// A view of the state directory is back, or is not to come back.
    pub(super) fn returned(&self, name: &ViewName) {
        self.returning.send_modify(|returning| returning.retain(|stored| stored.name != *name));
    }

    /// Waits for views of the state directory that a statement names and that are not back yet.
    ///
    /// # Errors
    /// [`Error::Stale`]: the services of one could not be asked for so long.
    pub(crate) async fn await_return(&self, names: &[TableReference]) -> Result<()> {
        let missing = |returning: &[New]| {
            let is_named = |stored: &&New| {
                names.iter().any(|name| {
                    name.table() == stored.name.name && name.schema().is_none_or(|schema| schema == stored.name.schema)
                })
            };
            returning.iter().find(is_named).map(|stored| stored.name.clone())
        };
        let mut returning = self.returning.subscribe();
        let Some(name) = missing(&returning.borrow_and_update()) else { return Ok(()) };
        let back = returning.wait_for(|returning| missing(returning).is_none());
        match tokio::time::timeout(self.options.stale_wait, back).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Stale(format!(
                "materialized view \"{name}\" is not back since the engine started, after {} ms: a service that it reads does not answer; try again later",
                self.options.stale_wait.as_millis()
            ))),
        }
    }

    /// The views that the state directory holds.
    pub(crate) fn stored_definitions(&self) -> Result<Vec<New>> {
        self.store.as_ref().map_or(Ok(vec![]), Store::definitions)
    }
}

impl ViewFiles {
    /// The views to begin with: those of a state directory that were made by SQL, and those of the files.
    pub(super) fn over(&self, stored: Vec<New>, search_path: &[String]) -> Vec<New> {
        let (mut views, mut known): (Vec<New>, Vec<New>) = (vec![], vec![]);
        for new in stored {
            match (self.view(&new.name), &new.file) {
                (Some(view), None) => {
                    let taken = view.fault("a materialized view of this name was made by SQL, and stays");
                    error!(fault = %taken, "materialized view of a file is not made");
                    views.push(new);
                }
                (None, None) => views.push(new),
                (None, Some(file)) => {
                    info!(view = %new.name, file, "materialized view dropped, since its file defines it no more")
                }
                // Below, in the files' order.
                (Some(_), Some(_)) => known.push(new),
            }
        }
        let by_sql: Vec<ViewName> = views.iter().map(|new| new.name.clone()).collect();
        let of_files = self.views.iter().filter(|view| !by_sql.contains(&view.name)).map(|view| {
            let same = known.iter().find(|known| known.name == view.name && known.sql == view.sql);
            New {
                id: same.map_or_else(new_id, |same| same.id.clone()),
                name: view.name.clone(),
                sql: view.sql.clone(),
                search_path: search_path.to_vec(),
                file: Some(view.file_name()),
            }
        });
        of_files.chain(views).collect()
    }
}

/// Whether trying again will not help.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Denied | ErrorKind::Unsupported)
}

/// What the journal of a new view is known by.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn stored(view: &Value) -> Option<New> {
    let text = |key: &str| view.get(key).and_then(Value::as_str).map(str::to_owned);
    let path = view.get("search_path")?.as_array()?;
    Some(New {
        // Views that were stored before they had one get it now.
        id: text("id").unwrap_or_else(new_id),
        name: ViewName { schema: text("schema")?, name: text("name")? },
        sql: text("sql")?,
        search_path: path.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        file: text("file"),
    })
}
