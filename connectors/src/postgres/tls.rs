//! TLS by libpq's sslmode words, on rustls with the ring provider.
//!
//! `verify-full` checks the chain and the name, `verify-ca` the chain, `require` nothing unless `sslrootcert` is set (then it is
//! `verify-ca`, as in libpq). A name is looked for in the certificate's subject alternative names only, never in its common name.

use std::path::PathBuf;

use headwater_source::{Error, Result};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::options;
use crate::tls::{self, Verify};

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
        let verify = match self.mode {
            SslMode::VerifyFull => Verify::Name,
            SslMode::VerifyCa => Verify::Chain,
            SslMode::Require if self.root.is_some() => Verify::Chain,
            _ => Verify::Nothing,
        };
        tls::client(verify, self.root.as_deref(), self.client.as_ref()).map(MakeRustlsConnect::new)
    }
}
