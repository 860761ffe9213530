//! The manifest's keys that several connectors share: one name, one default, one meaning.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::path::PathBuf;
use std::time::Duration;

use headwater_source::{Error, OptionDef, OptionKind, Options, Result};

pub(crate) const POOL_SIZE: OptionDef = OptionDef {
    name: "pool_size",
    kind: OptionKind::Count,
    required: false,
    doc: "The most connections that are open at a time; each running scan holds one. Default 8.",
};

pub(crate) const POOL_WAIT_MS: OptionDef = OptionDef {
    name: "pool_wait_ms",
    kind: OptionKind::Count,
    required: false,
    doc: "How long a scan waits for a free connection, in milliseconds. Default 60000.",
};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const CONNECT_TIMEOUT_MS: OptionDef = OptionDef {
    name: "connect_timeout_ms",
    kind: OptionKind::Count,
    required: false,
    doc: "How long connecting may take, TLS and authentication included, in milliseconds. Default 5000.",
};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const IDLE_TIMEOUT_MS: OptionDef = OptionDef {
    name: "idle_timeout_ms",
    kind: OptionKind::Count,
    required: false,
    doc: "How long a connection that nobody uses stays open, in milliseconds; 0 is for ever. Default 300000.",
};

pub(crate) const STATEMENT_TIMEOUT_MS: OptionDef = OptionDef {
    name: "statement_timeout_ms",
    kind: OptionKind::Count,
    required: false,
    doc: "How long a statement may run from its start to its last row, its reader's pauses included, in milliseconds. Default 0: no limit but the source's own.",
};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const SSLROOTCERT: OptionDef = OptionDef {
    name: "sslrootcert",
    kind: OptionKind::Text,
    required: false,
    doc: "Path of a PEM file with the certificate authorities to trust, relative to the manifest. Default \"system\": those of the operating system.",
};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const SSLCERT: OptionDef = OptionDef {
    name: "sslcert",
    kind: OptionKind::Text,
    required: false,
    doc: "Path of a PEM file with the client's certificate chain, relative to the manifest.",
};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) const SSLKEY: OptionDef = OptionDef {
    name: "sslkey",
    kind: OptionKind::Text,
    required: false,
    doc: "Path of a PEM file with the client's key, relative to the manifest.",
};

/// `pool_size`, 1 to `most`.
pub(crate) fn pool_size(options: &Options, most: u64) -> Result<usize> {
    match options.count(POOL_SIZE.name, 8) {
        size if (1..=most).contains(&size) => Ok(usize::try_from(size).unwrap_or(usize::MAX)),
        _ => Err(Error::config(format!("key \"pool_size\" in \"source\" takes 1 to {most}"))),
    }
}

/// `pool_wait_ms`.
pub(crate) fn pool_wait(options: &Options) -> Duration {
    Duration::from_millis(options.count(POOL_WAIT_MS.name, 60_000))
}

/// `connect_timeout_ms`, or what the url says.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn connect_timeout(options: &Options, url: Option<Duration>) -> Result<Duration> {
    /// No key takes so much, so it stands for a key that is not there.
    const NOT_SET: u64 = u64::MAX;
    match options.count(CONNECT_TIMEOUT_MS.name, NOT_SET) {
        0 => Err(Error::config("key \"connect_timeout_ms\" in \"source\" must be at least 1")),
        NOT_SET => Ok(url.unwrap_or(Duration::from_millis(5_000))),
        limit => Ok(Duration::from_millis(limit)),
    }
}

/// `idle_timeout_ms`, where there is a limit.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn idle_timeout(options: &Options) -> Option<Duration> {
    match options.count(IDLE_TIMEOUT_MS.name, 300_000) {
        0 => None,
        limit => Some(Duration::from_millis(limit)),
    }
}

/// `statement_timeout_ms`, where there is a limit.
pub(crate) fn statement_timeout(options: &Options) -> Option<Duration> {
    match options.count(STATEMENT_TIMEOUT_MS.name, 0) {
        0 => None,
        limit => Some(Duration::from_millis(limit)),
    }
}

/// `sslcert` and `sslkey`: both or none.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn client_certificate(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        _ => Err(Error::config("keys \"sslcert\" and \"sslkey\" in \"source\" need each other")),
    }
}

/// Whether a host is this machine by its name or address, with or without the brackets of an IPv6 address.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headwater_source::OptionValue;

    use super::*;

    fn check(key: &str, count: u64) -> Result<Options> {
        let values = BTreeMap::from([(key.to_owned(), OptionValue::Count(count))]);
        Options::check(&[POOL_SIZE, POOL_WAIT_MS, STATEMENT_TIMEOUT_MS], values)
    }

    #[test]
    fn misspelt_key_is_named_with_its_nearest() {
        let message = check("pool_wait", 1).unwrap_err().to_string();
        assert!(message.contains("\"pool_wait\"") && message.contains("did you mean \"pool_wait_ms\"?"), "{message}");
    }

    #[test]
    fn default_of_each_key_is_the_one_in_its_description() {
        let none = Options::default();
        let said = |option: OptionDef, default: String| assert!(option.doc.contains(&format!("Default {default}")));
        said(POOL_SIZE, format!("{}.", pool_size(&none, 8).unwrap()));
        said(POOL_WAIT_MS, format!("{}.", pool_wait(&none).as_millis()));
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        said(IDLE_TIMEOUT_MS, format!("{}.", idle_timeout(&none).unwrap_or_default().as_millis()));
        said(STATEMENT_TIMEOUT_MS, format!("{}:", statement_timeout(&none).unwrap_or_default().as_millis()));
    }

    #[test]
    fn pool_takes_no_size_beyond_its_bounds() {
        for size in [0, 9] {
            let message = pool_size(&check("pool_size", size).unwrap(), 8).unwrap_err().to_string();
            assert!(message.contains("takes 1 to 8"), "{message}");
        }
    }
}
