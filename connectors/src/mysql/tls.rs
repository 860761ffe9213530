//! libpq's `sslmode` by the driver's TLS.
//!
//! | sslmode | encrypted | chain verified | host name verified |
//! |---|---|---|---|
//! | disable | no | | |
//! | prefer | where the server offers it and it works | no | no |
//! | require | yes | no, or as verify-ca where `sslrootcert` is given | no |
//! | verify-ca | yes | yes | no |
//! | verify-full | yes | yes | yes |
//!
//! The authorities are those of `sslrootcert`, or else the system's and Mozilla's.
//!
//! The driver's own "skip the host name" looks for the name of an error that rustls no longer prints, so that it verifies the
//! name after all. For verify-ca, [`presented_name`] reads from the refusal which name the certificate does bear, and
//! the connection is made again under that name: the chain is verified on the connection that is used. A certificate without
//! any subject alternative name is refused, because there is no name to verify it under.

use std::path::Path;

use headwater_source::{Error, Result};
use mysql_async::{ClientIdentity, SslOpts};

use super::config::{SslMode, Tls};

/// The driver's options for an encrypted connection, or `None` where it is plain.
pub(super) fn options(tls: &Tls) -> Result<Option<SslOpts>> {
    let options = match tls.mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer | SslMode::Require => {
            SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)
        }
        SslMode::VerifyCa | SslMode::VerifyFull => verified(tls.root.as_deref())?,
    };
    let identity = match &tls.identity {
        Some((certificate, key)) => Some(ClientIdentity::new(read(certificate)?.into(), read(key)?.into())),
        None => None,
    };
    Ok(Some(options.with_client_identity(identity)))
}

/// Whether a connection failed because it would be encrypted: the server has no TLS, or none that this side speaks.
pub(super) fn is_refusal(error: &mysql_async::Error) -> bool {
    use mysql_async::{DriverError, Error, IoError};
    match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        Error::Io(IoError::Io(io)) => io.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        _ => false,
    }
}

/// The first name that a certificate bears, where the connection was refused only because it bears no other.
///
/// rustls verifies the chain before the name, so the refusal says that the chain is good.
pub(super) fn presented_name(error: &mysql_async::Error) -> Option<String> {
    let mysql_async::Error::Io(mysql_async::IoError::Io(io)) = error else { return None };
    let rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForNameContext { presented, .. }) =
        io.get_ref()?.downcast_ref::<rustls::Error>()?
    else {
        return None;
    };
    presented.iter().find_map(|name| bare_name(name))
}

/// rustls presents names as `DnsName("db.example")` and `IpAddress(127.0.0.1)`.
fn bare_name(presented: &str) -> Option<String> {
    let inner = presented
        .strip_prefix("DnsName(")
        .or_else(|| presented.strip_prefix("IpAddress("))
        .and_then(|rest| rest.strip_suffix(')'))?;
    let name = inner.trim_matches('"');
    // A wildcard is no name to connect under; any one label under it is.
    Some(name.strip_prefix("*.").map_or_else(|| name.to_owned(), |domain| format!("any.{domain}")))
}

fn verified(root: Option<&Path>) -> Result<SslOpts> {
    let Some(path) = root else {
        let system = rustls_native_certs::load_native_certs();
        let roots = system.certs.into_iter().map(|certificate| certificate.as_ref().to_vec().into()).collect();
        return Ok(SslOpts::default().with_root_certs(roots));
    };
    Ok(SslOpts::default().with_root_certs(vec![read(path)?.into()]).with_disable_built_in_roots(true))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|cause| Error::config(format!("cannot read the certificate or key file {path:?}: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_read_from_what_rustls_presents() {
        assert_eq!(bare_name("DnsName(\"db.example\")").as_deref(), Some("db.example"));
        assert_eq!(bare_name("DnsName(\"*.db.example\")").as_deref(), Some("any.db.example"));
        assert_eq!(bare_name("IpAddress(127.0.0.1)").as_deref(), Some("127.0.0.1"));
        assert_eq!(bare_name("Rfc822Name(\"a@b\")"), None);
    }

    #[test]
    fn missing_certificate_file_is_a_configuration_error() {
        let tls = Tls { mode: SslMode::VerifyFull, root: Some("/nowhere/ca.pem".into()), identity: None };
        assert!(options(&tls).is_err_and(|error| error.to_string().contains("/nowhere/ca.pem")));
    }
}
