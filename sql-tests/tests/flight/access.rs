//! Who may read what, through both doors: several users over one server, their listings, errors and the audit log.

use std::path::PathBuf;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use futures::TryStreamExt;
use headwater::{AuditLog, Engine};
use headwater_server::Security;
use headwater_sql_tests::canary;
use headwater_sql_tests::process::{Serving, headwater};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::doors::{Doors, UsersFile, run};

const DEADLINE: Duration = Duration::from_secs(30);

/// A literal that the audit log may not hold.
const CANARY: &str = "canary 4111 1111";

const USERS: [&str; 3] = ["ada", "bob", "eve"];

const ACCESS: &str = "roles:
  all: {members: [ada], grants: [{service: \"*\"}], defines: [reports], monitors: true}
  clerk:
    members: [bob]
    grants:
      - {service: shop, tables: [orders], columns: [id, customer, total], rows: \"region = 'eu' OR seller = current_user\", masks: {customer: \"'***'\"}}
";

/// Three users with tokens and one password, two services, the access file, and an audit log.
struct World {
    services: Services,
    users: UsersFile,
    tokens: Vec<String>,
    doors: Doors,
    engine: Engine,
}

impl World {
    async fn new() -> Self {
        let services = Services::new()
            .with_sqlite(
                "shop",
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total INTEGER, region TEXT, seller TEXT);
                 CREATE TABLE refunds (id INTEGER PRIMARY KEY, reason TEXT);
                 INSERT INTO orders VALUES (1, 'x', 10, 'eu', 'eve'), (2, 'y', 20, 'us', 'bob'), (3, 'z', 30, 'us', 'eve')",
            )
            .with_sqlite("staff", "CREATE TABLE people (id INTEGER PRIMARY KEY, salary INTEGER); INSERT INTO people VALUES (1, 100)");
        std::fs::write(services.manifests().join("access.yaml"), ACCESS).unwrap();
        let (users, _) = UsersFile::new();
        let hashes = made(&["user", "hash"], &canary());
        let mut text = "users:\n".to_owned();
        let mut tokens = Vec::new();
        for user in USERS {
            let made = made(&["user", "token"], "");
            let line = |start: &str| made.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
            tokens.push(line("token: "));
            let lines: String = hashes.lines().map(|line| format!("    {line}\n")).collect();
            text.push_str(&format!("  {user}:\n{lines}    tokens: {{t: {{sha256: {}}}}}\n", line("sha256: ")));
        }
        std::fs::write(&users.path, text).unwrap();
        let log = AuditLog::open(services.directory().join("audit.jsonl")).unwrap();
        let gate = users.gate();
        gate.record_to(std::sync::Arc::clone(&log));
        let engine = Engine::builder()
            .services_dir(services.manifests())
            .connectors(headwater_connectors::all())
            .search_path(["shop", "staff"])
            .deny_by_default()
            .audit(log)
            .build()
            .await
            .unwrap();
        engine.sql("CREATE MATERIALIZED VIEW reports.totals AS SELECT region, sum(total) AS total FROM shop.orders GROUP BY region").await.unwrap();
        let doors = Doors::open(engine.clone(), Security { gate, tls: None }).await;
        Self { services, users, tokens, doors, engine }
    }

    fn access(&self) -> PathBuf {
        self.services.manifests().join("access.yaml")
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.services.directory().join("audit.jsonl")).unwrap()
    }

    async fn flight(&self, user: &str) -> FlightSqlServiceClient<Channel> {
        let channel = Endpoint::from_shared(format!("http://{}", self.doors.flight)).unwrap().connect().await.unwrap();
        let mut client = FlightSqlServiceClient::new_from_inner(FlightServiceClient::new(channel));
        let place = USERS.iter().position(|name| *name == user).unwrap();
        client.set_token(self.tokens[place].clone());
        client
    }

    async fn postgres(&self, user: &str) -> tokio_postgres::Client {
        let config = format!(
            "host=127.0.0.1 port={} user={user} password={} dbname=headwater",
            self.doors.postgres.port(),
            canary()
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(async {
            connection.await.ok();
        });
        client
    }
}

fn made(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child =
        Command::new(headwater()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The texts of an answer over Flight, row by row, or the code of its error.
async fn ask(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Result<Vec<Vec<String>>, (Code, String)> {
    let info = client.execute(sql.to_owned(), None).await.map_err(told)?;
    fetch(client, info).await
}

async fn fetch(
    client: &mut FlightSqlServiceClient<Channel>,
    info: arrow_flight::FlightInfo,
) -> Result<Vec<Vec<String>>, (Code, String)> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket).await.map_err(told)?;
    let batches: Vec<_> = stream.try_collect().await.map_err(told)?;
    let Some(first) = batches.first() else { return Ok(vec![]) };
    let rows = Rows::of(&first.schema(), &batches);
    Ok(rows.texts().into_iter().map(|row| row.into_iter().map(str::to_owned).collect()).collect())
}

fn told(error: FlightError) -> (Code, String) {
    match error {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}

async fn texts(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, (SqlState, String)> {
    let messages = client.simple_query(sql).await.map_err(|error| {
        let error = error.as_db_error().unwrap();
        (error.code().clone(), error.message().to_owned())
    })?;
    let rows = messages.into_iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_reads_their_own_through_both_doors() {
    let world = World::new().await;
    let statement = "SELECT * FROM shop.orders ORDER BY id";
    let rows = |rows: &[&[&str]]| {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let all = rows(&[&["1", "x", "10", "eu", "eve"], &["2", "y", "20", "us", "bob"], &["3", "z", "30", "us", "eve"]]);
    let part = rows(&[&["1", "***", "10"], &["2", "***", "20"]]);
    for (user, expected) in [("ada", Some(&all)), ("bob", Some(&part)), ("eve", None)] {
        let (mut flight, postgres) = (world.flight(user).await, world.postgres(user).await);
        let (by_flight, by_postgres) = (ask(&mut flight, statement).await, texts(&postgres, statement).await);
        match expected {
            Some(expected) => {
                assert_eq!(by_flight.as_ref(), Ok(expected), "{user}");
                let by_postgres: Vec<Vec<String>> =
                    by_postgres.unwrap().into_iter().map(|row| row.into_iter().map(Option::unwrap).collect()).collect();
                assert_eq!(&by_postgres, expected, "{user}");
            }
            None => {
                let (code, error) = by_flight.unwrap_err();
                assert_eq!(code, Code::NotFound, "{error}");
                assert_eq!(by_postgres.unwrap_err().0, SqlState::UNDEFINED_TABLE);
            }
        }
    }
    let (mut flight, postgres) = (world.flight("bob").await, world.postgres("bob").await);
    for (statement, state, code) in [
        ("SELECT * FROM staff.people", SqlState::UNDEFINED_TABLE, Code::NotFound),
        ("SELECT * FROM staff.nothing", SqlState::UNDEFINED_TABLE, Code::NotFound),
        ("SELECT * FROM shop.refunds", SqlState::UNDEFINED_TABLE, Code::NotFound),
        ("SELECT * FROM reports.totals", SqlState::UNDEFINED_TABLE, Code::NotFound),
        ("SELECT region FROM shop.orders", SqlState::UNDEFINED_COLUMN, Code::NotFound),
        ("EXPLAIN ANALYZE SELECT id FROM shop.orders", SqlState::INSUFFICIENT_PRIVILEGE, Code::PermissionDenied),
        (
            "CREATE MATERIALIZED VIEW reports.x AS SELECT id FROM shop.orders",
            SqlState::INSUFFICIENT_PRIVILEGE,
            Code::PermissionDenied,
        ),
        ("DROP MATERIALIZED VIEW reports.totals", SqlState::INSUFFICIENT_PRIVILEGE, Code::PermissionDenied),
    ] {
        let (found, error) = ask(&mut flight, statement).await.unwrap_err();
        assert_eq!(found, code, "{statement}: {error}");
        let (found, error) = texts(&postgres, statement).await.unwrap_err();
        assert_eq!(found, state, "{statement}: {error}");
        assert!(!error.contains("salary") && !error.contains("'eu'"), "{error}");
    }
    // A filter that fails on rows that are not theirs, in one statement with the rule.
    let leaky = "SELECT id FROM shop.orders WHERE 1 / (total - 30) < 5 ORDER BY id";
    assert!(ask(&mut world.flight("ada").await, leaky).await.is_err());
    assert_eq!(ask(&mut flight, leaky).await.unwrap(), rows(&[&["1"], &["2"]]));
    assert_eq!(texts(&postgres, leaky).await.unwrap().len(), 2);
    let copied: Vec<_> =
        postgres.copy_out("COPY (SELECT * FROM shop.orders) TO STDOUT").await.unwrap().try_collect().await.unwrap();
    assert!(!format!("{copied:?}").contains('z') && format!("{copied:?}").contains("***"), "{copied:?}");
    let prepared = postgres.prepare("SELECT customer FROM shop.orders WHERE total > $1").await.unwrap();
    assert_eq!(postgres.query(&prepared, &[&5_i64]).await.unwrap().len(), 2);
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_of_both_doors_hold_what_each_user_may_read() {
    let world = World::new().await;
    for (user, tables, columns) in [
        ("ada", vec!["reports.totals", "shop.orders", "shop.refunds", "staff.people"], 5),
        ("bob", vec!["shop.orders"], 3),
        ("eve", vec![], 0),
    ] {
        let (mut flight, postgres) = (world.flight(user).await, world.postgres(user).await);
        let info =
            flight.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await.unwrap();
        let listed = fetch(&mut flight, info).await.unwrap();
        let names: Vec<String> = listed.iter().map(|row| format!("{}.{}", row[1], row[2])).collect();
        assert_eq!(names, tables, "{user}");
        let info = flight.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
        let schemas: Vec<String> =
            fetch(&mut flight, info).await.unwrap().into_iter().map(|row| row[1].clone()).collect();
        let mut expected: Vec<&str> = tables.iter().filter_map(|name| name.split('.').next()).collect();
        expected.dedup();
        assert_eq!(schemas, expected, "{user}");
        let key =
            CommandGetPrimaryKeys { catalog: None, db_schema: Some("staff".to_owned()), table: "people".to_owned() };
        let info = flight.get_primary_keys(key).await.unwrap();
        assert_eq!(fetch(&mut flight, info).await.unwrap().len(), usize::from(user == "ada"));
        let of_catalog = "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'm', 'v') AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' ORDER BY 1";
        let found: Vec<String> =
            texts(&postgres, of_catalog).await.unwrap().into_iter().map(|row| row[0].clone().unwrap()).collect();
        assert_eq!(found, tables, "{user}");
        let attributes = "SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE c.relname = 'orders'";
        assert_eq!(
            texts(&postgres, attributes).await.unwrap()[0][0].as_deref(),
            Some(columns.to_string().as_str()),
            "{user}"
        );
        for door in ["flight", "postgres"] {
            let statement = "SELECT table_schema || '.' || table_name FROM information_schema.tables \
                WHERE table_schema NOT IN ('information_schema', 'headwater') ORDER BY 1";
            let names: Vec<String> = match door {
                "flight" => ask(&mut flight, statement).await.unwrap().into_iter().map(|row| row[0].clone()).collect(),
                _ => {
                    texts(&postgres, statement).await.unwrap().into_iter().map(|row| row[0].clone().unwrap()).collect()
                }
            };
            // PostgreSQL's information_schema knows no materialized views.
            let listed = tables.iter().copied().filter(|name| door == "flight" || *name != "reports.totals");
            assert_eq!(names, listed.collect::<Vec<_>>(), "{user} by {door}");
            let statement = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders'";
            let count = match door {
                "flight" => ask(&mut flight, statement).await.unwrap()[0][0].clone(),
                _ => texts(&postgres, statement).await.unwrap()[0][0].clone().unwrap(),
            };
            assert_eq!(count, columns.to_string(), "{user} by {door}");
        }
        let path = texts(&postgres, "SHOW search_path").await.unwrap()[0][0].clone().unwrap();
        assert_eq!(path.contains("staff"), user == "ada", "{path}");
    }
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn right_that_is_taken_back_is_gone_for_tickets_and_prepared_statements() {
    let world = World::new().await;
    let (mut flight, postgres) = (world.flight("bob").await, world.postgres("bob").await);
    let ticket = flight.execute("SELECT id FROM shop.orders".to_owned(), None).await.unwrap();
    let mut by_flight = flight.prepare("SELECT id FROM shop.orders".to_owned(), None).await.unwrap();
    let by_postgres = postgres.prepare("SELECT id FROM shop.orders").await.unwrap();
    assert_eq!(postgres.query(&by_postgres, &[]).await.unwrap().len(), 2);
    let of_catalog = "SELECT relname FROM pg_catalog.pg_class WHERE relname = $1";
    let (first, unused) = (postgres.prepare(of_catalog).await.unwrap(), postgres.prepare(of_catalog).await.unwrap());
    assert_eq!(postgres.query(&first, &[&"orders"]).await.unwrap().len(), 1);
    std::fs::write(world.access(), "roles:\n  all: {members: [ada], grants: [{service: \"*\"}]}\n").unwrap();
    world.engine.reload_access().unwrap();
    let (code, error) = fetch(&mut flight, ticket).await.unwrap_err();
    assert_eq!(code, Code::Aborted, "{error}");
    let error = by_flight.execute().await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
    let error = postgres.query(&by_postgres, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE), "{error}");
    for of_catalog in [first, unused] {
        assert_eq!(postgres.query(&of_catalog, &[&"orders"]).await.unwrap().len(), 0, "its name is not told either");
    }
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_who_monitors() {
    let world = World::new().await;
    for (token, status) in world.tokens.iter().zip(["200", "403", "403"]) {
        let mut stream = tokio::net::TcpStream::connect(world.doors.http).await.unwrap();
        let head =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        wait::within("the answer comes", DEADLINE, stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("headwater_"), status == "200");
    }
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_log_tells_who_read_what_by_which_door_and_no_literal() {
    let world = World::new().await;
    let (mut flight, postgres) = (world.flight("bob").await, world.postgres("bob").await);
    ask(&mut flight, &format!("SELECT id, '{CANARY}' FROM shop.orders WHERE customer <> '{CANARY}'")).await.unwrap();
    let statement = postgres.prepare("SELECT id FROM shop.orders WHERE customer <> $1").await.unwrap();
    postgres.query(&statement, &[&CANARY]).await.unwrap();
    assert!(ask(&mut flight, &format!("SELECT salary FROM staff.people WHERE salary = '{CANARY}'")).await.is_err());
    let config =
        format!("host=127.0.0.1 port={} user=bob password='{CANARY}' dbname=headwater", world.doors.postgres.port());
    assert!(tokio_postgres::connect(&config, NoTls).await.is_err());
    let text = world.audit();
    assert!(!text.contains("canary") && !text.contains("4111"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str, door: &str, outcome: &str| {
        let found =
            lines.iter().find(|line| line["event"] == event && line["door"] == door && line["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("{event} {door} {outcome}: {text}"))
    };
    let columns = serde_json::json!(["customer", "id"]);
    for door in ["flight", "postgres"] {
        let line = of("end", door, "complete");
        assert_eq!((&line["user"], &line["rows"]), (&"bob".into(), &2.into()), "{text}");
        assert_eq!(line["tables"][0]["columns"], columns);
        assert_eq!(line["address"], "127.0.0.1");
    }
    assert_eq!(of("end", "flight", "denied")["tables"][0]["table"], "people");
    assert_eq!(of("login", "postgres", "denied")["user"], "bob");
    world.doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_an_access_file_grants_that_is_not_there() {
    let services =
        Services::new().with_sqlite("shop", "CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER, region TEXT)");
    let check = async |access: &str| {
        std::fs::write(services.manifests().join("access.yaml"), access).unwrap();
        run(&headwater(), &["check", services.manifests().to_str().unwrap()], &[]).await
    };
    let (is_content, text) =
        check("roles: {r: {members: [a], grants: [{service: shop, tables: [orders], columns: [id, region], rows: \"region = current_user AND id > 1\", masks: {region: \"upper(region)\"}}]}}").await;
    assert!(is_content, "{text}");
    let (is_content, text) = check(
        "roles:\n  r:\n    members: [a]\n    grants:\n      - {service: shap}\n      - {service: shop, tables: [order]}\n      - {service: shop, tables: [orders], columns: [totl]}\n      \
         - {service: shop, tables: [orders], rows: \"total\"}\n      - {service: shop, tables: [orders], masks: {total: \"region\", regoin: \"1\"}}\n      - {service: shop, tables: [orders], rows: \"nothing > 1\"}\n",
    )
    .await;
    assert!(!is_content);
    for part in [
        ":5: roles.r.grants[0].service: there is no service \"shap\"; did you mean \"shop\"?",
        ":6: roles.r.grants[1].tables: service \"shop\" publishes no table \"order\"; did you mean \"orders\"?",
        ":7: roles.r.grants[2].columns: table \"shop.orders\" has no column \"totl\"; did you mean \"total\"?",
        ":8: roles.r.grants[3].rows: does not fit table \"shop.orders\"",
        ":9: roles.r.grants[4].masks.total: does not fit table \"shop.orders\"",
        ":9: roles.r.grants[4].masks: table \"shop.orders\" has no column \"regoin\"; did you mean \"region\"?",
        ":10: roles.r.grants[5].rows: does not fit table \"shop.orders\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn served_directory_denies_users_everything_until_a_file_grants_it() {
    let world = World::new().await;
    let log = world.services.directory().join("served.jsonl");
    std::fs::remove_file(world.access()).unwrap();
    let state = world.services.directory().join("state");
    let arguments = ["--users", world.users.path.to_str().unwrap(), "--audit-log", log.to_str().unwrap()];
    let server = Serving::start(&world.services.manifests(), &state, &arguments).await;
    let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap();
    let mut ada = FlightSqlServiceClient::new(channel);
    ada.set_token(world.tokens[0].clone());
    assert_eq!(ask(&mut ada, "SELECT * FROM staff.people").await.unwrap_err().0, Code::NotFound);
    std::fs::write(world.access(), ACCESS).unwrap();
    let mut granted = ada.clone();
    wait::until("the file is in force", DEADLINE, async || {
        ask(&mut granted, "SELECT * FROM staff.people").await.is_ok()
    })
    .await;
    std::fs::rename(&log, log.with_extension("1")).unwrap();
    wait::until("the log is begun anew", DEADLINE, async || log.exists()).await;
    ask(&mut ada, "SELECT * FROM staff.people").await.unwrap();
    assert!(std::fs::read_to_string(&log).unwrap().contains("\"people\""));
    server.kill().await;
    world.doors.close().await;
}
