//! The connectors against real stores. `./test` starts the servers and sets the variables that the tests read.

#[cfg(feature = "postgres")]
mod postgres;
