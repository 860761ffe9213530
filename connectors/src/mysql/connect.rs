//! Connections: a bounded pool, the session's settings, and how a statement is stopped.
//!
//! A [`Lease`] is a connection with the right to use it. [`Lease::release`] gives a connection back that has no result pending;
//! a lease that is dropped in any other way stops its statement at the server with KILL from a connection of its
//! own and closes the connection.
//!
//! Invariant: a source never holds more than `pool_size` leases; a lease counts until its connection is back or closed. Stopping a
//! statement takes one more connection for a moment.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use headwater_source::Result;
use headwater_source::futures::future::try_join_all;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::debug;

use super::config::{Config, SslMode, Tls};
use super::dialect::{Lists, MysqlDialect};
use super::error::Site;
use super::snapshot::{self, ToldBy};
use super::unchanged::Known;
use super::wire::{self, Conn};
use crate::idle::Sweeper;
use crate::tls::{self, Verify};

/// What a session is set to before its first statement, so that no server default can change an answer.
const SESSION: &[&str] = &[
    // Text travels as UTF-8 both ways; values compared with a column take the column's collation.
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET SESSION sql_mode = '', time_zone = '+00:00', sql_auto_is_null = 0, sql_big_selects = 1, \
     sql_select_limit = 18446744073709551615, max_sort_length = 1024, autocommit = 1, net_write_timeout = 86400, \
     net_read_timeout = 86400",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    // Lists of keys are found by semi joins.
    "SET SESSION optimizer_switch = 'semijoin=on,materialization=on'",
    // MariaDB remembers the result of a subquery by the values of the outer row, compared under their collation: 'a' would get that of 'A',
    // though the subquery compares bytes. It may also end transactions that wait for their reader. MySQL does neither and reads this as a comment.
    "/*M!100300 SET SESSION optimizer_switch = 'subquery_cache=off', idle_transaction_timeout = 0, \
     idle_readonly_transaction_timeout = 0 */",
];

/// How long connections that are wanted at once are waited for. Whoever gets none goes on without.
const MANY_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a connection that is thrown away may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections of one source. Prints its configuration only.
#[derive(Clone)]
pub(super) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    site: Site,
    config: Config,
    permits: Arc<Semaphore>,
    /// Those that nobody uses, the one that was used last at the end.
    idle: Mutex<Vec<Idle>>,
    sweeper: Sweeper,
    /// What connections are encrypted with, where they are; made once because that reads certificates.
    tls: OnceLock<Option<Arc<ClientConfig>>>,
    /// Whether statements are not asked at once with others any more.
    asked_in_turn: AtomicBool,
    /// Whether the server that was connected to last has JSON_TABLE.
    json_tables: AtomicBool,
    /// How that server may tell which state a snapshot is of.
    told_by: Mutex<ToldBy>,
    /// Until when its views are not asked.
    unproven_until: Mutex<Option<Instant>>,
    /// The tables that were as they were planned.
    known: Known,
}

/// A connection that nobody uses.
struct Idle {
    conn: Conn,
    since: Instant,
}

/// A connection that nobody else uses.
pub(super) struct Lease {
    /// Invariant: there until the lease ends.
    conn: Option<Conn>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Inner>,
    /// Where the statement is stopped from when the lease is dropped, perhaps outside of any task.
    runtime: Handle,
    asked: Asked,
}

/// Whether a connection was asked if it still answers since somebody else used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Answered,
    Not,
}

impl Pool {
    pub(super) fn new(site: Site, config: Config) -> Self {
        let permits = Arc::new(Semaphore::new(config.pool_size));
        let sweeper = Sweeper::new(config.idle_timeout);
        Self {
            inner: Arc::new(Inner {
                site,
                config,
                permits,
                idle: Mutex::default(),
                sweeper,
                tls: OnceLock::new(),
                asked_in_turn: AtomicBool::new(false),
                json_tables: AtomicBool::new(false),
                told_by: Mutex::new(ToldBy::Log),
                unproven_until: Mutex::new(None),
                known: Known::default(),
            }),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(super) fn site(&self) -> &Site {
        &self.inner.site
    }

    pub(super) fn known(&self) -> &Known {
        &self.inner.known
    }

    /// How statements for this server are written, as far as is known: before the first connection, as any server understands them.
    pub(super) fn dialect(&self) -> MysqlDialect {
        let json = self.inner.json_tables.load(Ordering::Relaxed);
        MysqlDialect { lists: if json { Lists::Json } else { Lists::Placeholders } }
    }

    /// A connection that answers: an idle one, or else a new one.
    pub(super) async fn lease(&self) -> Result<Lease> {
        let permit = self.permit().await?;
        self.lease_with(permit).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let limit = self.inner.config.pool_wait;
        let waited = timeout(limit, Arc::clone(&self.inner.permits).acquire_owned()).await;
        match waited {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(self.inner.site.unavailable(closed)),
            Err(_) => Err(self.inner.site.timed_out("waiting for a connection", limit, "pool_wait_ms")),
        }
    }

    /// A connection that is used at once for something that may be asked again on another: an idle one as it was left, without asking whether it still answers.
    pub(super) async fn lease_as_left(&self) -> Result<Lease> {
        let permit = self.permit().await?;
        // The guard falls at the end of this line: a lock is never held over an await.
        let idle = self.inner.idle.lock().pop();
        match idle {
            Some(Idle { conn, .. }) => Ok(self.leased(conn, permit, Asked::Not)),
            None => self.lease_with(permit).await,
        }
    }

    /// So many connections at once; `None` where they do not come free within [`MANY_WAIT_MAX`], or are more than there may be.
    pub(super) async fn lease_many(&self, count: usize) -> Result<Option<Vec<Lease>>> {
        let Some(permits) = u32::try_from(count).ok().filter(|_| count <= self.inner.config.pool_size) else {
            return Ok(None);
        };
        let limit = self.inner.config.pool_wait.min(MANY_WAIT_MAX);
        let waited = timeout(limit, Arc::clone(&self.inner.permits).acquire_many_owned(permits)).await;
        let Ok(Ok(mut permits)) = waited else { return Ok(None) };
        let each = (0..count).map_while(|_| permits.split(1)).map(|permit| self.lease_with(permit));
        try_join_all(each).await.map(Some)
    }

    async fn lease_with(&self, permit: OwnedSemaphorePermit) -> Result<Lease> {
        let conn = match self.inner.idle_conn().await {
            Some(conn) => conn,
            None => self.inner.session().await?,
        };
        Ok(self.leased(conn, permit, Asked::Answered))
    }

    fn leased(&self, conn: Conn, permit: OwnedSemaphorePermit, asked: Asked) -> Lease {
        let pool = Arc::clone(&self.inner);
        pool.sweeper.start(|| {
            let pool = Arc::downgrade(&pool);
            move |limit| pool.upgrade().map_or(ControlFlow::Break(()), |pool| pool.sweep(limit))
        });
        Lease { conn: Some(conn), permit: Some(permit), pool, runtime: Handle::current(), asked }
    }

    /// A connection that no pool has, for as long as a feed reads.
    pub(super) async fn apart(&self) -> Result<Conn> {
        self.inner.session().await
    }

    /// Whether a statement was not known that had just been prepared: what is between here and the server wants one answer before the next question.
    pub(super) fn is_asked_in_turn(&self) -> bool {
        self.inner.asked_in_turn.load(Ordering::Relaxed)
    }

    /// Remembers that.
    pub(super) fn set_asked_in_turn(&self) {
        self.inner.asked_in_turn.store(true, Ordering::Relaxed);
    }

    /// How the server may tell which state a snapshot is of, as far as is known.
    pub(super) fn states_are_told_by(&self) -> ToldBy {
        self.inner.told_by.lock().clone()
    }

    /// Whether the server's views proved nothing a moment ago.
    pub(super) fn views_prove_nothing(&self) -> bool {
        self.inner.unproven_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Remembers that they did not.
    pub(super) fn set_views_prove_nothing(&self) {
        *self.inner.unproven_until.lock() = Some(Instant::now() + snapshot::UNPROVEN);
    }

    /// Remembers what it was found to do.
    pub(super) fn set_states_told_by(&self, by: ToldBy) {
        *self.inner.told_by.lock() = by;
    }
}

impl Lease {
    pub(super) fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("Invariant: a lease holds its connection until it ends")
    }

    /// Whether it may have died while nobody used it.
    pub(super) fn may_be_dead(&self) -> bool {
        self.asked == Asked::Not
    }

    /// Puts a connection that answers in the place of one that was found dead.
    pub(super) async fn renew(&mut self) -> Result<()> {
        if let Some(dead) = self.conn.take() {
            // It may be alive, and slow: then what it was asked is stopped.
            let pool = Arc::clone(&self.pool);
            self.runtime.spawn(async move {
                match dead.is_at_rest() {
                    true => close(dead).await,
                    false => pool.stop(dead).await,
                }
            });
        }
        self.conn = Some(match self.pool.idle_conn().await {
            Some(conn) => conn,
            None => self.pool.session().await?,
        });
        self.asked = Asked::Answered;
        Ok(())
    }

    /// Puts another connection in the place of one whose answers nobody wants any more. What runs on it is stopped first.
    pub(super) async fn exchange(&mut self) -> Result<()> {
        if let Some(conn) = self.conn.take().filter(|conn| !conn.is_at_rest()) {
            let pool = Arc::clone(&self.pool);
            // It goes on where nobody waits for it any more.
            drop(self.runtime.spawn(async move { pool.stop(conn).await }).await);
        }
        self.renew().await
    }

    /// What the connection lives on.
    pub(super) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Gives the connection back. It must have no transaction open; one that has a result pending is stopped and closed.
    pub(super) fn release(mut self) {
        if let Some(conn) = self.conn.take_if(|conn| conn.is_at_rest()) {
            self.pool.idle.lock().push(Idle { conn, since: Instant::now() });
        }
        // The permit falls only now, so that whoever waits for it finds the connection.
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let (pool, permit) = (Arc::clone(&self.pool), self.permit.take());
        self.runtime.spawn(async move {
            pool.stop(conn).await;
            drop(permit);
        });
    }
}

impl Inner {
    /// An idle connection that still answers. Where one does not, the server has gone or was restarted: then none of the others is
    /// waited for, either.
    async fn idle_conn(&self) -> Option<Conn> {
        // The guard falls at the end of this line: a lock is never held over an await.
        let Idle { mut conn, since } = self.idle.lock().pop()?;
        if matches!(timeout(self.config.connect_timeout, conn.ping()).await, Ok(Ok(()))) {
            return Some(conn);
        }
        let mut dead = std::mem::take(&mut *self.idle.lock());
        dead.push(Idle { conn, since });
        tokio::spawn(async move {
            for Idle { conn, .. } in dead {
                close(conn).await;
            }
        });
        None
    }

    /// Closes the connections that were idle for so long.
    fn sweep(&self, limit: Duration) -> ControlFlow<()> {
        let mut idle = self.idle.lock();
        let old = idle.partition_point(|idle| idle.since.elapsed() >= limit);
        let closed: Vec<Idle> = idle.drain(..old).collect();
        drop(idle);
        // Each says goodbye as it is dropped.
        drop(closed);
        ControlFlow::Continue(())
    }

    /// A new connection with its session set up, within the limit.
    async fn session(&self) -> Result<Conn> {
        let limit = self.config.connect_timeout;
        let tls = self.tls()?;
        match timeout(limit, self.set_up(tls.as_ref())).await {
            Ok(result) => result.map_err(|error| self.site.connecting(error)),
            Err(_) => Err(self.site.timed_out("connecting", limit, "connect_timeout_ms")),
        }
    }

    fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let Tls { mode, root, identity } = &self.config.tls;
        let verify = match mode {
            SslMode::Disable => return Ok(None),
            SslMode::Prefer | SslMode::Require => Verify::Nothing,
            SslMode::VerifyCa => Verify::Chain,
            SslMode::VerifyFull => Verify::Name,
        };
        let client = Arc::new(tls::client(verify, root.as_deref(), identity.as_ref())?);
        Ok(self.tls.get_or_init(|| Some(client)).clone())
    }

    async fn set_up(&self, tls: Option<&Arc<ClientConfig>>) -> wire::Result<Conn> {
        let mut conn = self.connect(tls).await?;
        self.json_tables.store(has_json_tables(conn.server_version()), Ordering::Relaxed);
        // A server that was restarted may have a binary log by now.
        *self.told_by.lock() = if is_mariadb(conn.server_version()) { ToldBy::Log } else { ToldBy::Nothing };
        for statement in SESSION {
            conn.query_drop(*statement).await?;
        }
        if let Some(limit) = self.config.statement_timeout {
            let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
            // Numbers of ours, not values of a query.
            let statement = match version {
                Some(version) if version.contains("MariaDB") => {
                    format!("SET SESSION max_statement_time = {:.3}", limit.as_secs_f64())
                }
                _ => format!("SET SESSION max_execution_time = {}", limit.as_millis()),
            };
            conn.query_drop(statement).await?;
        }
        Ok(conn)
    }

    /// Connects as libpq's `sslmode` says: `prefer` goes on without TLS where the server has none, or none that this side speaks.
    async fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> wire::Result<Conn> {
        match wire::connect(&self.config.target, tls).await {
            Err(error) if self.config.tls.mode == SslMode::Prefer && wire::is_tls_refused(&error) => {
                wire::connect(&self.config.target, None).await
            }
            connected => connected,
        }
    }

    /// Stops what the connection is doing and closes it.
    async fn stop(&self, conn: Conn) {
        let stopped = timeout(self.config.connect_timeout, self.kill(conn.id())).await;
        if !matches!(stopped, Ok(Ok(()))) {
            debug!(service = %self.site.service, "statement could not be stopped with KILL; closing its connection");
        }
        close(conn).await;
    }

    async fn kill(&self, id: u32) -> Result<()> {
        let tls = self.tls()?;
        let mut killer = self.connect(tls.as_ref()).await.map_err(|error| self.site.connecting(error))?;
        // Numbers grow while a server lives. A smaller one means that it was restarted: the statement went with it, and its
        // number may be another client's by now.
        if killer.id() < id {
            close(killer).await;
            return Ok(());
        }
        // A number that the server gave us. The whole connection: of several statements that it was asked, one would be stopped and the next begin.
        let killed = killer.query_drop(format!("KILL {id}")).await;
        close(killer).await;
        killed.map_err(|error| self.site.describing(error))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.inner.idle.lock().len();
        let free = self.inner.permits.available_permits();
        f.debug_struct("Pool")
            .field("config", &self.inner.config)
            .field("idle", &idle)
            .field("free", &free)
            .finish_non_exhaustive()
    }
}

/// MariaDB counts from 10 on, MySQL to 9.
fn is_mariadb((major, ..): (u16, u16, u16)) -> bool {
    major >= 10
}

fn has_json_tables(version: (u16, u16, u16)) -> bool {
    version >= (10, 6, 0) || ((8, 0, 4)..(10, 0, 0)).contains(&version)
}

/// Closes a connection; one that does not say goodbye in time loses its socket.
async fn close(conn: Conn) {
    // An error here leaves nothing to do: the connection is gone either way.
    let _ = timeout(CLOSE_TIMEOUT, conn.disconnect()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_tables_are_told_by_the_version() {
        for (version, has) in [
            ((10, 11, 19), true),
            ((10, 6, 0), true),
            ((10, 5, 29), false),
            ((11, 4, 2), true),
            ((8, 0, 4), true),
            ((8, 0, 3), false),
            ((5, 7, 44), false),
            ((9, 1, 0), true),
        ] {
            assert_eq!(has_json_tables(version), has, "{version:?}");
        }
    }
}
