//! Rows of a running statement, by either protocol, into the decoder.

use std::error::Error;
use std::pin::Pin;

use futures::StreamExt;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{CopyOutStream, Row, RowStream};

use super::copy::{CopyRows, Malformed, fields};
use super::decode::{BadValue, Decoder};

/// What the server sends.
pub(super) enum Rows {
    /// By COPY.
    Copied(Pin<Box<CopyOutStream>>, CopyRows),
    /// By the extended protocol.
    Bound(Pin<Box<RowStream>>),
}

/// Whether there may be more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

/// Why a row could not be read.
pub(super) enum Trouble {
    /// The server or the connection failed.
    Server(tokio_postgres::Error),
    /// The bytes of a copy are not one, or not all of it.
    Copy(Malformed),
    /// A value does not fit its column.
    Value(Box<BadValue>),
}

impl Rows {
    /// Rows of so many fields by COPY.
    pub(super) fn copied(stream: CopyOutStream, fields: usize) -> Self {
        Self::Copied(Box::pin(stream), CopyRows::new(fields))
    }

    /// Rows by the extended protocol.
    pub(super) fn bound(stream: RowStream) -> Self {
        Self::Bound(Box::pin(stream))
    }

    /// Decodes the next row, or waits for bytes where there is none.
    pub(super) async fn advance(&mut self, decoder: &mut Decoder) -> Result<More, Trouble> {
        match self {
            Self::Bound(stream) => match stream.next().await.transpose().map_err(Trouble::Server)? {
                Some(row) => push_row(&row, decoder).map(|()| More::Yes),
                None => Ok(More::No),
            },
            Self::Copied(stream, rows) => match rows.next_row().map_err(Trouble::Copy)? {
                Some(row) => decoder.push(fields(&row)).map_err(Trouble::Value).map(|()| More::Yes),
                None => feed(stream, rows).await,
            },
        }
    }
}

async fn feed(stream: &mut Pin<Box<CopyOutStream>>, rows: &mut CopyRows) -> Result<More, Trouble> {
    match stream.next().await.transpose().map_err(Trouble::Server)? {
        Some(chunk) => {
            rows.feed(chunk);
            Ok(More::Yes)
        }
        None if rows.is_complete() => Ok(More::No),
        None => Err(Trouble::Copy(Malformed("it ended without its trailer"))),
    }
}

fn push_row(row: &Row, decoder: &mut Decoder) -> Result<(), Trouble> {
    // `get` panics on an index past the row and on a type that is not accepted: neither can be.
    decoder.push((0..row.len()).map(|index| row.get::<_, Raw<'_>>(index).0)).map_err(Trouble::Value)
}

/// A field as it came.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
