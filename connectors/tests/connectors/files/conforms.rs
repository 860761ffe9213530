//! The conformance suite, in every format.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use headwater_connectors::conformance::fixture;

use super::Shop;
use crate::conforming::{as_type, plain, plain_throttled_and_flaky, with_column};

#[tokio::test(flavor = "multi_thread")]
async fn parquet_conforms_plain_throttled_and_flaky() {
    let shop = Shop::new();
    // Small row groups, so that statistics decide much.
    shop.parquet_in_groups("t.parquet", &fixture::rows(), 25);
    plain_throttled_and_flaky(shop.source.clone(), "t.parquet", fixture::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_ipc_conforms_plain_throttled_and_flaky() {
    let shop = Shop::new();
    shop.ipc("t.arrow", &fixture::rows());
    plain_throttled_and_flaky(shop.source.clone(), "t.arrow", fixture::rows()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_of_several_files_conforms() {
    let shop = Shop::new();
    let rows = fixture::rows();
    for (file, first) in (0..rows.num_rows()).step_by(20).enumerate() {
        let part = rows.slice(first, 20.min(rows.num_rows() - first));
        shop.parquet(&format!("t/{file}.parquet"), &part);
    }
    plain(shop.source.clone(), "t/", rows).await;
}

/// The fixture as text formats hold it: decimals are numbers with a point, and there are no binary strings.
fn written() -> RecordBatch {
    let rows = with_column(&fixture::rows(), "amount", as_type(DataType::Float64));
    let columns: Vec<usize> = (0..rows.num_columns() - 1).collect();
    rows.project(&columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_conforms_plain_throttled_and_flaky() {
    let shop = Shop::new();
    let file = File::create(shop.path("t.csv")).unwrap();
    arrow::csv::Writer::new(file).write(&written()).unwrap();
    // An empty field is NULL.
    let rows = with_column(&written(), "label", |labels| {
        let labels = labels.as_string::<i32>().iter();
        Arc::new(labels.map(|label| label.filter(|label| !label.is_empty())).collect::<StringArray>())
    });
    plain_throttled_and_flaky(shop.source.clone(), "t.csv", rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_conform_plain_throttled_and_flaky() {
    let shop = Shop::new();
    // JSON has no dates.
    let rows = with_column(&written(), "day", as_type(DataType::Utf8));
    let rows = with_column(&rows, "moment", as_type(DataType::Utf8));
    let mut writer = arrow::json::LineDelimitedWriter::new(File::create(shop.path("t.json")).unwrap());
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    // An object's keys have no order: the columns stand by name.
    let mut columns: Vec<usize> = (0..rows.num_columns()).collect();
    columns.sort_by_key(|column| rows.schema().field(*column).name().clone());
    plain_throttled_and_flaky(shop.source.clone(), "t.json", rows.project(&columns).unwrap()).await;
}
