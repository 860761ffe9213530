//! JWTs of an OpenID Connect issuer.
//!
//! A token is taken when one of the issuer's public keys signed it by an algorithm of that key's kind, it is of the issuer and for the audience of the users
//! file, and it has not ended. The keys are a JWKS: a file, or an address that is asked again every five minutes, and sooner when a key is not known.
//!
//! Refused: algorithms with a shared secret, `none`, and tokens without an end.

use std::time::{Duration, Instant, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::users::{Issuer, KeysAt};

/// The largest set of keys that is read, in bytes.
const KEYS_BYTES_MAX: usize = 1 << 20;

/// How long an issuer may take to answer with its keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the keys of an address are asked for.
const FETCH_EVERY: Duration = Duration::from_secs(5 * 60);

/// How soon they may be asked for again because a key is not known.
const FETCH_AGAIN: Duration = Duration::from_secs(30);

/// How far the issuer's clock may be from ours, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// The issuer's keys as they were read last.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    set: RwLock<Option<Read>>,
    /// When an address was asked last.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Read {
    of: [u8; 32],
    text: Vec<u8>,
    set: JwkSet,
}

/// Whom a token is of, and when it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) ends: SystemTime,
}

/// Why a token is not taken; for the log alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No key with the token's key id is known.
    UnknownKey,
    Other(String),
}

impl Keys {
    /// Reads the keys of a file again.
    pub(crate) fn read(&self, issuer: &Issuer) {
        if let KeysAt::File(file) = &issuer.keys {
            match std::fs::read(file) {
                Ok(text) => self.take(issuer, text),
                Err(error) => warn!(file = %file.display(), %error, "the issuer's keys can't be read"),
            }
        }
    }

    /// Asks an address for the keys, where that is due.
    pub(crate) async fn fetch(&self, issuer: &Issuer, is_wanted: bool, now: Instant) {
        let KeysAt::Url(url) = &issuer.keys else { return };
        {
            let mut asked = self.asked.lock();
            let known = self.set.read().as_ref().is_some_and(|read| read.of == issuer.fingerprint());
            let pause = if is_wanted || !known { FETCH_AGAIN } else { FETCH_EVERY };
            if asked.is_some_and(|asked| now.saturating_duration_since(asked) < pause) {
                return;
            }
            *asked = Some(now);
        }
        match fetched(url).await {
            Ok(text) => self.take(issuer, text),
            Err(error) => warn!(error, "the issuer's keys can't be fetched"),
        }
    }

    fn take(&self, issuer: &Issuer, text: Vec<u8>) {
        let of = issuer.fingerprint();
        if self.set.read().as_ref().is_some_and(|read| read.of == of && read.text == text) {
            return;
        }
        match serde_json::from_slice::<JwkSet>(&text) {
            Ok(set) => {
                info!(keys = set.keys.len(), "the issuer's keys were read");
                *self.set.write() = Some(Read { of, text, set });
            }
            Err(error) => warn!(%error, "the issuer's keys are no JWKS"),
        }
    }

    /// Checks a token.
    pub(crate) fn check(&self, issuer: &Issuer, token: &str) -> Result<Subject, Refused> {
        let header = decode_header(token).map_err(|error| Refused::Other(error.to_string()))?;
        let set = self.set.read();
        let set = set.as_ref().filter(|read| read.of == issuer.fingerprint()).ok_or(Refused::UnknownKey)?;
        let key = match &header.kid {
            Some(id) => set.set.find(id),
            None => (set.set.keys.len() == 1).then(|| set.set.keys.first()).flatten(),
        };
        let key = key.ok_or(Refused::UnknownKey)?;
        if !signs(key, header.alg) {
            return Err(Refused::Other("the algorithm is not of the key's kind".to_owned()));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&issuer.url]);
        validation.set_audience(&[&issuer.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        let decoding = DecodingKey::from_jwk(key).map_err(|error| Refused::Other(error.to_string()))?;
        let claims = decode::<Map<String, Value>>(token, &decoding, &validation)
            .map_err(|error| Refused::Other(error.to_string()))?
            .claims;
        subject(issuer, &claims)
    }
}

/// Whether a key's kind signs by an algorithm. What is not listed, above all what has a shared secret, does not.
fn signs(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        AlgorithmParameters::OctetKey(_) => false,
    }
}

fn subject(issuer: &Issuer, claims: &Map<String, Value>) -> Result<Subject, Refused> {
    let other = |message: &str| Refused::Other(message.to_owned());
    // A time in another form than a number would not have been looked at.
    if claims.get("nbf").is_some_and(|time| !time.is_number()) {
        return Err(other("nbf is no number"));
    }
    let ends = claims.get("exp").and_then(Value::as_f64).ok_or_else(|| other("exp is no number"))?;
    let ends = Duration::try_from_secs_f64(ends).ok().and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time));
    let ends = ends.and_then(|time| time.checked_add(Duration::from_secs(LEEWAY_SECONDS)));
    let name = claims.get(&issuer.name_claim).and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return Err(other("the claim that names the user is missing or no name"));
    }
    // An address that anybody could have typed in names nobody.
    if issuer.name_claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false)) {
        return Err(other("the email is not verified"));
    }
    Ok(Subject { name: name.to_owned(), ends: ends.ok_or_else(|| other("exp is out of range"))? })
}

async fn fetched(url: &str) -> Result<Vec<u8>, String> {
    let text = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(text)?;
    let mut response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(text)?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(text)? {
        if body.len() + part.len() > KEYS_BYTES_MAX {
            return Err(format!("the answer has more than {KEYS_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    struct Signer {
        key: EncodingKey,
        keys: Keys,
        issuer: Issuer,
    }

    fn signer() -> Signer {
        signer_with(KeysAt::File("unused".into())).0
    }

    /// A signer whose keys are there already, and the text of its JWKS.
    fn signer_with(at: KeysAt) -> (Signer, String) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(public.public_key().as_ref());
        let issuer = Issuer {
            url: "https://issuer.example/".to_owned(),
            audience: "headwater".to_owned(),
            keys: at,
            name_claim: "sub".to_owned(),
        };
        let keys = Keys::default();
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "alg": "EdDSA", "x": x}]});
        keys.take(&issuer, serde_json::to_vec(&set).unwrap());
        (Signer { key: EncodingKey::from_ed_der(pkcs8.as_ref()), keys, issuer }, set.to_string())
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    impl Signer {
        fn token(&self, kid: &str, change: impl Fn(&mut Map<String, Value>)) -> String {
            let claims =
                json!({"iss": "https://issuer.example/", "aud": "headwater", "sub": "ada", "exp": now() + 600});
            let Value::Object(mut claims) = claims else { unreachable!() };
            change(&mut claims);
            let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
            encode(&header, &claims, &self.key).unwrap()
        }

        fn check(&self, token: &str) -> Result<Subject, Refused> {
            self.keys.check(&self.issuer, token)
        }
    }

    #[test]
    fn token_of_the_issuer_names_its_user() {
        let signer = signer();
        let subject = signer.check(&signer.token("one", |_| {})).unwrap();
        assert_eq!(subject.name, "ada");
        assert!(subject.ends > SystemTime::now());
    }

    #[test]
    fn token_with_anything_wrong_is_refused() {
        let signer = signer();
        assert_eq!(signer.check(&signer.token("two", |_| {})), Err(Refused::UnknownKey));
        let set = |key: &'static str, value: Value| {
            move |claims: &mut Map<String, Value>| {
                claims.insert(key.to_owned(), value.clone());
            }
        };
        let remove = |key: &'static str| {
            move |claims: &mut Map<String, Value>| {
                claims.remove(key);
            }
        };
        for token in [
            signer.token("one", set("iss", json!("https://other.example/"))),
            signer.token("one", set("aud", json!("other"))),
            signer.token("one", set("exp", json!(now() - 600))),
            signer.token("one", set("exp", json!("9999999999"))),
            signer.token("one", set("nbf", json!(now() + 600))),
            signer.token("one", set("nbf", json!("9999999999"))),
            signer.token("one", set("sub", json!(""))),
            signer.token("one", remove("exp")),
            signer.token("one", remove("aud")),
            signer.token("one", remove("iss")),
            signer.token("one", remove("sub")),
        ] {
            assert!(matches!(signer.check(&token), Err(Refused::Other(_))), "{token}");
        }
    }

    #[test]
    fn token_signed_by_another_key_by_a_secret_or_by_nobody_is_refused() {
        let (ours, other) = (signer(), signer());
        assert!(ours.check(&other.token("one", |_| {})).is_err());
        let claims = json!({"iss": "https://issuer.example/", "aud": "headwater", "sub": "ada", "exp": now() + 600});
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        let secret = encode(&header, &claims, &EncodingKey::from_secret(b"public")).unwrap();
        assert!(matches!(ours.check(&secret), Err(Refused::Other(_))));
        let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": "one"}).to_string());
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        assert!(ours.check(&format!("{none}.{body}.")).is_err());
        for token in ["", "a", "a.b", "a.b.c", &format!("{none}.{body}")] {
            assert!(ours.check(token).is_err(), "{token}");
        }
    }

    #[tokio::test]
    async fn keys_of_an_address_are_fetched_once_they_are_needed() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (mut signer, keys) = signer_with(KeysAt::Url(url));
        signer.keys = Keys::default();
        let token = signer.token("one", |_| {});
        assert_eq!(signer.check(&token), Err(Refused::UnknownKey));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _asked = stream.read(&mut [0; 4096]).await.unwrap();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}", keys.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        signer.keys.fetch(&signer.issuer, true, Instant::now()).await;
        assert_eq!(signer.check(&token).unwrap().name, "ada");
    }

    #[test]
    fn keys_of_another_configuration_count_for_nothing() {
        let mut signer = signer();
        let token = signer.token("one", |_| {});
        signer.issuer.audience = "other".to_owned();
        assert_eq!(signer.check(&token), Err(Refused::UnknownKey));
    }
}
