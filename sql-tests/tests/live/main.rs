//! Views over real feeds: the bank of "Internal consistency in streaming systems" (Jamie Brandon, 2021) in Postgres, MariaDB and SQLite, watched at
//! every version, while writers write, connections break, and engines and servers are killed.
//!
//! What is random comes from a seed that each test prints. `HEADWATER_LIVE_SEED=7` plays seed 7, `HEADWATER_LIVE_TRANSACTIONS=100000` lets each writer
//! commit so many, `HEADWATER_LIVE_ROUNDS=100` kills so often.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod bank;
mod check;
mod follow;
mod store;
mod watch;

mod across;
mod history;
mod killed;
mod large;
mod mutants;
mod one;
mod servers;
mod time;
mod tokens;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest that views may take to come to where their sources are, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(120);

/// A seed, printed.
fn seed() -> u64 {
    let chosen = number("HEADWATER_LIVE_SEED");
    let seed = chosen.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    eprintln!("HEADWATER_LIVE_SEED={seed}");
    seed
}

/// How many transactions each writer commits.
fn transactions(default: usize) -> usize {
    number("HEADWATER_LIVE_TRANSACTIONS").map_or(default, |number| usize::try_from(number).unwrap())
}

/// How often something is killed.
fn rounds(default: usize) -> usize {
    number("HEADWATER_LIVE_ROUNDS").map_or(default, |number| usize::try_from(number).unwrap())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
