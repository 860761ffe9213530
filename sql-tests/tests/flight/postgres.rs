//! The Postgres protocol through clients that are not ours: psql, psycopg, asyncpg, SQLAlchemy, tokio-postgres.

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use headwater_server::Security;
use headwater_sql_tests::certificates::Certificates;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::doors::{CANARY, Doors, UsersFile, python, run, tls};
use crate::everywhere;

const DEADLINE: Duration = Duration::from_secs(30);

fn services() -> Services {
    Services::new()
        .with_sqlite(
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL);
             CREATE TABLE lines (order_id INTEGER, line INTEGER, PRIMARY KEY (order_id, line));
             INSERT INTO orders VALUES (1, 'ada', 20.5), (2, 'bob', 5), (3, 'a''da', NULL)",
        )
        .with_sqlite(
            "customers",
            "CREATE TABLE customers (name TEXT PRIMARY KEY, country TEXT); INSERT INTO customers VALUES ('ada', 'uk')",
        )
}

async fn connect(doors: &Doors) -> tokio_postgres::Client {
    connected(doors).await.0
}

/// A client, and the task that has its connection.
async fn connected(doors: &Doors) -> (tokio_postgres::Client, JoinHandle<()>) {
    let config = format!("host=127.0.0.1 port={} user=test dbname=headwater", doors.postgres.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let task = tokio::spawn(async {
        connection.await.ok();
    });
    (client, task)
}

async fn psql(doors: &Doors, command: &str) -> String {
    let url = format!("postgres://ada@{}/headwater", doors.postgres);
    let (is_content, text) = run(Path::new("psql"), &["-X", "-v", "ON_ERROR_STOP=1", &url, "-c", command], &[]).await;
    assert!(is_content, "{command}\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_lists_describes_and_asks() {
    let services = services();
    let engine = services.engine().await;
    engine.sql("CREATE MATERIALIZED VIEW reports.totals AS SELECT customer, count(*) AS n FROM orders.orders GROUP BY customer").await.unwrap();
    let doors = Doors::open(engine, Security::default()).await;
    let tables = psql(&doors, "\\dt").await;
    assert!(tables.contains("orders") && tables.contains("customers") && tables.contains("(3 rows)"), "{tables}");
    let table = psql(&doors, "\\d orders.orders").await;
    for part in
        ["Table \"orders.orders\"", "id", "bigint", "customer", "text", "not null", "double precision", "PRIMARY KEY"]
    {
        assert!(table.contains(part), "{part}\n{table}");
    }
    let all = psql(&doors, "\\d").await;
    assert!(all.contains("orders"), "{all}");
    let views = psql(&doors, "\\dm *.*").await;
    assert!(views.contains("totals") && views.contains("materialized view"), "{views}");
    let view = psql(&doors, "\\d reports.totals").await;
    assert!(view.contains("Materialized view \"reports.totals\"") && view.contains("customer"), "{view}");
    assert!(psql(&doors, "\\dn").await.contains("customers"));
    assert!(psql(&doors, "\\l").await.contains("headwater"));
    assert!(psql(&doors, "\\du").await.contains("ada"));
    let rows = psql(&doors, "SELECT o.id, c.country FROM orders o JOIN customers c ON c.name = o.customer").await;
    assert!(rows.contains("uk") && rows.contains("(1 row)"), "{rows}");
    let copied = psql(
        &doors,
        "COPY (SELECT id, customer, total FROM orders.orders ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)",
    )
    .await;
    assert_eq!(copied, "id,customer,total\n1,ada,20.5\n2,bob,5\n3,a'da,\n");
    let several = psql(&doors, "BEGIN; SELECT 1 AS one; COMMIT").await;
    assert!(several.contains("COMMIT"), "{several}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_drivers_read_bind_copy_and_reflect() {
    let services = services();
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let address = doors.postgres.to_string();
    let (is_content, text) = python("postgres_clients.py", &[&address], &[]).await;
    assert!(is_content && text.contains("every check passed"), "{text}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn password_is_proven_by_scram_over_tls_and_never_shown() {
    let (services, authority) = (services(), Certificates::new());
    let (users, _) = UsersFile::new();
    let security = Security { gate: users.gate(), tls: Some(tls(&authority.server("server"), None)) };
    let doors = Doors::open(services.engine().await, security).await;
    let ca = authority.authority();
    let ask = async |user: &str, password: &str, mode: &str| {
        let port = doors.postgres.port();
        let url = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user={user} dbname=headwater sslmode={mode} sslrootcert={}",
            ca.display()
        );
        run(
            Path::new("psql"),
            &["-X", "-A", "-t", &url, "-c", "SELECT count(*) FROM orders.orders"],
            &[("PGPASSWORD", password)],
        )
        .await
    };
    assert_eq!(ask("ada", &CANARY, "verify-full").await, (true, "3\n".to_owned()));
    for (user, password, mode, part) in [
        ("ada", "wrong", "verify-full", "password authentication failed"),
        ("eve", CANARY.as_str(), "verify-full", "password authentication failed"),
        ("ada", CANARY.as_str(), "disable", "TLS"),
    ] {
        let (is_content, text) = ask(user, password, mode).await;
        assert!(!is_content && text.contains(part) && !text.contains(CANARY.as_str()), "{text}");
    }
    for _ in 0..5 {
        ask("ada", "guess", "require").await;
    }
    let (is_content, text) = ask("ada", &CANARY, "require").await;
    assert!(!is_content && text.contains("too many failed logins"), "{text}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_who_is_taken_out_is_out_with_the_next_message() {
    let services = services();
    let (users, _) = UsersFile::new();
    let doors = Doors::open(services.engine().await, Security { gate: users.gate(), tls: None }).await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(doors.postgres.port()).user("ada").password(CANARY.as_str()).dbname("headwater");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.unwrap();
    users.write("bob", "another", "");
    wait::until("ada is out", DEADLINE, async || client.simple_query("SELECT 1").await.is_err()).await;
    wait::until("the connection is closed", DEADLINE, async || client.is_closed()).await;
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_values_parameters_and_portals_are_those_of_the_protocol() {
    let services = services();
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let mut client = connect(&doors).await;
    let statement =
        client.prepare("SELECT id, customer, total FROM orders.orders WHERE id >= $1 ORDER BY id").await.unwrap();
    assert_eq!(statement.params(), [Type::INT8]);
    assert_eq!(
        statement.columns().iter().map(|column| column.type_().clone()).collect::<Vec<_>>(),
        [Type::INT8, Type::TEXT, Type::FLOAT8]
    );
    let rows = client.query(&statement, &[&2_i64]).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[1].get::<_, i64>(0), rows[1].get::<_, &str>(1), rows[1].get::<_, Option<f64>>(2)),
        (3, "a'da", None)
    );
    let found = client.query("SELECT id FROM orders.orders WHERE customer = $1", &[&"a'da"]).await.unwrap();
    assert_eq!(found[0].get::<_, i64>(0), 3);
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("SELECT value FROM generate_series(1, 25) ORDER BY value").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let mut seen = Vec::new();
    for expected in [10, 10, 5] {
        let rows = transaction.query_portal(&portal, 10).await.unwrap();
        assert_eq!(rows.len(), expected);
        seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    transaction.commit().await.unwrap();
    let copied: Vec<_> =
        client.copy_out("COPY orders.orders (id) TO STDOUT").await.unwrap().try_collect().await.unwrap();
    assert_eq!(copied.concat(), b"1\n2\n3\n");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_has_its_sqlstate_and_the_connection_goes_on() {
    let services = services();
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let mut client = connect(&doors).await;
    for (text, state) in [
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SELECT * FROM orders.nothing", SqlState::UNDEFINED_TABLE),
        ("SELECT nothing FROM orders.orders", SqlState::UNDEFINED_COLUMN),
        ("DELETE FROM orders.orders", SqlState::READ_ONLY_SQL_TRANSACTION),
        ("SELECT id FROM orders.orders FOR UPDATE", SqlState::READ_ONLY_SQL_TRANSACTION),
        ("SELECT 1 UNION (SELECT id FROM orders.orders FOR SHARE)", SqlState::READ_ONLY_SQL_TRANSACTION),
        (
            "CREATE MATERIALIZED VIEW v.x AS SELECT id FROM (SELECT id FROM orders.orders FOR UPDATE) AS o",
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ),
        ("SELECT (SELECT max(oid) FROM pg_class FOR UPDATE)", SqlState::READ_ONLY_SQL_TRANSACTION),
        ("SELECT 1 / (id - id) FROM orders.orders", SqlState::DIVISION_BY_ZERO),
        ("SET nonsense = 1", SqlState::UNDEFINED_OBJECT),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", SqlState::FEATURE_NOT_SUPPORTED),
    ] {
        let error = client.simple_query(text).await.unwrap_err();
        assert_eq!(error.code(), Some(&state), "{text}: {error:?}");
        let error = client.query(text, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&state), "{text}: {error:?}");
    }
    let transaction = client.transaction().await.unwrap();
    transaction.simple_query("SELECT * FROM orders.nothing").await.unwrap_err();
    let error = transaction.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM orders.orders", &[]).await.unwrap().get::<_, i64>(0), 3);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_statement_and_client_that_leaves_stop_the_source() {
    let everywhere = everywhere().await;
    everywhere
        .postgres
        .execute("CREATE VIEW endless AS SELECT a.id, repeat(a.name, 20) AS pad FROM many a, many b")
        .await;
    let doors = Doors::open(everywhere.engine.clone(), Security::default()).await;
    let client = connect(&doors).await;
    let cancel = client.cancel_token();
    let running = tokio::spawn(async move {
        let error = client.simple_query("SELECT count(DISTINCT pad) FROM pg.endless").await.unwrap_err();
        (error.code().cloned(), client.simple_query("SELECT 1").await.is_ok())
    });
    // Postgres may run it in several processes.
    let runs = async |is_there: bool| (everywhere.postgres.running("endless").await > 0) == is_there;
    wait::until("the statement runs", DEADLINE, async || runs(true).await).await;
    cancel.cancel_query(NoTls).await.unwrap();
    let ended = wait::within("the statement ends", DEADLINE, running).await.unwrap();
    assert_eq!(ended, (Some(SqlState::QUERY_CANCELED), true));
    wait::until("the source has heard", DEADLINE, async || runs(false).await).await;
    let (leaving, connection) = connected(&doors).await;
    let running =
        tokio::spawn(async move { leaving.simple_query("SELECT count(DISTINCT pad) FROM pg.endless").await.is_err() });
    wait::until("the statement runs", DEADLINE, async || runs(true).await).await;
    connection.abort();
    wait::until("the source has heard", DEADLINE, async || runs(false).await).await;
    assert!(wait::within("the client has heard", DEADLINE, running).await.unwrap());
    doors.close().await;
}

/// A cancel that comes while the server waits for the next message of a statement is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_between_two_messages_of_a_statement_cancels_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let services = services();
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let mut socket = tokio::net::TcpStream::connect(doors.postgres).await.unwrap();
    let message = |kind: &[u8], body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [kind, length.as_slice(), body].concat()
    };
    let until = async |socket: &mut tokio::net::TcpStream, wanted: u8| {
        let mut came = vec![];
        while came.last().is_none_or(|(kind, _)| *kind != wanted) {
            let kind = socket.read_u8().await.unwrap();
            let mut body = vec![0; socket.read_u32().await.unwrap() as usize - 4];
            socket.read_exact(&mut body).await.unwrap();
            came.push((kind, body));
        }
        came
    };
    socket.write_all(&message(b"", b"\0\x03\0\0user\0test\0database\0headwater\0\0")).await.unwrap();
    let told = wait::within("it is ready", DEADLINE, until(&mut socket, b'Z')).await;
    let (_, key) = told.iter().find(|(kind, _)| *kind == b'K').expect("it tells how to cancel");
    let run = [message(b"B", b"\0\0\0\0\0\0\0\0"), message(b"E", b"\0\0\0\0\0"), message(b"S", b"")].concat();
    let ask = [message(b"P", b"\0SELECT count(*) FROM orders.orders\0\0\0"), message(b"H", b"")].concat();
    for (is_cancelled, ends) in [(true, Some(b"C57014".as_slice())), (false, None)] {
        socket.write_all(&ask).await.unwrap();
        wait::within("it is parsed", DEADLINE, until(&mut socket, b'1')).await;
        if is_cancelled {
            let mut other = tokio::net::TcpStream::connect(doors.postgres).await.unwrap();
            other.write_all(&message(b"", &[&80_877_102_u32.to_be_bytes(), key.as_slice()].concat())).await.unwrap();
            // The server closes it once it has done so.
            let closed = wait::within("it is taken", DEADLINE, other.read_u8()).await;
            assert!(closed.is_err(), "{closed:?}");
        }
        socket.write_all(&run).await.unwrap();
        let came = wait::within("it ends", DEADLINE, until(&mut socket, b'Z')).await;
        let error = came.iter().find(|(kind, _)| *kind == b'E').map(|(_, body)| body.split(|byte| *byte == 0));
        let code = error.and_then(|mut fields| fields.find(|field| field.starts_with(b"C")));
        assert_eq!(code, ends, "{came:?}");
    }
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_end_their_own_connection_and_no_other() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let services = services();
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let client = connect(&doors).await;
    let startup: &[u8] = b"\0\0\0\x25\0\x03\0\0user\0eve\0database\0headwater\0\0";
    let whole = [
        startup,
        b"P\0\0\0\x1as\0SELECT $1::BIGINT\0\0\0",
        b"B\0\0\0\x12\0s\0\0\0\0\x01\0\0\0\x017\0\0",
        b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04X\0\0\0\x04",
    ]
    .concat();
    let mut dice = headwater_sql_tests::dice::Dice::new(7);
    for round in 0..300 {
        let mut bytes = whole.clone();
        // The first one is as it should be, which shows that the others are nearly so.
        for _ in 0..round % 4 {
            let place = dice.below(bytes.len());
            bytes[place] = u8::try_from(dice.below(256)).unwrap();
        }
        let mut stream = tokio::net::TcpStream::connect(doors.postgres).await.unwrap();
        // The server may have closed before it was all sent.
        let _closed = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        // A changed length makes the server wait for more, which never comes: then the client leaves.
        let patience = if round == 0 { DEADLINE } else { Duration::from_millis(50) };
        if tokio::time::timeout(patience, stream.read_to_end(&mut answer)).await.is_err() {
            let _closed = stream.shutdown().await;
            let _reset = wait::within("the connection ends", DEADLINE, stream.read_to_end(&mut answer)).await;
        }
        if round == 0 {
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("SELECT 1") && answer.ends_with(b"Z\0\0\0\x05I"), "{text:?}");
        }
    }
    assert_eq!(client.query_one("SELECT count(*) FROM orders.orders", &[]).await.unwrap().get::<_, i64>(0), 3);
    doors.close().await;
}
