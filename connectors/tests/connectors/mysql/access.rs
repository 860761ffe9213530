//! Who may connect and how: TLS modes, wrong passwords, lacking privileges, absent servers.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::util::display::array_value_to_string;
use headwater_source::{Error, OptionValue, Result, ScanRequest, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Database, open, read, read_all, server, table, text, variable};

/// Whether the source's own session is encrypted, asked through a view.
async fn encrypted(database: &mut Database, options: &[(&str, OptionValue)], host: Option<&str>) -> Result<bool> {
    database
        .run("CREATE OR REPLACE VIEW tls AS SELECT VARIABLE_VALUE AS v FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'")
        .await;
    let mut url = database.url();
    if let Some(host) = host {
        url.set_host(Some(host)).unwrap();
    }
    let source = open(url.as_str(), options)?;
    let batch = read(&source, ScanRequest::all(Arc::new(source.table("tls").await?))).await?;
    Ok(!array_value_to_string(batch.column(0), 0).unwrap().is_empty())
}

fn mode(word: &str) -> (&'static str, OptionValue) {
    ("sslmode", text(word))
}

fn root() -> (&'static str, OptionValue) {
    ("sslrootcert", text(&variable("HEADWATER_TEST_MYSQL_CA")))
}

#[tokio::test]
async fn tls_modes_encrypt_and_verify_as_libpqs() {
    let mut database = Database::new().await;
    let base = &mut database;
    assert!(!encrypted(base, &[mode("disable")], None).await.unwrap());
    assert!(encrypted(base, &[mode("prefer")], None).await.unwrap());
    assert!(encrypted(base, &[mode("require")], None).await.unwrap());
    assert!(encrypted(base, &[mode("verify-ca"), root()], None).await.unwrap());
    assert!(encrypted(base, &[mode("verify-full"), root()], Some("localhost")).await.unwrap());
    for word in ["verify-ca", "verify-full"] {
        let error = encrypted(base, &[mode(word)], None).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { .. }),
            "{word}: nobody vouches for the test's authority: {error}"
        );
        assert!(error.report().contains("certificate"), "{}", error.report());
    }
}

#[tokio::test]
async fn certificate_of_another_name_passes_verify_ca_and_not_verify_full() {
    let database = Database::new().await;
    // 127.0.0.2 is this machine, too, and stands in no certificate.
    let url = relayed(&database, "127.0.0.2", Greeting::AsItIs);
    let ca = variable("HEADWATER_TEST_MYSQL_CA");
    let source = open(&url, &[mode("verify-full"), ("sslrootcert", text(&ca))]).unwrap();
    let error = source.tables().await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable { .. }) && error.report().contains("not valid for name"),
        "{}",
        error.report()
    );
    let source = open(&url, &[mode("verify-ca"), ("sslrootcert", text(&ca))]).unwrap();
    source.tables().await.unwrap();
}

#[tokio::test]
async fn wrong_password_is_refused_access_and_shown_nowhere() {
    let database = Database::new().await;
    let mut url = database.url();
    url.set_password(Some("canary")).unwrap();
    let source = open(url.as_str(), &[]).unwrap();
    let error = source.tables().await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { .. }), "{error}");
    let printed = format!("{} {error:?} {source:?} {}", error.report(), source.location());
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test]
async fn connections_in_use_print_no_password() {
    let mut database = Database::new().await;
    let user = format!("{}_user", database.name);
    database.run(&format!("CREATE USER {user} IDENTIFIED BY 'canary'")).await;
    database.run(&format!("GRANT SELECT ON {}.* TO {user}", database.name)).await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    let source = as_user(&database, &user, "canary");
    let request = ScanRequest::all(table(&source, "t").await);
    let scan = source.prepare(request).await.unwrap();
    let printed = format!("{source:?} {scan:?}");
    database.run(&format!("DROP USER {user}")).await;
    assert!(!printed.contains("canary"), "{printed}");
}

fn as_user(database: &Database, user: &str, password: &str) -> Arc<dyn Source> {
    let mut url = database.url();
    url.set_username(user).unwrap();
    url.set_password(Some(password)).unwrap();
    open(url.as_str(), &[]).unwrap()
}

#[tokio::test]
async fn role_that_may_only_read_sees_what_it_may_read_with_its_keys() {
    let mut database = Database::new().await;
    let user = format!("{}_user", database.name);
    database.run("CREATE TABLE whole (id INT NOT NULL PRIMARY KEY, v INT)").await;
    database.run("CREATE TABLE part (id INT NOT NULL PRIMARY KEY, open_note INT, secret INT)").await;
    database.run("CREATE TABLE hidden (id INT NOT NULL)").await;
    database.run("INSERT INTO whole VALUES (1, 2)").await;
    database.run(&format!("CREATE USER {user} IDENTIFIED BY 'pw'")).await;
    database.run(&format!("GRANT SELECT ON {}.whole TO {user}", database.name)).await;
    database.run(&format!("GRANT SELECT (id, open_note), INSERT (secret) ON {}.part TO {user}", database.name)).await;
    database.run(&format!("GRANT INSERT ON {}.hidden TO {user}", database.name)).await;
    let source = as_user(&database, &user, "pw");
    let tables = source.tables().await;
    let planned = table(&source, "whole").await;
    let whole = read(&source, ScanRequest::all(Arc::clone(&planned))).await;
    let part = read(&source, ScanRequest::all(table(&source, "part").await)).await;
    database.run(&format!("REVOKE SELECT ON {}.whole FROM {user}", database.name)).await;
    let revoked = read(&source, ScanRequest::all(planned)).await;
    database.run(&format!("DROP USER {user}")).await;
    let tables = tables.unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["part", "whole"]);
    assert_eq!((tables[0].columns.len(), tables[1].columns.len()), (2, 2));
    assert_eq!(tables[1].key.as_deref(), Some(&["id".to_owned()][..]));
    assert_eq!((whole.unwrap().num_rows(), part.unwrap().num_rows()), (1, 0));
    let error = revoked.unwrap_err();
    assert!(matches!(&error, Error::SchemaChanged { .. } | Error::AccessDenied { .. }), "{error}");
}

#[tokio::test]
async fn session_may_not_write() {
    let mut database = Database::new().await;
    // A view may not read a variable; a function of the view's may.
    database.run("CREATE FUNCTION read_only() RETURNS INT READS SQL DATA RETURN @@SESSION.tx_read_only").await;
    database.run("CREATE VIEW settings AS SELECT read_only() AS v").await;
    let batch = read_all(&database.source(), "settings").await;
    assert_eq!(array_value_to_string(batch.column(0), 0).unwrap(), "1");
}

#[tokio::test]
async fn absent_server_or_database_is_unavailable_and_opening_asks_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = open(&format!("mysql://u:canary@127.0.0.1:{port}/d"), &[]).unwrap();
    let error = source.tables().await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }), "{error}");
    assert!(error.report().contains("127.0.0.1") && !error.report().contains("canary"), "{}", error.report());
    let mut url = server();
    url.set_path("there_is_no_such_database");
    let error = open(url.as_str(), &[]).unwrap().tables().await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn server_that_says_nothing_is_given_up_on_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let limit = ("connect_timeout_ms", OptionValue::Count(200));
    let source = open(&format!("mysql://u@127.0.0.1:{port}/d"), &[limit]).unwrap();
    let start = Instant::now();
    let error = source.tables().await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what: "connecting", limit_ms: 200, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn server_without_tls_is_plain_under_prefer_and_refused_under_require() {
    let database = Database::new().await;
    for (greeting, said) in [(Greeting::WithoutTls, "SSL"), (Greeting::BrokenTls, "corrupt message")] {
        let url = relayed(&database, "127.0.0.1", greeting);
        open(&url, &[mode("prefer")]).unwrap().tables().await.unwrap();
        let secure = [vec![mode("require")], vec![mode("verify-ca"), root()], vec![mode("verify-full"), root()]];
        for options in secure {
            let error = open(&url, &options).unwrap().tables().await.unwrap_err();
            assert!(matches!(&error, Error::Unavailable { .. }) && error.report().contains(said), "{}", error.report());
        }
    }
}

#[tokio::test]
async fn unix_socket_is_read_through() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    let socket: String = database.ask("SELECT @@socket").await;
    let mut url = database.url();
    url.set_query(Some(&format!("socket={socket}&sslmode=verify-full")));
    let source = open(url.as_str(), &[]).unwrap();
    assert_eq!(read_all(&source, "t").await.num_rows(), 0);
    assert!(source.location().contains(&socket), "{}", source.location());
}

/// What a relay makes of the server's greeting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeting {
    AsItIs,
    /// As of a server that has no TLS.
    WithoutTls,
    /// As it is, but what follows a client's wish for TLS is none.
    BrokenTls,
}

/// The database's url by way of a relay at an address of this machine.
fn relayed(database: &Database, address: &str, greeting: Greeting) -> String {
    let mut url = database.url();
    url.set_host(Some(address)).unwrap();
    url.set_port(Some(relay(address, greeting))).unwrap();
    url.to_string()
}

/// Passes bytes between an address of this machine and the server, for as long as the test runs.
fn relay(address: &str, greeting: Greeting) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let target = (server().host_str().unwrap().to_owned(), server().port().unwrap_or(3306));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut upstream = tokio::net::TcpStream::connect(target.clone()).await.unwrap();
            tokio::spawn(async move {
                if greeting == Greeting::WithoutTls {
                    let mut packet = vec![0; 4096];
                    let length = upstream.read(&mut packet).await?;
                    // After the 4-byte header and the version: a NUL-terminated name, 4 bytes of id, 8 of salt, 1 of filler, and the
                    // capabilities, of which 0x0800 is TLS.
                    let name = packet[5..].iter().position(|byte| *byte == 0).expect("the server's version ends");
                    packet[5 + name + 1 + 4 + 8 + 1 + 1] &= !0x08;
                    client.write_all(&packet[..length]).await?;
                }
                if greeting == Greeting::BrokenTls {
                    let mut packet = vec![0; 4096];
                    let length = upstream.read(&mut packet).await?;
                    client.write_all(&packet[..length]).await?;
                    let length = client.read(&mut packet).await?;
                    // A wish for TLS has 32 bytes; a login has more.
                    if packet[0] == 32 {
                        client.write_all(b"no TLS is spoken here").await?;
                        return Ok((0, 0));
                    }
                    upstream.write_all(&packet[..length]).await?;
                }
                tokio::io::copy_bidirectional(&mut client, &mut upstream).await
            });
        }
    });
    port
}
