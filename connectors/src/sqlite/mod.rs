//! Reads a SQLite database file.
//!
//! The file is opened read-only when it is first needed and may appear later; it is never created, changed or locked for
//! writing. Databases in WAL mode are read while others write; in the older journal modes a running scan keeps writers from
//! committing, as any reader does.
//!
//! - A scan is one read transaction on one connection: its rows are one state of the file. Several statements of a query, and the parts of a
//!   large table, read one state too ([`snapshot`]).
//! - [`types`] is the type table, [`dialect`] the capability table.
//! - What SQLite lets stand in a column and its declared type does not admit is an error naming the row, never a guess.
//!
//! ```yaml
//! service: catalog
//! source: {connector: sqlite, path: ./catalog.db}
//! publishes: "*"
//! ```

mod catalog;
mod config;
mod connect;
mod control;
mod decimal;
mod decode;
mod dialect;
mod error;
mod feed;
mod misfit;
mod scan;
mod snapshot;
mod split;
mod statistics;
mod temporal;
mod types;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;
use headwater_source::{
    Capabilities, Connector, Error, Feed, FeedDef, FeedOptions, OpenContext, OptionDef, Options, QueryId, QueryRequest,
    Result, Scan, ScanRequest, Snapshot, Source, TableDef, TableStatistics,
};
use rusqlite::Connection;

use self::config::Config;
use self::connect::Pool;
use self::control::Control;
pub(crate) use self::dialect::CAPABILITIES;
use self::error::Stage;
use self::feed::SqliteFeed;
use self::scan::SqliteScan;

/// The connector of `connector: sqlite`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SqliteConnector;

impl Connector for SqliteConnector {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn options(&self) -> &'static [OptionDef] {
        config::OPTIONS
    }

    fn feeds(&self) -> &'static [FeedDef] {
        feed::FEEDS
    }

    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>> {
        let config = Config::read(context, options)?;
        Ok(Arc::new(SqliteSource { pool: Arc::new(Pool::new(context.service.clone(), config)), feed: None }))
    }

    fn open_followed(
        &self,
        context: OpenContext<'_>,
        options: &Options,
        feed: &FeedOptions,
    ) -> Result<Arc<dyn Source>> {
        let pool = Arc::new(Pool::new(context.service.clone(), Config::read(context, options)?));
        let feed = SqliteFeed::new(Arc::clone(&pool), context.service, feed)?;
        Ok(Arc::new(SqliteSource { pool, feed: Some(Arc::new(feed)) }))
    }
}

/// One database file.
#[derive(Debug)]
struct SqliteSource {
    pool: Arc<Pool>,
    feed: Option<Arc<SqliteFeed>>,
}

#[async_trait]
impl Source for SqliteSource {
    fn location(&self) -> String {
        self.pool.config.location()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn connections_max(&self) -> Option<usize> {
        Some(self.pool.config.pool_size)
    }

    fn states_have_connections(&self) -> bool {
        true
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let service = self.pool.service.clone();
        self.look(move |connection| catalog::tables(connection, &service)).await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let name = from.to_owned();
        let found = self.look(move |connection| match catalog::table(connection, &name)? {
            Some(table) => Ok(Ok(table)),
            None => Ok(Err(catalog::names(connection)?)),
        });
        found.await?.map_err(|known| Error::TableNotFound {
            service: self.pool.service.clone(),
            table: from.to_owned(),
            known,
        })
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        let table = table.clone();
        self.look(move |connection| statistics::of(connection, &table)).await.map(Some)
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(SqliteScan::of_table(Arc::clone(&self.pool), request)?))
    }

    async fn prepare_query(&self, request: QueryRequest) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(SqliteScan::of_query(Arc::clone(&self.pool), &request)?))
    }

    async fn snapshot(&self, statements: usize, _: Option<QueryId>) -> Result<Option<Snapshot>> {
        Ok(snapshot::take(&self.pool, statements).await?.map(|held| Snapshot::with_connections(held)))
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.feed.clone().map(|feed| feed as Arc<dyn Feed>)
    }
}

impl SqliteSource {
    /// Reads the catalog in a transaction of its own, off the async threads.
    async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.pool.permit().await?;
        let (control, _cancel) = Control::start(self.pool.config.statement_timeout);
        let pool = Arc::clone(&self.pool);
        let work = move || {
            let lease = pool.lease(permit, control)?;
            let read = read(lease.connection()).map_err(|error| lease.error(Stage::Prepare, error))?;
            lease.give_back();
            Ok(read)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unavailable {
            service: self.pool.service.clone(),
            location: self.location(),
            cause: Box::new(error),
        })?
    }
}
