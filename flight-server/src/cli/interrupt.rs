//! Ctrl-C: once cancels what runs, with nothing running or for the second time it leaves. SIGTERM does the same, and what was cancelled is the last.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The exit code of a process that was interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// The exit code of a process that was told to end: 128 + SIGTERM.
const TERMINATED: i32 = 143;

/// Ctrl-C and SIGTERM, from now on.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    running: Arc<AtomicBool>,
    cancel: Arc<Notify>,
    terminated: Arc<AtomicBool>,
}

impl Interrupts {
    /// Begins to listen, from the moment it returns. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let interrupts = Self { running: Arc::default(), cancel: Arc::default(), terminated: Arc::default() };
        let listener = interrupts.clone();
        let mut signals = Signals::listen()?;
        tokio::spawn(async move {
            while let Some(code) = signals.next().await {
                listener.terminated.fetch_or(code == TERMINATED, Ordering::SeqCst);
                if listener.running.swap(false, Ordering::SeqCst) {
                    listener.cancel.notify_one();
                } else {
                    std::process::exit(code);
                }
            }
        });
        Ok(interrupts)
    }

    /// Whether the process was told to end, and nothing more is to be run.
    pub(super) fn is_terminated(&self) -> bool {
        self.terminated.load(Ordering::SeqCst)
    }

    /// Runs work until it ends or a signal drops it; `None` where it was dropped.
    pub(super) async fn cancellable<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.running.store(true, Ordering::SeqCst);
        let result = tokio::select! {
            result = work => Some(result),
            () = self.cancel.notified() => None,
        };
        self.running.store(false, Ordering::SeqCst);
        result
    }
}

/// The signals of this process. The handlers stand when `listen` returns: a line editor that saves and restores handlers
/// must find them.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The exit code of a process that the next signal ends.
    async fn next(&mut self) -> Option<i32> {
        tokio::select! {
            signal = self.interrupt.recv() => signal.map(|()| INTERRUPTED),
            signal = self.terminate.recv() => signal.map(|()| TERMINATED),
        }
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

    async fn next(&mut self) -> Option<i32> {
        tokio::signal::ctrl_c().await.ok().map(|()| INTERRUPTED)
    }
}
