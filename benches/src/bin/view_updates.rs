//! How many updates a second a materialized view takes, beside dbsp and differential-dataflow: orders joined with customers, grouped by region.
//!
//! ```text
//! for peer in dbsp differential; do
//!   CARGO_TARGET_DIR=target/peers cargo build --release --manifest-path benches/peers/$peer/Cargo.toml
//! done
//! HEADWATER_BENCH_VIEW_PEERS=target/peers/release cargo run --release -p headwater-benches --bin view_updates [ORDERS]
//! ```
//!
//! A million orders and a tenth as many customers are loaded; then 200 batches of updates follow, of 100 orders, of 1,000 and of 10,000, each with a
//! hundredth as many of customers. All have one worker and the same batches. Each run is a process of its own; all take turns three times, and the median
//! is told. A batch's time ends when its result can be read. Memory is the most that was resident, with the workload's own copy of the rows.

#[path = "../../peers/workload.rs"]
mod workload;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use headwater_source::{
    Change, ColumnDef, Position, RowChanges, RowOp, TableChange, TableDef, Transaction, ValueClass,
};
use headwater_views::{Input, Maintenance, Options, Query, Resolved, SourceId, TableId};
use serde_json::Value;

use workload::{Batch, Workload};

/// All programs of this benchmark have it, and the server too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUERY: &str = "SELECT c.region, sum(o.amount) AS total, count(*) AS n \
                     FROM orders o JOIN customers c ON o.customer = c.id GROUP BY c.region";

/// Names the directory of the peers' programs.
const PEERS: &str = "HEADWATER_BENCH_VIEW_PEERS";
/// The argument that makes this program one run of Headwater.
const OURS: &str = "--ours";
/// Orders that a batch updates.
const BATCHES: [&str; 3] = ["100", "1000", "10000"];
const TURNS: usize = 3;

struct State {
    views: Maintenance,
    shop: SourceId,
    ids: [TableId; 2],
    tables: [TableDef; 2],
    position: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == OURS => Workload::from_arguments(rest).run(State::load, State::apply),
        first => compare(first.map_or("1000000", |(orders, _)| orders)),
    }
}

fn compare(orders: &str) {
    let ours = std::env::current_exe().expect("this program has a path");
    let mut sides = vec![("Headwater", ours, vec![OURS])];
    match std::env::var_os(PEERS).map(PathBuf::from) {
        Some(directory) => {
            sides.push(("dbsp 0.349", directory.join("view-updates-dbsp"), vec![]));
            sides.push(("differential-dataflow 0.26", directory.join("view-updates-differential"), vec![]));
        }
        None => eprintln!("{PEERS} names no directory, so no peer runs beside"),
    }
    println!("| updates of a batch | engine | updates/s | batch p50, µs | p99, µs | resident, MiB | load, ms |");
    println!("|---:|---|---:|---:|---:|---:|---:|");
    for updates in BATCHES {
        let mut runs: Vec<Vec<Value>> = vec![vec![]; sides.len()];
        for _ in 0..TURNS {
            for ((_, program, first), runs) in sides.iter().zip(&mut runs) {
                let output = Command::new(program)
                    .args(first)
                    .args([orders, updates, "200"])
                    .stderr(Stdio::inherit())
                    .output()
                    .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
                assert!(output.status.success(), "{} fails", program.display());
                runs.push(serde_json::from_slice(&output.stdout).expect("a line of JSON"));
            }
        }
        for ((name, ..), runs) in sides.iter().zip(&runs) {
            let median = |key: &str| {
                let mut values: Vec<u64> =
                    runs.iter().map(|run| run[key].as_u64().expect("a number of each run")).collect();
                values.sort_unstable();
                values[values.len() / 2]
            };
            println!(
                "| {updates} | {name} | {} | {} | {} | {} | {} |",
                median("updates_per_second"),
                median("p50_us"),
                median("p99_us"),
                median("resident_mib"),
                median("load_ms")
            );
        }
    }
}

impl State {
    fn load(workload: &Workload) -> Self {
        let tables = [table("orders", &["id", "customer", "amount"]), table("customers", &["id", "region"])];
        let mut views = Maintenance::new(Options { view_memory_bytes: 16 << 30, ..Options::default() });
        let shop = views.add_source("shop", Arc::new(|_, _| Ok(true)));
        let ids = [0, 1].map(|place: usize| {
            views.add_table(shop, &tables[place].path.join("."), &tables[place]).expect("the table is new")
        });
        let context = SessionContext::new();
        for (name, table) in ["orders", "customers"].into_iter().zip(&tables) {
            context.register_batch(name, RecordBatch::new_empty(table.schema())).expect("the name is free");
        }
        let plan =
            futures::executor::block_on(context.state().create_logical_plan(QUERY)).expect("the query is planned");
        let query = Query::new(plan, &mut |scan| {
            let place = usize::from(scan.table_name.table() != "orders");
            Ok(Resolved { input: Input::Table(ids[place]), schema: tables[place].schema() })
        });
        views.create_view("totals", query.expect("the query can be a view")).expect("the view is new");
        let mut state = Self { views, shop, ids, tables, position: 1 };
        let mut loaders = ids_loaders(&state);
        for (chunk, rows) in workload.orders.chunks(8_192).enumerate() {
            let first = chunk * 8_192;
            let numbers = (first..first + rows.len()).map(|id| id as i64).collect();
            let (customer, amount) = rows.iter().copied().unzip();
            let rows = batch(&state.tables[0].schema(), vec![numbers, customer, amount]);
            loaders[0].push(&rows).expect("rows of the table");
        }
        let numbers = (0..workload.regions.len() as i64).collect();
        let rows = batch(&state.tables[1].schema(), vec![numbers, workload.regions.clone()]);
        loaders[1].push(&rows).expect("rows of the table");
        state.views.load(shop, Position::new(1, "1"), loaders).expect("the rows are taken");
        state
    }

    fn apply(&mut self, updates: Batch) {
        self.position += 1;
        let orders = updates.orders.iter().map(|(id, customer, _, new)| [*id, *customer, *new]);
        let customers = updates.customers.iter().map(|(id, _, new)| [*id, *new]);
        let changes = vec![changes(0, &self.tables[0], orders), changes(1, &self.tables[1], customers)];
        let position = Position::new(self.position, self.position.to_string());
        let transaction = Transaction { position, committed_us: None, depends_on: vec![], changes };
        self.views.offer(self.shop, transaction, &self.ids).expect("the transaction is taken");
        let report = self.views.step();
        assert!(report.failed_views.is_empty() && report.failed_sources.is_empty(), "{report:?}");
    }
}

fn ids_loaders(state: &State) -> Vec<headwater_views::Loader> {
    state.ids.iter().map(|id| state.views.loader(*id).expect("the table is there")).collect()
}

fn table(name: &str, columns: &[&str]) -> TableDef {
    let column = |name: &&str| ColumnDef::new(*name, DataType::Int64, "bigint", ValueClass::Integer).not_null();
    TableDef::new([name], columns.iter().map(column).collect()).with_key([columns[0]])
}

fn batch(schema: &SchemaRef, columns: Vec<Vec<i64>>) -> RecordBatch {
    let columns = columns.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns of the schema")
}

/// A transaction's updates of one table, as a feed tells them: the key of the old row, then the new one.
fn changes<const COLUMNS: usize>(
    table: usize,
    definition: &TableDef,
    rows: impl Iterator<Item = [i64; COLUMNS]>,
) -> TableChange {
    let fields = definition.columns.iter().map(|column| Field::new(&column.name, DataType::Int64, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let (mut columns, mut ops) = (vec![Vec::new(); COLUMNS], Vec::new());
    for row in rows {
        columns.iter_mut().zip(row).for_each(|(column, value)| column.extend([value, value]));
        ops.extend([RowOp::DeleteKey, RowOp::InsertOver]);
    }
    TableChange { table, change: Change::Rows(RowChanges { rows: batch(&schema, columns), ops, kept: vec![] }) }
}
