//! Sources, tables and views together, epoch by epoch.

mod epoch;
mod epochs;
mod source;
mod status;
mod store;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use headwater_source::{Position, TableDef, Transaction};

pub use epoch::{Epoch, Published, Shown, Vector};
use epochs::Deltas;
pub use source::Covers;
use source::{Source, Waiting, rows_of};
pub use status::{Explained, Held, Report, SourceStatus, ViewChange, ViewState, ViewStatus};
use store::Storage;
use view::View;

use crate::delta::same_columns;
use crate::plan::{Input, Query};
use crate::table::Table;
use crate::{Delta, Error, Result};

/// A source of a [`Maintenance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(usize);

/// A table of a [`Maintenance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(usize);

/// A view of a [`Maintenance`]. One that is dropped and created again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(u64);

/// What a [`Maintenance`] may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many bytes the state and the rows of one view may take. Default 1 GiB.
    pub view_memory_bytes: usize,
    /// How many changed rows an epoch takes at most, but for a single transaction that has more. Default 100,000.
    pub epoch_rows: usize,
    /// How many rows an operator looks at in an epoch because their moment has come, at most, but for rows of one moment. Default 100,000.
    pub due_rows: usize,
    /// How many rows of its inputs a view takes at a time when it is computed from their contents. Default 65,536.
    pub load_rows: usize,
    /// Epochs have greater numbers than this one. Whoever has no checkpoint to start from and yet tells epochs to others must give a number that no
    /// engine before it has come to, such as one made of the time. Default 0.
    pub first_epoch: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { view_memory_bytes: 1 << 30, epoch_rows: 100_000, due_rows: 100_000, load_rows: 65_536, first_epoch: 0 }
    }
}

/// Tables of sources and the views over them.
#[derive(Debug)]
pub struct Maintenance {
    options: Options,
    sources: Vec<Source>,
    tables: Vec<Slot>,
    views: BTreeMap<ViewId, View>,
    next_view: u64,
    epoch: u64,
    /// The time of the last epoch, and that of the clock, in nanoseconds since 1970.
    now: i64,
    clock: i64,
    published: Published,
}

#[derive(Debug)]
struct Slot {
    source: SourceId,
    name: Arc<str>,
    table: Table,
    loaded: bool,
    storage: Storage,
}

/// The tables of a [`Maintenance`], to be looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a>(&'a [Slot]);

impl<'a> Tables<'a> {
    pub(crate) fn get(&self, table: TableId) -> Option<&'a Table> {
        self.0.get(table.0).map(|slot| &slot.table)
    }
}

/// Collects the rows of a table before they become visible; see [`Maintenance::load`].
#[derive(Debug)]
pub struct Loader {
    table: TableId,
    rows: Table,
}

impl Maintenance {
    /// Nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            epoch: options.first_epoch,
            options,
            sources: vec![],
            tables: vec![],
            views: BTreeMap::new(),
            next_view: 0,
            now: 0,
            clock: 0,
            published: Published::default(),
        }
    }

    /// Adds a service's source, or finds the one of that name. `covers` tells whether a position covers a token.
    pub fn add_source(&mut self, service: &str, covers: Covers) -> SourceId {
        if let Some(place) = self.sources.iter().position(|source| &*source.service == service) {
            self.sources[place].covers = covers;
            return SourceId(place);
        }
        self.sources.push(Source::new(service, covers));
        SourceId(self.sources.len() - 1)
    }

    /// Adds a table of a source under the name that queries know it by, or finds the one of that name. It has no rows until the tables of its
    /// source are [loaded](Self::load), which has to follow before the source's next transaction.
    ///
    /// # Errors
    /// A key that is no column; a type that rows can't be compared by; a table of that name with other columns or another key, which a view
    /// reads. One that no view reads is forgotten for the new one.
    pub fn add_table(&mut self, source: SourceId, name: &str, definition: &TableDef) -> Result<TableId> {
        let known = self.source(source)?.tables.iter().find(|table| &*self.tables[table.0].name == name).copied();
        if let Some(known) = known {
            if self.tables[known.0].is_of(definition) {
                return Ok(known);
            }
            if self.is_read(known) {
                let reason = format!(
                    "table \"{name}\" has other columns or another key than what is held; drop the views over it"
                );
                return Err(Error::name(reason));
            }
            self.release(known);
        }
        let service = Arc::clone(&self.source(source)?.service);
        let table = Table::new(service, definition)?;
        self.tables.push(Slot { source, name: name.into(), table, loaded: false, storage: Storage::anew() });
        let id = TableId(self.tables.len() - 1);
        self.sources[source.0].tables.push(id);
        Ok(id)
    }

    /// Whether all of these tables hold rows.
    pub fn are_loaded(&self, tables: &[TableId]) -> bool {
        tables.iter().all(|table| self.tables.get(table.0).is_some_and(|slot| slot.loaded))
    }

    /// Of a source's tables only these are followed from now on. Others that hold rows give them up, since they would be left behind; a view that
    /// reads one starts over once it is loaded again, and shows its last version until then.
    pub fn unload_others(&mut self, source: SourceId, followed: &[TableId]) -> Result<()> {
        let held = self.source(source)?.tables.clone();
        for table in held.into_iter().filter(|table| !followed.contains(table)) {
            let slot = &mut self.tables[table.0];
            if slot.loaded {
                slot.table.clear();
                slot.loaded = false;
                slot.storage = Storage::anew();
                self.reset_readers(Input::Table(table));
            }
        }
        Ok(())
    }

    fn is_read(&self, table: TableId) -> bool {
        self.views.values().any(|view| view.query.inputs().contains(&Input::Table(table)))
    }

    /// Forgets a table.
    fn release(&mut self, table: TableId) {
        let slot = &mut self.tables[table.0];
        slot.table.clear();
        slot.loaded = false;
        let source = &mut self.sources[slot.source.0];
        source.tables.retain(|held| *held != table);
        source.queue.iter_mut().for_each(|waiting| waiting.changes.retain(|(changed, _)| *changed != table));
    }

    /// Lets the views that read an input start over, and those that read them.
    fn reset_readers(&mut self, input: Input) {
        let mut stale = BTreeSet::from([input]);
        // Views only read views that are older.
        for (id, view) in &mut self.views {
            if view.query.inputs().iter().any(|input| stale.contains(input)) {
                view.reset();
                stale.insert(Input::View(*id));
            }
        }
    }

    /// Forgets the tables that no view reads, and where a source stands that has none left. They are no longer their source's; which they were.
    pub fn release_tables(&mut self) -> Vec<TableId> {
        let held = self.sources.iter().flat_map(|source| source.tables.iter().copied());
        let released: Vec<TableId> = held.filter(|table| !self.is_read(*table)).collect();
        released.iter().for_each(|table| self.release(*table));
        // What was installed at such a source may be taken away, and its log may begin anew: it has no position any more.
        let idle = |source: &&mut Source| source.tables.is_empty();
        self.sources.iter_mut().filter(idle).for_each(Source::forget);
        released
    }

    /// The tables of a source, in the order in which they were added, and their names.
    pub fn tables(&self, source: SourceId) -> Result<Vec<(TableId, String)>> {
        let named = |table: &TableId| (*table, self.tables[table.0].name.to_string());
        Ok(self.source(source)?.tables.iter().map(named).collect())
    }

    /// Where the rows of a table are collected. It may be filled while steps go on.
    pub fn loader(&self, table: TableId) -> Result<Loader> {
        let slot = self.tables.get(table.0).ok_or_else(|| Error::name("there is no such table"))?;
        Ok(Loader { table, rows: slot.table.emptied()? })
    }

    /// Tables of a source, all that hold any, hold these rows at this position from the next epoch on, which is published now. Transactions of the source that
    /// wait are forgotten: those up to the position are in the rows, and those after it are to be offered anew.
    ///
    /// # Errors
    /// [`Error::Order`] where the source stood at a later position already; a table of the source that holds rows and for which none are given.
    pub fn load(&mut self, source: SourceId, position: Position, rows: Vec<Loader>) -> Result<Report> {
        let deltas = self.replace(source, position, rows)?;
        let unsettled = self.unsettle_others(source);
        let mut report = self.publish(deltas, Report::default());
        report.unsettled = unsettled;
        Ok(report)
    }

    /// The same for a source that is read again and again, and of which nobody knows what its rows build upon.
    pub fn load_polled(&mut self, source: SourceId, position: Position, rows: Vec<Loader>) -> Result<Report> {
        let deltas = self.replace(source, position, rows)?;
        Ok(self.publish(deltas, Report::default()))
    }

    fn replace(&mut self, source: SourceId, position: Position, rows: Vec<Loader>) -> Result<Deltas> {
        let held = self.source(source)?;
        if let Some(seen) = held.position.as_ref().filter(|seen| **seen > position) {
            return Err(Error::Order {
                service: held.service.to_string(),
                offered: position.to_string(),
                seen: seen.to_string(),
            });
        }
        let mut loaded = held.tables.iter().filter(|table| self.tables[table.0].loaded);
        if let Some(missing) = loaded.find(|table| rows.iter().all(|rows| rows.table != **table)) {
            let (table, service) = (&self.tables[missing.0].name, &held.service);
            return Err(Error::name(format!(
                "table \"{table}\" of service \"{service}\" was not read with the others of its source"
            )));
        }
        let mut deltas = Deltas::new();
        for loaded in rows {
            let slot = &mut self.tables[loaded.table.0];
            if !slot.loaded {
                // No view is live over a table that holds nothing, so nobody has to be told of its rows.
                (slot.table, slot.loaded, slot.storage) = (loaded.rows, true, Storage::anew());
                continue;
            }
            let difference = slot.table.replace(loaded.rows)?;
            slot.loaded = true;
            slot.storage.changed(&difference, slot.table.count());
            if !difference.is_empty() {
                deltas.insert(Input::Table(loaded.table), difference);
            }
        }
        self.sources[source.0].loaded(position);
        Ok(deltas)
    }

    /// The rows of a source may build upon what another committed before they were read: the other's end is asked for, and views over both
    /// start over once it was [told](Self::settle) and reached.
    fn unsettle_others(&mut self, loaded: SourceId) -> Vec<SourceId> {
        let mut others = Vec::new();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if SourceId(number) != loaded && source.position.is_some() {
                source.ask_end();
                others.push(SourceId(number));
            }
        }
        for view in self.views.values_mut() {
            let is_joint = view.sources.contains(&loaded) && others.iter().any(|other| view.sources.contains(other));
            // A view that has failed stays so until it is refreshed.
            if is_joint && view.failed.is_none() {
                view.reset();
            }
        }
        others
    }

    /// Tells where a source's log ended after [`Report::unsettled`] asked for it: everything committed before it was asked is at or before this
    /// position. `None` where there is no such place. Views that waited for nothing else begin.
    pub fn settle(&mut self, source: SourceId, end: Option<Position>) -> Result<Report> {
        self.source(source)?;
        self.sources[source.0].settle(end);
        Ok(self.publish(Deltas::new(), Report::default()))
    }

    /// Tells where the log of a source that was [restored](Self::restore) ends now; more than once does nothing.
    pub fn settle_restart(&mut self, source: SourceId, end: Position) -> Result<Report> {
        self.source(source)?;
        match self.sources[source.0].settle_restart(Some(end)) {
            true => Ok(self.publish(Deltas::new(), Report::default())),
            false => Ok(Report::default()),
        }
    }

    /// A source's log began anew, so that its positions don't compare with those before: what is [loaded](Self::load) next may stand before
    /// what was held.
    pub fn begin_history(&mut self, source: SourceId) -> Result<()> {
        self.source(source)?;
        self.sources[source.0].begin_history();
        Ok(())
    }

    /// A transaction of a source waits for an epoch. `tables` are those that the feed was asked for, in that order.
    ///
    /// # Errors
    /// [`Error::Order`] where its position is not after that of the one before it; a source whose tables are not loaded.
    pub fn offer(&mut self, source: SourceId, transaction: Transaction, tables: &[TableId]) -> Result<()> {
        let held = self.source(source)?;
        let Some(seen) = &held.offered else {
            return Err(Error::name(format!("the tables of service \"{}\" are not loaded yet", held.service)));
        };
        if transaction.position <= *seen {
            return Err(Error::Order {
                service: held.service.to_string(),
                offered: transaction.position.to_string(),
                seen: seen.to_string(),
            });
        }
        let rows = rows_of(&transaction.changes);
        let mut changes = Vec::with_capacity(transaction.changes.len());
        for change in transaction.changes {
            let table = tables.get(change.table).copied().filter(|table| held.tables.contains(table));
            let table = table.ok_or_else(|| {
                Error::name(format!("service \"{}\" told of a table that it was not asked for", held.service))
            })?;
            changes.push((table, change.change));
        }
        let waiting = Waiting { position: transaction.position, depends_on: transaction.depends_on, changes, rows };
        self.sources[source.0].push(waiting);
        Ok(())
    }

    /// Forgets the transactions of a source that wait. Where to read on: after this position.
    pub fn restart(&mut self, source: SourceId) -> Result<Option<Position>> {
        self.source(source)?;
        let held = &mut self.sources[source.0];
        held.drain();
        Ok(held.position.clone())
    }

    /// Creates a view. It is visible from the first epoch on in which all of its inputs are loaded; [`Maintenance::start_views`] makes one now.
    ///
    /// # Errors
    /// There is a view of that name; the query reads what is not there.
    pub fn create_view(&mut self, name: &str, query: Query) -> Result<ViewId> {
        if self.views.values().any(|view| &*view.name == name) {
            return Err(Error::name(format!("there is a materialized view \"{name}\" already")));
        }
        let mut sources = BTreeSet::new();
        for input in query.inputs() {
            match input {
                Input::Table(table) => {
                    let slot = self.tables.get(table.0).ok_or_else(|| Error::name("there is no such table"))?;
                    sources.insert(slot.source);
                }
                Input::View(view) => {
                    let view = self.views.get(view).ok_or_else(|| Error::name("there is no such view"))?;
                    sources.extend(view.sources.iter().copied());
                }
            }
        }
        let id = ViewId(self.next_view);
        self.next_view += 1;
        self.views.insert(id, View::new(name, query, sources, self.options.view_memory_bytes));
        Ok(id)
    }

    /// What readers were last told that a view's rows are, before the engine started: rows that add up to them. What it first shows is told as the
    /// difference to them, so that whoever has them goes on from there.
    ///
    /// # Errors
    /// The view has other columns, or is not there.
    pub fn remember(&mut self, view: ViewId, told: Vec<Delta>) -> Result<()> {
        let held = self.view(view)?;
        if told.iter().any(|delta| !same_columns(&delta.rows().schema(), held.query.schema())) {
            return Err(Error::name(format!("materialized view \"{}\" had other columns", held.name)));
        }
        if let Some(view) = self.views.get_mut(&view).filter(|view| !view.is_live()) {
            view.told = Some(told);
        }
        Ok(())
    }

    /// Drops a view.
    ///
    /// # Errors
    /// Another view reads it; there is no such view.
    pub fn drop_view(&mut self, view: ViewId) -> Result<Report> {
        let name = Arc::clone(&self.view(view)?.name);
        if let Some(reader) = self.views.values().find(|other| other.query.inputs().contains(&Input::View(view))) {
            let reason = format!("materialized view \"{name}\" is read by \"{}\"; drop that first", reader.name);
            return Err(Error::name(reason));
        }
        self.views.remove(&view);
        Ok(self.publish(Deltas::new(), Report::default()))
    }

    /// Computes a view anew from what its tables hold, and those that read it.
    pub fn refresh_view(&mut self, view: ViewId) -> Result<Report> {
        self.view(view)?;
        if let Some(view) = self.views.get_mut(&view) {
            view.reset();
        }
        self.reset_readers(Input::View(view));
        Ok(self.publish(Deltas::new(), Report::default()))
    }

    /// Brings views up whose inputs are all there, and publishes.
    pub fn start_views(&mut self) -> Report {
        self.publish(Deltas::new(), Report::default())
    }

    /// What the clock says, in nanoseconds since 1970: the time of the next epoch for views that read now(). A clock that goes back is not followed.
    pub fn set_clock(&mut self, now: i64) {
        self.clock = self.clock.max(now);
    }

    /// The next moment at which a view changes though nothing else does.
    pub fn next_moment(&self) -> Option<i64> {
        self.views.values().filter(|view| view.failed.is_none()).filter_map(View::next_moment).min()
    }

    /// The newest epoch.
    pub fn published(&self) -> Arc<Epoch> {
        self.published.latest()
    }

    /// The number of the last epoch, published or of an engine before: those that follow have greater ones.
    pub fn last_epoch(&self) -> u64 {
        self.epoch
    }

    /// Where readers find the newest epoch.
    pub fn reader(&self) -> Published {
        self.published.clone()
    }

    /// How a source stands.
    pub fn source_status(&self, source: SourceId) -> Result<SourceStatus> {
        let held = self.source(source)?;
        let tentative = self.vector();
        Ok(SourceStatus {
            service: held.service.to_string(),
            position: held.position.clone(),
            waiting: held.queue.len(),
            waiting_rows: held.queued_rows,
            held: held.queue.front().and_then(|first| self.held(first, &tentative)),
            failed: held.failed.clone(),
        })
    }

    /// How a view stands.
    pub fn view_status(&self, view: ViewId) -> Result<ViewStatus> {
        let view = self.view(view)?;
        Ok(ViewStatus { name: view.name.to_string(), state: view.state(), rows: view.rows(), bytes: view.bytes() })
    }

    /// The services that a view reads, through other views too.
    pub fn view_sources(&self, view: ViewId) -> Result<Vec<SourceId>> {
        Ok(self.view(view)?.sources.iter().copied().collect())
    }

    /// The operators of a view, from the root.
    pub fn explain(&self, view: ViewId) -> Result<Vec<Explained>> {
        self.view(view)?.explain()
    }

    /// Rows and bytes of a table.
    pub fn table_size(&self, table: TableId) -> Result<(usize, usize)> {
        let slot = self.tables.get(table.0).ok_or_else(|| Error::name("there is no such table"))?;
        Ok((slot.table.count(), slot.table.bytes()))
    }

    fn source(&self, source: SourceId) -> Result<&Source> {
        self.sources.get(source.0).ok_or_else(|| Error::name("there is no such source"))
    }

    fn view(&self, view: ViewId) -> Result<&View> {
        self.views.get(&view).ok_or_else(|| Error::name("there is no such materialized view"))
    }
}

impl Slot {
    /// Whether the table is still what its source says of it.
    fn is_of(&self, definition: &TableDef) -> bool {
        self.table.schema() == &definition.schema()
            && self.table.key_names() == definition.key.clone().unwrap_or_default()
    }
}

impl Loader {
    /// Which table it is.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::DuplicateKey`]; other columns than those of the table.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows.load(rows)
    }
}
