//! What an engine has done and how it stands, in numbers.
//!
//! Counters only grow; [`Engine::metrics`](crate::Engine::metrics) reads them with the gauges of the moment. They name services and views and hold
//! nothing of a query: no text, no value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_federation::RemoteStatementReport;
use parking_lot::Mutex;

/// The upper ends of the buckets of [`Metrics::query_seconds`], in seconds.
pub const QUERY_SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The numbers of an engine at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Queries that run.
    pub queries_running: u64,
    /// Queries that wait for one of those to end.
    pub queries_waiting: u64,
    /// Queries that ended, by how: `complete`, `failed`, `cancelled`.
    pub queries: BTreeMap<&'static str, u64>,
    /// How long they took, from when their answer was read to its end.
    pub query_seconds: Histogram,
    /// Rows of all answers.
    pub rows: u64,
    /// What was asked of each service.
    pub services: BTreeMap<String, ServiceMetrics>,
    /// Memory that the operators of queries hold, in bytes.
    pub memory_bytes: u64,
    /// The most that they may hold, in bytes.
    pub memory_bytes_max: u64,
    /// Room on disk that spilling queries hold, in bytes.
    pub spill_bytes: u64,
    /// The services that are followed for views.
    pub feeds: Vec<FeedMetrics>,
    /// The materialized views.
    pub views: Vec<ViewMetrics>,
}

/// A distribution of times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// How many were no longer than each of [`QUERY_SECONDS`], and how many in all.
    pub at_most: [u64; QUERY_SECONDS.len()],
    /// How many.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

/// What was asked of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceMetrics {
    /// Statements sent.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Bytes of the batches received, as Arrow holds them.
    pub bytes: u64,
}

/// A service that is followed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedMetrics {
    /// The service.
    pub service: String,
    /// What is done with it now, in one word of `headwater.feeds`.
    pub stage: &'static str,
    /// Transactions that wait for those of other services.
    pub waiting: u64,
    /// Rows that its tables were read with.
    pub rows_loaded: u64,
}

/// A materialized view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewMetrics {
    /// `schema.name`.
    pub view: String,
    /// Its rows, once it is shown.
    pub rows: Option<u64>,
    /// For each service that it reads, how far behind the service it is, in seconds, where that is known.
    pub staleness_seconds: BTreeMap<String, f64>,
}

/// What only grows.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    waiting: AtomicU64,
    ended: Mutex<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    queries: BTreeMap<&'static str, u64>,
    seconds: Histogram,
    rows: u64,
    services: BTreeMap<String, ServiceMetrics>,
}

/// Counts a query as waiting while it lives.
pub(crate) struct Waiting<'a>(&'a Counters);

impl Counters {
    /// Counts one more query as waiting; `None` where so many do already.
    pub(crate) fn waiting(&self, waiting_max: usize) -> Option<Waiting<'_>> {
        let more = |waiting: u64| (waiting < waiting_max as u64).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Waiting(self))
    }

    /// A query has ended.
    pub(crate) fn ended(&self, how: &'static str, took: Duration, rows: u64, statements: &[RemoteStatementReport]) {
        let mut ended = self.ended.lock();
        *ended.queries.entry(how).or_default() += 1;
        ended.seconds.add(took.as_secs_f64());
        ended.rows += rows;
        for report in statements {
            let service = ended.services.entry(report.service.clone()).or_default();
            service.statements += report.statements;
            service.rows += report.rows;
            service.bytes += report.bytes;
        }
    }

    /// The counters, in a description that has nothing else yet.
    pub(crate) fn read(&self) -> Metrics {
        let ended = self.ended.lock();
        Metrics {
            queries_waiting: self.waiting.load(Ordering::Relaxed),
            queries: ended.queries.clone(),
            query_seconds: ended.seconds.clone(),
            rows: ended.rows,
            services: ended.services.clone(),
            ..Metrics::default()
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        for (count, end) in self.at_most.iter_mut().zip(QUERY_SECONDS) {
            *count += u64::from(seconds <= end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_counts_once_in_every_bucket_that_it_fits() {
        let counters = Counters::default();
        counters.ended("complete", Duration::from_millis(7), 3, &[]);
        counters.ended("failed", Duration::from_secs(3600), 0, &[]);
        let metrics = counters.read();
        assert_eq!(metrics.query_seconds.at_most, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((metrics.query_seconds.count, metrics.rows), (2, 3));
        assert_eq!(metrics.queries, BTreeMap::from([("complete", 1), ("failed", 1)]));
    }

    #[test]
    fn query_waits_while_it_waits() {
        let counters = Counters::default();
        let waiting = counters.waiting(1).unwrap();
        assert_eq!(counters.read().queries_waiting, 1);
        assert!(counters.waiting(1).is_none(), "so many wait already");
        drop(waiting);
        assert_eq!(counters.read().queries_waiting, 0);
    }
}
