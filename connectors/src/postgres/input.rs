//! What came from the server, cut into messages in the place where it was read to.
//!
//! A message is a tag, a length that counts itself and not the tag, and a body.

use std::ops::Range;

use super::answer::Fault;

/// How much is read at once. A message that is longer makes the buffer grow to its length, and no further than what came asks for.
const BUFFER_BYTES: usize = 256 << 10;
/// The first reads are small: most statements yield little.
const FIRST_BYTES: usize = 16 << 10;
const HEADER: usize = 5;

/// Bytes that came and were not yet looked at.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; FIRST_BYTES], start: 0, end: 0 }
    }

    /// The next message, if it is there whole: its tag and where its body is. It counts as read.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u8, Range<usize>)>, Fault> {
        let Some(&[tag, a, b, c, d]) = self.buffer[self.start..self.end].first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
        if length < 4 {
            return Err(Fault::Malformed("a message of a negative length"));
        }
        let end = self.start + 1 + length;
        if end > self.end {
            return Ok(None);
        }
        let body = self.start + HEADER..end;
        self.start = end;
        Ok(Some((tag, body)))
    }

    /// The bytes of a body.
    #[inline]
    pub(super) fn body(&self, body: Range<usize>) -> &[u8] {
        &self.buffer[body]
    }

    /// Where to read to; bodies that were handed out move.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > BUFFER_BYTES {
                self.buffer.truncate(BUFFER_BYTES);
                self.buffer.shrink_to_fit();
            }
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Counts what was read to [`Self::room`].
    pub(super) fn read(&mut self, count: usize) {
        let filled = self.end + count == self.buffer.len();
        self.end += count;
        // A server that fills a small buffer has more to say.
        if filled && self.buffer.len() < BUFFER_BYTES {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
        let (mut input, mut messages) = (Input::new(), vec![]);
        for chunk in chunks {
            let mut chunk = *chunk;
            while !chunk.is_empty() {
                let room = input.room();
                let count = room.len().min(chunk.len());
                room[..count].copy_from_slice(&chunk[..count]);
                input.read(count);
                chunk = &chunk[count..];
                while let Some((tag, body)) = input.next().unwrap() {
                    messages.push((tag, input.body(body).to_vec()));
                }
            }
        }
        messages
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as i32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn messages_cut_anywhere_are_read_whole() {
        let bytes = [message(b'D', b"one"), message(b'Z', b""), message(b'D', b"three")].concat();
        let expected = vec![(b'D', b"one".to_vec()), (b'Z', vec![]), (b'D', b"three".to_vec())];
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), expected);
    }

    #[test]
    fn message_longer_than_the_buffer_is_read_whole_and_the_room_is_given_back() {
        let long = vec![7; 3 * BUFFER_BYTES];
        let messages = read(&[&message(b'D', &long), &message(b'C', b"x")]);
        assert_eq!(messages, [(b'D', long), (b'C', b"x".to_vec())]);
        let mut input = Input::new();
        input.buffer.resize(8 * BUFFER_BYTES, 0);
        assert_eq!(input.room().len(), BUFFER_BYTES);
    }

    #[test]
    fn length_that_cannot_be_is_refused() {
        let mut input = Input::new();
        input.room()[..5].copy_from_slice(&[b'D', 0xff, 0xff, 0xff, 0xff]);
        input.read(5);
        assert!(input.next().is_err());
    }
}
