//! A prepared request, a scan's or a query's, and its stream.
//!
//! Opening asks the catalog once more whether the columns of every table are what the query was planned with (a collation that changed would change
//! what an exact filter means, and no result says so), executes the statement, and checks the types that come. The stream then
//! reads a batch at a time from the connection: a consumer that waits makes the server wait.
//!
//! A statement of a query names the query in a comment: a server shows a prepared statement as the text that it was prepared from, so it is prepared for its query and
//! closed with the connection's next command. Where a table was found as planned before, that and the statement are asked for in one round trip.
//!
//! A scan may be split (`split`). Its parts are read of one state (`snapshot`), or not at all: then the first part is the whole.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use headwater_source::futures::FutureExt;
use headwater_source::{
    BatchStream, ColumnDef, Error, Expr, QueryId, QueryRequest, ReadContext, RemoteStatement, Result, Scan,
    ScanRequest, TableDef, async_trait, futures,
};
use mysql_common::packets::Column;
use mysql_common::row::Row;
use mysql_common::value::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::bind;
use super::connect::{Lease, Pool};
use super::decode::{Decoder, Fault};
use super::ends;
use super::snapshot::{self, Held};
use super::unchanged::AsSeen;
use super::wire::{Conn, Failure, Statement};
use crate::batch::BATCH_WAIT;
use crate::sql;

/// A batch is cut where its text and binary strings pass this many bytes, however few its rows.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// That a statement to be executed is not known.
const UNKNOWN_STATEMENT: u16 = 1243;

/// A request that is ready to be read.
#[derive(Debug)]
pub(super) struct MysqlScan {
    pool: Pool,
    asked: Arc<Asked>,
    /// The whole.
    statement: RemoteStatement,
    params: Parameters,
    /// The same in parts, where it is split.
    parts: Vec<(String, Parameters)>,
}

/// What a request is about, whether it is a scan or a query.
#[derive(Debug)]
struct Asked {
    /// What is read.
    columns: Vec<ColumnDef>,
    schema: SchemaRef,
    batch_rows: usize,
    /// Each table once, and which of its columns the result depends on.
    tables: Vec<(Arc<TableDef>, BTreeSet<usize>)>,
    /// The tables' names, for messages.
    names: String,
}

/// The statement's parameters; never printed.
#[derive(Clone)]
struct Parameters(Vec<Value>);

/// Which state of the server a statement reads.
enum State {
    Now,
    /// That of a transaction, which ends with the statement.
    Held,
    /// That of a transaction in which somebody waits to read on.
    Shared(oneshot::Sender<Lease>),
}

/// Which state a statement reads, and whose it is.
struct Of {
    held: Option<Arc<Held>>,
    query: Option<QueryId>,
}

/// A statement whose rows are coming.
struct Reading {
    lease: Lease,
    state: State,
    /// What the server keeps prepared for this statement alone.
    alone: Option<Statement>,
    decoder: Decoder,
    asked: Arc<Asked>,
    pool: Pool,
    deadline: Option<Instant>,
    rows_before: u64,
}

impl MysqlScan {
    /// Renders a scan, with the filters of its parts where it is split.
    pub(super) fn of_table(pool: Pool, request: ScanRequest, parts: Vec<Expr>) -> Result<Self> {
        let service = &pool.site().service;
        if let Some(index) = request.projection.iter().find(|index| **index >= request.table.columns.len()) {
            return Err(unsupported(&pool, format!("there is no column {index}")));
        }
        let statement = match ends::first_rows(&request) {
            Some(first) => sql::render_relation(&pool.dialect(), service, &first)?,
            None => sql::render(&pool.dialect(), service, &request)?,
        };
        let part = |filter: Expr| {
            let mut request = request.clone();
            request.filters.push(filter);
            let statement = sql::render(&pool.dialect(), service, &request)?;
            Ok((statement.text.clone(), Parameters::of(&pool, &statement)?))
        };
        let parts = parts.into_iter().map(part).collect::<Result<_>>()?;
        let asked = Asked {
            columns: request.projection.iter().map(|index| request.table.columns[*index].clone()).collect(),
            schema: request.schema(),
            batch_rows: request.batch_rows,
            names: request.table.full_name(),
            tables: vec![(Arc::clone(&request.table), columns_used(&request))],
        };
        Ok(Self { parts, ..Self::new(pool, asked, statement)? })
    }

    /// Renders a query.
    pub(super) fn of_query(pool: Pool, request: &QueryRequest) -> Result<Self> {
        let ends = ends::least_and_greatest(request);
        let relation = ends.as_ref().unwrap_or(&request.relation);
        let statement = sql::render_relation(&pool.dialect(), &pool.site().service, relation)?;
        let mut tables: Vec<(Arc<TableDef>, BTreeSet<usize>)> = Vec::new();
        for (table, columns) in request.relation.used_columns() {
            match tables.iter_mut().find(|(known, _)| known == table) {
                Some((_, known)) => known.extend(columns),
                None => tables.push((Arc::clone(table), columns)),
            }
        }
        let asked = Asked {
            columns: request.columns(),
            schema: Arc::clone(&request.schema),
            batch_rows: request.batch_rows,
            names: request.relation.to_string(),
            tables,
        };
        Self::new(pool, asked, statement)
    }

    fn new(pool: Pool, asked: Asked, statement: RemoteStatement) -> Result<Self> {
        if asked.batch_rows == 0 {
            return Err(unsupported(&pool, "batches of no rows".to_owned()));
        }
        let params = Parameters::of(&pool, &statement)?;
        asked.decoder(&pool)?;
        Ok(Self { pool, asked: Arc::new(asked), statement, params, parts: vec![] })
    }

    /// Reads a statement on a connection of the pool, or of a snapshot.
    async fn read(&self, text: &str, params: &Parameters, of: Of) -> Result<BatchStream> {
        let (lease, state) = match of.held {
            Some(held) => (held.lease().ok_or_else(|| more_than_announced(&self.pool))?, State::Held),
            None if self.asked.tables.is_empty() => (self.pool.lease().await?, State::Now),
            None => (self.pool.lease_as_left().await?, State::Now),
        };
        self.read_on(text, params, of.query, lease, state).await
    }

    /// Reads the whole on a connection in whose transaction another reads on afterwards.
    pub(super) async fn read_within(&self, lease: Lease, next: oneshot::Sender<Lease>) -> Result<BatchStream> {
        self.read_on(&self.statement.text, &self.params, None, lease, State::Shared(next)).await
    }

    async fn read_on(
        &self,
        text: &str,
        params: &Parameters,
        query: Option<QueryId>,
        mut lease: Lease,
        state: State,
    ) -> Result<BatchStream> {
        let mut decoder = self.asked.decoder(&self.pool)?;
        let deadline = self.pool.config().statement_timeout.map(|limit| Instant::now() + limit);
        let started = async {
            if let (Some(query), State::Now) = (query, &state)
                && let Some(statement) =
                    self.start_at_once(&mut lease, &mut decoder, &tagged(text, query), params).await?
            {
                return Ok(Some(statement));
            }
            self.check(&mut lease).await?;
            self.start(&mut lease, &mut decoder, text, params, query).await
        };
        let alone = limited(&self.pool, deadline, started).await?;
        let (asked, pool) = (Arc::clone(&self.asked), self.pool.clone());
        let reading = Reading { lease, state, alone, decoder, asked, pool, deadline, rows_before: 0 };
        Ok(Box::pin(futures::stream::try_unfold(Some(reading), |reading| async move {
            match reading {
                Some(reading) => reading.next().await,
                None => Ok(None),
            }
        })))
    }

    /// Whether the tables are as they were planned. A connection that is found dead here was so before anything of the query was asked, and another takes its place.
    async fn check(&self, lease: &mut Lease) -> Result<()> {
        if !lease.may_be_dead() {
            return self.check_tables(lease).await;
        }
        let lost = |error: &Error| matches!(error, Error::Interrupted { .. } | Error::Unavailable { .. });
        // One that was lost on the way says nothing at all.
        match timeout(self.pool.config().connect_timeout, self.check_tables(lease)).await {
            Ok(Err(error)) if lost(&error) => {}
            Ok(checked) => return checked,
            Err(_) => {}
        }
        lease.renew().await?;
        self.check_tables(lease).await
    }

    async fn check_tables(&self, lease: &mut Lease) -> Result<()> {
        for (table, used) in &self.asked.tables {
            self.pool.check_table(lease, table, used).await?;
        }
        Ok(())
    }

    /// Asks whether the tables are as they were planned and executes the statement, in one round trip. `None` where that can't be, or the
    /// tables are not as they were seen: then the lease has a connection on which nothing was asked.
    async fn start_at_once(
        &self,
        lease: &mut Lease,
        decoder: &mut Decoder,
        text: &str,
        params: &Parameters,
    ) -> Result<Option<Statement>> {
        let seen: Option<Vec<AsSeen>> = self.asked.tables.iter().map(|(table, _)| self.pool.seen(table)).collect();
        let takes_all = lease.conn().takes_at_once(&params.0) && !self.pool.is_asked_in_turn();
        let Some(seen) = seen.filter(|seen| !seen.is_empty() && takes_all) else {
            return Ok(None);
        };
        let questions: Vec<String> = seen.iter().map(|seen| seen.question.clone()).collect();
        let may_be_dead = lease.may_be_dead();
        let conn = lease.conn();
        let checked = async {
            conn.ask_at_once(&questions, text, &params.0).await?;
            let mut as_seen = true;
            for seen in &seen {
                as_seen &= seen.is_said_by(conn.asked_rows::<Row>().await?.pop());
            }
            Ok::<_, Failure>(as_seen)
        };
        // One that was lost on the way says nothing at all.
        let checked = match may_be_dead {
            true => timeout(self.pool.config().connect_timeout, checked).await.ok(),
            false => Some(checked.await),
        };
        let failed = |error| self.pool.site().scanning(&self.asked.names, error);
        match checked {
            Some(Ok(true)) => {}
            Some(Ok(false) | Err(Failure::Server { .. })) => {
                lease.exchange().await?;
                return Ok(None);
            }
            Some(Err(error)) if !may_be_dead => return Err(failed(error)),
            Some(Err(_)) | None => {
                lease.renew().await?;
                return Ok(None);
            }
        }
        let (statement, columns) = match conn.kept_and_executed(&params.0).await {
            // Something between here and the server counts statements in its own way.
            Err(Failure::Server { code: UNKNOWN_STATEMENT, .. }) => {
                self.pool.set_asked_in_turn();
                lease.exchange().await?;
                return Ok(None);
            }
            executed => executed.map_err(failed)?,
        };
        self.check_columns(decoder, &columns)?;
        Ok(Some(statement))
    }

    fn check_columns(&self, decoder: &mut Decoder, columns: &[Column]) -> Result<()> {
        decoder.check(columns).map_err(|change| self.pool.site().schema_changed(&self.asked.names, change))
    }

    /// Executes the statement; what was prepared for this query alone, where that was.
    async fn start(
        &self,
        lease: &mut Lease,
        decoder: &mut Decoder,
        text: &str,
        params: &Parameters,
        query: Option<QueryId>,
    ) -> Result<Option<Statement>> {
        let names = &self.asked.names;
        let failed = |error| self.pool.site().scanning(names, error);
        let conn = lease.conn();
        let alone = match query {
            Some(query) => Some(conn.prepare(&tagged(text, query)).await.map_err(failed)?),
            None if !Conn::keeps(text) => Some(conn.prepare(text).await.map_err(failed)?),
            None => None,
        };
        let statement = match alone {
            Some(statement) => statement,
            None => conn.prepared(text).await.map_err(failed)?,
        };
        let columns = conn.execute(statement, &params.0).await.map_err(failed)?;
        self.check_columns(decoder, &columns)?;
        Ok(alone)
    }
}

impl Asked {
    fn decoder(&self, pool: &Pool) -> Result<Decoder> {
        Decoder::new(&self.columns, Arc::clone(&self.schema))
            .map_err(|data_type| unsupported(pool, format!("reading {data_type}")))
    }
}

/// The statement's text behind a comment that names its query to whoever looks at the server's list of processes.
fn tagged(text: &str, query: QueryId) -> String {
    format!("/* headwater query={query} */ {text}")
}

fn more_than_announced(pool: &Pool) -> Error {
    unsupported(pool, "more statements read a snapshot than it was taken for".to_owned())
}

fn unsupported(pool: &Pool, reason: String) -> Error {
    Error::Unsupported { service: pool.site().service.clone(), reason }
}

/// The columns that a scan reads, filters or sorts by.
fn columns_used(request: &ScanRequest) -> BTreeSet<usize> {
    let mut used: BTreeSet<usize> = request.projection.iter().copied().collect();
    for filter in &request.filters {
        filter.visit_columns(&mut |index| {
            used.insert(index);
        });
    }
    used.extend(request.sort.iter().map(|key| key.column));
    used
}

#[async_trait]
impl Scan for MysqlScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    fn partitions(&self) -> usize {
        self.parts.len().max(1)
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn asks(&self, partition: usize, context: &ReadContext) -> bool {
        partition == 0 || context.snapshot.is_some()
    }

    /// Without a state that all parts read, the first is the whole.
    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        let foreign = || unsupported(&self.pool, "a snapshot of another source".to_owned());
        let held = context.snapshot.as_ref().map(|snapshot| snapshot.get::<Held>().ok_or_else(foreign)).transpose()?;
        let of = Of { held, query: context.query };
        match (self.parts.get(partition), partition) {
            (Some((text, params)), _) if of.held.is_some() => self.read(text, params, of).await,
            (_, 0) => self.read(&self.statement.text, &self.params, of).await,
            (Some(_), _) => Ok(Box::pin(futures::stream::empty())),
            (None, part) => Err(unsupported(&self.pool, format!("there is no partition {part}"))),
        }
    }
}

impl Parameters {
    fn of(pool: &Pool, statement: &RemoteStatement) -> Result<Self> {
        let params: Option<Vec<Value>> = statement.binds.iter().map(bind::parameter).collect();
        let missing = || unsupported(pool, "a value of a type that this connector does not send".to_owned());
        params.map(Self).ok_or_else(missing)
    }
}

/// Runs a part of a statement within the statement's limit.
async fn limited<T>(pool: &Pool, deadline: Option<Instant>, work: impl Future<Output = Result<T>>) -> Result<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or_else(|_| Err(pool.site().statement_timed_out())),
        None => work.await,
    }
}

impl Reading {
    /// The next batch, and what is left to read. The last batch gives the connection back.
    async fn next(mut self) -> Result<Option<(RecordBatch, Option<Self>)>> {
        let pool = self.pool.clone();
        let more = limited(&pool, self.deadline, self.fill()).await?;
        let rows = self.decoder.rows();
        if rows == 0 {
            self.end().await;
            return Ok(None);
        }
        let batch = self.decoder.finish().map_err(|error| {
            pool.site().schema_changed(&self.asked.names, format!("the rows make no batch: {error}"))
        })?;
        self.rows_before += rows as u64;
        if more {
            return Ok(Some((batch, Some(self))));
        }
        self.end().await;
        Ok(Some((batch, None)))
    }

    /// Gives the connection back, of which all rows were read.
    async fn end(mut self) {
        if let Some(statement) = self.alone.take() {
            self.lease.conn().close(statement);
        }
        match self.state {
            State::Held => snapshot::end(self.lease).await,
            State::Now => self.lease.release(),
            State::Shared(next) => {
                // Where nobody waits any more, the connection is closed, which ends the transaction too.
                drop(next.send(self.lease));
            }
        }
    }

    /// Reads rows until a batch is full or has waited for more for long enough; says whether more may follow.
    async fn fill(&mut self) -> Result<bool> {
        let conn: &mut Conn = self.lease.conn();
        let mut due = None;
        while self.decoder.rows() < self.asked.batch_rows && self.decoder.bytes() < BATCH_BYTES_MAX {
            // No time is told for a row that is there.
            let row = match conn.row().now_or_never() {
                Some(row) => row,
                None if self.decoder.rows() == 0 => conn.row().await,
                None => match timeout_at(*due.get_or_insert_with(|| Instant::now() + BATCH_WAIT), conn.row()).await {
                    Ok(row) => row,
                    Err(_) => return Ok(true),
                },
            };
            let row = row.map_err(|error| self.pool.site().scanning(&self.asked.names, error))?;
            let Some(row) = row else { return Ok(false) };
            if let Err((column, fault)) = self.decoder.push(conn.body(row)) {
                let row = self.rows_before + self.decoder.rows() as u64 + 1;
                return Err(fault_error(&self.pool, &self.asked, column, row, fault));
            }
        }
        Ok(true)
    }
}

fn fault_error(pool: &Pool, asked: &Asked, column: usize, row: u64, fault: Fault) -> Error {
    let table = asked.names.clone();
    let planned = &asked.columns[column];
    match fault {
        Fault::Changed(change) => pool.site().schema_changed(&table, format!("column \"{}\": {change}", planned.name)),
        Fault::Value(reason) => Error::Value {
            service: pool.site().service.clone(),
            table,
            column: planned.name.clone(),
            data_type: planned.data_type.to_string(),
            reason: format!("row {row} of the scan has {reason}"),
        },
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}
