//! The manifest's keys of a SQLite source.

use std::path::PathBuf;
use std::time::Duration;

use headwater_source::{Error, OpenContext, OptionDef, OptionKind, Options, Result};

/// The keys, as the manifest's parser checks them.
pub(super) const OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: "path",
        kind: OptionKind::Text,
        required: true,
        doc: "The database file, relative to the manifest. It is opened read-only and never created.",
    },
    OptionDef {
        name: "pool_size",
        kind: OptionKind::Count,
        required: false,
        doc: "The most connections that are open at once; default 8. Each scan holds one while it runs.",
    },
    OptionDef {
        name: "connect_timeout_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long to wait for a free connection, in milliseconds; default 5000.",
    },
    OptionDef {
        name: "busy_timeout_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long to wait for a lock that a writer holds, in milliseconds; default 5000.",
    },
    OptionDef {
        name: "statement_timeout_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "The longest that a scan may take, in milliseconds, its reader's pauses included; default 0, without limit.",
    },
];

/// A SQLite source's configuration.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The file, absolute.
    pub(super) path: PathBuf,
    /// The most connections at once.
    pub(super) pool_size: usize,
    /// The wait for a free connection.
    pub(super) connect_timeout: Duration,
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
        let pool_size = usize::try_from(options.count("pool_size", 8)).unwrap_or(usize::MAX);
        if !(1..=Self::POOL_SIZE_MAX).contains(&pool_size) {
            return Err(Error::config(format!("key \"pool_size\" in \"source\" takes 1 to {}", Self::POOL_SIZE_MAX)));
        }
        let limit = options.count("statement_timeout_ms", 0);
        Ok(Self {
            path,
            pool_size,
            connect_timeout: Duration::from_millis(options.count("connect_timeout_ms", 5000)),
            busy_timeout: Duration::from_millis(options.count("busy_timeout_ms", 5000)),
            statement_timeout: (limit > 0).then(|| Duration::from_millis(limit)),
        })
    }

    /// The most that `pool_size` takes: each connection reads on a thread of its own.
    const POOL_SIZE_MAX: usize = 256;

    /// Where the data is, for people.
    pub(super) fn location(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }
}
