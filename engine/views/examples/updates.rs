//! How many updates a second a view takes: orders joined with customers, grouped by region.
//!
//! `cargo run --release -p headwater-views --example updates -- 1000000 1000` loads so many orders (and a tenth of that of customers), then
//! applies 200 transactions of so many updates of orders, each with a hundredth as many of customers. It prints the time to load, updates per
//! second, the median and the 99th percentile of an epoch, and the resident memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use headwater_source::{
    Change, ColumnDef, Position, RowChanges, RowOp, TableChange, TableDef, Transaction, ValueClass,
};
use headwater_views::{Input, Maintenance, Options, Query, Resolved};

const REGIONS: usize = 1_000;
const TRANSACTIONS: usize = 200;
const QUERY: &str = "SELECT c.region, sum(o.amount) AS total, count(*) AS n \
                     FROM orders o JOIN customers c ON o.customer = c.id GROUP BY c.region";

type Failure = Box<dyn std::error::Error>;

/// xorshift64: fast, and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

fn table(name: &str, columns: &[&str]) -> TableDef {
    let column = |name: &&str| ColumnDef::new(*name, DataType::Int64, "bigint", ValueClass::Integer).not_null();
    TableDef::new([name], columns.iter().map(column).collect()).with_key([columns[0]])
}

fn batch(schema: &SchemaRef, columns: Vec<Vec<i64>>) -> Result<RecordBatch, Failure> {
    let columns = columns.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn loose(table: &TableDef) -> SchemaRef {
    let fields = table.columns.iter().map(|column| Field::new(&column.name, DataType::Int64, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A transaction's updates of one table: the key of the old row, then the new one.
fn updates(table: usize, definition: &TableDef, rows: &[Vec<i64>]) -> Result<TableChange, Failure> {
    let column = |index: usize| rows.iter().flat_map(|row| [row[index], row[index]]).collect();
    let columns = (0..definition.columns.len()).map(column).collect();
    let rows_batch = batch(&loose(definition), columns)?;
    let ops = rows.iter().flat_map(|_| [RowOp::DeleteKey, RowOp::InsertOver]).collect();
    Ok(TableChange { table, change: Change::Rows(RowChanges { rows: rows_batch, ops, kept: vec![] }) })
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let orders_count = arguments.next().transpose()?.unwrap_or(1_000_000);
    let updates_count = arguments.next().transpose()?.unwrap_or(1_000);
    let customers_count = orders_count / 10;
    let mut dice = Dice(88_172_645_463_325_252);
    let orders = table("orders", &["id", "customer", "amount"]);
    let customers = table("customers", &["id", "region"]);
    let mut regions: Vec<i64> = (0..customers_count).map(|_| dice.roll(REGIONS) as i64).collect();
    let mut held: Vec<(i64, i64)> =
        (0..orders_count).map(|_| (dice.roll(customers_count) as i64, dice.roll(1_000) as i64)).collect();

    let options = Options { view_memory_bytes: 16 << 30, ..Options::default() };
    let mut views = Maintenance::new(options);
    let shop = views.add_source("shop", Arc::new(|_, _| Ok(true)));
    let ids = [views.add_table(shop, "orders", &orders)?, views.add_table(shop, "customers", &customers)?];
    let context = SessionContext::new();
    context.register_batch("orders", RecordBatch::new_empty(orders.schema()))?;
    context.register_batch("customers", RecordBatch::new_empty(customers.schema()))?;
    let plan = futures::executor::block_on(context.state().create_logical_plan(QUERY))?;
    let query = Query::new(plan, &mut |scan| {
        let (id, table) = if scan.table_name.table() == "orders" { (ids[0], &orders) } else { (ids[1], &customers) };
        Ok(Resolved { input: Input::Table(id), schema: table.schema() })
    })?;
    let view = views.create_view("totals", query)?;

    let begun = Instant::now();
    let (mut of_orders, mut of_customers) = (views.loader(ids[0])?, views.loader(ids[1])?);
    for (chunk, rows) in held.chunks(8_192).enumerate() {
        let first = chunk * 8_192;
        let numbers = (first..first + rows.len()).map(|id| id as i64).collect();
        let (customer, amount) = rows.iter().copied().unzip();
        of_orders.push(&batch(&orders.schema(), vec![numbers, customer, amount])?)?;
    }
    of_customers.push(&batch(&customers.schema(), vec![(0..customers_count as i64).collect(), regions.clone()])?)?;
    views.load(shop, Position::new(1, "1"), vec![of_orders, of_customers])?;
    println!("loaded {} rows in {:?}, {} MiB", orders_count + customers_count, begun.elapsed(), resident_mib());

    let mut times: Vec<Duration> = Vec::with_capacity(TRANSACTIONS);
    for number in 0..TRANSACTIONS {
        let mut changed = std::collections::BTreeMap::new();
        for _ in 0..updates_count {
            let id = dice.roll(orders_count);
            held[id].1 = dice.roll(1_000) as i64;
            changed.insert(id, vec![id as i64, held[id].0, held[id].1]);
        }
        let mut moved = std::collections::BTreeMap::new();
        for _ in 0..updates_count / 100 {
            let id = dice.roll(customers_count);
            regions[id] = dice.roll(REGIONS) as i64;
            moved.insert(id, vec![id as i64, regions[id]]);
        }
        let changes = vec![
            updates(0, &orders, &changed.into_values().collect::<Vec<_>>())?,
            updates(1, &customers, &moved.into_values().collect::<Vec<_>>())?,
        ];
        let order = number as u64 + 2;
        let position = Position::new(order, order.to_string());
        let transaction = Transaction { position, committed_us: None, depends_on: vec![], changes };
        let begun = Instant::now();
        views.offer(shop, transaction, &ids)?;
        let report = views.step();
        times.push(begun.elapsed());
        if let Some((_, error)) = report.failed_views.into_iter().next() {
            return Err(error.into());
        }
    }
    let total: Duration = times.iter().sum();
    times.sort();
    println!(
        "{:.0} updates/s; epoch p50 {:?}, p99 {:?}; {} MiB, view {} bytes",
        (TRANSACTIONS * updates_count) as f64 / total.as_secs_f64(),
        times[TRANSACTIONS / 2],
        times[TRANSACTIONS * 99 / 100],
        resident_mib(),
        views.view_status(view)?.bytes
    );
    Ok(())
}
