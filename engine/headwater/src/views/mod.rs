//! Materialized views at run time: who reads the sources, when epochs happen, and what a query sees of them.
//!
//! [`Views`] is the engine's one registry. It holds a `Maintenance` (headwater-views: no I/O, no clock) behind a lock, a task for each service
//! that a view reads, and the newest epoch, which readers take without the lock. A query pins one epoch for all the views that it names
//! ([`Pin`]). What is written to disk, and how it comes back, is in `store`.

mod apply;
mod ask;
mod clock;
mod cover;
mod define;
mod explain;
mod feed;
mod files;
mod follow;
mod fresh;
mod history;
mod journal;
mod keep;
mod metrics;
mod place;
mod poll;
mod registry;
mod stamp;
mod store;
mod stream;
mod subscribe;
mod system;
mod table;

pub use apply::{KnownView, ViewAction, ViewPlan, ViewStep};
pub(crate) use ask::{ViewName, ViewStatement, known_to_parser, parse_query, unknown_to_parser};
pub(crate) use cover::explained;
pub(crate) use define::Done;
pub use files::ViewFiles;
pub(crate) use fresh::{Demand, Found};
pub use place::StateStore;
pub use registry::ViewOptions;
pub(crate) use registry::{Definition, Shared, Views};
pub use stamp::{SourceStamp, Stamp};
pub(crate) use stream::{columns as subscription_columns, plan as subscription_plan};
pub use subscribe::{Begin, Subscription, ViewDelta};
pub(crate) use system::{SCHEMA as SYSTEM_SCHEMA, SystemTable};
pub(crate) use table::{Pin, ViewTable, inline_views, reads_views};
