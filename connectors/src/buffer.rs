//! What came from a server and was not yet looked at, in the place where it was read to.

use std::ops::Range;

/// How much is read at once. What is longer makes the buffer grow, and no further than twice what came.
const BUFFER_BYTES: usize = 256 << 10;
/// The first reads are small: most statements yield little.
const FIRST_BYTES: usize = 16 << 10;

/// Bytes between where they were looked at and where they end.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; FIRST_BYTES], start: 0, end: 0 }
    }

    /// Where what was not yet looked at begins.
    #[inline]
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// What came behind a place.
    #[inline]
    pub(crate) fn from(&self, at: usize) -> &[u8] {
        &self.bytes[at..self.end]
    }

    /// Counts all before a place as looked at.
    #[inline]
    pub(crate) fn skip_to(&mut self, at: usize) {
        self.start = at;
    }

    /// The bytes of a body.
    #[inline]
    pub(crate) fn body(&self, body: Range<usize>) -> &[u8] {
        &self.bytes[body]
    }

    /// Moves bytes to the front, over others.
    pub(crate) fn move_to(&mut self, at: usize, bytes: Range<usize>) {
        self.bytes.copy_within(bytes, at);
    }

    /// Whether nothing is left of what came.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives back what something long took, where nothing of it is left.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > BUFFER_BYTES && self.is_empty() {
            (self.start, self.end) = (0, 0);
            self.bytes.truncate(BUFFER_BYTES);
            self.bytes.shrink_to_fit();
        }
    }

    /// Where to read to; bodies that were handed out move.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.shrink();
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Counts what was read to [`Self::room`].
    pub(crate) fn read(&mut self, count: usize) {
        let filled = self.end + count == self.bytes.len();
        self.end += count;
        // A server that fills a small buffer has more to say.
        if filled && self.bytes.len() < BUFFER_BYTES {
            self.bytes.resize(BUFFER_BYTES, 0);
        }
    }
}

#[cfg(test)]
impl Buffer {
    /// Reads chunks as they come, and has everything taken that is there after each.
    pub(crate) fn feed(&mut self, chunks: &[&[u8]], mut take: impl FnMut(&mut Self)) {
        for chunk in chunks {
            let mut chunk = *chunk;
            while !chunk.is_empty() {
                let room = self.room();
                let count = room.len().min(chunk.len());
                room[..count].copy_from_slice(&chunk[..count]);
                self.read(count);
                chunk = &chunk[count..];
                take(self);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_grown_is_given_back() {
        let mut buffer = Buffer::new();
        buffer.feed(&[&vec![7; 3 * BUFFER_BYTES]], |_| {});
        assert_eq!(buffer.from(buffer.start()).len(), 3 * BUFFER_BYTES);
        assert!(buffer.bytes.len() > 3 * BUFFER_BYTES);
        buffer.skip_to(buffer.end);
        assert_eq!(buffer.room().len(), BUFFER_BYTES);
    }
}
