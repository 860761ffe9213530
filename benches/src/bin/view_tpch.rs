//! The 22 queries of TPC-H as materialized views under changes, beside computing them anew in DuckDB.
//!
//! `HEADWATER_BENCH_DUCKDB=PYTHON cargo run --release -p headwater-benches --bin view_tpch [SCALE_FACTOR]`
//!
//! Each query is a view by itself over the tables that it reads, at scale factor 0.1 unless told otherwise. A transaction changes a share of the
//! orders: a third of them go with their lines, as many come with theirs, and as many lines get another price; and a third of the share of what
//! suppliers offer gets another cost. Told are changed rows a second, and how
//! many times longer than an epoch DuckDB takes to compute the query from tables in its memory, with both cores; Headwater has one. After
//! the last transaction each view is compared with what DataFusion computes over the rows then.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use headwater_benches::duckdb::{self, DuckDb};
use headwater_source::{
    Change, ColumnDef, Position, RowChanges, RowOp, TableChange, TableDef, Transaction, ValueClass,
};
use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::rows::{Floats, Rows};
use headwater_sql_tests::tpch;
use headwater_views::{Input, Maintenance, Mode, Options, Query, Resolved, SourceId, TableId, ViewId};

/// Shares of the orders that a transaction changes, in 1/10,000, and how many transactions are timed.
const SHARES: [(usize, usize); 4] = [(1, 21), (10, 11), (100, 5), (1_000, 3)];

/// Where tables stand.
const LINES: usize = 4;
const OFFERS: usize = 7;

/// A table, and which of its rows are there.
struct Table {
    name: &'static str,
    definition: TableDef,
    rows: RecordBatch,
    live: Vec<bool>,
}

/// Orders and their lines as they change.
struct Shop {
    tables: Vec<Table>,
    /// The first line of each order and how many it has.
    lines: Vec<(usize, usize)>,
    /// The prices of lines, and the costs of what suppliers offer.
    prices: [Prices; 2],
    dice: Dice,
}

/// A column that changes: its table and its values now.
struct Prices {
    table: usize,
    column: &'static str,
    now: Vec<i128>,
}

/// What came of one query.
struct Measured {
    mode: &'static str,
    state_bytes: usize,
    loaded: Duration,
    /// For each share: rows of a transaction, and its median time.
    epochs: Vec<(usize, Duration)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let scale_factor = std::env::args().nth(1).map_or(0.1, |text| text.parse().expect("a scale factor as argument"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), &Shop::new(scale_factor).tables);
    let mut peer = DuckDb::start_in_memory(directory.path()).await;
    if peer.is_none() {
        eprintln!("{} names no Python with DuckDB, so it does not run beside", duckdb::VARIABLE);
    }
    println!(
        "| query | mode | state, MB | load, ms | DuckDB, ms | 0.01 %: rows/s | ratio | 0.1 %: rows/s | ratio | 1 %: rows/s | ratio | 10 %: rows/s | ratio |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (number, sql) in tpch::queries() {
        let measured = measure(&sql, scale_factor).await;
        let anew = match &mut peer {
            Some(peer) => Some(computed(peer, &sql).await),
            None => None,
        };
        print!(
            "| q{number:02} | {} | {:.1} | {} | {} |",
            measured.mode,
            measured.state_bytes as f64 / 1e6,
            measured.loaded.as_millis(),
            anew.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
        );
        for (rows, time) in &measured.epochs {
            let ratio =
                anew.map_or_else(|| "-".to_owned(), |anew| format!("{:.2}", anew.as_secs_f64() / time.as_secs_f64()));
            print!(" {:.0} | {ratio} |", *rows as f64 / time.as_secs_f64());
        }
        println!();
    }
}

async fn computed(peer: &mut DuckDb, sql: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..4 {
        times.push(peer.ask(sql).await.unwrap_or_else(|error| panic!("DuckDB: {error}")).1);
    }
    median(&mut times[1..])
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn measure(sql: &str, scale_factor: f64) -> Measured {
    let mut shop = Shop::new(scale_factor);
    let context = SessionContext::new();
    for table in &shop.tables {
        let empty = RecordBatch::new_empty(table.definition.schema());
        context.register_batch(table.name, empty).expect("the name is free");
    }
    let sql = sql.trim().trim_end_matches(';');
    let plan = context.state().create_logical_plan(sql).await.expect("the query is planned");
    let mut views = Maintenance::new(Options { view_memory_bytes: 64 << 30, ..Options::default() });
    let source = views.add_source("shop", Arc::new(|_, _| Ok(true)));
    let mut ids: Vec<Option<TableId>> = vec![None; shop.tables.len()];
    let query = Query::new(plan, &mut |scan| {
        let place =
            shop.tables.iter().position(|table| table.name == scan.table_name.table()).expect("a table of TPC-H");
        let definition = &shop.tables[place].definition;
        let id = match ids[place] {
            Some(id) => id,
            None => views.add_table(source, shop.tables[place].name, definition)?,
        };
        ids[place] = Some(id);
        Ok(Resolved { input: Input::Table(id), schema: definition.schema() })
    });
    let view = views.create_view("query", query.expect("the query can be a view")).expect("the view is new");
    let begun = Instant::now();
    let loaders = shop.tables.iter().zip(&ids).filter_map(|(table, id)| {
        let mut loader = views.loader((*id)?).expect("the table is there");
        loader.push(&table.there()).expect("rows of the table");
        Some(loader)
    });
    let loaders = loaders.collect();
    views.load(source, Position::new(1, "1"), loaders).expect("the rows are taken");
    let loaded = begun.elapsed();
    let mut position = 1;
    let mut epochs = Vec::new();
    for (share, count) in SHARES {
        let (mut times, mut rows) = (Vec::new(), 0);
        for _ in 0..count {
            position += 1;
            let transaction = shop.transaction(position, share, &ids);
            rows = transaction.changes.iter().map(rows_of).sum();
            times.push(applied(&mut views, source, transaction, &ids));
        }
        epochs.push((rows, median(&mut times)));
    }
    shop.check(&views, view, sql).await;
    let lines = views.explain(view).expect("the view is there");
    let has = |mode| lines.iter().any(|line| line.description.mode == mode);
    let mode = match (has(Mode::Recompute), has(Mode::RecomputeTouched)) {
        (true, _) => "recompute",
        (false, true) => "recompute touched",
        (false, false) => "incremental",
    };
    Measured { mode, state_bytes: views.view_status(view).expect("the view is there").bytes, loaded, epochs }
}

/// How long an epoch of one transaction takes, until its version can be read.
fn applied(views: &mut Maintenance, source: SourceId, transaction: Transaction, ids: &[Option<TableId>]) -> Duration {
    let ids: Vec<TableId> = ids.iter().flatten().copied().collect();
    let begun = Instant::now();
    views.offer(source, transaction, &ids).expect("the transaction is taken");
    let report = views.step();
    let time = begun.elapsed();
    assert!(report.failed_views.is_empty() && report.failed_sources.is_empty(), "{report:?}");
    time
}

fn rows_of(change: &TableChange) -> usize {
    match &change.change {
        Change::Rows(rows) => rows.ops.len(),
        _ => 0,
    }
}

impl Shop {
    fn new(scale_factor: f64) -> Self {
        let mut tables: Vec<Table> =
            tpch::tables(scale_factor).into_iter().map(|table| Table::new(table, scale_factor)).collect();
        let lines = tables[4].rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let orders = tables[3].rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let mut place = 0;
        let lines = orders.iter().map(|order| {
            let first = place;
            while lines.get(place) == Some(order) {
                place += 1;
            }
            (first, place - first)
        });
        let lines: Vec<_> = lines.collect();
        let mut dice = Dice::new(22);
        // An eighth of the orders are not there yet.
        for (order, (first, count)) in lines.iter().enumerate() {
            let live = dice.below(8) > 0;
            tables[3].live[order] = live;
            tables[4].live[*first..first + count].fill(live);
        }
        let prices = [(LINES, "l_extendedprice"), (OFFERS, "ps_supplycost")].map(|(table, column)| {
            let now = tables[table].rows.column_by_name(column).expect("a price");
            Prices { table, column, now: now.as_primitive::<Decimal128Type>().values().to_vec() }
        });
        Self { tables, lines, prices, dice }
    }

    /// Changes a share, in 1/10,000, of the orders; only what the tables of these ids are told.
    fn transaction(&mut self, position: u64, share: usize, ids: &[Option<TableId>]) -> Transaction {
        let count = (self.lines.len() * share / 10_000 / 3).max(1);
        let mut changes = Vec::new();
        let (gone, come) = (self.orders(count, true), self.orders(count, false));
        let (mut orders, mut lines) = ((vec![], vec![]), (vec![], vec![]));
        for (chosen, live, op) in [(gone, false, RowOp::DeleteKey), (come, true, RowOp::Insert)] {
            for order in chosen {
                self.tables[3].live[order] = live;
                orders.0.push(order);
                orders.1.push(op);
                let (first, count) = self.lines[order];
                self.tables[4].live[first..first + count].fill(live);
                lines.0.extend(first..first + count);
                lines.1.extend(std::iter::repeat_n(op, count));
            }
        }
        let touched: BTreeSet<usize> = lines.0.iter().copied().collect();
        // What comes or goes in this transaction has its price already.
        let (priced, ops) = self.priced(0, count, &touched);
        lines.0.extend(priced);
        lines.1.extend(ops);
        let offers = self.tables[OFFERS].rows.num_rows() * share / 10_000 / 3;
        let offers = self.priced(1, offers.max(1), &BTreeSet::new());
        let place = |table: usize| ids[..table].iter().flatten().count();
        for (table, (places, ops)) in [(3, orders), (LINES, lines), (OFFERS, offers)] {
            if ids[table].is_some() {
                changes.push(self.change(table, place(table), &places, ops));
            }
        }
        let position = Position::new(position, position.to_string());
        Transaction { position, committed_us: None, depends_on: vec![], changes }
    }

    /// Another price for so many rows that are there, but for these: the rows, each twice, and what becomes of them.
    fn priced(&mut self, prices: usize, count: usize, but: &BTreeSet<usize>) -> (Vec<usize>, Vec<RowOp>) {
        let Prices { table, now, .. } = &mut self.prices[prices];
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            let row = self.dice.below(now.len());
            if self.tables[*table].live[row] && !but.contains(&row) {
                chosen.insert(row);
            }
        }
        chosen.iter().for_each(|row| now[*row] += 100);
        let ops = chosen.iter().flat_map(|_| [RowOp::DeleteKey, RowOp::InsertOver]);
        (chosen.iter().flat_map(|row| [*row, *row]).collect(), ops.collect())
    }

    /// So many orders that are there, or are not.
    fn orders(&mut self, count: usize, live: bool) -> Vec<usize> {
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            let order = self.dice.below(self.lines.len());
            if self.tables[3].live[order] == live {
                chosen.insert(order);
            }
        }
        chosen.into_iter().collect()
    }

    fn change(&self, table: usize, place: usize, rows: &[usize], ops: Vec<RowOp>) -> TableChange {
        let places = UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32));
        let rows = take_record_batch(&self.rows(table), &places).expect("rows that are there");
        TableChange { table: place, change: Change::Rows(RowChanges { rows, ops, kept: vec![] }) }
    }

    /// All rows of a table, with the prices of now.
    fn rows(&self, table: usize) -> RecordBatch {
        let all = &self.tables[table].rows;
        let Some(prices) = self.prices.iter().find(|prices| prices.table == table) else { return all.clone() };
        let place = all.schema().index_of(prices.column).expect("a price");
        let mut columns: Vec<ArrayRef> = all.columns().to_vec();
        let prices = Decimal128Array::from(prices.now.clone()).with_data_type(columns[place].data_type().clone());
        columns[place] = Arc::new(prices);
        RecordBatch::try_new(all.schema(), columns).expect("columns of the schema")
    }

    async fn check(&self, views: &Maintenance, view: ViewId, sql: &str) {
        let context = SessionContext::new();
        for (place, table) in self.tables.iter().enumerate() {
            let there =
                filter_record_batch(&self.rows(place), &BooleanArray::from(table.live.clone())).expect("a mask");
            let there = MemTable::try_new(there.schema(), vec![vec![there]]).expect("a table");
            context.register_table(table.name, Arc::new(there)).expect("the name is free");
        }
        let frame = context.sql(sql).await.expect("the query is planned");
        let expected = frame.collect().await.expect("the query is answered");
        let epoch = views.published();
        let shown = epoch.view(view).expect("the view is shown").version.batches().expect("rows");
        let of = |batches: &[RecordBatch]| match batches.first() {
            Some(first) => Rows::of(&first.schema(), batches),
            None => Rows { columns: vec![], rows: vec![] },
        };
        let (expected, shown) = (of(&expected), of(&shown));
        if !(expected.rows.is_empty() && shown.rows.is_empty()) {
            let shown = Rows { columns: expected.columns.clone(), ..shown };
            assert_eq!(shown.difference_within(&expected, Floats::Near), None, "{sql}");
        }
    }
}

impl Table {
    fn new(table: tpch::Table, scale_factor: f64) -> Self {
        let key: &[&str] = match table.name {
            "region" => &["r_regionkey"],
            "nation" => &["n_nationkey"],
            "customer" => &["c_custkey"],
            "orders" => &["o_orderkey"],
            "lineitem" => &["l_orderkey", "l_linenumber"],
            "part" => &["p_partkey"],
            "supplier" => &["s_suppkey"],
            // Two of its rows have one key below scale factor 0.01.
            "partsupp" if scale_factor >= 0.01 => &["ps_partkey", "ps_suppkey"],
            table => panic!("{table} has no key at this scale factor; ask for 0.01 or more"),
        };
        let rows = concat_batches(&table.batches[0].schema(), &table.batches).expect("batches of one schema");
        let schema = rows.schema();
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let class = ValueClass::of_computed(field.data_type());
            let column = ColumnDef::new(field.name(), field.data_type().clone(), "generated", class);
            if field.is_nullable() { column } else { column.not_null() }
        };
        let mut definition = TableDef::new([table.name], schema.fields().iter().map(column).collect());
        if !key.is_empty() {
            definition = definition.with_key(key.iter().copied());
        }
        let live = vec![true; rows.num_rows()];
        let rows = RecordBatch::try_new(definition.schema(), rows.columns().to_vec()).expect("columns of the table");
        Self { name: table.name, definition, rows, live }
    }

    fn there(&self) -> RecordBatch {
        filter_record_batch(&self.rows, &BooleanArray::from(self.live.clone())).expect("a mask of all rows")
    }
}

fn write(directory: &Path, tables: &[Table]) {
    for table in tables {
        let file = std::fs::File::create(directory.join(format!("{}.parquet", table.name))).expect("a file");
        let mut writer = ArrowWriter::try_new(file, table.rows.schema(), None).expect("a writer");
        writer.write(&table.there()).expect("rows are written");
        writer.close().expect("the file is whole");
    }
}
