//! The gate: from what a request carries to who it is from.
//!
//! - `denied` is where a request comes from and why nobody comes in; `credential` knows passwords, sessions and tokens.

mod credential;
mod denied;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use headwater::{AuditLog, Fault};
use parking_lot::{Mutex, RwLock};
use rustls::server::ParsedCertificate;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::jwt::Keys;
use super::limiter::{Attempt, Limiter};
use super::principal::{Principal, Proof};
use super::reload::{Reload, digest_of};
use super::scram::Verifier;
use super::token;
use super::users::Users;
use super::{random, sha256};
pub(crate) use denied::{Denied, Peer};

/// How many passwords are hashed at a time: each takes a core and 19 MiB.
const HASHING_MAX: usize = 2;

/// How many sessions logins may have opened.
const SESSIONS_MAX: usize = 10_000;

/// How long a session lives unused.
const SESSION_IDLE: Duration = Duration::from_secs(60 * 60);

/// How long a session lives at all.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

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

    /// Whom the client's certificate names.
    pub(crate) fn certificate(&self, peer: &Peer) -> Option<Principal> {
        let certificate = ParsedCertificate::try_from(peer.certificate.as_ref()?).ok()?;
        let users = self.users();
        let (name, stored) =
            users.of_certificate(|name| rustls::client::verify_server_name(&certificate, name).is_ok())?;
        Some(Principal::user(name, Proof::Credential { stored, ends: None }))
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
