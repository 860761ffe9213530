//! TLS by libpq's sslmode words, on rustls with the ring provider.
//!
//! `verify-full` checks the chain and the name, `verify-ca` the chain, `require` nothing unless `sslrootcert` is set (then it is
//! `verify-ca`, as in libpq). A name is looked for in the certificate's subject alternative names only, never in its common name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_source::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::options;

/// libpq's sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What the manifest says of TLS.
#[derive(Debug)]
pub(super) struct TlsSettings {
    pub(super) mode: SslMode,
    /// PEM of the authorities; the operating system's where `None`.
    pub(super) root: Option<PathBuf>,
    /// PEM of the client's chain and of its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// One way to connect; a weak mode tries a second when the first fails.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) mode: tokio_postgres::config::SslMode,
    pub(super) tls: MakeRustlsConnect,
}

impl SslMode {
    /// As the manifest writes them.
    pub(super) const WORDS: &'static [&'static str] =
        &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

    /// Reads a word.
    pub(super) fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(Error::config(format!("\"sslmode\" takes one of {}", Self::WORDS.join(", ")))),
        })
    }

    /// The mode for these hosts: unix sockets never use TLS, and where nothing is said only loopback hosts may be plain.
    pub(super) fn effective(said: Option<Self>, postgres: &tokio_postgres::Config) -> Self {
        let hosts = postgres.get_hosts();
        if !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_))) {
            return Self::Disable;
        }
        let loopback = match postgres.get_hostaddrs() {
            [] => hosts.iter().all(is_loopback),
            addresses => addresses.iter().all(|address| address.is_loopback()),
        };
        said.unwrap_or(if loopback { Self::Prefer } else { Self::VerifyFull })
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => options::is_loopback(name),
    }
}

impl TlsSettings {
    /// The ways to connect, in order. Reads the certificates.
    pub(super) fn attempts(&self) -> Result<Vec<Attempt>> {
        use tokio_postgres::config::SslMode as Driver;
        let tls = self.connector()?;
        let modes: &[Driver] = match self.mode {
            SslMode::Disable => &[Driver::Disable],
            SslMode::Allow => &[Driver::Disable, Driver::Require],
            SslMode::Prefer => &[Driver::Prefer, Driver::Disable],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Driver::Require],
        };
        Ok(modes.iter().map(|mode| Attempt { mode: *mode, tls: tls.clone() }).collect())
    }

    fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::config(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates("sslcert", certificate)?, private_key(key)?)
                .map_err(|error| Error::config(format!("\"sslcert\" and \"sslkey\" do not fit: {error}")))?,
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let unverified = |roots| Arc::new(Unnamed { provider: provider.clone(), roots });
        Ok(match self.mode {
            SslMode::VerifyFull => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone())
                    .build()
                    .map_err(|error| Error::config(format!("TLS cannot verify servers: {error}")))?
            }
            SslMode::VerifyCa => unverified(Some(self.roots()?)),
            SslMode::Require if self.root.is_some() => unverified(Some(self.roots()?)),
            _ => unverified(None),
        })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.root {
            Some(path) => {
                for certificate in certificates("sslrootcert", path)? {
                    roots.add(certificate).map_err(|error| unreadable("sslrootcert", path, &error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Error::config(
                "there are no certificate authorities to verify the server with; set \"sslrootcert\"",
            ));
        }
        Ok(roots)
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(key, path, &error))?;
    match certificates.is_empty() {
        true => Err(unreadable(key, path, &"it holds no certificate")),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable("sslkey", path, &error))
}

fn unreadable(key: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::config(format!("key \"{key}\" in \"source\": cannot use {}: {error}", path.display()))
}

/// Checks the chain where there are roots to check it with, and never the name.
#[derive(Debug)]
struct Unnamed {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
