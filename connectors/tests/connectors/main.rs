//! The connectors against real stores. `./test` starts the servers and sets the variables that the tests read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

#[cfg(feature = "mysql")]
mod mysql;
