//! A TCP proxy before a server: a network that can be cut and mended, under an address that stays.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to a server, until it is cut.
#[derive(Debug)]
pub struct Proxy {
    server: String,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    accepting: JoinHandle<()>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// A proxy on a free port of the loopback to the server that a URL names. It forwards at once.
    pub async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = host_and_port(url).to_owned();
        let running = Mutex::new(Some(forward(listener, server.clone())));
        Self { server, address, running }
    }

    /// The URL with the proxy's address in place of the server's.
    pub fn url(&self, url: &str) -> String {
        url.replace(host_and_port(url), &self.address.to_string())
    }

    /// Ends every connection and refuses new ones.
    pub fn cut(&self) {
        if let Some(running) = self.running.lock().take() {
            running.accepting.abort();
            running.connections.lock().abort_all();
        }
    }

    /// Takes connections again, under the same address.
    pub async fn mend(&self) {
        self.cut();
        let listener = rebind(self.address).await;
        *self.running.lock() = Some(forward(listener, self.server.clone()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// The aborted task drops the old listener only when the runtime gets to it.
async fn rebind(address: SocketAddr) -> TcpListener {
    let mut last = None;
    for _ in 0..500 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the proxy's port {address} is not free again: {last:?}");
}

fn forward(listener: TcpListener, server: String) -> Running {
    let connections = Arc::new(Mutex::new(JoinSet::new()));
    let accepted = Arc::clone(&connections);
    let accepting = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            accepted.lock().spawn(async move {
                if let Ok(mut server) = TcpStream::connect(server).await {
                    // An end by either side is how connections end.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Running { accepting, connections }
}

fn host_and_port(url: &str) -> &str {
    let after_user = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    after_user.split('/').next().unwrap_or(after_user)
}
