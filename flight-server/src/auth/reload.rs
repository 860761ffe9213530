//! Files that are looked at again while the server runs: users, certificates, keys.
//!
//! Looked at every few seconds, and at once on SIGHUP. What is read is compared whole and not by its time: editors, mounts of secrets and clocks each have
//! ways of their own with those.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tracing::warn;

use super::Gate;

/// How often the files are looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(2);

/// What can be read again. Where the new state is wrong, the old one stays in force and the log says so, once.
pub(crate) trait Reload: Send + Sync {
    /// Reads again what has changed. Blocks on files.
    fn reload(&self);
}

/// A digest of the texts of all files; `None` where one can't be read.
pub(crate) fn digest_of(files: &[impl AsRef<Path>]) -> Option<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    for file in files {
        let text = std::fs::read(file).ok()?;
        context.update(&text.len().to_le_bytes());
        context.update(&text);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Some(digest)
}

/// Looks at the files for ever.
pub(crate) async fn keep(every: Duration, watched: Vec<Arc<dyn Reload>>, gate: Gate) {
    let mut hangups = Hangups::listen();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = hangups.next() => {}
        }
        let watched = watched.clone();
        let read = tokio::task::spawn_blocking(move || watched.iter().for_each(|files| files.reload()));
        if read.await.is_err() {
            warn!("looking at the server's files failed in an unexpected way");
        }
        gate.fetch_keys().await;
    }
}

/// SIGHUP, where there is such a thing.
struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    fn listen() -> Self {
        #[cfg(unix)]
        {
            let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
            Self { signal: signal.inspect_err(|error| warn!(%error, "SIGHUP can't be listened for")).ok() }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
