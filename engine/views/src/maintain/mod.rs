//! Sources, tables and views together, epoch by epoch.

mod epoch;
mod source;
mod store;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use headwater_source::{Position, TableDef, Transaction};

pub use epoch::{Epoch, Published, Shown, Vector};
pub use source::Covers;
use source::{Source, Waiting, rows_of};
use store::Storage;
use view::View;

use crate::operator::{Changes, Description};
use crate::plan::{Input, Query};
use crate::table::Table;
use crate::{Delta, Error, Result, Version};

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
}

impl Default for Options {
    fn default() -> Self {
        Self { view_memory_bytes: 1 << 30, epoch_rows: 100_000 }
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

/// Collects the rows of a table before they become visible; see [`Maintenance::load`].
#[derive(Debug)]
pub struct Loader {
    table: TableId,
    rows: Table,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Report {
    /// The epoch that it published, where there was anything to publish.
    pub epoch: Option<Arc<Epoch>>,
    /// What it did to the rows of each view that changed.
    pub changes: Vec<ViewChange>,
    /// Views that failed in it, with the reason.
    pub failed_views: Vec<(ViewId, Error)>,
    /// Sources that failed in it, with the reason.
    pub failed_sources: Vec<(SourceId, Error)>,
    /// Whether more transactions could follow at once.
    pub more: bool,
}

/// What an epoch did to a view.
#[derive(Debug)]
pub struct ViewChange {
    /// The view.
    pub view: ViewId,
    /// Each row that changed, once, with the weight that it gained or lost.
    pub delta: Delta,
    /// Whether it is computed anew and not from the version before it.
    pub restarted: bool,
}

/// Where a source stands.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The service.
    pub service: String,
    /// Its position in the newest epoch.
    pub position: Option<Position>,
    /// Transactions that wait.
    pub waiting: usize,
    /// Rows that they change.
    pub waiting_rows: usize,
    /// What holds the first of them back.
    pub held: Option<Held>,
    /// Why it goes no further; reading its tables anew mends it.
    pub failed: Option<String>,
}

/// A transaction that is held back until another source has come further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it stands.
    pub position: Position,
    /// The source that it waits for.
    pub service: String,
    /// What that has to cover.
    pub token: String,
    /// Why it can't be told whether it does.
    pub fault: Option<String>,
}

/// Whether a view goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewState {
    /// Its inputs are not loaded yet.
    Loading,
    /// It shows every epoch.
    Live,
    /// It stays at its last version, for this reason.
    Failed(String),
}

/// How a view stands.
#[derive(Debug, Clone)]
pub struct ViewStatus {
    /// Its name.
    pub name: String,
    /// Whether it goes on.
    pub state: ViewState,
    /// Different rows that it shows.
    pub rows: usize,
    /// Bytes of its state and its rows.
    pub bytes: usize,
}

/// A line of EXPLAIN MATERIALIZED VIEW.
#[derive(Debug, Clone)]
pub struct Explained {
    /// How deep it stands; 0 for the root.
    pub depth: usize,
    /// The operator.
    pub description: Description,
}

/// The difference that an epoch makes, by input.
type Deltas = HashMap<Input, Vec<Delta>>;

impl Maintenance {
    /// Nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            sources: vec![],
            tables: vec![],
            views: BTreeMap::new(),
            next_view: 0,
            epoch: 0,
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
    /// A key that is no column; a type that rows can't be compared by; a table of that name with other columns.
    pub fn add_table(&mut self, source: SourceId, name: &str, definition: &TableDef) -> Result<TableId> {
        let known = self.source(source)?.tables.iter().find(|table| &*self.tables[table.0].name == name);
        if let Some(known) = known {
            if self.tables[known.0].table.schema() != &definition.schema() {
                let reason =
                    format!("table \"{name}\" has other columns than those that are held; drop the views over it");
                return Err(Error::name(reason));
            }
            return Ok(*known);
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

    /// Forgets the tables that no view reads. They are no longer their source's; which they were.
    pub fn release_tables(&mut self) -> Vec<TableId> {
        let read: BTreeSet<TableId> = self
            .views
            .values()
            .flat_map(|view| view.query.inputs())
            .filter_map(|input| match input {
                Input::Table(table) => Some(*table),
                Input::View(_) => None,
            })
            .collect();
        let mut released = Vec::new();
        for source in &mut self.sources {
            source.tables.retain(|table| {
                let keep = read.contains(table);
                if !keep {
                    released.push(*table);
                }
                keep
            });
            source.queue.iter_mut().for_each(|waiting| waiting.changes.retain(|(table, _)| read.contains(table)));
        }
        for table in &released {
            let slot = &mut self.tables[table.0];
            slot.table.clear();
            slot.loaded = false;
        }
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

    /// All tables of a source hold these rows at this position, from the next epoch on, which is published now. Transactions of the source that
    /// wait are forgotten: those up to the position are in the rows, and those after it are to be offered anew.
    ///
    /// # Errors
    /// [`Error::Order`] where the source stood at a later position already; a table of the source for which there are no rows.
    pub fn load(&mut self, source: SourceId, position: Position, rows: Vec<Loader>) -> Result<Report> {
        let held = self.source(source)?;
        if let Some(seen) = held.position.as_ref().filter(|seen| **seen > position) {
            return Err(Error::Order {
                service: held.service.to_string(),
                offered: position.to_string(),
                seen: seen.to_string(),
            });
        }
        if let Some(missing) = held.tables.iter().find(|table| rows.iter().all(|rows| rows.table != **table)) {
            let (table, service) = (&self.tables[missing.0].name, &held.service);
            return Err(Error::name(format!(
                "table \"{table}\" of service \"{service}\" was not read with the others of its source"
            )));
        }
        let mut deltas = Deltas::new();
        for loaded in rows {
            let slot = &mut self.tables[loaded.table.0];
            let difference = slot.table.replace(loaded.rows)?;
            slot.loaded = true;
            slot.storage.changed(&difference, slot.table.count());
            if !difference.is_empty() {
                deltas.insert(Input::Table(loaded.table), difference);
            }
        }
        let held = &mut self.sources[source.0];
        held.position = Some(position);
        held.failed = None;
        held.drain();
        Ok(self.publish(deltas, Report::default()))
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

    /// An epoch: takes what may come of what waits, applies it, brings every view there, and publishes.
    pub fn step(&mut self) -> Report {
        let mut report = Report::default();
        let (chosen, deltas) = loop {
            let chosen = self.choose();
            match self.apply(&chosen) {
                Ok(deltas) => break (chosen, deltas),
                Err((source, error)) => {
                    self.sources[source.0].failed = Some(error.report());
                    report.failed_sources.push((source, error));
                }
            }
        };
        if chosen.values().all(|count| *count == 0) {
            return report;
        }
        for (source, count) in chosen {
            for _ in 0..count {
                let source = &mut self.sources[source.0];
                if let Some(done) = source.pop() {
                    source.position = Some(done.position);
                }
            }
        }
        report.more = self.choose().values().any(|count| *count > 0);
        self.publish(deltas, report)
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
        let mut stale = BTreeSet::from([view]);
        // Views only read views that are older.
        for (id, other) in &self.views {
            if other.query.inputs().iter().any(|input| matches!(input, Input::View(read) if stale.contains(read))) {
                stale.insert(*id);
            }
        }
        self.views.iter_mut().filter(|(id, _)| stale.contains(id)).for_each(|(_, view)| view.reset());
        Ok(self.publish(Deltas::new(), Report::default()))
    }

    /// Brings views up whose inputs are all there, and publishes.
    pub fn start_views(&mut self) -> Report {
        self.publish(Deltas::new(), Report::default())
    }

    /// The newest epoch.
    pub fn published(&self) -> Arc<Epoch> {
        self.published.latest()
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

    fn vector(&self) -> Vector {
        let mut vector = Vector::default();
        for source in &self.sources {
            if let Some(position) = &source.position {
                vector.set(&source.service, position.clone());
            }
        }
        vector
    }

    /// How many transactions of each source the next epoch takes: sources in turn, one transaction each, while what the next one depends on is
    /// covered by what was taken already.
    fn choose(&self) -> BTreeMap<SourceId, usize> {
        let mut chosen: BTreeMap<SourceId, usize> = (0..self.sources.len())
            .filter(|source| self.sources[*source].failed.is_none())
            .map(|s| (SourceId(s), 0))
            .collect();
        let mut vector = self.vector();
        let mut rows = 0;
        loop {
            let mut advanced = false;
            for (id, count) in &mut chosen {
                let source = &self.sources[id.0];
                let Some(next) = source.queue.get(*count) else { continue };
                let fits = rows == 0 || rows + next.rows <= self.options.epoch_rows;
                if !fits || self.held(next, &vector).is_some() {
                    continue;
                }
                vector.set(&source.service, next.position.clone());
                rows += next.rows;
                *count += 1;
                advanced = true;
            }
            if !advanced {
                return chosen;
            }
        }
    }

    /// What a transaction waits for under a vector. A service that is not followed here makes no promise that could be broken.
    fn held(&self, waiting: &Waiting, vector: &Vector) -> Option<Held> {
        for dependency in &waiting.depends_on {
            let Some(source) = self.sources.iter().find(|source| *source.service == *dependency.service) else {
                continue;
            };
            let Some(position) = vector.position(&source.service) else { continue };
            let fault = match (source.covers)(position, &dependency.token) {
                Ok(true) => continue,
                Ok(false) => None,
                Err(fault) => Some(fault),
            };
            return Some(Held {
                position: waiting.position.clone(),
                service: dependency.service.clone(),
                token: dependency.token.clone(),
                fault,
            });
        }
        None
    }

    /// Applies what was chosen to the tables; all of it or nothing.
    fn apply(&mut self, chosen: &BTreeMap<SourceId, usize>) -> Result<Deltas, (SourceId, Error)> {
        let mut touched = BTreeSet::new();
        let applied = self.apply_changes(chosen, &mut touched);
        let finished = applied.and_then(|()| {
            let mut deltas = Deltas::new();
            for table in &touched {
                let slot = &mut self.tables[table.0];
                let difference = slot.table.finish().map_err(|error| (slot.source, error))?;
                slot.storage.changed(&difference, slot.table.count());
                if !difference.is_empty() {
                    deltas.insert(Input::Table(*table), difference);
                }
            }
            Ok(deltas)
        });
        if finished.is_err() {
            touched.iter().for_each(|table| self.tables[table.0].table.undo());
        }
        finished
    }

    fn apply_changes(
        &mut self,
        chosen: &BTreeMap<SourceId, usize>,
        touched: &mut BTreeSet<TableId>,
    ) -> Result<(), (SourceId, Error)> {
        for (source, count) in chosen {
            for waiting in self.sources[source.0].queue.iter().take(*count) {
                for (table, change) in &waiting.changes {
                    touched.insert(*table);
                    self.tables[table.0].table.apply(change).map_err(|error| (*source, error))?;
                }
            }
        }
        Ok(())
    }

    /// Brings every view to the tables' state and publishes an epoch.
    fn publish(&mut self, mut deltas: Deltas, mut report: Report) -> Report {
        let before = self.published.latest();
        let mut epoch = Epoch { number: self.epoch + 1, vector: self.vector(), views: BTreeMap::new() };
        let ids: Vec<ViewId> = self.views.keys().copied().collect();
        for id in ids {
            let followed = self.follow(id, &mut deltas, &mut report);
            if let Err(error) = followed {
                if let Some(view) = self.views.get_mut(&id) {
                    view.failed = Some(error.report().into());
                }
                report.failed_views.push((id, error));
            }
            let Some(view) = self.views.get(&id) else { continue };
            let services = view.sources.iter().map(|source| &self.sources[source.0].service);
            match view.version() {
                Some(version) => {
                    let shown = Shown { version, epoch: epoch.number, vector: epoch.vector.of(services) };
                    epoch.views.insert(id, Arc::new(shown));
                }
                // What failed stays where it was.
                None => {
                    if let Some(shown) = before.views.get(&id) {
                        epoch.views.insert(id, Arc::clone(shown));
                    }
                }
            }
        }
        self.epoch = epoch.number;
        self.published.publish(epoch);
        report.epoch = Some(self.published.latest());
        report
    }

    fn follow(&mut self, id: ViewId, deltas: &mut Deltas, report: &mut Report) -> Result<()> {
        let Some(view) = self.views.get(&id) else { return Ok(()) };
        if view.failed.is_some() {
            return Ok(());
        }
        let inputs = view.query.inputs().to_vec();
        let restarted = !view.is_live();
        let changes = if restarted {
            if !self.are_ready(&inputs) {
                return Ok(());
            }
            let contents = inputs.iter().map(|input| Ok((*input, self.contents(*input)?))).collect::<Result<_>>()?;
            Changes { deltas: contents, first: true }
        } else {
            let of_inputs = inputs.iter().filter_map(|input| deltas.get(input).map(|deltas| (*input, deltas.clone())));
            let changes = Changes { deltas: of_inputs.collect(), first: false };
            if let Some(frozen) = inputs.iter().find(|input| self.is_frozen(**input)) {
                let Input::View(read) = frozen else { return Ok(()) };
                return Err(Error::name(format!(
                    "materialized view \"{}\", which it reads, has failed",
                    self.view(*read)?.name
                )));
            }
            if changes.deltas.is_empty() {
                return Ok(());
            }
            changes
        };
        let Some(view) = self.views.get_mut(&id) else { return Ok(()) };
        let delta = if restarted { view.start(&changes)? } else { view.step(&changes)? };
        if !delta.is_empty() {
            deltas.insert(Input::View(id), vec![delta.clone()]);
        }
        if restarted || !delta.is_empty() {
            report.changes.push(ViewChange { view: id, delta, restarted });
        }
        Ok(())
    }

    fn is_frozen(&self, input: Input) -> bool {
        matches!(input, Input::View(view) if self.views.get(&view).is_none_or(|view| !view.is_live()))
    }

    fn are_ready(&self, inputs: &[Input]) -> bool {
        inputs.iter().all(|input| match input {
            Input::Table(table) => self.tables.get(table.0).is_some_and(|slot| slot.loaded),
            Input::View(_) => !self.is_frozen(*input),
        })
    }

    /// All rows of an input.
    fn contents(&self, input: Input) -> Result<Vec<Delta>> {
        match input {
            Input::Table(table) => self.tables[table.0].table.contents(),
            Input::View(view) => {
                let version: Option<Version> = self.views.get(&view).and_then(View::version);
                let batches = version.map(|version| version.batches()).transpose()?.unwrap_or_default();
                Ok(batches.into_iter().map(Delta::inserted).collect())
            }
        }
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
