//! Every connector against its real source: one binary, because linking is what takes the time.
//!
//! `./test` starts the servers and sets the variables that the tests read.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

#[cfg(all(feature = "files", feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod capability_page;
mod conforming;
#[cfg(feature = "files")]
mod files;
mod following;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
