//! SUBSCRIBE as an answer: an endless stream of rows, each with the epoch that changed it.
//!
//! The columns of a view come after four that say of which change a row is. A client that keeps what it got up to a row with
//! `headwater_last`, and that epoch, has a whole epoch and can go on from it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use headwater_views::Delta;
use parking_lot::Mutex;

use super::ask::ViewName;
use super::registry::refused;
use super::stamp::vector_json;
use super::subscribe::{Begin, Subscription, ViewDelta};
use super::{Demand, Found, Views};
use crate::Result;

/// The epoch that changed a row.
const EPOCH: &str = "headwater_epoch";

/// The positions of the sources as of that epoch, as JSON: what `SET headwater.at_least` takes.
const VECTOR: &str = "headwater_vector";

/// How often the row is there more than before.
const WEIGHT: &str = "headwater_weight";

/// Whether it is the last row of its epoch.
const LAST: &str = "headwater_last";

/// The key of the schema's metadata that names the view.
const VIEW_KEY: &str = "headwater.subscription";

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8_192;

/// The columns of a subscription to a view of these.
///
/// # Errors
/// A column of the view has a name that the subscription needs.
pub(crate) fn columns(name: &ViewName, view: &SchemaRef) -> Result<SchemaRef> {
    let own = [
        Field::new(EPOCH, DataType::UInt64, false),
        Field::new(VECTOR, DataType::Utf8, false),
        Field::new(WEIGHT, DataType::Int64, false),
        Field::new(LAST, DataType::Boolean, false),
    ];
    if let Some(taken) = own.iter().find(|own| view.index_of(own.name()).is_ok()) {
        let reason =
            format!("the view has a column \"{}\", which a subscription has itself; name it otherwise", taken.name());
        return Err(refused(&format!("SUBSCRIBE TO {name}"), &reason));
    }
    // A row that went may be told with less than it held, never with NULL where the view has none; still, clients need not rely on it.
    let fields = own.into_iter().map(Arc::new).chain(view.fields().iter().cloned()).collect::<Vec<FieldRef>>();
    Ok(Arc::new(Schema::new(fields).with_metadata([(VIEW_KEY.to_owned(), name.to_string())].into())))
}

/// Begins a subscription, as fresh as the session demands, and the plan that streams it.
pub(crate) async fn plan(
    views: &Arc<Views>,
    name: &ViewName,
    begin: Begin,
    demand: &Demand,
) -> Result<Arc<dyn ExecutionPlan>> {
    let subscription = Subscription::begin(views, name, begin)?;
    let schema = columns(name, subscription.schema())?;
    if let Found::Live = views.shared().fresh(&[(name.clone(), subscription.view())], demand).await? {
        let reason = "a subscription reads the view itself; set headwater.on_stale to wait or error";
        return Err(refused(&format!("SUBSCRIBE TO {name}"), reason));
    }
    let changes = Changes { schema: Arc::clone(&schema), subscription: Mutex::new(Some(subscription)) };
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(changes)], None, [], true, None)?))
}

/// The one partition of the plan. It runs once.
struct Changes {
    schema: SchemaRef,
    subscription: Mutex<Option<Subscription>>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

/// What is on its way.
struct State {
    schema: SchemaRef,
    subscription: Subscription,
    told: Option<(ViewDelta, String)>,
    parts: VecDeque<Delta>,
}

impl PartitionStream for Changes {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let Some(subscription) = self.subscription.lock().take() else {
            let again = DataFusionError::Internal("a subscription runs once".to_owned());
            return Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Err(again)])));
        };
        let state = State { schema: Arc::clone(&schema), subscription, told: None, parts: VecDeque::new() };
        let batches = futures::stream::try_unfold(state, |mut state| async move {
            let batch = state.next().await?;
            Ok(Some((batch, state)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

impl State {
    async fn next(&mut self) -> Result<RecordBatch, DataFusionError> {
        loop {
            if let (Some(part), Some((told, vector))) = (self.parts.pop_front(), &self.told) {
                let (head, rest) = cut(part);
                if let Some(rest) = rest {
                    self.parts.push_front(rest);
                }
                if !head.is_empty() {
                    return rows(&self.schema, told, vector, &head, self.parts.is_empty());
                }
                continue;
            }
            let told = self.subscription.next_parts(&mut self.parts).await?;
            self.parts.retain(|part| !part.is_empty());
            let vector = vector_json(&told.vector);
            self.told = Some((told, vector));
        }
    }
}

/// The first rows of a delta, and those after them.
fn cut(delta: Delta) -> (Delta, Option<Delta>) {
    match delta.len() > BATCH_ROWS {
        true => (delta.slice(0, BATCH_ROWS), Some(delta.slice(BATCH_ROWS, delta.len() - BATCH_ROWS))),
        false => (delta, None),
    }
}

fn rows(
    schema: &SchemaRef,
    told: &ViewDelta,
    vector: &str,
    delta: &Delta,
    is_last: bool,
) -> Result<RecordBatch, DataFusionError> {
    let rows = delta.len();
    let mut last = vec![false; rows];
    if let Some(end) = last.last_mut() {
        *end = is_last;
    }
    let own: [ArrayRef; 4] = [
        Arc::new(UInt64Array::from_value(told.epoch, rows)),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(vector, rows))),
        Arc::new(Int64Array::from(delta.weights().to_vec())),
        Arc::new(BooleanArray::from(last)),
    ];
    let columns = own.into_iter().chain(delta.rows().columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
