//! Filters, projections and limits against the same filters evaluated over the whole table.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::Float64Type;
use headwater_source::{CompareOp, Error, Expr, Like, ScalarValue, ScanRequest, SortKey, Support};

use super::{Shop, lines};

const OPERATORS: [CompareOp; 6] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Less,
    CompareOp::LessOrEqual,
    CompareOp::Greater,
    CompareOp::GreaterOrEqual,
];

/// Edge values, in row groups of two rows so that statistics decide much.
fn edges() -> RecordBatch {
    let floats = vec![Some(f64::NAN), Some(1.0), Some(-0.0), Some(0.0), None, Some(5.0), Some(5.0), Some(f64::NAN)];
    let ints = vec![Some(i64::MIN), Some(0), Some(1), None, None, Some(7), Some(7), Some(i64::MAX)];
    let texts = vec![Some(""), Some("a"), Some("A"), Some("a%b"), None, Some("ä"), Some("a_b\\"), Some("𝄞")];
    RecordBatch::try_from_iter([
        ("f", Arc::new(Float64Array::from(floats)) as ArrayRef),
        ("i", Arc::new(Int64Array::from(ints)) as ArrayRef),
        ("t", Arc::new(LargeStringArray::from(texts)) as ArrayRef),
        ("n", Arc::new(Int64Array::from_iter_values(0..8)) as ArrayRef),
    ])
    .unwrap()
}

/// Which of Arrow's own comparisons hold, row by row; zeros are one zero, as the engine compares them.
fn expected(batch: &RecordBatch, column: usize, op: CompareOp, value: &ScalarValue) -> Vec<String> {
    use arrow::compute::kernels::cmp;
    let mut left = arrow::compute::cast(batch.column(column), &value.data_type()).unwrap();
    let mut right = value.clone();
    if let (Some(floats), ScalarValue::Float64(Some(number))) = (left.as_primitive_opt::<Float64Type>(), &mut right) {
        *number += 0.0;
        left = Arc::new(floats.unary::<_, Float64Type>(|float| float + 0.0));
    }
    let right = right.to_scalar().unwrap();
    let passed = match op {
        CompareOp::Equal => cmp::eq(&left, &right),
        CompareOp::NotEqual => cmp::neq(&left, &right),
        CompareOp::Less => cmp::lt(&left, &right),
        CompareOp::LessOrEqual => cmp::lt_eq(&left, &right),
        CompareOp::Greater => cmp::gt(&left, &right),
        CompareOp::GreaterOrEqual => cmp::gt_eq(&left, &right),
    };
    let rows = passed.unwrap();
    rows.iter().enumerate().filter(|(_, passed)| *passed == Some(true)).map(|(row, _)| row.to_string()).collect()
}

#[tokio::test]
async fn comparison_yields_just_the_rows_that_a_local_filter_finds() {
    let shop = Shop::new();
    let batch = edges();
    shop.parquet_in_groups("p.parquet", &batch, 2);
    shop.ipc("a.arrow", &batch);
    let values = [
        (0, ScalarValue::from(5.0)),
        (0, ScalarValue::from(0.0)),
        (0, ScalarValue::from(-0.0)),
        (0, ScalarValue::from(1e300)),
        (1, ScalarValue::from(0_i64)),
        (1, ScalarValue::from(7_i64)),
        (1, ScalarValue::from(i64::MAX)),
        (2, ScalarValue::from("a")),
        (2, ScalarValue::from("")),
        (2, ScalarValue::from("ä")),
    ];
    for from in ["p.parquet", "a.arrow"] {
        for (column, value) in &values {
            for op in OPERATORS {
                let filter = Expr::compare(op, Expr::Column(*column), Expr::Literal(value.clone()));
                let mut request = shop.request(from).await;
                let offer = shop.source.capabilities().offer(&filter, &request.table);
                assert_eq!(offer.support, Support::Exact);
                request.filters = vec![offer.filter.unwrap()];
                request.projection = vec![3];
                let found = lines(&shop.read(request).await.unwrap());
                assert_eq!(found, expected(&batch, *column, op, value), "{from} column {column} {op:?} {value:?}");
            }
        }
    }
}

#[tokio::test]
async fn logic_sets_and_patterns_yield_just_the_right_rows() {
    let shop = Shop::new();
    shop.parquet_in_groups("p.parquet", &edges(), 2);
    shop.write("c.csv", "f,i,t,n\n1.5,1,a%b,0\n,,,1\n2.5,2,aXb,2\n");
    let like = |pattern: &str, negated| {
        Expr::Like(Like { expr: Expr::Column(2).into(), pattern: pattern.to_owned(), negated, case_insensitive: false })
    };
    let set =
        |column, values: Vec<ScalarValue>, negated| Expr::InList { expr: Expr::Column(column).into(), values, negated };
    let int = |op, value: i64| Expr::compare(op, Expr::Column(1), Expr::Literal(ScalarValue::from(value)));
    let cases: Vec<(&str, Expr, &[&str])> = vec![
        ("p.parquet", like("a\\%b", false), &["3"]),
        ("p.parquet", like("a%", true), &["0", "2", "5", "7"]),
        ("p.parquet", like("_", false), &["1", "2", "5", "7"]),
        ("p.parquet", set(0, vec![0.0.into(), 5.0.into()], false), &["2", "3", "5", "6"]),
        ("p.parquet", set(0, vec![0.0.into(), 5.0.into()], true), &["0", "1", "7"]),
        ("p.parquet", set(1, vec![7_i64.into(), 1_i64.into()], true), &["0", "1", "7"]),
        ("p.parquet", Expr::Not(Box::new(int(CompareOp::Equal, 7))), &["0", "1", "2", "7"]),
        ("p.parquet", Expr::Or(vec![int(CompareOp::Less, 0), Expr::IsNull(Expr::Column(2).into())]), &["0", "4"]),
        (
            "p.parquet",
            Expr::And(vec![int(CompareOp::Greater, 0), Expr::IsNotNull(Expr::Column(0).into())]),
            &["2", "5", "6", "7"],
        ),
        ("c.csv", like("a\\%%", false), &["0"]),
        ("c.csv", Expr::IsNull(Expr::Column(0).into()), &["1"]),
        ("c.csv", int(CompareOp::NotEqual, 1), &["2"]),
    ];
    for (from, filter, expected) in cases {
        let mut request = shop.request(from).await;
        request.filters = vec![filter.clone()];
        request.projection = vec![3];
        assert_eq!(lines(&shop.read(request).await.unwrap()), expected, "{from} {filter}");
    }
}

#[tokio::test]
async fn projection_may_be_empty_or_in_any_order() {
    let shop = Shop::new();
    shop.parquet("p.parquet", &edges());
    shop.ipc("a.arrow", &edges());
    shop.write("c.csv", "f,i,t,n\n1.5,1,x,0\n2.5,2,y,1\n");
    shop.write("j.json", "{\"f\":1.5,\"i\":1}\n{\"f\":2.5,\"i\":2}\n");
    for (from, rows) in [("p.parquet", 8), ("a.arrow", 8), ("c.csv", 2), ("j.json", 2)] {
        let mut request = shop.request(from).await;
        request.projection = vec![];
        let count = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(count(shop.read(request.clone()).await.unwrap()), rows, "{from}");
        request.filters = vec![Expr::IsNull(Box::new(Expr::Column(0)))];
        assert_eq!(count(shop.read(request).await.unwrap()), usize::from(rows == 8), "{from}");
    }
    let mut request = shop.request("c.csv").await;
    request.projection = vec![2, 0, 2];
    assert_eq!(lines(&shop.read(request).await.unwrap()), ["x|1.5|x", "y|2.5|y"]);
}

#[tokio::test]
async fn limit_is_one_partition_and_batches_are_no_longer_than_asked() {
    let shop = Shop::new();
    shop.ipc("a.arrow", &super::people(0, 1000));
    shop.parquet("p.parquet", &super::people(0, 1000));
    for from in ["a.arrow", "p.parquet"] {
        let mut request = shop.request(from).await;
        request.limit = Some(250);
        request.batch_rows = 100;
        let scan = shop.source.prepare(request.clone()).await.unwrap();
        assert_eq!(scan.partitions(), 1);
        assert!(scan.statement().text.contains(" limit=250 "), "{}", scan.statement());
        let batches = shop.read(request.clone()).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [100, 100, 50], "{from}");
        request.filters = vec![Expr::IsNull(Box::new(Expr::Column(1)))];
        let rows: usize = shop.read(request).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 250, "{from}");
    }
}

#[tokio::test]
async fn order_is_refused_because_it_is_not_offered() {
    let shop = Shop::new();
    shop.parquet("p.parquet", &edges());
    let mut request: ScanRequest = shop.request("p.parquet").await;
    request.sort = vec![SortKey { column: 0, descending: false, nulls_first: false }];
    assert!(shop.source.capabilities().offer_sort(&request.sort, &request.table).is_err());
    assert!(matches!(shop.source.prepare(request).await, Err(Error::Unsupported { .. })));
}
