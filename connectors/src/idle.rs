//! Closes connections that nobody has used for a time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// How many times it is looked within the time that a connection may be idle.
const LOOKS: u32 = 2;

/// Looks at the connections of one source again and again.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// None where connections may be idle for ever.
    limit: Option<Duration>,
    runs: Arc<AtomicBool>,
}

/// Says that it runs no more, also where its runtime ends before it.
struct Running(Arc<AtomicBool>);

impl Sweeper {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, runs: Arc::default() }
    }

    /// Sees that somebody looks, on the runtime of the caller. `sweep` closes what was idle for so long, and breaks off once there is nothing to look after.
    pub(crate) fn start<S>(&self, sweep: impl FnOnce() -> S)
    where
        S: Fn(Duration) -> ControlFlow<()> + Send + 'static,
    {
        let Some(limit) = self.limit else { return };
        if self.runs.load(Ordering::Relaxed) || self.runs.swap(true, Ordering::Relaxed) {
            return;
        }
        let (running, sweep) = (Running(Arc::clone(&self.runs)), sweep());
        Handle::current().spawn(async move {
            let _running = running;
            loop {
                tokio::time::sleep(limit / LOOKS).await;
                if sweep(limit).is_break() {
                    return;
                }
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
