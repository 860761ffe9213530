//! Large files: partitions, early drops, memory and time.

use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use headwater_source::{Error, OptionValue, Scan};

use super::{Shop, people};

/// Enough for two partitions of the least size in every text format.
const ROWS: i64 = 400_000;

async fn ids(scan: &dyn Scan) -> Vec<i64> {
    let mut ids = vec![];
    for partition in 0..scan.partitions() {
        let mut stream = scan.open(partition).await.unwrap();
        while let Some(batch) = stream.next().await {
            ids.extend_from_slice(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
    }
    ids.sort_unstable();
    ids
}

fn write_text(shop: &Shop, name: &str, line: impl Fn(i64) -> String, header: &str) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(shop.path(name)).unwrap());
    file.write_all(header.as_bytes()).unwrap();
    (0..ROWS).for_each(|id| file.write_all(line(id).as_bytes()).unwrap());
    file.flush().unwrap();
}

#[tokio::test]
async fn partitions_of_a_large_file_hold_every_row_once() {
    let shop = Shop::with(&[("newlines_in_values", OptionValue::Flag(false))]);
    write_text(&shop, "t.json", |id| format!("{{\"id\":{id},\"name\":\"row number {id}\"}}\n"), "");
    write_text(&shop, "t.csv", |id| format!("{id},row number {id}\n"), "id,name\n");
    shop.parquet_in_groups("t.parquet", &people(0, ROWS), 10_000);
    let expected: Vec<i64> = (0..ROWS).collect();
    for (name, parts) in [("t.json", 2), ("t.csv", 2), ("t.parquet", 1)] {
        let mut request = shop.request(name).await;
        request.projection = vec![0];
        let scan = shop.source.prepare(request).await.unwrap();
        let most = std::thread::available_parallelism().unwrap().get();
        assert!(scan.partitions() >= parts.min(most), "{name} has {} partitions", scan.partitions());
        assert_eq!(ids(&*scan).await, expected, "{name}");
        assert_eq!(ids(&*scan).await.len(), expected.len(), "{name} opened again");
    }
}

#[tokio::test]
async fn scan_is_read_anew_after_a_stream_was_dropped_early() {
    let shop = Shop::new();
    write_text(&shop, "t.csv", |id| format!("{id},row number {id}\n"), "id,name\n");
    let scan = shop.source.prepare(shop.request("t.csv").await).await.unwrap();
    let mut stream = scan.open(0).await.unwrap();
    let first: RecordBatch = stream.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 8192);
    drop(stream);
    assert_eq!(ids(&*scan).await.len(), ROWS as usize);
}

#[tokio::test]
async fn memory_of_a_scan_does_not_grow_with_the_file() {
    let shop = Shop::new();
    write_text(&shop, "t.csv", |id| format!("{id},{}\n", "x".repeat(100)), "id,name\n");
    let size = std::fs::metadata(shop.path("t.csv")).unwrap().len();
    let scan = shop.source.prepare(shop.request("t.csv").await).await.unwrap();
    let mut stream = scan.open(0).await.unwrap();
    let mut rows = 0;
    let mut peak = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        peak = peak.max(batch.get_array_memory_size());
    }
    assert_eq!(rows, ROWS as usize);
    assert!((peak as u64) < size / 20, "a batch held {peak} bytes of a file of {size}");
}

#[tokio::test]
async fn statement_that_takes_too_long_is_stopped() {
    let shop = Shop::with(&[("statement_timeout_ms", OptionValue::Count(1))]);
    write_text(&shop, "t.csv", |id| format!("{id},row number {id}\n"), "id,name\n");
    let scan = shop.source.prepare(shop.request("t.csv").await).await.unwrap();
    let mut stream = scan.open(0).await.unwrap();
    let mut error = None;
    while let Some(batch) = stream.next().await {
        error = error.or(batch.err());
    }
    assert!(matches!(error, Some(Error::Timeout { option: "statement_timeout_ms", .. })), "{error:?}");
}
