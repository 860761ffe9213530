//! Looks at the file again and again: `PRAGMA data_version` tells, at the cost of a read of some bytes, whether another connection has
//! committed. A thread of its own, since every look blocks for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::stream;
use headwater_source::{Error, Result, Transaction, TransactionStream};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use super::super::connect::Pool;
use super::super::error::Stage;
use super::read::{Followed, Trouble};

/// One transaction waits to be read; while it does, later commits become one.
const WAITING: usize = 1;
/// How often what was acknowledged is forgotten: that writes to the service's file.
const TRIM: Duration = Duration::from_secs(1);

/// Reads until the stream is dropped or something fails.
pub(super) fn transactions(
    pool: &Arc<Pool>,
    followed: Followed,
    after: i64,
    poll: Duration,
    acknowledged: &Arc<AtomicI64>,
) -> Result<TransactionStream> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let service = pool.service.clone();
    let mut reading = Reading {
        pool: Arc::clone(pool),
        followed,
        after,
        acknowledged: Arc::clone(acknowledged),
        trimmed: after.min(0),
        trimmed_at: Instant::now(),
    };
    let thread = std::thread::Builder::new().name("sqlite-feed".to_owned()).spawn(move || {
        if let Err(error) = reading.run(poll, &sender) {
            drop(sender.blocking_send(Err(error)));
        }
    });
    thread.map_err(|error| Error::Interrupted { service, table: String::new(), cause: Box::new(error) })?;
    Ok(Box::pin(stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) },
    )))
}

struct Reading {
    pool: Arc<Pool>,
    followed: Followed,
    after: i64,
    acknowledged: Arc<AtomicI64>,
    trimmed: i64,
    trimmed_at: Instant,
}

impl Reading {
    fn run(&mut self, poll: Duration, sender: &mpsc::Sender<Result<Transaction>>) -> Result<()> {
        let (connection, file) = self.pool.reader()?;
        let mut seen = None;
        while !sender.is_closed() {
            if self.pool.is_another(file)? {
                return Err(self.replaced());
            }
            match self.look(&connection, &mut seen) {
                Ok(Some(transaction)) => {
                    if sender.blocking_send(Ok(transaction)).is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => std::thread::sleep(poll),
                // A writer that holds the file for longer than one waits: it will end.
                Err(Trouble::Sqlite(_, error)) if is_busy(&error) => std::thread::sleep(poll),
                Err(trouble) => return Err(self.pool.told(trouble)),
            }
            self.trim();
        }
        Ok(())
    }

    fn look(&mut self, connection: &Connection, seen: &mut Option<i64>) -> Result<Option<Transaction>, Trouble> {
        let version: i64 = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if *seen == Some(version) {
            return Ok(None);
        }
        connection.execute_batch("BEGIN")?;
        let read = self.followed.read(connection, self.after);
        let ended = connection.execute_batch("ROLLBACK");
        let read = read?;
        ended?;
        if let Some(transaction) = &read {
            self.after = i64::try_from(transaction.position.order()).unwrap_or(i64::MAX);
        }
        // What is committed after the version was asked shows another version.
        *seen = Some(version);
        Ok(read)
    }

    /// Forgets what was acknowledged. Whoever writes meanwhile goes first; there is another time.
    fn trim(&mut self) {
        let upto = self.acknowledged.load(Ordering::Acquire).min(self.after);
        if upto <= self.trimmed || self.trimmed_at.elapsed() < TRIM {
            return;
        }
        self.trimmed_at = Instant::now();
        let trimmed = self.pool.writer().and_then(|connection| {
            connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| self.followed.names.trim(&connection, upto))
                .map_err(|error| self.pool.error(Stage::Prepare, error))
        });
        match trimmed {
            Ok(()) => self.trimmed = upto,
            Err(Error::Timeout { .. }) => {}
            Err(error) => tracing::warn!(service = %self.pool.service, %error, "log of changes not trimmed"),
        }
    }

    fn replaced(&self) -> Error {
        Error::Unavailable {
            service: self.pool.service.clone(),
            location: self.pool.config.location(),
            cause: "another file has taken the place of the one that was followed".into(),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
