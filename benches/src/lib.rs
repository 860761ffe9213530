//! Measurements of Headwater beside its peers, as programs that print a Markdown table.
//!
//! Each program runs Headwater and its peer alternately in one process and one sitting, on the same data, and reports medians. The
//! tables in `docs/numbers.md` are what they printed; that page names the command of each.

pub mod duckdb;
pub mod hand;
pub mod plain_flight;
pub mod questions;

use std::time::{Duration, Instant};

/// How often each side runs. The first run of each is not counted.
pub const RUNS: usize = 5;

/// What one run moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Rows.
    pub rows: u64,
    /// Bytes; the unit is the column's heading.
    pub bytes: u64,
}

/// The median of the runs of one side.
#[derive(Debug, Clone, Copy)]
pub struct Median {
    /// What each run moved; the same every time.
    pub moved: Moved,
    /// The median time of a run.
    pub time: Duration,
}

impl Median {
    /// Rows in a second.
    pub fn rows_per_second(&self) -> f64 {
        self.moved.rows as f64 / self.time.as_secs_f64()
    }

    /// Megabytes (10^6 bytes) in a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.moved.bytes as f64 / 1e6 / self.time.as_secs_f64()
    }
}

/// Runs both sides alternately and returns their medians: ours, then the peer's.
///
/// # Panics
/// Where a side moves another number of rows than in its run before: then there is nothing to compare.
pub async fn side_by_side(
    mut ours: impl AsyncFnMut() -> Moved,
    mut peer: impl AsyncFnMut() -> Moved,
) -> (Median, Median) {
    let (mut our_runs, mut peer_runs) = (Vec::new(), Vec::new());
    for _ in 0..=RUNS {
        our_runs.push(timed(&mut ours).await);
        peer_runs.push(timed(&mut peer).await);
    }
    (median(&our_runs[1..]), median(&peer_runs[1..]))
}

/// One run and how long it took.
pub async fn timed(run: &mut impl AsyncFnMut() -> Moved) -> (Moved, Duration) {
    let started = Instant::now();
    let moved = run().await;
    (moved, started.elapsed())
}

/// The median of the runs of one side.
///
/// # Panics
/// Where there is no run, and where one moved another number of rows than the others.
pub fn median(runs: &[(Moved, Duration)]) -> Median {
    let moved = runs[0].0;
    assert!(runs.iter().all(|(other, _)| other.rows == moved.rows), "every run must move the same rows: {runs:?}");
    let mut times: Vec<Duration> = runs.iter().map(|(_, time)| *time).collect();
    times.sort();
    Median { moved, time: times[times.len() / 2] }
}

/// The time that this share of all does not pass; zero where there is none.
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

/// The most bytes that a process had resident since it started, as Linux tells it.
///
/// # Panics
/// Where no such process runs.
pub fn resident_max_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells of processes");
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.expect("it tells of memory") << 10
}
