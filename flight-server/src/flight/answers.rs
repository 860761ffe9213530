//! FlightInfo: what a statement or a command answers before its rows, and the tickets in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, Ticket};
use prost::Message;
use prost::bytes::Bytes;
use serde_json::Value;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::error::internal;
use super::polled::{Polled, State};
use super::statements::{Ticketed, handle_of};
use super::stream::plain_schema;

/// What GetFlightInfo answers.
pub(super) type InfoResult = Result<Response<FlightInfo>, Status>;

/// What app_metadata calls the name of a statement that is polled.
const POLL_KEY: &str = "headwater.poll";

/// What the descriptor of a later poll begins with.
const POLL_COMMAND: &[u8] = b"headwater.poll:";

/// A FlightInfo whose ticket is the command itself.
pub(super) fn info_of_command(schema: &SchemaRef, request: Request<FlightDescriptor>) -> InfoResult {
    let descriptor = request.into_inner();
    let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket: descriptor.cmd.clone() });
    Ok(Response::new(info_of(schema, descriptor, None)?.with_endpoint(endpoint)))
}

/// A FlightInfo of a statement that waits. Of several endpoints none comes before the others.
pub(super) fn info_of_statement(statement: &Ticketed, request: Request<FlightDescriptor>) -> InfoResult {
    let Ticketed { schema, tickets } = statement;
    let info = info_of(schema, request.into_inner(), None)?.with_ordered(tickets.len() == 1);
    Ok(Response::new(tickets.iter().fold(info, |info, ticket| info.with_endpoint(endpoint_of(*ticket)))))
}

/// How a statement that is polled stands: its parts are endpoints, in the order of the rows.
pub(super) fn poll_info(
    name: Uuid,
    statement: &Polled,
    state: &State,
    is_over: bool,
    life: Duration,
) -> Result<PollInfo, Status> {
    let info = info_of(&statement.schema, statement.descriptor.clone(), Some((name, state.rows)))?;
    let info = state.parts.iter().fold(info, |info, part| info.with_endpoint(endpoint_of(*part)));
    let mut poll = PollInfo { info: Some(info), ..PollInfo::default() };
    if is_over {
        poll.progress = Some(1.0);
        return Ok(poll);
    }
    poll.flight_descriptor = Some(FlightDescriptor::new_cmd(poll_command(name, state.parts.len())));
    let since = (SystemTime::now() + life).duration_since(UNIX_EPOCH).unwrap_or_default();
    poll.expiration_time.get_or_insert_default().seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Ok(poll)
}

/// The handles in a FlightInfo's tickets, and the statement that is polled by it.
pub(super) fn named_by(info: &FlightInfo) -> (Vec<Bytes>, Option<Uuid>) {
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref());
    let handles = tickets.filter_map(|ticket| {
        let any = Any::decode(&*ticket.ticket).ok()?;
        any.unpack::<TicketStatementQuery>().ok().flatten().map(|ticket| ticket.statement_handle)
    });
    let metadata = serde_json::from_slice::<Value>(&info.app_metadata).ok();
    let name = metadata.as_ref().and_then(|metadata| metadata.get(POLL_KEY)?.as_str());
    (handles.collect(), name.and_then(|name| Uuid::try_parse(name).ok()))
}

/// The statement that a later poll names, and how many of its parts the client knows.
pub(super) fn polled(command: &[u8]) -> Option<(Uuid, usize)> {
    let (name, known) = command.strip_prefix(POLL_COMMAND)?.split_at_checked(16)?;
    let known = u32::from_be_bytes(known.try_into().ok()?);
    Some((Uuid::from_slice(name).ok()?, usize::try_from(known).ok()?))
}

/// The descriptor's command of a later poll: the statement, and how many parts the client knows.
fn poll_command(name: Uuid, known: usize) -> Vec<u8> {
    let known = u32::try_from(known).unwrap_or(u32::MAX).to_be_bytes();
    [POLL_COMMAND, name.as_bytes().as_slice(), known.as_slice()].concat()
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

/// An endpoint whose ticket names a statement that waits.
fn endpoint_of(name: Uuid) -> FlightEndpoint {
    let ticket = TicketStatementQuery { statement_handle: handle_of(name) };
    FlightEndpoint::new().with_ticket(Ticket { ticket: ticket.as_any().encode_to_vec().into() })
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
