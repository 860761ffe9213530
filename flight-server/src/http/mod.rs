//! What operators ask over HTTP: whether the server lives and is ready, and how it fares.
//!
//! - `GET /healthz`: 200 while the process answers. Asks nobody.
//! - `GET /readyz`: 200 once it may be sent queries; 503 while it stops. A service that is down makes no server unready: the others are still there.
//! - `GET /metrics`: Prometheus's text format (`metrics`). It names services and views, so where the server has users it wants one.
//!
//! Refused: other methods, other paths, bodies. A request's head may take ten seconds and 16 KiB.

mod metrics;

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use headwater::Engine;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::debug;

use crate::Security;
use crate::auth::{Denied, Gate, Peer};
use crate::tls::{CONNECTIONS_MAX, Door, secured};

/// How long the head of a request may take to come, and a connection may wait for its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long connections may take to close once the server stops.
const CLOSE: Duration = Duration::from_secs(1);

type Answer = Response<Full<Bytes>>;

/// Answers on a listener until `shutdown` completes. Once `stopping` turns true it says that the server is not ready any more.
pub async fn serve(
    engine: Engine,
    listener: TcpListener,
    stopping: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()>,
    security: Security,
) {
    let (stop, stopped) = watch::channel(false);
    let mut connections = secured(listener, Door::Http, security.tls, CONNECTIONS_MAX);
    tokio::pin!(shutdown);
    loop {
        let next = tokio::select! {
            next = connections.next() => next,
            () = &mut shutdown => break,
        };
        let Some(Ok(connection)) = next else { break };
        let peer = connection.origin().peer(Door::Http);
        let (engine, gate, stopping) = (engine.clone(), security.gate.clone(), stopping.clone());
        let mut closed = stopped.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let (engine, gate, peer) = (engine.clone(), gate.clone(), peer.clone());
                let stopping = *stopping.borrow();
                async move { Ok::<_, Infallible>(answer(&request, &engine, &gate, &peer, stopping).await) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(connection), answer);
            tokio::pin!(serving);
            let served = tokio::select! {
                served = serving.as_mut() => served,
                () = until(&mut closed) => {
                    serving.as_mut().graceful_shutdown();
                    tokio::time::timeout(CLOSE, serving).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = served {
                debug!(%error, "an HTTP connection ended early");
            }
        });
    }
    stop.send_replace(true);
}

/// Completes when the server stops.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody can say so any more, which is the same.
    let _gone = stopped.wait_for(|stopped| *stopped).await;
}

async fn answer(request: &Request<Incoming>, engine: &Engine, gate: &Gate, peer: &Peer, stopping: bool) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        "/readyz" => text(StatusCode::OK, "ready\n"),
        "/metrics" => {
            let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            match gate.header(header, peer).await {
                Ok(principal) if engine.may_monitor(&principal.caller()) => metrics_of(engine).await,
                Ok(_) => text(StatusCode::FORBIDDEN, "a role with monitors: true in the access file is needed\n"),
                Err(denied) => refusal(denied),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n"),
    }
}

async fn metrics_of(engine: &Engine) -> Answer {
    let mut answer = text(StatusCode::OK, &metrics::text(&engine.metrics().await));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    answer
}

fn refusal(denied: Denied) -> Answer {
    let status = match denied {
        Denied::Missing | Denied::Wrong => StatusCode::UNAUTHORIZED,
        Denied::Wait(_) | Denied::Busy => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut answer = text(status, &format!("{denied}\n"));
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"headwater\""));
    }
    answer
}

fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
