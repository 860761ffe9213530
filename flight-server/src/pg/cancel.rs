//! Cancelling: a connection of its own that names another by a number and a secret.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::auth::random;

/// The secret of each connection, by its number, and how it is told.
type Connections = HashMap<i32, (i32, watch::Sender<()>)>;

/// The connections that can be cancelled.
#[derive(Clone, Default)]
pub(super) struct Cancels {
    connections: Arc<Mutex<Connections>>,
}

/// A connection's entry, which goes with it.
pub(super) struct Cancel {
    cancels: Cancels,
    pub(super) process: i32,
    pub(super) key: i32,
    sender: watch::Sender<()>,
}

impl Cancels {
    /// Gives a connection its number and its secret: 63 random bits together, which is what the protocol has room for.
    pub(super) fn enter(&self) -> std::io::Result<Cancel> {
        let sender = watch::Sender::new(());
        loop {
            let process = i32::from_be_bytes(random()?) & i32::MAX;
            let key = i32::from_be_bytes(random()?);
            let mut connections = self.connections.lock();
            if process != 0 && !connections.contains_key(&process) {
                connections.insert(process, (key, sender.clone()));
                return Ok(Cancel { cancels: self.clone(), process, key, sender });
            }
        }
    }

    /// Cancels what the connection runs, if the secret is the right one. The client is not told whether it was.
    pub(super) fn cancel(&self, process: i32, key: i32) {
        if let Some((known, sender)) = self.connections.lock().get(&process)
            && bool::from(known.to_be_bytes().ct_eq(&key.to_be_bytes()))
        {
            sender.send_replace(());
        }
    }
}

impl Cancel {
    /// Tells of the next time that it is cancelled, from now on. Whoever serves statements begins with each anew: what comes between two is for neither.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.sender.subscribe()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.cancels.connections.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_number_and_secret_together_cancel() {
        let cancels = Cancels::default();
        let (one, other) = (cancels.enter().unwrap(), cancels.enter().unwrap());
        let watching = one.watch();
        cancels.cancel(one.process, one.key.wrapping_add(1));
        cancels.cancel(other.process, one.key);
        assert!(!watching.has_changed().unwrap());
        cancels.cancel(one.process, one.key);
        assert!(watching.has_changed().unwrap());
        assert!(!one.watch().has_changed().unwrap(), "the next statement is not cancelled");
        let (process, key) = (one.process, one.key);
        drop((one, watching));
        cancels.cancel(process, key);
        assert_eq!(cancels.connections.lock().len(), 1);
    }
}
