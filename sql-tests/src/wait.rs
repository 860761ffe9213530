//! Waiting for a condition with a deadline: tests never sleep for a time that should be enough.

use std::time::{Duration, Instant};

/// Asks until the answer is true. Panics with `what` when it is not by the deadline.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, deadline: Duration, mut condition: F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Awaits a future. Panics with `what` when it has not ended by the deadline.
pub async fn within<F: Future>(what: &str, deadline: Duration, future: F) -> F::Output {
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"))
}
