//! The parameters of a prepared statement: from a client's record batches to typed values.
//!
//! A client sends the types that its language has; the engine knows the types that the statement needs. A value is converted where
//! nothing of it is lost and refused by name where something would be: `id = $1` with 1.5 is an error, never `id = 1`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use tonic::Status;

/// The values of one execution.
pub(super) type Row = Vec<ScalarValue>;

/// Reads the rows that a client binds, as the types that the statement takes.
pub(super) async fn read(
    stream: PeekableFlightDataStream,
    parameters: &SchemaRef,
    rows_max: usize,
) -> Result<Vec<Row>, Status> {
    let data = stream.into_peekable().map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let mut rows = Vec::new();
    while let Some(batch) = batches.try_next().await.map_err(unreadable)? {
        if rows.len() + batch.num_rows() > rows_max {
            let message = format!("more than {rows_max} rows of parameters are bound; bind fewer at a time");
            return Err(Status::resource_exhausted(message));
        }
        rows.extend(rows_of(&batch, parameters)?);
    }
    Ok(rows)
}

/// The schema of parameters as clients get it. A type that the statement leaves open is Null: any may be bound.
pub(super) fn schema(parameters: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> =
        parameters.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

fn unreadable(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::invalid_argument(format!("the parameters can't be read: {other}")),
    }
}

fn rows_of(batch: &RecordBatch, parameters: &SchemaRef) -> Result<Vec<Row>, Status> {
    let wanted = parameters.fields().len();
    if batch.num_columns() != wanted {
        let message = format!("the statement has {wanted} parameters and {} are bound", batch.num_columns());
        return Err(Status::invalid_argument(message));
    }
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(parameters.fields())
        .map(|(column, field)| converted(column, field))
        .collect::<Result<_, _>>()?;
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| scalar(column, row)).collect()).collect()
}

fn scalar(column: &ArrayRef, row: usize) -> Result<ScalarValue, Status> {
    ScalarValue::try_from_array(column, row).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A column of values as the type of its parameter.
pub(crate) fn converted(column: &ArrayRef, parameter: &Field) -> Result<ArrayRef, Status> {
    let (from, to) = (column.data_type(), parameter.data_type());
    if from == to || to.is_null() {
        return Ok(Arc::clone(column));
    }
    if from.is_null() {
        return Ok(new_null_array(to, column.len()));
    }
    let refused = |reason: &dyn std::fmt::Display| {
        let message =
            format!("parameter {} takes {to}, and the {from} bound to it does not fit: {reason}", parameter.name());
        Status::invalid_argument(message)
    };
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    // Messages of a cast quote the value that fails; statuses hold no values.
    let result = cast_with_options(column, to, &strict).map_err(|_| refused(&"it can't be converted"))?;
    // Text is parsed strictly; there is more than one way to write the same number or day.
    if is_text(from) {
        return Ok(result);
    }
    let back = cast_with_options(&result, from, &strict).map_err(|_| refused(&"it can't be converted"))?;
    if back.to_data() != column.to_data() && !same(&back, column) {
        return Err(refused(&"digits would be lost"));
    }
    Ok(result)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Equality by value, for arrays whose buffers differ behind NULLs.
fn same(left: &ArrayRef, right: &ArrayRef) -> bool {
    (0..left.len()).all(|row| match (scalar(left, row), scalar(right, row)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, NullArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn bind(column: impl Array + 'static, to: DataType) -> Result<Row, Status> {
        let column: ArrayRef = Arc::new(column);
        let batch = RecordBatch::try_from_iter_with_nullable([("0", column, true)]).unwrap();
        let parameters = Arc::new(Schema::new(vec![Field::new("$1", to, true)]));
        Ok(rows_of(&batch, &parameters)?.swap_remove(0))
    }

    #[test]
    fn value_that_fits_takes_the_statements_type() {
        assert_eq!(bind(Int64Array::from(vec![7]), DataType::Int32).unwrap(), [ScalarValue::Int32(Some(7))]);
        assert_eq!(bind(Float64Array::from(vec![2.0]), DataType::Int64).unwrap(), [ScalarValue::Int64(Some(2))]);
        let decimal = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap();
        assert_eq!(bind(decimal, DataType::Decimal128(10, 4)).unwrap(), [ScalarValue::Decimal128(Some(15_000), 10, 4)]);
        let zone: Arc<str> = Arc::from("UTC");
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone)));
        assert_eq!(
            bind(TimestampMicrosecondArray::from(vec![-1]), instant).unwrap(),
            [ScalarValue::TimestampMicrosecond(Some(-1), Some(zone))]
        );
        assert_eq!(
            bind(StringArray::from(vec!["1970-01-02"]), DataType::Date32).unwrap(),
            [ScalarValue::Date32(Some(1))]
        );
    }

    #[test]
    fn value_that_would_lose_something_is_refused_by_name() {
        for refused in [
            bind(Float64Array::from(vec![1.5]), DataType::Int64),
            bind(Int64Array::from(vec![1 << 40]), DataType::Int32),
            bind(Int64Array::from(vec![(1 << 53) + 1]), DataType::Float64),
            bind(StringArray::from(vec!["canary"]), DataType::Int64),
        ] {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with("parameter $1 takes "), "{status}");
            assert!(!status.message().contains("canary"), "{status}");
        }
    }

    #[test]
    fn null_takes_the_statements_type_and_an_open_type_takes_the_clients() {
        assert_eq!(bind(NullArray::new(1), DataType::Utf8).unwrap(), [ScalarValue::Utf8(None)]);
        assert_eq!(bind(Int64Array::from(vec![None, Some(1)]), DataType::Int16).unwrap(), [ScalarValue::Int16(None)]);
        assert_eq!(bind(Int64Array::from(vec![1]), DataType::Null).unwrap(), [ScalarValue::Int64(Some(1))]);
    }

    #[test]
    fn wrong_number_of_parameters_is_refused() {
        let batch = RecordBatch::try_from_iter([("0", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let status = rows_of(&batch, &Arc::new(Schema::empty())).unwrap_err();
        assert_eq!(status.message(), "the statement has 0 parameters and 1 are bound");
    }
}
