//! The Postgres protocol: the one list of its messages.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_sql_tests::wait;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{BOBS, World, between, own_address};
use crate::doors::CANARY;

const DEADLINE: Duration = Duration::from_secs(30);

/// What bob gets who names what is ada's, or asks what only she may.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bobs {
    /// An error with this SQLSTATE.
    Error(&'static str),
    /// Answers of these kinds, in which nothing is hers.
    Own(&'static [u8]),
    /// Nothing at all: the connection is closed.
    Closed,
}

/// The kind of a message, its body, and what bob gets.
type Sent = (u8, &'static [u8], Bobs);

/// Every message that a client can send. A kind that the server reads and that is not named here fails the test.
const MESSAGES: &[Sent] = &[
    (b'Q', b"SELECT id FROM vault.t\0", Bobs::Error("42P01")),
    (b'Q', b"COPY vault.t TO STDOUT\0", Bobs::Error("42P01")),
    (b'Q', b"EXECUTE hers\0", Bobs::Error("26000")),
    (b'Q', b"CREATE MATERIALIZED VIEW reports.made AS SELECT 1 AS n\0", Bobs::Error("42501")),
    (b'P', b"\0SELECT id FROM vault.t\0\0\0", Bobs::Error("42P01")),
    (b'B', b"\0hers\0\0\0\0\0\0\0", Bobs::Error("26000")),
    (b'D', b"Shers\0", Bobs::Error("26000")),
    (b'D', b"Phers\0", Bobs::Error("34000")),
    (b'E', b"hers\0\0\0\0\0", Bobs::Error("34000")),
    // What is not there is closed without an error; hers is not closed by it.
    (b'C', b"Shers\0", Bobs::Own(b"3Z")),
    (b'C', b"Phers\0", Bobs::Own(b"3Z")),
    (b'H', b"", Bobs::Own(b"Z")),
    (b'S', b"", Bobs::Own(b"ZZ")),
    (b'X', b"", Bobs::Closed),
    (b'p', b"hers\0", Bobs::Error("08P01")),
    (b'd', b"hers", Bobs::Own(b"Z")),
    (b'c', b"", Bobs::Own(b"Z")),
    (b'f', b"hers\0", Bobs::Own(b"Z")),
    (b'F', b"\0\0\0\x01\0\0\0\0\0\0", Bobs::Error("0A000")),
];

/// The first packets that are not the one that begins a session, by their codes.
const FIRST: &[(&str, u32)] =
    &[("SSL_REQUEST", 80_877_103), ("GSS_REQUEST", 80_877_104), ("CANCEL_REQUEST", 80_877_102)];

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

fn startup(user: &str) -> Vec<u8> {
    let body = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0database\0headwater\0\0"].concat();
    [u32::try_from(body.len() + 4).unwrap().to_be_bytes().as_slice(), &body].concat()
}

/// A connection from an address of its own.
struct Raw(TcpStream);

/// What came: the kinds of the messages, and all of their bytes.
#[derive(Debug, Default)]
struct Answer {
    kinds: Vec<u8>,
    text: String,
    sqlstate: Option<String>,
}

impl Raw {
    async fn open(world: &World, kind: usize, number: usize) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(own_address(kind, number), 0)).unwrap();
        Self(socket.connect(world.doors.postgres).await.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed before it was all sent.
        let _closed = self.0.write_all(bytes).await;
    }

    /// The next message; `None` where there is none any more.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let kind = self.0.read_u8().await.ok()?;
            let mut body = vec![0; self.0.read_u32().await.ok()? as usize - 4];
            self.0.read_exact(&mut body).await.ok()?;
            Some((kind, body))
        };
        wait::within("a message comes", DEADLINE, read).await
    }

    /// All messages up to the last that was asked for, or to the end of the connection. Those that are sent unasked are left out.
    async fn answer(&mut self, readies: usize) -> Answer {
        let mut answer = Answer::default();
        while answer.kinds.iter().filter(|kind| **kind == b'Z').count() < readies {
            let Some((kind, body)) = self.next().await else { return answer };
            if kind == b'E' {
                answer.sqlstate = body
                    .split(|byte| *byte == 0)
                    .find_map(|field| Some(String::from_utf8_lossy(field.strip_prefix(b"C")?).into_owned()));
            }
            answer.text.push_str(&String::from_utf8_lossy(&body));
            answer.kinds.push(kind);
        }
        answer
    }

    /// Says who it is, and proves it with a password.
    async fn log_in(&mut self, user: &str, password: &str, after: &[u8]) -> Answer {
        self.send(&startup(user)).await;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        assert_eq!(self.next().await.unwrap().0, b'R');
        let first = scram.message();
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        self.send(&message(b'p', &[SCRAM_SHA_256.as_bytes(), b"\0", &length, first].concat())).await;
        scram.update(&self.next().await.unwrap().1[4..]).unwrap();
        self.send(&[&message(b'p', scram.message()), after].concat()).await;
        self.answer(1).await
    }

    async fn known(world: &World, kind: usize, number: usize, user: &str, password: &str) -> Self {
        let mut raw = Self::open(world, kind, number).await;
        let answer = raw.log_in(user, password, b"").await;
        assert_eq!(answer.kinds.last(), Some(&b'Z'), "{answer:?}");
        raw
    }
}

/// A message and, where the protocol waits for it, Sync.
fn whole((kind, body, _): &Sent) -> Vec<u8> {
    let sync = message(b'S', b"");
    [message(*kind, body), if *kind == b'Q' { vec![] } else { sync }].concat()
}

/// Ada with a prepared statement and an open portal, both called hers.
async fn hers(world: &World) -> Raw {
    let mut ada = Raw::known(world, 0, 0, "ada", &CANARY).await;
    ada.send(&message(b'Q', b"BEGIN\0")).await;
    ada.answer(1).await;
    let all = [
        message(b'P', b"hers\0SELECT id FROM vault.t\0\0\0"),
        message(b'B', b"hers\0hers\0\0\0\0\0\0\0"),
        message(b'Q', b"PREPARE hers AS SELECT id FROM vault.t\0"),
        message(b'S', b""),
    ];
    ada.send(&all.concat()).await;
    let answer = ada.answer(2).await;
    assert_eq!(answer.sqlstate, None, "{answer:?}");
    ada
}

async fn still_hers(ada: &mut Raw) {
    let all = [message(b'E', b"hers\0\0\0\0\0"), message(b'D', b"Shers\0"), message(b'S', b"")];
    ada.send(&all.concat()).await;
    let answer = ada.answer(1).await;
    assert_eq!(answer.kinds, b"DDCtTZ", "{answer:?}");
}

#[test]
fn every_message_that_the_source_reads_is_in_the_list() {
    let source = include_str!("../../../../flight-server/src/pg/wire.rs");
    let (_, parse) = source.split_once("\nfn parse(kind: u8").unwrap();
    let (parse, _) = parse.split_once("\n}\n").unwrap();
    let kinds = parse.lines().filter_map(|line| line.trim().split_once(" => ")).map(|(kinds, _)| kinds);
    let known: BTreeSet<u8> =
        kinds.flat_map(|kinds| kinds.split(" | ")).filter_map(|kind| kind.strip_prefix("b'")?.bytes().next()).collect();
    let listed: BTreeSet<u8> = MESSAGES.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(listed, known, "the list and the source differ");
    let known: Vec<(&str, &str)> = source
        .lines()
        .filter_map(|line| line.strip_prefix("const ")?.split_once(": u32 = "))
        .filter(|(name, _)| name.ends_with("_REQUEST"))
        .collect();
    assert_eq!(known.len(), FIRST.len(), "{known:?}");
    for (name, code) in known {
        let code: u32 = code.replace(['_', ';'], "").parse().unwrap();
        assert!(FIRST.contains(&(name, code)), "{name} is not in the list");
    }
    assert_eq!(between(source, "const STARTUP_BYTES_MAX: usize = ", ";"), ["10_000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_without_a_good_credential_is_refused_and_runs_nothing() {
    let world = World::new().await;
    let before = world.ran().await;
    for (number, sent) in MESSAGES.iter().enumerate() {
        let name = char::from(sent.0);
        // Before anybody said who it is: the packet is none of those that begin a connection.
        let mut raw = Raw::open(&world, 1, number).await;
        raw.send(&whole(sent)).await;
        let answer = raw.answer(1).await;
        assert!(answer.kinds.is_empty(), "{name} at first: {answer:?}");
        // In the place of a password.
        let mut raw = Raw::open(&world, 2, number).await;
        raw.send(&[startup("ada"), whole(sent)].concat()).await;
        let answer = raw.answer(1).await;
        assert_eq!(
            (answer.sqlstate.as_deref(), &*answer.kinds),
            (Some("08P01"), b"RE".as_slice()),
            "{name} without a password: {answer:?}"
        );
        // After a wrong one, and for somebody who is not there.
        for (kind, user) in [(3, "ada"), (4, "nobody")] {
            let mut raw = Raw::open(&world, kind, number).await;
            let answer = raw.log_in(user, "wrong", &whole(sent)).await;
            assert_eq!(
                (answer.sqlstate.as_deref(), &*answer.kinds),
                (Some("28P01"), b"E".as_slice()),
                "{name} of {user}: {answer:?}"
            );
        }
    }
    assert_eq!(world.ran().await, before, "something ran");
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_of_somebody_who_was_taken_out_is_refused_and_runs_nothing() {
    let world = World::new().await;
    let mut known = Vec::new();
    for number in 0..MESSAGES.len() {
        let mut raw = Raw::known(&world, 1, number, "ada", &CANARY).await;
        raw.send(&[message(b'P', b"hers\0SELECT id FROM vault.t\0\0\0"), message(b'S', b"")].concat()).await;
        assert_eq!(raw.answer(1).await.kinds, b"1Z");
        known.push(raw);
    }
    let before = world.ran().await;
    world.users.write("bob", BOBS, "");
    wait::until("ada is out", DEADLINE, async || {
        let mut raw = Raw::open(&world, 2, 0).await;
        raw.log_in("ada", &CANARY, b"").await.sqlstate.as_deref() == Some("28P01")
    })
    .await;
    for (raw, sent) in known.iter_mut().zip(MESSAGES) {
        raw.send(&whole(sent)).await;
        let answer = raw.answer(1).await;
        let expected = if sent.0 == b'X' { (None, b"".as_slice()) } else { (Some("28000"), b"E".as_slice()) };
        assert_eq!((answer.sqlstate.as_deref(), &*answer.kinds), expected, "{}: {answer:?}", char::from(sent.0));
    }
    assert_eq!(world.ran().await, before, "something ran");
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_connections_is_not_there_for_another_user_by_any_message() {
    let world = World::new().await;
    let mut ada = hers(&world).await;
    let (_, statements) = world.ran().await;
    for (number, sent) in MESSAGES.iter().enumerate() {
        let name = char::from(sent.0);
        let mut bob = Raw::known(&world, 1, number, "bob", BOBS).await;
        bob.send(&whole(sent)).await;
        let readies = match sent.2 {
            Bobs::Own(kinds) => kinds.iter().filter(|kind| **kind == b'Z').count(),
            Bobs::Error(_) | Bobs::Closed => 1,
        };
        let mut answer = Answer::default();
        // Sync alone is one answer, and so is the Sync behind it.
        for _ in 0..readies {
            let more = bob.answer(1).await;
            answer.kinds.extend(more.kinds);
            answer.text.push_str(&more.text);
            answer.sqlstate = answer.sqlstate.or(more.sqlstate);
        }
        match sent.2 {
            Bobs::Error(code) => {
                assert_eq!(answer.sqlstate.as_deref(), Some(code), "{name}: {answer:?}");
                assert!(!answer.kinds.contains(&b'D') && !answer.kinds.contains(&b'T'), "{name}: {answer:?}");
            }
            Bobs::Own(kinds) => assert_eq!(answer.kinds, kinds, "{name}: {answer:?}"),
            Bobs::Closed => assert!(answer.kinds.is_empty(), "{name}: {answer:?}"),
        }
        let is_named_by_him = String::from_utf8_lossy(sent.1).contains("vault");
        assert!(is_named_by_him || !answer.text.contains("vault"), "{name} shows bob what is ada's: {answer:?}");
    }
    assert_eq!(world.ran().await.1, statements, "a service was asked");
    still_hers(&mut ada).await;
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_packets_that_need_no_credential_give_nothing_away() {
    let world = World::new().await;
    let before = world.ran().await;
    for (number, (name, code)) in FIRST.iter().enumerate() {
        let mut raw = Raw::open(&world, 1, number).await;
        // For CancelRequest, the number and the secret of nobody.
        let body = if *name == "CANCEL_REQUEST" { vec![0; 8] } else { vec![] };
        let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
        raw.send(&[length.as_slice(), &code.to_be_bytes(), &body].concat()).await;
        let mut answer = Vec::new();
        if *name == "CANCEL_REQUEST" {
            wait::within("it is closed", DEADLINE, raw.0.read_to_end(&mut answer)).await.unwrap();
            assert!(answer.is_empty(), "{name}: {answer:?}");
            continue;
        }
        let byte = wait::within("it is answered", DEADLINE, raw.0.read_u8()).await.unwrap();
        assert_eq!(byte, b'N', "{name}: there is no TLS here");
        raw.send(&[startup("ada"), message(b'Q', b"SELECT 1\0")].concat()).await;
        assert_eq!(raw.answer(1).await.sqlstate.as_deref(), Some("08P01"), "{name} lets nobody in");
    }
    assert_eq!(world.ran().await, before, "something ran");
    world.doors.close().await;
}
