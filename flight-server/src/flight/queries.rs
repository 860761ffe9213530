//! Statements: their schemas, their FlightInfo, polling, and the streams of their rows.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{Any, Command, CommandPreparedStatementQuery, CommandStatementQuery};
use arrow_flight::{FlightDescriptor, PollInfo, SchemaAsIpc, SchemaResult};
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::answers::{InfoResult, info_of_statement, poll_info, polled};
use super::error::internal;
use super::service::{GetResult, Service, key_of};
use super::session::SessionKey;
use super::statements::{End, Endpoints, Fetched};
use super::stream::{FlightStream, encoded, encoded_batch, plain_schema};

impl Service {
    /// GetSchema: the schema of what a command would yield. Runs nothing and sets nothing.
    pub(super) async fn schema_of(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let schema = match command_of(request.get_ref())? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                self.statements.describe(key_of(&request), &query.query).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.statements.prepared(&query.prepared_statement_handle)?.schema()
            }
            other => self.metadata_schema(other)?,
        };
        let options = IpcWriteOptions::default();
        let schema = plain_schema(&schema);
        Ok(Response::new(SchemaAsIpc::new(&schema, &options).try_into().map_err(|error: ArrowError| internal(error))?))
    }

    /// GetFlightInfo of a statement.
    pub(super) async fn statement_info(
        &self,
        query: &CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        no_transaction(query.transaction_id.as_ref())?;
        let statement = self.statements.plan(key_of(&request), &query.query, Endpoints::OfPartitions).await?;
        info_of_statement(&statement, request)
    }

    /// GetFlightInfo of a prepared statement.
    pub(super) async fn prepared_info(
        &self,
        query: &CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        let (key, handle) = (key_of(&request), &query.prepared_statement_handle);
        info_of_statement(&self.statements.execute(key, handle, Endpoints::OfPartitions).await?, request)
    }

    /// PollFlightInfo: starts a statement, or tells what has become of it.
    pub(super) async fn poll(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let key = key_of(&request);
        let descriptor = request.into_inner();
        let (name, known) = match polled(&descriptor.cmd) {
            Some(known) => known,
            None => (self.start(key, descriptor).await?, 0),
        };
        let (statement, state) = self.statements.poll(name, known).await?;
        let is_over = match state.end {
            Some(Err(status)) => return Err(status),
            Some(Ok(())) => true,
            None if statement.is_over() => return Err(Status::cancelled("the statement was cancelled")),
            None => false,
        };
        Ok(Response::new(poll_info(name, &statement, &state, is_over, self.ticket_life)?))
    }

    async fn start(&self, key: SessionKey, descriptor: FlightDescriptor) -> Result<Uuid, Status> {
        let statement = match command_of(&descriptor)? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                self.statements.plan(key, &query.query, Endpoints::One).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.statements.execute(key, &query.prepared_statement_handle, Endpoints::One).await?
            }
            other => {
                let message = format!("PollFlightInfo of {}: it takes no time; use GetFlightInfo", other.type_url());
                return Err(Status::unimplemented(message));
            }
        };
        self.statements.start(key, &statement, descriptor)
    }

    /// The stream of a statement.
    pub(super) fn stream(&self, fetched: Fetched) -> Response<FlightStream> {
        let Fetched { schema, batches, end } = fetched;
        let cut_off = if end == End::Never { &self.stopping } else { &self.cut_off };
        Response::new(encoded(&schema, batches, cut_off.clone()))
    }

    /// The stream of what is there already.
    pub(super) fn batch(&self, batch: arrow_flight::error::Result<RecordBatch>) -> GetResult {
        Ok(Response::new(encoded_batch(batch.map_err(internal)?, self.cut_off.clone())))
    }
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    let any = Any::decode(&*descriptor.cmd).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Command::try_from(any).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Refuses a statement that is to be part of a transaction.
pub(super) fn no_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(no_transactions()),
        _ => Ok(()),
    }
}

pub(super) fn no_transactions() -> Status {
    Status::unimplemented("transactions are not supported; each statement stands alone (autocommit)")
}
