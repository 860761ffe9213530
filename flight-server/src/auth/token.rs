//! API tokens: 256 random bits, of which the users file holds the SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{random, sha256};

/// What an API token begins with, so that scanners for leaked secrets know one.
const API: &str = "hwt_";

/// What the token of a session begins with.
const SESSION: &str = "hws_";

/// The longest text that is looked at as a token, in bytes. A JWT with many claims has a few thousand.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What a bearer token is, by its look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of the users file.
    Api,
    /// Of a session that a login opened.
    Session,
    /// Perhaps a JWT.
    Other,
}

/// What a text is, as a token.
pub(crate) fn kind(text: &str) -> Kind {
    match (text.starts_with(API), text.starts_with(SESSION)) {
        (true, _) => Kind::Api,
        (_, true) => Kind::Session,
        _ => Kind::Other,
    }
}

/// A new API token, which only its owner keeps.
pub(crate) fn new_api() -> std::io::Result<String> {
    new(API)
}

/// A new token of a session.
pub(crate) fn new_session() -> std::io::Result<String> {
    new(SESSION)
}

fn new(prefix: &str) -> std::io::Result<String> {
    let secret: [u8; 32] = random()?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// What is kept of a token.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    sha256(token.as_bytes())
}

/// A digest as the users file holds it: 64 hexadecimal digits.
pub(crate) fn shown(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a digest.
pub(crate) fn parse(text: &str) -> Result<[u8; 32], &'static str> {
    const EXPECTED: &str =
        "takes the SHA-256 of a token as 64 hexadecimal digits; make a token with: headwater user token";
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(EXPECTED);
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| EXPECTED)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| EXPECTED)?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_told_apart_by_their_look() {
        let (one, two) = (new_api().unwrap(), new_api().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 4 + 43);
        assert_eq!(kind(&one), Kind::Api);
        assert_eq!(kind(&new_session().unwrap()), Kind::Session);
        assert_eq!(kind("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), Kind::Other);
    }

    #[test]
    fn digest_is_read_back_and_anything_else_is_refused() {
        let digest = digest("hwt_x");
        assert_eq!(parse(&shown(&digest)), Ok(digest));
        for text in ["", "hwt_x", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
