//! Batches of one plan or another under the schema of the query: what a source's statement may leave NULL, the query may not.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};

/// The batches of a plan that is still being chosen, under this schema.
pub(super) fn under(
    schema: SchemaRef,
    answer: impl Future<Output = Result<SendableRecordBatchStream>> + Send + 'static,
) -> SendableRecordBatchStream {
    let typed = {
        let schema = SchemaRef::clone(&schema);
        move |batch: Result<RecordBatch>| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&schema), batch.columns().to_vec(), &options)?)
        }
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(answer).try_flatten().map(typed)))
}
