//! What a door is guarded by.

use std::sync::Arc;
use std::time::Duration;

use headwater::{AuditLog, Engine};
use tracing::warn;

use crate::auth::Gate;
use crate::auth::reload::{EVERY, Reload, keep};
use crate::tls::Tls;

/// Who may come in, and under which certificate. Clones share both.
#[derive(Debug, Clone)]
pub struct Security {
    /// Says who a request is from.
    pub gate: Gate,
    /// The certificate; `None` where connections are not encrypted.
    pub tls: Option<Arc<Tls>>,
}

impl Default for Security {
    /// No users and no encryption: for loopback, and for tests.
    fn default() -> Self {
        Self { gate: Gate::open(), tls: None }
    }
}

impl Security {
    /// Looks for ever at the files of users, certificates and keys, every two seconds and on SIGHUP, and puts in force what has changed.
    pub async fn watch(self) {
        self.watch_every(EVERY, vec![]).await;
    }

    /// The same, and at the access file of an engine and the place of an audit log.
    pub async fn watch_with(self, engine: Engine, audit: Option<Arc<AuditLog>>) {
        let mut more: Vec<Arc<dyn Reload>> = vec![Arc::new(Rights(engine))];
        more.extend(audit.map(|log| Arc::new(Rotated(log)) as Arc<dyn Reload>));
        self.watch_every(EVERY, more).await;
    }

    async fn watch_every(self, every: Duration, more: Vec<Arc<dyn Reload>>) {
        let mut watched: Vec<Arc<dyn Reload>> = vec![Arc::new(self.gate.clone())];
        watched.extend(more);
        watched.extend(self.tls.map(|tls| tls as Arc<dyn Reload>));
        keep(every, watched, self.gate).await;
    }
}

/// The access file of an engine.
struct Rights(Engine);

impl Reload for Rights {
    fn reload(&self) {
        if let Err(error) = self.0.reload_access() {
            error
                .report()
                .lines()
                .for_each(|fault| warn!(fault, "the access file is wrong; the one before stays in force"));
        }
    }
}

/// An audit log that may have been moved away.
struct Rotated(Arc<AuditLog>);

impl Reload for Rotated {
    fn reload(&self) {
        self.0.reopen();
    }
}
