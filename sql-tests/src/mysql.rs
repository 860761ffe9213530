//! A database in the MariaDB that `./test` started, made for one test and dropped with it.

use bytes::Bytes;
use futures::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

use crate::{block_on_elsewhere, unique, variable};

/// The server's URL: a user with every privilege in the database `test`.
pub fn base_url() -> String {
    variable("HEADWATER_TEST_MYSQL_URL")
}

/// The file of the certificate authority that signed the server's certificate.
pub fn certificate_authority() -> String {
    variable("HEADWATER_TEST_MYSQL_CA")
}

/// A database of its own, utf8mb4 under a collation that folds case. Dropping it drops the database.
#[derive(Debug)]
pub struct MysqlDatabase {
    name: String,
}

/// How much of a file is sent at once.
const PACKET_BYTES: usize = 1024 * 1024;

impl MysqlDatabase {
    /// Makes an empty database.
    pub async fn create() -> Self {
        let name = unique("headwater");
        let statement = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        execute_at(&base_url(), &statement).await;
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

    /// The database's URL, under the user that owns everything.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// Runs statements, separated by semicolons.
    pub async fn execute(&self, statements: &str) {
        execute_at(&self.url(), statements).await;
    }

    /// A connection.
    pub async fn client(&self) -> Conn {
        connect(&self.url()).await
    }

    /// The first column of the first row, as text.
    pub async fn value(&self, query: &str) -> Option<String> {
        let mut client = self.client().await;
        client.query_first(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// How many connections other than the asking one run a statement in this database whose text contains `part`.
    pub async fn running(&self, part: &str) -> usize {
        let query = "SELECT count(*) FROM information_schema.processlist \
            WHERE db = ? AND command IN ('Query', 'Execute') AND id <> connection_id() AND instr(info, ?) > 0";
        let mut client = self.client().await;
        let count: Option<usize> =
            client.exec_first(query, (&self.name, part)).await.expect("the process list can be read");
        count.unwrap_or_default()
    }

    /// How many clients are connected to this database.
    pub async fn connections(&self) -> usize {
        // From another database: a server counts a client for a while after it has left, and so would this one's
        // own askings.
        other_connections(&mut connect(&base_url()).await, &self.name).await.len()
    }

    /// Ends every other connection to this database, as an administrator or a restart would.
    pub async fn terminate_connections(&self) {
        let mut client = self.client().await;
        for id in other_connections(&mut client, &self.name).await {
            // One that has ended by itself meanwhile is just as well.
            let _ = client.query_drop(format!("KILL {id}")).await;
        }
    }

    /// Loads rows in CSV, without a header, into a table.
    pub async fn load_csv(&self, table: &str, csv: Vec<u8>) {
        let mut client = self.client().await;
        // A packet of the protocol holds at most 16 MiB.
        let packets: Vec<_> = csv.chunks(PACKET_BYTES).map(|packet| Ok(Bytes::copy_from_slice(packet))).collect();
        client.set_infile_handler(async move { Ok(futures::stream::iter(packets).boxed()) });
        let statement = format!(
            "LOAD DATA LOCAL INFILE 'rows.csv' INTO TABLE {table} CHARACTER SET utf8mb4 \
             FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n'"
        );
        client.query_drop(statement).await.unwrap_or_else(|error| panic!("LOAD DATA into {table}: {error}"));
    }
}

impl Drop for MysqlDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {}", self.name);
        block_on_elsewhere(async move { execute_at(&base_url(), &statement).await });
    }
}

async fn other_connections(client: &mut Conn, database: &str) -> Vec<u64> {
    let query = "SELECT id FROM information_schema.processlist WHERE db = ? AND id <> connection_id()";
    client.exec(query, (database,)).await.expect("the process list can be read")
}

fn url_of(database: &str) -> String {
    let base = base_url();
    let (server, _) = base.rsplit_once('/').expect("HEADWATER_TEST_MYSQL_URL names a database");
    format!("{server}/{database}")
}

async fn connect(url: &str) -> Conn {
    let options = Opts::from_url(url).unwrap_or_else(|error| panic!("HEADWATER_TEST_MYSQL_URL: {error}"));
    Conn::new(options).await.unwrap_or_else(|error| panic!("MariaDB of ./test does not answer: {error}"))
}

async fn execute_at(url: &str, statements: &str) {
    let mut client = connect(url).await;
    // Reads the result of each statement, and so meets the error of any.
    client.query_drop(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    client.disconnect().await.unwrap_or_else(|error| panic!("MariaDB of ./test went away: {error}"));
}
