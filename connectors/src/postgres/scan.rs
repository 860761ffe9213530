//! A prepared request, and the stream of its batches.
//!
//! A scan is one round trip: the transaction's begin, the statement, the state of its tables and the transaction's end go out together, and
//! rows are decoded as they come. Statements of values and of none are read alike, in binary by the extended protocol.
//!
//! Invariant: the table that is read is the table that was planned. Binding the statement locks its tables against changes until the
//! transaction ends; then their state is read, before any row, and must be that of a description which fits the plan. Where
//! it is not, the rows are thrown away, the tables described anew, and the statement asked again or refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};
use headwater_source::arrow::datatypes::SchemaRef;
use headwater_source::{
    BatchStream, Bind, ColumnDef, Error, QueryRequest, ReadContext, RemoteStatement, Result, ScalarValue, Scan,
    ScanRequest, Snapshot, TableDef, ValueClass, async_trait,
};
use tokio_postgres::types::{Oid, Type};

use super::answer::Fault;
use super::bind::Parameter;
use super::connect::{Connections, Lease, Purpose};
use super::decode::{BadValue, Decoder, Unreadable};
use super::dialect::{Postgres, Reads};
use super::discover::{described, failed};
use super::error::{Phase, Place};
use super::known::{Description, State};
use super::rows::{More, Trouble, read};
use super::snapshot::{self, Exported};
use super::split::{bounded, split};
use super::tag::TAG;
use super::types::{is_sent_as, wire_type};
use super::wire::Wire;
use crate::sql::{render, render_relation};

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
const COMMIT: &str = "COMMIT";
/// The portal that yields the rows.
const ROWS: &str = "rows";

/// So often a statement is asked whose tables are found to have changed though what it needs of them has not.
const TRIES: usize = 3;

/// How much longer than the statement's limit we wait for the server to enforce it.
const GRACE: Duration = Duration::from_secs(1);

/// A request, rendered.
pub(super) struct PostgresScan {
    connections: Arc<Connections>,
    asked: Asked,
    statement: RemoteStatement,
    /// The values of each part; a request that is not split has one.
    parts: Vec<Vec<Parameter>>,
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

/// Which state a statement reads, and what its connection calls itself meanwhile.
struct Of {
    state: Option<Arc<Exported>>,
    name: Option<String>,
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
        let known = connections.known.get(&request.table.path);
        let split = known.and_then(|known| split(&request, &known));
        let statement =
            render(&Postgres(Reads::Columns), &place.service, split.as_ref().map_or(&request, |split| &split.request))?;
        let asked = Asked {
            columns: request.projection.iter().map(|index| request.table.columns[*index].clone()).collect(),
            schema: request.schema(),
            batch_rows: request.batch_rows,
            names: request.table.full_name(),
            tables: vec![(Arc::clone(&request.table), columns_used(&request))],
        };
        Self::new(connections, asked, statement, split.map(|split| split.parts).unwrap_or_default())
    }

    /// Renders a query.
    pub(super) fn of_query(connections: Arc<Connections>, request: &QueryRequest) -> Result<Self> {
        let statement = render_relation(&Postgres(Reads::Values), &connections.place.service, &request.relation)?;
        let used = request.relation.used_columns().into_iter();
        let asked = Asked {
            columns: request.columns(),
            schema: Arc::clone(&request.schema),
            batch_rows: request.batch_rows,
            names: request.relation.to_string(),
            tables: used.map(|(table, columns)| (Arc::clone(table), columns.into_iter().collect())).collect(),
        };
        Self::new(connections, asked, statement, vec![])
    }

    /// `bounds` are those of each part; there are none where the statement is the whole.
    fn new(
        connections: Arc<Connections>,
        asked: Asked,
        statement: RemoteStatement,
        bounds: Vec<[ScalarValue; 2]>,
    ) -> Result<Self> {
        let place = &connections.place;
        if statement.binds.len() > super::dialect::CAPABILITIES.max_binds() {
            return Err(place.unsupported(format!("{} values in one statement", statement.binds.len())));
        }
        let values = |binds: &[Bind]| binds.iter().map(Parameter::new).collect::<Result<Vec<_>, _>>();
        let parts = match bounds.is_empty() {
            true => values(&statement.binds).map(|values| vec![values]),
            false => bounds.iter().map(|bounds| values(&bounded(&statement.binds, bounds))).collect(),
        };
        let parts = parts.map_err(|reason| place.unsupported(reason))?;
        Ok(Self { connections, asked, statement, parts })
    }

    async fn read(&self, partition: usize, of: &Of) -> Result<BatchStream> {
        let place = &self.connections.place;
        let values = self.parts.get(partition);
        let values = values.ok_or_else(|| place.unsupported(format!("part {partition} of {}", self.parts.len())))?;
        for _ in 0..TRIES {
            let mut lease = self.connections.lease().await?;
            let started = Instant::now();
            match within_limit(place, started, self.start(&mut lease, values, of, started)).await? {
                Ok(Start::Reading) => return Ok(self.stream(lease, started)),
                Ok(Start::Stale) => self.forget(),
                Ok(Start::StaleStatement) => {
                    self.forget();
                    lease.recover().await;
                }
                Err(error) => {
                    lease.recover_if_refused().await;
                    return Err(error);
                }
            }
        }
        Err(place.changed(&self.asked.names, "it keeps changing".to_owned()))
    }

    fn of(&self, context: &ReadContext) -> Result<Of> {
        let foreign = || self.connections.place.unsupported("a snapshot of another kind of source");
        let exported = |snapshot: &Snapshot| snapshot.get::<Exported>().ok_or_else(foreign);
        let state = context.snapshot.as_ref().map(exported).transpose()?;
        let name = context.query.and_then(|query| self.connections.name_for(Purpose::Statement, query));
        Ok(Of { state, name })
    }

    fn forget(&self) {
        self.asked.tables.iter().for_each(|(table, _)| self.connections.known.forget(&table.path));
    }

    fn stream(&self, lease: Lease, started: Instant) -> BatchStream {
        let reading = Reading {
            decoder: Decoder::new(&self.asked.columns, Arc::clone(&self.asked.schema), self.asked.batch_rows),
            table: self.asked.names.clone(),
            place: self.connections.place.clone(),
            started,
            lease,
        };
        stream::try_unfold(Some(reading), next_batch).boxed()
    }

    /// Asks for rows, and reads up to the first of them.
    async fn start(&self, lease: &mut Lease, values: &[Parameter], of: &Of, started: Instant) -> Result<Start> {
        let tables = self.expected(lease).await?;
        let (mut phase, mut kept) = (Phase::Preparing, false);
        match self.begin(lease, values, of, &tables, &mut phase, &mut kept).await {
            Ok(start) => Ok(start),
            Err(Begun::Misfit(change)) => Err(self.connections.place.changed(&self.asked.names, change)),
            Err(Begun::Fault(Fault::Server(error))) if phase == Phase::Preparing && kept && error.is_of_prepared() => {
                lease.forget(&self.statement.text).map_err(|fault| self.failed(phase, started, fault))?;
                Ok(Start::StaleStatement)
            }
            Err(Begun::Fault(fault)) => Err(self.failed(phase, started, fault)),
        }
    }

    fn failed(&self, phase: Phase, started: Instant, fault: Fault) -> Error {
        self.connections.place.statement(&self.asked.names, phase, started, fault)
    }

    /// Descriptions of the tables that fit the plan: those that are remembered, or those that the catalog gives now.
    async fn expected(&self, wire: &mut Wire) -> Result<Vec<Arc<Description>>> {
        let Connections { place, known, .. } = self.connections.as_ref();
        let mut expected = Vec::with_capacity(self.asked.tables.len());
        for (table, used) in &self.asked.tables {
            if let Some(known) = known.get(&table.path).filter(|known| difference(table, used, &known.table).is_none())
            {
                expected.push(known);
                continue;
            }
            let now = described(wire, place, &table.path).await.map_err(|fault| failed(place, fault))?;
            let Some(now) = now else {
                let change = "it is gone, or this role may no longer read it".to_owned();
                return Err(place.changed(&table.full_name(), change));
            };
            let now = known.put(now);
            if let Some(change) = difference(table, used, &now.table) {
                return Err(place.changed(&table.full_name(), change));
            }
            expected.push(now);
        }
        Ok(expected)
    }

    async fn begin(
        &self,
        wire: &mut Wire,
        values: &[Parameter],
        of: &Of,
        tables: &[Arc<Description>],
        phase: &mut Phase,
        kept: &mut bool,
    ) -> Result<Start, Begun> {
        let text = &self.statement.text;
        let at = of.state.as_deref();
        let begin = if at.is_some() { snapshot::BEGIN } else { BEGIN };
        wire.settle().await?;
        let begun = wire.run(begin)?;
        if let Some(at) = at {
            wire.run_once(&at.import())?;
        }
        // It reads nothing, and so may only come once the transaction has the state that it reads.
        let tag = of.name.as_deref().map(|name| wire.run_with(TAG, &[name])).transpose()?;
        let named = wire.prepare(text)?;
        *kept = named.columns.is_some();
        wire.bind(ROWS, &named, values)?;
        let mut states = Vec::with_capacity(tables.len());
        for table in tables {
            let query = table.state_query();
            states.push((wire.run(&query)?, query));
        }
        wire.execute(ROWS)?;
        wire.run(COMMIT)?;
        wire.sync();
        wire.flush().await?;

        wire.ran(begin, begun).await?;
        if at.is_some() {
            wire.ran_once().await?;
        }
        if let Some(tag) = tag {
            wire.ran(TAG, tag).await?;
        }
        let columns = wire.described(text, named).await?;
        wire.bound().await?;
        *phase = Phase::Starting;
        for ((named, query), table) in states.into_iter().zip(tables) {
            let columns = wire.described(&query, named).await?;
            let rows = wire.bound_rows(&columns).await?;
            let state = rows.first().map(State::read).transpose()?;
            let is_known = state.is_some_and(|state| state.rows == table.state && (at.is_none() || state.is_newest()));
            if !is_known {
                return Ok(Start::Stale);
            }
        }
        *phase = Phase::Reading;
        self.misfit(&columns).map_or(Ok(Start::Reading), |change| Err(Begun::Misfit(change)))
    }

    /// How the statement's result differs from what the decoder expects.
    fn misfit(&self, actual: &[Oid]) -> Option<String> {
        let columns = &self.asked.columns;
        let fits = match columns.as_slice() {
            [] => actual == [Type::INT4.oid()],
            columns => {
                columns.len() == actual.len()
                    && columns.iter().zip(actual).all(|(column, oid)| is_sent_as(column, *oid))
            }
        };
        let expected = || columns.iter().map(wire_type).collect::<Vec<_>>();
        (!fits).then(|| format!("it yields types {actual:?} where {:?} are expected", expected()))
    }
}

/// How far a statement came.
enum Start {
    /// Rows follow.
    Reading,
    /// A table is not what its description says; rows of it may be on their way.
    Stale,
    /// The server cannot run the statement as it was prepared, and has ended it.
    StaleStatement,
}

/// Why a statement did not begin.
enum Begun {
    Fault(Fault),
    /// Its result is not what was planned.
    Misfit(String),
}

impl From<Fault> for Begun {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
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
    // Services of one database are one source here, and each may read a numeric in its own way.
    let read_otherwise = planned.remote_type == now.remote_type && is_loose(planned) && is_loose(now);
    if !alike && !read_otherwise {
        let collation = now.collation.as_ref().map(|name| format!(" collation {name}")).unwrap_or_default();
        return Some(format!(
            "column \"{}\" was {} and is {}{collation}",
            planned.name, planned.remote_type, now.remote_type
        ));
    }
    (now.nullable && !planned.nullable).then(|| format!("column \"{}\" may be NULL now", planned.name))
}

/// Whether a column may be a numeric that the manifest says how to read.
fn is_loose(column: &ColumnDef) -> bool {
    matches!(column.class, ValueClass::Opaque | ValueClass::Decimal)
}

#[async_trait]
impl Scan for PostgresScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    fn partitions(&self) -> usize {
        self.parts.len()
    }

    fn is_timeless(&self) -> bool {
        true
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        let of = &self.of(context)?;
        if of.state.is_none() && self.parts.len() > 1 {
            return Err(self.connections.place.unsupported("parts of a table that are not read in one snapshot"));
        }
        self.read(partition, of).await
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
    decoder: Decoder,
    table: String,
    place: Place,
    started: Instant,
    lease: Lease,
}

async fn next_batch(reading: Option<Reading>) -> Result<Option<(RecordBatch, Option<Reading>)>> {
    let Some(mut reading) = reading else { return Ok(None) };
    let Reading { place, lease, decoder, started, .. } = &mut reading;
    match within_limit(place, *started, read(lease, decoder)).await? {
        Ok(More::Yes) => Ok(Some((reading.take()?, Some(reading)))),
        Ok(More::No) => {
            let last = if reading.decoder.is_empty() { None } else { Some((reading.take()?, None)) };
            reading.lease.release();
            Ok(last)
        }
        Err(trouble) => {
            let error = reading.failed(trouble);
            reading.lease.recover_if_refused().await;
            Err(error)
        }
    }
}

impl Reading {
    fn take(&mut self) -> Result<RecordBatch> {
        self.decoder.take().map_err(|unreadable| self.failed(Trouble::Row(unreadable)))
    }

    fn failed(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Wire(fault) => self.place.statement(&self.table, Phase::Reading, self.started, fault),
            Trouble::Row(Unreadable::Row(what)) => {
                self.place.lost(&self.table, Phase::Reading, Box::new(Fault::Malformed(what)))
            }
            Trouble::Row(Unreadable::Batch(error)) => self.place.lost(&self.table, Phase::Reading, Box::new(error)),
            Trouble::Row(Unreadable::Value(bad)) => {
                let BadValue { column, data_type, reason } = *bad;
                let (service, table) = (self.place.service.clone(), self.table.clone());
                Error::Value { service, table, column, data_type, reason }
            }
        }
    }
}
