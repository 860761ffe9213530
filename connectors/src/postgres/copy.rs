//! The framing of `COPY ... (FORMAT binary)`: a header, rows, a trailer.
//!
//! The server sends a row per message, but the protocol does not promise it: rows may be cut anywhere.

use bytes::{Buf, Bytes, BytesMut};

const MAGIC: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The magic, a word of flags and the length of an extension.
const HEADER: usize = MAGIC.len() + 8;
const TRAILER: i16 = -1;

/// Splits the bytes of a copy into rows.
#[derive(Debug)]
pub(super) struct CopyRows {
    unread: Bytes,
    stage: Stage,
    fields: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Rows,
    Done,
}

/// What was not a copy.
#[derive(Debug, thiserror::Error)]
#[error("malformed COPY data: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

impl CopyRows {
    /// Rows of so many fields.
    pub(super) fn new(fields: usize) -> Self {
        Self { unread: Bytes::new(), stage: Stage::Header, fields }
    }

    /// Adds what came.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        if self.unread.is_empty() {
            self.unread = chunk;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.unread.len() + chunk.len());
        joined.extend_from_slice(&self.unread);
        joined.extend_from_slice(&chunk);
        self.unread = joined.freeze();
    }

    /// The next row's bytes, where they are all there: its fields, each behind its length.
    pub(super) fn next_row(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.stage == Stage::Header && !self.skip_header()? {
            return Ok(None);
        }
        let Some(count) = self.unread.first_chunk::<2>().filter(|_| self.stage == Stage::Rows) else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count == TRAILER {
            self.stage = Stage::Done;
            return Ok(None);
        }
        if usize::try_from(count) != Ok(self.fields) {
            return Err(Malformed("a row of another number of fields"));
        }
        let Some(length) = fields_length(&self.unread[2..], self.fields)? else { return Ok(None) };
        self.unread.advance(2);
        Ok(Some(self.unread.split_to(length)))
    }

    /// Whether the trailer was read: without it, rows may be missing.
    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::Done
    }

    fn skip_header(&mut self) -> Result<bool, Malformed> {
        let known = self.unread.len().min(MAGIC.len());
        if self.unread[..known] != MAGIC[..known] {
            return Err(Malformed("no signature"));
        }
        let Some(length) = self.unread.get(HEADER - 4..HEADER) else { return Ok(false) };
        let extension = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let header = HEADER.saturating_add(usize::try_from(extension).unwrap_or(usize::MAX));
        if self.unread.len() < header {
            return Ok(false);
        }
        self.unread.advance(header);
        self.stage = Stage::Rows;
        Ok(true)
    }
}

/// How many bytes so many fields take, `None` where they are not all there.
fn fields_length(bytes: &[u8], fields: usize) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    for _ in 0..fields {
        let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        at += 4;
        match i32::from_be_bytes(*length) {
            -1 => {}
            length => at += usize::try_from(length).map_err(|_| Malformed("a negative length"))?,
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The fields of a row that [`CopyRows::next_row`] gave, NULL as `None`.
pub(super) fn fields(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (field, tail) = tail.split_at_checked(length.unwrap_or(0))?;
        rest = tail;
        Some(length.map(|_| field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> Vec<u8> {
        let mut bytes = [MAGIC, &[0; 4], &[0, 0, 0, 3], b"ext"].concat();
        for row in [[Some("one"), None], [Some(""), Some("two")]] {
            bytes.extend(2_i16.to_be_bytes());
            for field in row {
                bytes.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
                bytes.extend(field.unwrap_or_default().as_bytes());
            }
        }
        bytes.extend(TRAILER.to_be_bytes());
        bytes
    }

    fn read(chunks: &[&[u8]]) -> (Vec<Vec<Option<String>>>, bool) {
        let (mut rows, mut read) = (CopyRows::new(2), vec![]);
        for chunk in chunks {
            rows.feed(Bytes::copy_from_slice(chunk));
            while let Some(row) = rows.next_row().unwrap() {
                let text = |field: Option<&[u8]>| field.map(|field| String::from_utf8(field.to_vec()).unwrap());
                read.push(fields(&row).map(text).collect());
            }
        }
        (read, rows.is_complete())
    }

    #[test]
    fn rows_cut_anywhere_are_read_whole() {
        let bytes = copy();
        let expected = vec![vec![Some("one".to_owned()), None], vec![Some(String::new()), Some("two".to_owned())]];
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), (expected.clone(), true), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), (expected, true));
    }

    #[test]
    fn copy_without_its_trailer_is_incomplete() {
        let bytes = copy();
        assert!(!read(&[&bytes[..bytes.len() - 2]]).1);
    }

    #[test]
    fn what_is_not_a_copy_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut rows = CopyRows::new(1);
            rows.feed(Bytes::copy_from_slice(bytes));
            rows.next_row().is_err()
        };
        assert!(refused(b"PGCOPX"));
        assert!(refused(&copy()), "two fields where one is expected");
        assert!(refused(&[MAGIC, &[0; 8], &[0, 1], &[0xff, 0xff, 0xff, 0xfe]].concat()));
    }
}
