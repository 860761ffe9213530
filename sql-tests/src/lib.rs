//! Fixtures of the tests of the whole: real servers, services over them, data, and the comparison of answers.
//!
//! The tests in `tests/` run Headwater over a real Postgres and a real MariaDB, which `./test` starts, and over SQLite files
//! and folders of files, which they make themselves. Every test has databases and directories of its own and may run
//! beside any other.
//!
//! A fixture that can't be made is a test that fails: these functions panic, and say what to do.

pub mod certificates;
pub mod dice;
pub mod everywhere;
pub mod logs;
pub mod mysql;
pub mod own;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rows;
pub mod services;
pub mod tpch;
pub mod wait;

use std::sync::atomic::{AtomicU32, Ordering};

/// The value of a variable that `./test` exports.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run ./test, or ./test --servers-only COMMAND, which start the servers that this test needs")
    })
}

/// The password of every server and every user of this run, which nothing may print: `./test` looks for it in all that was.
pub fn canary() -> String {
    variable("HEADWATER_TEST_CANARY")
}

/// A URL with another user and password.
pub fn as_user(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("//").expect("a URL has a scheme");
    let (_, host) = rest.split_once('@').expect("the URL names a user");
    format!("{scheme}//{user}:{password}@{host}")
}

/// A name that no other test of this run has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a future to its end on a runtime of its own: for `Drop`, which may itself run inside a runtime.
pub(crate) fn block_on_elsewhere<F: Future<Output = ()> + Send + 'static>(future: F) {
    let thread = std::thread::spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => eprintln!("no runtime to clean up with: {error}"),
    });
    if thread.join().is_err() {
        eprintln!("cleaning up panicked");
    }
}

/// A plan without the rows that its scans are guessed to have: servers count their rows in the background, and a test may meet either guess.
pub fn without_guesses(plan: &str) -> String {
    const GUESS: &str = ", estimated_rows=";
    let mut parts = plan.split(GUESS);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| shown + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}
