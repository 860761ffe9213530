//! Files that are broken, change or vanish.

use std::sync::Arc;

use futures::StreamExt;
use headwater_source::{Error, OptionValue, ScanRequest};

use super::{Shop, people};

#[tokio::test]
async fn corrupt_files_are_named() {
    let shop = Shop::new();
    shop.write("bad.parquet", "this is not parquet, whatever its name says");
    shop.write("bad.arrow", "neither is this");
    shop.write("bad.json", "{\"id\": 1}\n{\"id\": }\n");
    shop.write("ragged.csv", "a,b\n1,2\n1,2,3\n");
    for name in ["bad.parquet", "bad.arrow", "bad.json", "ragged.csv"] {
        let error = shop.error(name).await;
        let report = error.report();
        assert!(matches!(error, Error::Interrupted { .. }), "{name}: {error:?}");
        assert!(report.contains(name) && report.contains("suppliers"), "{report}");
    }
    let whole = std::fs::read({
        shop.parquet("cut.parquet", &people(0, 1000));
        shop.path("cut.parquet")
    })
    .unwrap();
    shop.write("cut.parquet", &whole[..whole.len() / 2]);
    assert!(shop.error("cut.parquet").await.report().contains("cut.parquet"));
}

#[tokio::test]
async fn compressed_file_that_is_cut_is_an_error_and_no_short_answer() {
    let shop = Shop::new();
    for (name, bytes) in [("cut.csv.gz", super::formats::gzip()), ("cut.json.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 0x04])]
    {
        shop.write(name, &bytes[..bytes.len() - 4]);
        let report = shop.error(name).await.report();
        assert!(report.contains(name), "{report}");
    }
}

#[tokio::test]
async fn value_beyond_the_sampled_rows_that_does_not_fit_names_file_and_column() {
    let shop = Shop::with(&[("infer_rows", OptionValue::Count(2))]);
    let rows = "1,2024-01-01T00:00:00\n2,2024-01-01T00:00:00\n";
    shop.write("i.csv", format!("id,at\n{rows}canary,2024-01-01T00:00:00\n"));
    shop.write("t.csv", format!("id,at\n{rows}3,2024-01-01T00:00:00.123456789\n"));
    shop.write("f.json", "{\"id\":1}\n{\"id\":2}\n{\"id\":1.5}\n");
    shop.write("o.json", "{\"id\":1}\n{\"id\":2}\n{\"id\":[3]}\n");
    for (name, column) in [("i.csv", "id"), ("t.csv", "at"), ("f.json", "id"), ("o.json", "id")] {
        let error = shop.error(name).await;
        let text = error.report();
        assert!(matches!(&error, Error::Value { column: found, .. } if found == column), "{name}: {text}");
        assert!(text.contains(name) && !text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn schema_that_changed_since_planning_is_an_error_and_new_rows_are_not() {
    let shop = Shop::new();
    shop.parquet("t/a.parquet", &people(0, 2));
    let planned = shop.request("t").await;
    shop.parquet("t/b.parquet", &people(2, 2));
    let rows: usize = shop.read(planned.clone()).await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 4);
    shop.parquet("t/b.parquet", &people(2, 2).project(&[1]).unwrap());
    let error = shop.source.prepare(planned.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::SchemaChanged { change, .. } if change.contains("\"id\"")), "{error:?}");
    std::fs::remove_dir_all(shop.path("t")).unwrap();
    assert!(matches!(shop.source.prepare(planned).await, Err(Error::SchemaChanged { .. })));
}

#[tokio::test]
async fn file_that_is_replaced_or_removed_after_planning_is_an_error() {
    let shop = Shop::new();
    let csv = |rows: usize| format!("id\n{}", "12345\n".repeat(rows));
    for name in ["t.parquet", "t.csv", "t.arrow"] {
        let write = |rows: i64| match name {
            "t.parquet" => shop.parquet(name, &people(0, rows)),
            "t.arrow" => shop.ipc(name, &people(0, rows)),
            _ => shop.write(name, csv(rows as usize)),
        };
        write(100);
        let scan = shop.source.prepare(shop.request(name).await).await.unwrap();
        write(200);
        let error = first_error(&*scan).await;
        assert!(
            matches!(&error, Some(Error::SchemaChanged { change, .. }) if change.contains(name)),
            "{name}: {error:?}"
        );
        std::fs::remove_file(shop.path(name)).unwrap();
        let error = first_error(&*scan).await;
        assert!(
            matches!(&error, Some(Error::SchemaChanged { change, .. }) if change.contains(name)),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn file_that_is_replaced_or_cut_in_the_middle_of_a_scan_is_an_error() {
    let shop = Shop::new();
    let rows = "12345,some text that fills the line\n".repeat(200_000);
    for (name, cut) in [("replaced.csv", false), ("cut.csv", true)] {
        shop.write(name, format!("id,text\n{rows}"));
        let scan =
            shop.source.prepare(ScanRequest::all(Arc::new(shop.source.table(name).await.unwrap()))).await.unwrap();
        let mut stream = scan.open(0).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        match cut {
            true => std::fs::File::options().write(true).open(shop.path(name)).unwrap().set_len(300_000).unwrap(),
            false => {
                shop.write("other.csv", "id,text\n1,x\n");
                std::fs::rename(shop.path("other.csv"), shop.path(name)).unwrap();
            }
        }
        let mut error = None;
        while let Some(batch) = stream.next().await {
            error = error.or(batch.err());
        }
        let report = error.map(|error| error.report()).unwrap_or_default();
        assert!(report.contains(name), "{name}: {report}");
    }
}

async fn first_error(scan: &dyn headwater_source::Scan) -> Option<Error> {
    let mut stream = match scan.open(0).await {
        Ok(stream) => stream,
        Err(error) => return Some(error),
    };
    while let Some(batch) = stream.next().await {
        if let Err(error) = batch {
            return Some(error);
        }
    }
    None
}
