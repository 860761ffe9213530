//! What Parquet's footers tell of a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch};
use headwater_source::{ColumnStatistics, ScalarValue, TableStatistics};

use super::{Shop, people};

async fn statistics(shop: &Shop, from: &str) -> TableStatistics {
    let table = shop.table(from).await;
    let known = shop.source.statistics(&table).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let known = known.expect("the table has statistics");
    assert_eq!(known.columns.len(), table.columns.len());
    known
}

#[tokio::test]
async fn rows_nulls_ends_and_values_of_all_files_and_row_groups_are_known() {
    let shop = Shop::new();
    shop.parquet_in_groups("people/a.parquet", &people(0, 900), 100);
    shop.parquet_in_groups("people/b.parquet", &people(600, 600), 70);
    let known = statistics(&shop, "people").await;
    assert_eq!(known.rows, Some(1500));
    let [id, name] = known.columns.as_slice() else { panic!("{known:?}") };
    let expected = ColumnStatistics {
        distinct: Some(1200),
        null_fraction: Some(0.0),
        width_bytes: Some(8.0),
        min: Some(ScalarValue::Int64(Some(0))),
        max: Some(ScalarValue::Int64(Some(1199))),
    };
    assert_eq!(*id, expected);
    assert_eq!(name.null_fraction, Some(500.0 / 1500.0));
    assert_eq!(name.distinct, None);
    assert_eq!(name.min, Some(ScalarValue::Utf8(Some("name 1".to_owned()))));
    assert_eq!(name.max, Some(ScalarValue::Utf8(Some("name 998".to_owned()))));
}

#[tokio::test]
async fn spans_count_values_where_there_are_as_many_rows() {
    let shop = Shop::new();
    let rows = 0..1000;
    let key: ArrayRef = Arc::new(rows.clone().map(|row| Some(row % 25)).collect::<Int32Array>());
    let sparse: ArrayRef = Arc::new(rows.clone().map(|row| Some(i64::from(row) * 1_000_000)).collect::<Int64Array>());
    let day: ArrayRef = Arc::new(rows.clone().map(|row| Some(19_000 + row / 10)).collect::<Date32Array>());
    let price = rows.clone().map(|row| (row % 2 == 0).then(|| i128::from(row % 300)));
    let price: ArrayRef = Arc::new(price.collect::<Decimal128Array>().with_precision_and_scale(9, 2).unwrap());
    let weight: ArrayRef = Arc::new(rows.map(|row| Some(f64::from(row) / 8.0)).collect::<Float64Array>());
    let none: ArrayRef = Arc::new(Int32Array::from(vec![None; 1000]));
    let columns = [key, sparse, day, price, weight, none].map(|column| ("", column, true));
    let names = ["key", "sparse", "day", "price", "weight", "none"];
    let columns = names.into_iter().zip(columns).map(|(name, (_, column, nullable))| (name, column, nullable));
    shop.parquet("t.parquet", &RecordBatch::try_from_iter_with_nullable(columns).unwrap());
    let known = statistics(&shop, "t.parquet").await;
    let distinct: Vec<Option<u64>> = known.columns.iter().map(|column| column.distinct).collect();
    assert_eq!(distinct, [Some(25), None, Some(100), Some(299), None, None]);
    assert_eq!(known.columns[3].null_fraction, Some(0.5));
    assert_eq!((known.columns[5].null_fraction, &known.columns[5].min), (Some(1.0), &None));
    assert_eq!(known.columns[4].max, Some(ScalarValue::Float64(Some(124.875))));
}

#[tokio::test]
async fn partitions_and_columns_that_a_file_lacks_are_counted() {
    let shop = Shop::new();
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1_i64 << 40]));
    let narrow = RecordBatch::try_from_iter_with_nullable([("a", Arc::clone(&one), true), ("b", one, true)]).unwrap();
    shop.parquet("t/region=eu/1.parquet", &narrow);
    shop.parquet("t/region=us/2.parquet", &RecordBatch::try_from_iter_with_nullable([("a", wide, true)]).unwrap());
    let known = statistics(&shop, "t").await;
    let [a, b, region] = known.columns.as_slice() else { panic!("{known:?}") };
    assert_eq!((a.max.clone(), a.null_fraction), (Some(ScalarValue::Int64(Some(1 << 40))), Some(0.0)));
    assert_eq!((b.distinct, b.null_fraction), (Some(3), Some(0.25)));
    assert_eq!((region.distinct, region.null_fraction), (Some(2), Some(0.0)));
    shop.write("t.csv", "a\n1\n");
    let table = shop.table("t.csv").await;
    assert_eq!(shop.source.statistics(&table).await.unwrap(), None);
}
