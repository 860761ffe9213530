//! A state of the database that several statements read: a snapshot that one transaction exports and others import.

use std::sync::Arc;
use std::time::Instant;

use headwater_source::{QueryId, Result, Snapshot};

use super::answer::Fault;
use super::connect::{Connections, Lease, Purpose};
use super::error::Phase;
use super::tag::TAG;
use super::wire::Wire;

/// What begins a transaction that reads an older state.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot()";
const COMMIT: &str = "COMMIT";

/// An exported snapshot, until it is dropped. Statements that have begun to read it keep it for themselves.
pub(super) struct Exported {
    name: String,
    lease: Option<Lease>,
    /// The connection that made a slot and exported what the slot begins with; it must do nothing else meanwhile.
    _slot: Option<Wire>,
}

/// Exports a snapshot of now, on a connection that only snapshots use.
pub(super) async fn export(connections: &Connections, query: Option<QueryId>) -> Result<Snapshot> {
    let mut lease = connections.lease_for(Purpose::Snapshot).await?;
    let started = Instant::now();
    let name = query.and_then(|query| connections.name_for(Purpose::Snapshot, query));
    match begin(&mut lease, name.as_deref()).await {
        Ok(name) => Ok(Snapshot::new(Arc::new(Exported { name, lease: Some(lease), _slot: None }))),
        Err(fault) => {
            lease.recover().await;
            Err(connections.place.statement("pg_catalog", Phase::Starting, started, fault))
        }
    }
}

async fn begin(wire: &mut Wire, name: Option<&str>) -> Result<String, Fault> {
    wire.settle().await?;
    let begin = wire.run(BEGIN)?;
    let export = wire.run(EXPORT)?;
    let tag = name.map(|name| wire.run_with(TAG, &[name])).transpose()?;
    wire.sync();
    wire.flush().await?;
    wire.ran(BEGIN, begin).await?;
    let columns = wire.described(EXPORT, export).await?;
    let rows = wire.bound_rows(&columns).await?;
    if let Some(tag) = tag {
        wire.ran(TAG, tag).await?;
    }
    wire.settle().await?;
    checked(rows.first().ok_or(Fault::Malformed("no snapshot"))?.get(0)?)
}

/// A snapshot's name is about to be text of a statement, where no value can be bound.
fn checked(name: String) -> Result<String, Fault> {
    match name.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        true => Ok(name),
        false => Err(Fault::Malformed("a snapshot of an odd name")),
    }
}

impl Exported {
    /// What a slot begins with, exported by the connection that made the slot.
    pub(super) fn of_slot(name: String, wire: Wire) -> Result<Self, Fault> {
        Ok(Self { name: checked(name)?, lease: None, _slot: Some(wire) })
    }

    /// Makes a transaction that has just begun see this state.
    pub(super) fn import(&self) -> String {
        format!("SET TRANSACTION SNAPSHOT '{}'", self.name)
    }
}

/// Ends the transaction without waiting for it. Where that takes waiting, the connection is closed instead, which ends it too.
impl Drop for Exported {
    fn drop(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        let asked = lease.run(COMMIT).map(|_| lease.sync());
        if asked.is_ok() && lease.flush_now() {
            lease.release();
        }
    }
}
