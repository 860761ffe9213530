//! Tickets, handles, descriptors, bodies of actions, parameters and messages of the Postgres protocol with some of their bytes changed: each is answered or refused, and the
//! server goes on.
//!
//! A run takes three seconds at each door, or as many as HEADWATER_FUZZ_SECONDS says; it prints its seed, and HEADWATER_FUZZ_SEED plays one again.

use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, CommandGetTables,
    CommandPreparedStatementQuery, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use futures::TryStreamExt;
use headwater_server::Security;
use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::doors::Doors;

const DEADLINE: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}

/// Dice and how long they are thrown.
fn dice() -> (Dice, Instant) {
    let seed = number("HEADWATER_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("HEADWATER_FUZZ_SEED={seed}");
    (Dice::new(seed), Instant::now() + Duration::from_secs(number("HEADWATER_FUZZ_SECONDS").unwrap_or(3)))
}

/// Some bytes changed, taken away or put in.
fn changed(dice: &mut Dice, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..dice.below(4) {
        let place = dice.below(bytes.len() + 1);
        let byte = u8::try_from(dice.below(256)).unwrap();
        match dice.below(4) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, byte),
            _ if place < bytes.len() => bytes[place] = byte,
            _ => bytes.push(byte),
        }
    }
    bytes
}

async fn doors() -> (Services, Doors) {
    let services = Services::new()
        .with_sqlite("lite", "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, 'a')");
    let doors = Doors::open(services.engine().await, Security::default()).await;
    (services, doors)
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_over_flight_are_refused_and_the_server_goes_on() {
    let (_services, doors) = doors().await;
    let channel = Endpoint::from_shared(format!("http://{}", doors.flight)).unwrap().connect().await.unwrap();
    let mut client = FlightServiceClient::new(channel);
    let (mut dice, end) = dice();
    let handle = prost::bytes::Bytes::from(vec![7; 16]);
    let query = "SELECT id FROM lite.t WHERE id = $1".to_owned();
    let wholes = [
        CommandStatementQuery { query: query.clone(), transaction_id: None }.as_any().encode_to_vec(),
        CommandGetTables { include_schema: true, ..CommandGetTables::default() }.as_any().encode_to_vec(),
        CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() }.as_any().encode_to_vec(),
        TicketStatementQuery { statement_handle: handle.clone() }.as_any().encode_to_vec(),
        CommandStatementUpdate { query: "SET headwater.pushdown = on".to_owned(), transaction_id: None }
            .as_any()
            .encode_to_vec(),
        [b"headwater.poll:".as_slice(), &[7; 16], &[0; 4]].concat(),
        ActionCreatePreparedStatementRequest { query, transaction_id: None }.as_any().encode_to_vec(),
        ActionClosePreparedStatementRequest { prepared_statement_handle: handle }.as_any().encode_to_vec(),
    ];
    let names = [
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CancelFlightInfo",
        "CancelQuery",
        "SetSessionOptions",
        "GetSessionOptions",
        "CloseSession",
        "BeginTransaction",
        "",
    ];
    let mut rounds = 0;
    while Instant::now() < end {
        let whole = dice.below(wholes.len());
        let bytes = changed(&mut dice, &wholes[whole]);
        let descriptor = FlightDescriptor::new_cmd(bytes.clone());
        let call = async {
            match dice.below(6) {
                0 => client.get_flight_info(descriptor).await.map(|_| ()),
                1 => client.get_schema(descriptor).await.map(|_| ()),
                2 => client.poll_flight_info(descriptor).await.map(|_| ()),
                3 => match client.do_get(Ticket { ticket: bytes.into() }).await {
                    Ok(stream) => stream.into_inner().try_collect::<Vec<_>>().await.map(|_| ()),
                    Err(status) => Err(status),
                },
                4 => {
                    let data = FlightData {
                        flight_descriptor: Some(descriptor),
                        data_header: changed(&mut dice, &[16, 0, 0, 0, 12, 0, 20, 0, 6, 0, 8, 0]).into(),
                        data_body: changed(&mut dice, &[0; 16]).into(),
                        ..FlightData::default()
                    };
                    match client.do_put(futures::stream::iter([data])).await {
                        Ok(stream) => stream.into_inner().try_collect::<Vec<_>>().await.map(|_| ()),
                        Err(status) => Err(status),
                    }
                }
                _ => {
                    let action = Action { r#type: names[dice.below(names.len())].to_owned(), body: bytes.into() };
                    match client.do_action(action).await {
                        Ok(stream) => stream.into_inner().try_collect::<Vec<_>>().await.map(|_| ()),
                        Err(status) => Err(status),
                    }
                }
            }
        };
        if let Err(status) = wait::within("an answer", DEADLINE, call).await {
            let is_a_fault = status.code() == Code::Unknown || status.message().contains("unexpected way");
            assert!(!is_a_fault, "round {rounds}: {status}");
        }
        rounds += 1;
    }
    assert!(rounds > 10, "{rounds} rounds");
    let query = CommandStatementQuery { query: "SELECT count(*) FROM lite.t".to_owned(), transaction_id: None };
    client.get_flight_info(FlightDescriptor::new_cmd(query.as_any().encode_to_vec())).await.unwrap();
    doors.close().await;
}

/// A message of the Postgres protocol with its length.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bodies_of_postgres_messages_are_refused_and_the_server_goes_on() {
    let (_services, doors) = doors().await;
    let (mut dice, end) = dice();
    let startup: &[u8] = b"\0\0\0\x25\0\x03\0\0user\0eve\0database\0headwater\0\0";
    let bodies: [(u8, &[u8]); 8] = [
        (b'P', b"s\0SELECT $1::BIGINT + id FROM lite.t\0\0\0"),
        (b'P', b"\0SELECT oid, relname FROM pg_class WHERE relname = ANY($1) AND oid = $2\0\0\x01\0\0\x03\xf1"),
        (b'B', b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x07\0\x01\0\x01"),
        (b'B', b"\0\0\0\x01\0\x01\0\x02\0\0\0\x1c\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x04abcd\0\0\0\x04\0\0\0\x07\0\0"),
        (b'D', b"Ss\0"),
        (b'E', b"\0\0\0\0\0"),
        (b'Q', b"SELECT a.attname, (SELECT typname FROM pg_type WHERE oid = a.atttypid) FROM pg_attribute a LIMIT 3\0"),
        (b'C', b"Ss\0"),
    ];
    let mut rounds = 0;
    while Instant::now() < end {
        let mut bytes = startup.to_vec();
        for (kind, body) in bodies {
            bytes.extend(message(kind, &changed(&mut dice, body)));
            bytes.extend(message(b'S', b""));
        }
        bytes.extend(message(b'X', b""));
        let mut stream = tokio::net::TcpStream::connect(doors.postgres).await.unwrap();
        // The server may have closed before it was all sent.
        let _closed = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _reset = wait::within("the connection ends", DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(!String::from_utf8_lossy(&answer).contains("unexpected way"), "round {rounds}: {answer:?}");
        rounds += 1;
    }
    assert!(rounds > 10, "{rounds} rounds");
    let config = format!("host=127.0.0.1 port={} user=test dbname=headwater", doors.postgres.port());
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT count(*) FROM lite.t", &[]).await.unwrap().get::<_, i64>(0), 1);
    doors.close().await;
}

/// A thousand connections that say nothing keep nobody out but those beyond the limit, and a client that says one byte at a time is let go.
#[tokio::test(flavor = "multi_thread")]
async fn silent_slow_and_huge_clients_keep_nobody_out() {
    let (_services, doors) = doors().await;
    let mut silent = Vec::new();
    for door in [doors.postgres, doors.flight, doors.http] {
        for _ in 0..300 {
            silent.push(tokio::net::TcpStream::connect(door).await.unwrap());
        }
    }
    // A first packet that says it has a gigabyte, and a message that does.
    for bytes in [
        b"\x40\0\0\0\0\x03\0\0".as_slice(),
        b"\0\0\0\x25\0\x03\0\0user\0eve\0database\0headwater\0\0Q\x40\0\0\0SELECT 1",
    ] {
        let mut stream = tokio::net::TcpStream::connect(doors.postgres).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        wait::within("the connection ends", DEADLINE, stream.read_to_end(&mut answer)).await.ok();
    }
    let mut slow = tokio::net::TcpStream::connect(doors.http).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let config = format!("host=127.0.0.1 port={} user=test dbname=headwater", doors.postgres.port());
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT count(*) FROM lite.t", &[]).await.unwrap().get::<_, i64>(0), 1);
    // The head of a request has ten seconds.
    let mut answer = Vec::new();
    wait::within("the slow request is given up", DEADLINE, slow.read_to_end(&mut answer)).await.ok();
    drop(silent);
    doors.close().await;
}
