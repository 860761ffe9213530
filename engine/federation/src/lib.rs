//! From a catalog of services to remote statements.
//!
//! A question goes: [`SessionCatalog`] resolves a name to a [`RemoteTable`]; DataFusion plans and optimizes over it; [`TopN`]
//! marks scans that may be cut short; the table offers its filters to the source and becomes a [`RemoteScanExec`],
//! which streams what the source sends and shows in EXPLAIN what was asked of it and what stayed local, and why.
//!
//! Invariant: pushdown never changes an answer. A filter that the source only does as a superset, or not at all, stays in
//! the local plan; an order is only pushed beneath a local sort; a limit only where no local filter stands above the scan.
//!
//! The crate names no connector: what a source can do is data ([`headwater_source::Capabilities`]).

mod admission;
mod ambiguous;
mod barrier;
mod beneath;
mod catalog;
mod checked;
mod connections;
mod cooperative;
mod draft;
mod error;
mod information;
mod keys;
mod narrow;
mod once;
mod prompt;
mod reading;
mod rebind;
mod region;
mod report;
mod scan;
mod semi_joins;
mod service;
mod settings;
mod snapshot;
mod statistics;
mod subqueries;
mod table;
mod threshold;
mod top_n;
mod trace;
mod translate;
mod uncoupled;
mod windows;

pub use admission::{Admission, Connection, Gates, Pause, Permit};
pub use ambiguous::UnambiguousKeys;
pub use barrier::{Barrier, ThroughBarriers, remove_harmless_barriers};
pub use catalog::{CATALOG, Catalog, Guard, SEARCH_PATH_SCHEMA, SessionCatalog};
pub use connections::ConnectionsOn;
pub use cooperative::YieldingJoins;
pub use draft::{Draft, DraftSlot, LeaveDraft};
pub use error::{source_error, to_datafusion};
pub use prompt::PromptLimits;
pub use region::{Federation, JoinOrder, reads_little};
pub use report::{RemoteLog, RemoteStatementReport, RemoteTotals};
pub use scan::RemoteScanExec;
pub use semi_joins::SemiJoinRows;
pub use service::{Published, Service, Tables};
pub use settings::{AtLeast, OnStale, Pushdown, QueryDeadline, Settings, SharedSettings};
pub use subqueries::SubqueryValues;
pub use table::RemoteTable;
pub use threshold::FirstRows;
pub use top_n::TopN;
pub use trace::{StatementOutcome, StatementTrace, StatementTraces};
pub use uncoupled::UncoupledJoins;
