//! The Flight service around our Flight SQL service: what arrow-flight's dispatch leaves out.
//!
//! It asks the gate who each request is from, names its session, contains panics, answers GetSchema, and lists the actions that there are.
//!
//! Invariant: every method asks the gate before it does anything else, also to say that it is not there.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{FutureExt, Stream};
use headwater::TraceParent;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::actions::{CANCEL_FLIGHT_INFO, CLOSE_SESSION, GET_SESSION_OPTIONS, SET_SESSION_OPTIONS};
use super::error::{denied, internal, panicked};
use super::service::Service;
use super::session::SessionKey;
use super::stream::FlightStream;
use crate::auth::current::{as_principal, in_trace};
use crate::auth::{Gate, Peer, Principal};
use crate::tls::{Door, Origin};

/// How long a client of Handshake may take to say who it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The service that tonic calls.
pub(super) struct Rpc {
    service: Service,
    gate: Gate,
    connections_max: usize,
}

type Results<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Rpc {
    pub(super) fn new(service: Service, gate: Gate, connections_max: usize) -> Self {
        Self { service, gate, connections_max }
    }

    /// Where a request comes from. One that came on a connection beyond those that there may be is refused.
    fn peer_of<M>(&self, request: &Request<M>) -> Result<Peer, Status> {
        let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
        if origin.is_beyond() {
            let message =
                format!("the server has {} connections and takes no more now; try again later", self.connections_max);
            return Err(Status::resource_exhausted(message));
        }
        Ok(origin.peer(Door::Flight))
    }

    /// Who a request is from, or why nobody may come in.
    async fn admit<M>(&self, request: &Request<M>) -> Result<Principal, Status> {
        let peer = self.peer_of(request)?;
        self.gate.header(authorization(request), &peer).await.map(|principal| principal.at(&peer)).map_err(denied)
    }

    /// Runs a request as its principal's and under its session's name, and turns a panic into an error of this request alone.
    async fn handled<M, T, F>(
        &self,
        mut request: Request<M>,
        handle: impl FnOnce(Request<M>) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let principal = self.admit(&request).await?;
        let key = SessionKey::of(request.metadata());
        let parent = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        let parent = parent.and_then(TraceParent::parse);
        request.extensions_mut().insert(key);
        let answer = AssertUnwindSafe(async { handle(request).await }).catch_unwind();
        let answer = in_trace(parent, as_principal(principal, answer));
        let mut result = answer.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match &mut result {
            Ok(response) => key.offer(response.metadata_mut()),
            Err(status) => key.offer(status.metadata_mut()),
        }
        result
    }

    /// Answers a password with a token that stands for it, in the header `authorization` and as the answer's text.
    async fn logged_in(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Results<HandshakeResponse>>, Status> {
        let peer = self.peer_of(&request)?;
        if self.gate.is_open() {
            return Err(Status::unimplemented("this server has no users; connect without a user and password"));
        }
        let principal = match authorization(&request) {
            Some(header) => self.gate.header(Some(header), &peer).await,
            None => {
                let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, request.into_inner().message()).await;
                let first = first.map_err(|_| Status::deadline_exceeded("the client did not say who it is"))??;
                match first.and_then(|first| BasicAuth::decode(first.payload).ok()) {
                    Some(basic) => self.gate.password(&basic.username, &basic.password, &peer).await,
                    None => self.gate.header(None, &peer).await,
                }
            }
        };
        let token = principal.and_then(|principal| self.gate.open_session(&principal)).map_err(denied)?;
        let header = MetadataValue::try_from(format!("Bearer {token}")).map_err(internal)?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.into_bytes().into() };
        let answers: Results<HandshakeResponse> = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(answers);
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }
}

fn authorization<M>(request: &Request<M>) -> Option<&str> {
    request.metadata().get("authorization").and_then(|value| value.to_str().ok())
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
        self.logged_in(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.admit(&request).await?;
        Err(Status::unimplemented("ListFlights: ask for tables with the Flight SQL command GetTables"))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.handled(request, |request| FlightService::get_flight_info(&self.service, request)).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.handled(request, |request| self.service.poll(request)).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.handled(request, |request| self.service.schema_of(request)).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.handled(request, |request| FlightService::do_get(&self.service, request)).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.handled(request, |request| FlightService::do_put(&self.service, request)).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        self.handled(request, |request| FlightService::do_action(&self.service, request)).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.admit(&request).await?;
        let action = |name: &str, description: &str| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        let actions = [
            action("CreatePreparedStatement", "Plans a statement, whose parameters are bound later."),
            action("ClosePreparedStatement", "Lets go of a prepared statement."),
            action("CancelQuery", "Cancels a statement by its FlightInfo, as Flight SQL did before CancelFlightInfo."),
            action(CANCEL_FLIGHT_INFO, "Cancels a statement by its FlightInfo, whether it waits, runs or is polled."),
            action(SET_SESSION_OPTIONS, "Sets options of the session that the request's cookie names."),
            action(GET_SESSION_OPTIONS, "Tells the options of the session that the request's cookie names."),
            action(CLOSE_SESSION, "Lets go of the settings of the session that the request's cookie names."),
        ];
        Ok(Response::new(Box::pin(futures::stream::iter(actions))))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.admit(&request).await?;
        Err(Status::unimplemented("DoExchange is not part of Flight SQL"))
    }
}
