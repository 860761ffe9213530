//! Messages of the Postgres protocol, version 3.0.
//!
//! Invariant: nothing is read beyond what a message says it has before its length was held against a limit. The first packets are read to the byte, so that
//! what a client sends before TLS is never taken for what it sends after.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::PgError;
use super::types::Column;
use crate::tls::Connection;

/// The largest first packet, as in PostgreSQL.
const STARTUP_BYTES_MAX: usize = 10_000;

/// How much is collected before it is written.
pub(super) const OUTPUT_BYTES: usize = 64 * 1024;

/// How much a client may send ahead while a statement runs.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// The codes that stand where the version of the protocol does.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The first packet of a connection.
#[derive(Debug)]
pub(super) enum First {
    Ssl,
    Gss,
    Cancel {
        process: i32,
        key: i32,
    },
    /// The minor version that the client speaks, and the parameters.
    Startup {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

/// A message of a client.
#[derive(Debug)]
pub(super) enum Message {
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Named),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Named),
    Flush,
    Sync,
    Terminate,
    /// An answer to a request for authentication.
    Password(Bytes),
    /// What follows a COPY that has failed already.
    CopyIn,
    Function,
}

/// Values for a statement.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<i16>,
}

/// What is described or closed.
#[derive(Debug)]
pub(super) enum Named {
    Statement(String),
    Portal(String),
}

/// A connection and what is on its way.
pub(super) struct Wire {
    connection: Connection,
    input: BytesMut,
    output: BytesMut,
}

impl Wire {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, input: BytesMut::new(), output: BytesMut::new() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection alone, to begin TLS on it. What was read ahead would be lost; nothing is, before TLS.
    pub(super) fn into_connection(self) -> Connection {
        assert!(self.input.is_empty(), "nothing must be read ahead of TLS");
        self.connection
    }

    /// The first packet; `None` where the client closes at once.
    pub(super) async fn first(&mut self) -> io::Result<Option<First>> {
        let length = match self.connection.read_u32().await {
            Ok(length) => length as usize,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(broken("the first packet has an impossible length"));
        }
        let mut packet = vec![0; length - 4];
        self.connection.read_exact(&mut packet).await?;
        let mut fields = Fields(Bytes::from(packet));
        let code = fields.u32()?;
        Ok(Some(match code {
            SSL_REQUEST => First::Ssl,
            GSS_REQUEST => First::Gss,
            CANCEL_REQUEST => First::Cancel { process: fields.i32()?, key: fields.i32()? },
            code if code >> 16 == 3 => {
                let mut parameters = Vec::new();
                loop {
                    let name = fields.text()?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, fields.text()?));
                }
                First::Startup { minor: (code & 0xffff) as u16, parameters }
            }
            _ => return Err(broken("the client speaks another protocol")),
        }))
    }

    /// The answer to a request for TLS.
    pub(super) async fn answer_ssl(&mut self, byte: u8) -> io::Result<()> {
        self.connection.write_all(&[byte]).await?;
        self.connection.flush().await
    }

    /// The next message; `None` where the client has closed between two.
    pub(super) async fn message(&mut self, bytes_max: usize) -> io::Result<Option<Message>> {
        while self.input.len() < 5 {
            if self.connection.read_buf(&mut self.input).await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
        let kind = self.input[0];
        let length = u32::from_be_bytes([self.input[1], self.input[2], self.input[3], self.input[4]]) as usize;
        if length < 4 || length > bytes_max {
            return Err(broken("a message has an impossible length, or is larger than the server takes"));
        }
        while self.input.len() <= length {
            if self.connection.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut message = self.input.split_to(length + 1);
        message.advance(5);
        parse(kind, Fields(message.freeze())).map(Some)
    }

    /// Completes when the client has gone. Reads ahead, so far as that is needed to notice it.
    pub(super) async fn gone(&mut self) {
        while self.input.len() < AHEAD_BYTES_MAX {
            match self.connection.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    }

    /// Sends what is collected.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.connection.write_all(&self.output).await?;
            self.output.clear();
        }
        self.connection.flush().await
    }

    /// Sends what is collected where it has become much.
    pub(super) async fn flush_much(&mut self) -> io::Result<()> {
        if self.output.len() < OUTPUT_BYTES {
            return Ok(());
        }
        self.connection.write_all(&self.output).await?;
        self.output.clear();
        // A socket that takes all leaves no pause by itself, and other connections have small answers to send.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Says goodbye to the client.
    pub(super) async fn close(&mut self) {
        let _gone_already = self.flush().await;
        let _gone_already = self.connection.shutdown().await;
    }

    /// Writes a message whose body the closure writes.
    fn put(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        message(&mut self.output, kind, body);
    }

    /// Messages that are written already.
    pub(super) fn messages(&mut self, written: &[u8]) {
        self.output.put_slice(written);
    }

    pub(super) fn authentication(&mut self, code: u32, body: &[u8]) {
        self.put(b'R', |out| {
            out.put_u32(code);
            out.put_slice(body);
        });
    }

    pub(super) fn negotiate(&mut self, unknown: &[&str]) {
        self.put(b'v', |out| {
            out.put_u32(0);
            out.put_u32(u32::try_from(unknown.len()).unwrap_or_default());
            unknown.iter().for_each(|name| put_text(out, name));
        });
    }

    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        self.put(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    pub(super) fn key(&mut self, process: i32, key: i32) {
        self.put(b'K', |out| {
            out.put_i32(process);
            out.put_i32(key);
        });
    }

    pub(super) fn ready(&mut self, status: u8) {
        self.put(b'Z', |out| out.put_u8(status));
    }

    /// A message without a body: ParseComplete and its like.
    pub(super) fn sign(&mut self, kind: u8) {
        self.put(kind, |_| {});
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.put(b'C', |out| put_text(out, tag));
    }

    pub(super) fn error(&mut self, error: &PgError) {
        self.put(b'E', |out| error.put(out));
    }

    pub(super) fn notice(&mut self, notice: &PgError) {
        self.put(b'N', |out| notice.put(out));
    }

    pub(super) fn parameter_types(&mut self, types: &[u32]) {
        self.put(b't', |out| {
            out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
            types.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    pub(super) fn columns(&mut self, columns: &[Column], format: impl Fn(usize) -> i16) {
        self.put(b'T', |out| {
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            for (index, column) in columns.iter().enumerate() {
                put_text(out, &column.name);
                // No table and no column of one: what a query yields has no oid of ours.
                out.put_u32(0);
                out.put_u16(0);
                out.put_u32(column.oid);
                out.put_i16(column.size);
                out.put_i32(column.modifier);
                out.put_i16(format(index));
            }
        });
    }

    pub(super) fn copy_out(&mut self, format: u8, columns: usize) {
        self.put(b'H', |out| {
            out.put_u8(format);
            out.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
            (0..columns).for_each(|_| out.put_i16(i16::from(format)));
        });
    }

    pub(super) fn copy_data(&mut self, data: &[u8]) {
        self.put(b'd', |out| out.put_slice(data));
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    // A NUL would end the text, and what follows would be taken for something else.
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

fn parse(kind: u8, mut fields: Fields) -> io::Result<Message> {
    Ok(match kind {
        b'Q' => Message::Query(fields.text()?),
        b'P' => {
            let (name, text) = (fields.text()?, fields.text()?);
            let types = (0..fields.u16()?).map(|_| fields.u32()).collect::<io::Result<_>>()?;
            Message::Parse { name, text, types }
        }
        b'B' => Message::Bind(bind(&mut fields)?),
        b'D' => Message::Describe(named(&mut fields)?),
        b'C' => Message::Close(named(&mut fields)?),
        b'E' => {
            let portal = fields.text()?;
            // Zero and less mean all.
            let rows_max = usize::try_from(fields.i32()?).ok().filter(|rows| *rows > 0).unwrap_or(usize::MAX);
            Message::Execute { portal, rows_max }
        }
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'p' => Message::Password(fields.0),
        b'd' | b'c' | b'f' => Message::CopyIn,
        b'F' => Message::Function,
        _ => return Err(broken("a message is of no kind that there is")),
    })
}

fn bind(fields: &mut Fields) -> io::Result<Bind> {
    let (portal, statement) = (fields.text()?, fields.text()?);
    let formats = (0..fields.u16()?).map(|_| fields.i16()).collect::<io::Result<_>>()?;
    let values = (0..fields.u16()?).map(|_| fields.value()).collect::<io::Result<_>>()?;
    let result_formats = (0..fields.u16()?).map(|_| fields.i16()).collect::<io::Result<_>>()?;
    Ok(Bind { portal, statement, formats, values, result_formats })
}

fn named(fields: &mut Fields) -> io::Result<Named> {
    match fields.u8()? {
        b'S' => Ok(Named::Statement(fields.text()?)),
        b'P' => Ok(Named::Portal(fields.text()?)),
        _ => Err(broken("what is named is neither a statement nor a portal")),
    }
}

/// The fields of a message, in turn.
struct Fields(Bytes);

impl Fields {
    fn take(&mut self, length: usize) -> io::Result<Bytes> {
        if self.0.len() < length {
            return Err(broken("a message ends in the middle of a field"));
        }
        Ok(self.0.split_to(length))
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(self.take(2)?.get_u16())
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(self.take(2)?.get_i16())
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(self.take(4)?.get_u32())
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(self.take(4)?.get_i32())
    }

    fn text(&mut self) -> io::Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| broken("a text has no end"))?;
        let text = self.take(end)?;
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| broken("a text is not UTF-8"))
    }

    fn value(&mut self) -> io::Result<Option<Bytes>> {
        match usize::try_from(self.i32()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }
}

fn broken(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes a message, whose body the closure writes.
pub(super) fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).expect("Invariant: no message of ours has 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_field_by_field() {
        let parsed = parse(b'P', Fields(Bytes::from_static(b"s\0SELECT $1\0\0\x01\0\0\0\x17"))).unwrap();
        assert!(
            matches!(parsed, Message::Parse { name, text, types } if name == "s" && text == "SELECT $1" && types == [23])
        );
        let bound =
            parse(b'B', Fields(Bytes::from_static(b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0"))).unwrap();
        let Message::Bind(bind) = bound else { panic!("bind expected") };
        assert_eq!(bind.values, [Some(Bytes::from_static(b"x")), None]);
        assert_eq!(bind.formats, [1]);
        let execute = parse(b'E', Fields(Bytes::from_static(b"\0\0\0\0\0"))).unwrap();
        assert!(matches!(execute, Message::Execute { rows_max: usize::MAX, .. }));
    }

    /// Whatever the bytes, the answer is a message or an error.
    #[test]
    fn every_cut_and_every_changed_byte_of_a_message_is_survived() {
        let whole: &[u8] = b"portal\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\x01";
        for kind in 0..=255 {
            for end in 0..=whole.len() {
                let _answer = parse(kind, Fields(Bytes::copy_from_slice(&whole[..end])));
            }
            for index in 0..whole.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = whole.to_vec();
                    changed[index] = value;
                    let _answer = parse(kind, Fields(Bytes::from(changed)));
                }
            }
        }
    }
}
