//! A prepared request and its stream.
//!
//! Opening asks the catalog once more whether the columns are what the query was planned with (a collation that changed would change
//! what an exact filter means, and no result says so), executes the statement, and checks the types that come. The stream then
//! reads a batch at a time from the connection: a consumer that waits makes the server wait.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use headwater_source::{
    BatchStream, ColumnDef, Error, RemoteStatement, Result, Scan, ScanRequest, async_trait, futures,
};
use mysql_async::prelude::Queryable;
use mysql_async::{BinaryProtocol, Params, QueryResult, Value};
use tokio::time::{Instant, timeout_at};

use super::connect::{Lease, Pool};
use super::decode::{Decoder, Fault};
use super::dialect::MysqlDialect;
use super::{bind, discover};
use crate::sql;

/// A batch is cut where its text and binary strings pass this many bytes, however few its rows.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A request that is ready to be read.
#[derive(Debug)]
pub(super) struct MysqlScan {
    pool: Pool,
    request: Arc<ScanRequest>,
    schema: SchemaRef,
    statement: RemoteStatement,
    params: Parameters,
}

/// The statement's parameters; never printed.
#[derive(Clone)]
struct Parameters(Vec<Value>);

/// A statement whose rows are coming.
struct Reading {
    lease: Lease,
    decoder: Decoder,
    request: Arc<ScanRequest>,
    pool: Pool,
    deadline: Option<Instant>,
    rows_before: u64,
}

impl MysqlScan {
    pub(super) fn prepare(pool: Pool, request: ScanRequest) -> Result<Self> {
        let service = &pool.site().service;
        let unsupported = |reason: String| Error::Unsupported { service: service.clone(), reason };
        if request.batch_rows == 0 {
            return Err(unsupported("batches of no rows".to_owned()));
        }
        let statement = sql::render(&MysqlDialect, service, &request)?;
        let params: Option<Vec<Value>> = statement.binds.iter().map(bind::parameter).collect();
        let Some(params) = params else {
            return Err(unsupported("a value of a type that this connector does not read".to_owned()));
        };
        let schema = request.schema();
        Decoder::new(Arc::clone(&schema)).map_err(|data_type| unsupported(format!("reading {data_type}")))?;
        Ok(Self { pool, request: Arc::new(request), schema, statement, params: Parameters(params) })
    }

    /// The columns that the request reads, filters or sorts by.
    fn columns_used(&self) -> BTreeSet<usize> {
        let request = &self.request;
        let mut used: BTreeSet<usize> = request.projection.iter().copied().collect();
        for filter in &request.filters {
            filter.visit_columns(&mut |index| {
                used.insert(index);
            });
        }
        used.extend(request.sort.iter().map(|key| key.column));
        used
    }

    fn changed(&self, change: impl Into<String>) -> Error {
        self.pool.site().schema_changed(&self.request.table.full_name(), change)
    }

    async fn start(&self, lease: &mut Lease, decoder: &Decoder) -> Result<()> {
        self.check_catalog(lease).await?;
        let failed = |error| self.pool.site().scanning(&self.request.table.full_name(), error);
        let params = match self.params.0.clone() {
            none if none.is_empty() => Params::Empty,
            values => Params::Positional(values),
        };
        let result = lease.conn().exec_iter(self.statement.text.as_str(), params).await.map_err(failed)?;
        decoder.check(result.columns_ref()).map_err(|change| self.changed(change))
    }

    /// Compares the columns that the request uses with what the catalog says now.
    async fn check_catalog(&self, lease: &mut Lease) -> Result<()> {
        let table = &self.request.table;
        let [database, name] = table.path.as_slice() else {
            return Err(self.changed("its path is not database and table"));
        };
        let now = discover::columns(lease.conn(), database, name)
            .await
            .map_err(|error| self.pool.site().scanning(&table.full_name(), error))?;
        if now.is_empty() {
            return Err(self.changed("it is gone, or its columns may no longer be read"));
        }
        for index in self.columns_used() {
            let planned = &table.columns[index];
            match now.iter().find(|column| column.name == planned.name) {
                None => return Err(self.changed(format!("column \"{}\" is gone", planned.name))),
                Some(now) => difference(planned, now).map_or(Ok(()), |change| Err(self.changed(change)))?,
            }
        }
        Ok(())
    }
}

/// What about a column would change what a scan yields or what a filter means.
fn difference(planned: &ColumnDef, now: &ColumnDef) -> Option<String> {
    let name = &planned.name;
    if planned.data_type != now.data_type || planned.class != now.class {
        return Some(format!("column \"{name}\" was {} and is {}", planned.remote_type, now.remote_type));
    }
    if planned.collation != now.collation {
        return Some(format!("column \"{name}\" has another collation"));
    }
    (!planned.nullable && now.nullable).then(|| format!("column \"{name}\" may be NULL now"))
}

#[async_trait]
impl Scan for MysqlScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        let service = &self.pool.site().service;
        if partition != 0 {
            let reason = format!("there is no partition {partition}");
            return Err(Error::Unsupported { service: service.clone(), reason });
        }
        let decoder = Decoder::new(Arc::clone(&self.schema)).map_err(|data_type| Error::Unsupported {
            service: service.clone(),
            reason: format!("reading {data_type}"),
        })?;
        let mut lease = self.pool.lease().await?;
        let deadline = self.pool.config().statement_timeout.map(|limit| Instant::now() + limit);
        limited(&self.pool, deadline, self.start(&mut lease, &decoder)).await?;
        let reading = Reading {
            lease,
            decoder,
            request: Arc::clone(&self.request),
            pool: self.pool.clone(),
            deadline,
            rows_before: 0,
        };
        Ok(Box::pin(futures::stream::try_unfold(Some(reading), |reading| async move {
            match reading {
                Some(reading) => reading.next().await,
                None => Ok(None),
            }
        })))
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
            self.lease.release();
            return Ok(None);
        }
        let batch = self.decoder.finish().map_err(|error| {
            pool.site().schema_changed(&self.request.table.full_name(), format!("the rows make no batch: {error}"))
        })?;
        self.rows_before += rows as u64;
        if more {
            return Ok(Some((batch, Some(self))));
        }
        self.lease.release();
        Ok(Some((batch, None)))
    }

    /// Reads rows until a batch is full; says whether more may follow.
    async fn fill(&mut self) -> Result<bool> {
        let mut result: QueryResult<'_, '_, BinaryProtocol> = QueryResult::new(self.lease.conn());
        while self.decoder.rows() < self.request.batch_rows && self.decoder.bytes() < BATCH_BYTES_MAX {
            let row = result
                .next()
                .await
                .map_err(|error| self.pool.site().scanning(&self.request.table.full_name(), error))?;
            let Some(row) = row else { return Ok(false) };
            if let Err((column, fault)) = self.decoder.push(row) {
                let row = self.rows_before + self.decoder.rows() as u64 + 1;
                return Err(fault_error(&self.pool, &self.request, column, row, fault));
            }
        }
        Ok(true)
    }
}

fn fault_error(pool: &Pool, request: &ScanRequest, column: usize, row: u64, fault: Fault) -> Error {
    let table = request.table.full_name();
    let planned = &request.table.columns[request.projection[column]];
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
