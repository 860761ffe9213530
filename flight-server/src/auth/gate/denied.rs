//! Where a request comes from, and why nobody comes in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// `flight`, `postgres` or `http`, for the log.
    pub(crate) door: &'static str,
    /// The certificate that the client showed, checked against the authority of `--tls-client-ca`.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// Why nobody comes in. What it says to the client is its `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The request carries nothing to know anybody by.
    Missing,
    /// What it carries is not known, or not any more.
    Wrong,
    /// Too many failed before.
    Wait(Duration),
    /// Too many log in at this moment, or too many sessions are open.
    Busy,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("this server wants to know who asks: give a user and a password, or a token"),
            Self::Wrong => f.write_str("the user, password or token is not known here, or not any more"),
            Self::Wait(time) => {
                write!(
                    f,
                    "too many failed logins; try again in {} s",
                    time.as_secs() + u64::from(time.subsec_nanos() > 0)
                )
            }
            Self::Busy => f.write_str("too many log in at this moment; try again later"),
        }
    }
}
