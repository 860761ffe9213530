//! Changes by triggers and a log in the service's own file: `feed: {mode: triggers, consent: true}`.
//!
//! The triggers write to the log in the transaction of the write, so that a rollback takes both back. SQLite shows a reader commits and nothing
//! else: what one reader finds in the log in one transaction are whole commits, and it is released as one transaction, however many
//! they were. A position is the number of the log's last row.
//!
//! The file is written to by [`Feed::install`] and [`Feed::remove`], to forget what was acknowledged, and locked for a moment while a
//! snapshot begins.

mod log;
mod poll;
mod read;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use headwater_source::{
    Error, Feed, FeedClass, FeedDef, FeedOptions, FeedStatus, Lack, OptionDef, OptionKind, Position, Result,
    ScanRequest, ServiceName, TableDef, TablesAt, TransactionStream, async_trait,
};
use rusqlite::Connection;

use super::connect::Pool;
use super::control::Control;
use super::error::Stage;
use super::scan::SqliteScan;
use log::{DEPENDS, Names, Watched};
use read::{Followed, Trouble, position};

/// The feeds of a SQLite file.
pub(super) const FEEDS: &[FeedDef] =
    &[FeedDef { mode: MODE, options: OPTIONS, doc: "Triggers that write to a log in the service's own file." }];

const MODE: &str = "triggers";
const CONSENT: &str = "consent";
const POLL_MS: &str = "poll_ms";

const OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: CONSENT,
        kind: OptionKind::Flag,
        required: true,
        doc: "true, to say that triggers and two tables may be put into the service's file.",
    },
    OptionDef {
        name: POLL_MS,
        kind: OptionKind::Count,
        required: false,
        doc: "How often the file is looked at for new commits, in milliseconds. Default 5.",
    },
];

const POLL_MS_DEFAULT: u64 = 5;

/// The changes of one file, for one service.
pub(super) struct SqliteFeed {
    pool: Arc<Pool>,
    names: Names,
    poll: Duration,
    acknowledged: Arc<AtomicI64>,
}

impl SqliteFeed {
    /// Reads the options.
    pub(super) fn new(pool: Arc<Pool>, service: &ServiceName, options: &FeedOptions) -> Result<Self> {
        if !options.options.flag(CONSENT, false) {
            return Err(Error::config(
                "feed mode \"triggers\" puts triggers and two tables into the service's file; write consent: true in \"feed\" to allow it",
            ));
        }
        let poll = options.options.count(POLL_MS, POLL_MS_DEFAULT).max(1);
        Ok(Self { pool, names: Names::new(service), poll: Duration::from_millis(poll), acknowledged: Arc::default() })
    }

    /// Reads in a transaction of its own, off the async threads.
    async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let permit = self.pool.permit().await?;
        let (control, _cancel) = Control::start(self.pool.config.statement_timeout);
        let pool = Arc::clone(&self.pool);
        self.blocking(move || {
            let lease = pool.lease(permit, control)?;
            match read(lease.connection()) {
                Ok(read) => {
                    lease.give_back();
                    Ok(read)
                }
                Err(Trouble::Told(error)) => Err(error),
                Err(Trouble::Sqlite(stage, error)) => Err(lease.error(stage, error)),
            }
        })
        .await
    }

    /// Writes in a transaction of its own.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let pool = Arc::clone(&self.pool);
        self.blocking(move || {
            let connection = pool.writer()?;
            let written = (|| {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                let written = write(&connection)?;
                connection.execute_batch("COMMIT")?;
                Ok(written)
            })();
            // Closing the connection rolls back what was not committed.
            written.map_err(|trouble| pool.told(trouble))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unavailable {
            service: self.pool.service.clone(),
            location: self.pool.config.location(),
            cause: Box::new(error),
        })?
    }

    fn followed(&self, tables: &[TableDef]) -> Followed {
        let table = |table: &TableDef| Watched::unlooked(table.clone());
        Followed {
            service: self.pool.service.clone(),
            names: self.names.clone(),
            tables: tables.iter().map(table).collect(),
            looked_at: None,
        }
    }
}

impl fmt::Debug for SqliteFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteFeed({})", self.pool.config.location())
    }
}

#[async_trait]
impl Feed for SqliteFeed {
    fn mode(&self) -> &'static str {
        MODE
    }

    fn class(&self) -> FeedClass {
        FeedClass::Transactional
    }

    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>> {
        let tables = tables.to_vec();
        let mut lacks = self
            .look(move |connection| {
                let mut lacks = vec![];
                for table in &tables {
                    let unfit = log::unfit(connection, table)?;
                    lacks.extend(unfit.into_iter().map(|(what, remedy)| Lack { what, remedy }));
                }
                Ok(lacks)
            })
            .await?;
        let pool = Arc::clone(&self.pool);
        lacks.extend(self.blocking(move || Ok(pool.unwritable())).await?);
        Ok(lacks)
    }

    async fn install(&self, tables: &[TableDef]) -> Result<()> {
        let lacks = self.check(tables).await?;
        if let Some(Lack { what, remedy }) = lacks.first() {
            let reason = format!("{what}; {remedy}");
            return Err(Error::Unsupported { service: self.pool.service.clone(), reason });
        }
        let (names, tables) = (self.names.clone(), tables.to_vec());
        self.write(move |connection| Ok(names.install(connection, &tables)?)).await
    }

    async fn remove(&self) -> Result<Vec<String>> {
        let names = self.names.clone();
        self.write(move |connection| Ok(names.remove(connection)?)).await
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        let (pool, names, count) = (Arc::clone(&self.pool), self.names.clone(), tables.len());
        let mut followed = self.followed(tables);
        let (leases, number) = self
            .blocking(move || {
                // Nobody commits while this is held, so that all transactions which begin meanwhile read one state.
                let writer = pool.writer()?;
                writer.execute_batch("BEGIN IMMEDIATE").map_err(|error| pool.error(Stage::Open, error))?;
                let ends = names.ends(&writer).map_err(|error| pool.error(Stage::Prepare, error))?;
                let number = ends.map_or(0, |(_, last)| last);
                followed.look(&writer, number).map_err(|trouble| pool.told(trouble))?;
                let mut leases = Vec::with_capacity(count);
                for _ in 0..count {
                    let (control, cancel) = Control::start(None);
                    leases.push((pool.lease_apart(Arc::clone(&control))?, control, cancel));
                }
                Ok((leases, number))
            })
            .await?;
        let mut streams = Vec::with_capacity(count);
        for (table, (lease, control, cancel)) in tables.iter().zip(leases) {
            let request = ScanRequest::all(Arc::new(table.clone()));
            let scan = SqliteScan::of_table(Arc::clone(&self.pool), request)?;
            streams.push(scan.read_with(lease, control, cancel).await?);
        }
        Ok(TablesAt { position: position(number), tables: streams })
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        let after = i64::try_from(after.order()).unwrap_or(i64::MAX);
        let mut followed = self.followed(tables);
        let followed = self
            .look(move |connection| {
                followed.look(connection, after)?;
                Ok(followed)
            })
            .await?;
        poll::transactions(&self.pool, followed, after, self.poll, &self.acknowledged)
    }

    async fn acknowledge(&self, position: &Position) -> Result<()> {
        let number = i64::try_from(position.order()).unwrap_or(i64::MAX);
        self.acknowledged.fetch_max(number, Ordering::AcqRel);
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let names = self.names.clone();
        let service = self.pool.service.clone();
        self.look(move |connection| {
            if !names.are_there(connection)? {
                let reason = "no feed is installed in the file yet, so there is no log".to_owned();
                return Err(Error::Unsupported { service, reason }.into());
            }
            Ok(position(names.ends(connection)?.map_or(0, |(_, last)| last)))
        })
        .await
    }

    fn covers(&self, position: &Position, token: &str) -> Result<bool> {
        match token.trim().parse::<u64>() {
            Ok(number) => Ok(position.order() >= number),
            Err(_) => Err(Error::Unsupported {
                service: self.pool.service.clone(),
                reason: format!(
                    "a token that is no number; SELECT max(number) FROM {} gives one, and ({DEPENDS}, ...) rows carry them",
                    self.names.log()
                ),
            }),
        }
    }

    async fn status(&self) -> Result<FeedStatus> {
        let names = self.names.clone();
        self.look(move |connection| {
            if !names.are_there(connection)? {
                return Ok(FeedStatus::default());
            }
            let oldest = names.ends(connection)?.map(|(first, _)| (first - 1).to_string());
            Ok(FeedStatus { retained_bytes: None, oldest })
        })
        .await
    }
}

impl Pool {
    /// What a feed met, as an error of the source.
    fn told(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Sqlite(stage, error) => self.error(stage, error),
            Trouble::Told(error) => error,
        }
    }

    /// Why the file cannot be written to, where it cannot. Blocks.
    fn unwritable(&self) -> Option<Lack> {
        let path = self.config.path.display();
        let tried = self.writer().and_then(|connection| {
            let read_only = connection.is_readonly("main").and_then(|read_only| {
                // A lock alone; nothing is written.
                connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
                Ok(read_only)
            });
            read_only.map_err(|error| self.error(Stage::Open, error))
        });
        let cause = match tried {
            Ok(false) | Err(Error::Timeout { .. }) => return None,
            Ok(true) => String::new(),
            Err(error) => format!(": {}", error.report()),
        };
        Some(Lack {
            what: format!("file {path} cannot be written to{cause}"),
            remedy: format!("chmod u+rw {path} and u+rwx on its directory, for the user under which this runs"),
        })
    }
}
