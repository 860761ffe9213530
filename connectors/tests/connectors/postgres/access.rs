//! Reaching the server, or not: addresses, passwords, TLS, the pool.

use std::time::{Duration, Instant};

use futures::StreamExt;
use headwater_source::{Error, OptionValue, ScanRequest};

use super::{Database, client, database_url, failure, open, read_all, server_url, table, text, url_as, variable};

fn ca() -> OptionValue {
    text(&variable("HEADWATER_TEST_POSTGRES_CA"))
}

fn user(url: &str) -> (String, String) {
    let credentials = url.split("//").nth(1).and_then(|rest| rest.split('@').next()).unwrap_or_default();
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    (user.to_owned(), password.to_owned())
}

#[tokio::test]
async fn wrong_password_is_access_denied_without_showing_it() {
    let (user, _) = user(&server_url());
    for mode in ["disable", "prefer", "allow"] {
        let source = open(&url_as(&user, "canary", "postgres"), &[("sslmode", text(mode))]).unwrap();
        let error = failure(source.tables().await);
        assert!(matches!(error, Error::AccessDenied { .. }), "{}", error.report());
        assert!(!format!("{error:?} {} {source:?}", error.report()).contains("canary"));
    }
}

#[tokio::test]
async fn unreachable_server_is_unavailable_and_works_once_it_is_there() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let source = open(&format!("postgres://u:canary@127.0.0.1:{port}/d"), &[]).unwrap();
    let error = failure(source.tables().await);
    assert!(matches!(error, Error::Unavailable { .. }), "{}", error.report());
    assert!(error.report().contains(&port.to_string()) && !error.report().contains("canary"));
    let source = open(&database_url("hw_no_such_database"), &[]).unwrap();
    let error = failure(source.tables().await);
    assert!(matches!(error, Error::Unavailable { .. }) && error.report().contains("3D000"), "{}", error.report());
}

#[tokio::test]
async fn server_that_does_not_answer_is_a_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let source = open(&url, &[("connect_timeout_ms", OptionValue::Count(100))]).unwrap();
    let error = failure(source.tables().await);
    assert!(matches!(error, Error::Timeout { what: "connecting", limit_ms: 100, .. }), "{}", error.report());
}

/// Whether the connector's connection uses TLS.
async fn encrypted(url: &str, options: &[(&str, OptionValue)]) -> Result<bool, Error> {
    let source = open(url, options)?;
    let probe = source.table("pg_catalog.pg_stat_ssl").await?;
    let batch = super::try_read(&source, ScanRequest::all(probe.into())).await?;
    let pid = super::column(&batch, "pid");
    let ssl = super::column(&batch, "ssl");
    let activity = super::read_all(&source, "pg_catalog.pg_stat_activity").await;
    let mine = (0..activity.num_rows()).find(|row| {
        let text = |name| {
            headwater_source::ScalarValue::try_from_array(&super::column(&activity, name), *row).unwrap().to_string()
        };
        text("query").contains("pg_stat_activity") && text("state") == "active"
    });
    let pids = super::column(&activity, "pid");
    let row = mine
        .and_then(|mine| (0..batch.num_rows()).find(|row| pid.slice(*row, 1).as_ref() == pids.slice(mine, 1).as_ref()));
    let row = row.expect("the connection sees itself");
    Ok(headwater_source::ScalarValue::try_from_array(&ssl, row).unwrap().to_string() == "true")
}

#[tokio::test]
async fn tls_modes_are_libpqs() {
    let database = Database::new().await;
    let url = database.url();
    let named = url.replace("127.0.0.1", "localhost");
    let mode = |word| ("sslmode", text(word));
    assert!(!encrypted(&url, &[mode("disable")]).await.unwrap());
    assert!(!encrypted(&url, &[mode("allow")]).await.unwrap());
    assert!(encrypted(&url, &[]).await.unwrap(), "loopback prefers TLS");
    assert!(encrypted(&url, &[mode("require")]).await.unwrap());
    for word in ["verify-full", "verify-ca", "require"] {
        for url in [&url, &named] {
            assert!(encrypted(url, &[mode(word), ("sslrootcert", ca())]).await.unwrap(), "{word}");
        }
    }
    for word in ["verify-full", "verify-ca"] {
        let error = failure(encrypted(&url, &[mode(word)]).await);
        assert!(matches!(error, Error::Unavailable { .. } | Error::Config { .. }), "{}", error.report());
    }
    let missing = failure(encrypted(&url, &[mode("verify-full"), ("sslrootcert", text("/no/such.pem"))]).await);
    assert!(matches!(&missing, Error::Config { reason } if reason.contains("/no/such.pem")), "{}", missing.report());
}

#[tokio::test]
async fn name_that_the_certificate_lacks_passes_verify_ca_and_not_verify_full() {
    let url = server_url().replace("127.0.0.1", "db.internal");
    let url = format!("{}?hostaddr=127.0.0.1", url.split('?').next().unwrap());
    let options = |word| [("sslmode", text(word)), ("sslrootcert", ca())];
    assert!(encrypted(&url, &options("verify-ca")).await.unwrap());
    let error = failure(encrypted(&url, &options("verify-full")).await);
    assert!(matches!(error, Error::Unavailable { .. }) && error.report().contains("certificate"), "{}", error.report());
}

#[tokio::test]
async fn pool_is_bounded_and_waiting_for_it_is_too() {
    let database = Database::new().await;
    database.run("CREATE TABLE t AS SELECT generate_series(1, 200000) AS v").await;
    let source = database.source_with(&[("pool_size", 2), ("pool_wait_ms", 200)]);
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.batch_rows = 100;
    let scan = source.prepare(request).await.unwrap();
    let (mut first, mut second) = (scan.open(0).await.unwrap(), scan.open(0).await.unwrap());
    assert!(first.next().await.is_some() && second.next().await.is_some());
    let error = failure(scan.open(0).await.map(|_| ()));
    assert!(matches!(error, Error::Timeout { what: "waiting for a connection", .. }), "{}", error.report());
    drop(first);
    assert!(scan.open(0).await.unwrap().next().await.is_some(), "a dropped stream frees its slot");
}

#[tokio::test]
async fn server_that_lost_its_connections_is_reached_again() {
    let database = Database::new().await;
    database.run("CREATE TABLE t AS SELECT 1 AS v").await;
    let source = database.source();
    read_all(&source, "t").await;
    let admin = client(&server_url()).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'headwater shop'";
    admin.query(sql, &[&database.name]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = source.tables().await {
        assert!(matches!(error, Error::Unavailable { .. }) && Instant::now() < deadline, "{}", error.report());
    }
}

#[tokio::test]
async fn unix_socket_is_reached_by_its_directory() {
    let directories = client(&server_url()).await.query_one("SHOW unix_socket_directories", &[]).await.unwrap();
    let directories: String = directories.get(0);
    let directory = directories.split(',').next().unwrap().trim().to_owned();
    assert!(!directory.is_empty(), "the server must listen on a unix socket");
    let url = server_url();
    let (user, password) = user(&url);
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
    let source = open(&format!("postgres://{user}:{password}@/postgres?host={directory}&port={port}"), &[]).unwrap();
    source.tables().await.unwrap();
}
