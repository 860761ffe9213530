//! One partition of a remote statement while it is read: what it costs is counted batch by batch, and dropping it stops the statement.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use futures::StreamExt;
use headwater_source::{BatchStream, ReadContext, Scan};

use crate::Permit;
use crate::region::TableName;
use crate::scan::failed;
use crate::trace::Traced;

pub(crate) const ROWS: &str = "rows";
pub(crate) const BYTES: &str = "bytes";
pub(crate) const ELAPSED: &str = "elapsed";
pub(crate) const STATEMENTS: &str = "statements";

/// Counts what one partition reads.
pub(crate) struct Meter {
    rows: Count,
    bytes: Count,
    elapsed: Time,
    statements: Count,
}

/// What is to be read: a partition of a scan, for its query, in its turn.
pub(crate) struct Opening {
    pub(crate) scan: Arc<dyn Scan>,
    pub(crate) partition: usize,
    pub(crate) context: ReadContext,
    pub(crate) permit: Option<Permit>,
    pub(crate) traced: Option<Traced>,
}

/// A partition while it is read.
pub(crate) struct Reading {
    tables: Vec<TableName>,
    batches: BatchStream,
    meter: Meter,
    traced: Option<Traced>,
    /// Held while the statement runs.
    _permit: Option<Permit>,
}

impl Meter {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let builder = || MetricBuilder::new(metrics);
        Self {
            rows: builder().counter(ROWS, partition),
            bytes: builder().counter(BYTES, partition),
            elapsed: builder().subset_time(ELAPSED, partition),
            statements: builder().counter(STATEMENTS, partition),
        }
    }
}

impl Reading {
    pub(crate) async fn start(tables: Vec<TableName>, opening: Opening, meter: Meter) -> Result<Self> {
        let Opening { scan, partition, context, permit, traced } = opening;
        let started = Instant::now();
        meter.statements.add(1);
        let opened = scan.open_for(partition, &context).await;
        meter.elapsed.add_elapsed(started);
        match opened {
            Ok(batches) => Ok(Self { tables, batches, meter, traced, _permit: permit }),
            Err(error) => {
                if let Some(traced) = &traced {
                    traced.failed(&error);
                }
                Err(failed(&tables, error))
            }
        }
    }

    pub(crate) async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        let started = Instant::now();
        let next = self.batches.next().await;
        self.meter.elapsed.add_elapsed(started);
        match next {
            Some(Ok(batch)) => {
                let (rows, bytes) = (batch.num_rows(), bytes_of(&batch));
                self.meter.rows.add(rows);
                self.meter.bytes.add(bytes);
                if let Some(traced) = &self.traced {
                    traced.count(rows, bytes);
                }
                Ok(Some((batch, self)))
            }
            Some(Err(error)) => {
                if let Some(traced) = &self.traced {
                    traced.failed(&error);
                }
                Err(failed(&self.tables, error))
            }
            None => {
                if let Some(traced) = &self.traced {
                    traced.complete();
                }
                Ok(None)
            }
        }
    }
}

/// How many bytes the values take: the room of a builder that is not filled is none of them.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    batch.columns().iter().map(of).sum()
}
