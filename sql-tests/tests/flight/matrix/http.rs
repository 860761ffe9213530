//! HTTP: the one list of its pages.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_sql_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::{World, between, own_address};

const DEADLINE: Duration = Duration::from_secs(30);

/// Every page, what it answers to who is not known, and to bob, who may not watch the server.
const PAGES: &[(&str, u16, u16)] = &[("/healthz", 200, 200), ("/readyz", 200, 200), ("/metrics", 401, 403)];

/// The status of an answer, and all of it.
async fn got(world: &World, kind: usize, number: usize, method: &str, path: &str, header: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(own_address(kind, number), 0)).unwrap();
    let mut stream = socket.connect(world.doors.http).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wait::within("the answer comes", DEADLINE, stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

#[test]
fn every_page_that_the_source_answers_is_in_the_list() {
    let source = include_str!("../../../../flight-server/src/http/mod.rs");
    let known: BTreeSet<&str> = between(source, "        \"/", "\"").into_iter().collect();
    let listed: BTreeSet<&str> = PAGES.iter().map(|(path, ..)| path.trim_start_matches('/')).collect();
    assert_eq!(listed, known, "the list and the source differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_what_each_credential_may_see() {
    let world = World::new().await;
    let (expired, bob) = (format!("Bearer {}", world.expired), format!("Bearer {}", world.bob));
    let strangers = ["", "Basic YWRhOndyb25n", "Bearer hwt_unknown", "Bearer hws_unknown", &expired];
    for (number, (path, stranger, bobs)) in PAGES.iter().enumerate() {
        for (kind, credential) in strangers.into_iter().enumerate() {
            let header = if credential.is_empty() { String::new() } else { format!("Authorization: {credential}\r\n") };
            let (status, answer) = got(&world, kind, number, "GET", path, &header).await;
            assert_eq!(status, *stranger, "{path} with {credential:?}: {answer}");
            assert!(!answer.contains("vault"), "{path} tells strangers of services: {answer}");
        }
        let (status, answer) = got(&world, 9, number, "GET", path, &format!("Authorization: {bob}\r\n")).await;
        assert_eq!(status, *bobs, "{path} for bob: {answer}");
        assert!(!answer.contains("vault"), "{path} tells bob of services: {answer}");
        let (status, _) = got(&world, 9, number, "POST", path, &format!("Authorization: {bob}\r\n")).await;
        assert_eq!(status, 405, "{path}");
    }
    world.doors.close().await;
}
