//! A service as the engine knows it: its source, what it publishes, and what was last seen of its tables.
//!
//! Tables are described by the source when they are first asked for and remembered for [`Service::MAX_AGE`]. A scan that
//! meets a changed schema makes the service forget; so does [`Service::forget`]. A source that is down is asked again
//! the next time: nothing remembers a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_source::{Error, Result, ServiceName, Source, TableDef, TableStatistics};
use parking_lot::RwLock;
use tracing::{debug, info, warn};

use crate::statistics::Remembered;

/// A service, shared by all sessions.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    source: Arc<dyn Source>,
    tables: Tables,
    seen: RwLock<Seen>,
    statistics: Arc<Remembered>,
    discovering: tokio::sync::Mutex<()>,
}

/// Which of the source's tables a service publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// All of them, under their own names.
    All,
    /// These.
    Named(Vec<Published>),
}

/// A published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The name in SQL.
    pub name: String,
    /// The name at the source.
    pub from: String,
    /// The key that the manifest declares, where it does; the source's own otherwise.
    pub key: Option<Vec<String>>,
}

/// What was last seen of a source.
#[derive(Debug, Default)]
struct Seen {
    tables: BTreeMap<String, (Arc<TableDef>, Instant)>,
    listed: Option<Instant>,
    tried: Option<Instant>,
}

impl Service {
    /// How long a table's description is trusted.
    pub const MAX_AGE: Duration = Duration::from_secs(60);

    /// How long it is used while it is asked for anew in the background. A scan meets a table that has changed meanwhile as a changed
    /// schema, never as shifted columns.
    pub const STALE_MAX: Duration = Duration::from_secs(600);

    /// How long a service that could not be described is left alone by listings.
    pub const RETRY_AFTER: Duration = Duration::from_secs(5);

    /// A service of which nothing was seen yet.
    pub fn new(name: ServiceName, source: Arc<dyn Source>, tables: Tables) -> Arc<Self> {
        Arc::new(Self {
            name,
            source,
            tables,
            seen: RwLock::default(),
            statistics: Arc::default(),
            discovering: tokio::sync::Mutex::default(),
        })
    }

    /// The service's name: its schema in SQL.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The service's store.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The names in SQL: those that the manifest lists, or those that were last seen.
    pub fn table_names(&self) -> Vec<String> {
        match &self.tables {
            Tables::Named(tables) => tables.iter().map(|table| table.name.clone()).collect(),
            Tables::All => self.seen.read().tables.keys().cloned().collect(),
        }
    }

    /// What was last seen of a table, however old.
    pub fn last_seen(&self, name: &str) -> Option<Arc<TableDef>> {
        self.seen.read().tables.get(name).map(|(table, _)| Arc::clone(table))
    }

    /// Whether some published table was never described, or the list of all tables is older than [`Service::MAX_AGE`]; but
    /// not while the last try was less than [`Service::RETRY_AFTER`] ago, so that a service that is down is not waited for
    /// again and again. Queries of its tables always try.
    pub fn is_unseen(&self) -> bool {
        let seen = self.seen.read();
        if seen.tried.is_some_and(|at| at.elapsed() < Self::RETRY_AFTER) {
            return false;
        }
        match &self.tables {
            Tables::Named(tables) => tables.iter().any(|table| !seen.tables.contains_key(&table.name)),
            Tables::All => seen.listed.is_none_or(|at| at.elapsed() >= Self::MAX_AGE),
        }
    }

    /// A table's description. From memory where that is fresh; where it is a little older too, while it is asked for anew in the
    /// background; from the source otherwise. `None` where it is not published.
    pub async fn table(self: &Arc<Self>, name: &str) -> Result<Option<Arc<TableDef>>> {
        let remembered = self.seen.read().tables.get(name).cloned();
        match remembered {
            Some((table, at)) if at.elapsed() < Self::MAX_AGE => Ok(Some(table)),
            Some((table, at)) if at.elapsed() < Self::STALE_MAX => {
                self.describe_again(name);
                Ok(Some(table))
            }
            _ => self.describe(name).await,
        }
    }

    /// What the source says of a table's rows, or guesses where it says nothing.
    pub async fn statistics(&self, name: &str, table: &Arc<TableDef>) -> Arc<TableStatistics> {
        self.statistics.of(&self.source, name, table).await
    }

    /// What is remembered of that, without asking.
    pub fn last_statistics(&self, name: &str, table: &Arc<TableDef>) -> Arc<TableStatistics> {
        self.statistics.last(name, table)
    }

    /// Describes a table in the background. Its age starts anew, so that it is asked for once.
    fn describe_again(self: &Arc<Self>, name: &str) {
        if let Some((_, at)) = self.seen.write().tables.get_mut(name) {
            *at = Instant::now();
        }
        let (service, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            // A failure is met by the next query: a scan checks what it reads.
            if let Err(error) = service.describe(&name).await {
                debug!(service = %service.name, table = name, %error, "table could not be described again");
            }
        });
    }

    /// Describes every published table now. Each table's failure is its own.
    pub async fn discover(&self) -> Vec<(String, Result<Arc<TableDef>>)> {
        let _one_at_a_time = self.discovering.lock().await;
        self.discover_alone().await
    }

    /// The same, unless [`Service::is_unseen`] says that there is nothing to ask. Waits for a description that is under way.
    pub async fn discover_unseen(&self) -> Vec<(String, Result<Arc<TableDef>>)> {
        let _one_at_a_time = self.discovering.lock().await;
        if self.is_unseen() { self.discover_alone().await } else { vec![] }
    }

    async fn discover_alone(&self) -> Vec<(String, Result<Arc<TableDef>>)> {
        let found = self.describe_all().await;
        self.seen.write().tried = Some(Instant::now());
        found
    }

    async fn describe_all(&self) -> Vec<(String, Result<Arc<TableDef>>)> {
        match &self.tables {
            Tables::Named(tables) => {
                let mut found = Vec::with_capacity(tables.len());
                for table in tables {
                    let described = self.describe_published(table).await;
                    // One failed connection is enough: the rest of the tables would wait for the same timeout.
                    let unreachable = matches!(&described, Err(Error::Unavailable { .. }));
                    found.push((table.name.clone(), described));
                    if unreachable {
                        break;
                    }
                }
                found
            }
            Tables::All => match self.list().await {
                Ok(tables) => tables.into_iter().map(|table| (table.name.clone(), Ok(table))).collect(),
                Err(error) => vec![("*".to_owned(), Err(error))],
            },
        }
    }

    /// Forgets what was seen of a table, so that the next query asks the source.
    pub fn forget(&self, name: &str) {
        let mut seen = self.seen.write();
        if seen.tables.remove(name).is_some() {
            info!(service = %self.name, table = name, "table description dropped");
        }
        self.statistics.forget(name);
        seen.listed = None;
    }

    async fn describe(&self, name: &str) -> Result<Option<Arc<TableDef>>> {
        match &self.tables {
            Tables::Named(tables) => match tables.iter().find(|table| table.name == name) {
                Some(table) => self.describe_published(table).await.map(Some),
                None => Ok(None),
            },
            Tables::All => {
                let listed = self.seen.read().listed;
                // A name that a fresh list lacks costs no round trip of its own; one that it holds was remembered above.
                if listed.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
                    return Ok(None);
                }
                Ok(self.list().await?.into_iter().find(|table| table.name == name))
            }
        }
    }

    async fn describe_published(&self, published: &Published) -> Result<Arc<TableDef>> {
        let mut table = self.source.table(&published.from).await?;
        if let Some(key) = &published.key {
            if let Some(missing) = key.iter().find(|column| table.column_index(column).is_none()) {
                return Err(Error::config(format!(
                    "key column \"{missing}\" of \"{}.{}\" is not a column of \"{}\"",
                    self.name,
                    published.name,
                    table.full_name()
                )));
            }
            table.key = Some(key.clone());
        }
        Ok(self.remember(&published.name, table))
    }

    async fn list(&self) -> Result<Vec<Arc<TableDef>>> {
        let listed = self.source.tables().await?;
        let mut first: BTreeMap<String, TableDef> = BTreeMap::new();
        for table in listed {
            match first.get(&table.name) {
                Some(taken) => warn!(
                    service = %self.name, table = table.full_name(), taken_by = taken.full_name(),
                    "two tables of one name; publish one of them under another name in the manifest"
                ),
                None => {
                    first.insert(table.name.clone(), table);
                }
            }
        }
        let mut seen = self.seen.write();
        let now = Instant::now();
        seen.tables = first.into_iter().map(|(name, table)| (name, (Arc::new(table), now))).collect();
        seen.listed = Some(now);
        Ok(seen.tables.values().map(|(table, _)| Arc::clone(table)).collect())
    }

    fn remember(&self, name: &str, table: TableDef) -> Arc<TableDef> {
        let table = Arc::new(table);
        self.seen.write().tables.insert(name.to_owned(), (Arc::clone(&table), Instant::now()));
        table
    }
}
