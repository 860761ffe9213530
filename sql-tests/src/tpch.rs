//! TPC-H data over four services, one per connector, and the same data in memory.
//!
//! | service | store | tables |
//! |---|---|---|
//! | `customers` | Postgres | customer, nation, region |
//! | `orders` | MariaDB | orders, lineitem |
//! | `catalog` | SQLite | part |
//! | `suppliers` | Parquet files | supplier, partsupp |

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatchReader;
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use rusqlite::params_from_iter;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

use crate::mysql::MysqlDatabase;
use crate::postgres::PostgresDatabase;
use crate::services::Services;

/// 15,000 orders, 60,175 lines.
pub const SCALE_FACTOR: f64 = 0.01;

/// The 22 queries, by number, from `tpch/q01.sql` to `tpch/q22.sql`.
pub fn queries() -> Vec<(usize, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let read = |number| {
        let path = directory.join(format!("q{number:02}.sql"));
        (number, std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    (1..=22).map(read).collect()
}

/// A table's name, its service and its rows as they were generated.
#[derive(Debug, Clone)]
pub struct Table {
    /// The service that owns it.
    pub service: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its rows. Text is Utf8.
    pub batches: Vec<RecordBatch>,
}

/// The eight tables at a scale factor.
pub fn tables(sf: f64) -> Vec<Table> {
    vec![
        table("customers", "region", RegionArrow::new(RegionGenerator::default())),
        table("customers", "nation", NationArrow::new(NationGenerator::default())),
        table("customers", "customer", CustomerArrow::new(CustomerGenerator::new(sf, 1, 1))),
        table("orders", "orders", OrderArrow::new(OrderGenerator::new(sf, 1, 1))),
        table("orders", "lineitem", LineItemArrow::new(LineItemGenerator::new(sf, 1, 1))),
        table("catalog", "part", PartArrow::new(PartGenerator::new(sf, 1, 1))),
        table("suppliers", "supplier", SupplierArrow::new(SupplierGenerator::new(sf, 1, 1))),
        table("suppliers", "partsupp", PartSuppArrow::new(PartSuppGenerator::new(sf, 1, 1))),
    ]
}

/// The four services, with their stores. Dropping it drops the databases.
#[derive(Debug)]
pub struct Tpch {
    /// The directory of manifests.
    pub services: Services,
    /// What was loaded.
    pub tables: Vec<Table>,
    /// The store of `customers`.
    pub customers: PostgresDatabase,
    /// The store of `orders`.
    pub orders: MysqlDatabase,
}

impl Tpch {
    /// Generates the data at [`SCALE_FACTOR`] and loads every store.
    pub async fn load() -> Self {
        Self::load_at(SCALE_FACTOR).await
    }

    /// The same at another scale factor. All of it is in memory at once: 2 GB at scale factor 1.
    pub async fn load_at(scale_factor: f64) -> Self {
        let tables = tables(scale_factor);
        let customers = PostgresDatabase::with(CUSTOMERS).await;
        let orders = MysqlDatabase::with(ORDERS).await;
        let services = Services::new()
            .with_postgres("customers", &customers.url())
            .with_mysql("orders", &orders.url())
            .with_sqlite("catalog", CATALOG)
            .with_files("suppliers");
        for table in &tables {
            match table.service {
                "customers" => customers.copy_csv(table.name, csv(&table.batches)).await,
                "orders" => orders.load_csv(table.name, csv(&table.batches)).await,
                "catalog" => insert(&mut services.sqlite("catalog"), table),
                _ => write_parquet(
                    &services.folder(table.service).join(format!("{}.parquet", table.name)),
                    &table.batches,
                ),
            }
        }
        customers.execute("ANALYZE").await;
        orders.execute("ANALYZE TABLE orders, lineitem").await;
        Self { services, tables, customers, orders }
    }
}

impl Table {
    /// The same rows under the names, types and nullability of a schema.
    pub fn cast_to(&self, schema: &SchemaRef) -> Vec<RecordBatch> {
        self.batches.iter().map(|batch| cast_batch(batch, schema)).collect()
    }
}

fn table(service: &'static str, name: &'static str, reader: impl RecordBatchReader) -> Table {
    let utf8 = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    let schema: SchemaRef = Arc::new(Schema::new(reader.schema().fields().iter().map(utf8).collect::<Vec<_>>()));
    let batches = reader.map(|batch| cast_batch(&batch.expect("generated rows are well-formed"), &schema)).collect();
    Table { service, name, batches }
}

fn cast_batch(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        cast(column, field.data_type()).unwrap_or_else(|error| panic!("column {:?}: {error}", field.name()))
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("columns were cast to the schema")
}

fn csv(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_header(false).build(&mut bytes);
    for batch in batches {
        writer.write(batch).expect("rows can be written to memory");
    }
    drop(writer);
    bytes
}

/// Values go as text; the columns' affinity makes them what their declared types say.
fn insert(database: &mut rusqlite::Connection, table: &Table) {
    let transaction = database.transaction().expect("SQLite begins a transaction");
    for batch in &table.batches {
        let places = vec!["?"; batch.num_columns()].join(", ");
        let mut statement = transaction
            .prepare_cached(&format!("INSERT INTO {} VALUES ({places})", table.name))
            .expect("the table is there");
        let options = FormatOptions::default();
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("a printable type"))
            .collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.value(row).to_string());
            statement.execute(params_from_iter(values)).unwrap_or_else(|error| panic!("{}: {error}", table.name));
        }
    }
    transaction.commit().expect("SQLite commits");
}

fn write_parquet(path: &Path, batches: &[RecordBatch]) {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut writer =
        ArrowWriter::try_new(file, batches[0].schema(), None).expect("the schema can be written to Parquet");
    for batch in batches {
        writer.write(batch).expect("rows can be written to Parquet");
    }
    writer.close().expect("a Parquet file can be finished");
}

const CUSTOMERS: &str = "
CREATE TABLE region (
  r_regionkey bigint PRIMARY KEY, r_name varchar(25) NOT NULL, r_comment varchar(152));
CREATE TABLE nation (
  n_nationkey bigint PRIMARY KEY, n_name varchar(25) NOT NULL, n_regionkey bigint NOT NULL, n_comment varchar(152));
CREATE TABLE customer (
  c_custkey bigint PRIMARY KEY, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL, c_nationkey bigint NOT NULL,
  c_phone varchar(15) NOT NULL, c_acctbal numeric(15,2) NOT NULL, c_mktsegment varchar(10) NOT NULL,
  c_comment varchar(117) NOT NULL);
CREATE INDEX ON nation (n_regionkey);
CREATE INDEX ON customer (c_nationkey);";

const ORDERS: &str = "
CREATE TABLE orders (
  o_orderkey bigint NOT NULL PRIMARY KEY, o_custkey bigint NOT NULL, o_orderstatus varchar(1) NOT NULL,
  o_totalprice decimal(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority varchar(15) NOT NULL,
  o_clerk varchar(15) NOT NULL, o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL,
  INDEX (o_custkey), INDEX (o_orderdate)) ENGINE=InnoDB;
CREATE TABLE lineitem (
  l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
  l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL,
  l_tax decimal(15,2) NOT NULL, l_returnflag varchar(1) NOT NULL, l_linestatus varchar(1) NOT NULL, l_shipdate date NOT NULL,
  l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct varchar(25) NOT NULL, l_shipmode varchar(10) NOT NULL,
  l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber), INDEX (l_partkey), INDEX (l_suppkey)) ENGINE=InnoDB;";

const CATALOG: &str = "
CREATE TABLE part (
  p_partkey INTEGER PRIMARY KEY, p_name TEXT NOT NULL, p_mfgr TEXT NOT NULL, p_brand TEXT NOT NULL, p_type TEXT NOT NULL,
  p_size INTEGER NOT NULL, p_container TEXT NOT NULL, p_retailprice DECIMAL(15,2) NOT NULL, p_comment TEXT NOT NULL);";
