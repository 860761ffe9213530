//! Stops the work of one scan: when its reader leaves, or when its time is over.
//!
//! SQLite asks while it works (progress handler) and while it waits for a lock (busy handler). `sqlite3_interrupt` is not used:
//! it stops whatever the connection does at that moment, which may already be another scan's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How many instructions of SQLite's virtual machine run between two questions: some microseconds.
const PROGRESS_OPS: i32 = 1000;
/// How long to sleep between two tries for a lock.
const BUSY_SLEEP: Duration = Duration::from_millis(5);

/// Why a scan stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its reader has left.
    Cancelled,
    /// Its time is over.
    TimedOut,
}

/// The state that a scan's reader and its thread share.
#[derive(Debug)]
pub(super) struct Control {
    cancelled: AtomicBool,
    /// Whether SQLite has asked since [`Control::has_asked`] was.
    asked: AtomicBool,
    started: Instant,
    limit: Option<Duration>,
}

/// Cancels when dropped.
#[derive(Debug)]
pub(super) struct CancelOnDrop(Arc<Control>);

impl Control {
    /// Starts the clock.
    pub(super) fn start(limit: Option<Duration>) -> (Arc<Self>, CancelOnDrop) {
        let control = Arc::new(Self {
            cancelled: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            started: Instant::now(),
            limit,
        });
        (Arc::clone(&control), CancelOnDrop(control))
    }

    /// Whether to stop, and why.
    pub(super) fn stop(&self) -> Option<Stop> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Some(Stop::Cancelled);
        }
        self.limit.filter(|limit| self.started.elapsed() > *limit).map(|_| Stop::TimedOut)
    }

    /// Whether SQLite has worked for long enough to ask since this was asked last: only then is it worth looking at a clock.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// Makes a connection ask, until [`release`].
    pub(super) fn attach(
        self: &Arc<Self>,
        connection: &mut Connection,
        busy_timeout: Duration,
    ) -> rusqlite::Result<()> {
        let control = Arc::clone(self);
        let asked = move || {
            control.asked.store(true, Ordering::Relaxed);
            control.stop().is_some()
        };
        connection.progress_handler(PROGRESS_OPS, Some(asked))?;
        let control = Arc::clone(self);
        let mut waiting_since = Instant::now();
        connection.busy_handler(Some(move |tries| {
            if tries == 0 {
                waiting_since = Instant::now();
            }
            if waiting_since.elapsed() >= busy_timeout || control.stop().is_some() {
                return false;
            }
            std::thread::sleep(BUSY_SLEEP);
            true
        }))
    }
}

/// Makes a connection ask no more.
pub(super) fn release(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.progress_handler(0, None::<fn() -> bool>)?;
    connection.busy_handler(None::<fn(i32) -> bool>)
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}
