//! What is known of a table's rows without reading them.

use arrow::datatypes::DataType;
use headwater_source::{Index, ScalarValue, TableStatistics};

use super::{Database, column_of};

async fn known(database: &Database, table: &str) -> TableStatistics {
    let source = database.source();
    let table = source.table(table).await.unwrap();
    source.statistics(&table).await.unwrap().unwrap()
}

const ROWS: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, kind TEXT, day DATE, n INTEGER, folded TEXT COLLATE NOCASE, note TEXT);
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1000)
        INSERT INTO t SELECT i, 'k' || (i % 10), date('2024-01-01', '+' || (i % 50) || ' days'), nullif(i % 4, 0), 'F' || i, 'x' FROM c;
    CREATE INDEX kind ON t (kind, n);
    CREATE UNIQUE INDEX number ON t (n, id);
    CREATE INDEX day ON t (day);
    CREATE INDEX folded ON t (folded);
    CREATE INDEX partial ON t (note) WHERE note > 'a';
    CREATE INDEX expression ON t (note || 'x');
    CREATE INDEX other_order ON t (note COLLATE NOCASE);
";

#[tokio::test]
async fn ends_of_indexes_and_what_analyze_counted_are_known() {
    let database = Database::new(ROWS);
    database.run("ANALYZE");
    let table = database.source().table("t").await.unwrap();
    assert_eq!(table.rows_estimate, Some(1000));
    let known = known(&database, "t").await;
    assert_eq!(known.rows, Some(1000));
    let index = |columns: &[usize], unique| Index { columns: columns.to_vec(), unique };
    let mut indexes = known.indexes.clone();
    indexes.sort_by(|a, b| a.columns.cmp(&b.columns));
    let expected =
        [index(&[0], true), index(&[1, 3], false), index(&[2], false), index(&[3, 0], true), index(&[4], false)];
    assert_eq!(indexes, expected);
    let distinct: Vec<Option<u64>> = known.columns.iter().map(|column| column.distinct).collect();
    assert_eq!(distinct, [Some(1000), Some(10), Some(50), Some(4), Some(1000), None]);
    let ends = |index: usize| (known.columns[index].min.clone(), known.columns[index].max.clone());
    assert_eq!(ends(0), (Some(ScalarValue::from(1_i64)), Some(ScalarValue::from(1000_i64))));
    assert_eq!(ends(1), (Some(ScalarValue::from("k0")), Some(ScalarValue::from("k9"))));
    assert_eq!(column_of(&table, "day").data_type, DataType::Date32);
    assert_eq!(ends(2), (Some(ScalarValue::Date32(Some(19_723))), Some(ScalarValue::Date32(Some(19_772)))));
    assert_eq!(ends(3), (Some(ScalarValue::from(1_i64)), Some(ScalarValue::from(3_i64))));
    assert_eq!(ends(4), (None, None), "a folding index has other ends");
    assert_eq!(ends(5), (None, None));
    assert_eq!(known.columns[3].null_fraction, Some(0.25));
    assert_eq!(known.columns[1].null_fraction, Some(0.0));
}

#[tokio::test]
async fn rowids_bound_the_rows_where_nothing_was_analyzed() {
    let database = Database::new(ROWS);
    database.run(
        "CREATE TABLE empty (a); CREATE TABLE far (id INTEGER PRIMARY KEY); INSERT INTO far VALUES (1), (9000000000000000000); \
         CREATE TABLE odd (rowid TEXT, _rowid_ TEXT, oid TEXT); CREATE TABLE keyed (a TEXT PRIMARY KEY) WITHOUT ROWID; \
         CREATE VIEW seen AS SELECT * FROM t",
    );
    let source = database.source();
    let estimate = async |table: &str| source.table(table).await.unwrap().rows_estimate;
    assert_eq!(estimate("t").await, Some(1000));
    assert_eq!(estimate("empty").await, Some(0));
    let far = estimate("far").await.unwrap();
    assert!(far < 1_000_000, "no more than the file has room for: {far}");
    for unknown in ["odd", "keyed", "seen"] {
        assert_eq!(estimate(unknown).await, None, "{unknown}");
    }
    assert_eq!(known(&database, "keyed").await.indexes, [Index { columns: vec![0], unique: true }]);
    assert_eq!(known(&database, "seen").await.indexes, []);
    assert_eq!(known(&database, "t").await.columns[1].distinct, None);
}

/// Statistics only make plans: nonsense among them, or a value that does not fit at the end of an index, is no error.
#[tokio::test]
async fn what_is_no_statistic_says_nothing() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); CREATE INDEX n ON t (n);");
    database.run(
        "INSERT INTO t VALUES (1, 5), (2, 'zzz'); ANALYZE; DELETE FROM sqlite_stat1; \
         INSERT INTO sqlite_stat1 VALUES ('t', 'n', 'many'), ('t', NULL, x'00'), ('t', 'n', NULL), (NULL, NULL, NULL), ('t', 'n', '7 0')",
    );
    let known = known(&database, "t").await;
    assert_eq!(known.rows, Some(7));
    assert_eq!((known.columns[1].min.clone(), known.columns[1].max.clone()), (Some(ScalarValue::from(5_i64)), None));
    assert_eq!(known.columns[1].distinct, None);
}
