//! The Flight SQL commands.
//!
//! Invariant: a ticket is taken out of the store by the one request that fetches it, so a statement runs at most once for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest, ActionEndTransactionRequest, Any, Command,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint,
    FlightInfo, IpcMessage, PollInfo, SchemaAsIpc, SchemaResult, Ticket,
};
use headwater::{Engine, Session};
use prost::Message;
use prost::bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::debug;
use uuid::Uuid;

use super::error::internal;
use super::rpc::Rpc;
use super::session::SessionKey;
use super::statements::{End, Fetched, Statements, handle_of};
use super::stream::{FlightStream, encoded, encoded_batch, plain_schema};
use super::{Limits, info, metadata, options, parameters};
use crate::auth::current;

/// The actions that arrow-flight's dispatch does not know.
pub(super) const CLOSE_SESSION: &str = "CloseSession";
pub(super) const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
pub(super) const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
pub(super) const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

/// Flight SQL over an engine. Clones share everything.
#[derive(Clone)]
pub(super) struct Service {
    engine: Engine,
    statements: Arc<Statements>,
    sql_info: Arc<SqlInfoData>,
    type_info: Arc<XdbcTypeInfoData>,
    parameter_rows: usize,
    ticket_life: Duration,
    cut_off: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
}

type GetResult = Result<Response<FlightStream>, Status>;
type InfoResult = Result<Response<FlightInfo>, Status>;

impl Service {
    /// `stopping` turns true when the server begins to stop, `cut_off` when what still runs then must end.
    pub(super) fn new(
        engine: Engine,
        limits: &Limits,
        threads: Handle,
        stopping: watch::Receiver<bool>,
        cut_off: watch::Receiver<bool>,
    ) -> Self {
        let sql_info =
            info::sql_info(limits.prepared_idle).expect("Invariant: the server's own description is well-formed");
        let type_info = info::type_info().expect("Invariant: the list of types is well-formed");
        Self {
            statements: Arc::new(Statements::new(engine.clone(), limits, threads)),
            engine,
            sql_info: Arc::new(sql_info),
            type_info: Arc::new(type_info),
            parameter_rows: limits.parameter_rows,
            ticket_life: limits.ticket_life,
            cut_off,
            stopping,
        }
    }

    /// Lets go of what has expired.
    pub(super) fn sweep(&self, now: Instant) {
        self.statements.sweep(now);
    }

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

    fn metadata_schema(&self, command: Command) -> Result<SchemaRef, Status> {
        Ok(match command {
            Command::CommandGetCatalogs(command) => command.into_builder().schema(),
            Command::CommandGetDbSchemas(command) => command.into_builder().schema(),
            Command::CommandGetTables(command) => metadata::tables_schema(command),
            Command::CommandGetTableTypes(command) => command.into_builder().schema(),
            Command::CommandGetPrimaryKeys(_) => metadata::primary_keys_schema(),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => metadata::foreign_keys_schema(),
            Command::CommandGetSqlInfo(_) => self.sql_info.schema(),
            Command::CommandGetXdbcTypeInfo(_) => self.type_info.schema(),
            other => return Err(Status::unimplemented(format!("GetSchema of {}", other.type_url()))),
        })
    }

    /// What whoever asks may know of services and tables.
    fn seen(&self) -> Session {
        self.engine.session_as(&current::principal().caller())
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
        let mut info = info_of(&statement.schema, statement.descriptor.clone(), Some((name, state.rows)))?;
        for part in &state.parts {
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket_of(*part)));
        }
        let mut poll = PollInfo { info: Some(info), ..PollInfo::default() };
        if is_over {
            poll.progress = Some(1.0);
        } else {
            poll.flight_descriptor = Some(FlightDescriptor::new_cmd(poll_command(name, state.parts.len())));
            let ends = SystemTime::now() + self.ticket_life;
            let since = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = poll.expiration_time.get_or_insert_default();
            time.seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        }
        Ok(Response::new(poll))
    }

    async fn start(&self, key: SessionKey, descriptor: FlightDescriptor) -> Result<Uuid, Status> {
        let (_, ticket) = match command_of(&descriptor)? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                self.statements.plan(key, &query.query).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.statements.execute(key, &query.prepared_statement_handle).await?
            }
            other => {
                let message = format!("PollFlightInfo of {}: it takes no time; use GetFlightInfo", other.type_url());
                return Err(Status::unimplemented(message));
            }
        };
        self.statements.start(key, ticket, descriptor)
    }

    /// Cancels what a FlightInfo is of.
    fn cancelled(&self, info: &FlightInfo) -> CancelStatus {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
        let handles = tickets.filter_map(|ticket| {
            let any = Any::decode(&*ticket.ticket).ok()?;
            any.unpack::<TicketStatementQuery>().ok().flatten().map(|ticket| ticket.statement_handle)
        });
        let mut found: Vec<CancelStatus> = handles.map(|handle| self.statements.cancel(&handle)).collect();
        let metadata = serde_json::from_slice::<Value>(&info.app_metadata).ok();
        let name = metadata.as_ref().and_then(|metadata| metadata.get(POLL_KEY)?.as_str());
        found.extend(name.and_then(|name| Uuid::try_parse(name).ok()).map(|name| self.statements.cancel_polled(name)));
        let is_cancelled = found.contains(&CancelStatus::Cancelled);
        if is_cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable }
    }

    /// An action that arrow-flight's dispatch does not know.
    async fn own_action(&self, key: SessionKey, name: &str, body: Bytes) -> Result<Vec<u8>, Status> {
        let unreadable = |_| Status::invalid_argument(format!("the body of {name} can't be read"));
        Ok(match name {
            CLOSE_SESSION => {
                self.statements.close_session(key);
                options::closed()
            }
            SET_SESSION_OPTIONS => {
                let request = options::SetRequest::decode(body).map_err(unreadable)?;
                let mut errors = HashMap::new();
                for (name, value) in &request.options {
                    let set = match options::statement(name, value) {
                        Ok(None) => Ok(()),
                        Ok(Some(statement)) => match self.statements.set_option(key, &statement).await {
                            Ok(()) => Ok(()),
                            Err(status) if status.code() == tonic::Code::InvalidArgument => Err(options::Wrong::Value),
                            Err(_) => Err(options::Wrong::Error),
                        },
                        Err(wrong) => Err(wrong),
                    };
                    if let Err(wrong) = set {
                        errors.insert(name.clone(), options::SetError { value: wrong as i32 });
                    }
                }
                options::SetResult { errors }.encode_to_vec()
            }
            GET_SESSION_OPTIONS => {
                let found = self.statements.options(key).await?.into_iter();
                let value = |text| options::OptionValue { given: Some(options::Given::Text(text)) };
                options::GetResult { options: found.map(|(name, text)| (name, value(text))).collect() }.encode_to_vec()
            }
            CANCEL_FLIGHT_INFO => {
                let request = CancelFlightInfoRequest::decode(body).map_err(unreadable)?;
                let info =
                    request.info.ok_or_else(|| Status::invalid_argument("CancelFlightInfo needs a FlightInfo"))?;
                CancelFlightInfoResult::new(self.cancelled(&info)).encode_to_vec()
            }
            _ => return Err(Status::unimplemented(format!("there is no action \"{name}\""))),
        })
    }

    fn stream(&self, fetched: Fetched) -> Response<FlightStream> {
        let Fetched { schema, batches, end } = fetched;
        let cut_off = if end == End::Never { &self.stopping } else { &self.cut_off };
        Response::new(encoded(&schema, batches, cut_off.clone()))
    }

    fn batch(&self, batch: arrow_flight::error::Result<RecordBatch>) -> GetResult {
        Ok(Response::new(encoded_batch(batch.map_err(internal)?, self.cut_off.clone())))
    }
}

fn key_of<M>(request: &Request<M>) -> SessionKey {
    request.extensions().get().copied().unwrap_or_else(|| SessionKey::of(request.metadata()))
}

/// A FlightInfo whose ticket is the command itself.
fn info_of_command(schema: &SchemaRef, request: Request<FlightDescriptor>) -> InfoResult {
    let descriptor = request.into_inner();
    let ticket = descriptor.cmd.clone();
    info(schema, ticket, descriptor)
}

/// A FlightInfo whose ticket names a statement that waits.
fn info_of_ticket(schema: &SchemaRef, ticket: Uuid, request: Request<FlightDescriptor>) -> InfoResult {
    info(schema, ticket_of(ticket).ticket, request.into_inner())
}

fn info(schema: &SchemaRef, ticket: Bytes, descriptor: FlightDescriptor) -> InfoResult {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
    Ok(Response::new(info_of(schema, descriptor, None)?.with_endpoint(endpoint)))
}

/// A FlightInfo without endpoints. `polled` is the name of a statement that is polled, and its rows so far.
fn info_of(
    schema: &SchemaRef,
    descriptor: FlightDescriptor,
    polled: Option<(Uuid, u64)>,
) -> Result<FlightInfo, Status> {
    let info = FlightInfo::new().try_with_schema(&plain_schema(schema)).map_err(internal)?;
    Ok(info
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1)
        .with_ordered(true)
        .with_app_metadata(app_metadata(schema, polled)))
}

/// A ticket that names a statement that waits.
fn ticket_of(name: Uuid) -> Ticket {
    let ticket = TicketStatementQuery { statement_handle: handle_of(name) };
    Ticket { ticket: ticket.as_any().encode_to_vec().into() }
}

/// What app_metadata calls the name of a statement that is polled.
const POLL_KEY: &str = "headwater.poll";

/// What the descriptor of a later poll begins with.
const POLL_COMMAND: &[u8] = b"headwater.poll:";

/// The descriptor's command of a later poll: the statement, and how many parts the client knows.
fn poll_command(name: Uuid, known: usize) -> Vec<u8> {
    let known = u32::try_from(known).unwrap_or(u32::MAX).to_be_bytes();
    [POLL_COMMAND, name.as_bytes().as_slice(), known.as_slice()].concat()
}

/// The statement that a later poll names.
fn polled(command: &[u8]) -> Option<(Uuid, usize)> {
    let (name, known) = command.strip_prefix(POLL_COMMAND)?.split_at_checked(16)?;
    let known = u32::from_be_bytes(known.try_into().ok()?);
    Some((Uuid::from_slice(name).ok()?, usize::try_from(known).ok()?))
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    let any = Any::decode(&*descriptor.cmd).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Command::try_from(any).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The metadata of a schema as one JSON object, for clients that read a FlightInfo and no schema; nothing where there is none.
fn app_metadata(schema: &Schema, polled: Option<(Uuid, u64)>) -> Bytes {
    let entries = schema.metadata().iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    let mut entries: serde_json::Map<String, Value> = entries.collect();
    if let Some((name, rows)) = polled {
        entries.insert(POLL_KEY.to_owned(), Value::from(name.to_string()));
        entries.insert("headwater.rows".to_owned(), Value::from(rows));
    }
    if entries.is_empty() { Bytes::new() } else { Value::Object(entries).to_string().into() }
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &options).try_into().map_err(|error: ArrowError| internal(error))?;
    Ok(bytes)
}

fn no_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(no_transactions()),
        _ => Ok(()),
    }
}

fn no_transactions() -> Status {
    Status::unimplemented("transactions are not supported; each statement stands alone (autocommit)")
}

fn no_writes(what: &str) -> Status {
    Status::unimplemented(format!("{what} is refused: Headwater reads its services and does not write to them"))
}

fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not supported; send SQL")
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        no_transaction(query.transaction_id.as_ref())?;
        let (schema, ticket) = self.statements.plan(key_of(&request), &query.query).await?;
        info_of_ticket(&schema, ticket, request)
    }

    async fn get_flight_info_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<FlightDescriptor>,
    ) -> InfoResult {
        Err(no_substrait())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        let (schema, ticket) = self.statements.execute(key_of(&request), &query.prepared_statement_handle).await?;
        info_of_ticket(&schema, ticket, request)
    }

    async fn get_flight_info_catalogs(
        &self,
        command: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&command.into_builder().schema(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        command: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&command.into_builder().schema(), request)
    }

    async fn get_flight_info_tables(
        &self,
        command: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&metadata::tables_schema(command), request)
    }

    async fn get_flight_info_table_types(
        &self,
        command: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&command.into_builder().schema(), request)
    }

    async fn get_flight_info_sql_info(&self, _: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> InfoResult {
        info_of_command(&self.sql_info.schema(), request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&metadata::primary_keys_schema(), request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&metadata::foreign_keys_schema(), request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&metadata::foreign_keys_schema(), request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&metadata::foreign_keys_schema(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        _: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> InfoResult {
        info_of_command(&self.type_info.schema(), request)
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> GetResult {
        Ok(self.stream(self.statements.fetch(key_of(&request), &ticket.statement_handle)?))
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> GetResult {
        let key = key_of(&request);
        let (_, ticket) = self.statements.execute(key, &query.prepared_statement_handle).await?;
        Ok(self.stream(self.statements.fetch(key, &handle_of(ticket))?))
    }

    async fn do_get_catalogs(&self, command: CommandGetCatalogs, _: Request<Ticket>) -> GetResult {
        self.batch(metadata::catalogs(command))
    }

    async fn do_get_schemas(&self, command: CommandGetDbSchemas, _: Request<Ticket>) -> GetResult {
        let seen = self.seen();
        self.batch(metadata::schemas(command, &seen.services(), &seen.catalog().await))
    }

    async fn do_get_tables(&self, command: CommandGetTables, _: Request<Ticket>) -> GetResult {
        self.batch(metadata::tables(command, &self.seen().catalog().await))
    }

    async fn do_get_table_types(&self, command: CommandGetTableTypes, _: Request<Ticket>) -> GetResult {
        self.batch(metadata::table_types(command))
    }

    async fn do_get_sql_info(&self, command: CommandGetSqlInfo, _: Request<Ticket>) -> GetResult {
        self.batch(command.into_builder(&self.sql_info).build())
    }

    async fn do_get_primary_keys(&self, command: CommandGetPrimaryKeys, _: Request<Ticket>) -> GetResult {
        self.batch(metadata::primary_keys(&command, &self.seen().catalog().await))
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> GetResult {
        self.batch(Ok(metadata::foreign_keys()))
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> GetResult {
        self.batch(Ok(metadata::foreign_keys()))
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> GetResult {
        self.batch(Ok(metadata::foreign_keys()))
    }

    async fn do_get_xdbc_type_info(&self, command: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> GetResult {
        self.batch(command.into_builder(&self.type_info).build())
    }

    /// A statement that a client takes for an update: `SET` is run, everything else is refused.
    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        no_transaction(command.transaction_id.as_ref())?;
        self.statements.update(key_of(&request), &command.query).await
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(no_writes("bulk ingestion"))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let prepared = self.statements.prepared(&query.prepared_statement_handle)?;
        let rows = parameters::read(request.into_inner(), &prepared.parameters(), self.parameter_rows).await?;
        debug!(rows = rows.len(), "parameters bound");
        prepared.bind(rows);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        command: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let text = self.statements.prepared(&command.prepared_statement_handle)?.text().to_owned();
        self.statements.update(key_of(&request), &text).await
    }

    async fn do_put_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(no_substrait())
    }

    async fn do_action_create_prepared_statement(
        &self,
        command: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        no_transaction(command.transaction_id.as_ref())?;
        let (name, prepared) = self.statements.prepare(key_of(&request), &command.query).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle_of(name),
            dataset_schema: ipc(&plain_schema(&prepared.schema()))?,
            parameter_schema: ipc(&parameters::schema(&prepared.parameters()))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        command: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.close(&command.prepared_statement_handle)
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _: ActionCreatePreparedSubstraitPlanRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Err(no_substrait())
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(no_transactions())
    }

    async fn do_action_end_transaction(
        &self,
        _: ActionEndTransactionRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Err(no_transactions())
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(no_transactions())
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        Err(no_transactions())
    }

    async fn do_action_cancel_query(
        &self,
        request: ActionCancelQueryRequest,
        _: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(request.info).map_err(|_| Status::invalid_argument("this is no FlightInfo"))?;
        // The two results have the same numbers.
        Ok(ActionCancelQueryResult { result: self.cancelled(&info) as i32 })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Rpc as arrow_flight::flight_service_server::FlightService>::DoActionStream>, Status> {
        let key = key_of(&request);
        let Action { r#type, body } = request.into_inner();
        let body = self.own_action(key, &r#type, body).await?;
        let result = arrow_flight::Result { body: body.into() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(result)]))))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
