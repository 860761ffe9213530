//! Flight SQL: the one list of its calls.

use std::collections::BTreeSet;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginTransactionRequest, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest, ActionEndTransactionRequest, Any,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData,
    FlightDescriptor, FlightInfo, HandshakeRequest, Ticket,
};
use futures::TryStreamExt;
use prost::Message;
use prost::bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{World, between, own_address};

/// What ada has made, which is named to the server by others.
struct Hers {
    info: FlightInfo,
    prepared: Bytes,
    polling: FlightDescriptor,
    cookie: String,
}

enum Ask {
    Handshake,
    ListFlights,
    ListActions,
    Exchange,
    Info(FlightDescriptor),
    Schema(FlightDescriptor),
    Poll(FlightDescriptor),
    Get(Ticket),
    Put(FlightDescriptor),
    Act(Action),
}

/// What bob gets who names what is ada's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bobs {
    /// It is not there, or what it asks of is not.
    NotFound,
    /// He may not do this.
    Denied,
    /// The answer says that nothing was cancelled.
    NotCancellable,
    /// An answer of his own, in which nothing is hers.
    Own,
    /// Nobody gets anything.
    Unimplemented,
}

/// The function of the sources that answers, what is asked, and what bob gets.
type Call = (&'static str, fn(&Hers) -> Ask, Bobs);

fn described(command: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn info(command: &impl ProstMessageExt) -> Ask {
    Ask::Info(described(command))
}

fn get(command: &impl ProstMessageExt) -> Ask {
    Ask::Get(Ticket { ticket: command.as_any().encode_to_vec().into() })
}

fn put(command: &impl ProstMessageExt) -> Ask {
    Ask::Put(described(command))
}

fn act(name: &str, body: &impl ProstMessageExt) -> Ask {
    Ask::Act(Action { r#type: name.to_owned(), body: body.as_any().encode_to_vec().into() })
}

fn plain(name: &str, body: impl Into<Bytes>) -> Ask {
    Ask::Act(Action { r#type: name.to_owned(), body: body.into() })
}

fn statement(text: &str) -> CommandStatementQuery {
    CommandStatementQuery { query: text.to_owned(), transaction_id: None }
}

fn query() -> CommandStatementQuery {
    statement("SELECT id FROM vault.t")
}

/// What only a role that defines views may do.
const DEFINING: &str = "CREATE MATERIALIZED VIEW reports.made AS SELECT 1 AS n";

fn prepared(hers: &Hers) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery { prepared_statement_handle: hers.prepared.clone() }
}

fn keys() -> CommandGetPrimaryKeys {
    CommandGetPrimaryKeys { table: "t".to_owned(), ..Default::default() }
}

/// Everything that a client can call. A function of the sources that is not named here fails the test.
const CALLS: &[Call] = &[
    ("handshake", |_| Ask::Handshake, Bobs::Own),
    ("list_flights", |_| Ask::ListFlights, Bobs::Unimplemented),
    ("list_actions", |_| Ask::ListActions, Bobs::Own),
    ("do_exchange", |_| Ask::Exchange, Bobs::Unimplemented),
    ("get_schema", |_| Ask::Schema(described(&query())), Bobs::NotFound),
    ("get_schema", |hers| Ask::Schema(described(&prepared(hers))), Bobs::NotFound),
    ("get_schema", |_| Ask::Schema(described(&CommandGetTables::default())), Bobs::Own),
    ("poll_flight_info", |_| Ask::Poll(described(&query())), Bobs::NotFound),
    ("poll_flight_info", |hers| Ask::Poll(described(&prepared(hers))), Bobs::NotFound),
    ("poll_flight_info", |hers| Ask::Poll(hers.polling.clone()), Bobs::NotFound),
    // GetFlightInfo
    ("get_flight_info", |_| Ask::Info(FlightDescriptor::new_path(vec!["vault".to_owned()])), Bobs::Unimplemented),
    ("get_flight_info_statement", |_| info(&query()), Bobs::NotFound),
    ("get_flight_info_statement", |_| info(&statement(DEFINING)), Bobs::Denied),
    ("get_flight_info_substrait_plan", |_| info(&CommandStatementSubstraitPlan::default()), Bobs::Unimplemented),
    ("get_flight_info_prepared_statement", |hers| info(&prepared(hers)), Bobs::NotFound),
    ("get_flight_info_catalogs", |_| info(&CommandGetCatalogs {}), Bobs::Own),
    ("get_flight_info_schemas", |_| info(&CommandGetDbSchemas::default()), Bobs::Own),
    ("get_flight_info_tables", |_| info(&CommandGetTables::default()), Bobs::Own),
    ("get_flight_info_table_types", |_| info(&CommandGetTableTypes {}), Bobs::Own),
    ("get_flight_info_sql_info", |_| info(&CommandGetSqlInfo::default()), Bobs::Own),
    ("get_flight_info_primary_keys", |_| info(&keys()), Bobs::Own),
    ("get_flight_info_exported_keys", |_| info(&CommandGetExportedKeys::default()), Bobs::Own),
    ("get_flight_info_imported_keys", |_| info(&CommandGetImportedKeys::default()), Bobs::Own),
    ("get_flight_info_cross_reference", |_| info(&CommandGetCrossReference::default()), Bobs::Own),
    ("get_flight_info_xdbc_type_info", |_| info(&CommandGetXdbcTypeInfo::default()), Bobs::Own),
    // DoGet
    ("do_get", |hers| Ask::Get(hers.info.endpoint[0].ticket.clone().unwrap()), Bobs::NotFound),
    ("do_get_statement", |hers| Ask::Get(hers.info.endpoint[0].ticket.clone().unwrap()), Bobs::NotFound),
    ("do_get_prepared_statement", |hers| get(&prepared(hers)), Bobs::NotFound),
    ("do_get_catalogs", |_| get(&CommandGetCatalogs {}), Bobs::Own),
    ("do_get_schemas", |_| get(&CommandGetDbSchemas::default()), Bobs::Own),
    ("do_get_tables", |_| get(&CommandGetTables { include_schema: true, ..Default::default() }), Bobs::Own),
    ("do_get_table_types", |_| get(&CommandGetTableTypes {}), Bobs::Own),
    ("do_get_sql_info", |_| get(&CommandGetSqlInfo::default()), Bobs::Own),
    ("do_get_primary_keys", |_| get(&keys()), Bobs::Own),
    ("do_get_exported_keys", |_| get(&CommandGetExportedKeys::default()), Bobs::Own),
    ("do_get_imported_keys", |_| get(&CommandGetImportedKeys::default()), Bobs::Own),
    ("do_get_cross_reference", |_| get(&CommandGetCrossReference::default()), Bobs::Own),
    ("do_get_xdbc_type_info", |_| get(&CommandGetXdbcTypeInfo::default()), Bobs::Own),
    // DoPut
    (
        "do_put",
        |_| put(&CommandStatementUpdate { query: "SET search_path = ''".to_owned(), ..Default::default() }),
        Bobs::Own,
    ),
    (
        "do_put_statement_update",
        |_| put(&CommandStatementUpdate { query: "SELECT id FROM vault.t".to_owned(), ..Default::default() }),
        Bobs::NotFound,
    ),
    (
        "do_put_statement_update",
        |_| put(&CommandStatementUpdate { query: DEFINING.to_owned(), ..Default::default() }),
        Bobs::Denied,
    ),
    ("do_put_statement_ingest", |_| put(&CommandStatementIngest::default()), Bobs::Unimplemented),
    ("do_put_prepared_statement_query", |hers| put(&prepared(hers)), Bobs::NotFound),
    (
        "do_put_prepared_statement_update",
        |hers| put(&CommandPreparedStatementUpdate { prepared_statement_handle: hers.prepared.clone() }),
        Bobs::NotFound,
    ),
    ("do_put_substrait_plan", |_| put(&CommandStatementSubstraitPlan::default()), Bobs::Unimplemented),
    // DoAction
    ("do_action", |_| plain("nothing", Bytes::new()), Bobs::Unimplemented),
    ("do_action_fallback", |_| plain("nothing", Bytes::new()), Bobs::Unimplemented),
    (
        "do_action_create_prepared_statement",
        |_| {
            act(
                "CreatePreparedStatement",
                &ActionCreatePreparedStatementRequest { query: query().query, transaction_id: None },
            )
        },
        Bobs::NotFound,
    ),
    (
        // What is gone already is no error; hers is not gone by it.
        "do_action_close_prepared_statement",
        |hers| {
            act(
                "ClosePreparedStatement",
                &ActionClosePreparedStatementRequest { prepared_statement_handle: hers.prepared.clone() },
            )
        },
        Bobs::Own,
    ),
    (
        "do_action_create_prepared_substrait_plan",
        |_| act("CreatePreparedSubstraitPlan", &ActionCreatePreparedSubstraitPlanRequest::default()),
        Bobs::Unimplemented,
    ),
    (
        "do_action_begin_transaction",
        |_| act("BeginTransaction", &ActionBeginTransactionRequest {}),
        Bobs::Unimplemented,
    ),
    (
        "do_action_end_transaction",
        |_| act("EndTransaction", &ActionEndTransactionRequest::default()),
        Bobs::Unimplemented,
    ),
    (
        "do_action_begin_savepoint",
        |_| act("BeginSavepoint", &ActionBeginSavepointRequest::default()),
        Bobs::Unimplemented,
    ),
    ("do_action_end_savepoint", |_| act("EndSavepoint", &ActionEndSavepointRequest::default()), Bobs::Unimplemented),
    (
        "do_action_cancel_query",
        |hers| act("CancelQuery", &ActionCancelQueryRequest { info: hers.info.encode_to_vec().into() }),
        Bobs::NotCancellable,
    ),
    (
        "CancelFlightInfo",
        |hers| plain("CancelFlightInfo", CancelFlightInfoRequest::new(hers.info.clone()).encode_to_vec()),
        Bobs::NotCancellable,
    ),
    ("SetSessionOptions", |_| plain("SetSessionOptions", Bytes::new()), Bobs::Own),
    ("GetSessionOptions", |_| plain("GetSessionOptions", Bytes::new()), Bobs::Own),
    ("CloseSession", |_| plain("CloseSession", Bytes::new()), Bobs::Own),
];

/// Asks from an address of its own; all that the server answers.
async fn asked(
    world: &World,
    from: std::net::IpAddr,
    ask: Ask,
    authorization: Option<&str>,
    cookie: &str,
) -> Result<Vec<Vec<u8>>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", world.doors.flight)).unwrap();
    let channel = endpoint.local_address(Some(from)).connect().await.unwrap();
    let mut client: FlightServiceClient<Channel> = FlightServiceClient::new(channel);
    fn with<T>(message: T, authorization: Option<&str>, cookie: &str) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        request.metadata_mut().insert("cookie", cookie.parse().unwrap());
        request
    }
    macro_rules! one {
        ($method:ident, $message:expr) => {
            Ok(vec![client.$method(with($message, authorization, cookie)).await?.into_inner().encode_to_vec()])
        };
    }
    macro_rules! many {
        ($method:ident, $message:expr) => {{
            let stream = client.$method(with($message, authorization, cookie)).await?.into_inner();
            stream.map_ok(|item| item.encode_to_vec()).try_collect().await
        }};
    }
    let first = |descriptor| FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
    match ask {
        Ask::Handshake => many!(handshake, futures::stream::iter([HandshakeRequest::default()])),
        Ask::ListFlights => many!(list_flights, Criteria::default()),
        Ask::ListActions => many!(list_actions, Empty {}),
        Ask::Exchange => many!(do_exchange, futures::stream::iter([FlightData::default()])),
        Ask::Info(descriptor) => one!(get_flight_info, descriptor),
        Ask::Schema(descriptor) => one!(get_schema, descriptor),
        Ask::Poll(descriptor) => one!(poll_flight_info, descriptor),
        Ask::Get(ticket) => many!(do_get, ticket),
        Ask::Put(descriptor) => many!(do_put, futures::stream::iter([first(descriptor)])),
        Ask::Act(action) => many!(do_action, action),
    }
}

/// Makes what is ada's: a statement that waits, one that is prepared, one that is polled, and a session.
async fn hers(world: &World, authorization: &str) -> Hers {
    let from = own_address(0, 0);
    let ask = async |ask: Ask, cookie: &str| asked(world, from, ask, Some(authorization), cookie).await.unwrap();
    let cookie = format!("arrow_flight_session_id={}", "01234567-89ab-4def-8123-456789abcdef");
    let set = CommandStatementUpdate { query: "SET search_path = vault".to_owned(), ..Default::default() };
    ask(put(&set), &cookie).await;
    let info = FlightInfo::decode(&*ask(info(&query()), &cookie).await[0]).unwrap();
    let create = ActionCreatePreparedStatementRequest { query: query().query, transaction_id: None };
    let made = ask(act("CreatePreparedStatement", &create), &cookie).await;
    let made = arrow_flight::Result::decode(&*made[0]).unwrap();
    let made = Any::decode(&*made.body).unwrap();
    let made: arrow_flight::sql::ActionCreatePreparedStatementResult = made.unpack().unwrap().unwrap();
    let polled = ask(Ask::Poll(described(&query())), &cookie).await;
    let polled = arrow_flight::PollInfo::decode(&*polled[0]).unwrap();
    // Where it has ended already nothing more is to be polled; its name is in the metadata.
    let name: serde_json::Value = serde_json::from_slice(&polled.info.unwrap().app_metadata).unwrap();
    let name = name["headwater.poll"].as_str().unwrap().replace('-', "");
    let name = (0..16).map(|at| u8::from_str_radix(&name[2 * at..2 * at + 2], 16).unwrap());
    let polling = [b"headwater.poll:".to_vec(), name.collect(), vec![0; 4]].concat();
    Hers { info, prepared: made.prepared_statement_handle, polling: FlightDescriptor::new_cmd(polling), cookie }
}

/// Whether an answer to CancelFlightInfo or CancelQuery says that nothing was cancelled.
fn is_not_cancellable(answer: &[Vec<u8>]) -> bool {
    let body = arrow_flight::Result::decode(&*answer[0]).unwrap().body;
    let status = match Any::decode(&*body).ok().and_then(|any| any.unpack::<ActionCancelQueryResult>().ok().flatten()) {
        Some(result) => result.result,
        None => CancelFlightInfoResult::decode(&*body).unwrap().status,
    };
    status == CancelStatus::NotCancellable as i32
}

#[test]
fn every_call_that_the_sources_answer_is_in_the_list() {
    let listed: BTreeSet<&str> = CALLS.iter().map(|(name, ..)| *name).collect();
    let rpc = include_str!("../../../../flight-server/src/flight/rpc.rs");
    let rpc = &rpc[rpc.find("impl FlightService for Rpc").unwrap()..];
    let service = include_str!("../../../../flight-server/src/flight/service.rs");
    let service = &service[service.find("impl FlightSqlService for Service").unwrap()..];
    let actions = between(include_str!("../../../../flight-server/src/flight/actions.rs"), "const ", ";");
    let actions = actions.iter().filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix('"'));
    let functions = between(rpc, "    async fn ", "(").into_iter().chain(between(service, "    async fn ", "("));
    let known: BTreeSet<&str> = functions.chain(actions).filter(|name| *name != "register_sql_info").collect();
    assert!(known.len() > 40, "{known:?}");
    assert_eq!(listed, known, "the list and the sources differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_without_a_good_credential_is_refused_and_runs_nothing() {
    let world = World::new().await;
    let hers = hers(&world, &format!("Bearer {}", world.ada)).await;
    let before = world.ran().await;
    let expired = format!("Bearer {}", world.expired);
    let credentials: [(&str, Option<&str>); 5] = [
        ("none", None),
        ("a wrong password", Some("Basic YWRhOndyb25n")),
        ("an unknown token", Some("Bearer hwt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("an unknown session", Some("Bearer hws_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("an expired token", Some(&expired)),
    ];
    for (kind, (credential, header)) in credentials.into_iter().enumerate() {
        for (number, (name, ask, _)) in CALLS.iter().enumerate() {
            let answer = asked(&world, own_address(kind, number), ask(&hers), header, &hers.cookie).await;
            let code = answer.err().map(|status| status.code());
            assert_eq!(code, Some(Code::Unauthenticated), "{name} with {credential}");
        }
    }
    assert_eq!(world.ran().await, before, "something ran");
    still_hers(&world, &hers).await;
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_users_is_not_there_for_another_by_any_call() {
    let world = World::new().await;
    let hers = hers(&world, &format!("Bearer {}", world.ada)).await;
    let (_, statements) = world.ran().await;
    let bob = format!("Bearer {}", world.bob);
    for (number, (name, ask, bobs)) in CALLS.iter().enumerate() {
        let answer = asked(&world, own_address(9, number), ask(&hers), Some(&bob), &hers.cookie).await;
        let found = match &answer {
            Ok(answer) if *bobs == Bobs::NotCancellable && is_not_cancellable(answer) => Bobs::NotCancellable,
            Ok(_) => Bobs::Own,
            // A table that is not granted is not there: planning says so as INVALID_ARGUMENT where the name is of a service that is not seen at all.
            Err(status) => match status.code() {
                Code::NotFound => Bobs::NotFound,
                Code::InvalidArgument if status.message().contains("not found") => Bobs::NotFound,
                Code::Unimplemented => Bobs::Unimplemented,
                Code::PermissionDenied => Bobs::Denied,
                code => panic!("{name}: {code:?} {}", status.message()),
            },
        };
        assert_eq!(found, *bobs, "{name}: {answer:?}");
        for part in answer.unwrap_or_default() {
            let text = String::from_utf8_lossy(&part).into_owned();
            assert!(!text.contains("vault"), "{name} shows bob what is ada's: {text}");
        }
    }
    assert_eq!(world.ran().await.1, statements, "a service was asked");
    still_hers(&world, &hers).await;
    world.doors.close().await;
}

/// Whatever others tried, what is ada's is there for her.
async fn still_hers(world: &World, hers: &Hers) {
    let header = format!("Bearer {}", world.ada);
    let ask = async |ask: Ask| asked(world, own_address(0, 0), ask, Some(&header), &hers.cookie).await.unwrap();
    assert!(ask(Ask::Get(hers.info.endpoint[0].ticket.clone().unwrap())).await.len() > 1, "her ticket");
    assert!(ask(get(&prepared(hers))).await.len() > 1, "her prepared statement");
    ask(Ask::Poll(hers.polling.clone())).await;
    ask(info(&statement("SELECT id FROM t"))).await;
}
