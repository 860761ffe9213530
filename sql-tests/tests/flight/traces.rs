//! What a collector of OpenTelemetry gets of the command's queries.
//!
//! The collector is in this process and speaks OTLP by its own definition of the protocol; the command is a process of its own, told of it by `--otlp-endpoint`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::process::headwater;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::arrow_client::connect;
use crate::canary::{Log, address};

const DEADLINE: Duration = Duration::from_secs(60);

/// What stands in a query.
const LITERAL: &str = "canary-literal-51d0";

/// Keeps what it gets.
#[derive(Debug, Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.got.lock().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts it: the url at which it is.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(
            async move { Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming)).await },
        );
        (collector, url)
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock();
        let scopes = got.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The spans of statements that are no part of another, as soon as there are so many.
    async fn statements(&self, count: usize) -> Vec<Span> {
        let whole = |collector: &Self| {
            let spans = collector.spans();
            spans.into_iter().filter(|span| span.kind == SpanKind::Server as i32).collect::<Vec<_>>()
        };
        wait::until("the collector gets the spans", DEADLINE, async || whole(self).len() >= count).await;
        whole(self)
    }

    /// Everything that it got, as bytes.
    fn bytes(&self) -> Vec<u8> {
        self.got.lock().iter().flat_map(Message::encode_to_vec).collect()
    }

    fn beneath(&self, parent: &Span) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    }
}

/// An attribute as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// `headwater serve`.
struct Serving {
    child: Child,
    log: Log,
}

impl Serving {
    fn start(services: &Services, endpoint: &str) -> Self {
        let mut child = Command::new(headwater())
            .args(["serve", "--flight-addr", "127.0.0.1:0", "--pg-addr", "127.0.0.1:0", "--otlp-endpoint", endpoint])
            .arg("--services")
            .arg(services.manifests())
            .env("HEADWATER_LOG", "info")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_SERVICE_NAME", "shop-queries")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (log, mut lines) = (Log::default(), BufReader::new(child.stderr.take().unwrap()).lines());
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
                kept.lock().await.push(line);
            }
        });
        Self { child, log }
    }

    /// Asks over Flight, with a header where there is one: how many rows the answer has.
    async fn ask(&self, sql: &str, traceparent: Option<&str>) -> Result<usize, String> {
        let mut client = connect(&address(&self.log, "grpc").await.parse().unwrap()).await;
        if let Some(parent) = traceparent {
            client.set_header("traceparent", parent);
        }
        let info = client.execute(sql.to_owned(), None).await.map_err(|error| error.to_string())?;
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let rows = client.do_get(ticket).await.map_err(|error| error.to_string())?;
        let batches: Vec<_> = rows.try_collect().await.map_err(|error| error.to_string())?;
        Ok(batches.iter().map(|batch| batch.num_rows()).sum())
    }

    async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let status = wait::within("the server stops", DEADLINE, self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}

struct Shop {
    _postgres: PostgresDatabase,
    _mysql: MysqlDatabase,
    services: Services,
}

/// Customers in Postgres and their orders in MariaDB.
async fn shop() -> Shop {
    let customers = format!(
        "CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL);
         INSERT INTO customers VALUES (1, '{LITERAL}'), (2, 'bob'), (3, 'eve'); ANALYZE customers"
    );
    let postgres = PostgresDatabase::with(&customers).await;
    let mysql = MysqlDatabase::with(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL, total BIGINT NOT NULL);
         INSERT INTO orders SELECT seq, seq % 3 + 1, seq FROM seq_1_to_30; ANALYZE TABLE orders",
    )
    .await;
    let services = Services::new().with_postgres("customers", &postgres.url()).with_mysql("orders", &mysql.url());
    Shop { _postgres: postgres, _mysql: mysql, services }
}

#[tokio::test(flavor = "multi_thread")]
async fn join_over_two_services_is_one_trace_with_a_span_for_each_remote_statement() {
    let shop = shop().await;
    let (collector, url) = Collector::start().await;
    let serving = Serving::start(&shop.services, &url);
    let join = format!(
        "SELECT c.name, o.total FROM customers.customers c JOIN orders.orders o ON o.customer = c.id WHERE c.name = '{LITERAL}'"
    );
    assert_eq!(serving.ask(&join, None).await, Ok(10));
    let statements = collector.statements(1).await;
    let [whole] = &statements[..] else { panic!("{statements:?}") };
    assert!(whole.parent_span_id.is_empty() && whole.name == "query", "{whole:?}");
    let of_whole = |key| attribute(whole, key).unwrap_or_else(|| panic!("{key} is missing: {whole:?}"));
    assert_eq!(
        ["headwater.door", "headwater.outcome", "headwater.remote_statements", "db.response.returned_rows"]
            .map(of_whole),
        ["flight", "complete", "2", "10"]
    );
    assert!(of_whole("headwater.query_id").parse::<u64>().unwrap() > 0);
    let mut steps = collector.beneath(whole);
    steps.sort_by(|one, other| one.name.cmp(&other.name));
    let [execution, planning] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!([&execution.name, &planning.name], ["execution", "planning"]);
    let mut remote = collector.beneath(execution);
    remote.sort_by_key(|span| attribute(span, "headwater.service"));
    let [customers, orders] = &remote[..] else { panic!("{remote:?}") };
    for (span, service, system, rows) in
        [(customers, "customers", "postgresql", "1"), (orders, "orders", "mysql", "10")]
    {
        let keys = ["headwater.service", "db.system.name", "db.response.returned_rows", "headwater.outcome"];
        let told = keys.map(|key| attribute(span, key).unwrap());
        assert_eq!(told, [service, system, rows, "complete"], "{span:?}");
        assert!(attribute(span, "db.query.text").unwrap().starts_with("SELECT "), "{span:?}");
        assert!(attribute(span, "server.address").is_some() && attribute(span, "server.port").is_some(), "{span:?}");
        assert!(attribute(span, "headwater.bytes").unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!((span.kind, &span.trace_id), (SpanKind::Client as i32, &whole.trace_id));
        assert!(
            whole.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= whole.end_time_unix_nano + 1_000_000
        );
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    }
    assert!(attribute(customers, "db.query.text").unwrap().contains("$1"), "{customers:?}");
    // What fails has a span too, at the source and before there is one.
    assert!(serving.ask("SELECT 1 / (total - 5) FROM orders.orders", None).await.is_err());
    assert!(serving.ask(&format!("SELECT \"{LITERAL}\" FROM orders.orders"), None).await.is_err());
    let failed = collector.statements(3).await;
    for span in &failed[1..] {
        assert_eq!(attribute(span, "headwater.outcome").as_deref(), Some("failed"), "{span:?}");
        assert!(attribute(span, "error.type").is_some() && span.status.is_some(), "{span:?}");
    }
    serving.stop().await;
    let bytes = collector.bytes();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("shop-queries") && holds("service.instance.id"), "the resource says who sends");
    for secret in [LITERAL, "headwater:headwater", "mysql://", "postgres://"] {
        assert!(!holds(secret), "{secret} is in what was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_the_client_is_gone_on_with_and_one_that_it_does_not_record_is_not_sent() {
    let shop = shop().await;
    let (collector, url) = Collector::start().await;
    let serving = Serving::start(&shop.services, &url);
    let parent = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    serving.ask("SELECT count(*) FROM orders.orders", Some(&parent("00"))).await.unwrap();
    serving.ask("SELECT count(*) FROM customers.customers", Some(&parent("01"))).await.unwrap();
    let pg = format!("postgres://ada@{}/headwater", address(&serving.log, "postgres").await);
    let (client, connection) = tokio_postgres::connect(&pg, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let commented = format!("SELECT count(*) FROM orders.orders /*traceparent='{}'*/", parent("01"));
    client.query(&commented, &[]).await.unwrap();
    client.query("SELECT count(*) FROM orders.orders", &[]).await.unwrap();
    let statements = collector.statements(3).await;
    let (mut gone_on, mut own): (Vec<&Span>, Vec<&Span>) =
        statements.iter().partition(|span| !span.parent_span_id.is_empty());
    gone_on.sort_by_key(|span| attribute(span, "headwater.door"));
    let [flight, postgres] = gone_on[..] else { panic!("{statements:?}") };
    for (span, door) in [(flight, "flight"), (postgres, "postgres")] {
        assert_eq!(attribute(span, "headwater.door").as_deref(), Some(door));
        assert_eq!(span.trace_id, 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes());
        assert_eq!(span.parent_span_id, 0xb7ad6b7169203331_u64.to_be_bytes());
        let execution = collector.beneath(span).into_iter().find(|step| step.name == "execution").unwrap();
        assert_eq!(collector.beneath(&execution).len(), 1, "each asks its source once");
    }
    let own = own.pop().unwrap();
    assert_ne!(own.trace_id, flight.trace_id);
    serving.stop().await;
    assert_eq!(collector.statements(3).await.len(), 3, "what the client does not record is not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_that_is_away_stops_no_query_and_is_warned_of_once() {
    let shop = shop().await;
    // A port that nobody listens at.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let serving = Serving::start(&shop.services, &format!("http://{closed}"));
    let log = Arc::clone(&serving.log);
    let warned = async || log.lock().await.iter().filter(|line| line.contains("traces were not sent")).count();
    for _ in 0..3 {
        assert_eq!(serving.ask("SELECT count(*) FROM orders.orders", None).await, Ok(1));
    }
    wait::until("the log warns", DEADLINE, async || warned().await > 0).await;
    for _ in 0..3 {
        assert_eq!(serving.ask("SELECT count(*) FROM orders.orders", None).await, Ok(1));
    }
    serving.stop().await;
    assert_eq!(warned().await, 1);
}
