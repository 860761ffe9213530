//! What each format's values become.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int8Type, TimeUnit};
use headwater_source::{OptionValue, ScanRequest};

use super::{Shop, lines, people, text, types};

#[tokio::test]
async fn one_table_in_every_format_gives_the_same_rows() {
    let shop = Shop::new();
    shop.parquet("p.parquet", &people(1, 3));
    shop.ipc("a.arrow", &people(1, 3));
    shop.write("c.csv", "id,name\n1,name 1\n2,name 2\n3,\n");
    shop.write("j.json", "{\"id\":1,\"name\":\"name 1\"}\n{\"id\":2,\"name\":\"name 2\"}\n{\"id\":3}\n");
    for from in ["p.parquet", "a.arrow", "c.csv", "j.json", "p", "j"] {
        assert_eq!(shop.rows(from).await, ["1|name 1", "2|name 2", "3|"], "{from}");
        assert_eq!(types(&*shop.table(from).await), ["id Int64", "name Utf8"], "{from}");
    }
    assert_eq!(shop.table("p").await.rows_estimate, Some(3));
}

#[tokio::test]
async fn parquet_and_ipc_types_become_the_house_types() {
    let shop = Shop::new();
    let dictionary: DictionaryArray<Int8Type> = ["x", "y"].into_iter().collect();
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dictionary", Arc::new(dictionary)),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a", "a long text that is not inlined"]))),
        ("bytes", Arc::new(BinaryViewArray::from(vec![b"a".as_slice(), b"\xff"]))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter(["ab", "cd"].iter()).unwrap())),
        ("float", Arc::new(Float64Array::from(vec![-0.0, nan]))),
        ("seconds", Arc::new(TimestampSecondArray::from(vec![-62_000_000_000, 0]))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![1, 2]).with_timezone("+00:00"))),
        ("time", Arc::new(Time32MillisecondArray::from(vec![1, 2]))),
        ("decimal", Arc::new(Decimal128Array::from(vec![1, -99]).with_precision_and_scale(38, 10).unwrap())),
        ("big", Arc::new(UInt64Array::from(vec![0, u64::MAX]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    shop.parquet("t.parquet", &batch);
    shop.ipc("i.arrow", &batch);
    for from in ["t.parquet", "i.arrow"] {
        let table = shop.table(from).await;
        let expected = [
            DataType::Utf8,
            DataType::Utf8,
            DataType::Utf8,
            DataType::Binary,
            DataType::Binary,
            DataType::Float64,
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Decimal128(38, 10),
            DataType::UInt64,
        ];
        let found: Vec<DataType> = table.columns.iter().map(|column| column.data_type.clone()).collect();
        assert_eq!(found, expected, "{from}");
        let batches = shop.read(ScanRequest::all(table)).await.unwrap();
        let floats = batches[0].column(5).as_any().downcast_ref::<Float64Array>().unwrap();
        assert_eq!(floats.value(0).to_bits(), (-0.0_f64).to_bits());
        assert_eq!(floats.value(1).to_bits(), f64::NAN.to_bits(), "one NaN for every connector");
        assert!(
            lines(&batches)[1].starts_with("y|b|a long text that is not inlined|ff|6364|"),
            "{:?}",
            lines(&batches)
        );
    }
}

#[tokio::test]
async fn int96_timestamps_reach_beyond_what_nanoseconds_hold() {
    use datafusion::parquet::data_type::{Int96, Int96Type};
    use datafusion::parquet::file::writer::SerializedFileWriter;
    use datafusion::parquet::schema::parser::parse_message_type;

    let shop = Shop::new();
    let schema = Arc::new(parse_message_type("message m { required int96 at; }").unwrap());
    let file = std::fs::File::create(shop.path("t.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // Nanoseconds of the day, then the Julian day: 1000-01-01, 1970-01-01 and 3000-01-01.
    let days = [2_086_303, 2_440_588, 2_816_788].map(|day| {
        let mut value = Int96::new();
        value.set_data(1_000, 0, day);
        value
    });
    column.typed::<Int96Type>().write_batch(&days, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let expected = ["1000-01-01T00:00:00.000001", "1970-01-01T00:00:00.000001", "3000-01-01T00:00:00.000001"];
    assert_eq!(shop.rows("t").await, expected);
    assert_eq!(types(&*shop.table("t").await), ["at Timestamp(µs)"]);
}

#[tokio::test]
async fn arrow_stream_is_read_like_an_arrow_file() {
    let shop = Shop::new();
    let file = std::fs::File::create(shop.path("s.arrows")).unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &people(1, 2).schema()).unwrap();
    writer.write(&people(1, 2)).unwrap();
    writer.write(&people(3, 1)).unwrap();
    writer.finish().unwrap();
    assert_eq!(shop.rows("s").await, ["1|name 1", "2|name 2", "3|"]);
}

#[tokio::test]
async fn nested_values_keep_their_shape_with_plain_types_inside() {
    let shop = Shop::new();
    shop.write("n.json", "{\"tags\":[\"a\",\"b\"],\"at\":{\"y\":1,\"x\":2.5}}\n{\"tags\":[],\"at\":null}\n");
    assert_eq!(shop.rows("n.json").await, ["{x: 2.5, y: 1}|[a, b]", "|[]"]);
    let table = shop.table("n.json").await;
    let batches = shop.read(ScanRequest::all(table)).await.unwrap();
    shop.parquet("n.parquet", &batches[0]);
    shop.ipc("n.arrow", &batches[0]);
    assert_eq!(shop.rows("n.parquet").await, shop.rows("n.json").await);
    assert_eq!(shop.rows("n.arrow").await, shop.rows("n.json").await);
}

#[tokio::test]
async fn csv_keeps_quotes_line_breaks_and_leading_zeros() {
    let shop = Shop::new();
    shop.write(
        "c.csv",
        "\u{feff}zip,note,\"the \"\"name\"\"\"\n01234,\"two\nlines, \"\"quoted\"\"\",ä€𝄞\n99999,,\"\"\n",
    );
    let table = shop.table("c.csv").await;
    assert_eq!(types(&table), ["zip Utf8", "note Utf8", "the \"name\" Utf8"]);
    let batches = shop.read(ScanRequest::all(table)).await.unwrap();
    let notes = batches[0].column(1).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!(notes.value(0), "two\nlines, \"quoted\"");
    assert!(notes.is_null(1));
}

#[tokio::test]
async fn csv_dialect_is_as_configured() {
    let options = [
        ("delimiter", text(";")),
        ("quote", text("'")),
        ("header", OptionValue::Flag(false)),
        ("null_value", text("N/A")),
    ];
    let shop = Shop::with(&options);
    shop.write("c.csv", "1;'a;b';N/A\nN/A;;2.5\n");
    assert_eq!(types(&*shop.table("c.csv").await), ["column_1 Int64", "column_2 Utf8", "column_3 Float64"]);
    assert_eq!(shop.rows("c.csv").await, ["1|a;b|", "||2.5"]);
    let tabs = Shop::new();
    tabs.write("t.tsv", "a\tb\n1\t2,3\n");
    assert_eq!(tabs.rows("t").await, ["1|2,3"]);
}

#[tokio::test]
async fn csv_times_are_microseconds() {
    let shop = Shop::new();
    shop.write(
        "c.csv",
        "day,at,ok\n0001-01-01,9999-12-31T23:59:59.999999,true\n2024-02-29,2024-02-29 00:00:00,false\n",
    );
    let table = shop.table("c.csv").await;
    assert_eq!(table.columns[0].data_type, DataType::Date32);
    assert_eq!(table.columns[1].data_type, DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(
        shop.rows("c.csv").await,
        ["0001-01-01|9999-12-31T23:59:59.999999|true", "2024-02-29|2024-02-29T00:00:00|false"]
    );
}

/// `printf 'id,name\n1,x\n2,y\n' | gzip -n`
pub(super) fn gzip() -> Vec<u8> {
    const GZIP: &str = "1f8b0800000000000003cb4cd1c94bcc4de532d4a9e032d2a9e402006c5af6c010000000";
    (0..GZIP.len()).step_by(2).map(|at| u8::from_str_radix(&GZIP[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn compressed_text_is_read_by_its_extension() {
    let shop = Shop::new();
    shop.write("c.csv.gz", gzip());
    assert_eq!(shop.rows("c").await, ["1|x", "2|y"]);
}

#[tokio::test]
async fn files_without_rows_are_tables_without_rows() {
    let shop = Shop::new();
    shop.parquet("p.parquet", &people(1, 0));
    shop.ipc("a.arrow", &people(1, 0));
    shop.write("c.csv", "id,name\n");
    for from in ["p.parquet", "a.arrow", "c.csv"] {
        assert_eq!(shop.rows(from).await, Vec::<String>::new(), "{from}");
        assert_eq!(shop.table(from).await.columns.len(), 2, "{from}");
    }
    shop.write("empty.csv", "");
    let report = shop.error("empty.csv").await.report();
    assert!(report.contains("empty.csv") && report.contains("no columns"), "{report}");
}
