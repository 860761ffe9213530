//! Names and strings that break naive SQL.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use headwater_source::{CompareOp, Expr, ScalarValue, ScanRequest};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::{Database, column, read, read_all, table};

const NAMES: [&str; 12] =
    ["select", "Order", "a b", "a\"b", "a\"\"; DROP TABLE t; --", "日本", "a.b", "'x'", "$1", "\\", "ctid2", "%s"];

#[tokio::test]
async fn odd_names_of_schemas_tables_and_columns_are_read() {
    let database = Database::new().await;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = NAMES.iter().map(|name| format!("{} int", quote(name))).collect();
    let numbers: Vec<String> = (0..NAMES.len()).map(|n| n.to_string()).collect();
    for name in NAMES {
        database
            .run(&format!(
                "CREATE SCHEMA {0}; CREATE TABLE {0}.{0} ({1}); INSERT INTO {0}.{0} VALUES ({2})",
                quote(name),
                columns.join(", "),
                numbers.join(", ")
            ))
            .await;
    }
    let source = database.source();
    assert_eq!(source.tables().await.unwrap().len(), NAMES.len());
    for name in NAMES {
        let path = format!("{name}.{name}");
        let mut request = ScanRequest::all(table(&source, &path).await);
        let filter = |index| {
            Expr::compare(CompareOp::GreaterOrEqual, Expr::Column(index), Expr::Literal(ScalarValue::from(0_i32)))
        };
        request.filters = (0..NAMES.len()).map(filter).collect();
        let batch = read(&source, request).await;
        for (index, other) in NAMES.iter().enumerate() {
            assert_eq!(column(&batch, other).as_primitive::<arrow::datatypes::Int32Type>().value(0) as usize, index);
        }
    }
}

#[tokio::test]
async fn any_string_is_found_by_equality_and_only_it() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v text)").await;
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::string::string_regex("['\"\\\\$1?:;a%_é𝄞\\PC-]{0,6}").unwrap();
    let mut strings: BTreeSet<String> = (0..300).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    strings.extend(
        ["\\') OR 1=1 -- ", "\\\\') OR 1=1 -- ", "x\\", "a''b", "a'b", "say \"hi\"", "$1", "/*", "\n\r\t"]
            .map(str::to_owned),
    );
    let insert = database.client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    for string in &strings {
        database.client.execute(&insert, &[string]).await.unwrap();
    }
    let source = database.source();
    let definition = table(&source, "t").await;
    let stored = column(&read_all(&source, "t").await, "v");
    let stored: BTreeSet<String> = stored.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect();
    assert_eq!(stored, strings);
    for string in &strings {
        let mut request = ScanRequest::all(definition.clone());
        request.filters =
            vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from(string.as_str())))];
        let found = column(&read(&source, request).await, "v");
        assert_eq!(found.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(string.as_str())]);
    }
}
