//! The rows of tables at one place in the log.
//!
//! Where as many connections as there are tables meet one state, the tables are read at once. Where the pool has not so many, or the server
//! writes too fast for them to meet, one connection reads table after table in one transaction: the stream of each begins when the one
//! before it has ended.

use std::sync::Arc;

use headwater_source::futures::{TryStreamExt, stream};
use headwater_source::{BatchStream, Error, Result, Scan, ScanRequest, Snapshot, TableDef};
use tokio::sync::oneshot;

use super::super::connect::{Lease, Pool};
use super::super::scan::MysqlScan;
use super::super::snapshot::{self, Held};

/// Tables at a place.
pub(super) struct TablesOf {
    pub(super) file: String,
    pub(super) offset: u64,
    pub(super) tables: Vec<BatchStream>,
}

/// Takes the state of now.
pub(super) async fn take(pool: &Pool, tables: &[TableDef]) -> Result<TablesOf> {
    if let Some(held) = snapshot::take(pool, tables.len()).await? {
        let (file, offset) = place(pool, &held).await?;
        let mut streams = Vec::with_capacity(tables.len());
        for table in tables {
            streams.push(scan(pool, table)?.open_for(0, &Snapshot::new(Arc::clone(&held) as _).into()).await?);
        }
        return Ok(TablesOf { file, offset, tables: streams });
    }
    let held = snapshot::take(pool, 1).await?;
    let held = held.ok_or_else(|| untold(pool))?;
    let (file, offset) = place(pool, &held).await?;
    let lease = held.lease().ok_or_else(|| pool.site().unavailable("the snapshot's connection is in use"))?;
    Ok(TablesOf { file, offset, tables: one_after_another(pool, tables, lease)? })
}

async fn place(pool: &Pool, held: &Held) -> Result<(String, u64)> {
    let place = held.place().await.map_err(|error| pool.site().describing(error))?;
    place.ok_or_else(|| untold(pool))
}

fn untold(pool: &Pool) -> Error {
    Error::Unsupported {
        service: pool.site().service.clone(),
        reason: "a snapshot: the server does not tell where in its log it is".to_owned(),
    }
}

fn scan(pool: &Pool, table: &TableDef) -> Result<MysqlScan> {
    MysqlScan::of_table(pool.clone(), ScanRequest::all(Arc::new(table.clone())), vec![])
}

/// Streams that hand the connection on from one to the next.
fn one_after_another(pool: &Pool, tables: &[TableDef], lease: Lease) -> Result<Vec<BatchStream>> {
    let (first, mut turn) = oneshot::channel();
    // Nobody has taken the other end yet.
    drop(first.send(lease));
    let mut streams: Vec<BatchStream> = vec![];
    for table in tables {
        let (hand_on, next) = oneshot::channel();
        let (scan, site) = (scan(pool, table)?, pool.site().clone());
        let begun = async move {
            let lease = turn.await.map_err(|_| site.unavailable("the table before it was not read to its end"))?;
            scan.read_within(lease, hand_on).await
        };
        streams.push(Box::pin(stream::once(begun).try_flatten()));
        turn = next;
    }
    // After the last the transaction ends.
    tokio::spawn(async move {
        if let Ok(lease) = turn.await {
            snapshot::end(lease).await;
        }
    });
    Ok(streams)
}
