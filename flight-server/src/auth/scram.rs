//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, as PostgreSQL speaks it.
//!
//! The server holds a verifier, from which nobody can log in, and sees no password. [`Exchange`] is the conversation without its transport: the
//! client's two messages in, the server's two out. A name without a verifier has one that nothing matches, with a salt that stays the same, so
//! that its conversation looks like any other.
//!
//! Refused: channel binding, which no message of ours offers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA256, Key, sign};
use subtle::ConstantTimeEq;

use super::{random, sha256};

/// The mechanism's name on the wire.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";

/// How many times a new verifier's password is hashed. RFC 7677 asks for 4,096 at least; clients pay for it at each connection.
const ITERATIONS: u32 = 16_384;

/// The fewest and the most that a verifier in the users file may have.
const ITERATIONS_MIN: u32 = 4_096;
const ITERATIONS_MAX: u32 = 1_000_000;

/// The longest message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What the server knows of a password, in PostgreSQL's form: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// A verifier shows nothing: it can be guessed at.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(REDACTED)")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        let [salt, stored_key, server_key] =
            [salt.as_slice(), stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{MECHANISM}${iterations}:{salt}${stored_key}:{server_key}")
    }
}

impl Verifier {
    /// Makes a verifier of a password, with a new salt.
    pub(crate) fn new(password: &str) -> std::io::Result<Self> {
        let salt: [u8; 16] = random()?;
        Ok(Self::of(password, &salt, ITERATIONS))
    }

    fn of(password: &str, salt: &[u8], iterations: u32) -> Self {
        let rounds = std::num::NonZeroU32::new(iterations).unwrap_or(std::num::NonZeroU32::MIN);
        let mut salted = [0; 32];
        // As PostgreSQL does: what SASLprep can't prepare is taken as it is.
        let prepared = saslprep(password);
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared.as_bytes(), &mut salted);
        let client_key = hmac(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&client_key),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Reads a verifier. The error says what is wrong and never shows the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "takes a SCRAM-SHA-256 verifier; make one with: headwater user hash";
        let read = || {
            let (head, keys) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once('$')?;
            let (iterations, salt) = head.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
            Some(Self {
                iterations: iterations.parse().ok()?,
                salt: STANDARD.decode(salt).ok().filter(|salt| (8..=256).contains(&salt.len()))?,
                stored_key: key(stored_key)?,
                server_key: key(server_key)?,
            })
        };
        let verifier = read().ok_or(EXPECTED)?;
        match (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&verifier.iterations) {
            true => Ok(verifier),
            false => {
                Err("has fewer than 4096 or more than 1000000 iterations; make a new one with: headwater user hash")
            }
        }
    }

    /// A verifier that nothing matches. Its salt goes by the name and a secret, and so is the same at each try.
    pub(crate) fn nobodys(name: &str, secret: &[u8; 32]) -> Self {
        let salt = hmac(secret, name.as_bytes())[..16].to_vec();
        let unknown = |what: &[u8]| hmac(secret, &[what, name.as_bytes()].concat());
        Self { iterations: ITERATIONS, salt, stored_key: unknown(b"stored "), server_key: unknown(b"server ") }
    }

    /// A fingerprint of what the file holds.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(self.to_string().as_bytes())
    }
}

/// Why a client's message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It breaks the protocol.
    Malformed(&'static str),
    /// The proof is not that of the password.
    WrongProof,
}

/// A conversation, after the client's first message.
pub(crate) struct Exchange {
    verifier: Verifier,
    /// What the client's last message must begin its binding with.
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// Takes the client's first message. The name in it is not looked at, as in PostgreSQL: the connection has named its user already.
    pub(crate) fn begin(verifier: Verifier, message: &[u8]) -> Result<Self, Refused> {
        let nonce: [u8; 18] = random().map_err(|_| Refused::Malformed("the system has no random bytes"))?;
        Self::begin_with(verifier, message, &STANDARD.encode(nonce))
    }

    fn begin_with(verifier: Verifier, message: &[u8], server_nonce: &str) -> Result<Self, Refused> {
        let text = text_of(message)?;
        let malformed = Refused::Malformed("the first message of SCRAM is not understood");
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed);
        };
        match binding {
            // "y": the client could bind to the channel and saw that the server does not offer it, which is so.
            "n" | "y" => {}
            _ => return Err(Refused::Malformed("channel binding is not offered")),
        }
        if !(identity.is_empty() || identity.starts_with("a=")) {
            return Err(malformed);
        }
        let client_nonce = bare
            .strip_prefix("n=")
            .and_then(|rest| rest.split_once(",r="))
            .map(|(_, nonce)| nonce.split(',').next().unwrap_or_default())
            .filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or(malformed)?;
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        Ok(Self {
            gs2_header: format!("{binding},{identity},"),
            client_first_bare: bare.to_owned(),
            server_first,
            nonce,
            verifier,
        })
    }

    /// The server's first message.
    pub(crate) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message; the answer proves the server to the client.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, Refused> {
        let text = text_of(message)?;
        let malformed = Refused::Malformed("the last message of SCRAM is not understood");
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(malformed)?;
        if binding != STANDARD.encode(&self.gs2_header) || nonce != self.nonce {
            return Err(malformed);
        }
        let proof = <[u8; 32]>::try_from(STANDARD.decode(proof).map_err(|_| malformed)?).map_err(|_| malformed)?;
        let signed = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = hmac(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = [0; 32];
        for (key, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(signature)) {
            *key = proof ^ signature;
        }
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(Refused::WrongProof);
        }
        Ok(format!("v={}", STANDARD.encode(hmac(&self.verifier.server_key, signed.as_bytes()))))
    }
}

fn text_of(message: &[u8]) -> Result<&str, Refused> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Refused::Malformed("a message of SCRAM is longer than 4096 bytes"));
    }
    std::str::from_utf8(message).map_err(|_| Refused::Malformed("a message of SCRAM is not UTF-8"))
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut tag = [0; 32];
    tag.copy_from_slice(sign(&Key::new(HMAC_SHA256, key), text).as_ref());
    tag
}

/// The password as clients prepare it. Where RFC 4013 has no answer, it goes as it is, which is what libpq and PostgreSQL do.
fn saslprep(password: &str) -> std::borrow::Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(std::borrow::Cow::Borrowed(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 7677, section 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn example() -> Verifier {
        Verifier::of("pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
    }

    fn exchange(verifier: Verifier) -> Exchange {
        Exchange::begin_with(verifier, FIRST.as_bytes(), NONCE).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn example_of_the_rfc_goes_through() {
        let exchange = exchange(example());
        assert_eq!(
            exchange.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(exchange.finish(LAST.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn other_password_unknown_name_and_changed_message_are_refused() {
        let other = Verifier::of("pencils", &example().salt, 4096);
        assert_eq!(exchange(other).finish(LAST.as_bytes()).unwrap_err(), Refused::WrongProof);
        let nobody = Verifier::nobodys("user", &[7; 32]);
        assert_eq!(nobody, Verifier::nobodys("user", &[7; 32]));
        assert_ne!(nobody.salt, Verifier::nobodys("other", &[7; 32]).salt);
        assert_eq!(exchange(nobody).finish(LAST.as_bytes()).unwrap_err(), Refused::WrongProof);
        for changed in
            [LAST.replace("biws", "eSws"), LAST.replace("rOpr", "rOps"), "p=".to_owned(), LAST.replace(",p=", ",q=")]
        {
            assert!(matches!(exchange(example()).finish(changed.as_bytes()), Err(Refused::Malformed(_))), "{changed}");
        }
        assert_eq!(
            exchange(example()).finish(LAST.replace("dHzb", "dHzc").as_bytes()).unwrap_err(),
            Refused::WrongProof
        );
    }

    #[test]
    fn first_message_that_breaks_the_protocol_is_refused() {
        for message in [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,n=user,r=",
            "p=tls-server-end-point,,n=,r=a",
            "n,b=x,n=,r=a",
            "n,,m=x,n=,r=a",
            "n,,n=,r=a b",
        ] {
            assert!(Exchange::begin(example(), message.as_bytes()).is_err(), "{message}");
        }
        assert!(Exchange::begin(example(), &[0xff; 9]).is_err());
        assert!(Exchange::begin(example(), &[b'n'; MESSAGE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn verifier_is_read_back_and_anything_else_is_refused() {
        let verifier = Verifier::new("pencil").unwrap();
        assert_eq!(Verifier::parse(&verifier.to_string()), Ok(verifier));
        for text in ["", "pencil", "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$YQ==:YQ==", "md5abc"] {
            assert!(Verifier::parse(text).is_err(), "{text}");
        }
        let weak = Verifier::of("pencil", b"saltsalt", 100).to_string();
        assert!(Verifier::parse(&weak).unwrap_err().contains("4096"));
    }
}
