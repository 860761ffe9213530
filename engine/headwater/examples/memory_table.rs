//! Joins a table of the program itself with a table of a service.
//!
//! `cargo run -p headwater --example memory_table`

use std::error::Error;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::print_batches;
use datafusion::datasource::MemTable;
use headwater::Engine;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A service: its data in a CSV file, its manifest beside it.
    let services = tempfile::tempdir()?;
    std::fs::write(services.path().join("orders.csv"), "id,customer_id,total\n1,7,20\n2,8,5\n3,7,12\n")?;
    let manifest = "service: orders\nsource: {connector: files, url: ./}\npublishes: {orders: {from: orders.csv}}\n";
    std::fs::write(services.path().join("orders.yaml"), manifest)?;
    let engine =
        Engine::builder().services_dir(services.path()).connectors(headwater_connectors::all()).build().await?;

    // A table in this program's memory, registered in a schema of its own.
    let customers = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![7, 8])) as _),
        ("name", Arc::new(StringArray::from(vec!["Ada", "Bob"])) as _),
    ])?;
    let table = MemTable::try_new(customers.schema(), vec![vec![customers]])?;
    engine.register_table("here", "customers", Arc::new(table))?;

    let answer = engine
        .sql(
            "SELECT c.name, count(*) AS orders, sum(o.total) AS total FROM here.customers c \
             JOIN orders.orders o ON o.customer_id = c.id GROUP BY c.name ORDER BY c.name",
        )
        .await?;
    print_batches(&answer.collect().await?)?;
    Ok(())
}
