//! Reads a table or a query: a thread steps through the rows and sends batches, as fast as they are taken.
//!
//! Invariant: a stream ends well only after the thread said that it has seen the last row. An error in the middle is the
//! last item; a thread that vanished is an error too.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use arrow::array::RecordBatchOptions;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use headwater_source::arrow::datatypes::SchemaRef;
use headwater_source::futures::Stream;
use headwater_source::{
    BatchStream, Cause, ColumnDef, Error, Expr, QueryRequest, ReadContext, RemoteStatement, Result, Scan, ScanRequest,
    ServiceName, TableDef,
};
use rusqlite::{Row, Statement};
use tokio::sync::{mpsc, oneshot};

use super::connect::{Lease, Pool};
use super::control::{CancelOnDrop, Control, Stop};
use super::decode::{ColumnBuilder, Misfit};
use super::dialect::{Sqlite, bind_value};
use super::error::Stage;
use super::snapshot::Held;
use super::types::Kind;
use super::{catalog, misfit, split, verify};
use crate::batch::BATCH_WAIT;
use crate::sql::{render, render_relation};

/// How many batches wait for the reader.
const QUEUE_BATCHES: usize = 2;

/// How many bytes of text and blobs end a batch before its rows are full.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// The most values of one statement: SQLITE_MAX_VARIABLE_NUMBER.
const VARIABLES_MAX: usize = 32_766;

/// A prepared request.
#[derive(Debug)]
pub(super) struct SqliteScan {
    pool: Arc<Pool>,
    /// The whole.
    job: Arc<Job>,
    /// The same in parts, where it is split.
    parts: Vec<Arc<Job>>,
}

/// What the thread needs to know.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) service: ServiceName,
    pub(super) asked: Asked,
    /// What is read.
    pub(super) columns: Vec<ColumnDef>,
    schema: SchemaRef,
    batch_rows: usize,
    /// The tables, and which of their columns the result depends on.
    pub(super) tables: Vec<(Arc<TableDef>, BTreeSet<usize>)>,
    /// The tables' names, for messages.
    pub(super) names: String,
    statement: RemoteStatement,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Rows of one table.
    Rows(ScanRequest),
    /// What is computed of the rows of some.
    Query,
}

impl SqliteScan {
    /// Writes the statement of a scan, and those of its parts; does no I/O.
    pub(super) fn of_table(pool: Arc<Pool>, request: ScanRequest) -> Result<Self> {
        let part = |filter: Expr| {
            let mut request = request.clone();
            request.filters.push(filter);
            Job::of_table(&pool.service, request).map(Arc::new)
        };
        let parts = split::ranges(&pool.config, &request).unwrap_or_default();
        let parts = parts.into_iter().map(part).collect::<Result<_>>()?;
        let job = Job::of_table(&pool.service, request)?;
        Ok(Self { parts, ..Self::new(pool, job)? })
    }

    /// Writes the statement of a query; does no I/O.
    pub(super) fn of_query(pool: Arc<Pool>, request: &QueryRequest) -> Result<Self> {
        let service = pool.service.clone();
        let statement = render_relation(&Sqlite, &service, &request.relation)?;
        let used = request.relation.used_columns().into_iter();
        let job = Job {
            service,
            asked: Asked::Query,
            columns: request.columns(),
            schema: Arc::clone(&request.schema),
            batch_rows: request.batch_rows,
            names: request.relation.to_string(),
            tables: used.map(|(table, columns)| (Arc::clone(table), columns)).collect(),
            statement,
        };
        let unread = job.columns.iter().find(|column| Kind::of_column(column).data_type() != column.data_type);
        if let Some(column) = unread {
            let reason = format!("a computed value of type {} cannot be read", column.data_type);
            return Err(Error::Unsupported { service: job.service, reason });
        }
        Self::new(pool, job)
    }

    fn new(pool: Arc<Pool>, job: Job) -> Result<Self> {
        let binds = job.statement.binds.len();
        if binds > VARIABLES_MAX {
            let reason = format!("the filters bind {binds} values together, SQLite takes {VARIABLES_MAX}");
            return Err(Error::Unsupported { service: job.service, reason });
        }
        Ok(Self { pool, job: Arc::new(job), parts: vec![] })
    }
}

#[async_trait]
impl Scan for SqliteScan {
    fn statement(&self) -> &RemoteStatement {
        &self.job.statement
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn partitions(&self) -> usize {
        self.parts.len().max(1)
    }

    fn asks(&self, partition: usize, context: &ReadContext) -> bool {
        partition == 0 || context.snapshot.is_some()
    }

    /// Without a state that all parts read, the first is the whole.
    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        let foreign = || self.unsupported("a snapshot of another source".to_owned());
        let held = context.snapshot.as_ref().map(|snapshot| snapshot.get::<Held>().ok_or_else(foreign)).transpose()?;
        let job = match (self.parts.get(partition), partition) {
            (Some(part), _) if held.is_some() => part,
            (_, 0) => &self.job,
            (Some(_), _) => return Ok(Box::pin(headwater_source::futures::stream::empty())),
            (None, _) => return Err(self.unsupported(format!("partition {partition} of {}", self.partitions()))),
        };
        let limit = self.pool.config.statement_timeout;
        let Some(held) = held else {
            let (pool, permit) = (Arc::clone(&self.pool), self.pool.permit().await?);
            let (control, cancel) = Control::start(limit);
            return read(job, control, cancel, move |control| pool.lease(permit, control)).await;
        };
        let lease = held.lease();
        let lease =
            lease.ok_or_else(|| self.unsupported("more statements than a snapshot was taken for".to_owned()))?;
        let (control, cancel) = Control::start(limit);
        read(job, control, cancel, |control| lease.controlled_by(control)).await
    }
}

impl SqliteScan {
    /// Reads in a transaction that has begun already.
    pub(super) async fn read_with(
        &self,
        lease: Lease,
        control: Arc<Control>,
        cancel: CancelOnDrop,
    ) -> Result<BatchStream> {
        read(&self.job, control, cancel, |_| Ok(lease)).await
    }

    fn unsupported(&self, reason: String) -> Error {
        Error::Unsupported { service: self.job.service.clone(), reason }
    }
}

/// Starts a job on a thread of its own, not of tokio's blocking pool: a scan lasts as long as its reader, and the pool is for short work.
async fn read(
    job: &Arc<Job>,
    control: Arc<Control>,
    cancel: CancelOnDrop,
    lease: impl FnOnce(Arc<Control>) -> Result<Lease> + Send + 'static,
) -> Result<BatchStream> {
    let (started, starting) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
    let of_thread = Arc::clone(job);
    std::thread::Builder::new()
        .name("sqlite-scan".to_owned())
        .spawn(move || match lease(Arc::clone(&control)) {
            Ok(lease) => of_thread.run(lease, &control, started, &sender),
            // Failing to send means that the reader has left.
            Err(error) => drop(started.send(Err(error))),
        })
        .map_err(|error| job.interrupted(Box::new(error)))?;
    starting.await.map_err(|_| job.vanished())??;
    Ok(Box::pin(Batches { receiver, job: Arc::clone(job), done: false, _cancel: cancel }))
}

enum Message {
    Batch(RecordBatch),
    Failed(Error),
    /// Every row was sent.
    End,
}

/// The reader's end.
struct Batches {
    receiver: mpsc::Receiver<Message>,
    job: Arc<Job>,
    done: bool,
    _cancel: CancelOnDrop,
}

impl Stream for Batches {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let message = ready!(self.receiver.poll_recv(context));
        self.done = !matches!(message, Some(Message::Batch(_)));
        Poll::Ready(match message {
            Some(Message::Batch(batch)) => Some(Ok(batch)),
            Some(Message::Failed(error)) => Some(Err(error)),
            Some(Message::End) => None,
            None => Some(Err(self.job.vanished())),
        })
    }
}

/// Whether the reader still wants rows.
#[derive(PartialEq, Eq)]
enum Reader {
    Waiting,
    Gone,
}

type Sender = mpsc::Sender<Message>;

impl Job {
    fn of_table(service: &ServiceName, request: ScanRequest) -> Result<Self> {
        let table = Arc::clone(&request.table);
        Ok(Self {
            service: service.clone(),
            statement: render(&Sqlite, service, &request)?,
            columns: request.projection.iter().map(|index| table.columns[*index].clone()).collect(),
            schema: request.schema(),
            batch_rows: request.batch_rows,
            names: table.full_name(),
            tables: vec![(table, verify::columns_used(&request))],
            asked: Asked::Rows(request),
        })
    }

    fn run(&self, lease: Lease, control: &Control, started: oneshot::Sender<Result<()>>, sender: &Sender) {
        match self.read(&lease, control, started, sender) {
            Ok(Reader::Waiting) => {
                lease.give_back();
                drop(sender.blocking_send(Message::End));
            }
            Ok(Reader::Gone) => lease.give_back(),
            Err(error) => {
                // The connection is closed: what state an error left it in need not be known.
                drop(lease);
                drop(sender.blocking_send(Message::Failed(error)));
            }
        }
    }

    /// Reads all rows. An error before the first step goes to `started`, any later one is returned.
    fn read(
        &self,
        lease: &Lease,
        control: &Control,
        started: oneshot::Sender<Result<()>>,
        sender: &Sender,
    ) -> Result<Reader> {
        let mut statement = match self.prepare(lease) {
            Ok(statement) => statement,
            Err(error) => {
                drop(started.send(Err(error)));
                return Ok(Reader::Gone);
            }
        };
        if started.send(Ok(())).is_err() {
            return Ok(Reader::Gone);
        }
        self.step(lease, control, &mut statement, sender)
    }

    /// Checks that the tables are as planned and prepares the statement, in the transaction that will read them.
    fn prepare<'l>(&self, lease: &'l Lease) -> Result<Statement<'l>> {
        let fail = |error| lease.error(Stage::Prepare, error);
        for (table, used) in &self.tables {
            let now = catalog::columns_now(lease.connection(), &table.name).map_err(fail)?;
            verify::unchanged(&self.service, table, used, now.as_ref())?;
        }
        let mut statement = lease.connection().prepare(&self.statement.text).map_err(fail)?;
        for (index, bind) in self.statement.binds.iter().enumerate() {
            let value = bind_value(bind, &self.service)?;
            statement.raw_bind_parameter(index + 1, value).map_err(fail)?;
        }
        Ok(statement)
    }

    fn step(&self, lease: &Lease, control: &Control, statement: &mut Statement<'_>, sender: &Sender) -> Result<Reader> {
        let mut batch = BatchBuilder::new(self);
        let mut rows = statement.raw_query();
        let fail = |error| lease.error(Stage::Read(&self.names), error);
        while let Some(row) = rows.next().map_err(fail)? {
            batch
                .append(row, fail)?
                .map_err(|(column, reason)| misfit::locate(self, lease, column, &reason, batch.rows_read))?;
            if batch.is_full() || control.has_asked() && batch.is_due() {
                if sender.blocking_send(Message::Batch(batch.finish()?)).is_err() {
                    return Ok(Reader::Gone);
                }
                match control.stop() {
                    Some(Stop::TimedOut) => return Err(lease.timed_out()),
                    Some(Stop::Cancelled) => return Ok(Reader::Gone),
                    None => {}
                }
            }
        }
        if batch.rows > 0 && sender.blocking_send(Message::Batch(batch.finish()?)).is_err() {
            return Ok(Reader::Gone);
        }
        Ok(Reader::Waiting)
    }

    /// The error of a thread that ended without a word.
    fn vanished(&self) -> Error {
        self.interrupted("the thread that reads it ended early".into())
    }

    fn interrupted(&self, cause: Cause) -> Error {
        Error::Interrupted { service: self.service.clone(), table: self.names.clone(), cause }
    }
}

/// The rows of one batch.
struct BatchBuilder<'a> {
    job: &'a Job,
    columns: Vec<ColumnBuilder>,
    nullable: Vec<bool>,
    rows: usize,
    bytes: usize,
    /// When its first rows were seen to be there.
    since: Option<Instant>,
    /// Of all batches, for messages.
    rows_read: u64,
}

impl<'a> BatchBuilder<'a> {
    fn new(job: &'a Job) -> Self {
        Self {
            job,
            columns: job.columns.iter().map(ColumnBuilder::new).collect(),
            nullable: job.columns.iter().map(|column| column.nullable).collect(),
            rows: 0,
            bytes: 0,
            since: None,
            rows_read: 0,
        }
    }

    /// Appends a row. The inner error is a value that does not fit, with the place of its column in the answer.
    fn append(
        &mut self,
        row: &Row<'_>,
        fail: impl Fn(rusqlite::Error) -> Error,
    ) -> Result<Result<(), (usize, Misfit)>> {
        self.rows += 1;
        self.rows_read += 1;
        for (index, builder) in self.columns.iter_mut().enumerate() {
            let value = row.get_ref(index).map_err(&fail)?;
            if !self.nullable[index] && value == rusqlite::types::ValueRef::Null {
                return Ok(Err((index, misfit::NULL.to_owned())));
            }
            match builder.append(value) {
                Ok(bytes) => self.bytes += bytes,
                Err(reason) => return Ok(Err((index, reason))),
            }
        }
        Ok(Ok(()))
    }

    fn is_full(&self) -> bool {
        self.rows >= self.job.batch_rows.max(1) || self.bytes >= BATCH_BYTES_MAX
    }

    /// Whether its rows have waited for others for long enough.
    fn is_due(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= BATCH_WAIT
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes, self.since) = (0, 0, None);
        RecordBatch::try_new_with_options(Arc::clone(&self.job.schema), arrays, &options)
            .map_err(|error| self.job.interrupted(Box::new(error)))
    }
}
