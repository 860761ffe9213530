//! The gate: from what a request carries to who it is from.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use headwater::{AuditLog, Fault};
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::jwt::{Keys, Refused};
use super::limiter::{Attempt, Limiter};
use super::password::{PASSWORD_BYTES_MAX, nobodys};
use super::principal::{Principal, Proof};
use super::reload::{Reload, digest_of};
use super::scram::Verifier;
use super::token::{self, Kind, TOKEN_BYTES_MAX};
use super::users::Users;
use super::{random, sha256};

/// How many passwords are hashed at a time: each takes a core and 19 MiB.
const HASHING_MAX: usize = 2;

/// How long a login may wait for its turn to be hashed.
const HASHING_WAIT: Duration = Duration::from_secs(10);

/// How long a password that was right need not be hashed again: clients without sessions send theirs with every request.
const VERIFIED_LIFE: Duration = Duration::from_secs(5 * 60);

/// How many such passwords are remembered.
const VERIFIED_MAX: usize = 1_000;

/// How many sessions logins may have opened.
const SESSIONS_MAX: usize = 10_000;

/// How long a session lives unused.
const SESSION_IDLE: Duration = Duration::from_secs(60 * 60);

/// How long a session lives at all.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest name of a user that is looked at or logged, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Base64 with padding or without: Arrow's client for Go sends a password without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Says who a request is from. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` where everybody may come in.
    file: Option<PathBuf>,
    users: RwLock<Arc<Users>>,
    /// The digest of the file's text that was looked at last.
    seen: Mutex<Option<[u8; 32]>>,
    keys: Keys,
    limiter: Limiter,
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    verified: Mutex<HashMap<[u8; 32], Instant>>,
    hashing: Semaphore,
    /// Of this process alone.
    secret: [u8; 32],
    audit: OnceLock<Arc<AuditLog>>,
}

struct Session {
    principal: Principal,
    opened: Instant,
    used: Instant,
}

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

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("file", &self.shared.file).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate without users: everybody may come in.
    pub fn open() -> Self {
        Self::of(None, Users::default(), None)
    }

    /// The gate of a users file, which is looked at again while the server runs.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn of_file(file: &Path) -> Result<Self, Vec<Fault>> {
        let seen = digest_of(&[file]);
        let users = Users::read(file)?;
        let gate = Self::of(Some(file.to_owned()), users, seen);
        gate.read_keys();
        Ok(gate)
    }

    fn of(file: Option<PathBuf>, users: Users, seen: Option<[u8; 32]>) -> Self {
        let secret = random().unwrap_or_else(|_| sha256(uuid::Uuid::new_v4().as_bytes()));
        let shared = Shared {
            file,
            users: RwLock::new(Arc::new(users)),
            seen: Mutex::new(seen),
            keys: Keys::default(),
            limiter: Limiter::default(),
            sessions: Mutex::default(),
            verified: Mutex::default(),
            hashing: Semaphore::new(HASHING_MAX),
            secret,
            audit: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether everybody may come in.
    pub fn is_open(&self) -> bool {
        self.shared.file.is_none()
    }

    /// Records in this log too whom it does not let in; the first log that is given stays.
    pub fn record_to(&self, log: Arc<AuditLog>) {
        let _first = self.shared.audit.set(log);
    }

    /// Logs a refusal. The name is what the client sent, made printable and short.
    pub(crate) fn refused(&self, peer: &Peer, name: &str, reason: &str) {
        let name = &name[..name.floor_char_boundary(64)];
        warn!(door = peer.door, address = %peer.address, user = ?name, reason, "login refused");
        if let Some(audit) = self.shared.audit.get() {
            audit.login_refused(name, peer.door, peer.address, reason);
        }
    }

    /// Whom a request is from that carries this `authorization` header, or none.
    pub(crate) async fn header(&self, authorization: Option<&str>, peer: &Peer) -> Result<Principal, Denied> {
        if self.is_open() {
            return Ok(Principal::anyone());
        }
        let Some(header) = authorization else { return self.certificate(peer).ok_or(Denied::Missing) };
        let Some((scheme, value)) = header.split_once(' ') else { return Err(Denied::Missing) };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer(value.trim(), peer).await;
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = BASE64.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
                return Err(Denied::Wrong);
            };
            return self.password(name, password, peer).await;
        }
        Err(Denied::Missing)
    }

    /// Whom a password is of.
    pub(crate) async fn password(&self, name: &str, password: &str, peer: &Peer) -> Result<Principal, Denied> {
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(Denied::Wrong);
        }
        let users = self.users();
        let stored = users.user(name).and_then(|user| user.password.clone());
        let proven = stored.as_ref().map(|hash| Proof::Credential { stored: hash.fingerprint(), ends: None });
        let remembered = stored.as_ref().map(|hash| self.mark(name, password, &hash.fingerprint()));
        if let (Some(mark), Some(proof)) = (&remembered, &proven)
            && self.was_verified(mark, Instant::now())
        {
            return Ok(Principal::user(name, proof.clone()));
        }
        let attempt = self.attempt(Some(name), peer)?;
        let turn = tokio::time::timeout(HASHING_WAIT, self.shared.hashing.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Denied::Busy) };
        // A name that is not known takes as long as one that is.
        let Some(hash) = stored.or_else(|| nobodys().cloned()) else { return Err(Denied::Busy) };
        let given = password.as_bytes().to_vec();
        let is_right = tokio::task::spawn_blocking(move || hash.matches(&given)).await.unwrap_or(false);
        match (proven, is_right) {
            (Some(proof), true) => {
                self.shared.limiter.succeeded(&attempt);
                if let Some(mark) = remembered {
                    self.remember(mark, Instant::now());
                }
                Ok(Principal::user(name, proof))
            }
            _ => {
                self.refused(peer, name, "wrong password or unknown user");
                Err(Denied::Wrong)
            }
        }
    }

    async fn bearer(&self, text: &str, peer: &Peer) -> Result<Principal, Denied> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Wrong);
        }
        let found = match token::kind(text) {
            Kind::Session => self.session(text, Instant::now()),
            Kind::Api => self.api_token(text, SystemTime::now()),
            Kind::Other => self.jwt(text).await,
        };
        match found {
            Some(principal) => Ok(principal),
            None => {
                // Guessing is hopeless; the wait is for whoever floods the log.
                let attempt = self.attempt(None, peer);
                self.refused(peer, "", "unknown or expired token");
                attempt.and(Err(Denied::Wrong))
            }
        }
    }

    fn session(&self, text: &str, now: Instant) -> Option<Principal> {
        let digest = token::digest(text);
        let mut sessions = self.shared.sessions.lock();
        let session = sessions.get_mut(&digest)?;
        if !session.lives(now) || !self.still_holds(&session.principal) {
            sessions.remove(&digest);
            return None;
        }
        session.used = now;
        Some(session.principal.clone())
    }

    fn api_token(&self, text: &str, now: SystemTime) -> Option<Principal> {
        let digest = token::digest(text);
        let users = self.users();
        let token = users.token(&digest)?;
        if token.ends.is_some_and(|ends| ends <= now) {
            return None;
        }
        Some(Principal::user(&token.user, Proof::Credential { stored: digest, ends: token.ends }))
    }

    async fn jwt(&self, text: &str) -> Option<Principal> {
        let users = self.users();
        let issuer = users.issuer()?;
        let mut checked = self.shared.keys.check(issuer, text);
        if checked == Err(Refused::UnknownKey) {
            self.shared.keys.fetch(issuer, true, Instant::now()).await;
            checked = self.shared.keys.check(issuer, text);
        }
        match checked {
            Ok(subject) => {
                let proof = Proof::Issuer { config: issuer.fingerprint(), ends: subject.ends };
                Some(Principal::user(&subject.name, proof))
            }
            Err(reason) => {
                warn!(?reason, "a JWT was refused");
                None
            }
        }
    }

    /// Whom the client's certificate names.
    pub(crate) fn certificate(&self, peer: &Peer) -> Option<Principal> {
        let certificate = ParsedCertificate::try_from(peer.certificate.as_ref()?).ok()?;
        let users = self.users();
        let (name, stored) =
            users.of_certificate(|name| rustls::client::verify_server_name(&certificate, name).is_ok())?;
        Some(Principal::user(name, Proof::Credential { stored, ends: None }))
    }

    /// Opens a session; its token stands for the principal until it ends.
    pub(crate) fn open_session(&self, principal: &Principal) -> Result<String, Denied> {
        let (token, now) = (token::new_session().map_err(|_| Denied::Busy)?, Instant::now());
        let mut sessions = self.shared.sessions.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| session.lives(now));
        }
        if sessions.len() >= SESSIONS_MAX {
            return Err(Denied::Busy);
        }
        let session = Session { principal: principal.clone(), opened: now, used: now };
        sessions.insert(token::digest(&token), session);
        Ok(token)
    }

    /// What SCRAM goes by for a name, known or not, and what it will have proven.
    pub(crate) fn verifier(&self, name: &str) -> (Verifier, Option<Principal>) {
        let users = self.users();
        match users.user(name).and_then(|user| user.scram.clone()) {
            Some(verifier) => {
                let proof = Proof::Credential { stored: verifier.fingerprint(), ends: None };
                let principal = Principal::user(name, proof);
                (verifier, Some(principal))
            }
            None => (Verifier::nobodys(name, &self.shared.secret), None),
        }
    }

    /// Lets an attempt to log in begin.
    pub(crate) fn attempt(&self, name: Option<&str>, peer: &Peer) -> Result<Attempt, Denied> {
        self.shared.limiter.attempt(peer.address, name, Instant::now()).map_err(|wait| {
            self.refused(peer, name.unwrap_or_default(), "too many failed logins");
            Denied::Wait(wait)
        })
    }

    /// An attempt has succeeded.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        self.shared.limiter.succeeded(attempt);
    }

    /// Whether a principal that was let in before would still be.
    pub(crate) fn still_holds(&self, principal: &Principal) -> bool {
        let now = SystemTime::now();
        match (principal.name(), principal.proof()) {
            (_, Proof::Nothing) => self.is_open(),
            (Some(name), Proof::Credential { stored, ends }) => {
                ends.is_none_or(|ends| ends > now) && self.users().holds(name, stored)
            }
            (Some(_), Proof::Issuer { config, ends }) => {
                *ends > now && self.users().issuer().is_some_and(|issuer| issuer.fingerprint() == *config)
            }
            (None, _) => false,
        }
    }

    /// Asks the issuer for its keys, where that is due.
    pub(crate) async fn fetch_keys(&self) {
        let users = self.users();
        if let Some(issuer) = users.issuer() {
            self.shared.keys.fetch(issuer, false, Instant::now()).await;
        }
    }

    fn read_keys(&self) {
        if let Some(issuer) = self.users().issuer() {
            self.shared.keys.read(issuer);
        }
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.shared.users.read())
    }

    /// What a password that was right is remembered by.
    fn mark(&self, name: &str, password: &str, stored: &[u8; 32]) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.shared.secret);
        let text = [sha256(name.as_bytes()), sha256(password.as_bytes()), *stored].concat();
        sha256(ring::hmac::sign(&key, &text).as_ref())
    }

    fn was_verified(&self, mark: &[u8; 32], now: Instant) -> bool {
        self.shared.verified.lock().get(mark).is_some_and(|ends| *ends > now)
    }

    fn remember(&self, mark: [u8; 32], now: Instant) {
        let mut verified = self.shared.verified.lock();
        if verified.len() >= VERIFIED_MAX {
            verified.retain(|_, ends| *ends > now);
        }
        // A full memory only costs another hashing.
        if verified.len() < VERIFIED_MAX {
            verified.insert(mark, now + VERIFIED_LIFE);
        }
    }
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < SESSION_IDLE
            && now.saturating_duration_since(self.opened) < SESSION_LIFE
    }
}

impl Reload for Gate {
    fn reload(&self) {
        let Some(file) = &self.shared.file else { return };
        self.read_keys();
        let digest = digest_of(&[file]);
        if digest.is_none() || std::mem::replace(&mut *self.shared.seen.lock(), digest) == digest {
            return;
        }
        match Users::read(file) {
            Ok(users) => {
                *self.shared.users.write() = Arc::new(users);
                self.read_keys();
                info!(file = %file.display(), "the users file was read again");
            }
            Err(faults) => {
                for fault in faults {
                    warn!(%fault, "the users file is wrong; the one before stays in force");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::Hashed;
    use super::*;

    struct File {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl File {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("users.yaml");
            std::fs::write(&path, text).unwrap();
            Self { _directory: directory, path }
        }

        fn gate(&self) -> Gate {
            Gate::of_file(&self.path).unwrap()
        }
    }

    fn ada(password: &str) -> String {
        format!("users:\n  ada: {{password: \"{}\"}}\n", Hashed::new(password.as_bytes()).unwrap().text())
    }

    fn peer() -> Peer {
        Peer { address: IpAddr::from([127, 0, 0, 1]), door: "test", certificate: None }
    }

    fn basic(name: &str, password: &str) -> String {
        format!("Basic {}", BASE64.encode(format!("{name}:{password}")))
    }

    #[tokio::test]
    async fn open_gate_lets_everybody_in_as_anyone() {
        let gate = Gate::open();
        let principal = gate.header(None, &peer()).await.unwrap();
        assert_eq!(principal, Principal::anyone());
        assert!(gate.still_holds(&principal));
    }

    #[tokio::test]
    async fn password_in_a_header_names_its_user_and_opens_a_session() {
        let file = File::new(&ada("secret: with a colon"));
        let gate = file.gate();
        let principal = gate.header(Some(&basic("ada", "secret: with a colon")), &peer()).await.unwrap();
        assert_eq!(principal.name(), Some("ada"));
        let token = gate.open_session(&principal).unwrap();
        let again = gate.header(Some(&format!("Bearer {token}")), &peer()).await.unwrap();
        assert_eq!(again, principal);
    }

    #[tokio::test]
    async fn header_without_padding_is_read_too() {
        let file = File::new(&ada("secret"));
        let header = basic("ada", "secret");
        assert!(header.ends_with('='), "{header}");
        file.gate().header(Some(header.trim_end_matches('=')), &peer()).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_the_wrong_thing_and_a_broken_header_are_refused() {
        let file = File::new(&ada("secret"));
        let gate = file.gate();
        assert_eq!(gate.header(None, &peer()).await, Err(Denied::Missing));
        for header in ["", "Basic", "Digest x", "bearer"] {
            assert_eq!(gate.header(Some(header), &peer()).await, Err(Denied::Missing), "{header}");
        }
        for header in
            [basic("ada", "wrong"), basic("bob", "secret"), basic("", ""), "Basic !".to_owned(), "Bearer x".to_owned()]
        {
            assert_eq!(gate.header(Some(&header), &peer()).await, Err(Denied::Wrong), "{header}");
        }
        let long = basic("ada", &"x".repeat(PASSWORD_BYTES_MAX + 1));
        assert_eq!(gate.header(Some(&long), &peer()).await, Err(Denied::Wrong));
    }

    #[tokio::test]
    async fn guessing_must_wait_and_a_known_session_need_not() {
        let file = File::new(&ada("secret"));
        let gate = file.gate();
        let principal = gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
        let token = gate.open_session(&principal).unwrap();
        for number in 0..5 {
            assert_eq!(gate.header(Some(&basic("ada", &number.to_string())), &peer()).await, Err(Denied::Wrong));
        }
        assert!(matches!(gate.header(Some(&basic("ada", "guess")), &peer()).await, Err(Denied::Wait(_))));
        gate.header(Some(&format!("Bearer {token}")), &peer()).await.unwrap();
        // Who has shown the password a moment ago is not held up by who guesses beside them.
        gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
    }

    #[tokio::test]
    async fn changed_file_ends_what_rested_on_the_old_one() {
        let file = File::new(&ada("secret"));
        let gate = file.gate();
        let principal = gate.header(Some(&basic("ada", "secret")), &peer()).await.unwrap();
        let token = format!("Bearer {}", gate.open_session(&principal).unwrap());
        std::fs::write(&file.path, "users: {ada: {pasword: 1}}").unwrap();
        gate.reload();
        assert!(gate.still_holds(&principal), "a file with a fault changes nothing");
        std::fs::write(&file.path, ada("another")).unwrap();
        gate.reload();
        assert!(!gate.still_holds(&principal));
        assert_eq!(gate.header(Some(&token), &peer()).await, Err(Denied::Wrong));
        assert_eq!(gate.header(Some(&basic("ada", "secret")), &peer()).await, Err(Denied::Wrong));
        gate.header(Some(&basic("ada", "another")), &peer()).await.unwrap();
    }

    #[tokio::test]
    async fn api_token_is_taken_until_it_ends() {
        let (good, old) = (token::new_api().unwrap(), token::new_api().unwrap());
        let [good_digest, old_digest] = [&good, &old].map(|token| token::shown(&token::digest(token)));
        let text = format!(
            "users:\n  ci:\n    tokens:\n      a: {{sha256: \"{good_digest}\"}}\n      b: {{sha256: \"{old_digest}\", expires: \"2020-01-01T00:00:00Z\"}}\n"
        );
        let file = File::new(&text);
        let gate = file.gate();
        let principal = gate.header(Some(&format!("bearer {good}")), &peer()).await.unwrap();
        assert_eq!(principal.name(), Some("ci"));
        assert_eq!(gate.header(Some(&format!("Bearer {old}")), &peer()).await, Err(Denied::Wrong));
        let unknown = token::new_api().unwrap();
        assert_eq!(gate.header(Some(&format!("Bearer {unknown}")), &peer()).await, Err(Denied::Wrong));
    }

    #[test]
    fn refusal_says_how_long_to_wait_in_whole_seconds() {
        assert!(Denied::Wait(Duration::from_millis(1500)).to_string().ends_with("in 2 s"));
    }
}
