//! `headwater serve`: the Flight SQL server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use headwater::{Config, Engine, ViewOptions};
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::args::ServeArgs;
use super::failure::Failure;
use crate::flight;

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let listener = listen(&args.flight_addr, args.insecure).await?;
    let address =
        listener.local_addr().map_err(|error| Failure::failed(format!("the listener has no address: {error}")))?;
    let engine = Engine::builder()
        .services_dir(&args.services)
        .connectors(headwater_connectors::all())
        .search_path(args.search_path)
        .limits(config(args.config.as_deref())?.limits)
        .views(ViewOptions {
            state_directory: args.state,
            checkpoint_interval: Duration::from_millis(args.checkpoint_interval_ms),
            ..ViewOptions::default()
        })
        .build()
        .await?;
    let state = engine.clone();
    let services = engine.services().join(", ");
    if !address.ip().is_loopback() {
        warn!(%address, "other machines can read every service: there is no authentication yet");
    }
    info!(services, "listening on grpc://{address}");
    flight::serve(engine, listener, stop())
        .await
        .map_err(|error| Failure::failed(format!("the server failed: {}", with_causes(&error))))?;
    // What was applied since the last checkpoint need not be read again.
    if let Err(error) = state.checkpoint().await {
        warn!(error = error.report(), "views' state could not be stored");
    }
    info!("stopped");
    Ok(())
}

/// What the file of `--config` says, or else the defaults.
pub(super) fn config(file: Option<&Path>) -> Result<Config, Failure> {
    let read = file.map(|file| headwater::read_config(file, &|name| std::env::var(name).ok()));
    Ok(read.transpose().map_err(headwater::Error::Manifests)?.unwrap_or_default())
}

/// Binds the address, which must be loopback unless the user says otherwise.
async fn listen(address: &str, insecure: bool) -> Result<TcpListener, Failure> {
    let hint = "give it as host:port, for example 127.0.0.1:50051";
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Failure::usage(format!("--flight-addr \"{address}\" is no address: {error}"), hint))?
        .collect();
    if !insecure && let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(Failure::usage(
            format!("--flight-addr {open} can be reached by other machines, and there is no authentication yet"),
            "use a loopback address such as 127.0.0.1:50051, or add --insecure on a network that you trust",
        ));
    }
    TcpListener::bind(&*addresses).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::with_hint(
            format!("{address} is in use by another process"),
            "stop that process or choose another --flight-addr; port 0 takes a free one",
        ),
        _ => Failure::failed(format!("can't listen on {address}: {error}")),
    })
}

/// Completes on SIGINT or SIGTERM.
async fn stop() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            warn!(%error, "Ctrl-C can't be listened for");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            warn!(%error, "SIGTERM can't be listened for");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}

/// An error and its causes on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn address_that_others_reach_needs_insecure() {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let Err(Failure::Usage { message, hint }) = listen(address, false).await else {
                panic!("{address} was taken")
            };
            assert!(message.contains("no authentication"), "{message}");
            assert!(hint.contains("--insecure"), "{hint}");
        }
        assert!(listen("0.0.0.0:0", true).await.is_ok());
        assert!(listen("127.0.0.1:0", false).await.is_ok());
    }

    #[tokio::test]
    async fn port_in_use_is_named() {
        let taken = listen("127.0.0.1:0", false).await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let Err(Failure::Failed { message, .. }) = listen(&address, false).await else {
            panic!("the port was taken twice")
        };
        assert_eq!(message, format!("{address} is in use by another process"));
    }

    #[tokio::test]
    async fn misspelled_address_is_a_usage_error() {
        assert!(matches!(listen("nowhere", false).await, Err(Failure::Usage { .. })));
    }
}
