//! Regions: sub-plans of one source that are answered there by one statement.
//!
//! After DataFusion's optimizer has pushed filters down, pruned columns and decorrelated subqueries, [`Federation`] grows regions
//! bottom up: an operator joins its inputs' region where they are of one source and the source's capability table covers
//! it for these expressions, types and collations. What can't join stays local above the finished region. A region of a single
//! scan is left to [`RemoteTable`](crate::RemoteTable), which offers its filters one by one.
//!
//! Invariant: a region's answer is the multiset of rows that DataFusion computes over the scans beneath it.

mod aggregate;
mod distinct;
mod eager;
mod either;
mod equals;
mod estimate;
mod grow;
mod grown;
mod handed;
mod join;
mod keyed;
mod keyed_cut;
mod keyed_exec;
mod mean;
mod order;
mod parts;
mod pays;
mod planner;
mod remote;
mod replay;
mod rollup;
mod selectivity;
mod shared;
mod shared_exec;
mod small;
mod tested;
mod tried;
mod tried_exec;
mod typed;
mod unions;
mod unmatched;

pub(crate) use estimate::{ROWS_PER_VALUE, rows_of_scan, semi_share};
pub(crate) use grown::TableName;
pub(crate) use handed::Handed;
pub(crate) use keyed_exec::KeyedExec;
pub use order::JoinOrder;
pub(crate) use parts::reads_much;
pub use planner::Federation;
pub(crate) use planner::tie;
pub(crate) use remote::{Asked, Parts};
pub(crate) use selectivity::number;
pub(crate) use shared_exec::{SharedExec, SharedRows};
pub use small::reads_little;
