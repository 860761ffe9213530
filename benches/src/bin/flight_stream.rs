//! Streaming over Flight: Headwater's server beside a plain arrow-flight server that sends the same batches, each without and with TLS.
//!
//! `cargo run --release -p headwater-benches --bin flight_stream`
//!
//! Both serve one table in memory to the same arrow-flight client over loopback; Headwater plans a `SELECT *` for it, the peer
//! only encodes. What is measured is therefore what the engine and its Flight SQL service cost on top of the encoding.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightClient, Ticket};
use datafusion::datasource::MemTable;
use futures::StreamExt;
use headwater::Engine;
use headwater_benches::{Median, Moved, plain_flight, side_by_side};
use headwater_server::tls::{Tls, TlsFiles};
use headwater_server::{Security, flight};
use headwater_sql_tests::certificates::Certificates;
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const BATCHES: usize = 256;
const BATCH_ROWS: usize = 8192;

/// Whether connections are encrypted.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Plain,
    Encrypted(&'a Certificates),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let batches: Vec<RecordBatch> = (0..BATCHES).map(batch).collect();
    let certificates = Certificates::new();
    println!("| server | rows | rows/s | MB/s (Arrow) | of the plain server |");
    println!("|---|---:|---:|---:|---:|");
    for (wire, suffix) in [(Wire::Plain, ""), (Wire::Encrypted(&certificates), ", TLS")] {
        let ours = start_headwater(batches.clone(), wire).await?;
        let peer = connected(plain_flight::start(batches.clone(), wire.identity()?).await, wire).await?;
        let (ours, peer) = side_by_side(async || read_sql(&ours).await, async || read_plain(&peer).await).await;
        row(&format!("headwater{suffix}"), &ours, &peer);
        row(&format!("plain arrow-flight{suffix}"), &peer, &peer);
    }
    Ok(())
}

fn row(name: &str, median: &Median, peer: &Median) {
    println!(
        "| {name} | {} | {:.0} | {:.0} | {:.0} % |",
        median.moved.rows,
        median.rows_per_second(),
        median.megabytes_per_second(),
        100.0 * median.rows_per_second() / peer.rows_per_second()
    );
}

/// A batch of the types that a table of orders has: 8,192 rows, about 0.4 MB.
fn batch(number: usize) -> RecordBatch {
    let ids = (0..BATCH_ROWS).map(|row| (number * BATCH_ROWS + row) as i64);
    let keys: Int64Array = ids.clone().collect();
    let amounts: Float64Array = ids.clone().map(|id| id as f64 * 0.37).collect();
    let times = ids.clone().map(|id| 1_700_000_000_000_000 + id * 1_000_003);
    let times = TimestampMicrosecondArray::from_iter_values(times);
    let notes: StringArray = ids.map(|id| Some(format!("order {id} of customer {}", id % 997))).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(keys) as _),
        ("amount", Arc::new(amounts) as _),
        ("placed_at", Arc::new(times) as _),
        ("note", Arc::new(notes) as _),
    ])
    .expect("columns of one length")
}

async fn start_headwater(batches: Vec<RecordBatch>, wire: Wire<'_>) -> Result<Channel, Box<dyn Error>> {
    let engine = Engine::builder().build().await?;
    // One partition, as the peer has: the order of batches is then the same.
    let table = MemTable::try_new(batches[0].schema(), vec![batches])?;
    engine.register_table("bench", "orders", Arc::new(table))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let security = Security { tls: wire.server()?, ..Security::default() };
    let for_ever = std::future::pending::<()>();
    tokio::spawn(flight::serve_secured(engine, listener, for_ever, flight::Limits::default(), security));
    connected(address, wire).await
}

async fn connected(address: SocketAddr, wire: Wire<'_>) -> Result<Channel, Box<dyn Error>> {
    let endpoint = match wire {
        Wire::Plain => Endpoint::from_shared(format!("http://{address}"))?,
        Wire::Encrypted(certificates) => {
            let authority = Certificate::from_pem(std::fs::read(certificates.authority())?);
            let tls = ClientTlsConfig::new().ca_certificate(authority).domain_name("localhost");
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        }
    };
    Ok(endpoint.connect().await?)
}

impl Wire<'_> {
    /// The certificate of Headwater's server.
    fn server(self) -> Result<Option<Arc<Tls>>, Box<dyn Error>> {
        let Self::Encrypted(certificates) = self else { return Ok(None) };
        let server = certificates.server("headwater");
        let files = TlsFiles { certificate: server.certificate, key: server.key, client_authority: None };
        Ok(Some(Tls::open(files)?))
    }

    /// That of the plain one.
    fn identity(self) -> Result<Option<Identity>, Box<dyn Error>> {
        let Self::Encrypted(certificates) = self else { return Ok(None) };
        let server = certificates.server("plain");
        Ok(Some(Identity::from_pem(std::fs::read(server.certificate)?, std::fs::read(server.key)?)))
    }
}

async fn read_sql(channel: &Channel) -> Moved {
    let mut client = FlightSqlServiceClient::new(channel.clone());
    let info = client.execute("SELECT * FROM bench.orders".to_owned(), None).await.expect("the query is planned");
    let mut moved = Moved::default();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.expect("an endpoint has a ticket");
        let batches = client.do_get(ticket).await.expect("the stream opens");
        add(&mut moved, batches).await;
    }
    moved
}

async fn read_plain(channel: &Channel) -> Moved {
    let mut moved = Moved::default();
    let batches = FlightClient::new(channel.clone()).do_get(Ticket::default()).await.expect("the stream opens");
    add(&mut moved, batches).await;
    moved
}

async fn add<E: std::fmt::Debug>(
    moved: &mut Moved,
    mut batches: impl futures::Stream<Item = Result<RecordBatch, E>> + Unpin,
) {
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("a batch arrives");
        moved.rows += batch.num_rows() as u64;
        moved.bytes += batch.get_array_memory_size() as u64;
    }
}
