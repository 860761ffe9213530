//! Events of a MariaDB binary log: only their shape. What the bytes of a value mean is for its column (`row`).
//!
//! Sources: MariaDB's replication protocol pages (GTID_EVENT, TABLE_MAP_EVENT, ROWS_EVENT_V1, QUERY_EVENT) and sql/log_event.h.

use std::io::Read;

/// What an event cannot be read for.
pub(super) type Malformed = &'static str;

const SHORT: Malformed = "an event that ends early";

/// The numbers of the events that are looked at.
pub(super) mod kind {
    pub(in super::super) const QUERY: u8 = 2;
    pub(in super::super) const ROTATE: u8 = 4;
    pub(in super::super) const FORMAT_DESCRIPTION: u8 = 15;
    pub(in super::super) const XID: u8 = 16;
    pub(in super::super) const TABLE_MAP: u8 = 19;
    pub(in super::super) const WRITE_ROWS: [u8; 2] = [23, 30];
    pub(in super::super) const UPDATE_ROWS: [u8; 2] = [24, 31];
    pub(in super::super) const DELETE_ROWS: [u8; 2] = [25, 32];
    pub(in super::super) const INCIDENT: u8 = 26;
    pub(in super::super) const HEARTBEAT: u8 = 27;
    pub(in super::super) const XA_PREPARE: u8 = 38;
    pub(in super::super) const BINLOG_CHECKPOINT: u8 = 161;
    pub(in super::super) const GTID: u8 = 162;
    pub(in super::super) const GTID_LIST: u8 = 163;
    pub(in super::super) const COMPRESSED_QUERY: u8 = 165;
    pub(in super::super) const COMPRESSED_WRITE_ROWS: [u8; 2] = [166, 169];
    pub(in super::super) const COMPRESSED_UPDATE_ROWS: [u8; 2] = [167, 170];
    pub(in super::super) const COMPRESSED_DELETE_ROWS: [u8; 2] = [168, 171];
}

/// The beginning of a group of events that are committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupStart {
    pub(super) number: u64,
    pub(super) domain: u32,
    flags: u8,
}

impl GroupStart {
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut rest = body;
        let number = u64::from_le_bytes(take(&mut rest)?);
        let domain = u32::from_le_bytes(take(&mut rest)?);
        let [flags] = take(&mut rest)?;
        Ok(Self { number, domain, flags })
    }

    /// Whether the group is one statement without an event for its commit.
    pub(super) fn is_standalone(self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether it is a transaction that is prepared and not committed.
    pub(super) fn is_prepared(self) -> bool {
        self.flags & 64 != 0
    }
}

/// A statement.
pub(super) struct Query<'a> {
    pub(super) database: &'a [u8],
    pub(super) text: &'a [u8],
}

impl<'a> Query<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = body;
        take::<8>(&mut rest)?;
        let [database] = take(&mut rest)?;
        take::<2>(&mut rest)?;
        let status = u16::from_le_bytes(take(&mut rest)?);
        bytes(&mut rest, usize::from(status))?;
        let database = bytes(&mut rest, usize::from(database))?;
        take::<1>(&mut rest)?;
        Ok(Self { database, text: rest })
    }
}

/// The file that the log goes on in, and where.
pub(super) fn rotate(body: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let mut rest = body;
    Ok((u64::from_le_bytes(take(&mut rest)?), rest))
}

/// The columns of a table, as its rows in the log have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableMap {
    pub(super) id: u64,
    pub(super) database: Vec<u8>,
    pub(super) table: Vec<u8>,
    /// The type of each column, and what its type says of it further.
    pub(super) columns: Vec<(u8, [u8; 2])>,
}

impl TableMap {
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut rest = body;
        let id = table_id(&mut rest)?;
        take::<2>(&mut rest)?;
        let mut name = || {
            let [length] = take(&mut rest)?;
            let name = bytes(&mut rest, usize::from(length))?.to_vec();
            take::<1>(&mut rest)?;
            Ok::<_, Malformed>(name)
        };
        let (database, table) = (name()?, name()?);
        let count = length(&mut rest)?;
        let types = bytes(&mut rest, count)?;
        let size = length(&mut rest)?;
        let mut meta = bytes(&mut rest, size)?;
        let mut columns = Vec::with_capacity(count);
        for kind in types {
            let said = match meta_bytes(*kind)? {
                0 => [0, 0],
                1 => [take::<1>(&mut meta)?[0], 0],
                _ => take::<2>(&mut meta)?,
            };
            columns.push((*kind, said));
        }
        Ok(Self { id, database, table, columns })
    }
}

/// How many bytes say more of a type.
fn meta_bytes(kind: u8) -> Result<usize, Malformed> {
    Ok(match kind {
        4 | 5 | 17 | 18 | 19 | 140 | 249..=252 | 255 => 1,
        15 | 16 | 141 | 246..=248 | 253 | 254 => 2,
        0..=3 | 6..=14 => 0,
        _ => return Err("a column of a type that is not known"),
    })
}

/// Rows of one table. All columns are there, or it is no such event.
pub(super) struct Rows<'a> {
    pub(super) table: u64,
    pub(super) columns: usize,
    /// The rows, one behind another: of an update the old and the new in turn.
    pub(super) rows: &'a [u8],
}

impl<'a> Rows<'a> {
    /// Reads an event of the first or the second version; `is_update` has two sets of columns.
    pub(super) fn read(body: &'a [u8], version: usize, is_update: bool) -> Result<Self, Malformed> {
        let mut rest = body;
        let table = table_id(&mut rest)?;
        take::<2>(&mut rest)?;
        if version == 2 {
            let extra = usize::from(u16::from_le_bytes(take(&mut rest)?));
            bytes(&mut rest, extra.checked_sub(2).ok_or(SHORT)?)?;
        }
        let columns = length(&mut rest)?;
        for _ in 0..=usize::from(is_update) {
            let set = bytes(&mut rest, columns.div_ceil(8))?;
            if (0..columns).any(|column| !bit(set, column)) {
                return Err(
                    "rows without some of their columns; SET GLOBAL binlog_row_image = 'FULL', and let clients connect anew",
                );
            }
        }
        Ok(Self { table, columns, rows: rest })
    }
}

/// What MariaDB compressed (`binlog_buf_compress`): a byte with the method and the size of a length, the length, and a zlib stream.
pub(super) fn uncompressed(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut rest = body;
    let [head] = take(&mut rest)?;
    if head & 0xf0 != 0x80 {
        return Err("an event that is compressed by a method that is not known");
    }
    let length =
        bytes(&mut rest, usize::from(head & 7))?.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    let mut whole = vec![];
    // No further than it says, whatever it holds.
    let read = flate2::read::ZlibDecoder::new(rest).take(length).read_to_end(&mut whole);
    match read {
        Ok(count) if count as u64 == length => Ok(whole),
        _ => Err("a compressed event that is not what it says"),
    }
}

pub(super) fn bit(set: &[u8], index: usize) -> bool {
    set.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

fn table_id(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let [a, b, c, d, e, f] = take(rest)?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

/// A number of one to nine bytes.
fn length(rest: &mut &[u8]) -> Result<usize, Malformed> {
    let [first] = take(rest)?;
    let number = match first {
        0..=250 => u64::from(first),
        252 => u64::from(u16::from_le_bytes(take(rest)?)),
        253 => {
            let [a, b, c] = take(rest)?;
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        254 => u64::from_le_bytes(take(rest)?),
        _ => return Err(SHORT),
    };
    usize::try_from(number).map_err(|_| SHORT)
}

pub(super) fn bytes<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(count).ok_or(SHORT)?;
    *rest = tail;
    Ok(head)
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(SHORT)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_map_is_read_and_one_that_is_cut_is_refused() {
        let body = [&[7, 0, 0, 0, 0, 0, 1, 0, 4][..], b"shop\0", &[1], b"t\0", &[3, 3, 15, 254, 4, 40, 0, 0xf7, 1, 0]]
            .concat();
        let map = TableMap::read(&body).unwrap();
        assert_eq!((map.id, map.database.as_slice(), map.table.as_slice()), (7, &b"shop"[..], &b"t"[..]));
        assert_eq!(map.columns, [(3, [0, 0]), (15, [40, 0]), (254, [0xf7, 1])]);
        for end in 0..body.len() - 1 {
            assert!(TableMap::read(&body[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn compressed_event_is_read_or_refused() {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default());
        encoder.write_all(&[7; 300]).unwrap();
        let stream = encoder.finish().unwrap();
        let body = |length: u16| [&[0x82][..], &length.to_be_bytes(), &stream].concat();
        assert_eq!(uncompressed(&body(300)), Ok(vec![7; 300]));
        for wrong in [body(301), body(300)[..5].to_vec(), vec![0x92, 0, 1], vec![]] {
            assert!(uncompressed(&wrong).is_err());
        }
    }

    #[test]
    fn rows_without_some_columns_are_refused() {
        let body = |set: u8| [&[7, 0, 0, 0, 0, 0, 0, 0, 2][..], &[set], b"rows"].concat();
        assert_eq!(Rows::read(&body(0b11), 1, false).map(|rows| rows.rows), Ok(&b"rows"[..]));
        assert!(Rows::read(&body(0b01), 1, false).is_err_and(|what| what.contains("binlog_row_image")));
    }
}
