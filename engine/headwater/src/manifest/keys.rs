//! The keys of a manifest. The parser and the JSON Schema both read these tables; a connector's own keys come from its
//! `OptionDef`s.

use headwater_source::{FeedDef, OptionDef, OptionKind};

/// A key that a section of a manifest may or must have.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) doc: &'static str,
}

pub(super) const SERVICE: &str = "service";
pub(super) const OWNER: &str = "owner";
pub(super) const SOURCE: &str = "source";
pub(super) const FEED: &str = "feed";
pub(super) const MODE: &str = "mode";
pub(super) const PUBLISHES: &str = "publishes";
pub(super) const TEAM: &str = "team";
pub(super) const CONNECTOR: &str = "connector";
pub(super) const FROM: &str = "from";
pub(super) const KEY: &str = "key";
pub(super) const LIMITS: &str = "limits";

/// What `publishes` holds where every table of the source is published.
pub(super) const EVERY_TABLE: &str = "*";

/// The keys at the top.
pub(super) const OF_MANIFEST: &[Key] = &[
    Key { name: SERVICE, required: true, doc: "The service's name: the schema under which its tables appear in SQL." },
    Key { name: OWNER, required: false, doc: "Who answers for the service." },
    Key { name: SOURCE, required: true, doc: "The store that holds the service's data." },
    Key {
        name: FEED,
        required: false,
        doc: "How the source's changes are followed, for materialized views. Left out, they are not.",
    },
    Key {
        name: PUBLISHES,
        required: true,
        doc: "The tables that others may read, by the name under which they appear in SQL; \"*\" publishes every table of \
              the source under its own name.",
    },
];

/// The keys at the top of a configuration.
pub(super) const OF_CONFIG: &[Key] = &[Key {
    name: LIMITS,
    required: false,
    doc: "What the engine may take of its machine and of its sources. A key that is left out has its default.",
}];

/// The keys of `owner`.
pub(super) const OF_OWNER: &[Key] = &[Key { name: TEAM, required: true, doc: "The team that owns the service." }];

/// The key of `source` that every connector has.
pub(super) const OF_SOURCE: &[Key] = &[Key { name: CONNECTOR, required: true, doc: "The kind of store." }];

/// The key of `feed` that every feed has.
pub(super) const OF_FEED: &[Key] = &[Key { name: MODE, required: true, doc: "The way in which changes are followed." }];

/// The way to follow changes that needs nothing of a source, which the service of every connector has.
pub(super) const POLL: FeedDef = FeedDef {
    mode: POLL_MODE,
    options: &[OptionDef {
        name: INTERVAL_SECONDS,
        kind: OptionKind::Count,
        required: true,
        doc: "How many seconds after a reading its tables are read again: 1 to 2592000.",
    }],
    doc: "Its tables are read anew at an interval, for materialized views; what comes and goes between two readings does not show.",
};

/// The mode of [`POLL`].
pub(crate) const POLL_MODE: &str = "poll";

/// The key of the interval.
pub(crate) const INTERVAL_SECONDS: &str = "interval_seconds";

/// The longest interval between two readings: 30 days.
pub(super) const INTERVAL_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// The keys of a table under `publishes`.
pub(super) const OF_TABLE: &[Key] = &[
    Key {
        name: FROM,
        required: false,
        doc: "The table at the source, such as public.orders or a file's name. Default: the published name.",
    },
    Key {
        name: KEY,
        required: false,
        doc: "The columns that tell rows apart. May be left out where the source declares a primary key.",
    },
];

/// The names of some keys.
pub(super) fn names(keys: &'static [Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}
