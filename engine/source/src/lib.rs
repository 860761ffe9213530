//! The contract between Headwater's engine and the connectors that read services' stores.
//!
//! A [`Connector`] is a kind of store ("postgres", "sqlite"); it opens a [`Source`], one store of one service. The engine
//! asks a source for its [tables](Source::tables), offers it filters, order and a limit, and lets it [prepare](Source::prepare)
//! a [`ScanRequest`] as a [`Scan`], whose [partitions](Scan::open) stream Arrow record batches.
//!
//! # Promises a connector makes
//! - It reads and never writes; a role that may only read is enough.
//! - A batch has the schema of [`ScanRequest::schema`]: names, types and order. A source that changed its columns meanwhile
//!   answers [`Error::SchemaChanged`], never shifted columns.
//! - What a filter was offered as ([`Support::Exact`] or [`Support::Superset`]) is what the rows obey. The
//!   reference is Arrow's comparison of the values that the scan itself yields.
//! - A value never becomes part of a statement's text: it is a typed [`Bind`].
//! - Dropping a stream stops the work at the source. A stream that ends without an error has yielded every row.
//!
//! # What was rejected
//! - Handing connectors a DataFusion plan, or SQL printed from one: each connector would then decide by itself what a plan means,
//!   and printed literals and aliases are an injection waiting to happen. The request here is small and typed.
//! - Letting the engine know dialects: adding a source would touch the planner.
//!
//! # Example
//! ```
//! use headwater_source::{Capabilities, ColumnDef, CompareOp, Expr, Operator, Support, TableDef, ValueClass};
//! use arrow::datatypes::DataType;
//! use datafusion_common::ScalarValue;
//!
//! let table = TableDef::new(["shop", "orders"], vec![
//!     ColumnDef::new("id", DataType::Int64, "bigint", ValueClass::Integer),
//! ]);
//! let capabilities = Capabilities::new("example", &[(Operator::Equal, ValueClass::Integer, Support::Exact)]);
//! let filter = Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::Int64(Some(7))));
//! assert_eq!(capabilities.offer(&filter, &table).support, Support::Exact);
//! ```

mod bounds;
mod capability;
mod connector;
mod error;
mod expr;
mod feed;
mod name;
mod query;
mod read;
mod relation;
mod request;
mod source;
mod statistics;
mod table;

pub use arrow;
pub use async_trait::async_trait;
pub use capability::{
    Capabilities, ListLookup, Locality, Objection, Offer, Operator, Parallel, Purpose, Rule, Support,
};
pub use connector::{Connector, FeedDef, FeedOptions, OpenContext, OptionDef, OptionKind, OptionValue, Options};
pub use datafusion_common::ScalarValue;
pub use error::{Cause, Error, Result};
pub use expr::{CalendarUnit, Call, CompareOp, Expr, Function, Like};
pub use feed::{
    Change, Dependency, Feed, FeedClass, FeedStatus, Kept, Lack, Position, RowChanges, RowOp, TableChange, TablesAt,
    Transaction, TransactionStream,
};
pub use futures;
pub use name::{ServiceName, nearest};
pub use query::{Conditions, Queries};
pub use read::{QueryId, ReadContext, Snapshot, Threshold};
pub use relation::{Aggregate, AggregateFunction, Groups, JoinKind, Node, QueryRequest, Relation};
pub use request::{Bind, Known, RemoteStatement, ScanRequest, SortKey};
pub use source::{BatchStream, Scan, Source};
pub use statistics::{ColumnStatistics, Index, TableStatistics};
pub use table::{ColumnDef, TableDef, TableKind, ValueClass};
