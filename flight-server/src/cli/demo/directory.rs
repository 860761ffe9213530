//! The directory of the example shop: what lies where, and whose it is.
//!
//! Invariant: nothing is written into a directory that holds anything but a demo of ours, and of ours only the files that are
//! listed here are ever replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::progress::grouped;
use super::data;
use super::write::{self, Written};

/// The manifests, beneath the demo's directory.
pub(super) const SERVICES_DIR: &str = "services";

/// The services and what keeps their data.
pub(super) const SERVICES: [(&str, &str); 4] = [
    ("customers", "a SQLite file, data/customers.db"),
    ("orders", "a SQLite file, data/orders.db"),
    ("catalog", "a folder of Parquet, data/catalog/"),
    ("shipping", "a folder of CSV, data/shipping/"),
];

/// The file that says that a directory is a demo.
const MARKER: &str = ".headwater-demo";
/// What it says of a demo that is whole. The number changes with the data.
const COMPLETE: &str = "headwater demo 1\n";
/// What it says while the demo is being made.
const UNFINISHED: &str = "headwater demo, unfinished\n";

const CUSTOMERS_DB: &str = "data/customers.db";
const ORDERS_DB: &str = "data/orders.db";
const PRODUCTS_FILE: &str = "data/catalog/products.parquet";
const SHIPMENTS_FILE: &str = "data/shipping/shipments.csv";

const MANIFESTS: [(&str, &str); 4] = [
    (
        "services/customers.yaml",
        "\
# Who owns what, and what of it others may read. One file per service.
service: customers
owner: {team: accounts}
source: {connector: sqlite, path: ../data/customers.db}
publishes:
  customers: {}
",
    ),
    (
        "services/orders.yaml",
        "\
service: orders
owner: {team: checkout}
source: {connector: sqlite, path: ../data/orders.db}
publishes:
  orders: {}
  order_lines: {}
",
    ),
    (
        "services/catalog.yaml",
        "\
service: catalog
owner: {team: catalog}
source: {connector: files, url: ../data/catalog/}
publishes:
  # A file has no key of its own; the manifest says what it is.
  products: {from: products.parquet, key: [id]}
",
    ),
    (
        "services/shipping.yaml",
        "\
service: shipping
owner: {team: logistics}
source: {connector: files, url: ../data/shipping/}
publishes:
  shipments: {from: shipments.csv, key: [id]}
",
    ),
];

/// What a directory holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A whole demo.
    Ready,
    /// Nothing, or an unfinished or older demo, which is gone now.
    Empty,
}

/// Makes sure that the directory is the demo's to use.
pub(super) fn prepare(dir: &Path) -> Result<State, Failure> {
    match fs::read_to_string(dir.join(MARKER)) {
        Ok(marker) if marker == COMPLETE && files().all(|file| dir.join(file).is_file()) => Ok(State::Ready),
        Ok(_) => clear(dir).map(|()| State::Empty).map_err(|error| unwritable(dir, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => unmarked(dir),
        Err(error) => Err(unwritable(dir, &error)),
    }
}

/// A directory without the marker is the demo's only if it is new or empty.
fn unmarked(dir: &Path) -> Result<State, Failure> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(State::Empty),
        Ok(false) => Err(Failure::with_hint(
            format!("{} holds files that are not the demo's; nothing was touched", dir.display()),
            "give another directory: headwater demo DIR",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Empty),
        Err(error) => Err(unwritable(dir, &error)),
    }
}

/// Every file that a demo has, but for the marker.
fn files() -> impl Iterator<Item = &'static str> {
    [CUSTOMERS_DB, ORDERS_DB, PRODUCTS_FILE, SHIPMENTS_FILE].into_iter().chain(MANIFESTS.map(|(file, _)| file))
}

/// Removes the demo's own files.
fn clear(dir: &Path) -> io::Result<()> {
    for file in files() {
        match fs::remove_file(dir.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Lays the shop out, each store by a thread of its own. Returns how much there is, for people.
pub(super) fn lay_out(dir: &Path) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| unwritable(dir, error);
    for folder in [SERVICES_DIR, "data/catalog", "data/shipping"] {
        fs::create_dir_all(dir.join(folder)).map_err(|error| failed(&error))?;
    }
    fs::write(dir.join(MARKER), UNFINISHED).map_err(|error| failed(&error))?;
    let counts = stores(dir).map_err(|error| failed(&error))?;
    for (file, text) in MANIFESTS {
        fs::write(dir.join(file), text).map_err(|error| failed(&error))?;
    }
    fs::write(dir.join(MARKER), COMPLETE).map_err(|error| failed(&error))?;
    Ok(counts)
}

fn stores(dir: &Path) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let products = data::products();
    let (orders, customers) = std::thread::scope(|scope| {
        let customers = scope.spawn(data::customers);
        (data::orders(&products), customers.join())
    });
    let customers = customers.map_err(|_| "the customers could not be made")?;
    let shipments = data::shipments(&orders);
    let path = |file: &str| -> PathBuf { dir.join(file) };
    std::thread::scope(|scope| -> Written {
        let threads = [
            scope.spawn(|| write::orders(&path(ORDERS_DB), &orders)),
            scope.spawn(|| write::customers(&path(CUSTOMERS_DB), &customers)),
            scope.spawn(|| write::products(&path(PRODUCTS_FILE), &products)),
            scope.spawn(|| write::shipments(&path(SHIPMENTS_FILE), &shipments)),
        ];
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a store could not be written")?)
    })?;
    let lines: usize = orders.iter().map(|order| order.lines.len()).sum();
    Ok([
        (customers.len(), "customers"),
        (orders.len(), "orders"),
        (lines, "order lines"),
        (products.len(), "products"),
        (shipments.len(), "shipments"),
    ]
    .map(|(count, what)| format!("{} {what}", grouped(count as u64)))
    .join(", "))
}

fn unwritable(dir: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("the demo can't be laid out in {}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("services")).unwrap();
        fs::write(dir.path().join("services/orders.yaml"), "mine").unwrap();
        assert!(matches!(prepare(dir.path()), Err(Failure::Failed { .. })));
        assert_eq!(fs::read_to_string(dir.path().join("services/orders.yaml")).unwrap(), "mine");
    }

    #[test]
    fn unfinished_demo_is_made_anew_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(prepare(dir.path()).unwrap(), State::Empty);
        fs::write(dir.path().join(MARKER), UNFINISHED).unwrap();
        fs::create_dir_all(dir.path().join("data")).unwrap();
        fs::write(dir.path().join(ORDERS_DB), "half").unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert_eq!(prepare(dir.path()).unwrap(), State::Empty);
        assert!(!dir.path().join(ORDERS_DB).exists());
        assert!(dir.path().join("notes.txt").exists());
    }

    #[test]
    fn laid_out_demo_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let demo = dir.path().join("new");
        assert_eq!(prepare(&demo).unwrap(), State::Empty);
        let counts = lay_out(&demo).unwrap();
        assert!(counts.contains("100,000 orders"), "{counts}");
        assert_eq!(prepare(&demo).unwrap(), State::Ready);
        fs::remove_file(demo.join(SHIPMENTS_FILE)).unwrap();
        assert_eq!(prepare(&demo).unwrap(), State::Empty);
    }
}
