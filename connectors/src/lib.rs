//! Headwater's connectors: one folder per kind of source, a cargo feature each.
//!
//! | feature | `connector:` | reads |
//! |---|---|---|
//! | `sqlite` | `sqlite` | a SQLite file |
//! | `files` | `files` | Parquet, CSV, newline JSON and Arrow IPC through object stores |
//! | `postgres` | `postgres` | PostgreSQL |
//! | `mysql` | `mysql` | MariaDB and MySQL |
//!
//! Each folder has the same parts: `config` (the manifest's keys), `connect` (connections, pool, TLS), `types` (the type table,
//! decoding), `dialect` (the capability table and how statements are written), `scan` (streams) and `error`.
//!
//! They implement `headwater_source::Connector` and know nothing of the engine.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;

#[cfg(feature = "postgres")]
pub mod postgres;

use std::sync::Arc;

use headwater_source::Connector;

/// Every connector that this build has.
pub fn all() -> Vec<Arc<dyn Connector>> {
    vec![
        #[cfg(feature = "postgres")]
        Arc::new(postgres::PostgresConnector),
    ]
}
