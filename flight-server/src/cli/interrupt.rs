//! Ctrl-C: once cancels what runs, with nothing running or for the second time it leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::detached::FAREWELL;

/// The exit code of a process that was interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Ctrl-C, from now on.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    running: Arc<AtomicBool>,
    cancel: Arc<Notify>,
}

impl Interrupts {
    /// Begins to listen, from the moment it returns. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let interrupts = Self { running: Arc::default(), cancel: Arc::default() };
        let listener = interrupts.clone();
        let mut signals = Signals::listen()?;
        tokio::spawn(async move {
            while signals.next().await.is_some() {
                if listener.running.swap(false, Ordering::SeqCst) {
                    listener.cancel.notify_one();
                } else {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        Ok(interrupts)
    }

    /// Runs work until it ends or Ctrl-C drops it; `None` where it was dropped.
    pub(super) async fn cancellable<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.running.store(true, Ordering::SeqCst);
        let result = tokio::select! {
            result = work => Some(result),
            () = self.cancel.notified() => None,
        };
        self.running.store(false, Ordering::SeqCst);
        result
    }

    /// Gives cancelled statements the time to stop at their sources, before the process ends.
    pub(super) async fn farewell(&self) {
        tokio::time::sleep(FAREWELL).await;
    }
}

/// The Ctrl-Cs of this process. The handler stands when `listen` returns: a line editor that saves and restores handlers
/// must find it.
#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map(Self)
    }

    async fn next(&mut self) -> Option<()> {
        self.0.recv().await
    }
}

/// The Ctrl-Cs of this process.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Option<()> {
        tokio::signal::ctrl_c().await.ok()
    }
}
