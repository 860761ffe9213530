//! The Flight SQL service: which command, update and action is answered by what.
//!
//! Statements are in `queries`, what is asked of the catalog in `metadata`, actions in `actions`; here they meet arrow-flight's dispatch.
//!
//! Invariant: a ticket is taken out of the store by the one request that fetches it, so a statement runs at most once for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest, ActionEndTransactionRequest, Command,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, Ticket};
use headwater::{Engine, Session};
use prost::Message;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::answers::{InfoResult, info_of_command};
use super::queries::{no_transaction, no_transactions};
use super::rpc::Rpc;
use super::session::SessionKey;
use super::statements::Statements;
use super::stream::FlightStream;
use super::{Limits, info, metadata, parameters};
use crate::auth::current;
use crate::detached::Threads;

/// Flight SQL over an engine. Clones share everything.
#[derive(Clone)]
pub(super) struct Service {
    engine: Engine,
    pub(super) statements: Arc<Statements>,
    sql_info: Arc<SqlInfoData>,
    type_info: Arc<XdbcTypeInfoData>,
    parameter_rows: usize,
    pub(super) ticket_life: Duration,
    pub(super) cut_off: watch::Receiver<bool>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// What DoGet answers.
pub(super) type GetResult = Result<Response<FlightStream>, Status>;

impl Service {
    /// `stopping` turns true when the server begins to stop, `cut_off` when what still runs then must end.
    pub(super) fn new(
        engine: Engine,
        limits: &Limits,
        threads: Threads,
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

    /// The schema of a metadata command.
    pub(super) fn metadata_schema(&self, command: Command) -> Result<SchemaRef, Status> {
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
}

/// Whose session a request is of.
pub(super) fn key_of<M>(request: &Request<M>) -> SessionKey {
    request.extensions().get().copied().unwrap_or_else(|| SessionKey::of(request.metadata()))
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
        self.statement_info(&query, request).await
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
        self.prepared_info(&query, request).await
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
        Ok(self.stream(self.statements.execute_now(key_of(&request), &query.prepared_statement_handle).await?))
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
        self.prepared_statement(&command, &request).await
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
