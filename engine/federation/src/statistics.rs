//! What the sources say of their rows, remembered with an age.
//!
//! The first query of a table waits for its statistics, but not long; later ones take what is remembered, and where that is old, it is
//! asked for anew in the background. A source that can't tell costs a good plan and never an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_source::{Source, TableDef, TableStatistics};
use parking_lot::Mutex;
use tracing::debug;

/// The statistics of one service's tables, by their names in SQL.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    tables: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// The table that they are of.
    table: Arc<TableDef>,
    statistics: Arc<TableStatistics>,
    at: Instant,
    asking: bool,
}

impl Remembered {
    /// How old statistics may be before they are asked for again.
    pub(crate) const MAX_AGE: Duration = Duration::from_secs(300);

    /// How long the first query of a table waits for them.
    pub(crate) const WAIT_MAX: Duration = Duration::from_secs(1);

    /// The statistics of a table: what is remembered, or what the source says within [`Remembered::WAIT_MAX`].
    pub(crate) async fn of(
        self: &Arc<Self>,
        source: &Arc<dyn Source>,
        name: &str,
        table: &Arc<TableDef>,
    ) -> Arc<TableStatistics> {
        if let Some((statistics, old)) = self.known(name, table) {
            if old {
                tokio::spawn(Arc::clone(self).ask(Arc::clone(source), name.to_owned(), Arc::clone(table)));
            }
            return statistics;
        }
        self.remember(name, table, TableStatistics::of(table));
        let asking = tokio::spawn(Arc::clone(self).ask(Arc::clone(source), name.to_owned(), Arc::clone(table)));
        if tokio::time::timeout(Self::WAIT_MAX, asking).await.is_err() {
            debug!(table = name, "the source's statistics did not come in time; planning with guesses");
        }
        self.last(name, table)
    }

    /// What is remembered of a table, without asking.
    pub(crate) fn last(&self, name: &str, table: &Arc<TableDef>) -> Arc<TableStatistics> {
        match self.tables.lock().get(name) {
            Some(entry) if entry.table.columns == table.columns => Arc::clone(&entry.statistics),
            _ => Arc::new(TableStatistics::of(table)),
        }
    }

    /// Forgets a table's.
    pub(crate) fn forget(&self, name: &str) {
        self.tables.lock().remove(name);
    }

    /// What is remembered, and whether the caller is to ask anew.
    fn known(&self, name: &str, table: &Arc<TableDef>) -> Option<(Arc<TableStatistics>, bool)> {
        let mut tables = self.tables.lock();
        let entry = tables.get_mut(name).filter(|entry| entry.table.columns == table.columns)?;
        let old = entry.at.elapsed() >= Self::MAX_AGE && !entry.asking;
        entry.asking |= old;
        Some((Arc::clone(&entry.statistics), old))
    }

    fn remember(&self, name: &str, table: &Arc<TableDef>, statistics: TableStatistics) {
        let statistics = Arc::new(statistics);
        let entry = Entry { table: Arc::clone(table), statistics, at: Instant::now(), asking: false };
        self.tables.lock().insert(name.to_owned(), entry);
    }

    async fn ask(self: Arc<Self>, source: Arc<dyn Source>, name: String, table: Arc<TableDef>) {
        let statistics = match source.statistics(&table).await {
            Ok(Some(statistics)) if statistics.columns.len() == table.columns.len() => statistics,
            Ok(_) => TableStatistics::of(&table),
            Err(error) => {
                debug!(table = name, %error, "the source could not tell its statistics; planning with guesses");
                TableStatistics::of(&table)
            }
        };
        self.remember(&name, &table, with_estimate(statistics, &table));
    }
}

/// The table's own estimate and key where the statistics lack them.
fn with_estimate(mut statistics: TableStatistics, table: &TableDef) -> TableStatistics {
    let described = TableStatistics::of(table);
    statistics.rows = statistics.rows.or(described.rows);
    if statistics.indexes.is_empty() {
        statistics.indexes = described.indexes;
    }
    statistics
}
