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
        // Until it is known to be there, the place may name what was known before or this.
        self.journals.lock().1 = false;
        self.place.replace(JOURNALS, &journal::index(&entries))?;
        *self.journals.lock() = (entries, true);
        Ok(())
    }

    /// Names a journal in the index, in place of the one that its view had.
    fn write_journal(&self, entry: Entry) -> std::io::Result<()> {
        let mut entries = self.journals.lock().0.clone();
        entries.retain(|known| known.id != entry.id);
        entries.push(entry);
        self.write_journals(entries)
    }

    /// Names a journal no more, from the next checkpoint on.
    fn forget_journal(&self, id: &str) {
        let mut journals = self.journals.lock();
        journals.0.retain(|entry| entry.id != id);
        journals.1 = false;
    }

    fn remembered(&self, id: &str) -> Option<Remembered> {
        let entry = self.journals.lock().0.iter().find(|entry| entry.id == id).cloned()?;
        match Journal::read(self.place.as_ref(), entry) {
            Ok(remembered) => Some(remembered),
            Err(error) => {
                warn!(%error, "a view's journal cannot be read; its subscribers begin anew WITH SNAPSHOT");
                self.forget_journal(id);
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
    pub(super) async fn keep_told(self: &Arc<Self>, view: ViewId, history: &Arc<History>, epoch: u64) {
        if self.store.is_none() || (history.has_journal() && history.is_told(epoch)) {
            return;
        }
        // The writing goes on where whoever waits for it does not, and no other begins meanwhile.
        let first = match history.has_journal() {
            true => None,
            false => Some(Arc::clone(&self.keeping).lock_owned().await),
        };
        let (shared, history) = (Arc::clone(self), Arc::clone(history));
        let kept = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = first;
            shared.keep_told_now(view, &history, epoch)
        });
        let kept = kept.await;
        let kept = kept.map_err(|error| refused("keeping what is told of a view", &error.to_string()));
        if let Err(error) = kept.and_then(|kept| kept) {
            warn!(error = error.report(), "what the followers of a view are told cannot be kept over a restart");
        }
    }

    fn keep_told_now(&self, view: ViewId, history: &History, epoch: u64) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        if !history.has_journal() {
            let stage = store.storing.lock();
            if *stage == Stage::Open && !history.has_journal() {
                self.write_journal(store, view, history).map_err(|error| store.wrong(&error))?;
            }
        }
        // Every epoch up to the newest is noted already.
        let _core = self.core.lock();
        self.note(history, &Frame::Told(epoch));
        history.told(epoch);
        Ok(())
    }

    /// Writes a view's journal, anew where it has one. Called while nothing else is being stored.
    fn write_journal(&self, store: &Store, view: ViewId, history: &History) -> std::io::Result<()> {
        let Some(id) = self.id_of(view) else { return Ok(()) };
        let written = self.write_next(store, (view, &id), history);
        match (&written, &mut *history.journal.lock()) {
            (Ok(()), Some(journal)) => journal.follow(),
            (Err(_), Some(journal)) => journal.forget_next(),
            (_, None) => {}
        }
        written
    }

    /// Writes the journal that follows the one that a view has. Epochs wait for no more than what is added at the end of a file.
    fn write_next(&self, store: &Store, (view, id): (ViewId, &str), history: &History) -> std::io::Result<()> {
        let place = store.place.as_ref();
        let core = self.core.lock();
        let epoch = core.published();
        let (Some(shown), Some(kept)) = (epoch.view(view), history.kept()) else { return Ok(()) };
        history.journal.lock().get_or_insert_with(|| Journal::unwritten(id)).begin_next();
        drop(core);
        let rows = shown.version.deltas().map_err(|error| std::io::Error::other(error.report()))?;
        let next = Journal::write(place, id, epoch.number, &rows, kept)?;
        let entry = match &mut *history.journal.lock() {
            Some(before) => before.set_next(place, next).map(|()| before.next())?,
            None => None,
        };
        let Some(entry) = entry else { return Ok(()) };
        // Only a journal that has everything is named.
        entry.last().map_or(Ok(()), |piece| place.sync(piece))?;
        store.write_journal(entry)
    }

    fn id_of(&self, view: ViewId) -> Option<String> {
        let definitions = self.definitions.read();
        definitions.values().find(|definition| definition.view == view).map(|definition| definition.id.clone())
    }

    /// Makes journals outlive the machine's power, writes those anew that have grown too long, and forgets those of views that are gone.
    pub(super) fn checkpoint_journals(&self, store: &Store) {
        // A view that comes back is among the definitions before it is no longer among those.
        let returning: Vec<String> = self.returning.borrow().iter().map(|new| new.id.clone()).collect();
        let views: Vec<(String, ViewId)> = {
            let definitions = self.definitions.read();
            definitions.values().map(|definition| (definition.id.clone(), definition.view)).collect()
        };
        let mut synced = Vec::new();
        for (_, view) in &views {
            let history = self.histories.lock().get(view).cloned();
            let Some(history) = history else { continue };
            match self.checkpoint_journal(store, *view, &history) {
                Ok(entry) => synced.extend(entry),
                Err(error) => warn!(%error, view = self.name_of(*view), "a view's journal could not be stored"),
            }
        }
        let (known, is_stored) = store.journals.lock().clone();
        let mut entries = known.clone();
        for entry in synced {
            entries.retain(|known| known.id != entry.id);
            entries.push(entry);
        }
        entries.retain(|entry| views.iter().any(|(id, _)| *id == entry.id) || returning.contains(&entry.id));
        entries.sort_by(|one, other| one.id.cmp(&other.id));
        if (!is_stored || known != entries)
            && let Err(error) = store.write_journals(entries)
        {
            warn!(%error, "the index of journals could not be stored");
        }
    }

    /// The entry of a journal that is stored; `None` of one that was written anew, or is not to be named.
    fn checkpoint_journal(&self, store: &Store, view: ViewId, history: &History) -> std::io::Result<Option<Entry>> {
        let place = store.place.as_ref();
        let (unsent, new_piece, last) = match &mut *history.journal.lock() {
            None => return Ok(None),
            Some(journal) if journal.is_due() => (None, String::new(), None),
            Some(journal) => {
                (Some(journal.take_unsent()), journal.new_piece(), journal.entry.last().map(str::to_owned))
            }
        };
        let Some(unsent) = unsent else { return self.write_journal(store, view, history).map(|()| None) };
        // No epoch waits for this.
        let stored = match unsent.is_empty() {
            true => last.map_or(Ok(()), |piece| place.sync(&piece)),
            false => place.add(&new_piece, &unsent),
        };
        let mut journal = history.journal.lock();
        let Some(journal) = &mut *journal else { return Ok(None) };
        match stored {
            Ok(()) if unsent.is_empty() => {}
            Ok(()) => journal.stored(new_piece),
            // What could not be synced may be gone, and the next time would not tell.
            Err(error) if unsent.is_empty() => {
                journal.cut();
                return Err(error);
            }
            Err(error) => {
                journal.put_back(unsent);
                return Err(error);
            }
        }
        Ok(Some(journal.entry.clone()))
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
        let start = core.last_epoch();
        let fits = match kept.newest() > start {
            true => Err(refused("its journal", "it is of a later state than what is stored")),
            false => core.remember(view, rows).map_err(Error::from),
        };
        if let Err(error) = fits {
            warn!(
                error = error.report(),
                "what a view's followers were told is of no use; they begin anew WITH SNAPSHOT"
            );
            if let Some(store) = &self.store {
                store.forget_journal(&journal.entry.id);
            }
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
