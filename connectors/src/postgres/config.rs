//! The keys of a manifest's `source:` section for `connector: postgres`, and the url.
//!
//! The url is libpq's (`postgres://user:password@host:5432/database?...`), several hosts and unix sockets
//! (`postgres:///database?host=/run/postgresql`) included. What stands in its query is honoured; a key of the manifest wins.
//! No message quotes any part of the url: a password may be in the wrong place of a malformed one.

use std::fmt;
use std::time::Duration;

use headwater_source::{Error, OpenContext, OptionDef, OptionKind, Options, Result};
use tokio_postgres::config::Host;

use super::tls::{SslMode, TlsSettings};
use super::types::LooseNumeric;
use crate::options;

/// Every key, for the manifest's parser and its schema.
pub(super) const OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: "url",
        kind: OptionKind::Secret,
        required: true,
        doc: "postgres://user:password@host:5432/database. Percent-encode special characters in user and password.",
    },
    options::POOL_SIZE,
    options::POOL_WAIT_MS,
    options::CONNECT_TIMEOUT_MS,
    options::IDLE_TIMEOUT_MS,
    options::STATEMENT_TIMEOUT_MS,
    OptionDef {
        name: "sslmode",
        kind: OptionKind::Word(SslMode::WORDS),
        required: false,
        doc: "TLS, as libpq's sslmode. Default verify-full; prefer where every host is loopback. Unix sockets never use TLS.",
    },
    options::SSLROOTCERT,
    options::SSLCERT,
    options::SSLKEY,
    OptionDef {
        name: NUMERIC,
        kind: OptionKind::Text,
        required: false,
        doc: "How a numeric without precision, or with more than 76 digits, is read: \"text\", as printed, or \"decimal(P,S)\" of at most 76 digits, by which a value that it can't hold is an error. Default text.",
    },
];

const NUMERIC: &str = "numeric";

const POOL_SIZE_MAX: u64 = 10_000;

/// What the server shows of us in pg_stat_activity before the service's name, where the url does not say otherwise.
const APPLICATION_NAME: &str = "headwater";

/// How long a connection may be silent before the operating system probes it.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(60);

/// A source's configuration, checked.
pub(super) struct Settings {
    pub(super) postgres: tokio_postgres::Config,
    /// `postgres://user@host:port/database`.
    pub(super) location: String,
    pub(super) tls: TlsSettings,
    pub(super) pool_size: usize,
    pub(super) pool_wait: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) loose: LooseNumeric,
}

impl Settings {
    /// Reads the options. Touches no file and no network.
    pub(super) fn parse(context: OpenContext<'_>, options: &Options) -> Result<Self> {
        let url = options.text("url").ok_or_else(|| Error::config("\"source\" lacks the key \"url\""))?;
        let Url { mut postgres, parameters } = Url::parse(url)?;
        let text = |key: &str| options.text(key).or_else(|| parameters.get(key)).map(str::to_owned);
        let path = |key: &str| text(key).map(|path| context.resolve(&path));
        let mode = text("sslmode").map(|word| SslMode::parse(&word)).transpose()?;
        let tls = TlsSettings {
            mode: SslMode::effective(mode, &postgres),
            root: text("sslrootcert").filter(|root| root != "system").map(|path| context.resolve(&path)),
            client: options::client_certificate(path("sslcert"), path("sslkey"))?,
        };
        let connect_timeout = options::connect_timeout(options, postgres.get_connect_timeout().copied())?;
        if postgres.get_application_name().is_none() {
            postgres.application_name(format!("{APPLICATION_NAME} {}", context.service));
        }
        postgres.connect_timeout(connect_timeout).keepalives_idle(KEEPALIVES_IDLE);
        Ok(Self {
            location: location(&postgres),
            postgres,
            tls,
            pool_size: options::pool_size(options, POOL_SIZE_MAX)?,
            pool_wait: options::pool_wait(options),
            connect_timeout,
            idle_timeout: options::idle_timeout(options),
            statement_timeout: statement_timeout(options)?,
            loose: loose_numeric(options)?,
        })
    }
}

/// Shows where, never as whom or with what.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("location", &self.location)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

fn statement_timeout(options: &Options) -> Result<Option<Duration>> {
    let limit = options::statement_timeout(options);
    // The server keeps the limit as a signed 32-bit number of milliseconds.
    if limit.is_some_and(|limit| limit.as_millis() > i32::MAX.unsigned_abs().into()) {
        return Err(Error::config(format!("key \"statement_timeout_ms\" in \"source\" takes at most {}", i32::MAX)));
    }
    Ok(limit)
}

fn loose_numeric(options: &Options) -> Result<LooseNumeric> {
    let Some(text) = options.text(NUMERIC) else { return Ok(LooseNumeric::default()) };
    LooseNumeric::parse(text).ok_or_else(|| {
        let takes = "takes text, or decimal(P,S) with P from 1 to 76 and S from 0 to P, as in decimal(38,9)";
        Error::config(format!("key \"{NUMERIC}\" in \"source\" {takes}"))
    })
}

/// A url, with what the driver does not know taken out of its query.
struct Url {
    postgres: tokio_postgres::Config,
    parameters: Parameters,
}

/// The TLS parameters of a url's query.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    const KNOWN: [&'static str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Url {
    fn parse(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(malformed("it starts with neither postgres:// nor postgresql://"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut parameters = Parameters(vec![]);
        let mut rest = vec![];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let key = pair.split_once('=').map_or(pair, |(key, _)| key);
            match Parameters::KNOWN.contains(&key) {
                true => parameters.0.push(decoded(pair)),
                false => rest.push(pair),
            }
        }
        let plain = format!("{base}?{}", rest.join("&"));
        let postgres: tokio_postgres::Config = plain.parse().map_err(|_| malformed("it cannot be parsed"))?;
        if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
            return Err(malformed("it names no host; for a unix socket add ?host=/run/postgresql"));
        }
        Ok(Self { postgres, parameters })
    }
}

/// Percent-decodes a pair. A plus is a plus in libpq's urls.
fn decoded(pair: &str) -> (String, String) {
    let pair = pair.replace('+', "%2B");
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .unwrap_or_default()
}

fn malformed(what: &str) -> Error {
    Error::config(format!(
        "key \"url\" in \"source\" is not a Postgres url: {what}; write postgres://user:password@host:5432/database and \
         percent-encode special characters in user and password"
    ))
}

fn location(postgres: &tokio_postgres::Config) -> String {
    let count = postgres.get_hosts().len().max(postgres.get_hostaddrs().len());
    let hosts: Vec<String> = (0..count).map(|index| host_and_port(postgres, index)).collect();
    let user = postgres.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let database = postgres.get_dbname().or(postgres.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

fn host_and_port(postgres: &tokio_postgres::Config, index: usize) -> String {
    let host = match postgres.get_hosts().get(index) {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => postgres.get_hostaddrs().get(index).map(ToString::to_string).unwrap_or_default(),
    };
    let port = postgres.get_ports().get(index).or(postgres.get_ports().first()).copied().unwrap_or(5432);
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use headwater_source::{OptionValue, ServiceName};

    use super::*;

    fn parse(url: &str, more: &[(&str, &str)]) -> Result<Settings> {
        let service = ServiceName::parse("orders").unwrap();
        let context = OpenContext { service: &service, directory: Path::new("/etc/services") };
        let url = [("url", url)];
        let pairs = more.iter().chain(&url);
        let values: BTreeMap<_, _> =
            pairs.map(|(key, value)| ((*key).to_owned(), OptionValue::Text((*value).to_owned()))).collect();
        Settings::parse(context, &Options::check(OPTIONS, values)?)
    }

    fn mode(url: &str, more: &[(&str, &str)]) -> SslMode {
        parse(url, more).unwrap().tls.mode
    }

    #[test]
    fn remote_host_is_verified_and_loopback_may_be_plain_where_nothing_is_said() {
        assert_eq!(mode("postgres://u@db.example/d", &[]), SslMode::VerifyFull);
        assert_eq!(mode("postgres://u@127.0.0.1,db.example/d", &[]), SslMode::VerifyFull);
        assert_eq!(mode("postgres://u@localhost/d?hostaddr=10.0.0.1", &[]), SslMode::VerifyFull);
        for loopback in ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"] {
            assert_eq!(mode(&format!("postgresql://u@{loopback}/d"), &[]), SslMode::Prefer);
        }
        assert_eq!(mode("postgres://u@/d?host=/run/postgresql", &[]), SslMode::Disable);
        assert_eq!(mode("postgres://u@/d?host=/run/postgresql&sslmode=verify-full", &[]), SslMode::Disable);
    }

    #[test]
    fn key_of_the_manifest_wins_over_the_url() {
        assert_eq!(mode("postgres://u@h/d?sslmode=require", &[]), SslMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=require", &[("sslmode", "verify-ca")]), SslMode::VerifyCa);
        let settings = parse("postgres://u@h/d?sslrootcert=ca%20of+us.pem", &[]).unwrap();
        assert_eq!(settings.tls.root.as_deref(), Some(Path::new("/etc/services/ca of+us.pem")));
        assert_eq!(parse("postgres://u@h/d?sslrootcert=system", &[]).unwrap().tls.root, None);
    }

    #[test]
    fn location_names_user_host_and_database_and_no_password() {
        let settings = parse("postgres://ann:canary@db.example:6432,other/shop", &[]).unwrap();
        assert_eq!(settings.location, "postgres://ann@db.example:6432,other:5432/shop");
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn malformed_url_is_refused_without_quoting_it() {
        for url in [
            "mysql://u:canary@h/d",
            "canary",
            "postgres://u:canary@h:port/d",
            "postgres://u:canary@h/d?unknown=canary",
            "postgres://u:canary@/d",
            "postgres://u:canary@h/d?sslmode=canary",
            "postgres://u@h/d?password=canary&sslcert=x",
        ] {
            let error = parse(url, &[]).unwrap_err().report();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
