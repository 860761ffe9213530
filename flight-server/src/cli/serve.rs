//! `headwater serve`: every door that the command line opens, under one gate and one certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater::{ACCESS_FILE, AuditLog, Config, Engine, StateStore, ViewAction, ViewOptions};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use super::args::ServeArgs;
use super::failure::Failure;
use crate::auth::Gate;
use crate::telemetry::Telemetry;
use crate::tls::{Tls, TlsFiles};
use crate::{Security, flight, http, pg};

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let security = security(&args)?;
    let flight = listen("--flight-addr", &args.flight_addr, &security, args.insecure).await?;
    let pg = listen_where("--pg-addr", args.pg_addr.as_deref(), &security, args.insecure).await?;
    let http = listen_where("--http-addr", args.http_addr.as_deref(), &security, args.insecure).await?;
    let audit = audit(args.audit_log.as_deref(), &security)?;
    let telemetry = telemetry(args.otlp_endpoint.as_deref())?;
    let mut builder = Engine::builder();
    if let Some(telemetry) = &telemetry {
        builder = builder.observer(telemetry.observer());
    }
    if !security.gate.is_open() {
        builder = builder.deny_by_default();
        let file = args.services.join(ACCESS_FILE);
        if !file.exists() {
            warn!(file = %file.display(), "there are users and no access file: nobody may read anything");
        }
    }
    if let Some(log) = &audit {
        builder = builder.audit(Arc::clone(log));
    }
    let engine = builder
        .services_dir(&args.services)
        .view_files(&args.services)
        .connectors(headwater_connectors::all())
        .search_path(args.search_path)
        .limits(config(args.config.as_deref())?.limits)
        .connections_on(Handle::current())
        .views(ViewOptions {
            state: args.state.as_deref().map(StateStore::parse).transpose()?,
            checkpoint_interval: Duration::from_millis(args.checkpoint_interval_ms),
            ..ViewOptions::default()
        })
        .build()
        .await?;
    let state = engine.clone();
    let reloading = tokio::spawn(reload_views(engine.clone()));
    let services = engine.services().join(", ");
    let scheme = if security.tls.is_some() { "grpc+tls" } else { "grpc" };
    info!(services, "listening on {scheme}://{}", flight.address);
    if let Some(pg) = &pg {
        info!("listening on postgres://{}", pg.address);
    }
    if let Some(http) = &http {
        let scheme = if security.tls.is_some() { "https" } else { "http" };
        info!("listening on {scheme}://{}", http.address);
    }
    let watching = tokio::spawn(security.clone().watch_with(engine.clone(), audit));
    let result = doors(engine, flight, pg, http, security).await;
    watching.abort();
    reloading.abort();
    // What was applied since the last checkpoint need not be read again.
    if let Err(error) = state.checkpoint().await {
        warn!(error = error.report(), "views' state could not be stored");
    }
    if let Some(telemetry) = telemetry {
        telemetry.stop().await;
    }
    result?;
    info!("stopped");
    Ok(())
}

/// Serves at every door until the process is told to stop, or one of them fails.
async fn doors(
    engine: Engine,
    flight: Listening,
    pg: Option<Listening>,
    http: Option<Listening>,
    security: Security,
) -> Result<(), Failure> {
    let (stopping, stopped) = watch::channel(false);
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move {
            // An error says that nobody can say so any more, which is the same.
            let _gone = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let served_flight = async {
        let limits = flight::Limits::default();
        let served =
            flight::serve_secured(engine.clone(), flight.listener, until_stopped(), limits, security.clone()).await;
        // The others end with it, whatever ended it.
        stopping.send_replace(true);
        served.map_err(|error| Failure::failed(format!("the server failed: {}", with_causes(&error))))
    };
    let served_pg = async {
        let Some(pg) = pg else { return Ok(()) };
        let limits = pg::Limits::default();
        let served = pg::serve(engine.clone(), pg.listener, until_stopped(), limits, security.clone()).await;
        stopping.send_replace(true);
        served.map_err(|error| Failure::failed(format!("the server failed: {error}")))
    };
    let (ending, mut ended) = watch::channel(false);
    let served = async {
        let (flight, pg) = tokio::join!(served_flight, served_pg);
        ending.send_replace(true);
        flight.and(pg)
    };
    // It tells that the server stops for as long as the other doors need to.
    let served_http = async {
        let Some(http) = http else { return };
        let until_ended = async {
            let _gone = ended.wait_for(|ended| *ended).await;
        };
        http::serve(engine.clone(), http.listener, stopped.clone(), until_ended, security.clone()).await;
    };
    let told = async {
        tokio::select! {
            () = stop() => {}
            () = until_stopped() => {}
        }
        stopping.send_replace(true);
    };
    let (served, (), ()) = tokio::join!(served, served_http, told);
    served
}

/// Who may come in and under which certificate, as the command line says.
fn security(args: &ServeArgs) -> Result<Security, Failure> {
    let gate = match &args.users {
        None => Gate::open(),
        Some(file) => Gate::of_file(file).map_err(|faults| {
            for fault in &faults {
                eprintln!("error: {fault}");
            }
            Failure::Told
        })?,
    };
    let files = args.tls.tls_cert.clone().zip(args.tls.tls_key.clone());
    let files =
        files.map(|(certificate, key)| TlsFiles { certificate, key, client_authority: args.tls.tls_client_ca.clone() });
    let tls = files.map(Tls::open).transpose().map_err(Failure::failed)?;
    Ok(Security { gate, tls })
}

/// The audit log, where there is to be one: what the engine runs and whom the gate does not let in.
fn audit(file: Option<&Path>, security: &Security) -> Result<Option<Arc<AuditLog>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let log = AuditLog::open(file)
        .map_err(|error| Failure::failed(format!("--audit-log {} can't be opened: {error}", file.display())))?;
    security.gate.record_to(Arc::clone(&log));
    Ok(Some(log))
}

/// Where traces are sent, where they are.
fn telemetry(endpoint: Option<&str>) -> Result<Option<Telemetry>, Failure> {
    Telemetry::start(endpoint, &|name| std::env::var(name).ok()).map_err(|error| {
        let hint = "give --otlp-endpoint or OTEL_EXPORTER_OTLP_ENDPOINT as a url, for example http://127.0.0.1:4317";
        Failure::usage(format!("traces can't be sent: {error}"), hint)
    })
}

/// What the file of `--config` says, or else the defaults.
pub(super) fn config(file: Option<&Path>) -> Result<Config, Failure> {
    let read = file.map(|file| headwater::read_config(file, &|name| std::env::var(name).ok()));
    Ok(read.transpose().map_err(headwater::Error::Manifests)?.unwrap_or_default())
}

/// An address that is bound.
#[derive(Debug)]
struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

async fn listen_where(
    option: &str,
    address: Option<&str>,
    security: &Security,
    insecure: bool,
) -> Result<Option<Listening>, Failure> {
    match address {
        Some(address) => listen(option, address, security, insecure).await.map(Some),
        None => Ok(None),
    }
}

/// Binds an address. One that other machines can reach needs users and encryption, unless the user says otherwise.
async fn listen(option: &str, address: &str, security: &Security, insecure: bool) -> Result<Listening, Failure> {
    let hint = "give it as host:port, for example 127.0.0.1:50051";
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Failure::usage(format!("{option} \"{address}\" is no address: {error}"), hint))?
        .collect();
    let lacks = lacks(security);
    if let (Some(lacks), Some(open)) = (lacks, addresses.iter().find(|address| !address.ip().is_loopback())) {
        if !insecure {
            return Err(Failure::usage(
                format!("{option} {open} can be reached by other machines, and there is no {lacks}"),
                "give --users, --tls-cert and --tls-key, use a loopback address such as 127.0.0.1:50051, or add --insecure on a \
                 network that you trust",
            ));
        }
        warn!(address = %open, "other machines can reach the server, and there is no {lacks}");
    }
    let listener = TcpListener::bind(&*addresses).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::with_hint(
            format!("{address} is in use by another process"),
            format!("stop that process or choose another {option}; port 0 takes a free one"),
        ),
        _ => Failure::failed(format!("can't listen on {address}: {error}")),
    })?;
    let address =
        listener.local_addr().map_err(|error| Failure::failed(format!("the listener has no address: {error}")))?;
    Ok(Listening { listener, address })
}

/// What an address that others reach lacks.
fn lacks(security: &Security) -> Option<&'static str> {
    match (security.gate.is_open(), security.tls.is_none()) {
        (true, true) => Some("authentication and no encryption"),
        (true, false) => Some("authentication"),
        (false, true) => Some("encryption"),
        (false, false) => None,
    }
}

/// Reads the files of views again at each SIGHUP.
#[cfg(unix)]
async fn reload_views(engine: Engine) {
    let mut hangups = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            warn!(%error, "SIGHUP can't be listened for");
            return;
        }
    };
    while hangups.recv().await.is_some() {
        match engine.reload_views().await {
            Ok(plan) => {
                for step in plan.steps.iter().filter(|step| step.action != ViewAction::Unchanged) {
                    info!(view = step.view, action = %step.action, "views' files read again");
                }
            }
            Err(error) => error.report().lines().for_each(|fault| warn!(fault, "views' files are not applied")),
        }
    }
}

#[cfg(not(unix))]
async fn reload_views(_: Engine) {}

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

    async fn bind(address: &str, insecure: bool) -> Result<Listening, Failure> {
        listen("--flight-addr", address, &Security::default(), insecure).await
    }

    #[tokio::test]
    async fn address_that_others_reach_needs_insecure() {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let Err(Failure::Usage { message, hint }) = bind(address, false).await else {
                panic!("{address} was taken")
            };
            assert!(message.contains("no authentication"), "{message}");
            assert!(hint.contains("--insecure"), "{hint}");
        }
        assert!(bind("0.0.0.0:0", true).await.is_ok());
        assert!(bind("127.0.0.1:0", false).await.is_ok());
    }

    #[tokio::test]
    async fn port_in_use_is_named() {
        let taken = bind("127.0.0.1:0", false).await.unwrap();
        let address = taken.address.to_string();
        let Err(Failure::Failed { message, .. }) = bind(&address, false).await else {
            panic!("the port was taken twice")
        };
        assert_eq!(message, format!("{address} is in use by another process"));
    }

    #[tokio::test]
    async fn misspelled_address_is_a_usage_error() {
        assert!(matches!(bind("nowhere", false).await, Err(Failure::Usage { .. })));
    }
}
