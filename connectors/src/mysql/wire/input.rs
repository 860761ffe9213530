//! What came from the server, cut into packets in the place where it was read to.
//!
//! A packet is a length of three bytes, a number, and a body. A body of the greatest length goes on in the next packet; the parts are moved together.

use std::ops::Range;

use super::Failure;
use crate::buffer::Buffer;

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

/// The next packet, or several that are one, if it is there whole. It counts as read.
#[inline]
pub(super) fn next(input: &mut Buffer) -> Result<Option<Packet>, Failure> {
    let Some((number, body)) = part(input, input.start()) else { return Ok(None) };
    if body.len() == PART_BYTES_MAX {
        return joined(input, number, body);
    }
    input.skip_to(body.end);
    Ok(Some(Packet { first: number, last: number, body }))
}

#[inline]
fn part(input: &Buffer, at: usize) -> Option<(u8, Range<usize>)> {
    let (&[a, b, c, number], rest) = input.from(at).split_first_chunk::<HEADER>()?;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let body = at + HEADER;
    (length <= rest.len()).then_some((number, body..body + length))
}

/// A body of several packets, if they are all there.
#[cold]
fn joined(input: &mut Buffer, first: u8, body: Range<usize>) -> Result<Option<Packet>, Failure> {
    let (start, mut end) = (body.start, body.end);
    let (mut last, mut parts) = (first, vec![body]);
    while parts.last().is_some_and(|part| part.len() == PART_BYTES_MAX) {
        if parts.len() * PART_BYTES_MAX > BODY_BYTES_MAX {
            return Err(Failure::Malformed("a row of more than a gigabyte"));
        }
        let Some((number, more)) = part(input, parts.last().map_or(end, |part| part.end)) else { return Ok(None) };
        last = number;
        parts.push(more);
    }
    let behind = parts.last().map_or(end, |part| part.end);
    for part in parts.drain(1..) {
        let length = part.len();
        input.move_to(end, part);
        end += length;
    }
    input.skip_to(behind);
    Ok(Some(Packet { first, last, body: start..end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
        let (mut input, mut packets) = (Buffer::new(), vec![]);
        input.feed(chunks, |input| {
            while let Some(Packet { last, body, .. }) = next(input).unwrap() {
                packets.push((last, input.body(body).to_vec()));
            }
        });
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
    fn body_of_several_packets_is_one() {
        let part = vec![7; PART_BYTES_MAX];
        for last in [&b""[..], b"end"] {
            let bytes =
                [packet(3, b"x"), packet(4, &part), packet(5, &part), packet(6, last), packet(7, b"y")].concat();
            let long = [&part[..], &part, last].concat();
            let got = read(&bytes.chunks(1 << 20).collect::<Vec<_>>());
            assert!(got == [(3, b"x".to_vec()), (6, long), (7, b"y".to_vec())]);
        }
    }
}
