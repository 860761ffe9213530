//! Every connector against its real source: one binary, because linking is what takes the time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

#[cfg(feature = "sqlite")]
mod sqlite;
