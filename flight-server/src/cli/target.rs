//! Who answers the statements of `headwater sql`: an engine in this process, or a server.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightInfo, HandshakeRequest, IpcMessage, Ticket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater::{Engine, RemoteLog, Session};
use parking_lot::Mutex;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::args::{ConnectArgs, TargetArgs};
use super::failure::Failure;
use super::serve::{config, with_causes};
use crate::detached::{FAREWELL, Queries};
use crate::flight::session::new_cookie;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who answers.
pub(super) enum Target {
    Embedded { engine: Engine, session: Session, queries: Mutex<Queries> },
    Remote(FlightSqlServiceClient<Channel>),
}

/// A statement that runs. Dropping it cancels it.
pub(super) struct Running {
    pub(super) schema: SchemaRef,
    pub(super) batches: Pin<Box<dyn Stream<Item = Result<RecordBatch, Failure>> + Send>>,
    /// What goes to the sources; only an engine in this process tells.
    pub(super) log: Option<RemoteLog>,
}

/// A table, for completion and `\d`.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) kind: String,
    /// None where the source can't be reached.
    pub(super) schema: Option<SchemaRef>,
}

impl Target {
    /// Opens the directory or connects to the server.
    pub(super) async fn open(
        args: &TargetArgs,
        access: &ConnectArgs,
        search_path: &[String],
        file: Option<&Path>,
    ) -> Result<Self, Failure> {
        match (&args.services, &args.connect) {
            (Some(dir), _) => {
                if let Some(option) = access.given() {
                    return Err(Failure::usage(
                        format!("{option} is for a server, and --services reads the services itself"),
                        "leave it out, or give --connect in the place of --services",
                    ));
                }
                let engine = Engine::builder()
                    .services_dir(dir)
                    .connectors(headwater_connectors::all())
                    .search_path(search_path.iter().cloned())
                    .limits(config(file)?.limits)
                    .build()
                    .await?;
                let queries = threads()?;
                Ok(Self::Embedded { session: engine.session(), engine, queries: Mutex::new(queries) })
            }
            (None, Some(url)) => {
                let target = Self::Remote(connect(url, access).await?);
                if !search_path.is_empty() {
                    target.set_search_path(search_path).await?;
                }
                Ok(target)
            }
            (None, None) => Err(Failure::usage("nobody to ask", "give --services DIR or --connect grpc://host:port")),
        }
    }

    /// Plans a statement and begins to run it.
    pub(super) async fn run(&self, text: &str) -> Result<Running, Failure> {
        match self {
            Self::Embedded { session, queries, .. } => {
                let answer = session.sql(text).await?;
                let (schema, log) = (answer.stamped_schema(), answer.remote_statements());
                let batches = queries.lock().threads().run(answer, Failure::from)?;
                Ok(Running { schema, batches: Box::pin(batches), log: Some(log) })
            }
            Self::Remote(client) => {
                let mut client = client.clone();
                let info = client.execute(text.to_owned(), None).await.map_err(from_server)?;
                let schema = info.clone().try_decode_schema().map_err(|error| unreadable(&error))?;
                let batches = fetch(client, tickets(info)?).map_err(from_server);
                Ok(Running { schema: Arc::new(schema), batches: Box::pin(batches), log: None })
            }
        }
    }

    /// Gives up the threads of a cancelled statement, which may compute on them for long before it pauses.
    pub(super) fn leave_behind(&self) -> Result<(), Failure> {
        if let Self::Embedded { queries, .. } = self {
            let left = std::mem::replace(&mut *queries.lock(), threads()?);
            left.end_later();
        }
        Ok(())
    }

    /// Ends once the statements that were left early have told their sources so and let go of what they held, or have had their time for that.
    pub(super) async fn settle(self, result: &Result<(), Failure>) {
        match self {
            Self::Embedded { queries, .. } => queries.into_inner().settle().await,
            // The request that cancels is on its way.
            Self::Remote(_) if matches!(result, Err(Failure::Cancelled | Failure::OutputClosed)) => {
                tokio::time::sleep(FAREWELL).await;
            }
            Self::Remote(_) => {}
        }
    }

    /// Every table, with its columns.
    pub(super) async fn relations(&self) -> Result<Vec<Relation>, Failure> {
        match self {
            Self::Embedded { engine, .. } => {
                let tables = engine.catalog().await.into_iter().map(|table| Relation {
                    service: table.service,
                    name: table.name,
                    kind: table.kind.to_owned(),
                    schema: table.schema,
                });
                Ok(tables.collect())
            }
            Self::Remote(client) => {
                let mut client = client.clone();
                let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
                let info = client.get_tables(command).await.map_err(from_server)?;
                let batches: Vec<RecordBatch> =
                    fetch(client, tickets(info)?).map_err(from_server).try_collect().await?;
                batches.iter().map(relations_of).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
            }
        }
    }

    async fn set_search_path(&self, names: &[String]) -> Result<(), Failure> {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let running = self.run(&format!("SET search_path = {}", quoted.join(", "))).await?;
        running.batches.try_collect::<Vec<_>>().await.map(|_| ())
    }
}

fn threads() -> Result<Queries, Failure> {
    Queries::start().map_err(|error| Failure::failed(format!("the threads for queries can't be started: {error}")))
}

/// The environment variable that holds the password of `--user`.
const PASSWORD_VARIABLE: &str = "HEADWATER_PASSWORD";

/// The environment variable that holds a token.
const TOKEN_VARIABLE: &str = "HEADWATER_TOKEN";

async fn connect(url: &str, access: &ConnectArgs) -> Result<FlightSqlServiceClient<Channel>, Failure> {
    let hint = "give it as grpc://host:port or grpc+tls://host:port, for example grpc://127.0.0.1:50051";
    let (scheme, address) = match url.split_once("://") {
        Some(("grpc" | "grpc+tcp" | "http", address)) => ("http", address),
        Some(("grpc+tls" | "grpcs" | "https", address)) => ("https", address),
        Some((scheme, _)) => {
            return Err(Failure::usage(format!("--connect does not know the scheme \"{scheme}\""), hint));
        }
        None => ("http", url),
    };
    if address.contains('@') {
        return Err(Failure::usage("--connect takes no user or password", "give --user and HEADWATER_PASSWORD"));
    }
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| Failure::usage(format!("--connect {url} is no address: {error}"), hint))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    if scheme == "https" {
        let config = tls(access)?;
        endpoint = endpoint
            .tls_config(config)
            .map_err(|error| Failure::failed(format!("TLS can't be set up: {}", with_causes(&error))))?;
    }
    let channel = endpoint.connect().await.map_err(|error| {
        Failure::with_hint(
            format!("no server answers at {url}: {}", with_causes(&error)),
            "start one with: headwater serve --services DIR",
        )
    })?;
    // One wide row is one message, however wide.
    let mut client = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let token = token(&mut client, access).await?;
    let mut client = FlightSqlServiceClient::new_from_inner(client);
    client.set_header("cookie", new_cookie());
    if let Some(token) = token {
        client.set_token(token);
    }
    Ok(client)
}

/// What TLS is checked by.
fn tls(access: &ConnectArgs) -> Result<ClientTlsConfig, Failure> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|error| Failure::failed(format!("{} can't be read: {error}", file.display())))
    };
    let config = match &access.tls_ca {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match access.tls_cert.as_ref().zip(access.tls_key.as_ref()) {
        Some((certificate, key)) => Ok(config.identity(Identity::from_pem(read(certificate)?, read(key)?))),
        None => Ok(config),
    }
}

/// What stands for who asks: the token of the environment, or the one that a user's password is exchanged for.
async fn token(client: &mut FlightServiceClient<Channel>, access: &ConnectArgs) -> Result<Option<String>, Failure> {
    let Some(user) = &access.user else { return Ok(std::env::var(TOKEN_VARIABLE).ok()) };
    let password = std::env::var(PASSWORD_VARIABLE).map_err(|_| {
        Failure::usage(format!("--user {user} needs a password"), format!("set {PASSWORD_VARIABLE} in the environment"))
    })?;
    let header = MetadataValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        .map_err(|_| Failure::failed("the user and password can't be sent"))?;
    let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
    request.metadata_mut().insert("authorization", header);
    let answer = client.handshake(request).await.map_err(|status| Failure::failed(status.message()))?;
    let token = answer.metadata().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| Failure::failed("the server answered the login without a token"))?;
    Ok(Some(token.to_owned()))
}

fn tickets(info: FlightInfo) -> Result<Vec<Ticket>, Failure> {
    info.endpoint
        .into_iter()
        .map(|endpoint| endpoint.ticket.ok_or_else(|| Failure::failed("the server gave an endpoint without a ticket")))
        .collect()
}

/// The batches of all tickets, one ticket after the other.
fn fetch(
    client: FlightSqlServiceClient<Channel>,
    tickets: Vec<Ticket>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    futures::stream::iter(tickets)
        .then(move |ticket| {
            let mut client = client.clone();
            async move { client.do_get(ticket).await }
        })
        .try_flatten()
        .boxed()
}

fn relations_of(batch: &RecordBatch) -> Result<Vec<Relation>, Failure> {
    let text = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| Failure::failed(format!("the server's list of tables lacks {name}")))
    };
    let (services, names, kinds) = (text("db_schema_name")?, text("table_name")?, text("table_type")?);
    let schemas = batch.column_by_name("table_schema").and_then(|column| column.as_binary_opt::<i32>());
    let relation = |row| {
        let schema = schemas.map(|schemas| IpcMessage(schemas.value(row).to_vec().into()));
        let schema = schema.map(Schema::try_from).transpose().map_err(|error| unreadable(&error))?;
        Ok(Relation {
            service: services.value(row).to_owned(),
            name: names.value(row).to_owned(),
            kind: kinds.value(row).to_owned(),
            schema: schema.filter(|schema| !schema.fields().is_empty()).map(Arc::new),
        })
    };
    (0..names.len()).map(relation).collect()
}

fn unreadable(error: &dyn std::error::Error) -> Failure {
    Failure::failed(format!("the server's answer can't be read: {}", with_causes(error)))
}

fn from_server(error: FlightError) -> Failure {
    match error {
        FlightError::Tonic(status) => Failure::failed(status.message()),
        other => unreadable(&other),
    }
}
