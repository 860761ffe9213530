//! A connection on which MariaDB sends its binary log.
//!
//! The driver's own stream of the log needs a part of it that turns on features of a compression library, and with them another build of all
//! that reads Parquet; and it reads tables of MySQL's types only. What is needed here is little: greet, authenticate, a few statements, and packets.
//!
//! Refused: a user of another authentication than mysql_native_password, which is MariaDB's default.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use headwater_source::{Cause, Error, Result};
use mysql_async::Opts;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::super::config::{Config, SslMode};
use super::super::error::Site;
use super::event::take;
use crate::tls::{self, Verify};

/// How much is read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// A packet of this size goes on in the next.
const PACKET_BYTES_MAX: usize = 0xff_ffff;
/// An event has this before its body.
const HEADER_BYTES: usize = 19;
/// A checksum behind an event.
const CHECKSUM_BYTES: usize = 4;
const FORMAT_DESCRIPTION: u8 = 15;
/// utf8mb4_general_ci.
const CHARSET: u8 = 45;
const NATIVE: &[u8] = b"mysql_native_password";

/// What the two sides can do, as the protocol numbers it.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const LONG_FLAG: u32 = 4;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// An event of the log.
pub(super) struct Event {
    pub(super) kind: u8,
    /// When it was logged, in seconds since 1970.
    pub(super) timestamp: u32,
    pub(super) server: u32,
    /// The offset behind it in its file; zero for one that is said and not written.
    pub(super) end: u32,
    pub(super) body: Vec<u8>,
}

/// A connection.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The number of the next packet that is sent.
    number: u8,
    has_checksums: bool,
}

/// Why a connection does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{message} (error {code})")]
    Server { code: u16, message: String },
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the server sent {0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Refused(String),
}

impl From<&'static str> for Fault {
    fn from(what: &'static str) -> Self {
        Self::Malformed(what)
    }
}

impl Fault {
    /// As an error of the source.
    pub(super) fn of(self, site: &Site) -> Error {
        let denied = match &self {
            Self::Server { code, .. } => [1044, 1045, 1142, 1227, 1698].contains(code),
            Self::Refused(_) => true,
            _ => false,
        };
        let (service, location, cause): (_, _, Cause) = (site.service.clone(), site.location.clone(), Box::new(self));
        match denied {
            true => Error::AccessDenied { service, location, cause },
            false => Error::Unavailable { service, location, cause },
        }
    }
}

/// Connects and authenticates as the manifest says.
pub(super) async fn connect(config: &Config, site: &Site) -> Result<Wire> {
    let mode = config.tls.mode;
    let first = within(config.connect_timeout, reach(config, mode), site).await;
    match (mode, first) {
        // The server has no TLS, or none that this side speaks.
        (SslMode::Prefer, Err(Error::Unavailable { .. })) => {
            within(config.connect_timeout, reach(config, SslMode::Disable), site).await
        }
        (_, reached) => reached,
    }
}

async fn within(limit: Duration, work: impl Future<Output = Result<Wire, Fault>>, site: &Site) -> Result<Wire> {
    match tokio::time::timeout(limit, work).await {
        Ok(reached) => reached.map_err(|fault| fault.of(site)),
        Err(_) => Err(site.timed_out("connecting", limit, "connect_timeout_ms")),
    }
}

async fn reach(config: &Config, mode: SslMode) -> Result<Wire, Fault> {
    let target = &config.target;
    let stream: Box<dyn Duplex> = match target.socket() {
        Some(path) => Box::new(UnixStream::connect(path).await?),
        None => {
            let stream = TcpStream::connect((target.ip_or_hostname(), target.tcp_port())).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    let mut wire = Wire { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, number: 0, has_checksums: false };
    let greeting = wire.packet().await?;
    let nonce = nonce(&greeting)?;
    if mode != SslMode::Disable {
        wire = wire.encrypted(config, mode).await?;
    }
    wire.authenticate(target, &nonce).await?;
    Ok(wire)
}

/// The twenty bytes that a password is scrambled with.
fn nonce(greeting: &[u8]) -> Result<Vec<u8>, Fault> {
    if greeting.first() == Some(&0xff) {
        return Err(refusal(greeting));
    }
    let mut rest = greeting;
    if take::<1>(&mut rest)? != [10] {
        return Err(Fault::Malformed("a greeting of another protocol"));
    }
    until_zero(&mut rest)?;
    take::<4>(&mut rest)?;
    let mut nonce = take::<8>(&mut rest)?.to_vec();
    take::<19>(&mut rest)?;
    nonce.extend(take::<12>(&mut rest)?);
    Ok(nonce)
}

impl Wire {
    async fn encrypted(mut self, config: &Config, mode: SslMode) -> Result<Self, Fault> {
        let request =
            [&capabilities(true).to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[CHARSET], &[0; 23]].concat();
        self.send(&request).await?;
        let verify = match mode {
            SslMode::VerifyFull => Verify::Name,
            SslMode::VerifyCa => Verify::Chain,
            _ => Verify::Nothing,
        };
        let client = tls::client(verify, config.tls.root.as_deref(), config.tls.identity.as_ref());
        let client = client.map_err(|error| Fault::Refused(error.to_string()))?;
        let name = ServerName::try_from(config.target.ip_or_hostname().to_owned());
        let name = name.map_err(|_| Fault::Refused("the host's name is none that a certificate bears".to_owned()))?;
        let stream = TlsConnector::from(Arc::new(client)).connect(name, self.stream).await?;
        self.stream = Box::new(stream);
        Ok(self)
    }

    async fn authenticate(&mut self, target: &Opts, nonce: &[u8]) -> Result<(), Fault> {
        let password = target.pass().unwrap_or_default().as_bytes();
        let scrambled =
            |nonce: &[u8]| mysql_common::scramble::scramble_native(nonce, password).map(Vec::from).unwrap_or_default();
        let proof = scrambled(nonce);
        let is_encrypted = self.number > 1;
        let mut answer =
            [&capabilities(is_encrypted).to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[CHARSET], &[0; 23]]
                .concat();
        answer.extend(target.user().unwrap_or_default().bytes());
        answer.extend([0, u8::try_from(proof.len()).unwrap_or(0)]);
        answer.extend(proof);
        answer.extend(NATIVE);
        answer.push(0);
        self.send(&answer).await?;
        loop {
            let packet = self.packet().await?;
            match packet.split_first() {
                Some((0, _)) => return Ok(()),
                Some((0xfe, mut rest)) => {
                    let plugin = until_zero(&mut rest)?;
                    if plugin != NATIVE {
                        let plugin = String::from_utf8_lossy(plugin);
                        return Err(Fault::Refused(format!(
                            "the user authenticates by {plugin}, and a feed only by mysql_native_password"
                        )));
                    }
                    let nonce = rest.strip_suffix(&[0]).unwrap_or(rest);
                    let proof = scrambled(nonce);
                    self.send(&proof).await?;
                }
                _ => return Err(refusal(&packet)),
            }
        }
    }

    /// Runs a statement without a result.
    pub(super) async fn run(&mut self, statement: &str) -> Result<(), Fault> {
        self.number = 0;
        self.send(&[&[3], statement.as_bytes()].concat()).await?;
        let packet = self.packet().await?;
        match packet.first() {
            Some(0) => Ok(()),
            _ => Err(refusal(&packet)),
        }
    }

    /// Has the server send its log from a place on, to a reader of this number.
    pub(super) async fn dump(
        &mut self,
        file: &str,
        offset: u32,
        reader: u32,
        has_checksums: bool,
    ) -> Result<(), Fault> {
        self.has_checksums = has_checksums;
        self.number = 0;
        let request = [&[0x12][..], &offset.to_le_bytes(), &[0, 0], &reader.to_le_bytes(), file.as_bytes()].concat();
        self.send(&request).await
    }

    /// The next event. Nothing is lost where this is dropped while it waits.
    pub(super) async fn event(&mut self) -> Result<Event, Fault> {
        let packet = self.packet().await?;
        let Some((0, mut rest)) = packet.split_first() else {
            return Err(match packet.first() {
                Some(0xfe) => Fault::Malformed("the end of its log"),
                _ => refusal(&packet),
            });
        };
        let whole = rest;
        let timestamp = u32::from_le_bytes(take(&mut rest)?);
        let [kind] = take(&mut rest)?;
        let server = u32::from_le_bytes(take(&mut rest)?);
        take::<4>(&mut rest)?;
        let end = u32::from_le_bytes(take(&mut rest)?);
        take::<2>(&mut rest)?;
        let mut size = whole.len() - HEADER_BYTES;
        if kind == FORMAT_DESCRIPTION {
            // It always has a checksum, and before that says whether others have one.
            let algorithm = rest.len().checked_sub(CHECKSUM_BYTES + 1).ok_or("a short description of its log")?;
            self.has_checksums = rest[algorithm] == 1;
        }
        if self.has_checksums || kind == FORMAT_DESCRIPTION {
            size = size.checked_sub(CHECKSUM_BYTES).ok_or("an event without its checksum")?;
        }
        Ok(Event { kind, timestamp, server, end, body: rest[..size].to_vec() })
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let packet = [&length[..3], &[self.number], body].concat();
        self.number = self.number.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// A packet, or several that are one.
    async fn packet(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(packet) = self.buffered() {
                return Ok(packet);
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let count = self.stream.read(&mut self.buffer[self.end..]).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.end += count;
        }
    }

    fn buffered(&mut self) -> Option<Vec<u8>> {
        let (mut at, mut packet) = (self.start, vec![]);
        let number = loop {
            let head = self.buffer[at..self.end].first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes([head[0], head[1], head[2], 0])).ok()?;
            let number = head[3].wrapping_add(1);
            let body = self.buffer[at + 4..self.end].get(..length)?;
            packet.extend_from_slice(body);
            at += 4 + length;
            if length < PACKET_BYTES_MAX {
                break number;
            }
        };
        (self.start, self.number) = (at, number);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
        Some(packet)
    }
}

fn capabilities(is_encrypted: bool) -> u32 {
    use capability as c;
    let plain =
        c::LONG_PASSWORD | c::LONG_FLAG | c::PROTOCOL_41 | c::TRANSACTIONS | c::SECURE_CONNECTION | c::PLUGIN_AUTH;
    if is_encrypted { plain | c::SSL } else { plain }
}

/// What the server says in a packet of an error: a number, a state, a text.
fn refusal(packet: &[u8]) -> Fault {
    match packet {
        [0xff, low, high, rest @ ..] => {
            let text = rest.strip_prefix(b"#").map_or(rest, |rest| rest.get(5..).unwrap_or_default());
            Fault::Server {
                code: u16::from_le_bytes([*low, *high]),
                message: String::from_utf8_lossy(text).into_owned(),
            }
        }
        _ => Fault::Malformed("an answer that is none"),
    }
}

fn until_zero<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or("a text without its end")?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Ok(text)
}
