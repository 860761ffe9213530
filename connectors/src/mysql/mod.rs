//! MariaDB and MySQL.
//!
//! A source is one server and role, with a bounded pool of connections. It reads by prepared statements in the binary
//! protocol, streamed row by row into Arrow arrays. Its sessions are read-only, in UTC and UTF-8, with the `sql_mode` and limits fixed,
//! so that no server's defaults can change an answer. It refuses what the tables in `capabilities` do not
//! list, and it never writes.
//!
//! A manifest's `source:` for it:
//! ```yaml
//! source: {connector: mysql, url: "mysql://reader:${SHOP_PASSWORD}@db.example:3306/shop"}
//! ```
//!
//! Rejected: a driver, because it makes a row of values of its own for each row, which costs more than to read it; and the text protocol,
//! in which a FLOAT loses digits.

mod bind;
mod calendar;
mod capabilities;
mod config;
mod connect;
mod decode;
mod dialect;
mod discover;
mod ends;
mod error;
mod feed;
mod range;
mod scan;
mod snapshot;
mod split;
mod statistics;
mod types;
mod unchanged;
mod value;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use headwater_source::{
    Capabilities, Connector, Error, Feed, FeedDef, FeedOptions, OpenContext, OptionDef, Options, QueryId, QueryRequest,
    Result, Scan, ScanRequest, Snapshot, Source, TableDef, TableStatistics, async_trait,
};
use tokio::time::timeout;

pub(crate) use self::capabilities::CAPABILITIES;
use self::config::Config;
use self::connect::{Lease, Pool};
use self::discover::Scope;
use self::error::Site;
use self::feed::MysqlFeed;
use self::scan::MysqlScan;

/// How long a table's statistics may take to be read.
const STATISTICS_MAX: Duration = Duration::from_millis(500);

/// The connector that a manifest calls `mysql`: MariaDB and MySQL.
#[derive(Debug, Clone, Copy, Default)]
pub struct MysqlConnector;

#[derive(Debug)]
struct MysqlSource {
    pool: Pool,
    feed: Option<Arc<MysqlFeed>>,
}

impl Connector for MysqlConnector {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn options(&self) -> &'static [OptionDef] {
        config::OPTIONS
    }

    fn feeds(&self) -> &'static [FeedDef] {
        feed::FEEDS
    }

    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MysqlSource { pool: pool(context, options)?, feed: None }))
    }

    fn open_followed(&self, context: OpenContext<'_>, options: &Options, _: &FeedOptions) -> Result<Arc<dyn Source>> {
        let pool = pool(context, options)?;
        let feed = Arc::new(MysqlFeed::new(pool.clone()));
        Ok(Arc::new(MysqlSource { pool, feed: Some(feed) }))
    }
}

fn pool(context: OpenContext<'_>, options: &Options) -> Result<Pool> {
    let config = Config::parse(context, options)?;
    let site = Site {
        service: context.service.clone(),
        location: config.location.clone(),
        statement_timeout: config.statement_timeout,
    };
    Ok(Pool::new(site, config))
}

#[async_trait]
impl Source for MysqlSource {
    fn location(&self) -> String {
        self.pool.site().location.clone()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn connections_max(&self) -> Option<usize> {
        Some(self.pool.config().pool_size)
    }

    fn states_have_connections(&self) -> bool {
        true
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let mut lease = self.pool.lease().await?;
        let tables = self.describe(&mut lease, self.scope()).await?;
        lease.release();
        Ok(tables)
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let mut lease = self.pool.lease().await?;
        let table = self.find(&mut lease, from).await;
        if matches!(table, Ok(_) | Err(Error::TableNotFound { .. })) {
            lease.release();
        }
        table
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        let site = self.pool.site();
        let mut lease = self.pool.lease().await?;
        // The ends of an index may lie behind many rows that are deleted and not yet purged: then its table has no statistics.
        match timeout(STATISTICS_MAX, statistics::statistics(lease.conn(), &site.service, table)).await {
            Ok(known) => {
                let known = known.map_err(|error| site.describing(error))?;
                lease.release();
                Ok(known)
            }
            Err(_) => Ok(None),
        }
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        let parts = split::ranges(&self.pool, &request).await;
        Ok(Arc::new(MysqlScan::of_table(self.pool.clone(), request, parts.unwrap_or_default())?))
    }

    async fn prepare_query(&self, request: QueryRequest) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(MysqlScan::of_query(self.pool.clone(), &request)?))
    }

    async fn snapshot(&self, statements: usize, _: Option<QueryId>) -> Result<Option<Snapshot>> {
        Ok(snapshot::take(&self.pool, statements).await?.map(|held| Snapshot::with_connections(held)))
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.feed.clone().map(|feed| feed as Arc<dyn Feed>)
    }
}

impl MysqlSource {
    fn database(&self) -> Option<&str> {
        self.pool.config().target.database.as_deref()
    }

    fn scope(&self) -> Scope<'_> {
        self.database().map_or(Scope::Server, Scope::Database)
    }

    async fn find(&self, lease: &mut Lease, from: &str) -> Result<TableDef> {
        for (database, name) in readings(self.database(), from) {
            if let Some(table) = self.describe(lease, Scope::Table(database, name)).await?.pop() {
                return Ok(table);
            }
        }
        let short = self.database().is_some();
        let tables = self.describe(lease, self.scope()).await?;
        let known = tables.into_iter().map(|table| if short { table.name } else { table.full_name() }).collect();
        Err(Error::TableNotFound { service: self.pool.site().service.clone(), table: from.to_owned(), known })
    }

    async fn describe(&self, lease: &mut Lease, scope: Scope<'_>) -> Result<Vec<TableDef>> {
        let site = self.pool.site();
        let tables = discover::tables(lease.conn(), scope);
        let result = match self.pool.config().statement_timeout {
            Some(limit) => timeout(limit, tables).await.map_err(|_| site.statement_timed_out())?,
            None => tables.await,
        };
        result.map_err(|error| site.describing(error))
    }
}

/// The databases and tables that a manifest's `from` may mean, likeliest first. Names may hold dots themselves.
fn readings<'a>(database: Option<&'a str>, from: &'a str) -> Vec<(&'a str, &'a str)> {
    let own = database.map(|database| (database, from));
    let dotted = from.match_indices('.').map(|(dot, _)| (&from[..dot], &from[dot + 1..]));
    own.into_iter().chain(dotted).filter(|(database, table)| !database.is_empty() && !table.is_empty()).collect()
}

/// A name as a statement has it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_a_table_of_the_urls_database_or_starts_with_a_database() {
        assert_eq!(readings(Some("shop"), "orders"), [("shop", "orders")]);
        assert_eq!(readings(Some("shop"), "a.b.c"), [("shop", "a.b.c"), ("a", "b.c"), ("a.b", "c")]);
        assert_eq!(readings(None, "shop.orders"), [("shop", "orders")]);
        assert!(readings(None, "orders").is_empty());
    }
}
