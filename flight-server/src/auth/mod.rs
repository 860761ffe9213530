//! Who may come in.
//!
//! Every door (Flight SQL, the Postgres protocol, HTTP) asks one [`Gate`] who a request is from. A gate without a users file is open and
//! lets everybody in as [`Principal::anyone`]; the command line opens such a server on loopback alone. With a users file a request needs a password,
//! an API token, a client certificate or a JWT of the file's issuer, and the gate is asked for **every** request, not for the first of a connection: who is taken
//! out of the file, or whose password changed, is out with the next request.
//!
//! # What is kept, and how
//! - Passwords as Argon2id hashes (`password`), and as SCRAM-SHA-256 verifiers for the Postgres protocol (`scram`), which never sees the password.
//! - API tokens as SHA-256 of 256 random bits (`token`): there is nothing to guess, so nothing slow is needed.
//! - Sessions that a login opened as SHA-256 of their token, in memory, with an end.
//!
//! # Refused
//! Failed logins cost time that doubles, for a name at an address and for the address (`limiter`). A refusal never says whether the name or the
//! secret was wrong, takes the same work for both, and is logged without the secret. Secrets are compared in constant time.
//!
//! Rejected: a session per connection that is checked once (a token that was taken back would live as long as its connection).

pub(crate) mod current;
mod gate;
mod jwt;
pub(crate) mod limiter;
pub(crate) mod password;
mod principal;
pub(crate) mod reload;
pub(crate) mod scram;
pub(crate) mod token;
pub(crate) mod users;

pub use gate::Gate;
pub(crate) use gate::{Denied, Peer};
pub use principal::Principal;

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("the system has no random bytes"))?;
    Ok(bytes)
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// A principal of this name.
#[cfg(test)]
pub(crate) fn test_principal(name: &str) -> Principal {
    Principal::user(name, principal::Proof::Credential { stored: [0; 32], ends: None })
}
