//! Epochs: which transactions come next, what they do to the tables, and what that does to the views.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::source::{Source, Waiting};
use super::view::{Contents, View};
use super::{Epoch, Held, Maintenance, Report, Shown, SourceId, TableId, Tables, Vector, ViewChange, ViewId};
use crate::mutant::{self, Mutant};
use crate::operator::Changes;
use crate::plan::Input;
use crate::{Delta, Error, Result, Version};

/// The difference that an epoch makes, by input.
pub(super) type Deltas = HashMap<Input, Vec<Delta>>;

impl Maintenance {
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
        if chosen.values().all(|count| *count == 0) && !self.is_due() {
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
        let mut report = self.publish(deltas, report);
        report.more = self.is_due() || self.choose().values().any(|count| *count > 0);
        report
    }

    /// Whether a view has come to a moment at which it changes by itself.
    fn is_due(&self) -> bool {
        self.next_moment().is_some_and(|moment| moment <= self.clock)
    }

    pub(super) fn vector(&self) -> Vector {
        let mut vector = Vector::default();
        for source in &self.sources {
            if let Some(position) = &source.position {
                vector.set(&source.service, position.clone());
            }
        }
        vector
    }

    /// How many transactions of each source the next epoch takes.
    fn choose(&self) -> BTreeMap<SourceId, usize> {
        let chosen = self.choose_in_turn();
        match chosen.values().all(|count| *count == 0) {
            true => self.choose_together(),
            false => chosen,
        }
    }

    /// The sources that go on, with the number of transactions that `count` says.
    fn going_on(&self, count: impl Fn(&Source) -> usize) -> BTreeMap<SourceId, usize> {
        let sources = self.sources.iter().enumerate().filter(|(_, source)| source.failed.is_none());
        sources.map(|(number, source)| (SourceId(number), count(source))).collect()
    }

    /// Sources in turn, one transaction each, while what the next one depends on is covered by what was taken already.
    fn choose_in_turn(&self) -> BTreeMap<SourceId, usize> {
        let mut chosen = self.going_on(|_| 0);
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

    /// As many of each source as need nothing beyond one another, where none can go alone. A source that tells several of its commits as one (as
    /// SQLite's feed does) may need another's transaction in one of them, which needs another of them: only together they can show.
    fn choose_together(&self) -> BTreeMap<SourceId, usize> {
        let mut chosen = self.going_on(|source| source.queue.len());
        loop {
            let mut vector = self.vector();
            for (id, count) in &chosen {
                let source = &self.sources[id.0];
                if let Some(last) = count.checked_sub(1).and_then(|last| source.queue.get(last)) {
                    vector.set(&source.service, last.position.clone());
                }
            }
            let mut is_closed = true;
            for (id, count) in &mut chosen {
                let queue = &self.sources[id.0].queue;
                let held = queue.iter().take(*count).position(|waiting| self.held(waiting, &vector).is_some());
                if let Some(first) = held {
                    (*count, is_closed) = (first, false);
                }
            }
            if is_closed {
                return chosen;
            }
        }
    }

    /// What a transaction waits for under a vector. A service that is not followed here makes no promise that could be broken.
    pub(super) fn held(&self, waiting: &Waiting, vector: &Vector) -> Option<Held> {
        if mutant::has(Mutant::IgnoresDependencies) {
            return None;
        }
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
        // All of them before any forgets what was there: what fails puts every table back.
        let differences = applied.and_then(|()| {
            let of_table = |table: &TableId| {
                let slot = &self.tables[table.0];
                slot.table.difference().map_err(|error| (slot.source, error))
            };
            touched.iter().map(of_table).collect::<Result<Vec<_>, _>>()
        });
        let differences = match differences {
            Ok(differences) => differences,
            Err(error) => {
                touched.iter().for_each(|table| self.tables[table.0].table.undo());
                return Err(error);
            }
        };
        let mut deltas = Deltas::new();
        for (table, difference) in touched.into_iter().zip(differences) {
            let slot = &mut self.tables[table.0];
            slot.table.finish();
            slot.storage.changed(&difference, slot.table.count());
            if !difference.is_empty() {
                deltas.insert(Input::Table(table), difference);
            }
        }
        Ok(deltas)
    }

    fn apply_changes(
        &mut self,
        chosen: &BTreeMap<SourceId, usize>,
        touched: &mut BTreeSet<TableId>,
    ) -> Result<(), (SourceId, Error)> {
        for (source, count) in chosen {
            let mut order: Vec<usize> = (0..*count).collect();
            if mutant::has(Mutant::ReordersTransactions) {
                order.reverse();
            }
            for place in order {
                let Some(waiting) = self.sources[source.0].queue.get(place) else { continue };
                for (table, change) in &waiting.changes {
                    touched.insert(*table);
                    self.tables[table.0].table.apply(change).map_err(|error| (*source, error))?;
                }
            }
        }
        Ok(())
    }

    /// Brings every view to the tables' state and publishes an epoch.
    pub(super) fn publish(&mut self, mut deltas: Deltas, mut report: Report) -> Report {
        let before = self.published.latest();
        self.sources.iter_mut().for_each(Source::note_progress);
        let due_rows = self.options.due_rows;
        let going_on = self.views.values().filter(|view| view.failed.is_none());
        let now = going_on.fold(self.clock, |until, view| view.reach(until, due_rows));
        self.now = self.now.max(now);
        let (vector, now) = (self.vector(), self.now);
        let mut epoch = Epoch { number: self.epoch + 1, vector, now, views: BTreeMap::new() };
        let ids: Vec<ViewId> = self.views.keys().copied().collect();
        for id in ids {
            let followed = self.follow(id, before.views.get(&id), &mut deltas, &mut report);
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
                    let vector = epoch.vector.of(services);
                    let shown = Shown { version, epoch: epoch.number, has_failed: false, vector };
                    epoch.views.insert(id, Arc::new(shown));
                }
                // What failed or starts over stays where it was.
                None => {
                    if let Some(shown) = before.views.get(&id) {
                        let has_failed = view.failed.is_some();
                        epoch.views.insert(id, Arc::new(Shown { has_failed, ..Shown::clone(shown) }));
                    }
                }
            }
        }
        self.tables.iter_mut().for_each(|slot| slot.table.forget_unused());
        self.epoch = epoch.number;
        self.published.publish(epoch);
        report.epoch = Some(self.published.latest());
        report.next_moment = self.next_moment();
        report
    }

    fn follow(
        &mut self,
        id: ViewId,
        before: Option<&Arc<Shown>>,
        deltas: &mut Deltas,
        report: &mut Report,
    ) -> Result<()> {
        let Some(view) = self.views.get(&id) else { return Ok(()) };
        if view.failed.is_some() {
            return Ok(());
        }
        let inputs = view.query.inputs().to_vec();
        let mut first = false;
        let delta = if !view.is_live() {
            if !self.are_ready(&inputs) || !self.is_settled(&view.sources) {
                return Ok(());
            }
            // Whoever added up what was told before goes on from there.
            let told = match before {
                Some(before) => Some(before.version.deltas()?),
                None => self.view(id)?.told.clone(),
            };
            let delta = self.start(id, &inputs)?;
            first = told.is_none();
            let delta = match told {
                None => Ok(delta),
                Some(told) => self.difference(id, &told, delta),
            };
            if let Some(view) = self.views.get_mut(&id) {
                match delta {
                    Ok(_) => view.told = None,
                    // What nobody can be told is not shown.
                    Err(_) => view.give_up(),
                }
            }
            delta?
        } else {
            let of_inputs = inputs.iter().filter_map(|input| deltas.get(input).map(|deltas| (*input, deltas.clone())));
            let of_inputs: Deltas = of_inputs.collect();
            if let Some(frozen) = inputs.iter().find(|input| self.is_frozen(**input)) {
                let Input::View(read) = frozen else { return Ok(()) };
                return Err(Error::name(format!(
                    "materialized view \"{}\", which it reads, has failed",
                    self.view(*read)?.name
                )));
            }
            if of_inputs.is_empty() && view.next_moment().is_none_or(|moment| moment > self.now) {
                return Ok(());
            }
            let tables = Tables(&self.tables);
            let changes = Changes { deltas: of_inputs, tables, first: false, is_loading: false, now: self.now };
            let Some(view) = self.views.get_mut(&id) else { return Ok(()) };
            view.step(&changes)?
        };
        if !delta.is_empty() {
            deltas.insert(Input::View(id), vec![delta.clone()]);
        }
        if first || !delta.is_empty() {
            report.changes.push(ViewChange { view: id, delta, first });
        }
        Ok(())
    }

    fn is_frozen(&self, input: Input) -> bool {
        matches!(input, Input::View(view) if self.views.get(&view).is_none_or(|view| !view.is_live()))
    }

    fn are_ready(&self, inputs: &[Input]) -> bool {
        if mutant::has(Mutant::ShowsBeforeItsVectorIsComplete) {
            return true;
        }
        inputs.iter().all(|input| match input {
            Input::Table(table) => self.tables.get(table.0).is_some_and(|slot| slot.loaded),
            Input::View(_) => !self.is_frozen(*input),
        })
    }

    /// Whether what these sources hold may be shown together. Rows that were loaded may build upon what was committed at another source, and say
    /// nothing of it; so a view over several waits until each has come to where it ended once the others were loaded.
    fn is_settled(&self, sources: &BTreeSet<SourceId>) -> bool {
        sources.iter().all(|source| self.sources[source.0].is_settled(sources.len()))
    }

    /// Computes a view from what its inputs hold.
    fn start(&mut self, id: ViewId, inputs: &[Input]) -> Result<Delta> {
        let contents = inputs.iter().map(|input| Ok((*input, self.contents(*input)?))).collect::<Result<Vec<_>>>()?;
        let view = self.views.get_mut(&id).ok_or_else(|| Error::invariant("a view begins that is not there"))?;
        let mut indexes = Vec::new();
        for (table, by) in view.query.lookups() {
            indexes.extend(self.tables[table.0].table.index(by)?);
        }
        indexes.sort_unstable_by_key(Arc::as_ptr);
        indexes.dedup_by(|one, other| Arc::ptr_eq(one, other));
        view.start(&contents, indexes, (Tables(&self.tables), self.now), self.options.load_rows)
    }

    /// What turns rows that a view had into these.
    fn difference(&self, id: ViewId, before: &[Delta], rows: Delta) -> Result<Delta> {
        let gone = before.iter().map(Delta::negated).collect::<Vec<_>>();
        Delta::sum(self.view(id)?.query.schema(), &[gone, vec![rows]].concat())
    }

    /// All rows of an input.
    fn contents(&self, input: Input) -> Result<Contents> {
        match input {
            Input::Table(table) => Ok(Contents::Table(table)),
            Input::View(view) => {
                let version: Option<Version> = self.views.get(&view).and_then(View::version);
                let batches = version.map(|version| version.batches()).transpose()?.unwrap_or_default();
                Ok(Contents::View(batches.into_iter().map(Delta::inserted).collect()))
            }
        }
    }
}
