//! Which files a table is made of.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use headwater_source::{CompareOp, Error, Expr, ScalarValue};

use super::{Shop, lines, open, people, types};

#[tokio::test]
async fn file_directory_and_glob_are_tables() {
    let shop = Shop::new();
    for (month, first) in [("2024-01", 1), ("2024-02", 4)] {
        shop.parquet(&format!("orders/{month}/part-0.parquet"), &people(first, 2));
        shop.parquet(&format!("orders/{month}/part-1.parquet"), &people(first + 2, 1));
    }
    shop.write("orders/_SUCCESS", "");
    shop.write("orders/.part-0.parquet.crc", "x");
    assert_eq!(shop.rows("orders").await.len(), 6);
    assert_eq!(shop.rows("./orders/").await.len(), 6);
    assert_eq!(shop.rows("orders/2024-01/part-*.parquet").await, ["1|name 1", "2|name 2", "3|"]);
    assert_eq!(shop.rows("orders/**/part-1.parquet").await, ["3|", "6|"]);
    assert_eq!(shop.rows("orders/2024-0[2-9]/part-?.parquet").await, ["4|name 4", "5|name 5", "6|"]);
    assert_eq!(shop.rows("orders/2024-01/part-1.parquet").await, ["3|"]);
}

#[tokio::test]
async fn every_file_and_directory_is_published_under_its_own_name() {
    let shop = Shop::new();
    shop.parquet("supplier.parquet", &people(1, 1));
    shop.write("nations.csv", "id\n1\n");
    shop.write("nations.json", "{\"id\":1}\n");
    shop.write("parts/a.csv", "id\n1\n");
    shop.write("parts/deeper/b.csv", "id\n2\n");
    shop.write("README.md", "not data");
    shop.write("corrupt.parquet", "not parquet at all");
    shop.write("mixed/a.csv", "id\n1\n");
    shop.write("mixed/b.json", "{\"id\":1}\n");
    std::fs::create_dir(shop.directory.path().join("empty")).unwrap();
    let mut names: Vec<(String, String)> =
        shop.source.tables().await.unwrap().into_iter().map(|table| (table.name.clone(), table.full_name())).collect();
    names.sort();
    let expected = [
        ("nations.csv", "nations.csv"),
        ("nations.json", "nations.json"),
        ("parts", "parts/"),
        ("supplier", "supplier.parquet"),
    ];
    assert_eq!(names, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    assert_eq!(shop.rows("parts").await, ["1", "2"]);
}

#[tokio::test]
async fn strange_names_are_only_names() {
    let shop = Shop::new();
    for name in ["O'Brien \"x\".csv", "Großer Ordner/ä b.csv", "100%.csv", "a#b?.csv", "x[1]*.csv"] {
        shop.write(name, "\"Col \"\"A\"\"\",naïve,SELECT\n1,2,3\n");
        assert_eq!(shop.rows(name).await, ["1|2|3"], "{name}");
        assert_eq!(types(&*shop.table(name).await), ["Col \"A\" Int64", "naïve Int64", "SELECT Int64"], "{name}");
    }
}

#[tokio::test]
async fn partitions_are_columns_and_prune_files_before_they_are_read() {
    let shop = Shop::new();
    shop.write("sales/dt=2024-01-01/region=eu/a.csv", "id\n1\n");
    shop.write("sales/dt=2024-01-02/region=S%C3%A3o/a.csv", "id\n2\n");
    shop.write("sales/dt=2024-01-02/region=__HIVE_DEFAULT_PARTITION__/a.csv", "id\n3\n");
    assert_eq!(types(&*shop.table("sales").await), ["id Int64", "dt Utf8", "region Utf8"]);
    assert_eq!(shop.rows("sales").await, ["1|2024-01-01|eu", "2|2024-01-02|São", "3|2024-01-02|"]);

    let mut request = shop.request("sales").await;
    let equal = |column, value: &str| {
        Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(ScalarValue::from(value)))
    };
    request.filters = vec![equal(1, "2024-01-02"), Expr::IsNull(Box::new(Expr::Column(2)))];
    request.projection = vec![2, 0];
    let scan = shop.source.prepare(request.clone()).await.unwrap();
    let statement = scan.statement();
    assert_eq!(
        statement.text,
        "csv sales/ columns=[region, id] filter=[dt = $1 AND region IS NULL] files=1 of 3 bytes=5 partitions=1"
    );
    assert_eq!(statement.binds[0].remote_type, "Utf8");
    assert_eq!(lines(&shop.read(request.clone()).await.unwrap()), ["|3"]);
    request.filters = vec![equal(1, "1999-01-01")];
    assert_eq!(lines(&shop.read(request).await.unwrap()), Vec::<String>::new());
    assert_eq!(shop.source.tables().await.unwrap().len(), 1);
}

#[tokio::test]
async fn partition_directories_directly_under_the_url_are_one_table() {
    let shop = Shop::new();
    shop.write("dt=1/a.csv", "id\n1\n");
    shop.write("dt=2/a.csv", "id\n2\n");
    assert_eq!(shop.rows(".").await, ["1|1", "2|2"]);
    let tables = shop.source.tables().await.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!(shop.rows(&tables[0].full_name()).await, ["1|1", "2|2"]);
}

#[tokio::test]
async fn files_of_different_schemas_are_joined_by_column_name_where_nothing_is_lost() {
    let shop = Shop::new();
    let narrow = RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![9])) as ArrayRef)]).unwrap();
    shop.parquet("t/a.parquet", &narrow);
    shop.parquet("t/b.parquet", &people(1, 2));
    assert_eq!(types(&*shop.table("t").await), ["id Int64", "name Utf8"]);
    assert_eq!(shop.rows("t").await, ["1|name 1", "2|name 2", "9|"]);
    shop.write("c/a.csv", "b,a\n01,x\n");
    shop.write("c/b.csv", "a,b,c\n5,7,2.5\n");
    assert_eq!(types(&*shop.table("c").await), ["b Utf8", "a Utf8", "c Float64"]);
    assert_eq!(shop.rows("c").await, ["01|x|", "7|5|2.5"]);
    let texts = RecordBatch::try_from_iter([("id", people(1, 2).column(1).clone())]).unwrap();
    shop.parquet("t/c.parquet", &texts);
    let report = shop.error("t").await.report();
    assert!(report.contains("t/c.parquet") && report.contains("\"id\""), "{report}");
}

#[tokio::test]
async fn two_formats_in_one_table_are_named() {
    let shop = Shop::new();
    shop.write("t/a.csv", "id\n1\n");
    shop.write("t/b.json", "{\"id\":1}\n");
    let report = shop.error("t").await.report();
    assert!(report.contains("t/a.csv") && report.contains("t/b.json"), "{report}");
    assert_eq!(shop.rows("t/*.csv").await, ["1"]);
}

#[tokio::test]
async fn missing_table_is_not_found_with_its_neighbour() {
    let shop = Shop::new();
    shop.write("supplier.csv", "id\n1\n");
    let error = shop.source.table("suplier.csv").await.unwrap_err();
    assert!(matches!(error, Error::TableNotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("did you mean \"supplier.csv\""), "{error}");
    for from in ["nothing/", "no*thing.csv", ""] {
        let result = shop.source.table(from).await;
        assert!(from.is_empty() || matches!(result, Err(Error::TableNotFound { .. })), "{from}: {result:?}");
    }
    for from in ["../x.csv", "/etc/passwd"] {
        assert!(matches!(shop.source.table(from).await, Err(Error::Config { .. })), "{from}");
    }
}

#[tokio::test]
async fn directory_that_comes_later_works_once_it_is_there() {
    let parent = tempfile::tempdir().unwrap();
    let source = open(parent.path(), "./later", &[]).unwrap();
    assert!(
        source.location().ends_with("/later") && source.location().starts_with("file:///"),
        "{}",
        source.location()
    );
    assert!(matches!(source.tables().await, Err(Error::Unavailable { .. })));
    std::fs::create_dir(parent.path().join("later")).unwrap();
    assert_eq!(source.tables().await.unwrap(), vec![]);
    std::fs::write(parent.path().join("later/a.csv"), "id\n1\n").unwrap();
    assert_eq!(source.tables().await.unwrap().len(), 1);
}
