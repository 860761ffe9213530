//! A database in the Postgres that `./test` started, made for one test and dropped with it.

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, NoTls};

use crate::{block_on_elsewhere, unique, variable};

/// The server's URL: a superuser in the database `postgres`.
pub fn base_url() -> String {
    variable("HEADWATER_TEST_POSTGRES_URL")
}

/// The file of the certificate authority that signed the server's certificate.
pub fn certificate_authority() -> String {
    variable("HEADWATER_TEST_POSTGRES_CA")
}

/// A database of its own. Dropping it drops the database, whoever is still connected, and the replication slots in it.
#[derive(Debug)]
pub struct PostgresDatabase {
    name: String,
}

impl PostgresDatabase {
    /// Makes an empty database.
    pub async fn create() -> Self {
        let name = unique("headwater");
        execute_at(&base_url(), &format!("CREATE DATABASE {name}")).await;
        Self { name }
    }

    /// Makes a database and runs statements in it.
    pub async fn with(statements: &str) -> Self {
        let database = Self::create().await;
        database.execute(statements).await;
        database
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database's URL, under the role that owns everything.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// Runs statements, separated by semicolons.
    pub async fn execute(&self, statements: &str) {
        execute_at(&self.url(), statements).await;
    }

    /// A connection.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// The first column of the first row, as text.
    pub async fn value(&self, query: &str) -> Option<String> {
        let messages = self.client().await.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        })?
    }

    /// How many clients other than the asking one run a statement in this database whose text contains `part`.
    pub async fn running(&self, part: &str) -> usize {
        let query = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = $1 AND backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid() AND position($2 in query) > 0";
        let row =
            self.client().await.query_one(query, &[&self.name, &part]).await.expect("pg_stat_activity can be read");
        usize::try_from(row.get::<_, i64>(0)).expect("a count is not negative")
    }

    /// How many clients are connected to this database.
    pub async fn connections(&self) -> usize {
        // From another database: a server counts a client for a while after it has left, and so would this one's
        // own askings.
        let client = connect(&base_url()).await;
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        let row = client.query_one(query, &[&self.name]).await.expect("pg_stat_activity can be read");
        usize::try_from(row.get::<_, i64>(0)).expect("a count is not negative")
    }

    /// Ends every other connection to this database, as an administrator or a restart would.
    pub async fn terminate_connections(&self) {
        let query =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
        self.client().await.query(query, &[&self.name]).await.expect("backends can be terminated");
    }

    /// Copies rows in CSV, without a header, into a table.
    pub async fn copy_csv(&self, table: &str, csv: Vec<u8>) {
        let client = self.client().await;
        let sink = client.copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN WITH (FORMAT csv)")).await;
        let mut sink = std::pin::pin!(sink.unwrap_or_else(|error| panic!("COPY {table}: {error:?}")));
        sink.send(Bytes::from(csv)).await.unwrap_or_else(|error| panic!("COPY {table}: {error:?}"));
        sink.finish().await.unwrap_or_else(|error| panic!("COPY {table}: {error:?}"));
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        block_on_elsewhere(async move {
            drop_slots(&name).await;
            execute_at(&base_url(), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        });
    }
}

/// A database with a slot cannot be dropped, and a slot not while somebody reads it.
async fn drop_slots(database: &str) {
    const TRIES: usize = 500;
    let client = connect(&base_url()).await;
    let left = "SELECT count(*) FROM pg_replication_slots WHERE database = $1";
    let stop = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active";
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active";
    for _ in 0..TRIES {
        let count = client.query_one(left, &[&database]).await.map(|row| row.get::<_, i64>(0));
        if count.is_ok_and(|count| count == 0) {
            return;
        }
        // Whoever read it may come back in between: then there is another try.
        drop(client.query(stop, &[&database]).await);
        drop(client.query(sql, &[&database]).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    eprintln!("a replication slot of {database} stays in use");
}

fn url_of(database: &str) -> String {
    let base = base_url();
    let (server, _) = base.rsplit_once('/').expect("HEADWATER_TEST_POSTGRES_URL names a database");
    format!("{server}/{database}")
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("Postgres of ./test does not answer: {error}"));
    // Ends with the client.
    tokio::spawn(connection);
    client
}

async fn execute_at(url: &str, statements: &str) {
    connect(url).await.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}
