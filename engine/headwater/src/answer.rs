//! The answer of a query: a stream of record batches that starts when it is read.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use headwater_federation::RemoteLog;

use crate::Result;

/// A planned query. Nothing is asked of a source for rows before it is read; dropping the stream stops what runs there.
#[derive(Debug)]
pub struct Answer {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Answer {
    pub(crate) fn new(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Self {
        Self { plan, context }
    }

    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// The remote statements of the query, to be read while it runs or afterwards.
    pub fn remote_statements(&self) -> RemoteLog {
        RemoteLog::new(Arc::clone(&self.plan))
    }

    /// Starts the query and streams its batches as they are computed. An error ends the stream: what came before it is not an
    /// answer.
    pub fn into_stream(self) -> Result<SendableRecordBatchStream> {
        Ok(execute_stream(self.plan, self.context)?)
    }

    /// Runs the query to its end and returns all of it.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        Ok(self.into_stream()?.try_collect().await?)
    }
}
