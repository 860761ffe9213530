//! A prepared request, and the stream of its batches.
//!
//! A statement without binds is read by COPY, one with binds by the extended protocol; both in binary.
//!
//! Invariant: the table that is read is the table that was planned. A scan runs in a read-only transaction of its own. Preparing the
//! statement locks the table against changes until the transaction ends; then the catalog is read again and compared with the
//! plan, and only then rows are asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use futures::future::try_join_all;
use futures::{StreamExt, stream};
use headwater_source::arrow::datatypes::SchemaRef;
use headwater_source::{
    BatchStream, ColumnDef, Error, QueryRequest, RemoteStatement, Result, Scan, ScanRequest, TableDef, async_trait,
};
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

use super::bind::Parameter;
use super::connect::{BEGIN, Connections, Lease};
use super::decode::{BadValue, Decoder};
use super::dialect::Postgres;
use super::discover::described;
use super::error::{Phase, Place};
use super::rows::{More, Rows, Trouble};
use super::types::wire_type;
use crate::sql::{render, render_relation};

/// How much longer than the statement's limit we wait for the server to enforce it.
const GRACE: Duration = Duration::from_secs(1);

/// A request, rendered.
pub(super) struct PostgresScan {
    connections: Arc<Connections>,
    asked: Asked,
    statement: RemoteStatement,
    parameters: Vec<Parameter>,
}

/// What a request is about, whether it is a scan or a query.
struct Asked {
    /// What is read.
    columns: Vec<ColumnDef>,
    schema: SchemaRef,
    batch_rows: usize,
    /// The tables, and which of their columns the result depends on.
    tables: Vec<(Arc<TableDef>, Vec<usize>)>,
    /// The tables' names, for messages.
    names: String,
}

impl std::fmt::Debug for PostgresScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresScan({})", self.statement)
    }
}

impl PostgresScan {
    /// Renders a scan.
    pub(super) fn of_table(connections: Arc<Connections>, request: ScanRequest) -> Result<Self> {
        let place = &connections.place;
        if let Some(index) = request.projection.iter().find(|index| **index >= request.table.columns.len()) {
            return Err(place.unsupported(format!("there is no column {index}")));
        }
        let statement = render(&Postgres, &place.service, &request)?;
        let asked = Asked {
            columns: request.projection.iter().map(|index| request.table.columns[*index].clone()).collect(),
            schema: request.schema(),
            batch_rows: request.batch_rows,
            names: request.table.full_name(),
            tables: vec![(Arc::clone(&request.table), columns_used(&request))],
        };
        Self::new(connections, asked, statement)
    }

    /// Renders a query.
    pub(super) fn of_query(connections: Arc<Connections>, request: &QueryRequest) -> Result<Self> {
        let statement = render_relation(&Postgres, &connections.place.service, &request.relation)?;
        let used = request.relation.used_columns().into_iter();
        let asked = Asked {
            columns: request.columns(),
            schema: Arc::clone(&request.schema),
            batch_rows: request.batch_rows,
            names: request.relation.to_string(),
            tables: used.map(|(table, columns)| (Arc::clone(table), columns.into_iter().collect())).collect(),
        };
        Self::new(connections, asked, statement)
    }

    fn new(connections: Arc<Connections>, asked: Asked, statement: RemoteStatement) -> Result<Self> {
        let place = &connections.place;
        if statement.binds.len() > super::dialect::CAPABILITIES.max_binds() {
            return Err(place.unsupported(format!("{} values in one statement", statement.binds.len())));
        }
        let parameters = statement.binds.iter().map(Parameter::new).collect::<Result<_, _>>();
        let parameters = parameters.map_err(|reason| place.unsupported(reason))?;
        Ok(Self { connections, asked, statement, parameters })
    }

    /// Starts the transaction, checks the tables and asks for rows.
    async fn start(&self, lease: &Lease, started: Instant) -> Result<Rows> {
        let place = &self.connections.place;
        let names = &self.asked.names;
        let failed = |error| place.statement(names, Phase::Starting, started, error);
        let unprepared = |error| place.statement(names, Phase::Preparing, started, error);
        let text = &self.statement.text;
        let described = try_join_all(self.asked.tables.iter().map(|(table, _)| described(lease, &table.path)));
        if !self.parameters.is_empty() {
            // One round trip: the driver sends in the order of the first polls, and the server works in that order.
            let (begun, statement, now) = tokio::join!(lease.batch_execute(BEGIN), lease.prepare(text), described);
            begun.map_err(failed)?;
            let statement = statement.map_err(unprepared)?;
            self.verify(&statement, &now.map_err(failed)?)?;
            let rows = lease.query_raw(&statement, self.parameters.iter()).await.map_err(failed)?;
            return Ok(Rows::bound(rows));
        }
        let copy = format!("COPY ({text}) TO STDOUT (FORMAT binary)");
        let (begun, statement, copy, now) =
            tokio::join!(lease.batch_execute(BEGIN), lease.prepare(text), lease.prepare(&copy), described);
        begun.map_err(failed)?;
        let statement = statement.map_err(unprepared)?;
        let copy = copy.map_err(unprepared)?;
        self.verify(&statement, &now.map_err(failed)?)?;
        let stream = lease.copy_out(&copy).await.map_err(failed)?;
        Ok(Rows::copied(stream, statement.columns().len()))
    }

    fn verify(&self, statement: &Statement, now: &[Option<TableDef>]) -> Result<()> {
        for ((table, used), now) in self.asked.tables.iter().zip(now) {
            let difference = match now {
                None => Some("it is gone, or this role may no longer read it".to_owned()),
                Some(now) => difference(table, used, now),
            };
            if let Some(change) = difference {
                return Err(self.connections.place.changed(&table.full_name(), change));
            }
        }
        self.misfit(statement).map_or(Ok(()), |change| Err(self.connections.place.changed(&self.asked.names, change)))
    }

    /// How the statement's result differs from what the decoder expects.
    fn misfit(&self, statement: &Statement) -> Option<String> {
        let mut expected: Vec<Type> = self.asked.columns.iter().map(wire_type).collect();
        if expected.is_empty() {
            expected.push(Type::INT4);
        }
        let actual: Vec<&Type> = statement.columns().iter().map(|column| column.type_()).collect();
        (expected.iter().collect::<Vec<_>>() != actual)
            .then(|| format!("it yields {actual:?} where {expected:?} is expected"))
    }
}

/// The columns that the scan reads, filters or sorts by.
fn columns_used(request: &ScanRequest) -> Vec<usize> {
    let mut used = request.projection.clone();
    used.extend(request.sort.iter().map(|key| key.column));
    request.filters.iter().for_each(|filter| filter.visit_columns(&mut |index| used.push(index)));
    used.sort_unstable();
    used.dedup();
    used
}

/// What of the columns that a request uses is no longer as planned.
fn difference(table: &TableDef, used: &[usize], now: &TableDef) -> Option<String> {
    used.iter().filter_map(|index| table.columns.get(*index)).find_map(|planned| {
        match now.columns.iter().find(|column| column.name == planned.name) {
            None => Some(format!("column \"{}\" is gone", planned.name)),
            Some(column) => column_difference(planned, column),
        }
    })
}

fn column_difference(planned: &ColumnDef, now: &ColumnDef) -> Option<String> {
    let alike = (&planned.data_type, planned.class, &planned.collation) == (&now.data_type, now.class, &now.collation);
    if !alike {
        let collation = now.collation.as_ref().map(|name| format!(" collation {name}")).unwrap_or_default();
        return Some(format!(
            "column \"{}\" was {} and is {}{collation}",
            planned.name, planned.remote_type, now.remote_type
        ));
    }
    (now.nullable && !planned.nullable).then(|| format!("column \"{}\" may be NULL now", planned.name))
}

#[async_trait]
impl Scan for PostgresScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        let place = self.connections.place.clone();
        if partition != 0 {
            return Err(place.unsupported(format!("partition {partition} of 1")));
        }
        let lease = self.connections.lease().await?;
        let started = Instant::now();
        let rows = within_limit(&place, started, self.start(&lease, started)).await??;
        let reading = Reading {
            rows,
            decoder: Decoder::new(&self.asked.columns, Arc::clone(&self.asked.schema), self.asked.batch_rows),
            table: self.asked.names.clone(),
            place,
            started,
            lease,
        };
        Ok(stream::try_unfold(Some(reading), next_batch).boxed())
    }
}

/// Waits no longer than the statement's limit allows, for servers that no longer answer.
async fn within_limit<T>(place: &Place, started: Instant, work: impl Future<Output = T>) -> Result<T> {
    match place.statement_timeout {
        None => Ok(work.await),
        Some(limit) => {
            let deadline = tokio::time::Instant::from_std(started + limit + GRACE);
            tokio::time::timeout_at(deadline, work).await.map_err(|_| place.statement_timeout())
        }
    }
}

/// A scan that has begun. Dropping it cancels the statement.
struct Reading {
    rows: Rows,
    decoder: Decoder,
    table: String,
    place: Place,
    started: Instant,
    lease: Lease,
}

async fn next_batch(reading: Option<Reading>) -> Result<Option<(RecordBatch, Option<Reading>)>> {
    let Some(mut reading) = reading else { return Ok(None) };
    let place = reading.place.clone();
    match within_limit(&place, reading.started, reading.fill()).await?? {
        More::Yes => Ok(Some((reading.take()?, Some(reading)))),
        More::No => {
            let last = if reading.decoder.is_empty() { None } else { Some((reading.take()?, None)) };
            let Reading { rows, lease, .. } = reading;
            drop(rows);
            lease.finish();
            Ok(last)
        }
    }
}

impl Reading {
    /// Reads until the batch is full or nothing is left.
    async fn fill(&mut self) -> Result<More> {
        while !self.decoder.is_full() {
            match self.rows.advance(&mut self.decoder).await {
                Ok(More::Yes) => {}
                Ok(More::No) => return Ok(More::No),
                Err(trouble) => return Err(self.failed(trouble)),
            }
        }
        Ok(More::Yes)
    }

    fn take(&mut self) -> Result<RecordBatch> {
        self.decoder.take().map_err(|error| self.place.lost(&self.table, Phase::Reading, Box::new(error)))
    }

    fn failed(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Server(error) => self.place.statement(&self.table, Phase::Reading, self.started, error),
            Trouble::Copy(error) => self.place.lost(&self.table, Phase::Reading, Box::new(error)),
            Trouble::Value(bad) => {
                let BadValue { column, data_type, reason } = *bad;
                let (service, table) = (self.place.service.clone(), self.table.clone());
                Error::Value { service, table, column, data_type, reason }
            }
        }
    }
}
