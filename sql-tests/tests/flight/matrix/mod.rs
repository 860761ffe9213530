//! Every call of Flight SQL, every message of the Postgres protocol and every page of HTTP, with no, a wrong, an expired and another user's credential.
//!
//! Each door has one list of all that it can be sent. What the sources of the door know and its list has not fails the test, and so does a list that names what is not there.

mod flight;
mod http;
mod postgres;

use std::net::{IpAddr, Ipv4Addr};

use headwater::{Engine, Metrics};
use headwater_server::Security;
use headwater_sql_tests::services::Services;

use crate::doors::{Doors, UsersFile, made_token};

/// Two users of whom one reads a table, and every door.
struct World {
    _services: Services,
    users: UsersFile,
    engine: Engine,
    doors: Doors,
    ada: String,
    bob: String,
    expired: String,
}

/// What bob has for a password; ada's is the canary.
const BOBS: &str = "the password of bob";

/// Ada reads everything, bob nothing.
const ACCESS: &str = "roles:\n  reader:\n    members: [ada]\n    grants: [{service: vault}]\n";

impl World {
    async fn new() -> Self {
        let services = Services::new()
            .with_sqlite("vault", "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
        std::fs::write(services.manifests().join("access.yaml"), ACCESS).unwrap();
        let (users, ada) = UsersFile::new();
        let ((bob, digest), (expired, old)) = (made_token(), made_token());
        let known = std::fs::read_to_string(&users.path).unwrap();
        users.write("bob", BOBS, &format!("    tokens:\n      t: {{sha256: {digest}}}\n      old: {{sha256: {old}, expires: \"2020-01-01T00:00:00Z\"}}\n"));
        let bobs = std::fs::read_to_string(&users.path).unwrap();
        std::fs::write(&users.path, known + bobs.strip_prefix("users:\n").unwrap()).unwrap();
        let engine = services.engine().await;
        let doors = Doors::open(engine.clone(), Security { gate: users.gate(), tls: None }).await;
        Self { _services: services, users, engine, doors, ada, bob, expired }
    }

    /// What has run so far: queries by how they ended, and statements of services.
    async fn ran(&self) -> (u64, u64) {
        let Metrics { queries, services, .. } = self.engine.metrics().await;
        (queries.values().sum(), services.values().map(|service| service.statements).sum())
    }
}

/// An address of this machine for a client: what is guessed at one is not held against another.
fn own_address(kind: usize, number: usize) -> IpAddr {
    let byte = |number: usize| u8::try_from(number).unwrap();
    IpAddr::V4(Ipv4Addr::new(127, byte(100 + kind), byte(number), 1))
}

/// The words between a start and an end on the lines of a source that have both.
fn between<'a>(source: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let found = |line: &'a str| Some(line.split_once(start)?.1.split_once(end)?.0);
    source.lines().filter_map(found).collect()
}
