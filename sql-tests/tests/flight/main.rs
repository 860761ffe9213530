//! Flight SQL over real services, through Arrow's own client and through a client that is not ours: ADBC from Python.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod access;
mod actions;
mod adbc;
mod arrow_client;
mod canary;
mod cancel;
mod clients;
mod documented;
mod doors;
mod endpoints;
mod fuzz;
mod limits;
mod matrix;
mod postgres;
mod security;
mod spilling;
mod staying_up;
mod traces;
mod views;

use std::time::Duration;

use headwater::Engine;
use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::wait;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What quoting gets wrong.
const HOSTILE: [&str; 6] = ["a'b", "a''b", "x\\", "\\') OR 1=1 -- ", "say \"hi\"", "\u{1F600}"];

/// A Flight SQL server in this process.
struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), headwater_server::flight::ServeError>>,
}

impl Server {
    async fn over(engine: Engine) -> Self {
        headwater_sql_tests::logs::begin();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let serving = tokio::spawn(headwater_server::flight::serve(engine, listener, stopped));
        Self { address, stop, serving }
    }

    async fn stop(self) {
        drop(self.stop);
        wait::within("the server stops", Duration::from_secs(30), self.serving).await.unwrap().unwrap();
    }
}

/// The hostile texts in `t` of every store, and a table of 100,000 rows in Postgres.
async fn everywhere() -> Everywhere {
    let texts: Vec<Option<&str>> = HOSTILE.iter().map(|text| Some(*text)).chain([None]).collect();
    let everywhere = Everywhere::with_texts(&texts).await;
    let statement = "CREATE TABLE many AS SELECT i::bigint AS id, 'row ' || i AS name, (i * 1.25)::numeric(12,2) AS price, \
        timestamptz '2024-01-01 00:00:00+00' + i * interval '1 second' AS at FROM generate_series(1, 100000) i; \
        ALTER TABLE many ADD PRIMARY KEY (id); COMMENT ON TABLE many IS 'many rows'";
    everywhere.postgres.execute(statement).await;
    everywhere
}
