//! What the followers of a view were told, kept over restarts.
//!
//! A view that was ever subscribed to has a journal: the rows that it had in an epoch, and a log of what was told since, as far back as its
//! [history](super::history) goes. An epoch is in the log before it is told. When the engine starts again, rows and log add up to what was told
//! last; the view's first epoch then is the difference to that, so whoever followed goes on as if nothing had been.
//!
//! In a directory the log is written with each epoch: it outlives the process, however that ends, and the machine's power up to the last checkpoint. An object
//! store takes nothing at an end, so there each checkpoint adds a piece. What was told and is lost is known to be: the log says which numbers
//! each engine's epochs had, and who comes with one that is in none of them has to begin anew.
//!
//! The log is frames: length and checksum, four bytes each, and the frame's bytes. What comes after a damaged one counts for nothing. Once it has
//! grown beyond what it is worth, rows and log are written anew.

use std::io::Error as IoError;
use std::sync::Arc;

use arrow::datatypes::Schema;
use headwater_source::Position;
use headwater_views::{Delta, Vector, decode_deltas, encode_deltas};
use serde_json::{Value, json};

use super::history::Kept;
use super::place::Place;
use super::subscribe::ViewDelta;

/// What the names of all pieces begin with.
pub(super) const PREFIX: &str = "journal-";

/// What the name of a log's piece ends with, and that of the rows' piece.
const LOG: &str = ".log";
const ROWS: &str = ".arrow";

/// Bytes of a log that are never too many.
const LOG_BYTES: usize = 1 << 20;

/// Pieces of a log before it is written anew.
const PIECES_MAX: usize = 64;

/// A part of a log.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    /// Everything after this epoch is in the log.
    Since(u64, &'a Vector),
    /// An engine's epochs have greater numbers than this one, from here on.
    Start(u64),
    /// An epoch changed the view.
    Delta(&'a ViewDelta),
    /// Somebody was told the rows of this epoch, and everything up to it is in the log.
    Told(u64),
}

/// Where a view's journal is, as the place's index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The view's own name, which no other ever has.
    pub(super) id: String,
    /// The epoch of the rows.
    epoch: u64,
    rows: String,
    checksum: u32,
    /// The pieces of the log, in order.
    log: Vec<String>,
    /// Bytes of the log as it was written, and how many may be added before it is written anew.
    written: usize,
    added_max: usize,
}

/// The journal of a view, being written.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) entry: Entry,
    /// Bytes that were added to the log.
    added: usize,
    /// What the place could not take yet.
    unsent: Vec<u8>,
    next: Option<Next>,
    /// A frame is missing: nothing may be added any more.
    is_cut: bool,
}

/// What becomes of a journal that is written anew.
#[derive(Debug)]
enum Next {
    /// It is being written; what came meanwhile.
    Begun(Vec<u8>),
    /// It is there and has everything, and is not in the index yet.
    Written(Box<Journal>),
}

/// What a journal held.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) kept: Kept,
    /// Rows that add up to what was told last.
    pub(super) rows: Vec<Delta>,
    pub(super) journal: Journal,
}

impl Journal {
    /// The journal of a view that has none yet: what is added waits for the one that follows.
    pub(super) fn unwritten(id: &str) -> Self {
        let (rows, log) = Default::default();
        let entry = Entry { id: id.to_owned(), epoch: 0, rows, checksum: 0, log, written: 0, added_max: 0 };
        Self { entry, added: 0, unsent: vec![], next: None, is_cut: true }
    }

    pub(super) fn is_unwritten(&self) -> bool {
        self.entry.rows.is_empty()
    }

    /// Writes a journal: the rows of a view in an epoch, and the log of what its history held then.
    pub(super) fn write(
        place: &dyn Place,
        id: &str,
        epoch: u64,
        rows: &[Delta],
        mut kept: Kept,
    ) -> std::io::Result<Self> {
        // Who reads the log sees by it that nothing up to the rows is missing.
        kept.told(epoch);
        let schema = rows.first().map_or_else(|| Arc::new(Schema::empty()), |rows| rows.rows().schema());
        let rows = encode_deltas(&schema, rows).map_err(|error| IoError::other(error.report()))?;
        let log = kept.frames().iter().map(encode).collect::<std::io::Result<Vec<_>>>()?.concat();
        let entry = Entry {
            id: id.to_owned(),
            epoch,
            rows: piece(id, ROWS),
            checksum: crc32fast::hash(&rows),
            log: vec![piece(id, LOG)],
            written: log.len(),
            // As much again may come as is there.
            added_max: log.len().max(rows.len() / 2).max(LOG_BYTES),
        };
        place.add(&entry.rows, &rows)?;
        place.add(&entry.log[0], &log)?;
        Ok(Self { entry, added: 0, unsent: vec![], next: None, is_cut: false })
    }

    /// Adds a frame. An error says that the log ends here.
    pub(super) fn push(&mut self, place: &dyn Place, frame: &Frame<'_>) -> std::io::Result<()> {
        if self.is_cut && self.next.is_none() {
            return Ok(());
        }
        let pushed = encode(frame).and_then(|bytes| {
            match &mut self.next {
                Some(Next::Begun(collected)) => collected.extend_from_slice(&bytes),
                Some(Next::Written(next)) => next.add(place, &bytes)?,
                None => {}
            }
            self.add(place, &bytes)
        });
        if pushed.is_err() {
            self.cut();
        }
        pushed
    }

    fn add(&mut self, place: &dyn Place, bytes: &[u8]) -> std::io::Result<()> {
        if self.is_cut {
            return Ok(());
        }
        self.added += bytes.len();
        let is_there = self.entry.log.last().map_or(Ok(false), |log| place.append(log, bytes))?;
        if !is_there {
            self.unsent.extend_from_slice(bytes);
        }
        match self.unsent.len() > 2 * self.entry.added_max {
            true => Err(IoError::other("too much waits to be stored")),
            false => Ok(()),
        }
    }

    /// Whether it is to be written anew.
    pub(super) fn is_due(&self) -> bool {
        self.is_cut || self.added > self.entry.added_max || self.entry.log.len() > PIECES_MAX
    }

    /// Nothing is added any more until it is written anew.
    pub(super) fn cut(&mut self) {
        (self.is_cut, self.unsent, self.next) = (true, vec![], None);
    }

    /// What waits to be stored as a piece of its own.
    pub(super) fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// It could not be stored.
    pub(super) fn put_back(&mut self, mut unsent: Vec<u8>) {
        if !self.is_cut {
            unsent.append(&mut self.unsent);
            self.unsent = unsent;
        }
    }

    /// A name for another piece of the log.
    pub(super) fn new_piece(&self) -> String {
        piece(&self.entry.id, LOG)
    }

    /// Another piece of the log is stored.
    pub(super) fn stored(&mut self, piece: String) {
        self.entry.log.push(piece);
    }

    /// From here on what is added is collected too, for the journal that follows this one.
    pub(super) fn begin_next(&mut self) {
        self.next = Some(Next::Begun(vec![]));
    }

    /// The journal that follows this one is written: what was collected goes there, and what is added from now on goes to both.
    pub(super) fn set_next(&mut self, place: &dyn Place, mut next: Self) -> std::io::Result<()> {
        let Some(Next::Begun(collected)) = self.next.take() else {
            return Err(IoError::other("a frame of a journal could not be written"));
        };
        if !collected.is_empty() {
            next.add(place, &collected)?;
        }
        self.next = Some(Next::Written(Box::new(next)));
        Ok(())
    }

    /// The entry of the journal that follows this one, once that has everything.
    pub(super) fn next(&self) -> Option<Entry> {
        match &self.next {
            Some(Next::Written(next)) => Some(next.entry.clone()),
            _ => None,
        }
    }

    /// The journal that follows this one is in the index, and takes its place.
    pub(super) fn follow(&mut self) {
        if let Some(Next::Written(next)) = self.next.take() {
            *self = *next;
        }
    }

    /// Nothing follows it.
    pub(super) fn forget_next(&mut self) {
        self.next = None;
    }

    /// Reads a journal. What is damaged at its end is cut off.
    pub(super) fn read(place: &dyn Place, entry: Entry) -> std::io::Result<Remembered> {
        let damaged = |reason: String| IoError::new(std::io::ErrorKind::InvalidData, reason);
        let rows = place.part(&entry.rows)?;
        if crc32fast::hash(&rows) != entry.checksum {
            return Err(damaged("the checksum of its rows is wrong".to_owned()));
        }
        let (_, mut rows) = decode_deltas(&rows).map_err(|error| damaged(error.report()))?;
        let (mut log, mut is_cut) = (Vec::new(), false);
        for (number, name) in entry.log.iter().enumerate() {
            let piece = place.part(name)?;
            let frames = whole_frames(&piece);
            log.extend_from_slice(&piece[..frames]);
            if frames < piece.len() {
                // What follows in other pieces would be taken for what comes next.
                is_cut = number + 1 < entry.log.len();
                if !is_cut {
                    place.cut(name, frames)?;
                }
                break;
            }
        }
        let mut kept = None;
        let mut rest = &log[..];
        while let Some((frame, after)) = next_frame(rest) {
            rest = after;
            let read = Read::of(frame).ok_or_else(|| damaged("a frame cannot be read".to_owned()))?;
            match (read, &mut kept) {
                (Read::Since(epoch, vector), kept @ None) => *kept = Some(Kept::since(epoch, vector)),
                (Read::Start(epoch), Some(kept)) => kept.start(epoch),
                (Read::Told(epoch), Some(kept)) => {
                    kept.told(epoch);
                }
                (Read::Delta(delta), Some(kept)) => {
                    if delta.epoch > entry.epoch {
                        rows.push(delta.delta.clone());
                    }
                    kept.push(Arc::new(delta));
                }
                _ => return Err(damaged("it does not begin as a log does".to_owned())),
            }
        }
        let kept = kept.filter(|kept| kept.newest() >= entry.epoch);
        let kept = kept.ok_or_else(|| damaged("its log ends before its rows".to_owned()))?;
        let added = log.len().saturating_sub(entry.written);
        let journal = Self { entry, added, unsent: vec![], next: None, is_cut };
        Ok(Remembered { kept, rows, journal })
    }
}

/// A name that no other piece has, not even one of an engine that died before it was in the index.
fn piece(id: &str, ending: &str) -> String {
    format!("{PREFIX}{id}-{}{ending}", uuid::Uuid::new_v4().simple())
}

impl Entry {
    /// The piece to which is added.
    pub(super) fn last(&self) -> Option<&str> {
        self.log.last().map(String::as_str)
    }

    /// The names of its pieces.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> + '_ {
        std::iter::once(self.rows.clone()).chain(self.log.iter().cloned())
    }
}

/// The index of a place: where the journals are.
pub(super) fn index(entries: &[Entry]) -> Vec<u8> {
    let line = |entry: &Entry| {
        let Entry { id, epoch, rows, checksum, log, written, added_max } = entry;
        json!({ "view": id, "epoch": epoch, "rows": rows, "checksum": checksum, "log": log, "written": written, "added_max": added_max })
    };
    json!({ "format": 1, "journals": entries.iter().map(line).collect::<Vec<_>>() }).to_string().into_bytes()
}

/// What an index says; `None` where it is damaged.
pub(super) fn entries(index: &[u8]) -> Option<Vec<Entry>> {
    let index: Value = serde_json::from_slice(index).ok()?;
    let entry = |value: &Value| {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let log = value.get("log")?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
        Some(Entry {
            id: text("view")?,
            epoch: number("epoch")?,
            rows: text("rows")?,
            checksum: number("checksum")?.try_into().ok()?,
            log: log.collect::<Option<_>>()?,
            written: number("written")?.try_into().ok()?,
            added_max: number("added_max")?.try_into().ok()?,
        })
    };
    index.get("journals")?.as_array()?.iter().map(entry).collect()
}

/// A frame that was read.
enum Read {
    Since(u64, Vector),
    Start(u64),
    Delta(ViewDelta),
    Told(u64),
}

const SINCE: u8 = 0;
const START: u8 = 1;
const DELTA: u8 = 2;
const TOLD: u8 = 3;

/// Length and checksum.
const HEAD: usize = 8;

fn encode(frame: &Frame<'_>) -> std::io::Result<Vec<u8>> {
    let (kind, epoch, vector) = match frame {
        Frame::Since(epoch, vector) => (SINCE, *epoch, positions(vector)),
        Frame::Start(epoch) => (START, *epoch, vec![]),
        Frame::Delta(delta) => (DELTA, delta.epoch, positions(&delta.vector)),
        Frame::Told(epoch) => (TOLD, *epoch, vec![]),
    };
    let rows = match frame {
        Frame::Delta(delta) => encode_deltas(&delta.delta.rows().schema(), std::slice::from_ref(&delta.delta))
            .map_err(|error| IoError::other(error.report()))?,
        _ => vec![],
    };
    let length = |bytes: usize| u32::try_from(bytes).map_err(|_| IoError::other("an epoch changed more than 4 GiB"));
    let mut body = vec![kind];
    body.extend(epoch.to_le_bytes());
    body.extend(length(vector.len())?.to_le_bytes());
    body.extend(vector);
    body.extend(rows);
    let mut bytes = length(body.len())?.to_le_bytes().to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

impl Read {
    fn of(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let epoch = u64::from_le_bytes(*epoch);
        let (vector, rows) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(match *kind {
            SINCE => Self::Since(epoch, vector_of(vector)?),
            START => Self::Start(epoch),
            TOLD => Self::Told(epoch),
            DELTA => {
                let (_, deltas) = decode_deltas(rows).ok()?;
                let [delta] = <[Delta; 1]>::try_from(deltas).ok()?;
                Self::Delta(ViewDelta { epoch, vector: vector_of(vector)?, delta, restarted: false })
            }
            _ => return None,
        })
    }
}

/// The first frame of some bytes, and what follows it; `None` where it is not whole.
fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let [length, checksum] = [&head[..4], &head[4..]].map(|part| part.try_into().map(u32::from_le_bytes));
    let (body, rest) = rest.split_at_checked(length.ok()? as usize)?;
    // Zeros are no frame, though nothing has the checksum zero.
    (!body.is_empty() && checksum.ok()? == crc32fast::hash(body)).then_some((body, rest))
}

/// How many of the bytes are whole frames.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((_, after)) = next_frame(rest) {
        rest = after;
    }
    bytes.len() - rest.len()
}

fn positions(vector: &Vector) -> Vec<u8> {
    let lines = vector.iter().map(|(service, position)| json!([service, position.order(), position.token()]));
    Value::Array(lines.collect()).to_string().into_bytes()
}

fn vector_of(bytes: &[u8]) -> Option<Vector> {
    let lines: Value = serde_json::from_slice(bytes).ok()?;
    let line = |line: &Value| {
        let [service, order, token] = line.as_array()?.as_slice() else { return None };
        Some((Arc::from(service.as_str()?), Position::new(order.as_u64()?, token.as_str()?)))
    };
    lines.as_array()?.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::StateStore;

    fn delta(epoch: u64) -> ViewDelta {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![i64::try_from(epoch).unwrap()]));
        let delta = Delta::inserted(RecordBatch::try_from_iter([("n", column)]).unwrap());
        ViewDelta { epoch, vector: vector(epoch), delta, restarted: false }
    }

    fn vector(order: u64) -> Vector {
        [(Arc::from("ba\"nk"), Position::new(order, format!("{order:x}/\n")))].into_iter().collect()
    }

    /// What is known after each epoch, as far as one can ask.
    fn known(kept: &Kept) -> Vec<String> {
        (0..100).map(|epoch| format!("{epoch}: {:?}", kept.check(epoch))).collect()
    }

    #[test]
    fn log_is_read_as_it_was_written_with_the_epochs_of_each_engine() {
        let directory = tempfile::tempdir().unwrap();
        let place = StateStore::from(directory.path()).open().unwrap();
        let mut kept = Kept::since(10, vector(10));
        for (start, epochs, told) in
            [(20, vec![11, 13], 15), (40, vec![25, 26], 26), (60, vec![], 40), (90, vec![61, 70], 72)]
        {
            epochs.into_iter().for_each(|epoch| kept.push(Arc::new(delta(epoch))));
            kept.told(told);
            kept.start(start);
        }
        kept.push(Arc::new(delta(91)));
        let rows = [delta(1).delta, delta(26).delta];
        let mut journal = Journal::write(place.as_ref(), "v", 26, &rows, kept.clone()).unwrap();
        journal.push(place.as_ref(), &Frame::Delta(&delta(93))).unwrap();
        kept.push(Arc::new(delta(93)));
        for _ in 0..2 {
            let read = Journal::read(place.as_ref(), journal.entry.clone()).unwrap();
            assert_eq!(known(&read.kept), known(&kept));
            assert_eq!(format!("{:?}", read.kept.frames()), format!("{:?}", kept.frames()));
            assert_eq!(read.rows.len(), 2 + 4, "the rows, and what came after their epoch");
            // Half a frame is as if it had not been.
            place.append(&journal.entry.log[0], &encode(&Frame::Told(99)).unwrap()[..9]).unwrap();
        }
        // A log that ends before the epoch of the rows would leave what is in between out.
        let (log, frames) = (&journal.entry.log[0], kept.frames());
        let is_before = |frame: &&Frame<'_>| !matches!(frame, Frame::Delta(delta) if delta.epoch == 26);
        let before = frames.iter().take_while(is_before).map(|frame| encode(frame).unwrap().len()).sum();
        place.cut(log, before).unwrap();
        assert!(
            Journal::read(place.as_ref(), journal.entry.clone()).unwrap_err().to_string().contains("before its rows")
        );
        assert_eq!(entries(&index(&[journal.entry.clone()])), Some(vec![journal.entry]));
    }
}
