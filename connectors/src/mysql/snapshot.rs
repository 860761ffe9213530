//! One state of the server for several statements at the same time.
//!
//! MariaDB has no snapshot that a second connection could join. So as many connections as there are statements begin a transaction `WITH
//! CONSISTENT SNAPSHOT` at the same moment, and then prove that they met the same state, in one of two ways:
//!
//! - By the binary log. InnoDB takes such a snapshot under the lock under which transactions are committed to the log, and tells the log's
//!   position at it. Where all positions are equal, no logged transaction was committed in between; where InnoDB's counter of transactions
//!   stood still, no other was either.
//! - Without a log, by what each connection's read view sees, which InnoDB's monitor prints for whoever has the privilege PROCESS. A view sees all
//!   transactions below a number and none from another on, and of those between it sees the ones that had ended. Where the two numbers are one, it says
//!   all of the view, so views with the same number are the same state. They are two while a transaction that has written runs on beside others that
//!   are committed: this proves nothing then. Numbers are of one server, so each connection is asked whether it is on that one, and under the number by
//!   which the monitor knows it: what balances or pools connections may say otherwise.
//!
//! Where states differ, all begin anew. MySQL, which tells neither, is refused. A snapshot is of InnoDB's tables.
//!
//! Invariant: a snapshot's connections are taken from the pool at once or not at all, so that queries that each wait for more can't wait for one
//! another.

use std::sync::Arc;
use std::time::Duration;

use headwater_source::Result;
use headwater_source::futures::future::{join_all, try_join_all};
use mysql_common::row::Row;
use parking_lot::Mutex;
use tracing::debug;

use super::connect::{Lease, Pool};
use super::wire::{self, Conn};

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
const END: &str = "COMMIT";

/// Where in the binary log the connection's snapshot is. Empty without a log.
const POSITION: &str = "SHOW STATUS LIKE 'binlog_snapshot_%'";

/// InnoDB's counter: each transaction that writes moves it, when it starts and when it is committed.
const COUNTER: &str = "SHOW GLOBAL STATUS LIKE 'Innodb_max_trx_id'";

/// InnoDB's monitor: a text of at most a megabyte.
const MONITOR: &str = "SHOW ENGINE INNODB STATUS";

/// How often the connections begin until they have met one state.
const ATTEMPTS_MAX: usize = 20;

/// Where its list of transactions begins.
const TRANSACTIONS: &str = "LIST OF TRANSACTIONS FOR EACH SESSION:";

/// What it has in the place of what it leaves out.
const CUT: &str = "... truncated...";

/// Which server it is.
const SERVER: &str = "SELECT CONCAT_WS(' ', @@server_uid, @@hostname, @@port, @@datadir)";

/// A row where the connection is on another server, or under another number, than it is taken to be.
const ELSEWHERE: &str = "SELECT 1 FROM DUAL WHERE NOT (CONNECTION_ID() <=> ? AND CONCAT_WS(' ', @@server_uid, @@hostname, @@port, @@datadir) <=> ?)";

/// How long is waited before the attempts that follow one whose views prove nothing: whoever writes may be done by then.
const PAUSES: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(3), Duration::from_millis(9)];

/// For how long views are not asked again where they proved nothing.
pub(super) const UNPROVEN: Duration = Duration::from_secs(2);

/// That a role may not see something, or that a server does not know it.
const UNTOLD: [u16; 4] = [1044, 1142, 1193, 1227];

/// A state that is held: a connection for each statement that was announced. Dropping it ends the transactions of those that no
/// statement took.
pub(super) struct Held {
    idle: Mutex<Vec<Lease>>,
}

/// Takes so many connections to one state; `None` where the pool has not so many to spare now, where the server does not tell
/// whether they met one, or where it writes too fast for them to meet.
pub(super) async fn take(pool: &Pool, connections: usize) -> Result<Option<Arc<Held>>> {
    let refused = match pool.states_are_told_by() {
        ToldBy::Nothing => true,
        ToldBy::Views(_) => connections > 1 && pool.views_prove_nothing(),
        ToldBy::Log => false,
    };
    if refused {
        return Ok(None);
    }
    let Some(mut leases) = pool.lease_many(connections).await? else { return Ok(None) };
    let mut pauses = PAUSES.iter();
    for _ in 0..ATTEMPTS_MAX {
        let by = pool.states_are_told_by();
        match begin(&mut leases, &by).await.map_err(|error| pool.site().describing(error))? {
            Met::One => return Ok(Some(Arc::new(Held { idle: Mutex::new(leases) }))),
            Met::Several => {}
            Met::Unproven => match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => {
                    pool.set_views_prove_nothing();
                    break;
                }
            },
            Met::Untold => {
                let next = match by {
                    ToldBy::Log => server(&mut leases).await.map_err(|error| pool.site().describing(error))?,
                    ToldBy::Views(_) | ToldBy::Nothing => None,
                };
                pool.set_states_told_by(next.clone().map_or(ToldBy::Nothing, ToldBy::Views));
                if next.is_none() {
                    break;
                }
            }
        }
    }
    join_all(leases.into_iter().map(end)).await;
    Ok(None)
}

/// How a server tells which state a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToldBy {
    /// Positions in its binary log.
    Log,
    /// Read views of this server.
    Views(Arc<str>),
    Nothing,
}

/// What a number of snapshots are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    One,
    Several,
    /// Perhaps one: of which transactions a view sees is not told.
    Unproven,
    /// The server does not say.
    Untold,
}

async fn begin(leases: &mut [Lease], by: &ToldBy) -> wire::Result<Met> {
    match by {
        // One connection meets no other.
        _ if leases.len() == 1 => start(leases).await.map(|()| Met::One),
        ToldBy::Log => by_log(leases).await,
        ToldBy::Views(server) => by_views(leases, server).await,
        ToldBy::Nothing => Ok(Met::Untold),
    }
}

/// Any earlier transaction of theirs ends with this.
async fn start(leases: &mut [Lease]) -> wire::Result<()> {
    try_join_all(leases.iter_mut().map(|lease| lease.conn().query_drop(BEGIN))).await?;
    Ok(())
}

async fn by_log(leases: &mut [Lease]) -> wire::Result<Met> {
    let before = counter(leases).await?;
    start(leases).await?;
    let after = counter(leases).await?;
    let positions = try_join_all(leases.iter_mut().map(|lease| position(lease.conn()))).await?;
    if before.is_none() || positions.iter().any(|position| position.len() != 2) {
        return Ok(Met::Untold);
    }
    let one = before == after && positions.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(if one { Met::One } else { Met::Several })
}

async fn by_views(leases: &mut [Lease], server: &str) -> wire::Result<Met> {
    start(leases).await?;
    let elsewhere = leases.iter_mut().map(|lease| async {
        let conn = lease.conn();
        let number = conn.id();
        conn.exec_first::<u8>(ELSEWHERE, (number, server)).await.map(|row| row.is_some())
    });
    if try_join_all(elsewhere).await?.contains(&true) {
        debug!(
            "connections to one service are not on one server, or not under their numbers; nothing is read in parts"
        );
        return Ok(Met::Untold);
    }
    let threads: Vec<u32> = leases.iter_mut().map(|lease| lease.conn().id()).collect();
    let Some(first) = leases.first_mut() else { return Ok(Met::Untold) };
    let Some(shown) = told(first.conn().query_first::<Row>(MONITOR).await)? else { return Ok(Met::Untold) };
    // Texts of other sessions' statements are in it, cut anywhere.
    let text: Option<Vec<u8>> = shown.and_then(|mut row| row.take_opt("Status")).and_then(std::result::Result::ok);
    Ok(met(&String::from_utf8_lossy(&text.unwrap_or_default()), &threads))
}

/// Which server it is, as the first connection has it; `None` where it does not say.
async fn server(leases: &mut [Lease]) -> wire::Result<Option<Arc<str>>> {
    let Some(first) = leases.first_mut() else { return Ok(None) };
    Ok(told(first.conn().query_first::<String>(SERVER).await)?.flatten().map(Arc::from))
}

/// An answer; `None` where this role or server has none, and never will have.
fn told<T>(answer: wire::Result<T>) -> wire::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code().is_some_and(|code| UNTOLD.contains(&code)) => {
            debug!(%error, "the server does not tell states; nothing is read in parts");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn met(monitor: &str, threads: &[u32]) -> Met {
    let is_repeated = |(index, thread): (usize, &u32)| threads[..index].contains(thread);
    if threads.iter().enumerate().any(is_repeated) {
        return Met::Untold;
    }
    // What is cut out of a long one may be what is looked for.
    let Some((_, transactions)) = monitor.rsplit_once(TRANSACTIONS).filter(|_| !monitor.contains(CUT)) else {
        return Met::Unproven;
    };
    let views: Option<Vec<View>> = threads.iter().map(|thread| view(transactions, *thread)).collect();
    match views {
        Some(views) if views.iter().all(|view| view.sees_below == view.sees_none_from) => {
            if views.windows(2).all(|pair| pair[0] == pair[1]) { Met::One } else { Met::Several }
        }
        _ => Met::Unproven,
    }
}

/// Which transactions a snapshot sees: all with numbers below the one, none from the other on, and of those between some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    sees_none_from: u64,
    sees_below: u64,
}

/// The view of a connection's transaction. `None` where the monitor does not show it, or shows two: a statement of somebody's may contain what
/// looks like one.
fn view(transactions: &str, thread: u32) -> Option<View> {
    // As MariaDB calls it, and as it did before 10.5.
    let begin = [format!("MariaDB thread id {thread}, "), format!("MySQL thread id {thread}, ")];
    let is_own = |line: &&str| begin.iter().any(|begin| line.starts_with(begin));
    let mut lines = transactions.lines();
    lines.find(is_own)?;
    let own: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("---")).collect();
    if lines.any(|line| is_own(&line)) {
        return None;
    }
    let mut views = own.iter().filter_map(|line| line.strip_prefix("Trx read view will not see trx with id >= "));
    let (sees_none_from, sees_below) = views.next()?.split_once(", sees < ")?;
    let view = View { sees_none_from: sees_none_from.parse().ok()?, sees_below: sees_below.trim().parse().ok()? };
    views.next().is_none().then_some(view)
}

async fn counter(leases: &mut [Lease]) -> wire::Result<Option<String>> {
    let Some(first) = leases.first_mut() else { return Ok(None) };
    Ok(first.conn().query_first::<(String, String)>(COUNTER).await?.map(|(_, value)| value))
}

/// File and offset.
async fn position(conn: &mut Conn) -> wire::Result<Vec<(String, String)>> {
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
    pub(super) async fn place(&self) -> wire::Result<Option<(String, u64)>> {
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

#[cfg(test)]
mod tests {
    use super::{Met, View, met, view};

    fn shown(transactions: &[(u32, &str, &str)]) -> String {
        let mut text =
            "------------\nTRANSACTIONS\n------------\nTrx id counter 70\nLIST OF TRANSACTIONS FOR EACH SESSION:\n"
                .to_owned();
        for (thread, statement, view) in transactions {
            text += "---TRANSACTION (0x7fdb939c0680), ACTIVE 0 sec\n0 lock struct(s), heap size 1128, 0 row lock(s)\n";
            text += &format!(
                "MariaDB thread id {thread}, OS thread handle 140580994635456, query id 14 localhost u\n{statement}"
            );
            text += view;
        }
        text + "--------\nFILE I/O\n--------\n"
    }

    #[test]
    fn views_of_the_same_one_number_are_one_state() {
        let of = |views: &[&str]| {
            let transactions: Vec<(u32, &str, &str)> =
                views.iter().zip(8..).map(|(view, thread)| (thread, "", *view)).collect();
            let threads: Vec<u32> = transactions.iter().map(|(thread, ..)| *thread).collect();
            met(&shown(&transactions), &threads)
        };
        let (at_59, at_60) = (
            "Trx read view will not see trx with id >= 59, sees < 59\n",
            "Trx read view will not see trx with id >= 60, sees < 60\n",
        );
        assert_eq!(of(&[at_59, at_59]), Met::One);
        assert_eq!(of(&[at_59, at_60]), Met::Several);
        // Transaction 57 or 58 may run for the one and be committed for the other.
        let beside = "Trx read view will not see trx with id >= 59, sees < 57\n";
        assert_eq!(of(&[beside, beside]), Met::Unproven);
        assert_eq!(of(&[at_59, beside]), Met::Unproven);
        assert_eq!(of(&[at_59, ""]), Met::Unproven);
        // Two servers count their connections alike.
        assert_eq!(met(&shown(&[(8, "", at_59)]), &[8, 8]), Met::Untold);
        let cut = shown(&[(8, "", at_59), (9, "... truncated...\n", at_59)]);
        assert_eq!(met(&cut, &[8, 9]), Met::Unproven);
        assert_eq!(met("", &[8]), Met::Unproven);
    }

    #[test]
    fn view_is_the_one_of_the_thread_alone() {
        let at_59 = "Trx read view will not see trx with id >= 59, sees < 59\n";
        let text = shown(&[(12, "", at_59), (1, "show engine innodb status\n", at_59)]);
        assert_eq!(view(&text, 1), Some(View { sees_none_from: 59, sees_below: 59 }));
        assert_eq!(view(&text, 2), None);
        // Somebody's statement says what it likes.
        let lie = "select '\nMariaDB thread id 1, \nTrx read view will not see trx with id >= 59, sees < 59\n'\n";
        assert_eq!(view(&shown(&[(12, lie, at_59), (1, "", "")]), 1), None);
        assert_eq!(view(&shown(&[(1, "", ""), (12, lie, at_59)]), 1), None);
        let cut = "Trx read view will not see trx with id >= 59, se";
        assert_eq!(view(&shown(&[(1, "", cut)]), 1), None);
    }
}
