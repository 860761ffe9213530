//! One suite that every connector passes, and every wrapper round a source.
//!
//! A connector joins with a table that holds the rows of [`fixture::rows`] at its source, made by the test itself, and one
//! function in the test binary:
//!
//! ```text
//! #[tokio::test]
//! async fn postgres_conforms() {
//!     let (server, source) = start_with_fixture().await;   // CREATE TABLE conformance (...); INSERT ...
//!     let expectations = Expectations::new("conformance", fixture::rows());
//!     conformance::check(source.clone(), &expectations).await.unwrap();
//!     let throttled = Arc::new(Throttled::new(source.clone(), Duration::from_micros(200)));
//!     conformance::check(throttled, &expectations).await.unwrap();
//!     let flaky = Arc::new(Flaky::new(source, service, FlakyPlan::seeded(7)));
//!     conformance::check(flaky, &expectations.retrying()).await.unwrap();
//! }
//! ```
//!
//! A source that has no such type, or stores a value otherwise (SQLite and MariaDB keep no -0.0), passes its own rows and types to
//! [`Expectations::new`]; any subset of the columns will do as long as `id` is among them.
//!
//! The suite finds out for itself what may be pushed: it offers a few hundred filters over the edge values of every column to
//! [`Capabilities::offer`](headwater_source::Capabilities::offer), runs what is taken, and compares with [`local`]
//! evaluation. So a rule that is wrong for one of these values fails, and so does a rule added later.
//!
//! Promises that only a source's own tests can check are not here: that a change of schema is noticed, that the statement
//! stops at the source, errors of values, the type table.

pub mod feed;
pub mod fixture;
pub mod local;

mod filters;
mod flaky;
mod limits;
mod lives;
mod read;
mod rows;
mod throttled;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use headwater_source::Source;

pub use self::flaky::{Flaky, FlakyPlan};
pub use self::throttled::Throttled;

/// What a source breaks.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The promise.
    pub rule: &'static str,
    /// What happened instead.
    pub detail: String,
}

/// What the suite is to find.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// The table, as a manifest's `from` names it.
    pub table: String,
    /// All of its rows, in any order, in the source's own column order; `id` is a column without duplicates.
    pub rows: RecordBatch,
    /// What a failed read means.
    pub failures: Failures,
}

/// What a failed read means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    /// A violation.
    Refused,
    /// The read is tried again where the error is one of a source that went away; every answer that comes must be whole.
    Retried,
}

impl Expectations {
    /// No read may fail.
    pub fn new(table: impl Into<String>, rows: RecordBatch) -> Self {
        Self { table: table.into(), rows, failures: Failures::Refused }
    }

    /// The same, for a source that goes away now and then.
    pub fn retrying(&self) -> Self {
        Self { failures: Failures::Retried, ..self.clone() }
    }
}

/// Runs the whole suite; the first broken promise is the error.
pub async fn check(source: Arc<dyn Source>, expectations: &Expectations) -> Result<(), Violation> {
    let subject = read::Subject::new(source, expectations).await?;
    rows::table_is_described_alike_by_both_ways(&subject).await?;
    rows::unknown_table_is_named(&subject).await?;
    rows::all_rows_come_with_their_types(&subject).await?;
    rows::every_projection_has_the_schema_of_its_request(&subject).await?;
    rows::batches_are_not_larger_than_asked(&subject).await?;
    rows::partitions_are_disjoint_and_complete(&subject).await?;
    lives::scan_opens_again_and_reads_anew(&subject).await?;
    lives::reader_that_leaves_early_leaves_the_source_working(&subject).await?;
    lives::scans_run_side_by_side(&subject).await?;
    filters::pushed_filters_obey_what_they_were_offered_as(&subject).await?;
    limits::limit_yields_so_many_rows_of_the_right_ones(&subject).await?;
    limits::pushed_order_is_that_of_arrow(&subject).await
}
