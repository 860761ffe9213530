//! Materialized views, kept exact: complete transactions of several sources in, published versions out. No I/O, no clock, no runtime.
//!
//! A [`Maintenance`] holds the tables of services that views read, each by its key, and for each view a tree of operators over them. Whoever
//! runs it (the facade) reads sources: it [loads](Maintenance::load) their tables once, all of a source at one position,
//! [offers](Maintenance::offer) every transaction after that, and calls [`Maintenance::step`]: an epoch. An epoch takes transactions of any
//! sources, applies them whole, and publishes one [`Epoch`]: a number, a vector of positions, and the rows of every view at just that vector.
//!
//! # Promises
//! - A published view is what its query gives over the tables at the vector of its stamp, whatever came before and however it was cut into
//!   epochs. Floats are summed exactly and rounded once; where DataFusion's sums depend on the order of rows, so may the last digits.
//! - A vector holds only ends of transactions. It never goes back. All views that read a source show it at one position.
//! - A transaction that depends on positions of other sources is held back until the vector covers them.
//! - What fails, fails alone: a view whose query fails over a row stays at its last version and says why; a source whose changes do not fit its
//!   rows is left at its last position and says why. The others go on.
//! - Readers pin an [`Epoch`] and are never waited for.
//!
//! # What was rejected
//! - dbsp and differential-dataflow: row by row, a tenth of the speed, and types that a query that comes at run time does not have.
//! - DataFusion's own accumulators with `retract_batch`: those for min and max assume that what came first goes first.
//! - Sums of floats that are added to and taken from: they drift, and a view would no longer be what its query gives.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use arrow::array::{Int64Array, RecordBatch};
//! use arrow::datatypes::DataType;
//! use datafusion::prelude::SessionContext;
//! use headwater_source::{ColumnDef, Position, TableDef, ValueClass};
//! use headwater_views::{Input, Maintenance, Options, Query, Resolved};
//!
//! # futures::executor::block_on(async {
//! let column = |name| ColumnDef::new(name, DataType::Int64, "bigint", ValueClass::Integer);
//! let table = TableDef::new(["orders"], vec![column("id"), column("total")]).with_key(["id"]);
//!
//! let mut views = Maintenance::new(Options::default());
//! let shop = views.add_source("shop", Arc::new(|_, _| Ok(true)));
//! let orders = views.add_table(shop, "orders", &table)?;
//!
//! // The plan comes from DataFusion's SQL planner over tables of the same schema.
//! let context = SessionContext::new();
//! context.register_batch("orders", RecordBatch::new_empty(table.schema()))?;
//! let plan = context.state().create_logical_plan("SELECT count(*) AS n, sum(total) AS total FROM orders").await?;
//! let query = Query::new(plan, &mut |_| Ok(Resolved { input: Input::Table(orders), schema: table.schema() }))?;
//! let view = views.create_view("reports.totals", query)?;
//!
//! let mut rows = views.loader(orders)?;
//! rows.push(&RecordBatch::try_new(
//!     table.schema(),
//!     vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![20, 5]))],
//! )?)?;
//! views.load(shop, Position::new(7, "7"), vec![rows])?;
//!
//! let epoch = views.published();
//! let shown = epoch.view(view).expect("it is visible from its first vector on");
//! assert_eq!(shown.version.num_rows(), 1);
//! assert_eq!(shown.vector.position("shop").map(|position| position.order()), Some(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod maintain;

mod delta;
mod table;

mod plan;

mod operator;

mod arrangement;
mod packed;
mod places;
mod rows;

mod version;

mod checkpoint;

mod error;
mod mutant;

// The simulator over a build that can be told to be wrong.
#[cfg(test)]
extern crate self as headwater_views;
#[cfg(test)]
#[path = "../tests/views/dice.rs"]
mod dice;
#[cfg(test)]
#[allow(dead_code, reason = "the tests in tests/views use more of it")]
#[path = "../tests/views/model.rs"]
mod model;
#[cfg(test)]
mod mutants;
#[cfg(test)]
#[allow(dead_code, reason = "the tests in tests/views use more of it")]
#[path = "../tests/views/simulator.rs"]
mod simulator;
#[cfg(test)]
#[allow(dead_code, reason = "the tests in tests/views use more of it")]
#[path = "../tests/views/world.rs"]
mod world;

pub use checkpoint::{Checkpoint, Part, decode_deltas, encode_deltas};
pub use delta::Delta;
pub use error::{Error, Result};
pub use maintain::{
    Covers, Epoch, Explained, Held, Loader, Maintenance, Options, Published, Report, Shown, SourceId, SourceStatus,
    TableId, Vector, ViewChange, ViewId, ViewState, ViewStatus,
};
pub use operator::{Description, Mode};
pub use plan::{Input, Query, Resolved};
pub use version::Version;
