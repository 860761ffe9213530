//! Messages of logical replication: what a stream of changes is made of (protocol-logicalrep-message-formats, versions 1 and up).
//!
//! Only the shape is read here; what the bytes of a value mean is for its column.

use super::super::answer::Fault;
use super::super::field::EPOCH_MICROS;

const MALFORMED: Fault = Fault::Malformed("a malformed message of changes");

/// What the sender of changes says.
pub(super) enum Sent<'a> {
    /// A message of a change.
    Change(&'a [u8]),
    /// Everything before this place was sent; whether an answer is wanted now.
    Keepalive { end: u64, wants_answer: bool },
}

/// A change.
pub(super) enum Message<'a> {
    Begin,
    Commit {
        end: u64,
        committed_us: i64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Tuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Tuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// What a writer said, as part of its transaction or apart from it.
    Word {
        transactional: bool,
        prefix: &'a [u8],
        content: &'a [u8],
    },
    /// Of no concern here: types, origins.
    Other,
}

/// A table as it was when the changes behind this message were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `d` the primary key, `i` an index, `f` all columns, `n` nothing.
    pub(super) identity: u8,
    pub(super) columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelationColumn {
    pub(super) identifies: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
}

/// The values of a row, in the order of the relation's columns. Cheap to go through again.
#[derive(Clone, Copy)]
pub(super) struct Tuple<'a> {
    count: u16,
    rest: &'a [u8],
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// A stored value of its own that the change left alone; it is not sent.
    Unchanged,
    Text(&'a [u8]),
}

/// What came as copy data.
pub(super) fn sent(body: &[u8]) -> Result<Sent<'_>, Fault> {
    let mut rest = body;
    match byte(&mut rest)? {
        b'w' => {
            take::<24>(&mut rest)?;
            Ok(Sent::Change(rest))
        }
        b'k' => {
            let end = u64::from_be_bytes(take(&mut rest)?);
            take::<8>(&mut rest)?;
            Ok(Sent::Keepalive { end, wants_answer: byte(&mut rest)? != 0 })
        }
        _ => Err(MALFORMED),
    }
}

/// Reads a change.
pub(super) fn message(body: &[u8]) -> Result<Message<'_>, Fault> {
    let mut rest = body;
    Ok(match byte(&mut rest)? {
        b'B' => Message::Begin,
        b'C' => {
            take::<9>(&mut rest)?;
            let end = u64::from_be_bytes(take(&mut rest)?);
            let committed_us = i64::from_be_bytes(take(&mut rest)?).saturating_add(EPOCH_MICROS);
            Message::Commit { end, committed_us }
        }
        b'R' => Message::Relation(relation(rest)?),
        b'I' => {
            let relation = u32::from_be_bytes(take(&mut rest)?);
            match byte(&mut rest)? {
                b'N' => Message::Insert { relation, new: tuple(&mut rest)? },
                _ => return Err(MALFORMED),
            }
        }
        b'U' => {
            let relation = u32::from_be_bytes(take(&mut rest)?);
            let mut kind = byte(&mut rest)?;
            let mut old = None;
            if matches!(kind, b'K' | b'O') {
                old = Some(tuple(&mut rest)?);
                kind = byte(&mut rest)?;
            }
            match kind {
                b'N' => Message::Update { relation, old, new: tuple(&mut rest)? },
                _ => return Err(MALFORMED),
            }
        }
        b'D' => {
            let relation = u32::from_be_bytes(take(&mut rest)?);
            match byte(&mut rest)? {
                b'K' | b'O' => Message::Delete { relation, old: tuple(&mut rest)? },
                _ => return Err(MALFORMED),
            }
        }
        b'T' => {
            let count = u32::from_be_bytes(take(&mut rest)?);
            byte(&mut rest)?;
            let relations = (0..count).map(|_| take(&mut rest).map(u32::from_be_bytes));
            Message::Truncate { relations: relations.collect::<Result<_, _>>()? }
        }
        b'M' => {
            let flags = byte(&mut rest)?;
            take::<8>(&mut rest)?;
            let prefix = text(&mut rest)?;
            let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).map_err(|_| MALFORMED)?;
            Message::Word { transactional: flags & 1 == 1, prefix, content: rest.get(..length).ok_or(MALFORMED)? }
        }
        b'Y' | b'O' => Message::Other,
        _ => return Err(Fault::Malformed("a message of changes that this version does not know")),
    })
}

fn relation(body: &[u8]) -> Result<Relation, Fault> {
    let mut rest = body;
    let oid = u32::from_be_bytes(take(&mut rest)?);
    let schema = name(&mut rest)?;
    // An empty name is that of the system's own schema.
    let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
    let table = name(&mut rest)?;
    let identity = byte(&mut rest)?;
    let count = u16::from_be_bytes(take(&mut rest)?);
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let identifies = byte(&mut rest)? & 1 == 1;
        let name = name(&mut rest)?;
        let type_oid = u32::from_be_bytes(take(&mut rest)?);
        let modifier = i32::from_be_bytes(take(&mut rest)?);
        columns.push(RelationColumn { identifies, name, type_oid, modifier });
    }
    Ok(Relation { oid, schema, name: table, identity, columns })
}

fn tuple<'a>(rest: &mut &'a [u8]) -> Result<Tuple<'a>, Fault> {
    let count = u16::from_be_bytes(take(rest)?);
    let tuple = Tuple { count, rest };
    for _ in 0..count {
        cell(rest)?;
    }
    Ok(tuple)
}

impl<'a> Tuple<'a> {
    /// The values in their order. Invariant: they were all read once when the tuple was.
    pub(super) fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        let mut rest = self.rest;
        (0..self.count).map_while(move |_| cell(&mut rest).ok())
    }
}

fn cell<'a>(rest: &mut &'a [u8]) -> Result<Cell<'a>, Fault> {
    match byte(rest)? {
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::Unchanged),
        b't' => {
            let length = usize::try_from(i32::from_be_bytes(take(rest)?)).map_err(|_| MALFORMED)?;
            let (head, tail) = rest.split_at_checked(length).ok_or(MALFORMED)?;
            *rest = tail;
            Ok(Cell::Text(head))
        }
        _ => Err(MALFORMED),
    }
}

fn byte(rest: &mut &[u8]) -> Result<u8, Fault> {
    let (head, tail) = rest.split_first().ok_or(MALFORMED)?;
    *rest = tail;
    Ok(*head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(MALFORMED)?;
    *rest = tail;
    Ok(*head)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(MALFORMED)?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Ok(text)
}

fn name(rest: &mut &[u8]) -> Result<String, Fault> {
    text(rest).map(|name| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_that_is_cut_anywhere_is_refused_and_never_a_panic() {
        let tuple = b"\0\x03nut\0\0\0\x02ab";
        let update = [&b"U\0\0\0\x07K"[..], tuple, b"N", tuple].concat();
        assert!(matches!(message(&update), Ok(Message::Update { relation: 7, old: Some(_), .. })));
        let Ok(Message::Update { new, .. }) = message(&update) else { panic!("an update") };
        assert_eq!(new.cells().collect::<Vec<_>>(), [Cell::Null, Cell::Unchanged, Cell::Text(b"ab")]);
        for end in 0..update.len() {
            assert!(message(&update[..end]).is_err(), "cut at {end}");
        }
        let truncate = b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02";
        assert!(matches!(message(truncate), Ok(Message::Truncate { relations }) if relations == [1, 2]));
        let word = [&b"M\x01\0\0\0\0\0\0\0\0headwater\0\0\0\0\x02"[..], b"{}"].concat();
        assert!(matches!(
            message(&word),
            Ok(Message::Word { transactional: true, prefix: b"headwater", content: b"{}" })
        ));
        for end in 0..word.len() {
            assert!(message(&word[..end]).is_err(), "cut at {end}");
        }
    }
}
