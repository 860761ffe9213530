//! What the connectors' runs of the conformance suite have in common.

#![allow(dead_code, reason = "a build with fewer connectors does not use all of it")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use headwater_connectors::conformance::{self, Expectations, Flaky, FlakyPlan, Throttled};
use headwater_source::{ScalarValue, ServiceName, Source};

/// The table that holds the fixture at every source.
pub(crate) const TABLE: &str = "conformance";

/// Runs the suite over the source as it is.
pub(crate) async fn plain(source: Arc<dyn Source>, table: &str, rows: RecordBatch) {
    let checked = conformance::check(source, &Expectations::new(table, rows)).await;
    checked.unwrap_or_else(|violation| panic!("{violation}"));
}

/// Runs the suite over the source as it is, slowed down, and made to fail now and then.
pub(crate) async fn plain_throttled_and_flaky(source: Arc<dyn Source>, table: &str, rows: RecordBatch) {
    plain(Arc::clone(&source), table, rows.clone()).await;
    plain(Arc::new(Throttled::new(Arc::clone(&source), Duration::from_micros(50))), table, rows.clone()).await;
    let flaky = Flaky::new(source, ServiceName::parse("shop").unwrap(), FlakyPlan::seeded(7));
    let checked = conformance::check(Arc::new(flaky), &Expectations::new(table, rows).retrying()).await;
    checked.unwrap_or_else(|violation| panic!("{violation}"));
}

/// The rows with one column in another form.
pub(crate) fn with_column(rows: &RecordBatch, name: &str, change: impl FnOnce(&ArrayRef) -> ArrayRef) -> RecordBatch {
    let index = rows.schema().index_of(name).unwrap();
    let mut columns = rows.columns().to_vec();
    columns[index] = change(&columns[index]);
    with_columns(rows, columns)
}

/// The rows with other columns in their place, under the same names.
fn with_columns(rows: &RecordBatch, columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = rows
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The column as another type.
pub(crate) fn as_type(data_type: DataType) -> impl FnOnce(&ArrayRef) -> ArrayRef {
    move |column| cast(column, &data_type).unwrap()
}

/// The rows with the column `label` as a padding type is read: without trailing spaces.
pub(crate) fn trimmed(rows: &RecordBatch) -> RecordBatch {
    with_column(rows, "label", |labels| {
        let labels = labels.as_string::<i32>().iter();
        Arc::new(labels.map(|label| label.map(|label| label.trim_end_matches(' '))).collect::<StringArray>())
    })
}

/// The rows with the column `ratio` as a source without -0.0 stores it.
pub(crate) fn without_negative_zero(rows: &RecordBatch) -> RecordBatch {
    with_column(rows, "ratio", |ratios| {
        Arc::new(ratios.as_primitive::<Float64Type>().unary::<_, Float64Type>(|ratio| ratio + 0.0))
    })
}

/// A value as Arrow prints it.
fn printed(value: &ScalarValue) -> String {
    let text = cast(&value.to_array().unwrap(), &DataType::Utf8).unwrap();
    text.as_string::<i32>().value(0).to_owned()
}

/// One INSERT of all rows. `text` and `bytes` write what each server's SQL writes in its own way.
pub(crate) fn insert(
    table: &str,
    rows: &RecordBatch,
    text: impl Fn(&str) -> String,
    bytes: impl Fn(&[u8]) -> String,
) -> String {
    let literal = |value: ScalarValue| match &value {
        value if value.is_null() => "NULL".to_owned(),
        ScalarValue::Int64(Some(integer)) => integer.to_string(),
        ScalarValue::Boolean(Some(flag)) => flag.to_string(),
        // As text, because a numeral is a decimal number first, and those have no -0.0.
        ScalarValue::Float64(Some(number)) => format!("'{number:e}'"),
        ScalarValue::Utf8(Some(value)) => text(value),
        ScalarValue::Binary(Some(value)) => bytes(value),
        other => format!("'{}'", printed(other)),
    };
    let row = |row: usize| {
        let values: Vec<String> =
            rows.columns().iter().map(|column| literal(ScalarValue::try_from_array(column, row).unwrap())).collect();
        format!("({})", values.join(", "))
    };
    let rows: Vec<String> = (0..rows.num_rows()).map(row).collect();
    format!("INSERT INTO {table} VALUES {}", rows.join(", "))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
