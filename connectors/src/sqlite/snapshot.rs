//! One state of the file for several statements at the same time.
//!
//! Each reads in a transaction on a connection of its own. All connections ask for the file's version, which is another for a connection whenever somebody else has
//! committed (`PRAGMA data_version`, <https://www.sqlite.org/pragma.html#pragma_data_version>); then all transactions begin; then all ask again. Where no version is another,
//! nobody has committed from the first question to the last beginning, and all transactions are of one state. Where one is, all begin anew. So it is in WAL mode and in the
//! older modes.
//!
//! Invariants: a snapshot's connections are taken from the pool at once or not at all, so that queries that each wait for more can't wait for one another. Only the first
//! transaction waits for a writer: one that waits for it to end would let none of the others begin.

use std::sync::Arc;
use std::time::Duration;

use headwater_source::{Error, Result};
use parking_lot::Mutex;

use super::connect::{Lease, Permit, Pool};
use super::control::Control;
use super::error::Stage;

/// How often the transactions begin until they have met one state.
const ATTEMPTS_MAX: u32 = 20;

/// How long the second attempt waits, for whoever writes to be done; each further one as long again.
const PAUSE: Duration = Duration::from_micros(200);

/// A state that is held: a transaction for each statement that was announced. Dropping it ends those that no statement took.
pub(super) struct Held {
    idle: Mutex<Vec<Lease>>,
}

/// Takes so many connections to one state; `None` where the pool has not so many to spare now, or where others write too fast.
pub(super) async fn take(pool: &Arc<Pool>, statements: usize) -> Result<Option<Arc<Held>>> {
    let Some(permits) = pool.permits(statements).await else { return Ok(None) };
    let (control, _cancel) = Control::start(pool.config.statement_timeout);
    let begun = {
        let pool = Arc::clone(pool);
        tokio::task::spawn_blocking(move || begin(&pool, permits, &control))
    };
    let begun = begun.await.map_err(|error| Error::Unavailable {
        service: pool.service.clone(),
        location: pool.config.location(),
        cause: Box::new(error),
    })?;
    Ok(begun?.map(|leases| Arc::new(Held { idle: Mutex::new(leases) })))
}

fn begin(pool: &Arc<Pool>, permits: Vec<Permit>, control: &Arc<Control>) -> Result<Option<Vec<Lease>>> {
    let unbegun = |permit| pool.unbegun(Some(permit), Arc::clone(control));
    let mut leases: Vec<Lease> = permits.into_iter().map(unbegun).collect::<Result<_>>()?;
    // Another file may have taken the path meanwhile.
    if leases.windows(2).any(|pair| pair[0].file() != pair[1].file()) {
        return Ok(None);
    }
    for attempt in 0..ATTEMPTS_MAX {
        std::thread::sleep(PAUSE * attempt);
        if meet(pool, &mut leases)? {
            return Ok(Some(leases));
        }
    }
    // They are closed: where one began and the others did not need not be known.
    Ok(None)
}

/// Begins all transactions; whether they are of one state. None has begun where they are not.
fn meet(pool: &Pool, leases: &mut [Lease]) -> Result<bool> {
    let before = versions(leases)?;
    for begun in 0..leases.len() {
        let wait = if begun == 0 { pool.config.busy_timeout } else { Duration::ZERO };
        match leases[begun].begin(wait) {
            Ok(()) => {}
            Err(error) if begun > 0 && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                // BEGIN itself takes no lock and has gone through.
                end(&leases[..=begun])?;
                return Ok(false);
            }
            Err(error) => return Err(leases[begun].error(Stage::Open, error)),
        }
    }
    let met = before == versions(leases)?;
    if !met {
        end(leases)?;
    }
    Ok(met)
}

fn versions(leases: &mut [Lease]) -> Result<Vec<i64>> {
    leases.iter_mut().map(|lease| lease.version().map_err(|error| lease.error(Stage::Open, error))).collect()
}

fn end(leases: &[Lease]) -> Result<()> {
    leases.iter().try_for_each(|lease| lease.end().map_err(|error| lease.error(Stage::Open, error)))
}

impl Held {
    /// A transaction of the state; `None` where as many statements as were announced have had theirs.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.idle.lock().pop()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.idle.get_mut().drain(..).for_each(Lease::give_back);
    }
}
