//! Record batches as a Flight stream.
//!
//! Batches are encoded when the client's flow control asks for them, so a slow client slows the query down and none of its rows
//! pile up. Dropping the stream drops the query.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future};
use tokio::sync::watch;
use tonic::Status;

use super::error::{internal, panicked};

/// The stream of a DoGet.
pub(super) type FlightStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Record batches on their way to a client.
pub(super) type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch, Status>> + Send>>;

/// Encodes batches. The stream ends with UNAVAILABLE once `cut_off` turns true, and with INTERNAL where a batch panics.
pub(super) fn encoded(schema: &SchemaRef, batches: Batches, cut_off: watch::Receiver<bool>) -> FlightStream {
    let plain = plain_schema(schema);
    let wanted = Arc::clone(&plain);
    let batches = batches.and_then(move |batch| future::ready(plain_batch(batch, &wanted).map_err(internal)));
    let encoded = FlightDataEncoderBuilder::new()
        .with_schema(plain)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(batches.map_err(|status| FlightError::Tonic(Box::new(status))))
        .map_err(status_of);
    let contained =
        AssertUnwindSafe(encoded).catch_unwind().map(|item| item.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
    Box::pin(until_cut_off(contained, cut_off))
}

/// A stream of batches that are there already.
pub(super) fn encoded_batch(batch: RecordBatch, cut_off: watch::Receiver<bool>) -> FlightStream {
    let schema = batch.schema();
    encoded(&schema, Box::pin(futures::stream::iter([Ok(batch)])), cut_off)
}

/// The schema as clients get it: string and binary views become plain strings and binaries, which every client knows.
pub(super) fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    if schema.fields().iter().all(|field| plain_type(field.data_type()) == *field.data_type()) {
        return Arc::clone(schema);
    }
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(plain_type(field.data_type())))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(field) | DataType::ListView(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(plain_field(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(plain_field(field), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}

/// A batch in the schema that was announced.
fn plain_batch(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.num_columns() != schema.fields().len() {
        let message = format!("{} columns were announced and {} came", schema.fields().len(), batch.num_columns());
        return Err(ArrowError::SchemaError(message));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

fn status_of(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => internal(other),
    }
}

fn until_cut_off(
    stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    mut cut_off: watch::Receiver<bool>,
) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let cut = async move {
        // An error says that the server itself is gone.
        let _gone = cut_off.wait_for(|cut| *cut).await;
        Err(Status::unavailable("the server is stopping; run the statement again later"))
    };
    // The cut is an item too, after which nothing follows: without it a client would take what it got for the whole answer.
    let items = stream.map(Some).chain(futures::stream::once(future::ready(None)));
    futures::stream::select_with_strategy(
        items,
        cut.into_stream().map(Some),
        // The cut is looked at first: a client that always has room would never let it through.
        |(): &mut ()| futures::stream::PollNext::Right,
    )
    .scan(false, |ended, item| {
        let item = if *ended { None } else { item };
        *ended = matches!(item, Some(Err(_)) | None);
        future::ready(item)
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int32Array, StringViewArray};

    use super::*;

    fn batch() -> RecordBatch {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["short", "long enough to leave its view"]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        RecordBatch::try_from_iter([("s", views), ("n", numbers)]).unwrap()
    }

    async fn statuses(stream: FlightStream) -> Vec<Result<(), Status>> {
        stream.map(|item| item.map(|_| ())).collect().await
    }

    #[test]
    fn views_leave_as_plain_strings() {
        let batch = batch();
        let plain = plain_batch(batch.clone(), &plain_schema(&batch.schema())).unwrap();
        assert_eq!(plain.column(0).as_string::<i32>().value(1), "long enough to leave its view");
        assert_eq!(plain.schema().field(0).data_type(), &DataType::Utf8);
    }

    #[tokio::test]
    async fn whole_stream_ends_without_error() {
        let (_cut, cut_off) = watch::channel(false);
        let items = statuses(encoded_batch(batch(), cut_off)).await;
        assert_eq!(items.len(), 2, "a schema and a batch");
        assert!(items.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn panic_in_a_stream_is_an_internal_error() {
        let (_cut, cut_off) = watch::channel(false);
        let batches: Batches = Box::pin(futures::stream::once(async { panic!("boom") }));
        let items = statuses(encoded(&batch().schema(), batches, cut_off)).await;
        assert_eq!(items.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Internal);
    }

    #[tokio::test]
    async fn stopping_server_ends_a_stream_with_an_error() {
        let (cut, cut_off) = watch::channel(false);
        let batches: Batches = Box::pin(futures::stream::pending());
        let stream = tokio::spawn(statuses(encoded(&batch().schema(), batches, cut_off)));
        cut.send_replace(true);
        let items = stream.await.unwrap();
        assert_eq!(items.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Unavailable);
    }
}
