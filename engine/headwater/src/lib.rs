//! Headwater as a library: open a directory of services and ask SQL over all of them.
//!
//! A service keeps its data in a store of its own. A manifest (one YAML file a service) says where that store is and which of
//! its tables are published; every published table then is `service.table` in SQL, and one query may join tables of many
//! services. What a source can do exactly is done there; the rest is done here, and the answer is the same either way.
//!
//! ```
//! # let rt = tokio::runtime::Runtime::new()?;
//! # rt.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # std::fs::write(dir.path().join("orders.csv"), "id,customer,total\n1,ada,20\n2,bob,5\n3,ada,7\n")?;
//! # std::fs::write(dir.path().join("people.csv"), "name,country\nada,uk\nbob,us\n")?;
//! # for (service, file) in [("orders", "orders.csv"), ("customers", "people.csv")] {
//! #     let yaml = format!("service: {service}\nsource: {{connector: files, url: ./}}\npublishes: {{{service}: {{from: {file}}}}}\n");
//! #     std::fs::write(dir.path().join(format!("{service}.yaml")), yaml)?;
//! # }
//! # let services = dir.path();
//! use headwater::Engine;
//!
//! // `services` is a directory of manifests.
//! let engine = Engine::builder().services_dir(services).connectors(headwater_connectors::all()).build().await?;
//! let answer = engine
//!     .sql("SELECT c.country, sum(o.total) AS total FROM orders.orders o \
//!           JOIN customers.customers c ON c.name = o.customer GROUP BY c.country ORDER BY total DESC")
//!     .await?;
//! let batches = answer.collect().await?;
//! assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Who asks may be somebody else than the program: [`Engine::session_as`] gives a [`Caller`] a session that reads what `access.yaml` beside the manifests
//! grants them, and [`EngineBuilder::audit`] records who read what.
//!
//! [`Engine`] is shared by a program; a [`Session`] holds what a user SETs; an [`Answer`] streams record batches and knows the
//! remote statements behind them. Tables of the program itself stand beside the services ([`Engine::register_table`]), and a
//! store that Headwater has no connector for is a [`Source`] of your own ([`EngineBuilder::source`]); the examples of
//! this crate show both. What an engine may take of its machine and of its sources is bounded: see [`Limits`].

mod manifest;
mod statement;

mod access;
mod answer;
mod audit;
mod check;
mod drafts;
mod engine;
mod error;
mod generic;
mod governor;
mod limits;
mod memory;
mod metrics;
mod opaque;
mod plan;
mod prepared;
mod running;
mod session;
mod spill;
mod syntax;
mod template;
mod trace;
mod views;

pub use access::{ACCESS_FILE, Caller, CallerRights, access_schema};
pub use answer::{Answer, Deadline};
pub use audit::AuditLog;
pub use check::{check, open_feed};
pub use engine::{Engine, EngineBuilder, TableInfo};
pub use error::{Error, ErrorKind, Result};
pub use headwater_federation::{
    Published, RemoteLog, RemoteStatementReport, RemoteTotals, StatementOutcome, StatementTrace, Tables,
};
pub use headwater_source::{Connector, Feed, ServiceName, Source, nearest};
pub use limits::Limits;
pub use manifest::{
    Config, Fault, Manifest, Owner, PublishedTable, Publishes, YamlEntry, YamlNode, YamlValue, config_schema,
    read_config, read_directory, read_yaml, schema,
};
pub use metrics::{FeedMetrics, Histogram, Metrics, QUERY_SECONDS, ServiceMetrics, ViewMetrics};
pub use prepared::Prepared;
pub use session::Session;
pub use statement::defines_view;
pub use trace::{QueryObserver, QueryOutcome, QueryTrace, TraceParent};
pub use views::{
    Begin, KnownView, SourceStamp, Stamp, StateStore, Subscription, ViewAction, ViewDelta, ViewFiles, ViewOptions,
    ViewPlan, ViewStep,
};
