//! An exporter whose failures are told to the log, and not more often than somebody reads it.

use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use tracing::warn;

/// A collector that is away is warned of so often at most.
const WARNED_EVERY: Duration = Duration::from_secs(60);

/// An exporter that is watched.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    lost: Mutex<Lost>,
}

/// What was not sent since that was last told.
#[derive(Debug, Default)]
struct Lost {
    spans: u64,
    told: Option<Instant>,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E) -> Self {
        Self { exporter, lost: Mutex::default() }
    }
}

impl Lost {
    /// Counts spans that were not sent; how many are to be told of now, if any are.
    fn add(&mut self, spans: usize, now: Instant) -> Option<u64> {
        self.spans += spans as u64;
        if self.told.is_some_and(|told| now.duration_since(told) < WARNED_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.spans))
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent
            && let Some(spans) = self.lost.lock().add(spans, Instant::now())
        {
            warn!(spans, %error, "traces were not sent");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_a_minute_with_all_that_was_lost() {
        let (mut lost, start) = (Lost::default(), Instant::now());
        assert_eq!(lost.add(3, start), Some(3));
        assert_eq!(lost.add(4, start + Duration::from_secs(5)), None);
        assert_eq!(lost.add(5, start + Duration::from_secs(59)), None);
        assert_eq!(lost.add(6, start + WARNED_EVERY), Some(15));
    }
}
