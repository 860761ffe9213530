//! The manifest's keys of a SQLite source.

use std::path::PathBuf;
use std::time::Duration;

use headwater_source::{Error, OpenContext, OptionDef, OptionKind, Options, Result};

use crate::options;

/// The keys, as the manifest's parser checks them.
pub(super) const OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: "path",
        kind: OptionKind::Text,
        required: true,
        doc: "The database file, relative to the manifest. It is opened read-only and never created.",
    },
    options::POOL_SIZE,
    options::POOL_WAIT_MS,
    OptionDef {
        name: "busy_timeout_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long to wait for a lock that a writer holds, in milliseconds; default 5000.",
    },
    options::STATEMENT_TIMEOUT_MS,
];

/// A SQLite source's configuration.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The file, absolute.
    pub(super) path: PathBuf,
    /// The most connections at once.
    pub(super) pool_size: usize,
    /// The wait for a free connection.
    pub(super) pool_wait: Duration,
    /// The wait for a writer's lock.
    pub(super) busy_timeout: Duration,
    /// The longest that a scan may take; `None` is without limit.
    pub(super) statement_timeout: Option<Duration>,
}

impl Config {
    /// Reads checked options.
    pub(super) fn read(context: OpenContext<'_>, options: &Options) -> Result<Self> {
        let given = options.text("path").unwrap_or_default();
        if given.is_empty() || given.contains('\0') {
            return Err(Error::config("key \"path\" in \"source\" takes the path of a SQLite file"));
        }
        // Absolute also because SQLite would take a relative path that starts with "file:" as a URI.
        let path = std::path::absolute(context.resolve(given))
            .map_err(|error| Error::config(format!("key \"path\" in \"source\" cannot be resolved: {error}")))?;
        Ok(Self {
            path,
            pool_size: options::pool_size(options, Self::POOL_SIZE_MAX)?,
            pool_wait: options::pool_wait(options),
            busy_timeout: Duration::from_millis(options.count("busy_timeout_ms", 5000)),
            statement_timeout: options::statement_timeout(options),
        })
    }

    /// The most that `pool_size` takes: each connection reads on a thread of its own.
    const POOL_SIZE_MAX: u64 = 256;

    /// Where the data is, for people.
    pub(super) fn location(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }
}
