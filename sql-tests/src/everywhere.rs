//! The same rows in every SQL store: services `pg` (Postgres), `my` (MariaDB) and `lite` (SQLite), each with a table `t`.

use headwater::Engine;
use mysql_async::prelude::Queryable;

use crate::mysql::MysqlDatabase;
use crate::postgres::PostgresDatabase;
use crate::rows::Rows;
use crate::services::{Reference, Services};

/// The services' names.
pub const SERVICES: [&str; 3] = ["pg", "my", "lite"];

/// Three stores and the engine over them. Dropping it drops the databases.
pub struct Everywhere {
    /// The store of `pg`.
    pub postgres: PostgresDatabase,
    /// The store of `my`.
    pub mysql: MysqlDatabase,
    /// The directory of manifests, and the store of `lite`.
    pub services: Services,
    /// The engine.
    pub engine: Engine,
}

impl Everywhere {
    /// Runs the statements of each store in it.
    pub async fn with(postgres: &str, mysql: &str, sqlite: &str) -> Self {
        let postgres = PostgresDatabase::with(postgres).await;
        let mysql = MysqlDatabase::with(mysql).await;
        let services = Services::new()
            .with_postgres("pg", &postgres.url())
            .with_mysql("my", &mysql.url())
            .with_sqlite("lite", sqlite);
        let engine = services.engine().await;
        Self { postgres, mysql, services, engine }
    }

    /// A table `t (id bigint, s text)` in each store; in MariaDB its text folds case and its twin `s_bin` does not. The values
    /// are bound, with ids from 0. Postgres has no NUL in text: there it is replaced by U+2400.
    pub async fn with_texts(values: &[Option<&str>]) -> Self {
        let everywhere = Self::with(
            "CREATE TABLE t (id bigint PRIMARY KEY, s text)",
            "CREATE TABLE t (id bigint PRIMARY KEY, s varchar(200), s_bin varchar(200) COLLATE utf8mb4_bin)",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)",
        )
        .await;
        everywhere.insert_texts(values).await;
        everywhere
    }

    /// Replaces the rows of the table that [`Everywhere::with_texts`] makes.
    pub async fn insert_texts(&self, values: &[Option<&str>]) {
        let postgres = self.postgres.client().await;
        let mut mysql = self.mysql.client().await;
        let sqlite = self.services.sqlite("lite");
        postgres.execute("DELETE FROM t", &[]).await.expect("Postgres deletes");
        mysql.query_drop("DELETE FROM t").await.expect("MariaDB deletes");
        sqlite.execute("DELETE FROM t", []).expect("SQLite deletes");
        for (id, value) in values.iter().enumerate() {
            let id = i64::try_from(id).expect("few values");
            let without_nul = value.map(|value| value.replace('\0', "\u{2400}"));
            postgres
                .execute("INSERT INTO t VALUES ($1, $2)", &[&id, &without_nul])
                .await
                .expect("Postgres takes the text");
            mysql
                .exec_drop("INSERT INTO t VALUES (?, ?, ?)", (id, value, value))
                .await
                .expect("MariaDB takes the text");
            sqlite.execute("INSERT INTO t VALUES (?, ?)", (id, value)).expect("SQLite takes the text");
        }
        mysql.disconnect().await.expect("MariaDB lets go");
    }

    /// A copy of each service's `t`.
    pub async fn reference(&self) -> Reference {
        Reference::copy(&self.engine, &["pg.t", "my.t", "lite.t"]).await
    }

    /// Asks each service in turn: `{t}` in the query stands for its table. Each answer must be that of a local copy, with
    /// pushdown and without.
    pub async fn agrees(&self, reference: &Reference, query: &str) -> Vec<Result<Rows, String>> {
        let mut answers = Vec::new();
        for service in SERVICES {
            let query = query.replace("{t}", &format!("{service}.t"));
            answers.push(reference.agrees(&self.engine, &query).await);
        }
        answers
    }
}

/// A string as a SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as a quoted SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
