//! Checkpoints of a [`Maintenance`], and starting from one.

use std::collections::BTreeMap;

use super::{Covers, Maintenance, Options, Slot, SourceId, TableId};
use crate::checkpoint::{Checkpoint, Stored, StoredTable, decode_manifest, decode_part, encode_manifest, encode_part};
use crate::table::Table;
use crate::{Delta, Error, Result};

/// What of a table is stored, and what is not yet.
#[derive(Debug, Default)]
pub(super) struct Storage {
    parts: Vec<Stored>,
    /// What changed since; only while it is less than writing the table anew.
    unsaved: Vec<Delta>,
    unsaved_rows: usize,
    /// The table's rows have to be written anew.
    anew: bool,
}

/// A table has at most so many parts before it is written anew.
const PARTS_MAX: usize = 64;

/// Epochs that may pass between two checkpoints: an engine that starts from one goes on after as many, so that no number comes twice. It has to
/// store a checkpoint of its own before it tells anybody of an epoch.
const EPOCHS_RESERVED: u64 = 1 << 32;

impl Storage {
    pub(super) fn anew() -> Self {
        Self { anew: true, ..Self::default() }
    }

    /// Remembers what changed in a table that has so many rows now.
    pub(super) fn changed(&mut self, deltas: &[Delta], table_rows: usize) {
        if self.anew {
            return;
        }
        self.unsaved_rows += deltas.iter().map(Delta::len).sum::<usize>();
        let logged: u64 = self.parts.iter().skip(1).map(|part| part.rows).sum();
        if logged as usize + self.unsaved_rows > table_rows / 2 || self.parts.len() >= PARTS_MAX {
            *self = Self::anew();
        } else {
            self.unsaved.extend(deltas.iter().cloned());
        }
    }
}

impl Maintenance {
    /// The state as of the newest epoch. Once it is stored durably, the sources may forget what is at or before its positions.
    ///
    /// What it counts as stored is what it returns: if it can't be stored, call [`Maintenance::forget_checkpoints`] before the next one.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        let mut parts = Vec::new();
        let mut tables = Vec::new();
        for (number, slot) in self.tables.iter_mut().enumerate().filter(|(_, slot)| slot.loaded) {
            let source = &self.sources[slot.source.0];
            let name = |kind: &str| format!("table-{number}-{kind}-{}.arrow", self.epoch);
            let storage = &mut slot.storage;
            if storage.anew || storage.parts.is_empty() {
                let (part, stored) = encode_part(name("rows"), slot.table.schema(), &slot.table.contents()?)?;
                *storage = Storage { parts: vec![stored], ..Storage::default() };
                parts.push(part);
            } else if !storage.unsaved.is_empty() {
                let (part, stored) = encode_part(name("log"), slot.table.schema(), &storage.unsaved)?;
                storage.parts.push(stored);
                (storage.unsaved, storage.unsaved_rows) = (vec![], 0);
                parts.push(part);
            }
            tables.push(StoredTable {
                service: source.service.to_string(),
                position: source.position.clone(),
                name: slot.name.to_string(),
                full_name: slot.table.full_name().to_owned(),
                key: slot.table.key_names(),
                parts: storage.parts.clone(),
            });
        }
        let needed = tables.iter().flat_map(|table| table.parts.iter().map(|part| part.name.clone())).collect();
        Ok(Checkpoint { epoch: self.epoch, manifest: encode_manifest((self.epoch, self.now), &tables)?, parts, needed })
    }

    /// Nothing counts as stored any more: the next checkpoint holds everything.
    pub fn forget_checkpoints(&mut self) {
        self.tables.iter_mut().for_each(|slot| slot.storage = Storage::anew());
    }

    /// Starts from a checkpoint: its tables are loaded, at its positions, and epochs go on after its number. More may have been shown since it
    /// was stored, so no view begins before the end of each of its sources is [told](Self::settle_restart) and reached. `read` reads a part; `covers` is asked
    /// for each source once.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names the part that is missing, damaged or of another version.
    pub fn restore(
        options: Options,
        manifest: &[u8],
        read: &mut dyn FnMut(&str) -> std::io::Result<Vec<u8>>,
        covers: &dyn Fn(&str) -> Covers,
    ) -> Result<Self> {
        let ((epoch, now), tables) = decode_manifest(manifest)?;
        let mut maintenance = Self::new(options);
        (maintenance.now, maintenance.clock) = (now, now);
        maintenance.epoch = maintenance.epoch.max(epoch.saturating_add(EPOCHS_RESERVED));
        let mut sources: BTreeMap<String, SourceId> = BTreeMap::new();
        for stored in tables {
            let source = *sources
                .entry(stored.service.clone())
                .or_insert_with(|| maintenance.add_source(&stored.service, covers(&stored.service)));
            let held = &mut maintenance.sources[source.0];
            held.restored(stored.position.clone());
            let table = restore_table(&stored, read)?;
            held.tables.push(TableId(maintenance.tables.len()));
            let storage = Storage { parts: stored.parts, ..Storage::default() };
            maintenance.tables.push(Slot { source, name: stored.name.into(), table, loaded: true, storage });
        }
        maintenance.start_views();
        Ok(maintenance)
    }
}

fn restore_table(stored: &StoredTable, read: &mut dyn FnMut(&str) -> std::io::Result<Vec<u8>>) -> Result<Table> {
    let mut table = None;
    for part in &stored.parts {
        let damaged = |reason: String| Error::Checkpoint { part: part.name.clone(), reason };
        let bytes = read(&part.name).map_err(|error| damaged(error.to_string()))?;
        let (schema, deltas) = decode_part(part, &bytes)?;
        let table = match &mut table {
            Some(table) => table,
            None => {
                let (service, name) = (stored.service.as_str().into(), stored.full_name.as_str().into());
                table.insert(Table::of(service, name, schema, Some(&stored.key))?)
            }
        };
        table.add(&deltas).map_err(|error| damaged(error.report()))?;
    }
    table.ok_or_else(|| Error::Checkpoint { part: stored.name.clone(), reason: "it has no rows' part".to_owned() })
}
