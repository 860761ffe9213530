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
//! The feature `conformance` adds the suite that each of them passes, and the wrappers it is run through.
//!
//! They implement `headwater_source::Connector` and know nothing of the engine.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod batch;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod buffer;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod dependencies;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod idle;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod options;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod ranges;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod tls;

#[cfg(feature = "files")]
mod files;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use headwater_source::{Capabilities, Connector};

#[cfg(feature = "files")]
pub use self::files::FilesConnector;
#[cfg(feature = "mysql")]
pub use self::mysql::MysqlConnector;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresConnector;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteConnector;

/// Every connector that this build has.
pub fn all() -> Vec<Arc<dyn Connector>> {
    vec![
        #[cfg(feature = "sqlite")]
        Arc::new(SqliteConnector),
        #[cfg(feature = "files")]
        Arc::new(FilesConnector),
        #[cfg(feature = "postgres")]
        Arc::new(PostgresConnector),
        #[cfg(feature = "mysql")]
        Arc::new(MysqlConnector),
    ]
}

/// What the sources of each connector of this build do with pushed expressions, by the word after `connector:`. The page
/// docs/capabilities.md is written from it.
pub fn capabilities() -> Vec<(&'static str, &'static Capabilities)> {
    vec![
        #[cfg(feature = "postgres")]
        ("postgres", &postgres::CAPABILITIES),
        #[cfg(feature = "mysql")]
        ("mysql", &mysql::CAPABILITIES),
        #[cfg(feature = "sqlite")]
        ("sqlite", &sqlite::CAPABILITIES),
        #[cfg(feature = "files")]
        ("files", &files::CAPABILITIES),
    ]
}
