//! A statement that a query needs more than once, sent once.
//!
//! A view that is named twice in a query is planned twice, and so would be asked twice. Where the plan holds the same statement several times
//! and at least one of them is read without keys, it is read whole by whoever comes first, kept while the query runs, and handed to the
//! others. The reader does not wait for the others, so none can wait for another in a circle.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use crate::RemoteScanExec;
use crate::region::{SharedExec, SharedRows};
use crate::scan::scans_of;

/// What a statement yielded, partition by partition.
#[derive(Debug)]
pub(crate) struct ReadOnce {
    partitions: Vec<OnceCell<Kept>>,
}

#[derive(Debug)]
struct Kept {
    batches: Vec<RecordBatch>,
    /// Given back to the pool with the batches.
    memory: MemoryReservation,
}

/// The most rows that are expected of what is kept.
pub(crate) const ROWS_MAX: f64 = 200_000.0;

impl ReadOnce {
    fn new(partitions: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| OnceCell::new()).collect() }
    }

    /// The rows of a partition, read by `scan` if nobody has yet.
    pub(crate) async fn rows(
        &self,
        scan: RemoteScanExec,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let read = async {
            let memory = MemoryConsumer::new("a statement that is read once").register(context.memory_pool());
            let mut kept = Kept { batches: vec![], memory };
            let mut rows = scan.stream(partition, context);
            while let Some(batch) = rows.try_next().await? {
                kept.memory.try_grow(batch.get_array_memory_size())?;
                kept.batches.push(batch);
            }
            Ok::<_, datafusion::error::DataFusionError>(kept)
        };
        Ok(self.partitions[partition].get_or_try_init(|| read).await?.batches.clone())
    }
}

/// Lets equal statements of a plan be sent once.
pub(crate) fn read_once(plan: &Arc<dyn ExecutionPlan>) {
    let scans = scans_of(plan);
    let mut sent = Vec::new();
    add_sent(plan, &mut vec![], &mut sent);
    for first in &scans {
        if first.is_read_once() || !first.reads_all() || first.estimated_rows() > ROWS_MAX {
            continue;
        }
        if sent.iter().filter(|scan| scan.asks_as(first)).count() > 1 {
            let once = Arc::new(ReadOnce::new(first.partitions()));
            let equal = scans.iter().filter(|scan| scan.asks_as(first));
            equal.for_each(|scan| scan.read_once(Arc::clone(&once)));
        }
    }
}

/// Adds the scans of a plan that run: of sub-plans of which one is run for all, those of the first.
fn add_sent<'a>(
    plan: &'a Arc<dyn ExecutionPlan>,
    shared: &mut Vec<&'a Arc<SharedRows>>,
    sent: &mut Vec<&'a RemoteScanExec>,
) {
    if plan.downcast_ref::<SharedExec>().is_some_and(|node| !node.is_first(shared)) {
        return;
    }
    sent.extend(plan.downcast_ref::<RemoteScanExec>());
    plan.children().into_iter().for_each(|child| add_sent(child, shared, sent));
}
