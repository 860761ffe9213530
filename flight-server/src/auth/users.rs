//! The users file: who there is, and what each is known by.
//!
//! ```yaml
//! users:
//!   ada:
//!     password: "$argon2id$v=19$m=19456,t=2,p=1$..."     # headwater user hash
//!     scram: "SCRAM-SHA-256$16384:...$...:..."           # the same password, for the Postgres protocol
//!     certificate: ada.example.com                       # a name in a certificate of --tls-client-ca
//!     tokens:
//!       laptop: {sha256: "9f86...", expires: "2027-01-01T00:00:00Z"}   # headwater user token
//! issuer:
//!   url: https://login.example.com/
//!   audience: headwater
//!   keys: ./jwks.json                                    # or https://...
//!   name: email                                          # the claim that names the user; sub where it is left out
//! ```
//!
//! It is read as manifests are: unknown keys are faults that name the nearest known one, and no fault shows a value.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use headwater::{Fault, YamlEntry, YamlNode, YamlValue, nearest, read_yaml};
use rustls::pki_types::ServerName;
use subtle::ConstantTimeEq;

use super::password::Hashed;
use super::scram::Verifier;
use super::{sha256, token};

/// The longest name of a user, in bytes: that of PostgreSQL.
const NAME_BYTES_MAX: usize = 63;

/// Everybody who may come in.
#[derive(Debug, Default)]
pub(crate) struct Users {
    users: BTreeMap<String, User>,
    /// The tokens of all users, by their digests.
    tokens: HashMap<[u8; 32], ApiToken>,
    issuer: Option<Issuer>,
}

/// What one user is known by.
#[derive(Debug, Default)]
pub(crate) struct User {
    pub(crate) password: Option<Hashed>,
    pub(crate) scram: Option<Verifier>,
    pub(crate) certificate: Option<ServerName<'static>>,
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiToken {
    pub(crate) user: String,
    pub(crate) ends: Option<SystemTime>,
}

/// Who else may say who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) audience: String,
    pub(crate) keys: KeysAt,
    pub(crate) name_claim: String,
}

/// Where an issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysAt {
    File(PathBuf),
    Url(String),
}

impl Users {
    /// Reads a users file.
    pub(crate) fn read(file: &Path) -> Result<Self, Vec<Fault>> {
        let root = read_yaml(file)?;
        let mut reader = Reader { file, faults: Vec::new() };
        let users = match root {
            Some(root) => reader.users(root),
            None => Self::default(),
        };
        if users.users.is_empty() && users.issuer.is_none() && reader.faults.is_empty() {
            reader.fault(1, "", "names nobody; write users: {NAME: {password: ...}}");
        }
        if reader.faults.is_empty() { Ok(users) } else { Err(reader.faults) }
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Whose token has this digest.
    pub(crate) fn token(&self, digest: &[u8; 32]) -> Option<&ApiToken> {
        let (stored, token) = self.tokens.get_key_value(digest)?;
        bool::from(stored.ct_eq(digest)).then_some(token)
    }

    /// The user whose name a certificate holds.
    pub(crate) fn of_certificate(&self, is_named: impl Fn(&ServerName<'_>) -> bool) -> Option<(&str, [u8; 32])> {
        let named = |(name, user): (&'_ String, &'_ User)| {
            user.certificate.as_ref().filter(|known| is_named(known)).map(|known| (name.clone(), fingerprint(known)))
        };
        let (name, stored) = self.users.iter().find_map(named)?;
        self.users.get_key_value(&name).map(|(name, _)| (name.as_str(), stored))
    }

    /// Whether the user is still known by what the file once held.
    pub(crate) fn holds(&self, name: &str, stored: &[u8; 32]) -> bool {
        let Some(user) = self.users.get(name) else { return false };
        let password = user.password.as_ref().map(Hashed::fingerprint);
        let scram = user.scram.as_ref().map(Verifier::fingerprint);
        let certificate = user.certificate.as_ref().map(fingerprint);
        [password, scram, certificate].iter().flatten().any(|known| known == stored)
            || self.tokens.get(stored).is_some_and(|token| token.user == name)
    }
}

impl Hashed {
    /// A fingerprint of what the file holds.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(self.text().as_bytes())
    }
}

impl Issuer {
    /// A fingerprint of the configuration.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(format!("{self:?}").as_bytes())
    }
}

fn fingerprint(certificate: &ServerName<'_>) -> [u8; 32] {
    sha256(format!("certificate {certificate:?}").as_bytes())
}

struct Reader<'a> {
    file: &'a Path,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.faults.push(Fault { file: self.file.to_owned(), line, key: key.to_owned(), message: message.into() });
    }

    fn mapping(&mut self, node: YamlNode, key: &str) -> Vec<YamlEntry> {
        match node.value {
            YamlValue::Mapping(entries) => entries,
            YamlValue::Nothing => Vec::new(),
            other => {
                self.fault(node.line, key, format!("takes a mapping, found {}", other.kind()));
                Vec::new()
            }
        }
    }

    fn text(&mut self, entry: YamlEntry, key: &str) -> Option<String> {
        match entry.node.value {
            YamlValue::Text(text) => Some(text),
            other => {
                self.fault(entry.line, key, format!("takes text, found {}", other.kind()));
                None
            }
        }
    }

    fn unknown(&mut self, entry: &YamlEntry, outer: &str, known: &[&str]) {
        let hint = nearest(&entry.key, known.iter().copied()).map(|name| format!("; did you mean \"{name}\"?"));
        let message = format!("unknown key; known are {}{}", known.join(", "), hint.unwrap_or_default());
        self.fault(entry.line, outer, message);
    }

    fn users(&mut self, root: YamlNode) -> Users {
        let mut found = Users::default();
        for entry in self.mapping(root, "") {
            match entry.key.as_str() {
                "users" => {
                    for user in self.mapping(entry.node, "users") {
                        self.user(user, &mut found);
                    }
                }
                "issuer" => found.issuer = self.issuer(entry),
                _ => self.unknown(&entry, "", &["users", "issuer"]),
            }
        }
        found
    }

    fn user(&mut self, entry: YamlEntry, found: &mut Users) {
        let (name, line) = (entry.key.clone(), entry.line);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(|c| c.is_control() || c == ':') {
            let message = format!("a user's name has 1 to {NAME_BYTES_MAX} bytes, no colon and nothing unprintable");
            self.fault(line, "users", message);
            return;
        }
        let key = format!("users.{name}");
        let mut user = User::default();
        let (mut tokens, faults) = (0, self.faults.len());
        for entry in self.mapping(entry.node, &key) {
            let below = format!("{key}.{}", entry.key);
            match entry.key.as_str() {
                "password" => user.password = self.parsed(entry, &below, Hashed::parse),
                "scram" => user.scram = self.parsed(entry, &below, Verifier::parse),
                "certificate" => {
                    let parse = |text: &str| {
                        let name = ServerName::try_from(text.to_owned());
                        name.map_err(|_| "takes a DNS name, as it stands in the certificate")
                    };
                    user.certificate = self.parsed(entry, &below, parse);
                }
                "tokens" => {
                    for token in self.mapping(entry.node, &below) {
                        tokens += 1;
                        self.token(token, &below, &name, found);
                    }
                }
                _ => self.unknown(&entry, &key, &["password", "scram", "certificate", "tokens"]),
            }
        }
        let is_known = user.password.is_some() || user.scram.is_some() || user.certificate.is_some() || tokens > 0;
        if !is_known && self.faults.len() == faults {
            self.fault(line, &key, "can't come in by anything; give a password, scram, certificate or tokens");
        }
        found.users.insert(name, user);
    }

    fn parsed<T>(&mut self, entry: YamlEntry, key: &str, parse: impl Fn(&str) -> Result<T, &'static str>) -> Option<T> {
        let line = entry.line;
        let text = self.text(entry, key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.fault(line, key, message);
                None
            }
        }
    }

    fn token(&mut self, entry: YamlEntry, outer: &str, user: &str, found: &mut Users) {
        let (line, key) = (entry.line, format!("{outer}.{}", entry.key));
        let (mut digest, mut ends) = (None, None);
        for entry in self.mapping(entry.node, &key) {
            let below = format!("{key}.{}", entry.key);
            match entry.key.as_str() {
                "sha256" => digest = self.parsed(entry, &below, token::parse),
                "expires" => ends = self.parsed(entry, &below, time),
                _ => self.unknown(&entry, &key, &["sha256", "expires"]),
            }
        }
        let Some(digest) = digest else {
            if self.faults.is_empty() {
                self.fault(line, &key, "lacks sha256; make a token with: headwater user token");
            }
            return;
        };
        let token = ApiToken { user: user.to_owned(), ends };
        if found.tokens.insert(digest, token).is_some() {
            self.fault(line, &key, "is the same token as another; each has its own");
        }
    }

    fn issuer(&mut self, entry: YamlEntry) -> Option<Issuer> {
        let line = entry.line;
        let (mut url, mut audience, mut keys, mut name_claim) = (None, None, None, None);
        for entry in self.mapping(entry.node, "issuer") {
            let key = format!("issuer.{}", entry.key);
            match entry.key.as_str() {
                "url" => url = self.text(entry, &key),
                "audience" => audience = self.text(entry, &key),
                "keys" => keys = self.text(entry, &key),
                "name" => name_claim = self.text(entry, &key),
                _ => self.unknown(&entry, "issuer", &["url", "audience", "keys", "name"]),
            }
        }
        let (Some(url), Some(audience), Some(keys)) = (url, audience, keys) else {
            self.fault(line, "issuer", "needs url, audience and keys");
            return None;
        };
        let keys = if keys.starts_with("https://") || is_loopback(&keys) {
            KeysAt::Url(keys)
        } else if keys.contains("://") {
            self.fault(line, "issuer.keys", "takes a file or an address that begins with https://");
            return None;
        } else {
            KeysAt::File(self.file.parent().unwrap_or(Path::new(".")).join(keys))
        };
        Some(Issuer { url, audience, keys, name_claim: name_claim.unwrap_or_else(|| "sub".to_owned()) })
    }
}

/// Whether an address without TLS stays on this machine.
fn is_loopback(url: &str) -> bool {
    url.strip_prefix("http://127.0.0.1:").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        && !url.contains('@')
}

fn time(text: &str) -> Result<SystemTime, &'static str> {
    const EXPECTED: &str = "takes a time such as 2027-01-01T00:00:00Z";
    // Without a zone it would be another time on another machine.
    if !text.ends_with('Z') {
        return Err(EXPECTED);
    }
    let nanoseconds = string_to_timestamp_nanos(text).map_err(|_| EXPECTED)?;
    let since = u64::try_from(nanoseconds).map_err(|_| EXPECTED)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Users, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.yaml");
        std::fs::write(&file, text).unwrap();
        let short = |fault: Fault| {
            let file = fault.file.file_name().unwrap().into();
            Fault { file, ..fault }.to_string()
        };
        Users::read(&file).map_err(|faults| faults.into_iter().map(short).collect())
    }

    #[test]
    fn user_is_known_by_each_thing_that_the_file_says() {
        let (hash, scram) = (Hashed::new(b"secret").unwrap(), Verifier::new("secret").unwrap());
        let digest = token::digest("hwt_x");
        let text = format!(
            "users:\n  ada:\n    password: \"{}\"\n    scram: \"{scram}\"\n    certificate: ada.example.com\n    tokens:\n      \
             laptop: {{sha256: \"{}\", expires: \"2027-01-01T00:00:00Z\"}}\n",
            hash.text(),
            token::shown(&digest)
        );
        let users = read(&text).unwrap();
        let ada = users.user("ada").unwrap();
        assert!(ada.password.as_ref().unwrap().matches(b"secret"));
        assert_eq!(ada.scram, Some(scram.clone()));
        let token = users.token(&digest).unwrap();
        assert_eq!(token.ends, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600)));
        assert!(users.holds("ada", &digest) && users.holds("ada", &scram.fingerprint()));
        assert!(users.holds("ada", &hash.fingerprint()));
        assert!(!users.holds("ada", &[0; 32]) && !users.holds("bob", &digest));
        let (name, stored) = users.of_certificate(|name| name.to_str() == "ada.example.com").unwrap();
        assert!(name == "ada" && users.holds("ada", &stored));
    }

    #[test]
    fn every_fault_has_its_line_and_no_value() {
        let text = "users:\n  ada: {pasword: x}\n  bob: {password: canary}\n  eve:\n  dan: {tokens: {a: {sha256: canary}}}\nuser: 1\n";
        let faults = read(text).unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(faults[0].starts_with("users.yaml:2: users.ada: unknown key") && faults[0].contains("\"password\""));
        assert!(faults[2].starts_with("users.yaml:4: users.eve: can't come in"));
        assert!(faults.iter().all(|fault| !fault.contains("canary")), "{faults:#?}");
        assert!(faults[4].contains("did you mean \"users\"?"), "{}", faults[4]);
    }

    #[test]
    fn file_that_names_nobody_is_a_fault() {
        for text in ["", "users: {}", "# nothing\n"] {
            assert!(read(text).unwrap_err()[0].contains("names nobody"), "{text}");
        }
    }

    #[test]
    fn issuer_needs_its_three_parts_and_keys_that_nobody_can_change_on_the_way() {
        let users = read("issuer: {url: https://a/, audience: hw, keys: ./jwks.json}").unwrap();
        assert!(matches!(&users.issuer().unwrap().keys, KeysAt::File(file) if file.ends_with("jwks.json")));
        assert_eq!(users.issuer().unwrap().name_claim, "sub");
        assert!(read("issuer: {url: https://a/, audience: hw}").unwrap_err()[0].contains("needs"));
        for keys in ["http://a/jwks", "http://127.0.0.1:1@evil.example/jwks"] {
            let text = format!("issuer: {{url: https://a/, audience: hw, keys: \"{keys}\"}}");
            assert!(read(&text).unwrap_err()[0].contains("https://"), "{keys}");
        }
    }

    #[test]
    fn time_without_a_zone_is_refused() {
        assert!(time("2027-01-01T00:00:00").is_err() && time("tomorrow").is_err());
    }
}
