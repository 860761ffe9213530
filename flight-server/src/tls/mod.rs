//! TLS on every port, by rustls.
//!
//! One certificate serves all doors; each has its own configuration, since the protocols differ in ALPN. Certificate, key and the authority of clients are
//! files that are looked at again while the server runs: a connection is accepted with what they held last, and those that are open go on.
//!
//! Refused: a certificate that does not belong to its key, when the server starts and when the files change; then the one before stays in force.

mod accept;
mod connection;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

pub(crate) use accept::{CONNECTIONS_MAX, accept, handshake, secured};
pub(crate) use connection::{Connection, Origin};

use crate::auth::reload::{Reload, digest_of};

/// The files of `--tls-cert`, `--tls-key` and `--tls-client-ca`.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority whose certificates clients must show, PEM; `None` where they need none.
    pub client_authority: Option<PathBuf>,
}

/// The certificate in force. Shared by the doors.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    /// The digest of the files that were looked at last.
    seen: Mutex<Option<[u8; 32]>>,
    current: RwLock<Configs>,
}

/// What TLS is spoken with. The protocols differ in what ALPN calls them, and whether clients must show a certificate.
#[derive(Debug, Clone)]
struct Configs {
    flight: Arc<ServerConfig>,
    postgres: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

/// Which door it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Flight,
    Postgres,
    Http,
}

impl Door {
    /// Its name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flight => "flight",
            Self::Postgres => "postgres",
            Self::Http => "http",
        }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn open(files: TlsFiles) -> Result<Arc<Self>, String> {
        let seen = files.digest();
        let current = RwLock::new(files.configs()?);
        Ok(Arc::new(Self { files, seen: Mutex::new(seen), current }))
    }

    /// The configuration in force.
    pub(crate) fn config(&self, door: Door) -> Arc<ServerConfig> {
        let current = self.current.read();
        Arc::clone(match door {
            Door::Flight => &current.flight,
            Door::Postgres => &current.postgres,
            Door::Http => &current.http,
        })
    }
}

impl Reload for Tls {
    fn reload(&self) {
        let digest = self.files.digest();
        if digest.is_none() || std::mem::replace(&mut *self.seen.lock(), digest) == digest {
            return;
        }
        match self.files.configs() {
            Ok(configs) => {
                *self.current.write() = configs;
                info!(file = %self.files.certificate.display(), "the certificate was read again");
            }
            Err(error) => warn!(error, "the new certificate can't be used; the one before stays in force"),
        }
    }
}

impl TlsFiles {
    fn digest(&self) -> Option<[u8; 32]> {
        let files: Vec<&PathBuf> = [&self.certificate, &self.key].into_iter().chain(&self.client_authority).collect();
        digest_of(&files)
    }

    fn configs(&self) -> Result<Configs, String> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| format!("{}: no private key can be read: {error}", self.key.display()))?;
        let build = |asks: bool, protocol: &[u8]| {
            let mut config = self.config(chain.clone(), key.clone_key(), asks)?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok::<_, String>(Arc::new(config))
        };
        Ok(Configs {
            flight: build(true, b"h2")?,
            postgres: build(true, b"postgresql")?,
            // What asks whether the server lives has no certificate.
            http: build(false, b"http/1.1")?,
        })
    }

    fn config(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        asks_clients: bool,
    ) -> Result<ServerConfig, String> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS can't be set up: {error}"))?;
        let builder = match self.client_authority.as_ref().filter(|_| asks_clients) {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| format!("{}: is no authority: {error}", file.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| format!("{}: is no authority: {error}", file.display()))?,
                )
            }
        };
        builder.with_single_cert(chain, key).map_err(|error| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            format!("{certificate} and {key} can't be used together: {error}")
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: no certificate can be read: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let found = read.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() {
        return Err(wrong(&"it holds none"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_not_there_or_holds_nothing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        for certificate in [directory.path().join("none.pem"), empty.clone()] {
            let files = TlsFiles { certificate: certificate.clone(), key: empty.clone(), client_authority: None };
            let error = Tls::open(files).unwrap_err();
            assert!(error.starts_with(&certificate.display().to_string()), "{error}");
        }
    }
}
