//! The clock of views that read now(): an epoch when the next row comes or goes by itself, and no more of them than is worth it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::error;

use super::registry::Shared;

/// What the clock says, in nanoseconds since 1970, to the microsecond: DataFusion cuts the literal that now() is in a query to the unit of the
/// column that it is compared with, and columns of databases have microseconds.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros() * 1_000).unwrap_or(i64::MAX)
}

impl Shared {
    /// Lets epochs happen as the time goes on, until the engine ends.
    pub(super) async fn keep_time(self: Arc<Self>) {
        let mut next = self.next_moment.subscribe();
        let mut earliest = Instant::now();
        loop {
            let moment = *next.borrow_and_update();
            let Some(moment) = moment else {
                if next.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let until = Duration::from_nanos(u64::try_from(moment.saturating_sub(now())).unwrap_or_default());
            // A clock that is set is noticed in time.
            let wake = (Instant::now() + until.min(CLOCK_CHECK)).max(earliest);
            tokio::select! {
                () = tokio::time::sleep_until(wake.into()) => {}
                _ = next.changed() => continue,
            }
            if moment > now() {
                continue;
            }
            earliest = Instant::now() + self.options.clock_interval;
            let delivering = Arc::clone(&self);
            if let Err(error) = self.with_core(move |core| delivering.step(core)).await {
                error!(error = error.report(), "views could not be brought to the time");
            }
        }
    }
}

/// How long the clock is not looked at, at most.
const CLOCK_CHECK: Duration = Duration::from_secs(60);
