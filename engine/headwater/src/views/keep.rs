//! The journals of the views that are followed: when they are written, and what becomes of them when the engine starts again.
//!
//! Locks are taken in this order: the store's, the maintenance's, a journal's. An epoch is noted under the maintenance's lock, so whoever holds it
//! sees a journal that has everything up to the newest epoch.

use std::sync::Arc;

use headwater_views::{Maintenance, ViewId};
use tracing::{info, warn};

use super::history::History;
use super::journal::{self, Entry, Frame, Journal, Remembered};
use super::place::JOURNALS;
use super::registry::{Shared, refused};
use super::store::{Stage, Store};
use crate::{Error, Result};

impl Store {
    /// The journals that the place has.
    pub(super) fn read_journals(&self) -> Result<Vec<Entry>> {
        let Some(index) = self.place.read(JOURNALS).map_err(|error| self.wrong(&error))? else { return Ok(vec![]) };
        let entries = journal::entries(&index);
        if entries.is_none() {
            warn!(place = self.place.name(), "index of journals is damaged; subscribers begin anew WITH SNAPSHOT");
        }
        Ok(entries.unwrap_or_default())
    }

    /// Names another set of journals in the index.
    fn write_journals(&self, entries: Vec<Entry>) -> std::io::Result<()> {
        self.place.replace(JOURNALS, &journal::index(&entries))?;
        *self.journals.lock() = entries;
        Ok(())
    }

    /// The index with this journal in it.
    fn with_journal(&self, entry: &Entry) -> Vec<Entry> {
        let mut entries = self.journals.lock().clone();
        entries.retain(|known| known.id != entry.id);
        entries.push(entry.clone());
        entries
    }

    fn remembered(&self, id: &str) -> Option<Remembered> {
        let entry = self.journals.lock().iter().find(|entry| entry.id == id).cloned()?;
        match Journal::read(self.place.as_ref(), entry) {
            Ok(remembered) => Some(remembered),
            Err(error) => {
                warn!(%error, "a view's journal cannot be read; its subscribers begin anew WITH SNAPSHOT");
                None
            }
        }
    }
}

impl Shared {
    /// Notes in a view's journal, if it has one, what is about to be told.
    pub(super) fn note(&self, history: &History, frame: &Frame<'_>) {
        let (Some(store), Some(journal)) = (&self.store, &mut *history.journal.lock()) else { return };
        if let Err(error) = journal.push(store.place.as_ref(), frame) {
            warn!(%error, "a view's journal could not be written; it is written anew with the next checkpoint");
        }
    }

    /// From now on what a view's followers are told is kept, and that they were told of this epoch. What cannot be kept is told all the same.
    pub(super) async fn keep_told(self: &Arc<Self>, view: ViewId, epoch: u64) {
        if self.store.is_none() {
            return;
        }
        let shared = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || shared.keep_told_now(view, epoch)).await;
        let kept = kept.map_err(|error| refused("keeping what is told of a view", &error.to_string()));
        if let Err(error) = kept.and_then(|kept| kept) {
            warn!(error = error.report(), "what the followers of a view are told cannot be kept over a restart");
        }
    }

    fn keep_told_now(&self, view: ViewId, epoch: u64) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let history = self.history(view);
        if history.journal.lock().is_none() {
            let stage = store.storing.lock();
            if *stage == Stage::Open && history.journal.lock().is_none() {
                self.write_journal(store, view, &history).map_err(|error| store.wrong(&error))?;
            }
        }
        // Every epoch up to the newest is noted already.
        let _core = self.core.lock();
        history.told(epoch);
        self.note(&history, &Frame::Told(epoch));
        Ok(())
    }

    /// Writes a view's journal, anew where it has one. Called while nothing else is being stored.
    fn write_journal(&self, store: &Store, view: ViewId, history: &History) -> std::io::Result<()> {
        let Some(id) = self.id_of(view) else { return Ok(()) };
        let core = self.core.lock();
        let epoch = core.published();
        let (Some(shown), Some(kept)) = (epoch.view(view), history.kept()) else { return Ok(()) };
        history.journal.lock().get_or_insert_with(|| Journal::unwritten(&id)).begin_next();
        drop(core);
        let written = shown
            .version
            .deltas()
            .map_err(|error| std::io::Error::other(error.report()))
            .and_then(|rows| Journal::write(store.place.as_ref(), &id, epoch.number, &rows, &kept));
        let mut held = history.journal.lock();
        let Some(before) = &mut *held else { return Ok(()) };
        let next = before.end_next();
        let mut journal = written?;
        // Only a journal that has everything is named.
        journal.add_all(store.place.as_ref(), next?)?;
        store.write_journals(store.with_journal(&journal.entry))?;
        *before = journal;
        Ok(())
    }

    fn id_of(&self, view: ViewId) -> Option<String> {
        let definitions = self.definitions.read();
        definitions.values().find(|definition| definition.view == view).map(|definition| definition.id.clone())
    }

    /// Makes journals outlive the machine's power, writes those anew that have grown too long, and forgets those of views that are gone.
    pub(super) fn checkpoint_journals(&self, store: &Store) {
        let views: Vec<(String, ViewId)> = {
            let definitions = self.definitions.read();
            definitions.values().map(|definition| (definition.id.clone(), definition.view)).collect()
        };
        let mut synced = Vec::new();
        for (_, view) in &views {
            let history = self.histories.lock().get(view).cloned();
            let Some(history) = history else { continue };
            let is_due = match &mut *history.journal.lock() {
                None => continue,
                Some(journal) if journal.is_due() => Ok(true),
                Some(journal) => journal.sync(store.place.as_ref()).map(|()| {
                    synced.push(journal.entry.clone());
                    false
                }),
            };
            let stored = match is_due {
                Ok(true) => self.write_journal(store, *view, &history),
                other => other.map(|_| ()),
            };
            if let Err(error) = stored {
                warn!(%error, view = self.name_of(*view), "a view's journal could not be stored");
            }
        }
        let mut entries = store.journals.lock().clone();
        for entry in synced {
            entries.iter_mut().filter(|known| known.id == entry.id).for_each(|known| *known = entry.clone());
        }
        let returning = self.returning.borrow().iter().map(|new| new.id.clone()).collect::<Vec<_>>();
        entries.retain(|entry| views.iter().any(|(id, _)| *id == entry.id) || returning.contains(&entry.id));
        let is_known = *store.journals.lock() == entries;
        if !is_known && let Err(error) = store.write_journals(entries) {
            warn!(%error, "the index of journals could not be stored");
        }
    }

    /// What the journal of a view has that is made again.
    pub(super) async fn remembered(self: &Arc<Self>, id: &str) -> Result<Option<Remembered>> {
        if self.store.is_none() {
            return Ok(None);
        }
        let (shared, id) = (Arc::clone(self), id.to_owned());
        let read = tokio::task::spawn_blocking(move || shared.store.as_ref().and_then(|store| store.remembered(&id)));
        read.await.map_err(|error| refused("reading a view's journal", &error.to_string()))
    }

    /// Goes on with a journal of an earlier engine, where it fits the view.
    pub(super) fn resume(&self, core: &mut Maintenance, view: ViewId, remembered: Remembered) {
        let Remembered { mut kept, rows, journal } = remembered;
        let start = core.published().number;
        let fits = match kept.newest() > start {
            true => Err(refused("its journal", "it is of a later state than what is stored")),
            false => core.remember(view, rows).map_err(Error::from),
        };
        if let Err(error) = fits {
            warn!(
                error = error.report(),
                "what a view's followers were told is of no use; they begin anew WITH SNAPSHOT"
            );
            return;
        }
        let newest = kept.newest();
        kept.start(start);
        let history = Arc::new(History::restored(self.options.history(), kept, journal));
        self.note(&history, &Frame::Start(start));
        self.histories.lock().insert(view, history);
        info!(epoch = newest, "followers of a view may go on from where they were");
    }
}
