//! The beginning of a connection: TLS, who it is, and what it wants to be set.

use std::io;
use std::sync::Arc;

use super::Server;
use super::cancel::Cancel;
use super::error::{PROTOCOL, PgError};
use super::settings::{DATABASE, Settings};
use super::wire::{First, Message, Wire};
use crate::auth::scram::{Exchange, MECHANISM, Refused};
use crate::auth::{Denied, Principal};
use crate::tls::{Door, handshake};

/// The largest message of a client that is not known yet, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// How many packets may come before the one that begins.
const PRELUDES_MAX: usize = 3;

/// The codes of authentication.
const OK: u32 = 0;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

const WRONG_PASSWORD: &str = "28P01";
const NOT_AUTHORIZED: &str = "28000";

/// A connection that is known.
pub(super) struct Started {
    pub(super) wire: Wire,
    pub(super) principal: Principal,
    /// The name that the client gave itself, which is the principal's where the server has users.
    pub(super) user: String,
    pub(super) settings: Settings,
    /// Settings of the engine's that the client wants set.
    pub(super) wanted: Vec<(String, String)>,
    pub(super) cancel: Cancel,
}

/// Leads a connection to where it is known. `None` where there is nothing more to do: it wanted to cancel, or was told why it may not come in.
pub(super) async fn start(server: &Arc<Server>, mut wire: Wire, has_place: bool) -> io::Result<Option<Started>> {
    for _ in 0..PRELUDES_MAX {
        match wire.first().await? {
            None => return Ok(None),
            Some(First::Gss) => wire.answer_ssl(b'N').await?,
            Some(First::Ssl) => match &server.tls {
                Some(tls) if !wire.connection().is_secured() => {
                    wire.answer_ssl(b'S').await?;
                    wire = Wire::new(handshake(wire.into_connection(), Door::Postgres, tls).await?);
                }
                _ => wire.answer_ssl(b'N').await?,
            },
            Some(First::Cancel { process, key }) => {
                server.cancels.cancel(process, key);
                return Ok(None);
            }
            Some(First::Startup { minor, parameters }) => {
                return match welcome(server, &mut wire, has_place, minor, parameters).await? {
                    Ok(known) => Ok(Some(known.started(wire))),
                    Err(error) => {
                        wire.error(&error);
                        wire.close().await;
                        Ok(None)
                    }
                };
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the connection does not begin"))
}

struct Known {
    principal: Principal,
    user: String,
    settings: Settings,
    wanted: Vec<(String, String)>,
    cancel: Cancel,
}

impl Known {
    fn started(self, wire: Wire) -> Started {
        let Self { principal, user, settings, wanted, cancel } = self;
        Started { wire, principal, user, settings, wanted, cancel }
    }
}

async fn welcome(
    server: &Arc<Server>,
    wire: &mut Wire,
    has_place: bool,
    minor: u16,
    parameters: Vec<(String, String)>,
) -> io::Result<Result<Known, PgError>> {
    if !has_place {
        let message = format!("the server has {} connections and takes no more now", server.limits.connections);
        return Ok(Err(PgError::fatal("53300", message).with_hint("try again later")));
    }
    if server.tls.is_some() && !wire.connection().is_secured() {
        let error = PgError::fatal(NOT_AUTHORIZED, "this server speaks TLS alone");
        return Ok(Err(error.with_hint("connect with sslmode=require, or better verify-full")));
    }
    let unknown: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        wire.negotiate(&unknown);
    }
    let named = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let Some(user) = named("user").filter(|user| !user.is_empty()) else {
        return Ok(Err(PgError::fatal(NOT_AUTHORIZED, "no user was named")));
    };
    if named("replication").is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0")) {
        return Ok(Err(PgError::fatal("0A000", "replication is not served")));
    }
    let principal = match authenticate(server, wire, &user).await? {
        Ok(principal) => principal.at(&wire.connection().origin().peer(Door::Postgres)),
        Err(error) => return Ok(Err(error)),
    };
    // Who is known may be told what there is.
    let database = named("database").unwrap_or_else(|| user.clone());
    if database != DATABASE {
        let error = PgError::fatal("3D000", format!("database \"{database}\" does not exist"));
        return Ok(Err(error.with_hint(format!("connect to the database {DATABASE}; services are its schemas"))));
    }
    let cancel = server.cancels.enter()?;
    let mut settings = Settings::default();
    let wanted = match wanted(&mut settings, parameters) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(Err(PgError { severity: super::error::Severity::Fatal, ..error })),
    };
    wire.authentication(OK, &[]);
    for (name, value) in settings.reported() {
        wire.parameter(name, value);
    }
    wire.parameter("session_authorization", &user);
    wire.parameter("in_hot_standby", "off");
    wire.parameter("default_transaction_read_only", "on");
    wire.key(cancel.process, cancel.key);
    Ok(Ok(Known { principal, user, settings, wanted, cancel }))
}

async fn authenticate(server: &Server, wire: &mut Wire, user: &str) -> io::Result<Result<Principal, PgError>> {
    if server.gate.is_open() {
        return Ok(Ok(Principal::anyone()));
    }
    let peer = wire.connection().origin().peer(Door::Postgres);
    if let Some(principal) = server.gate.certificate(&peer).filter(|principal| principal.name() == Some(user)) {
        return Ok(Ok(principal));
    }
    let attempt = match server.gate.attempt(Some(user), &peer) {
        Ok(attempt) => attempt,
        Err(denied) => return Ok(Err(denial(denied))),
    };
    let (verifier, principal) = server.gate.verifier(user);
    wire.authentication(SASL, format!("{MECHANISM}\0\0").as_bytes());
    let Some(first) = answer(wire).await? else { return Ok(Err(broken("the client answers with another message"))) };
    let Some(first) = client_first(&first) else {
        return Ok(Err(broken("the client knows another mechanism than SCRAM-SHA-256")));
    };
    let exchange = match Exchange::begin(verifier, first) {
        Ok(exchange) => exchange,
        Err(error) => return Ok(Err(refusal(error, user))),
    };
    wire.authentication(SASL_CONTINUE, exchange.challenge().as_bytes());
    let Some(last) = answer(wire).await? else { return Ok(Err(broken("the client answers with another message"))) };
    match (exchange.finish(&last), principal) {
        (Ok(proof), Some(principal)) => {
            server.gate.succeeded(&attempt);
            wire.authentication(SASL_FINAL, proof.as_bytes());
            Ok(Ok(principal))
        }
        (Ok(_), None) => Ok(Err(refusal(Refused::WrongProof, user))),
        (Err(error), _) => {
            server.gate.refused(&peer, user, "wrong password or unknown user");
            Ok(Err(refusal(error, user)))
        }
    }
}

async fn answer(wire: &mut Wire) -> io::Result<Option<bytes::Bytes>> {
    wire.flush().await?;
    match wire.message(MESSAGE_BYTES_MAX).await? {
        Some(Message::Password(body)) => Ok(Some(body)),
        Some(_) => Ok(None),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The first message of SCRAM, inside of the message that chooses it.
fn client_first(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(MECHANISM.as_bytes())?.strip_prefix(b"\0")?;
    let (length, first) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (usize::try_from(length).ok()? == first.len()).then_some(first)
}

fn broken(message: &str) -> PgError {
    PgError::fatal(PROTOCOL, message)
}

fn refusal(refused: Refused, user: &str) -> PgError {
    match refused {
        Refused::Malformed(message) => broken(message),
        Refused::WrongProof => {
            PgError::fatal(WRONG_PASSWORD, format!("password authentication failed for user \"{user}\""))
        }
    }
}

fn denial(denied: Denied) -> PgError {
    let code = match denied {
        Denied::Missing | Denied::Wrong => NOT_AUTHORIZED,
        Denied::Wait(_) | Denied::Busy => "53300",
    };
    PgError::fatal(code, denied.to_string())
}

/// Takes the settings among the parameters; what is the engine's is returned.
fn wanted(settings: &mut Settings, parameters: Vec<(String, String)>) -> Result<Vec<(String, String)>, PgError> {
    let mut wanted = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => wanted.extend(options(&value)),
            name if name.starts_with("_pq_.") => {}
            _ => wanted.push((name, value)),
        }
    }
    let mut engines = Vec::new();
    for (name, value) in wanted {
        // Clients name their own zone at the start without being asked. Times are given with theirs, which the client is told is UTC.
        if name.eq_ignore_ascii_case("timezone") {
            continue;
        }
        if settings.set(&name, Some(&value))? == super::settings::Taken::NotOurs {
            engines.push((name, value));
        }
    }
    Ok(engines)
}

/// The settings of `options`: `-c name=value --name=value`.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = text.split_whitespace();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(setting) => Some(setting),
            None => word.strip_prefix("--"),
        };
        if let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) {
            found.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_forms() {
        let found = options("-c search_path=a,b --statement-timeout=5s -cjit=off -x");
        let expected = [("search_path", "a,b"), ("statement_timeout", "5s"), ("jit", "off")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn message_that_chooses_scram_must_say_its_length() {
        assert_eq!(client_first(b"SCRAM-SHA-256\0\0\0\0\x03n,,"), Some(b"n,,".as_slice()));
        for body in [
            b"SCRAM-SHA-256\0\0\0\0\x04n,,".as_slice(),
            b"SCRAM-SHA-256",
            b"SCRAM-SHA-256-PLUS\0\0\0\0\0",
            b"",
            b"SCRAM-SHA-256\0\0",
        ] {
            assert_eq!(client_first(body), None);
        }
    }
}
