//! Changes from MariaDB's binary log in row format: `feed: {mode: binlog}`.
//!
//! Nothing is installed at the server: it keeps its log for its own reasons (`binlog_expire_logs_seconds`), not for us. A position is a place in
//! the log and the GTIDs before it. A snapshot's position is exact: InnoDB tells where in the log its consistent snapshot is.

mod charset;
mod event;
mod log;
mod place;
mod row;
mod rows;
mod snapshot;
mod statement;
mod tables;
mod transactions;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_source::{
    Error, Feed, FeedClass, FeedDef, FeedStatus, Lack, Position, Result, TableDef, TablesAt, TransactionStream,
    async_trait,
};
use mysql_common::row::Row;

use super::connect::Pool;
use super::wire::Conn;
use log::Log;
use place::{Gtids, Place};
use transactions::{HEARTBEAT, Reader, transactions};

/// The feeds of a MariaDB.
pub(super) const FEEDS: &[FeedDef] = &[FeedDef { mode: MODE, options: &[], doc: "The binary log in row format." }];

const MODE: &str = "binlog";

/// Where a snapshot or a log stands, in GTIDs. NULL where the log has no such place any more.
const GTIDS_AT: &str = "SELECT BINLOG_GTID_POS(?, ?)";

/// The changes of one server, for one service.
pub(super) struct MysqlFeed {
    pool: Pool,
}

impl MysqlFeed {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    fn unsupported(&self, reason: impl Into<String>) -> Error {
        Error::Unsupported { service: self.pool.site().service.clone(), reason: reason.into() }
    }

    fn gone(&self, wanted: &Place, reason: impl Into<String>) -> Error {
        let wanted = wanted.position().token().to_owned();
        Error::HistoryGone { service: self.pool.site().service.clone(), wanted, reason: reason.into() }
    }

    /// The place of a file and an offset.
    async fn place(&self, conn: &mut Conn, file: String, offset: u64) -> Result<Place> {
        let gtids: Option<Option<String>> =
            conn.exec_first(GTIDS_AT, (&file, offset)).await.map_err(|error| self.pool.site().describing(error))?;
        let gtids = gtids.flatten().and_then(|text| Gtids::parse(&text)).unwrap_or_default();
        let offset = u32::try_from(offset).map_err(|_| self.unsupported("a log of more than 4 GiB in a file"))?;
        let place = Place { file, offset, gtids };
        Place::parse(place.position().token())
            .ok_or_else(|| self.unsupported(format!("a log in a file without a number, {:?}", place.file)))
    }

    async fn log_reaches(&self, conn: &mut Conn, place: &Place) -> Result<bool> {
        let logs: Vec<Row> =
            conn.query("SHOW BINARY LOGS").await.map_err(|error| self.pool.site().describing(error))?;
        let sizes = logs.iter().filter_map(|row| row.get::<String, _>(0).zip(row.get::<u64, _>(1)));
        Ok(sizes.into_iter().any(|(file, size)| file == place.file && size >= u64::from(place.offset)))
    }

    /// Sees that the log has a place, and is the one that had it.
    async fn check_place(&self, conn: &mut Conn, place: &Place) -> Result<()> {
        let found: Option<Option<String>> = conn
            .exec_first(GTIDS_AT, (&place.file, place.offset))
            .await
            .map_err(|error| self.pool.site().describing(error))?;
        match found.flatten().and_then(|text| Gtids::parse(&text)) {
            // The server can't tell where an event before it is larger than its packets; that the log is so long has to do then.
            None if self.log_reaches(conn, place).await? => Ok(()),
            None => Err(self.gone(place, format!("the binary log {} was purged, or is not so long", place.file))),
            Some(gtids) if gtids != place.gtids => {
                Err(self.gone(place, format!("the binary log is another by now: it has {gtids} there")))
            }
            Some(_) => Ok(()),
        }
    }
}

/// A number that no other reader of the log has: the server ends the older of two.
fn server_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = (now.as_micros() as u64 ^ u64::from(std::process::id()) << 32)
        .wrapping_add(u64::from(NEXT.fetch_add(1, Ordering::Relaxed)))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper half of the numbers: people give servers small ones.
    (mixed >> 32) as u32 | 0x8000_0000
}

impl fmt::Debug for MysqlFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MysqlFeed({})", self.pool.site().location)
    }
}

#[async_trait]
impl Feed for MysqlFeed {
    fn mode(&self) -> &'static str {
        MODE
    }

    fn class(&self) -> FeedClass {
        FeedClass::Transactional
    }

    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>> {
        let mut lease = self.pool.lease().await?;
        let mut databases: Vec<&str> =
            tables.iter().filter_map(|table| table.path.first()).map(String::as_str).collect();
        databases.dedup();
        let conn = lease.conn();
        let told = async {
            let mut lacks = tables::server_lacks(conn, &databases).await?;
            for table in tables {
                lacks.extend(tables::lacks(conn, table).await?);
            }
            Ok(lacks)
        };
        let lacks = told.await.map_err(|error| self.pool.site().describing(error))?;
        lease.release();
        Ok(lacks)
    }

    async fn install(&self, tables: &[TableDef]) -> Result<()> {
        match self.check(tables).await?.first() {
            Some(Lack { what, remedy }) => Err(self.unsupported(format!("{what}; {remedy}"))),
            None => Ok(()),
        }
    }

    async fn remove(&self) -> Result<Vec<String>> {
        Ok(vec![])
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        let held = snapshot::take(&self.pool, tables).await?;
        // All connections of the pool may be in the snapshot.
        let mut conn = self.pool.apart().await?;
        let place = self.place(&mut conn, held.file, held.offset).await?;
        drop(conn.disconnect().await);
        Ok(TablesAt { position: place.position(), tables: held.tables })
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        let site = self.pool.site();
        let place = Place::parse(after.token()).ok_or_else(|| {
            self.unsupported(format!("a position {:?} that is no place in a binary log", after.token()))
        })?;
        let mut conn = self.pool.apart().await?;
        self.check_place(&mut conn, &place).await?;
        let tables = tables::followed(&mut conn, site, tables).await?;
        let folds: Option<u8> =
            conn.query_first("SELECT @@lower_case_table_names").await.map_err(|error| site.describing(error))?;
        let checksums: Option<String> =
            conn.query_first("SELECT @@global.binlog_checksum").await.map_err(|error| site.describing(error))?;
        let prepare = [
            // Four: the server may send groups with their GTIDs.
            "SET @mariadb_slave_capability = 4".to_owned(),
            "SET @master_binlog_checksum = @@global.binlog_checksum".to_owned(),
            format!("SET @master_heartbeat_period = {}", HEARTBEAT.as_nanos()),
            "SET SESSION max_statement_time = 0".to_owned(),
        ];
        for statement in prepare {
            conn.query_drop(&statement).await.map_err(|error| site.describing(error))?;
        }
        let has_checksums = checksums.as_deref() == Some("CRC32");
        let log = Log::begin(conn, &place.file, place.offset, server_id(), has_checksums).await;
        let log = log.map_err(|error| site.connecting(error))?;
        let reader = Reader {
            site: site.clone(),
            tables,
            place,
            folds_names: folds != Some(0),
            maps: HashMap::new(),
            group: None,
        };
        Ok(transactions(reader, log))
    }

    async fn acknowledge(&self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let mut lease = self.pool.lease().await?;
        let status: Option<Row> =
            lease.conn().query_first("SHOW MASTER STATUS").await.map_err(|error| self.pool.site().describing(error))?;
        let place = status.and_then(|row| row.get::<String, _>(0).zip(row.get::<u64, _>(1)));
        let (file, offset) = place.ok_or_else(|| self.unsupported("the end of a binary log that is not written"))?;
        let place = self.place(lease.conn(), file, offset).await?;
        lease.release();
        Ok(place.position())
    }

    fn covers(&self, position: &Position, token: &str) -> Result<bool> {
        let place = |token: &str| Place::parse(token).map(|place| place.gtids);
        let token =
            place(token).or_else(|| Gtids::parse(token)).filter(|gtids| !gtids.is_empty()).ok_or_else(|| {
                self.unsupported("a token that is no list of GTIDs; SELECT @@last_gtid gives one after a commit")
            })?;
        Ok(place(position.token()).is_some_and(|gtids| gtids.cover(&token)))
    }

    async fn status(&self) -> Result<FeedStatus> {
        let mut lease = self.pool.lease().await?;
        let logs: Vec<Row> =
            lease.conn().query("SHOW BINARY LOGS").await.map_err(|error| self.pool.site().describing(error))?;
        lease.release();
        let oldest = logs.first().and_then(|row| row.get::<String, _>(0)).map(|file| format!("{file}:4"));
        Ok(FeedStatus { retained_bytes: None, oldest })
    }
}
