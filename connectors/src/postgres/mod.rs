//! PostgreSQL 12 and later: tables, partitioned tables, views, materialized views and foreign tables.
//!
//! What a manifest's `source:` section may say is in `config`, which types are read as what in `types`, what may be
//! pushed in `dialect`. Read-only in fact and not only by intent: every connection defaults to read-only transactions, and every
//! scan runs in one.
//!
//! A scan's operators and types are looked up in `pg_catalog` only (`search_path` is pinned). A view whose functions rely on another
//! `search_path` fails here; let the functions set their own.
//!
//! Connections hold session settings and named statements: behind a pooler, use its session mode.

mod answer;
mod config;
mod connect;
mod handshake;
mod host;
mod input;
mod prepared;
mod tls;
mod wire;

mod discover;
mod known;
mod statistics;
mod types;

mod dialect;
mod range;

mod bind;
mod scan;
mod snapshot;
mod split;
mod tag;

mod decode;
mod field;
mod numeric;
mod rows;
mod values;

mod error;

mod feed;

use std::fmt;
use std::sync::Arc;

use headwater_source::{
    Capabilities, Connector, Feed, FeedDef, FeedOptions, OpenContext, OptionDef, Options, QueryId, QueryRequest,
    Result, Scan, ScanRequest, Snapshot, Source, TableDef, TableStatistics, async_trait,
};

pub(crate) use self::dialect::CAPABILITIES;
use config::Settings;
use connect::Connections;
use error::Place;
use feed::PostgresFeed;
use scan::PostgresScan;

/// Opens PostgreSQL databases: `connector: postgres`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PostgresConnector;

impl Connector for PostgresConnector {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn options(&self) -> &'static [OptionDef] {
        config::OPTIONS
    }

    fn feeds(&self) -> &'static [FeedDef] {
        feed::FEEDS
    }

    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(PostgresSource { connections: connections(context, options)?, feed: None }))
    }

    fn open_followed(
        &self,
        context: OpenContext<'_>,
        options: &Options,
        feed: &FeedOptions,
    ) -> Result<Arc<dyn Source>> {
        let connections = connections(context, options)?;
        let feed = PostgresFeed::new(Arc::clone(&connections), context.service, feed)?;
        Ok(Arc::new(PostgresSource { connections, feed: Some(Arc::new(feed)) }))
    }
}

fn connections(context: OpenContext<'_>, options: &Options) -> Result<Arc<Connections>> {
    let settings = Settings::parse(context, options)?;
    let place = Place {
        service: context.service.clone(),
        location: settings.location.clone(),
        connect_timeout: settings.connect_timeout,
        pool_wait: settings.pool_wait,
        statement_timeout: settings.statement_timeout,
        loose: settings.loose,
    };
    Ok(Arc::new(Connections::new(settings, place)))
}

/// One database under one role.
struct PostgresSource {
    connections: Arc<Connections>,
    feed: Option<Arc<PostgresFeed>>,
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSource({})", self.connections.place.location)
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn location(&self) -> String {
        self.connections.place.location.clone()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn connections_max(&self) -> Option<usize> {
        Some(self.connections.most())
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let mut lease = self.connections.lease().await?;
        let found = discover::tables(&mut lease, &self.connections.place).await?;
        lease.release();
        Ok(found.into_iter().map(|description| self.connections.known.put(description).table.clone()).collect())
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let mut lease = self.connections.lease().await?;
        let found = discover::table(&mut lease, &self.connections.place, from).await?;
        lease.release();
        found.map(|description| self.connections.known.put(description).table.clone())
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        let mut lease = self.connections.lease().await?;
        let found = statistics::statistics(&mut lease, table).await;
        found.map_err(|fault| discover::failed(&self.connections.place, fault))
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(PostgresScan::of_table(self.connections.clone(), request)?))
    }

    async fn prepare_query(&self, request: QueryRequest) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(PostgresScan::of_query(self.connections.clone(), &request)?))
    }

    async fn snapshot(&self, _statements: usize, query: Option<QueryId>) -> Result<Option<Snapshot>> {
        snapshot::export(&self.connections, query).await.map(Some)
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.feed.clone().map(|feed| feed as Arc<dyn Feed>)
    }
}
