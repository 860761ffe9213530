//! A connection on which MariaDB sends its binary log.
//!
//! Sources: the pages "COM_BINLOG_DUMP" and "Event header" of MariaDB's replication protocol.

use super::super::wire::{self, Conn, Failure, failure};
use super::event::take;

/// An event has this before its body.
const HEADER_BYTES: usize = 19;
/// A checksum behind an event.
const CHECKSUM_BYTES: usize = 4;
const FORMAT_DESCRIPTION: u8 = 15;
const BINLOG_DUMP: u8 = 0x12;

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

/// A log that is sent, until the connection ends.
pub(super) struct Log {
    conn: Conn,
    has_checksums: bool,
}

impl Log {
    /// Has the server send its log from a place on, to a reader of this number.
    pub(super) async fn begin(
        mut conn: Conn,
        file: &str,
        offset: u32,
        reader: u32,
        has_checksums: bool,
    ) -> wire::Result<Self> {
        let request =
            [&[BINLOG_DUMP][..], &offset.to_le_bytes(), &[0, 0], &reader.to_le_bytes(), file.as_bytes()].concat();
        conn.ask(&request).await?;
        Ok(Self { conn, has_checksums })
    }

    /// The next event. Nothing is lost where this is dropped while it waits.
    pub(super) async fn event(&mut self) -> wire::Result<Event> {
        let packet = self.conn.packet().await?;
        let packet = self.conn.body(packet);
        let Some((0, mut rest)) = packet.split_first() else {
            return Err(match packet.first() {
                Some(0xfe) => Failure::Malformed("the end of its log"),
                _ => failure(packet),
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
}
