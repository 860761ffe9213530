//! Headwater's server and command line.
//!
//! [`flight`] serves an engine over Arrow Flight SQL; a test or a benchmark starts it in its own process:
//!
//! ```no_run
//! # async fn example(engine: headwater::Engine) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let server = tokio::spawn(headwater_server::flight::serve(engine, listener, async {
//!     let _ = stopped.await;
//! }));
//! println!("ask grpc://{address}");
//! drop(stop);
//! server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! [`pg`] serves the same engine over the Postgres protocol and [`http`] says how it fares. What guards them is a [`Security`]: who may come in ([`auth`]), and
//! TLS ([`tls`]). [`cli`] is the `headwater` command: `demo`, `serve`, `sql`, `apply`, `check`, `feed` and `user`. Only this crate knows gRPC, HTTP, the
//! Postgres protocol and the terminal.

pub mod auth;
pub mod cli;
mod detached;
pub mod flight;
pub mod http;
pub mod pg;
mod security;
mod telemetry;
mod text;
pub mod tls;

pub use security::Security;
