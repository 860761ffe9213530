//! Who may come in: every call of Flight SQL with no, a wrong, an expired and another user's credential; TLS; files that change.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData,
    FlightDescriptor, HandshakeRequest, Ticket,
};
use futures::TryStreamExt;
use headwater_server::Security;
use headwater_server::auth::Gate;
use headwater_sql_tests::certificates::{Certificates, Identity};
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::doors::{CANARY, Doors, UsersFile, python, run, tls};
use headwater_sql_tests::process::headwater;

const DEADLINE: Duration = Duration::from_secs(30);

fn services() -> Services {
    Services::new()
        .with_sqlite("lite", "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
}

async fn channel(doors: &Doors, authority: &Certificates, identity: Option<&Identity>) -> Result<Channel, String> {
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(authority.authority()).unwrap()))
        .domain_name("localhost");
    if let Some(identity) = identity {
        let [certificate, key] = [&identity.certificate, &identity.key].map(|file| std::fs::read(file).unwrap());
        config = config.identity(tonic::transport::Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", doors.flight)).unwrap().tls_config(config).unwrap();
    endpoint.connect().await.map_err(|error| error.to_string())
}

fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

/// The code of every call of the Flight service, each with this header.
async fn codes(channel: &Channel, authorization: Option<&str>) -> Vec<(&'static str, Code)> {
    let mut client = FlightServiceClient::new(channel.clone());
    let command = FlightDescriptor::new_cmd(CommandGetTables::default().as_any().encode_to_vec());
    let code = |result: Result<(), Status>| result.err().map_or(Code::Ok, |status| status.code());
    let action = |name: &str| Action { r#type: name.to_owned(), body: Default::default() };
    macro_rules! call {
        ($name:literal, $method:ident, $message:expr) => {
            ($name, code(client.$method(with($message, authorization)).await.map(|_| ())))
        };
    }
    vec![
        call!("GetFlightInfo", get_flight_info, command.clone()),
        call!("GetSchema", get_schema, command.clone()),
        call!("PollFlightInfo", poll_flight_info, command.clone()),
        call!("DoGet", do_get, Ticket { ticket: command.cmd.clone() }),
        call!("DoPut", do_put, futures::stream::iter([FlightData::default()])),
        call!("DoExchange", do_exchange, futures::stream::iter([FlightData::default()])),
        call!("ListFlights", list_flights, Criteria::default()),
        call!("ListActions", list_actions, Empty {}),
        call!("CreatePreparedStatement", do_action, action("CreatePreparedStatement")),
        call!("ClosePreparedStatement", do_action, action("ClosePreparedStatement")),
        call!("CancelFlightInfo", do_action, action("CancelFlightInfo")),
        call!("CancelQuery", do_action, action("CancelQuery")),
        call!("SetSessionOptions", do_action, action("SetSessionOptions")),
        call!("GetSessionOptions", do_action, action("GetSessionOptions")),
        call!("BeginTransaction", do_action, action("BeginTransaction")),
        call!("an action that is not there", do_action, action("nothing")),
        call!("CloseSession", do_action, action("CloseSession")),
        call!("Handshake", handshake, futures::stream::iter([HandshakeRequest::default()])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_without_a_good_credential_is_refused_over_tls() {
    let (services, authority) = (services(), Certificates::new());
    let (users, token) = UsersFile::new();
    let security = Security { gate: users.gate(), tls: Some(tls(&authority.server("server"), None)) };
    let doors = Doors::open(services.engine().await, security).await;
    let channel = channel(&doors, &authority, None).await.unwrap();
    let wrong = "Basic YWRhOndyb25n";
    for header in [None, Some("Bearer hws_unknown"), Some("Bearer hwt_unknown"), Some("Bearer a.b.c"), Some("nonsense")]
    {
        for (call, code) in codes(&channel, header).await {
            // After fifty guesses an address has to wait.
            let is_refused = code == Code::Unauthenticated || (header.is_some() && code == Code::ResourceExhausted);
            assert!(is_refused, "{call} with {header:?}: {code:?}");
        }
    }
    // The first five guesses are refused, the others have to wait.
    for (call, code) in codes(&channel, Some(wrong)).await {
        assert!(matches!(code, Code::Unauthenticated | Code::ResourceExhausted), "{call}: {code:?}");
    }
    for (call, code) in codes(&channel, Some(&format!("Bearer {token}"))).await {
        assert_ne!(code, Code::Unauthenticated, "{call}");
    }
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_one_user_are_not_there_for_another() {
    let services = services();
    let (users, token) = UsersFile::new();
    let text = std::fs::read_to_string(&users.path).unwrap();
    let made = std::process::Command::new(headwater()).args(["user", "token"]).output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let other = made.lines().find_map(|line| line.strip_prefix("token: ")).unwrap();
    let digest = made.lines().find_map(|line| line.strip_prefix("sha256: ")).unwrap();
    std::fs::write(&users.path, format!("{text}  bob:\n    tokens: {{b: {{sha256: {digest}}}}}\n")).unwrap();
    let doors = Doors::open(services.engine().await, Security { gate: users.gate(), tls: None }).await;
    let connect = async |token: &str| {
        let channel = Endpoint::from_shared(format!("http://{}", doors.flight)).unwrap().connect().await.unwrap();
        let mut client = FlightSqlServiceClient::new(channel);
        client.set_token(token.to_owned());
        client
    };
    let (mut ada, mut bob) = (connect(&token).await, connect(other).await);
    let info = ada.execute("SELECT id FROM lite.t".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stolen = bob.do_get(ticket.clone()).await.err().unwrap().to_string();
    assert!(stolen.contains("no such ticket"), "{stolen}");
    // Nor can another cancel it.
    let channel = Endpoint::from_shared(format!("http://{}", doors.flight)).unwrap().connect().await.unwrap();
    let mut stranger = FlightServiceClient::new(channel.clone());
    let request = CancelFlightInfoRequest::new(info.clone());
    let action = Action { r#type: "CancelFlightInfo".to_owned(), body: request.encode_to_vec().into() };
    let answer = stranger.do_action(with(action, Some(&format!("Bearer {other}")))).await.unwrap();
    let results: Vec<_> = answer.into_inner().try_collect().await.unwrap();
    let result = CancelFlightInfoResult::decode(&*results[0].body).unwrap();
    assert_eq!(result.status, CancelStatus::NotCancellable as i32);
    let rows: Vec<_> = ada.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    // A statement that is polled is its user's alone too, and so is a prepared one.
    let query = CommandStatementQuery { query: "SELECT id FROM lite.t".to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(query.as_any().encode_to_vec());
    let poll =
        stranger.poll_flight_info(with(descriptor, Some(&format!("Bearer {token}")))).await.unwrap().into_inner();
    let part = poll.info.unwrap().endpoint[0].ticket.clone().unwrap();
    let stolen = bob.do_get(part).await.err().unwrap().to_string();
    assert!(stolen.contains("no such ticket"), "{stolen}");
    let mut prepared = ada.prepare("SELECT id FROM lite.t".to_owned(), None).await.unwrap();
    let info = prepared.execute().await.unwrap();
    assert!(bob.do_get(info.endpoint[0].ticket.clone().unwrap()).await.is_err());
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_certificate_and_changed_users_are_in_force_without_a_restart() {
    let (services, authority, next) = (services(), Certificates::new(), Certificates::new());
    let (users, token) = UsersFile::new();
    let server = authority.server("server");
    let security = Security { gate: users.gate(), tls: Some(tls(&server, None)) };
    let doors = Doors::open(services.engine().await, security).await;
    let old = channel(&doors, &authority, None).await.unwrap();
    let header = format!("Bearer {token}");
    assert_eq!(codes(&old, Some(&header)).await[0].1, Code::Ok);
    let renewed = next.server("server");
    std::fs::copy(&renewed.certificate, &server.certificate).unwrap();
    std::fs::copy(&renewed.key, &server.key).unwrap();
    wait::until("the new certificate is shown", DEADLINE, async || channel(&doors, &next, None).await.is_ok()).await;
    assert!(channel(&doors, &authority, None).await.is_err(), "the old authority no longer vouches for the server");
    assert_eq!(codes(&old, Some(&header)).await[0].1, Code::Ok, "open connections go on");
    users.write("bob", "another", "");
    wait::until("ada is out", DEADLINE, async || codes(&old, Some(&header)).await[0].1 == Code::Unauthenticated).await;
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_asked_for_and_names_its_user() {
    let (services, authority, other) = (services(), Certificates::new(), Certificates::new());
    let (users, _) = UsersFile::new();
    let tls = tls(&authority.server("server"), Some(authority.authority()));
    let doors = Doors::open(services.engine().await, Security { gate: users.gate(), tls: Some(tls) }).await;
    let ada = authority.client("ada", "ada.example.com");
    let channel_of = async |identity: Option<&Identity>| {
        let channel = channel(&doors, &authority, identity).await?;
        // In TLS 1.3 a client learns with its first request that its certificate is not taken.
        match codes(&channel, None).await[0].1 {
            code @ (Code::Ok | Code::Unauthenticated) => Ok(code),
            code => Err(format!("{code:?}")),
        }
    };
    assert_eq!(channel_of(Some(&ada)).await, Ok(Code::Ok));
    let stranger = authority.client("stranger", "stranger.example.com");
    assert_eq!(channel_of(Some(&stranger)).await, Ok(Code::Unauthenticated));
    let forged = other.client("forged", "ada.example.com");
    assert!(channel_of(Some(&forged)).await.is_err());
    assert!(channel_of(None).await.is_err());
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adbc_and_the_command_line_log_in_over_tls() {
    let (services, authority) = (services(), Certificates::new());
    let (users, token) = UsersFile::new();
    let security = Security { gate: users.gate(), tls: Some(tls(&authority.server("server"), None)) };
    let doors = Doors::open(services.engine().await, security).await;
    let uri = format!("grpc+tls://{}", doors.flight);
    let ca = authority.authority();
    let (is_content, text) = python(
        "login_client.py",
        &[&uri, ca.to_str().unwrap()],
        &[("HEADWATER_PASSWORD", CANARY.as_str()), ("HEADWATER_TOKEN", &token)],
    )
    .await;
    assert!(is_content && text.contains("every check passed"), "{text}");
    assert!(!text.contains(CANARY.as_str()), "{text}");
    let ask = ["sql", "--connect", &uri, "--tls-ca", ca.to_str().unwrap(), "--format", "csv"];
    let with_user = [&ask[..], &["--user", "ada", "SELECT count(*) AS n FROM lite.t"]].concat();
    let (is_content, text) = run(&headwater(), &with_user, &[("HEADWATER_PASSWORD", CANARY.as_str())]).await;
    assert!(is_content && text.contains("n\n2\n"), "{text}");
    let with_token = [&ask[..], &["SELECT count(*) AS n FROM lite.t"]].concat();
    let (is_content, text) = run(&headwater(), &with_token, &[("HEADWATER_TOKEN", &token)]).await;
    assert!(is_content && text.contains("n\n2\n"), "{text}");
    let (is_content, text) = run(&headwater(), &with_user, &[("HEADWATER_PASSWORD", "wrong")]).await;
    assert!(!is_content && text.contains("not known here"), "{text}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_to_anybody_and_metrics_to_users() {
    let services = services();
    let (users, token) = UsersFile::new();
    let engine = services.engine().await;
    let doors = Doors::open(engine.clone(), Security { gate: users.gate(), tls: None }).await;
    engine.sql("SELECT count(*) FROM lite.t WHERE id > 0").await.unwrap().collect().await.unwrap();
    let get = async |path: &str, authorization: &str| {
        let mut stream = tokio::net::TcpStream::connect(doors.http).await.unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        wait::within("the answer comes", DEADLINE, stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let answers = async |path: &str, status: &str, body: &str| {
        let answer = get(path, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{answer}");
    };
    answers("/healthz", "200", "ok\n").await;
    answers("/readyz", "200", "ready\n").await;
    answers("/metrics", "401", "\n").await;
    answers("/nothing", "404", "\n").await;
    let metrics = get("/metrics", &format!("Bearer {token}")).await;
    assert!(metrics.contains("headwater_queries_total{outcome=\"complete\"} 1\n"), "{metrics}");
    assert!(metrics.contains("headwater_service_statements_total{service=\"lite\"} 1\n"), "{metrics}");
    assert!(metrics.contains("headwater_query_seconds_count 1\n"), "{metrics}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_server_knows_nobody_and_says_so_to_who_logs_in() {
    let services = services();
    let doors = Doors::open(services.engine().await, Security { gate: Gate::open(), tls: None }).await;
    let channel = Endpoint::from_shared(format!("http://{}", doors.flight)).unwrap().connect().await.unwrap();
    let found = codes(&channel, None).await;
    assert!(
        found.contains(&("GetFlightInfo", Code::Ok)) && found.contains(&("Handshake", Code::Unimplemented)),
        "{found:?}"
    );
    doors.close().await;
}
