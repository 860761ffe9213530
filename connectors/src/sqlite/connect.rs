//! Connections: opened when they are needed, read-only, bounded, and kept while their file is the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_source::{Error, Result, ServiceName};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::Config;
use super::control::{self, Control, Stop};
use super::error::{Stage, classify, millis};

/// How many times the pool's size of connections may be to states that are held. One that no statement reads with is an open file and no thread.
const STATES: usize = 4;

/// The longest wait for several connections at once.
const MANY_WAIT_MAX: Duration = Duration::from_secs(1);

/// The connections of one source.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) service: ServiceName,
    pub(super) config: Config,
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
    /// For connections to one state, beside those of single statements: these are admitted before they wait for a connection, those of a state have theirs before.
    of_states: Arc<Semaphore>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    file: FileIdentity,
}

/// What tells one file from another that took its path: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity(u64, u64);

/// The right to one connection.
pub(super) type Permit = OwnedSemaphorePermit;

/// A connection inside a read transaction: all that it reads is one state of the file.
///
/// Dropping it closes the connection; [`Lease::give_back`] keeps it for the next scan.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Connection,
    file: FileIdentity,
    control: Arc<Control>,
    pool: Arc<Pool>,
    // Last: the permit is free only once the connection is closed.
    permit: Option<Permit>,
}

impl Pool {
    pub(super) fn new(service: ServiceName, config: Config) -> Self {
        let permits = Arc::new(Semaphore::new(config.pool_size));
        let of_states = Arc::new(Semaphore::new(config.pool_size * STATES));
        Self { service, config, idle: Mutex::new(Vec::new()), permits, of_states }
    }

    /// Waits for the right to a connection, not longer than `pool_wait_ms`.
    pub(super) async fn permit(&self) -> Result<Permit> {
        let limit = self.config.pool_wait;
        let timeout = || Error::Timeout {
            service: self.service.clone(),
            what: "waiting for a connection",
            limit_ms: millis(limit),
            option: "pool_wait_ms",
        };
        let permit = tokio::time::timeout(limit, Arc::clone(&self.permits).acquire_owned()).await;
        permit.map_err(|_| timeout())?.map_err(|_| timeout())
    }

    /// Opens or reuses a connection and starts a read transaction. Blocks.
    pub(super) fn lease(self: &Arc<Self>, permit: Permit, control: Arc<Control>) -> Result<Lease> {
        self.lease_with(Some(permit), control)
    }

    /// The same beside the bound, for those who need several transactions at once and would wait for themselves. Blocks.
    pub(super) fn lease_apart(self: &Arc<Self>, control: Arc<Control>) -> Result<Lease> {
        self.lease_with(None, control)
    }

    fn lease_with(self: &Arc<Self>, permit: Option<Permit>, control: Arc<Control>) -> Result<Lease> {
        let mut lease = self.unbegun(permit, control)?;
        lease.begin(self.config.busy_timeout).map_err(|error| lease.error(Stage::Open, error))?;
        Ok(lease)
    }

    /// The rights to so many connections to one state at once; `None` where there are not so many to spare. Nobody who has some waits for more, or for a single statement's.
    pub(super) async fn permits(&self, count: usize) -> Option<Vec<Permit>> {
        let many = u32::try_from(count).ok().filter(|_| count <= self.config.pool_size * STATES)?;
        let limit = self.config.pool_wait.min(MANY_WAIT_MAX);
        let permits = tokio::time::timeout(limit, Arc::clone(&self.of_states).acquire_many_owned(many)).await;
        let mut permits = permits.ok()?.ok()?;
        (0..count).map(|_| permits.split(1)).collect()
    }

    /// Opens or reuses a connection, whose transaction is still to begin. Blocks.
    pub(super) fn unbegun(self: &Arc<Self>, permit: Option<Permit>, control: Arc<Control>) -> Result<Lease> {
        let file = self.identify()?;
        let (connection, file) = match self.take_idle(file) {
            Some(connection) => (connection, file),
            None => self.open_known()?,
        };
        Ok(Lease { connection, file, control, pool: Arc::clone(self), permit })
    }

    /// The error of a stage where no statement runs.
    pub(super) fn error(&self, stage: Stage<'_>, error: rusqlite::Error) -> Error {
        classify(&self.service, &self.config, stage, error)
    }

    /// Looks at the file without opening it: closing any descriptor of it would drop the POSIX locks that this process holds
    /// on the database (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
    fn identify(&self) -> Result<FileIdentity> {
        identity(&self.config.path).map_err(|error| {
            let (service, location) = (self.service.clone(), self.config.location());
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let cause = Box::new(error);
            if denied {
                Error::AccessDenied { service, location, cause }
            } else {
                Error::Unavailable { service, location, cause }
            }
        })
    }

    /// A kept connection to this very file; those to a file that is no longer there are closed.
    fn take_idle(&self, file: FileIdentity) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|kept| kept.file == file);
        idle.pop().map(|kept| kept.connection)
    }

    /// A connection of its own to read with, for as long as the path is this file. Blocks.
    pub(super) fn reader(&self) -> Result<(Connection, FileIdentity)> {
        let file = self.identify()?;
        let opened = self.open().and_then(|connection| {
            connection.busy_timeout(self.config.busy_timeout)?;
            Ok(connection)
        });
        Ok((opened.map_err(|error| self.error(Stage::Open, error))?, file))
    }

    /// Whether the path is another file now.
    pub(super) fn is_another(&self, file: FileIdentity) -> Result<bool> {
        Ok(self.identify()? != file)
    }

    /// A connection that may write, which only a feed that is allowed to asks for. Blocks.
    pub(super) fn writer(&self) -> Result<Connection> {
        self.identify()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let opened = Connection::open_with_flags(&self.config.path, flags).and_then(|connection| {
            connection.busy_timeout(self.config.busy_timeout)?;
            Ok(connection)
        });
        opened.map_err(|error| self.error(Stage::Open, error))
    }

    /// A connection and the file that it is to: the one that the path was before and after it was opened.
    fn open_known(&self) -> Result<(Connection, FileIdentity)> {
        let mut file = self.identify()?;
        loop {
            let connection = self.open().map_err(|error| self.error(Stage::Open, error))?;
            let now = self.identify()?;
            if now == file {
                return Ok((connection, file));
            }
            file = now;
        }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(&self.config.path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

impl Lease {
    /// The connection, to read with.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the transaction and keeps the connection, where that works; otherwise closes it.
    pub(super) fn give_back(self) {
        let Self { mut connection, file, pool, permit, .. } = self;
        let ended = connection.execute_batch("COMMIT").and_then(|()| control::release(&mut connection));
        let mut idle = pool.idle.lock();
        if ended.is_ok() && permit.is_some() && idle.len() < pool.config.pool_size {
            idle.push(Idle { connection, file });
        }
    }

    /// The error of a stage, or that of the limit which caused it.
    pub(super) fn error(&self, stage: Stage<'_>, error: rusqlite::Error) -> Error {
        let stoppable = matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::OperationInterrupted | rusqlite::ErrorCode::DatabaseBusy)
        );
        match self.control.stop() {
            Some(Stop::TimedOut) if stoppable => self.timed_out(),
            _ => self.pool.error(stage, error),
        }
    }

    /// The error of a scan whose time is over.
    pub(super) fn timed_out(&self) -> Error {
        Error::Timeout {
            service: self.pool.service.clone(),
            what: "the statement",
            limit_ms: self.pool.config.statement_timeout.map(millis).unwrap_or_default(),
            option: "statement_timeout_ms",
        }
    }

    /// The same in the transaction that has begun, for a statement that is stopped by `control`.
    pub(super) fn controlled_by(mut self, control: Arc<Control>) -> Result<Self> {
        self.control = control;
        let attached = self.control.attach(&mut self.connection, self.pool.config.busy_timeout);
        attached.map_err(|error| self.error(Stage::Open, error))?;
        Ok(self)
    }

    /// Which file the connection is to.
    pub(super) fn file(&self) -> FileIdentity {
        self.file
    }

    /// A number that is another one whenever somebody else has committed since this connection was asked for it before.
    pub(super) fn version(&mut self) -> rusqlite::Result<i64> {
        self.control.attach(&mut self.connection, self.pool.config.busy_timeout)?;
        self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))
    }

    /// Ends the transaction, so that another can begin.
    pub(super) fn end(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("COMMIT")
    }

    /// Begins a transaction, waiting for a lock that a writer holds for no longer than this.
    pub(super) fn begin(&mut self, busy_timeout: Duration) -> rusqlite::Result<()> {
        self.control.attach(&mut self.connection, busy_timeout)?;
        self.connection.execute_batch("BEGIN")?;
        // BEGIN alone takes no lock: the first read fixes the state that the transaction sees.
        self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path)?;
    Ok(FileIdentity(metadata.dev(), metadata.ino()))
}

/// Elsewhere than on Unix an open file can't be replaced, so all files of a path are the same.
#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<FileIdentity> {
    std::fs::metadata(path).map(|_| FileIdentity(0, 0))
}
