//! What a door is guarded by.

use std::sync::Arc;
use std::time::Duration;

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
        self.watch_every(EVERY).await;
    }

    async fn watch_every(self, every: Duration) {
        let mut watched: Vec<Arc<dyn Reload>> = vec![Arc::new(self.gate.clone())];
        watched.extend(self.tls.map(|tls| tls as Arc<dyn Reload>));
        keep(every, watched, self.gate).await;
    }
}
