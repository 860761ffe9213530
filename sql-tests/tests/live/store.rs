//! A store as a service sees it: connections that run statements, and the token of what was written.

use std::path::PathBuf;
use std::time::Duration;

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::Services;
use mysql_async::prelude::Queryable;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Where a service keeps its tables.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    Postgres(String),
    Mariadb(String),
    /// The file, and the service's name, which the feed's log bears.
    Sqlite(PathBuf, String),
}

/// A connection.
pub(crate) enum Connection {
    Postgres(tokio_postgres::Client),
    Mariadb(mysql_async::Conn),
    Sqlite(rusqlite::Connection, String),
}

/// The databases behind some services; dropped last.
#[derive(Default)]
pub(crate) struct Databases {
    pub(crate) postgres: Option<PostgresDatabase>,
    pub(crate) mariadb: Option<MysqlDatabase>,
}

/// The statements that give a token, as docs/views.md says them; SQLite's is of the service `orders`.
pub(crate) const TOKENS: [&str; 3] = [
    "SELECT pg_current_wal_insert_lsn()",
    "SELECT @@last_gtid",
    "SELECT CAST(max(number) AS TEXT) FROM headwater_orders_feed_log",
];

/// Why a statement did not work. Whether it was committed is not known.
pub(crate) type Failure = String;

impl Store {
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        match self {
            Self::Postgres(url) => {
                let (client, connection) =
                    tokio_postgres::connect(url, NoTls).await.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                // What is confirmed is in the log, as in production.
                client.batch_execute("SET synchronous_commit = on").await.map_err(|error| error.to_string())?;
                Ok(Connection::Postgres(client))
            }
            Self::Mariadb(url) => {
                let options = mysql_async::Opts::from_url(url).map_err(|error| error.to_string())?;
                mysql_async::Conn::new(options).await.map(Connection::Mariadb).map_err(|error| error.to_string())
            }
            Self::Sqlite(path, service) => {
                let connection = rusqlite::Connection::open(path).map_err(|error| error.to_string())?;
                connection.busy_timeout(Duration::from_secs(60)).map_err(|error| error.to_string())?;
                connection.pragma_update(None, "synchronous", "OFF").map_err(|error| error.to_string())?;
                Ok(Connection::Sqlite(connection, service.clone()))
            }
        }
    }

    /// Runs statements on a connection of its own.
    pub(crate) async fn run(&self, statements: &str) {
        let mut connection = self.connect().await.unwrap();
        connection.run(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The token of everything that was committed before.
    pub(crate) async fn token(&self) -> String {
        self.connect().await.unwrap().token_of_all().await.unwrap()
    }

    /// What begins a transaction that writes.
    pub(crate) fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite(..) => "BEGIN IMMEDIATE",
            _ => "BEGIN",
        }
    }

    /// The statements, within a transaction, that say what it depends on.
    pub(crate) fn depends(&self, service: &str, token: &str) -> String {
        let tokens = format!("{{\"{service}\": \"{token}\"}}");
        match self {
            Self::Postgres(_) => format!("SELECT pg_logical_emit_message(true, 'headwater', '{tokens}')"),
            Self::Mariadb(_) => {
                format!(
                    "INSERT INTO headwater_depends (tokens) VALUES ('{tokens}'); \
                     DELETE FROM headwater_depends WHERE id = last_insert_id()"
                )
            }
            Self::Sqlite(_, own) => {
                format!("INSERT INTO headwater_{own}_feed_log (tab, existed, k0) VALUES (-1, 0, '{tokens}')")
            }
        }
    }
}

impl Connection {
    /// Runs statements, separated by semicolons.
    pub(crate) async fn run(&mut self, statements: &str) -> Result<(), Failure> {
        match self {
            Self::Postgres(client) => client.batch_execute(statements).await.map_err(|error| with_cause(&error)),
            Self::Mariadb(client) => client.query_drop(statements).await.map_err(|error| error.to_string()),
            Self::Sqlite(client, _) => {
                let done = tokio::task::block_in_place(|| client.execute_batch(statements));
                if done.is_err() && !client.is_autocommit() {
                    drop(client.execute_batch("ROLLBACK"));
                }
                done.map_err(|error| error.to_string())
            }
        }
    }

    /// The token of this connection's last commit.
    pub(crate) async fn token(&mut self) -> Result<String, Failure> {
        let query = match self {
            Self::Postgres(_) => TOKENS[0].to_owned(),
            Self::Mariadb(_) => TOKENS[1].to_owned(),
            Self::Sqlite(_, service) => TOKENS[2].replace("orders", service),
        };
        self.value(query).await
    }

    /// The token of everything that was committed before, by whoever.
    pub(crate) async fn token_of_all(&mut self) -> Result<String, Failure> {
        match self {
            Self::Mariadb(_) => self.value("SELECT @@gtid_binlog_pos".to_owned()).await,
            _ => self.token().await,
        }
    }

    /// The only value of a query, which is text.
    pub(crate) async fn value(&mut self, query: String) -> Result<String, Failure> {
        let value = match self {
            Self::Postgres(client) => {
                let messages = client.simple_query(&query).await.map_err(|error| with_cause(&error))?;
                messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            }
            Self::Mariadb(client) => {
                client.query_first::<String, _>(&query).await.map_err(|error| error.to_string())?
            }
            Self::Sqlite(client, _) => tokio::task::block_in_place(|| client.query_row(&query, [], |row| row.get(0)))
                .map_err(|error| error.to_string())?,
        };
        value.ok_or_else(|| format!("{query} is nothing"))
    }
}

fn with_cause(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl Databases {
    /// Adds a service over a database of its own on the shared Postgres.
    pub(crate) async fn postgres(&mut self, services: Services, service: &str, schema: &str) -> (Services, Store) {
        let database = PostgresDatabase::with(schema).await;
        let url = database.url();
        let slot = database.name().to_owned();
        self.postgres = Some(database);
        (over_postgres(services, service, &url, &slot), Store::Postgres(url))
    }

    /// Adds a service over a database of its own on the shared MariaDB.
    pub(crate) async fn mariadb(&mut self, services: Services, service: &str, schema: &str) -> (Services, Store) {
        let database = MysqlDatabase::with(schema).await;
        let url = database.url();
        self.mariadb = Some(database);
        (over_mariadb(services, service, &url), Store::Mariadb(url))
    }
}

/// Adds a service over a file of its own.
pub(crate) fn sqlite(services: Services, service: &str, schema: &str) -> (Services, Store) {
    let connection = services.sqlite(service);
    connection.execute_batch(&format!("PRAGMA journal_mode = wal; {schema}")).unwrap();
    let path = services.directory().join(format!("{service}.db"));
    let source = format!("connector: sqlite, path: ../{service}.db");
    let services = services.with_feed(service, &source, "mode: triggers, consent: true");
    (services, Store::Sqlite(path, service.to_owned()))
}

pub(crate) fn over_postgres(services: Services, service: &str, url: &str, slot: &str) -> Services {
    let feed = format!("mode: logical, slot: {slot}");
    services.with_feed(service, &format!("connector: postgres, url: \"{url}\""), &feed)
}

pub(crate) fn over_mariadb(services: Services, service: &str, url: &str) -> Services {
    services.with_feed(service, &format!("connector: mysql, url: \"{url}\""), "mode: binlog")
}
