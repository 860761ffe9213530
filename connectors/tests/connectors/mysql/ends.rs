//! The first rows of an order of dates, and their least and greatest, along an index: with dates of which the month or the day is zero anywhere among them.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use headwater_source::{
    Aggregate, AggregateFunction, CompareOp, Expr, Known, QueryRequest, Relation, RemoteStatement, ScalarValue,
    ScanRequest, SortKey, Source, TableDef, TableStatistics,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Row, Value};

use super::{Database, concat_batches, read, table};

const ROWS: u64 = 12_000;

/// More rows than this are not read of a table of so many: a range for each month of its years, and the rows that are wanted.
const READ_MAX: u64 = 500;

const EVENTS: &[&str] = &[
    "CREATE TABLE events (id INT NOT NULL PRIMARY KEY, day DATE, at DATETIME(6) NOT NULL, seen TIMESTAMP(6) NULL, status INT NOT NULL, price DECIMAL(12,2), \
     f FLOAT, y YEAR, b BIT(9), t TIME(3), e ENUM('x', 'y'), s SET('p', 'q'), c CHAR(4), l VARCHAR(9) CHARACTER SET latin1, raw VARBINARY(4), note TEXT, \
     j JSON, u UUID, ip INET6, p POINT, KEY (day), KEY (at), KEY (seen), KEY (status))",
    "INSERT INTO events SELECT seq, '2019-01-01' + INTERVAL seq % 1500 DAY, '2019-01-01 00:00:00.5' + INTERVAL seq HOUR, '2019-01-01 12:00:00' + INTERVAL seq MINUTE, \
     seq % 7, seq / 4, seq / 8, 1970 + seq % 100, seq % 512, SEC_TO_TIME(seq), 1 + seq % 2, 1 + seq % 3, seq % 1000, 'é', UNHEX('00ff'), REPEAT('n', seq % 9), \
     '[1]', '00112233-4455-6677-8899-aabbccddeeff', '::1', POINT(seq, 1) FROM seq_1_to_12000",
    "UPDATE events SET day = NULL WHERE id % 1000 = 3",
    "ANALYZE TABLE events",
];

/// More rows without a date than there are with one: NULL, and none in the place of one.
const UNDATED: &str = "INSERT INTO events (id, day, at, status) SELECT 100000 + seq, IF(seq % 2, NULL, '0000-00-00'), '0000-00-00', 1 FROM seq_1_to_20000";

/// Dates that are none, before, among and behind the others, and others where none were.
const ODD: &[&str] = &[
    "0000-00-00",
    "0000-01-01",
    "0000-05-00",
    "1001-01-01",
    "2018-12-00",
    "2018-12-31",
    "2019-00-00",
    "2019-00-15",
    "2019-01-00",
    "2019-02-00",
    "2020-00-31",
    "2020-12-00",
    "2021-11-00",
    "2023-00-00",
    "2023-02-00",
    "2024-12-00",
    "2025-00-01",
    "2025-07-00",
    "2026-00-00",
    "2026-01-01",
    "2031-00-07",
    "9999-12-00",
    "9999-12-31",
];

struct Events {
    database: Database,
    source: Arc<dyn Source>,
    table: Arc<TableDef>,
    statistics: Arc<TableStatistics>,
}

impl Events {
    async fn new() -> Self {
        let mut database = Database::new().await;
        for statement in EVENTS {
            database.run(statement).await;
        }
        let source = database.source();
        let table = table(&source, "events").await;
        let statistics = Arc::new(source.statistics(&table).await.unwrap().unwrap());
        Self { database, source, table, statistics }
    }

    /// After this the statistics say nothing of some dates.
    async fn add_odd_dates(&mut self) {
        for (place, date) in ODD.iter().enumerate() {
            let (id, status) = (20_000 + place, place % 7);
            let insert = format!(
                "INSERT INTO events (id, day, at, status) VALUES ({id}, '{date}', '{date} 12:00:00', {status})"
            );
            self.database.run(&insert).await;
        }
        self.database.run("INSERT INTO events (id, day, at, seen, status) VALUES (30000, NULL, '2020-01-01', '0000-00-00 00:00:00', 1)").await;
    }

    fn column(&self, name: &str) -> usize {
        self.table.column_index(name).unwrap()
    }

    fn known(&self) -> Option<Known> {
        Some(Known { statistics: Arc::clone(&self.statistics), rows: ROWS as f64 })
    }

    async fn statement(&self, request: &ScanRequest) -> RemoteStatement {
        self.source.prepare(request.clone()).await.unwrap().statement().clone()
    }

    /// How many rows the server looks at for the statement.
    async fn looks_at(&mut self, statement: &RemoteStatement) -> u64 {
        let text = |value: &ScalarValue| match value {
            ScalarValue::Utf8(Some(text)) => Value::from(text.as_str()),
            ScalarValue::Int64(Some(number)) => Value::from(*number),
            // The first day that there is.
            ScalarValue::Date32(_) | ScalarValue::TimestampMicrosecond(..) => Value::from("0000-01-01"),
            other => panic!("{other}"),
        };
        let binds: Vec<Value> = statement.binds.iter().map(|bind| text(&bind.value)).collect();
        let params = if binds.is_empty() { Params::Empty } else { Params::Positional(binds) };
        self.database.run("FLUSH STATUS").await;
        let _: Vec<Row> = self.database.admin.exec(statement.text.as_str(), params).await.unwrap();
        let reads: Vec<(String, u64)> =
            self.database.admin.query("SHOW SESSION STATUS LIKE 'Handler_read%'").await.unwrap();
        reads.iter().filter(|(name, _)| name != "Handler_read_rnd_deleted").map(|(_, rows)| rows).sum()
    }
}

fn key(column: usize, descending: bool, nulls_first: bool) -> SortKey {
    SortKey { column, descending, nulls_first }
}

#[tokio::test]
async fn first_rows_of_an_order_of_dates_are_those_of_a_sort_of_all_and_found_along_the_index() {
    let mut events = Events::new().await;
    for odd in [false, true] {
        if odd {
            events.add_odd_dates().await;
        }
        for name in ["day", "at", "seen"] {
            for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut request = ScanRequest::all(Arc::clone(&events.table));
                request.sort = vec![key(events.column(name), descending, nulls_first), key(0, descending, false)];
                for limit in [1, 40] {
                    request.limit = Some(limit);
                    request.known = None;
                    let right = read(&events.source, request.clone()).await.unwrap();
                    request.known = events.known();
                    let found = read(&events.source, request.clone()).await.unwrap();
                    assert_eq!(found, right, "{:?} {limit}, odd: {odd}", request.sort);
                }
                let statement = events.statement(&request).await;
                assert!(statement.text.contains(" UNION ALL "), "{}", statement.text);
                let rows = events.looks_at(&statement).await;
                assert!(rows < READ_MAX, "{rows} rows: {}", statement.text);
            }
        }
    }
}

#[tokio::test]
async fn rows_without_a_date_are_not_walked_through() {
    let mut events = Events::new().await;
    events.database.run(UNDATED).await;
    for name in ["day", "at"] {
        let mut request = ScanRequest::all(Arc::clone(&events.table));
        (request.sort, request.limit) = (vec![key(events.column(name), false, false)], Some(20));
        request.projection = vec![events.column(name)];
        let right = read(&events.source, request.clone()).await.unwrap();
        request.known = events.known();
        assert_eq!(read(&events.source, request.clone()).await.unwrap(), right);
        let statement = events.statement(&request).await;
        let rows = events.looks_at(&statement).await;
        assert!(rows < READ_MAX, "{rows} rows: {}", statement.text);
    }
}

#[tokio::test]
async fn filters_hold_for_rows_with_a_date_and_without() {
    let mut events = Events::new().await;
    events.add_odd_dates().await;
    let status = Expr::Column(events.column("status"));
    let is = |number: i32| Expr::compare(CompareOp::Equal, status.clone(), Expr::Literal(ScalarValue::from(number)));
    let not_many = Expr::compare(CompareOp::Less, status.clone(), Expr::Literal(ScalarValue::from(5)));
    let day = events.column("day");
    let dated = Expr::compare(CompareOp::Greater, Expr::Column(day), Expr::Literal(ScalarValue::Date32(Some(17_000))));
    let filled = Expr::IsNotNull(Box::new(Expr::Column(day)));
    for filters in
        [vec![is(3)], vec![Expr::Or(vec![is(2), is(9)]), not_many], vec![dated.clone()], vec![is(3), filled.clone()]]
    {
        for (descending, nulls_first) in [(false, false), (true, true)] {
            let mut request = ScanRequest::all(Arc::clone(&events.table));
            // The order's column is not among those that are read.
            request.projection = vec![4, 0, 4];
            request.filters = filters.clone();
            request.sort = vec![key(day, descending, nulls_first), key(0, true, false)];
            request.limit = Some(30);
            let right = read(&events.source, request.clone()).await.unwrap();
            request.known = events.known();
            let found = read(&events.source, request.clone()).await.unwrap();
            assert_eq!(found, right, "{filters:?} {:?}", request.sort);
        }
    }
    // Rows that have a date are in the index's order as they stand.
    for filter in [dated, filled] {
        let mut request = ScanRequest::all(Arc::clone(&events.table));
        request.filters = vec![filter];
        request.sort = vec![key(day, true, true)];
        request.limit = Some(5);
        let text = events.statement(&request).await.text;
        assert!(text.ends_with("MONTH(`day`) > 0 AND DAYOFMONTH(`day`) > 0 ORDER BY `day` DESC LIMIT 5"), "{text}");
    }
}

#[tokio::test]
async fn order_is_left_to_a_sort_where_that_costs_less_or_no_index_serves() {
    let mut events = Events::new().await;
    let sorted = |events: &Events, name: &str, limit: u64| {
        let mut request = ScanRequest::all(Arc::clone(&events.table));
        (request.sort, request.limit, request.known) =
            (vec![key(events.column(name), true, true)], Some(limit), events.known());
        request
    };
    let expected =
        [("few rows", false), ("many wanted", false), ("no index", false), ("centuries", false), ("as it was", true)];
    for (case, apart) in expected {
        let mut request = sorted(&events, "day", 20);
        match case {
            "few rows" => {
                let status = Expr::Column(events.column("status"));
                request.filters = vec![Expr::compare(CompareOp::Equal, status, Expr::Literal(ScalarValue::from(3)))];
                request.known.as_mut().unwrap().rows = 900.0;
            }
            "many wanted" => request.limit = Some(ROWS),
            "no index" => request = sorted(&events, "y", 20),
            "centuries" => {
                let mut statistics = (*events.statistics).clone();
                statistics.columns[events.column("day")].min = Some(ScalarValue::Date32(Some(-100_000)));
                request.known.as_mut().unwrap().statistics = Arc::new(statistics);
            }
            _ => {}
        }
        assert_eq!(events.statement(&request).await.text.contains("UNION ALL"), apart, "{case}");
    }
    // The least value is a zero date: nothing is known of the others.
    events.add_odd_dates().await;
    events.statistics = Arc::new(events.source.statistics(&events.table).await.unwrap().unwrap());
    assert!(!events.statement(&sorted(&events, "day", 20)).await.text.contains("UNION ALL"));
}

#[tokio::test]
async fn least_and_greatest_dates_are_found_at_the_ends_of_indexes() {
    let mut events = Events::new().await;
    for odd in [false, true] {
        if odd {
            events.add_odd_dates().await;
        }
        let of = |function, column: usize| {
            let data_type = events.table.columns[column].data_type.clone();
            Aggregate { function, arg: Some(Expr::Column(column)), condition: None, data_type }
        };
        let (min, max) = (AggregateFunction::Min, AggregateFunction::Max);
        for aggregates in [
            vec![of(max, 1)],
            vec![of(min, 1), of(max, 1), of(max, 2), of(min, 0)],
            vec![of(min, 3), of(max, 3), of(min, 2), of(max, 0)],
        ] {
            // The columns in another order than the table's.
            let input = Relation::table(Arc::clone(&events.table)).project([0, 1, 2, 3].map(Expr::Column).to_vec());
            let relation = input.aggregate(vec![], aggregates);
            let fields = relation.columns().iter().enumerate();
            let fields: Vec<Field> =
                fields.map(|(index, column)| Field::new(format!("c{index}"), column.data_type.clone(), true)).collect();
            let request = |statistics| QueryRequest {
                relation: relation.clone(),
                schema: Arc::new(Schema::new(fields.clone())),
                batch_rows: 100,
                statistics,
            };
            let known = vec![(Arc::clone(&events.table), Arc::clone(&events.statistics))];
            let right = answer(&events.source, request(vec![])).await.0;
            let (found, statement) = answer(&events.source, request(known)).await;
            assert_eq!(found, right, "{}", statement.text);
            let rows = events.looks_at(&statement).await;
            assert!(rows < READ_MAX, "{rows} rows: {}", statement.text);
        }
    }
}

async fn answer(source: &Arc<dyn Source>, request: QueryRequest) -> (RecordBatch, RemoteStatement) {
    let schema = Arc::clone(&request.schema);
    let scan = source.prepare_query(request).await.unwrap();
    let batches: Vec<RecordBatch> = scan.open(0).await.unwrap().try_collect().await.unwrap();
    (concat_batches(&schema, &batches).unwrap(), scan.statement().clone())
}
