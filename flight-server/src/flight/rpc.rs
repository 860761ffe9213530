//! The Flight service around our Flight SQL service: what arrow-flight's dispatch leaves out.
//!
//! It names each request's session, contains panics, answers GetSchema, and lists the actions that there are.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{FutureExt, Stream};
use tonic::{Request, Response, Status, Streaming};

use super::error::panicked;
use super::service::{CLOSE_SESSION, Service};
use super::session::SessionKey;
use super::stream::FlightStream;

/// The service that tonic calls.
pub(super) struct Rpc {
    service: Service,
}

impl Rpc {
    pub(super) fn new(service: Service) -> Self {
        Self { service }
    }
}

type Results<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs a request under its session's name, and turns a panic into an error of this request alone.
async fn handled<M, T, F>(mut request: Request<M>, handle: impl FnOnce(Request<M>) -> F) -> Result<Response<T>, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let key = SessionKey::of(request.metadata());
    request.extensions_mut().insert(key);
    let mut result = AssertUnwindSafe(async { handle(request).await })
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    match &mut result {
        Ok(response) => key.offer(response.metadata_mut()),
        Err(status) => key.offer(status.metadata_mut()),
    }
    result
}

#[tonic::async_trait]
impl FlightService for Rpc {
    type HandshakeStream = Results<HandshakeResponse>;
    type ListFlightsStream = Results<FlightInfo>;
    type DoGetStream = FlightStream;
    type DoPutStream = Results<PutResult>;
    type DoActionStream = Results<arrow_flight::Result>;
    type ListActionsStream = Results<ActionType>;
    type DoExchangeStream = FlightStream;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        handled(request, |request| self.service.do_handshake(request)).await
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("ListFlights: ask for tables with the Flight SQL command GetTables"))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        handled(request, |request| FlightService::get_flight_info(&self.service, request)).await
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("PollFlightInfo: a statement runs while its ticket is fetched; use GetFlightInfo"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        handled(request, |request| self.service.schema_of(request)).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        handled(request, |request| FlightService::do_get(&self.service, request)).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        handled(request, |request| FlightService::do_put(&self.service, request)).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        handled(request, |request| FlightService::do_action(&self.service, request)).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |name: &str, description: &str| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        let actions = [
            action("CreatePreparedStatement", "Plans a statement, whose parameters are bound later."),
            action("ClosePreparedStatement", "Lets go of a prepared statement."),
            action(CLOSE_SESSION, "Lets go of the settings of the session that the request's cookie names."),
        ];
        Ok(Response::new(Box::pin(futures::stream::iter(actions))))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("DoExchange is not part of Flight SQL"))
    }
}
