//! Connections: a bounded pool, and the lease under which one is used.
//!
//! A [`Lease`] that is not [finished](Lease::finish) cancels what runs on its connection and throws the connection away: a
//! cancel request names a connection and not a statement, so a connection that one may still hit is never used again. The slot of
//! the pool stays taken until the request was sent, so the bound holds at the server too.

use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
    Timeouts,
};
use futures::FutureExt;
use headwater_source::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Settings;
use super::error::Place;
use super::tls::Attempt;

/// What every connection is set to. Text forms that are read must not depend on the role's settings; operators and types are
/// only looked for where the system has them, so that nobody's schema can put its own in their place.
const SESSION: &str = "SET search_path = pg_catalog, pg_temp; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
     SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET quote_all_identifiers = off; \
     SET standard_conforming_strings = on; \
     SET default_transaction_read_only = on";

/// A connection that was idle for so long is checked before it is used.
const REST: Duration = Duration::from_secs(30);

/// What starts every scan.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";

/// The connections of one source. Made without I/O; the first lease reads certificates and opens the pool.
pub(super) struct Connections {
    settings: Settings,
    pub(super) place: Place,
    opened: Mutex<Option<Opened>>,
}

#[derive(Clone)]
struct Opened {
    pool: Pool,
    tls: MakeRustlsConnect,
}

/// A connection in use. Invariant: `client` is there until the lease ends.
pub(super) struct Lease {
    client: Option<Object>,
    token: CancelToken,
    tls: MakeRustlsConnect,
    patience: Duration,
    runtime: Handle,
}

impl Connections {
    pub(super) fn new(settings: Settings, place: Place) -> Self {
        Self { settings, place, opened: Mutex::new(None) }
    }

    /// How many there may be at a time.
    pub(super) fn most(&self) -> usize {
        self.settings.pool_size
    }

    /// A connection, waiting for one where all are in use.
    pub(super) async fn lease(&self) -> Result<Lease> {
        let Opened { pool, tls } = self.opened()?;
        let client = pool.get().await.map_err(|error| self.not_leased(error))?;
        let token = client.cancel_token();
        let patience = self.settings.connect_timeout;
        Ok(Lease { client: Some(client), token, tls, patience, runtime: Handle::current() })
    }

    fn opened(&self) -> Result<Opened> {
        let mut opened = self.opened.lock();
        if let Some(opened) = opened.as_ref() {
            return Ok(opened.clone());
        }
        let fresh = self.open()?;
        *opened = Some(fresh.clone());
        Ok(fresh)
    }

    fn open(&self) -> Result<Opened> {
        let attempts = self.settings.tls.attempts()?;
        let tls = attempts.first().map(|attempt| attempt.tls.clone());
        let tls = tls.ok_or_else(|| Error::config("there is no way to connect"))?;
        let statement_timeout = self.settings.statement_timeout.map(|limit| limit.as_millis());
        let session = match statement_timeout {
            Some(limit_ms) => format!("{SESSION}; SET statement_timeout = {limit_ms}"),
            None => SESSION.to_owned(),
        };
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.settings.postgres.clone(), Connecting { attempts, session }, config);
        let timeouts = Timeouts {
            wait: Some(self.settings.pool_wait),
            create: Some(self.settings.connect_timeout),
            recycle: Some(self.settings.connect_timeout),
        };
        let pool = Pool::builder(manager)
            .max_size(self.settings.pool_size)
            .timeouts(timeouts)
            .pre_recycle(checked_after_rest(self.settings.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::config(format!("the connection pool cannot be made: {error}")))?;
        Ok(Opened { pool, tls })
    }

    fn not_leased(&self, error: PoolError) -> Error {
        let place = &self.place;
        match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                place.timeout("waiting for a connection", place.pool_wait, "pool_wait_ms")
            }
            PoolError::Timeout(_) => place.timeout("connecting", place.connect_timeout, "connect_timeout_ms"),
            PoolError::Backend(error) => place.connecting(error),
            other => place.lost("", super::error::Phase::Starting, Box::new(other)),
        }
    }
}

/// Asks a connection that was idle for long whether it is still there: what lies between may have forgotten it silently.
fn checked_after_rest(patience: Duration) -> Hook {
    Hook::async_fn(move |client, metrics| {
        let rested = metrics.last_used();
        Box::pin(async move {
            if rested < REST {
                return Ok(());
            }
            match tokio::time::timeout(patience, client.check_connection()).await {
                Ok(checked) => checked.map_err(HookError::Backend),
                Err(_) => Err(HookError::message("the connection does not answer")),
            }
        })
    })
}

impl Lease {
    /// Ends the scan's transaction and gives the connection back. What still comes for it is skipped: the connection answers
    /// in order, and its next user's statements stand behind the COMMIT.
    pub(super) fn finish(self) {
        // Polling once sends it; a failure is the next user's, who finds a closed connection and gets another.
        let _ = self.batch_execute("COMMIT").now_or_never();
        self.release();
    }

    /// Gives back a connection on which nothing runs.
    pub(super) fn release(mut self) {
        drop(self.client.take());
    }
}

impl Deref for Lease {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.client.as_ref().expect("Invariant: a lease holds its connection until it ends")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let discarded = Discarded(Some(client));
        let (token, tls, patience) = (self.token.clone(), self.tls.clone(), self.patience);
        self.runtime.spawn(async move {
            if !discarded.is_closed() {
                match tokio::time::timeout(patience, token.cancel_query(tls)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "cancel request failed; the connection is closed"),
                    Err(_) => tracing::warn!("cancel request timed out; the connection is closed"),
                }
            }
            drop(discarded);
        });
    }
}

/// A connection that leaves the pool when dropped, even where the task that holds it never runs.
struct Discarded(Option<Object>);

impl Discarded {
    fn is_closed(&self) -> bool {
        self.0.as_ref().is_none_or(|client| client.is_closed())
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Makes a connection and sets up its session.
struct Connecting {
    attempts: Vec<Attempt>,
    session: String,
}

type Connected = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connecting {
    fn connect(&self, config: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let mut last = self.attempt(&config, 0).await;
            for index in 1..self.attempts.len() {
                match &last {
                    Err(error) if !wrong_password(error) => last = self.attempt(&config, index).await,
                    _ => break,
                }
            }
            last
        })
    }
}

impl Connecting {
    async fn attempt(&self, config: &tokio_postgres::Config, index: usize) -> Connected {
        let Attempt { mode, tls } = self.attempts[index].clone();
        let mut config = config.clone();
        config.ssl_mode(mode);
        let (client, connection) = config.connect(tls).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to Postgres ended");
            }
        });
        match client.batch_execute(&self.session).await {
            Ok(()) => Ok((client, task)),
            Err(error) => {
                task.abort();
                Err(error)
            }
        }
    }
}

fn wrong_password(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "28P01")
}
