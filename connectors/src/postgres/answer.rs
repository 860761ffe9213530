//! What a server answers with: rows, descriptions of rows, refusals.

use std::io;
use std::sync::Arc;

use tokio_postgres::types::{FromSql, Oid, Type};

/// Why a connection did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server refused.
    #[error(transparent)]
    Server(ServerError),
    /// The connection is gone.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The server sent what the protocol does not allow.
    #[error("the server sent {0}")]
    Malformed(&'static str),
    /// A value cannot be sent.
    #[error("{0}")]
    Bind(String),
}

/// The server's own words without DETAIL and HINT, which may quote a row's values.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub(super) struct ServerError {
    pub(super) message: String,
    pub(super) code: String,
}

/// A row of the catalog.
pub(super) struct Row {
    types: Arc<[Type]>,
    body: Vec<u8>,
}

impl ServerError {
    /// Whether a statement that was prepared earlier may fail so because its tables are no longer as they were, or because it is
    /// gone, while the same text prepared now is understood.
    pub(super) fn is_of_prepared(&self) -> bool {
        let changed_result = "0A000";
        self.names_what_is_not_there() || [changed_result, "26000"].contains(&self.code.as_str())
    }

    /// Whether it says of a name or a type in the statement that it is not there, or not as the statement takes it to be.
    pub(super) fn names_what_is_not_there(&self) -> bool {
        // The last two, no such operator and a wrong type: the statement was written for the planned types.
        ["42P01", "42703", "42704", "3F000", "42883", "42804"].contains(&self.code.as_str())
    }

    /// Fields of a kind and a text each.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut error = Self { message: "no message".to_owned(), code: String::new() };
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'M' => error.message = text,
                b'C' => error.code = text,
                _ => {}
            }
        }
        error
    }
}

/// The types in a RowDescription: of each column its name, table, number in it, type, length, modifier and format.
pub(super) fn column_types(body: &[u8]) -> Result<Vec<Oid>, Fault> {
    const MALFORMED: Fault = Fault::Malformed("a malformed description of rows");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(MALFORMED)?;
    let mut types = vec![];
    for _ in 0..u16::from_be_bytes(*count) {
        let name = rest.iter().position(|byte| *byte == 0).ok_or(MALFORMED)?;
        let (column, tail) = rest[name + 1..].split_first_chunk::<18>().ok_or(MALFORMED)?;
        types.push(Oid::from_be_bytes([column[6], column[7], column[8], column[9]]));
        rest = tail;
    }
    Ok(types)
}

impl Row {
    /// A row as it came, of these types.
    pub(super) fn new(types: &Arc<[Type]>, body: &[u8]) -> Self {
        Self { types: Arc::clone(types), body: body.to_vec() }
    }

    /// The value of a column.
    pub(super) fn get<'a, T: FromSql<'a>>(&'a self, index: usize) -> Result<T, Fault> {
        let field = self.raw(index)?;
        let kind = self.types.get(index).unwrap_or(&Type::TEXT);
        T::from_sql_nullable(kind, field).map_err(|_| Fault::Malformed("a value of another type than its column's"))
    }

    /// The bytes of a column's value.
    pub(super) fn raw(&self, index: usize) -> Result<Option<&[u8]>, Fault> {
        fields(&self.body)?.nth(index).ok_or(Fault::Malformed("a row with too few columns"))
    }
}

/// The fields of a row, NULL as `None`: a count, then each behind its length.
pub(super) fn fields(body: &[u8]) -> Result<impl Iterator<Item = Option<&[u8]>>, Fault> {
    let (_, mut rest) = body.split_first_chunk::<2>().ok_or(Fault::Malformed("a row without its count"))?;
    Ok(std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (field, tail) = tail.split_at_checked(length.unwrap_or(0))?;
        rest = tail;
        Some(length.map(|_| field))
    }))
}
