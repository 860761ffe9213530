//! Passwords: Argon2id, in the PHC string format (`$argon2id$v=19$m=...`).

use std::fmt;
use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use super::random;

/// The longest password that is looked at, in bytes: hashing takes time in proportion.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;

/// The most memory that a hash in the users file may ask for, in KiB: 256 MiB. One that asks for more would be a way to stop the server.
const MEMORY_KIB_MAX: u32 = 256 * 1024;

/// The most passes that a hash in the users file may ask for.
const PASSES_MAX: u32 = 16;

/// A password's hash as the users file holds it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hashed(String);

/// A hash shows nothing: it can be guessed at.
impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(REDACTED)")
    }
}

impl Hashed {
    /// Reads a hash. The error says what is wrong and never shows the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "takes an Argon2id hash; make one with: headwater user hash";
        let hash = PasswordHash::new(text).map_err(|_| EXPECTED)?;
        if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
            return Err(EXPECTED);
        }
        let params = Params::try_from(&hash).map_err(|_| EXPECTED)?;
        if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
            return Err("asks for more than 256 MiB or 16 passes; make a new hash with: headwater user hash");
        }
        Ok(Self(text.to_owned()))
    }

    /// Hashes a password with a new salt.
    pub(crate) fn new(password: &[u8]) -> Result<Self, String> {
        let salt: [u8; 16] = random().map_err(|error| error.to_string())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        let hash = argon2.hash_password_with_salt(password, &salt).map_err(|error| error.to_string())?;
        Ok(Self(hash.to_string()))
    }

    /// What the file holds.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether the password is the one. Takes tens of milliseconds and 19 MiB by the default parameters: not for a thread that serves connections.
    pub(crate) fn matches(&self, password: &[u8]) -> bool {
        let Ok(hash) = PasswordHash::new(&self.0) else { return false };
        Argon2::default().verify_password(password, &hash).is_ok()
    }
}

/// The hash of a password that nobody has: what a name that is not known is checked against, so that it takes as long.
pub(crate) fn nobodys() -> Option<&'static Hashed> {
    static NOBODYS: LazyLock<Option<Hashed>> = LazyLock::new(|| {
        let secret: [u8; 32] = random().ok()?;
        Hashed::new(&secret).ok()
    });
    NOBODYS.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_matches_its_hash_and_no_other() {
        let hash = Hashed::new("pässword".as_bytes()).unwrap();
        assert!(hash.text().starts_with("$argon2id$v=19$m="), "{}", hash.text());
        let read = Hashed::parse(hash.text()).unwrap();
        assert!(read.matches("pässword".as_bytes()));
        assert!(!read.matches(b"password") && !read.matches(b""));
        assert_ne!(Hashed::new("pässword".as_bytes()).unwrap(), hash, "each has a salt of its own");
    }

    #[test]
    fn what_is_no_hash_or_asks_for_too_much_is_refused_without_showing_it() {
        for text in [
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        ] {
            let message = Hashed::parse(text).unwrap_err();
            assert!(message.contains("headwater user hash") && !message.contains(text), "{message}");
        }
        let greedy = "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21l$aGFzaGhhc2hoYXNoaGFzaA";
        assert!(Hashed::parse(greedy).unwrap_err().contains("256 MiB"));
    }

    #[test]
    fn debug_shows_nothing() {
        let hash = Hashed::new(b"canary").unwrap();
        assert_eq!(format!("{hash:?}"), "Hashed(REDACTED)");
    }
}
