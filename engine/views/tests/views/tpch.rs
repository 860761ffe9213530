//! The 22 queries of TPC-H as views, under orders that come and go and prices that change.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchReader, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_source::{Change, Position, RowChanges, RowOp, TableChange, TableDef, Transaction};
use headwater_views::{Input, Maintenance, Mode, Options, Query, Resolved, SourceId, TableId, ViewId};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

use crate::dice::Dice;
use crate::model::column;
use crate::world::{block, covers, rows_of, same};

/// 3,000 orders, 12,000 lines.
const SCALE_FACTOR: f64 = 0.002;

struct Table {
    name: &'static str,
    definition: TableDef,
    all: RecordBatch,
    /// Which rows are there.
    live: Vec<bool>,
    id: TableId,
}

fn all_rows(reader: impl RecordBatchReader) -> RecordBatch {
    let narrow = |field: &Arc<Field>| {
        let data_type =
            if *field.data_type() == DataType::Utf8View { DataType::Utf8 } else { field.data_type().clone() };
        Arc::new(Field::new(field.name(), data_type, false))
    };
    let schema: SchemaRef = Arc::new(Schema::new(reader.schema().fields().iter().map(narrow).collect::<Vec<_>>()));
    let batches: Vec<RecordBatch> = reader
        .map(|batch| {
            let batch = batch.expect("generated rows");
            let columns = schema.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, column)| cast(column, field.data_type()).expect("a cast")).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns).expect("rows of the schema")
        })
        .collect();
    concat_batches(&schema, &batches).expect("one schema")
}

fn tables(views: &mut Maintenance, source: SourceId) -> Vec<Table> {
    let sf = SCALE_FACTOR;
    let generated: Vec<(&'static str, &[&str], RecordBatch)> = vec![
        ("region", &["r_regionkey"], all_rows(RegionArrow::new(RegionGenerator::default()))),
        ("nation", &["n_nationkey"], all_rows(NationArrow::new(NationGenerator::default()))),
        ("customer", &["c_custkey"], all_rows(CustomerArrow::new(CustomerGenerator::new(sf, 1, 1)))),
        ("orders", &["o_orderkey"], all_rows(OrderArrow::new(OrderGenerator::new(sf, 1, 1)))),
        ("lineitem", &["l_orderkey", "l_linenumber"], all_rows(LineItemArrow::new(LineItemGenerator::new(sf, 1, 1)))),
        ("part", &["p_partkey"], all_rows(PartArrow::new(PartGenerator::new(sf, 1, 1)))),
        ("supplier", &["s_suppkey"], all_rows(SupplierArrow::new(SupplierGenerator::new(sf, 1, 1)))),
        // At this scale two of its rows have one key.
        ("partsupp", &[], all_rows(PartSuppArrow::new(PartSuppGenerator::new(sf, 1, 1)))),
    ];
    let table = |(name, key, all): (&'static str, &[&str], RecordBatch)| {
        let schema = all.schema();
        let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type().clone()).not_null());
        let mut definition = TableDef::new([name], columns.collect());
        if !key.is_empty() {
            definition = definition.with_key(key.iter().copied());
        }
        let id = views.add_table(source, name, &definition).expect("a table");
        let live = vec![true; all.num_rows()];
        Table { name, definition, all, live, id }
    };
    generated.into_iter().map(table).collect()
}

impl Table {
    fn rows(&self) -> RecordBatch {
        filter_record_batch(&self.all, &BooleanArray::from(self.live.clone())).expect("a mask of all rows")
    }

    /// Rows change whether they are there.
    fn toggle(&mut self, table: usize, places: &[usize]) -> TableChange {
        let ops = places.iter().map(|place| {
            self.live[*place] = !self.live[*place];
            match (self.live[*place], &self.definition.key) {
                (true, _) => RowOp::Insert,
                (false, Some(_)) => RowOp::DeleteKey,
                (false, None) => RowOp::DeleteRow,
            }
        });
        let ops = ops.collect();
        let places = UInt32Array::from_iter_values(places.iter().map(|place| *place as u32));
        let rows = take_record_batch(&self.all, &places).expect("rows that are there");
        TableChange { table, change: Change::Rows(RowChanges { rows, ops, kept: vec![] }) }
    }
}

fn queries() -> Vec<(usize, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql-tests/tpch");
    let read = |number: usize| {
        let text = std::fs::read_to_string(directory.join(format!("q{number:02}.sql"))).expect("the query's text");
        (number, text.trim().trim_end_matches(';').to_owned())
    };
    (1..=22).map(read).collect()
}

fn context(tables: &[Table]) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    for table in tables {
        let rows = MemTable::try_new(table.definition.schema(), vec![vec![table.rows()]]).expect("a table");
        context.register_table(table.name, Arc::new(rows)).expect("a free name");
    }
    context
}

fn check(views: &Maintenance, tables: &[Table], created: &[(usize, String, ViewId)], what: &str) {
    let (context, epoch) = (context(tables), views.published());
    for (number, sql, view) in created {
        let shown = rows_of(&epoch.view(*view).expect("visible").version.batches().expect("rows"));
        let expected = block(async { context.sql(sql).await.expect("a query").collect().await }).expect("an answer");
        let expected = rows_of(&expected);
        assert_eq!(shown.len(), expected.len(), "q{number:02}, {what}: rows");
        let odd = shown.iter().zip(&expected).find(|(shown, expected)| shown != expected);
        assert!(same(&shown, &expected), "q{number:02}, {what}: {odd:?}");
    }
}

#[test]
fn all_queries_stay_exact_while_orders_come_and_go() {
    let mut views = Maintenance::new(Options::default());
    let source = views.add_source("shop", covers());
    let mut tables = tables(&mut views, source);
    let mut dice = Dice::new(22);
    // A third of the orders and of their lines come later; so do some parts and suppliers.
    for table in &mut tables[2..] {
        table.live.iter_mut().for_each(|live| *live = !dice.once_in(3));
    }
    let ids: Vec<TableId> = tables.iter().map(|table| table.id).collect();
    let load = |table: &Table| {
        let mut loader = views.loader(table.id).expect("the table is there");
        loader.push(&table.rows()).expect("its rows");
        loader
    };
    let loaders = tables.iter().map(load).collect();
    views.load(source, Position::new(1, "1"), loaders).expect("loaded");
    let plans = context(&tables);
    let mut recomputed = Vec::new();
    let mut created = Vec::new();
    for (number, sql) in queries() {
        let plan = block(plans.state().create_logical_plan(&sql)).expect("a plan");
        let query = Query::new(plan, &mut |scan| {
            let name = &scan.table_name;
            let table = tables.iter().find(|table| table.name == name.table()).expect("a table of TPC-H");
            Ok(Resolved { input: Input::Table(table.id), schema: table.definition.schema() })
        });
        let query = query.unwrap_or_else(|error| panic!("q{number:02}: {}", error.report()));
        let view = views.create_view(&format!("q{number:02}"), query).expect("a view");
        if views.explain(view).expect("a view").iter().any(|line| line.description.mode != Mode::Incremental) {
            recomputed.push(number);
        }
        created.push((number, sql, view));
    }
    assert!(views.start_views().failed_views.is_empty());
    println!("recomputed: {recomputed:?}");
    assert!(recomputed.len() <= 3, "{recomputed:?}");
    check(&views, &tables, &created, "loaded");
    for epoch in 0..6_u64 {
        let mut changes = Vec::new();
        for (table, held) in tables.iter_mut().enumerate().skip(2) {
            let count = held.live.len() / 40 + 1;
            let mut places: Vec<usize> = (0..count).map(|_| dice.roll(held.live.len())).collect();
            places.sort_unstable();
            places.dedup();
            changes.push(held.toggle(table, &places));
        }
        let position = Position::new(epoch + 2, (epoch + 2).to_string());
        let transaction = Transaction { position, committed_us: None, depends_on: vec![], changes };
        views.offer(source, transaction, &ids).expect("taken");
        let report = views.step();
        assert!(report.failed_views.is_empty() && report.failed_sources.is_empty(), "{report:?}");
        if epoch % 3 == 2 {
            check(&views, &tables, &created, &format!("epoch {epoch}"));
        }
    }
}
