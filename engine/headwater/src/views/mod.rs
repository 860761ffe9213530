//! Materialized views at run time: who reads the sources, when epochs happen, and what a query sees of them.
//!
//! [`Views`] is the engine's one registry. It holds a `Maintenance` (headwater-views: no I/O, no clock) behind a lock, a task for each service
//! that a view reads, and the newest epoch, which readers take without the lock. A query pins one epoch for all the views that it names
//! ([`Pin`]). What is written to disk, and how it comes back, is in `store`.

mod ask;
mod define;
mod explain;
mod feed;
mod follow;
mod fresh;
mod metrics;
mod poll;
mod registry;
mod store;
mod subscribe;
mod system;
mod table;

pub(crate) use ask::{ViewStatement, known_to_parser, parse_query, unknown_to_parser};
pub(crate) use fresh::{Demand, Found};
pub use registry::ViewOptions;
pub(crate) use registry::Views;
pub(crate) use subscribe::Begin;
pub use subscribe::{Subscription, ViewDelta};
pub(crate) use system::SCHEMA as SYSTEM_SCHEMA;
pub(crate) use table::{Pin, inline_views, reads_views};
