//! Passwords, sessions, tokens and JWTs: whom each is of.

use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::{Denied, Gate, Peer};
use crate::auth::jwt::Refused;
use crate::auth::password::{PASSWORD_BYTES_MAX, nobodys};
use crate::auth::principal::{Principal, Proof};
use crate::auth::sha256;
use crate::auth::token::{self, Kind, TOKEN_BYTES_MAX};

/// How long a login may wait for its turn to be hashed.
const HASHING_WAIT: Duration = Duration::from_secs(10);

/// How long a password that was right need not be hashed again: clients without sessions send theirs with every request.
const VERIFIED_LIFE: Duration = Duration::from_secs(5 * 60);

/// How many such passwords are remembered.
const VERIFIED_MAX: usize = 1_000;

/// The longest name of a user that is looked at or logged, in bytes.
const NAME_BYTES_MAX: usize = 256;

impl Gate {
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

    pub(super) async fn bearer(&self, text: &str, peer: &Peer) -> Result<Principal, Denied> {
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
