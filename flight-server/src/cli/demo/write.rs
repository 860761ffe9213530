//! Writes the example shop's data into its stores.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use rusqlite::{Connection, Transaction, params};

use super::data::{Customer, Order, Product, Shipment, date, timestamp};

/// The outcome of writing a store.
pub(super) type Written = Result<(), Box<dyn Error + Send + Sync>>;

pub(super) fn customers(path: &Path, customers: &[Customer]) -> Written {
    sqlite(path, |transaction| {
        transaction.execute_batch(
            "CREATE TABLE customers (
                id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, city TEXT NOT NULL, country TEXT NOT NULL,
                segment TEXT NOT NULL, joined_on DATE NOT NULL);",
        )?;
        let mut insert = transaction.prepare("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        for c in customers {
            insert.execute(params![c.id, c.name, c.email, c.city, c.country, c.segment, date(c.joined_day)])?;
        }
        Ok(())
    })
}

pub(super) fn orders(path: &Path, orders: &[Order]) -> Written {
    sqlite(path, |transaction| {
        transaction.execute_batch(
            "CREATE TABLE orders (
                id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, placed_at TIMESTAMP NOT NULL, status TEXT NOT NULL,
                total DECIMAL(12, 2) NOT NULL);
             CREATE TABLE order_lines (
                order_id INTEGER NOT NULL, line INTEGER NOT NULL, product_id INTEGER NOT NULL, quantity INTEGER NOT NULL,
                unit_price DECIMAL(10, 2) NOT NULL, PRIMARY KEY (order_id, line)) WITHOUT ROWID;",
        )?;
        let mut insert_order = transaction.prepare("INSERT INTO orders VALUES (?, ?, ?, ?, ?)")?;
        let mut insert_line = transaction.prepare("INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)")?;
        for o in orders {
            let placed_at = timestamp(o.placed_day, o.placed_second);
            insert_order.execute(params![o.id, o.customer, placed_at, o.status, amount(o.total_cents())])?;
            for (number, line) in (1_u32..).zip(&o.lines) {
                insert_line.execute(params![o.id, number, line.product, line.quantity, amount(line.unit_cents)])?;
            }
        }
        transaction.execute_batch("CREATE INDEX orders_placed_at ON orders (placed_at);")?;
        Ok(())
    })
}

/// Cents as SQLite keeps a decimal; below 2^53 cents, two places survive.
fn amount(cents: u32) -> f64 {
    f64::from(cents) / 100.0
}

/// Fills a new database in one transaction, without waiting for the disk: an unfinished demo is made anew.
fn sqlite(path: &Path, fill: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Written {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    let transaction = connection.transaction()?;
    fill(&transaction)?;
    transaction.commit()?;
    connection.execute_batch("ANALYZE;")?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

pub(super) fn products(path: &Path, products: &[Product]) -> Written {
    let price = DataType::Decimal128(10, 2);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("category", DataType::Utf8, false),
        Field::new("list_price", price.clone(), false),
        Field::new("weight_kg", DataType::Float64, true),
        Field::new("discontinued", DataType::Boolean, false),
    ]));
    let prices = Decimal128Array::from_iter_values(products.iter().map(|product| i128::from(product.price_cents)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(products.iter().map(|product| i64::from(product.id)))),
        Arc::new(StringArray::from_iter_values(products.iter().map(|product| &product.name))),
        Arc::new(StringArray::from_iter_values(products.iter().map(|product| product.category))),
        Arc::new(prices.with_data_type(price)),
        Arc::new(Float64Array::from_iter(products.iter().map(|product| product.weight_kg))),
        Arc::new(BooleanArray::from_iter(products.iter().map(|product| Some(product.discontinued)))),
    ];
    let mut writer = ArrowWriter::try_new(File::create(path)?, Arc::clone(&schema), None)?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.close()?;
    Ok(())
}

pub(super) fn shipments(path: &Path, shipments: &[Shipment]) -> Written {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "id,order_id,carrier,shipped_on,delivered_on,status")?;
    for s in shipments {
        let delivered = s.delivered_day.map(date).unwrap_or_default();
        writeln!(file, "{},{},{},{},{delivered},{}", s.id, s.order, s.carrier, date(s.shipped_day), s.status)?;
    }
    file.flush()?;
    Ok(())
}
