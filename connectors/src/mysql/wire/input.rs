//! What came from the server, cut into packets in the place where it was read to.
//!
//! A packet is a length of three bytes, a number, and a body. A body of the greatest length goes on in the next packet; the parts are moved together.

use std::ops::Range;

use super::Failure;

/// How much is read at once. A packet that is longer makes the buffer grow, and no further than twice what came.
const BUFFER_BYTES: usize = 256 << 10;
/// The first reads are small: most statements yield little.
const FIRST_BYTES: usize = 16 << 10;
const HEADER: usize = 4;
/// A body of this size goes on in the next packet.
pub(super) const PART_BYTES_MAX: usize = 0xff_ffff;
/// The largest body that is read: what the servers allow a row at most, and what stands before its values.
const BODY_BYTES_MAX: usize = (1 << 30) + (1 << 20);

/// What a packet is, or several that are one.
pub(super) struct Packet {
    /// The numbers of the first and the last.
    pub(super) first: u8,
    pub(super) last: u8,
    pub(super) body: Range<usize>,
}

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

    /// The next packet, or several that are one, if it is there whole. It counts as read.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Packet>, Failure> {
        let Some((number, body)) = self.part(self.start) else { return Ok(None) };
        if body.len() == PART_BYTES_MAX {
            return self.joined(number, body);
        }
        self.start = body.end;
        Ok(Some(Packet { first: number, last: number, body }))
    }

    fn part(&self, at: usize) -> Option<(u8, Range<usize>)> {
        let &[a, b, c, number] = self.buffer[at..self.end].first_chunk::<HEADER>()?;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let body = at + HEADER..at + HEADER + length;
        (body.end <= self.end).then_some((number, body))
    }

    /// A body of several packets, if they are all there.
    #[cold]
    fn joined(&mut self, first: u8, body: Range<usize>) -> Result<Option<Packet>, Failure> {
        let (mut last, mut parts) = (first, vec![body]);
        while parts.last().is_some_and(|part| part.len() == PART_BYTES_MAX) {
            if parts.len() * PART_BYTES_MAX > BODY_BYTES_MAX {
                return Err(Failure::Malformed("a row of more than a gigabyte"));
            }
            let Some(part) = self.part(parts.last().map_or(0, |part| part.end)) else { return Ok(None) };
            last = part.0;
            parts.push(part.1);
        }
        let start = parts[0].start;
        let mut end = parts[0].end;
        for part in &parts[1..] {
            self.buffer.copy_within(part.clone(), end);
            end += part.len();
        }
        self.start = parts.last().map_or(end, |part| part.end);
        Ok(Some(Packet { first, last, body: start..end }))
    }

    /// The bytes of a body.
    #[inline]
    pub(super) fn body(&self, body: Range<usize>) -> &[u8] {
        &self.buffer[body]
    }

    /// Whether nothing is left of what came.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives back what a long packet took, where nothing of it is left.
    pub(super) fn shrink(&mut self) {
        if self.buffer.len() > BUFFER_BYTES && self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
    }

    /// Where to read to; bodies that were handed out move.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.shrink();
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
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
        let (mut input, mut packets) = (Input::new(), vec![]);
        for chunk in chunks {
            let mut chunk = *chunk;
            while !chunk.is_empty() {
                let room = input.room();
                let count = room.len().min(chunk.len());
                room[..count].copy_from_slice(&chunk[..count]);
                input.read(count);
                chunk = &chunk[count..];
                while let Some(Packet { last, body, .. }) = input.next().unwrap() {
                    packets.push((last, input.body(body).to_vec()));
                }
            }
        }
        assert!(input.is_empty());
        packets
    }

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_le_bytes()[..3], &[number], body].concat()
    }

    #[test]
    fn packets_cut_anywhere_are_read_whole() {
        let bytes = [packet(1, b"one"), packet(2, b""), packet(255, b"three")].concat();
        let expected = vec![(1, b"one".to_vec()), (2, vec![]), (255, b"three".to_vec())];
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(read(&[head, tail]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), expected);
    }

    #[test]
    fn body_of_several_packets_is_one_and_the_room_is_given_back() {
        let part = vec![7; PART_BYTES_MAX];
        for last in [&b""[..], b"end"] {
            let bytes =
                [packet(3, b"x"), packet(4, &part), packet(5, &part), packet(6, last), packet(7, b"y")].concat();
            let long = [&part[..], &part, last].concat();
            let got = read(&bytes.chunks(1 << 20).collect::<Vec<_>>());
            assert!(got == [(3, b"x".to_vec()), (6, long), (7, b"y".to_vec())]);
        }
        let mut input = Input::new();
        input.buffer.resize(8 * BUFFER_BYTES, 0);
        assert_eq!(input.room().len(), BUFFER_BYTES);
    }
}
