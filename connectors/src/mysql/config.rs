//! The keys of a manifest's `source:` section for MariaDB and MySQL, and the url's query.
//!
//! An option's own key wins over the same key in the url's query. Nothing here does I/O; the password stays in [`Target`], which is
//! never printed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use headwater_source::{Error, OpenContext, OptionDef, OptionKind, Options, Result, nearest};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::options;

/// The words of `sslmode`, as libpq means them.
const SSL_MODES: &[&str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];

/// The keys that the url's query may hold.
const URL_KEYS: &[&str] = &["sslmode", "sslrootcert", "sslcert", "sslkey", "socket"];

const POOL_SIZE_MAX: u64 = 10_000;

/// Where a server is of which the url says nothing.
const LOOPBACK: &str = "127.0.0.1";
const PORT: u16 = 3306;

/// The keys beside `connector: mysql`.
pub(super) const OPTIONS: &[OptionDef] = &[
    option(
        "url",
        OptionKind::Secret,
        true,
        "Where the server is: mysql://user:password@host:3306/database, or mariadb://. Without a database, tables are named database.table. A Unix socket is ?socket=/path.",
    ),
    options::POOL_SIZE,
    options::POOL_WAIT_MS,
    options::CONNECT_TIMEOUT_MS,
    options::IDLE_TIMEOUT_MS,
    options::STATEMENT_TIMEOUT_MS,
    option(
        "sslmode",
        OptionKind::Word(SSL_MODES),
        false,
        "TLS, as libpq's sslmode. Default verify-full; prefer where the host is loopback. Unix sockets never use TLS.",
    ),
    options::SSLROOTCERT,
    options::SSLCERT,
    options::SSLKEY,
];

/// A source's settings.
#[derive(Clone)]
pub(super) struct Config {
    /// Where and as whom to connect; holds the password.
    pub(super) target: Target,
    /// User, host and database for messages.
    pub(super) location: String,
    pub(super) tls: Tls,
    /// The most connections at once; at least 1.
    pub(super) pool_size: usize,
    /// The limit of waiting for a connection.
    pub(super) pool_wait: Duration,
    /// The limit of connecting.
    pub(super) connect_timeout: Duration,
    /// How long a connection may be idle, where there is a limit.
    pub(super) idle_timeout: Option<Duration>,
    /// The limit of a statement, where there is one.
    pub(super) statement_timeout: Option<Duration>,
}

/// Where a server is, and who one is there; never printed.
#[derive(Clone)]
pub(super) struct Target {
    /// A name or an address, without the brackets of a url.
    pub(super) host: String,
    pub(super) port: u16,
    /// A Unix socket, in the place of host and port.
    pub(super) socket: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// The database against which bare table names are resolved.
    pub(super) database: Option<String>,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    pub(super) root: Option<PathBuf>,
    /// The client's certificate and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`, without `allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const fn option(name: &'static str, kind: OptionKind, required: bool, doc: &'static str) -> OptionDef {
    OptionDef { name, kind, required, doc }
}

impl Config {
    pub(super) fn parse(context: OpenContext<'_>, options: &Options) -> Result<Self> {
        let mut url = parse_url(options.text("url").unwrap_or_default())?;
        let query = take_query(&mut url)?;
        let setting = |key: &str| options.text(key).or_else(|| query_value(&query, key));
        let target = Target::of(&url, setting("socket").map(PathBuf::from))?;
        let tls = Tls::parse(context, &setting, &target.host, target.socket.is_some())?;
        Ok(Self {
            location: target.location(),
            target,
            tls,
            pool_size: options::pool_size(options, POOL_SIZE_MAX)?,
            pool_wait: options::pool_wait(options),
            connect_timeout: options::connect_timeout(options, None)?,
            idle_timeout: options::idle_timeout(options),
            statement_timeout: options::statement_timeout(options),
        })
    }
}

impl Target {
    fn of(url: &Url, socket: Option<PathBuf>) -> Result<Self> {
        let host = url.host_str().filter(|host| !host.is_empty()).unwrap_or(LOOPBACK);
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            // An IPv6 address stands in brackets only in a url.
            host: decoded(host)?.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(PORT),
            socket,
            user: filled(decoded(url.username())?),
            password: url.password().map(decoded).transpose()?,
            database: filled(decoded(url.path().trim_start_matches('/'))?),
        })
    }

    /// For messages: without the password.
    fn location(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let database = self.database.as_deref().unwrap_or_default();
        match &self.socket {
            Some(path) => format!("mysql://{user}{}/{database}", path.display()),
            None if self.host.contains(':') => format!("mysql://{user}[{}]:{}/{database}", self.host, self.port),
            None => format!("mysql://{user}{}:{}/{database}", self.host, self.port),
        }
    }
}

/// A part of a url, in which any byte may be written by its number.
fn decoded(part: &str) -> Result<String> {
    let text = percent_decode_str(part).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| url_error("a part of it is not UTF-8"))
}

impl Tls {
    fn parse<'a>(
        context: OpenContext<'_>,
        setting: &impl Fn(&str) -> Option<&'a str>,
        host: &str,
        socket: bool,
    ) -> Result<Self> {
        let path = |key: &str| setting(key).map(|path| context.resolve(path));
        let root = setting("sslrootcert").filter(|root| *root != "system").map(|path| context.resolve(path));
        let mode = match setting("sslmode") {
            // As in libpq: a Unix socket is never encrypted.
            _ if socket => SslMode::Disable,
            Some(word) => SslMode::parse(word)?,
            None if options::is_loopback(host) => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        // As in libpq: a root certificate makes `require` verify the chain.
        let mode = if mode == SslMode::Require && root.is_some() { SslMode::VerifyCa } else { mode };
        let identity = options::client_certificate(path("sslcert"), path("sslkey"))?;
        Ok(Self { mode, root, identity })
    }
}

impl SslMode {
    fn parse(word: &str) -> Result<Self> {
        match word {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(Error::config(format!("\"sslmode\" of a mysql url takes one of {}", SSL_MODES.join(", ")))),
        }
    }
}

fn parse_url(text: &str) -> Result<Url> {
    let mut url = Url::parse(text).map_err(|cause| url_error(&cause.to_string()))?;
    match url.scheme() {
        "mysql" => {}
        "mariadb" => url.set_scheme("mysql").map_err(|()| url_error("the scheme must be mysql or mariadb"))?,
        _ => return Err(url_error("the scheme must be mysql or mariadb")),
    }
    if url.path().trim_start_matches('/').contains('/') {
        return Err(url_error("the path must be one database's name"));
    }
    Ok(url)
}

/// Says what is wrong with the url without showing any of it.
fn url_error(reason: &str) -> Error {
    Error::config(format!("key \"url\" in \"source\" must be mysql://user:password@host:3306/database: {reason}"))
}

/// Takes the query off the url, refusing unknown keys.
fn take_query(url: &mut Url) -> Result<Vec<(String, String)>> {
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if let Some((key, _)) = query.iter().find(|(key, _)| !URL_KEYS.contains(&key.as_str())) {
        let hint =
            nearest(key, URL_KEYS.iter().copied()).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        return Err(Error::config(format!("unknown key {key:?} in the query of \"url\"{hint}")));
    }
    url.set_query(None);
    Ok(query)
}

fn query_value<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("location", &self.location)
            .field("tls", &self.tls)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use headwater_source::{OptionValue, ServiceName};

    use super::*;

    fn parse(url: &str, more: &[(&str, &str)]) -> Result<Config> {
        let service = ServiceName::parse("shop")?;
        let mut values = BTreeMap::from([("url".to_owned(), OptionValue::Text(url.to_owned()))]);
        for (key, value) in more {
            values.insert((*key).to_owned(), OptionValue::Text((*value).to_owned()));
        }
        let options = Options::check(OPTIONS, values)?;
        Config::parse(OpenContext { service: &service, directory: Path::new("/manifests") }, &options)
    }

    #[test]
    fn url_of_either_scheme_names_user_host_port_and_database() {
        for scheme in ["mysql", "mariadb"] {
            let config = parse(&format!("{scheme}://us%40er:p%2Fw@db.example:3307/sh%20op"), &[]).unwrap();
            assert_eq!(config.target.user.as_deref(), Some("us@er"));
            assert_eq!(config.target.password.as_deref(), Some("p/w"));
            assert_eq!(config.target.database.as_deref(), Some("sh op"));
            assert_eq!(config.location, "mysql://us@er@db.example:3307/sh op");
            assert_eq!(config.tls.mode, SslMode::VerifyFull);
        }
    }

    #[test]
    fn loopback_may_be_plain_and_a_socket_is() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(parse(&format!("mysql://u@{host}/d"), &[]).unwrap().tls.mode, SslMode::Prefer, "{host}");
        }
        let config = parse("mysql://u@localhost/d?socket=/run/m.sock&sslmode=require", &[]).unwrap();
        assert_eq!(config.tls.mode, SslMode::Disable);
        assert_eq!(config.target.socket.as_deref(), Some(Path::new("/run/m.sock")));
    }

    #[test]
    fn option_wins_over_the_url_and_paths_are_relative_to_the_manifest() {
        let config = parse(
            "mysql://u@h/d?sslmode=disable&sslrootcert=url.pem",
            &[("sslmode", "verify-ca"), ("sslrootcert", "ca.pem")],
        )
        .unwrap();
        assert_eq!(config.tls.mode, SslMode::VerifyCa);
        assert_eq!(config.tls.root.as_deref(), Some(Path::new("/manifests/ca.pem")));
    }

    #[test]
    fn require_with_a_root_certificate_verifies_the_chain() {
        assert_eq!(parse("mysql://u@h/d?sslmode=require", &[]).unwrap().tls.mode, SslMode::Require);
        assert_eq!(parse("mysql://u@h/d?sslmode=require&sslrootcert=a", &[]).unwrap().tls.mode, SslMode::VerifyCa);
    }

    #[test]
    fn faulty_url_is_refused_without_being_shown() {
        for bad in [
            "nonsense-canary",
            "postgres://u:canary@h/d",
            "mysql://u:canary@h/d?sslmod=require",
            "mysql://u:canary@h/d?sslmode=maybe",
            "mysql://u:canary@h/a/b",
            "mysql://u:canary@h:port/d",
            "mysql://u:canary@h/d?sslcert=only",
        ] {
            let message = parse(bad, &[]).unwrap_err().report();
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn every_option_and_its_default_is_documented() {
        let page = include_str!("../../../docs/connectors/mysql.md");
        for option in OPTIONS {
            assert!(page.contains(&format!("`{}`", option.name)), "{} is not in the page", option.name);
        }
        for default in [8, 60_000, 5_000, 300_000] {
            assert!(page.contains(&format!("| {default} |")), "the default {default} is not in the page");
        }
    }

    #[test]
    fn config_prints_no_password() {
        let printed = format!("{:?}", parse("mysql://u:canary@h/d", &[]).unwrap());
        assert!(printed.contains("u@h") && !printed.contains("canary"), "{printed}");
    }
}
