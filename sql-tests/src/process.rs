//! The `headwater` command as a process of its own: started, asked over Flight SQL, and killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::{Stream, TryStreamExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::rows::Rows;
use crate::{logs, wait};

/// How long the command may take to listen, and to be gone.
const DEADLINE: Duration = Duration::from_secs(60);

/// The command, as the workspace's build left it beside the tests. Its log is kept ([`crate::logs`]).
pub fn headwater() -> PathBuf {
    let tests = std::env::current_exe().expect("the test has a path");
    let folder = tests.ancestors().nth(2).expect("tests stand below the folder of the build");
    let binary = folder.join("headwater");
    assert!(binary.is_file(), "{} is not there; build the workspace first: cargo build", binary.display());
    logs::kept(&binary)
}

/// `headwater serve`, which ends with this value at the latest.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    /// Starts it and waits until it listens. Its log goes to this process's stderr.
    pub async fn start(services: &Path, state: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(headwater())
            .args(["serve", "--flight-addr", "127.0.0.1:0", "--services"])
            .arg(services)
            .arg("--state")
            .arg(state)
            .args(arguments)
            .env("HEADWATER_LOG", "info")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("headwater starts");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.expect("its log is text") {
                eprintln!("{line}");
                if let Some((_, address)) = line.split_once("listening on grpc://") {
                    let address = address.split_whitespace().next().unwrap_or_default();
                    return address.parse().unwrap_or_else(|error| panic!("{address}: {error}"));
                }
            }
            panic!("headwater ended before it listened");
        };
        let address = wait::within("headwater listens", DEADLINE, listening).await;
        // A pipe that nobody reads would stop it.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
            }
        });
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of its own.
    pub async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        let channel = endpoint.connect().await.expect("it listens");
        Client(FlightSqlServiceClient::new(channel))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        wait::within("headwater is gone", DEADLINE, self.child.wait()).await.expect("it can be waited for");
    }
}

/// Asks over Flight SQL.
#[derive(Debug)]
pub struct Client(FlightSqlServiceClient<Channel>);

impl Client {
    /// The whole answer, or the error as a client reads it.
    pub async fn ask(&mut self, sql: &str) -> Result<Rows, String> {
        let info = self.0.execute(sql.to_owned(), None).await.map_err(|error| error.to_string())?;
        let mut schema: Option<SchemaRef> = info.clone().try_decode_schema().ok().map(Into::into);
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.ok_or("an endpoint without a ticket")?;
            let mut stream = self.0.do_get(ticket).await.map_err(|error| error.to_string())?;
            while let Some(batch) = stream.try_next().await.map_err(|error| error.to_string())? {
                schema = Some(batch.schema());
                batches.push(batch);
            }
        }
        Ok(Rows::of(&schema.ok_or("an answer without a schema")?, &batches))
    }

    /// An answer in batches, as they come; for those that have no end.
    pub async fn stream(
        &mut self,
        sql: &str,
    ) -> Result<impl Stream<Item = Result<RecordBatch, String>> + use<>, String> {
        let info = self.0.execute(sql.to_owned(), None).await.map_err(|error| error.to_string())?;
        let ticket =
            info.endpoint.into_iter().find_map(|endpoint| endpoint.ticket).ok_or("an answer without a ticket")?;
        let stream = self.0.do_get(ticket).await.map_err(|error| error.to_string())?;
        Ok(stream.map_err(|error| error.to_string()))
    }
}
