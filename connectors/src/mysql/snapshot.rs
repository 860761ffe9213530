//! One state of the server for several statements at the same time.
//!
//! MariaDB has no snapshot that a second connection could join. So as many connections as there are statements begin a transaction `WITH
//! CONSISTENT SNAPSHOT` at the same moment, and then prove that they met the same state: InnoDB takes such a snapshot under the lock under
//! which transactions are committed to the binary log, and tells the log's position at it. Where all positions are equal, no logged transaction
//! was committed in between; where InnoDB's counter of transactions stood still, no other was either. Where they differ, all begin anew.
//!
//! It refuses: a server without a binary log, and MySQL, which does not tell the position. A snapshot is of InnoDB's tables.
//!
//! Invariant: a snapshot's connections are taken from the pool at once or not at all, so that queries that each wait for more can't wait for one
//! another.

use std::sync::Arc;

use headwater_source::Result;
use headwater_source::futures::future::{join_all, try_join_all};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use parking_lot::Mutex;

use super::connect::{Lease, Pool};

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
const END: &str = "COMMIT";

/// Where in the binary log the connection's snapshot is. Empty without a log.
const POSITION: &str = "SHOW STATUS LIKE 'binlog_snapshot_%'";

/// InnoDB's counter: each transaction that writes moves it, when it starts and when it is committed.
const COUNTER: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_max_trx_id'";

/// How often the connections begin until they have met one state.
const ATTEMPTS_MAX: usize = 20;

/// A state that is held: a connection for each statement that was announced. Dropping it ends the transactions of those that no
/// statement took.
pub(super) struct Held {
    idle: Mutex<Vec<Lease>>,
}

/// Takes so many connections to one state; `None` where the pool has not so many to spare now, where the server does not tell
/// whether they met one, or where it writes too fast for them to meet.
pub(super) async fn take(pool: &Pool, connections: usize) -> Result<Option<Arc<Held>>> {
    if !pool.tells_states() {
        return Ok(None);
    }
    let Some(mut leases) = pool.lease_many(connections).await? else { return Ok(None) };
    for _ in 0..ATTEMPTS_MAX {
        let met = begin(&mut leases).await.map_err(|error| pool.site().describing(error))?;
        match met {
            Met::One => return Ok(Some(Arc::new(Held { idle: Mutex::new(leases) }))),
            Met::Several => {}
            Met::Untold => {
                pool.tells_no_states();
                break;
            }
        }
    }
    join_all(leases.into_iter().map(end)).await;
    Ok(None)
}

/// What a number of snapshots are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    One,
    Several,
    /// The server does not say.
    Untold,
}

async fn begin(leases: &mut [Lease]) -> mysql_async::Result<Met> {
    let Some(first) = leases.first_mut() else { return Ok(Met::Untold) };
    let before = counter(first.conn()).await?;
    // Any earlier transaction of theirs ends with this.
    try_join_all(leases.iter_mut().map(|lease| lease.conn().query_drop(BEGIN))).await?;
    let Some(first) = leases.first_mut() else { return Ok(Met::Untold) };
    let after = counter(first.conn()).await?;
    let positions = try_join_all(leases.iter_mut().map(|lease| position(lease.conn()))).await?;
    let told = before.is_some() && positions.iter().all(|position| position.len() == 2);
    // One connection meets no other.
    let one = positions.len() == 1 || before == after && positions.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(match (told, one) {
        (false, _) => Met::Untold,
        (true, true) => Met::One,
        (true, false) => Met::Several,
    })
}

async fn counter(conn: &mut Conn) -> mysql_async::Result<Option<String>> {
    Ok(conn.query_first::<(String, String), _>(COUNTER).await?.map(|(_, value)| value))
}

/// File and offset.
async fn position(conn: &mut Conn) -> mysql_async::Result<Vec<(String, String)>> {
    let mut position: Vec<(String, String)> = conn.query(POSITION).await?;
    position.retain(|(name, value)| {
        let name = name.to_ascii_lowercase();
        !value.is_empty() && matches!(name.as_str(), "binlog_snapshot_file" | "binlog_snapshot_position")
    });
    Ok(position)
}

/// Ends the transaction and gives the connection back. One that can't end it is closed, which ends it too.
pub(super) async fn end(mut lease: Lease) {
    if lease.conn().query_drop(END).await.is_ok() {
        lease.release();
    }
}

impl Held {
    /// A connection that sees the state; `None` where as many statements as were announced have had theirs.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.idle.lock().pop()
    }

    /// Where in the binary log the state is; `None` where no connection is left to tell.
    pub(super) async fn place(&self) -> mysql_async::Result<Option<(String, u64)>> {
        let Some(mut lease) = self.lease() else { return Ok(None) };
        let told = position(lease.conn()).await?;
        self.idle.lock().push(lease);
        let of = |wanted: &str| told.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        let file = of("binlog_snapshot_file").cloned();
        Ok(file.zip(of("binlog_snapshot_position").and_then(|offset| offset.parse().ok())))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let leases = std::mem::take(&mut *self.idle.lock());
        let Some(runtime) = leases.first().map(Lease::runtime) else { return };
        runtime.spawn(join_all(leases.into_iter().map(end)));
    }
}
