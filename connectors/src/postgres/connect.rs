//! Connections: a bounded pool, and the lease under which one is used.
//!
//! A [`Lease`] that is not [given back](Lease::release) cancels what runs on its connection and throws the connection away: a
//! cancel request names a connection and not a statement, so a connection that one may still hit is never used again. The slot of
//! the pool stays taken until the request was sent, so the bound holds at the server too.

use std::ops::{ControlFlow, Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use headwater_source::{Error, QueryId, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::answer::Fault;
use super::config::Settings;
use super::error::{Phase, Place};
use super::handshake::{NotConnected, Protocol, connect};
use super::known::Known;
use super::tag::tagged;
use super::tls::Attempt;
use super::wire::Wire;
use crate::idle::Sweeper;

/// What every connection is set to. Text forms that are read must not depend on the role's settings; operators and types are
/// only looked for where the system has them, so that nobody's schema can put its own in their place. A statement that is kept prepared
/// is planned for its values each time, as one that is not: a plan for any values takes every list for a short one.
const SESSION: &str = "SET search_path = pg_catalog, pg_temp; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
     SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET quote_all_identifiers = off; \
     SET standard_conforming_strings = on; SET plan_cache_mode = force_custom_plan; \
     SET default_transaction_read_only = on";

/// The same for a connection that reads changes: the server prints their values with these settings. Nothing ends it but its user.
const FEED_SESSION: &str = "SET search_path = pg_catalog, pg_temp; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; \
     SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET quote_all_identifiers = off; \
     SET standard_conforming_strings = on; SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0";

const ROLLBACK: &str = "ROLLBACK";

/// A connection that was idle for so long is checked before it is used.
const REST: Duration = Duration::from_secs(30);

/// The connections of one source. Made without I/O; the first lease reads certificates and opens the pools.
pub(super) struct Connections {
    settings: Settings,
    pub(super) place: Place,
    pub(super) known: Known,
    opened: Mutex<Option<Opened>>,
    sweeper: Sweeper,
}

#[derive(Clone)]
struct Opened {
    statements: Pool<Connecting>,
    snapshots: Pool<Connecting>,
}

/// What a connection is for. Each has a budget of its own: a statement that waits for a connection must not wait for a snapshot's
/// that waits for the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run statements.
    Statement,
    /// To hold a snapshot that statements read.
    Snapshot,
}

/// A connection in use. Invariant: `wire` is there until the lease ends.
pub(super) struct Lease {
    wire: Option<Object<Connecting>>,
    patience: Duration,
    runtime: Handle,
}

impl Connections {
    pub(super) fn new(settings: Settings, place: Place) -> Self {
        let sweeper = Sweeper::new(settings.idle_timeout);
        Self { settings, place, known: Known::default(), opened: Mutex::new(None), sweeper }
    }

    /// How many there may be at a time.
    pub(super) fn most(&self) -> usize {
        self.settings.pool_size
    }

    /// A connection to run statements, waiting for one where all are in use.
    pub(super) async fn lease(&self) -> Result<Lease> {
        self.lease_for(Purpose::Statement).await
    }

    /// A connection, waiting for one where all of its kind are in use.
    pub(super) async fn lease_for(&self, purpose: Purpose) -> Result<Lease> {
        let opened = self.opened()?;
        self.sweeper.start(|| opened.swept());
        let pool = match purpose {
            Purpose::Statement => opened.statements,
            Purpose::Snapshot => opened.snapshots,
        };
        let wire = pool.get().await.map_err(|error| self.not_leased(error))?;
        Ok(Lease { wire: Some(wire), patience: self.settings.connect_timeout, runtime: Handle::current() })
    }

    /// What a connection calls itself while it runs a statement of a query; `None` where the url takes its name away.
    pub(super) fn name_for(&self, purpose: Purpose, query: QueryId) -> Option<String> {
        let name = self.settings.postgres.get_application_name()?;
        Some(match purpose {
            Purpose::Statement => tagged(name, query),
            Purpose::Snapshot => tagged(&format!("{name} snapshot"), query),
        })
    }

    /// A connection for commands of replication. It is in no pool: a feed holds one as long as it reads.
    pub(super) async fn replication(&self) -> Result<Wire> {
        let settings = &self.settings;
        let attempts = settings.tls.attempts()?;
        let mut config = settings.postgres.clone();
        if let Some(name) = config.get_application_name().map(str::to_owned) {
            config.application_name(format!("{name} feed"));
        }
        let mut last = NotConnected::Unreachable(std::io::ErrorKind::NotFound.into());
        for attempt in &attempts {
            let connecting = connect(&config, attempt, FEED_SESSION, settings.connect_timeout, Protocol::Replication);
            match connecting.await {
                Err(error) if !wrong_password(&error) => last = error,
                ended => return ended.map_err(|error| self.place.connecting(error)),
            }
        }
        Err(self.place.connecting(last))
    }

    fn opened(&self) -> Result<Opened> {
        let mut opened = self.opened.lock();
        if let Some(opened) = opened.as_ref() {
            return Ok(opened.clone());
        }
        let attempts: Arc<[Attempt]> = self.settings.tls.attempts()?.into();
        let fresh = Opened {
            statements: self.pool(Purpose::Statement, &attempts)?,
            snapshots: self.pool(Purpose::Snapshot, &attempts)?,
        };
        *opened = Some(fresh.clone());
        Ok(fresh)
    }

    fn pool(&self, purpose: Purpose, attempts: &Arc<[Attempt]>) -> Result<Pool<Connecting>> {
        let settings = &self.settings;
        let session = match settings.statement_timeout.map(|limit| limit.as_millis()) {
            Some(limit_ms) if purpose == Purpose::Statement => format!("{SESSION}; SET statement_timeout = {limit_ms}"),
            _ => SESSION.to_owned(),
        };
        let mut config = settings.postgres.clone();
        if let (Purpose::Snapshot, Some(name)) = (purpose, config.get_application_name().map(str::to_owned)) {
            config.application_name(format!("{name} snapshot"));
        }
        let manager =
            Connecting { config, attempts: Arc::clone(attempts), session, patience: settings.connect_timeout };
        let timeouts = Timeouts {
            wait: Some(settings.pool_wait),
            create: Some(settings.connect_timeout),
            recycle: Some(settings.connect_timeout),
        };
        let pool = Pool::builder(manager).max_size(settings.pool_size).timeouts(timeouts).runtime(Runtime::Tokio1);
        // The one that was used last comes first, so that those that are not needed are idle.
        let pool = pool.queue_mode(QueueMode::Lifo);
        pool.build().map_err(|error| Error::config(format!("the connection pool cannot be made: {error}")))
    }

    fn not_leased(&self, error: PoolError<NotConnected>) -> Error {
        let place = &self.place;
        match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                place.timeout("waiting for a connection", place.pool_wait, "pool_wait_ms")
            }
            PoolError::Timeout(_) => place.timeout("connecting", place.connect_timeout, "connect_timeout_ms"),
            PoolError::Backend(error) => place.connecting(error),
            other => place.lost("", Phase::Starting, Box::new(other)),
        }
    }
}

impl Opened {
    /// Closes the connections that nobody has taken for so long.
    fn swept(&self) -> impl Fn(Duration) -> ControlFlow<()> + Send + 'static {
        let pools = [self.statements.weak(), self.snapshots.weak()];
        move |limit| {
            for pool in &pools {
                let Some(pool) = pool.upgrade() else { return ControlFlow::Break(()) };
                // Each says goodbye as it is dropped.
                drop(pool.retain(|_, metrics| metrics.last_used() < limit));
            }
            ControlFlow::Continue(())
        }
    }
}

impl Lease {
    /// Gives back a connection on which nothing runs. What still comes is read by its next user.
    pub(super) fn release(mut self) {
        drop(self.wire.take());
    }
}

impl Lease {
    /// Gives back a connection whose statement the server has refused, its transaction ended.
    pub(super) async fn recover(mut self) {
        let settled = self.settle().await;
        if matches!(settled, Err(Fault::Io(_) | Fault::Malformed(_))) {
            return;
        }
        let ended = !self.in_transaction() || self.run(ROLLBACK).map(|_| self.sync()).is_ok() && self.flush_now();
        if ended {
            self.release();
        }
    }
}

impl Lease {
    /// The same after any error: where it was not the server's refusal, what runs is cancelled.
    pub(super) async fn recover_if_refused(self) {
        if self.was_refused() {
            self.recover().await;
        }
    }
}

impl Deref for Lease {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        self.wire.as_ref().expect("Invariant: a lease holds its connection until it ends")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("Invariant: a lease holds its connection until it ends")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(wire) = self.wire.take().filter(|wire| !wire.is_at_rest()) else { return };
        let mut discarded = Discarded(Some(wire));
        let Some(canceller) = discarded.canceller() else { return };
        let patience = self.patience;
        self.runtime.spawn(async move {
            match tokio::time::timeout(patience, canceller.cancel()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "cancel request failed; the connection is closed"),
                Err(_) => tracing::warn!("cancel request timed out; the connection is closed"),
            }
            drop(discarded);
        });
    }
}

/// A connection that leaves the pool when dropped, even where the task that holds it never runs.
struct Discarded(Option<Object<Connecting>>);

impl Discarded {
    /// What stops its statement, where one may still run.
    fn canceller(&mut self) -> Option<super::handshake::Canceller> {
        self.0.as_mut().filter(|wire| wire.is_busy()).map(|wire| wire.canceller())
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        if let Some(wire) = self.0.take() {
            drop(Object::take(wire));
        }
    }
}

/// Makes connections and sets up their sessions.
pub(super) struct Connecting {
    config: tokio_postgres::Config,
    attempts: Arc<[Attempt]>,
    session: String,
    patience: Duration,
}

impl Manager for Connecting {
    type Type = Wire;
    type Error = NotConnected;

    async fn create(&self) -> Result<Wire, NotConnected> {
        let mut last = NotConnected::Unreachable(std::io::ErrorKind::NotFound.into());
        for attempt in self.attempts.iter() {
            match connect(&self.config, attempt, &self.session, self.patience, Protocol::Statements).await {
                Err(error) if !wrong_password(&error) => last = error,
                ended => return ended,
            }
        }
        Err(last)
    }

    /// Reads what the last user left. A connection that was idle for long is asked whether it is still there: what lies between may
    /// have forgotten it silently.
    async fn recycle(&self, wire: &mut Wire, metrics: &Metrics) -> RecycleResult<NotConnected> {
        let left = wire.settle().await;
        if matches!(left, Err(Fault::Io(_) | Fault::Malformed(_))) || wire.is_closed() || wire.in_transaction() {
            return Err(RecycleError::message("the connection is not as it was left"));
        }
        if metrics.last_used() >= REST {
            wire.simple("").await.map_err(NotConnected::Unfit)?;
        }
        Ok(())
    }
}

fn wrong_password(error: &NotConnected) -> bool {
    matches!(error, NotConnected::Refused(error) if error.code().is_some_and(|code| code.code() == "28P01"))
}
