//! What came from the server, cut into messages in the place where it was read to.
//!
//! A message is a tag, a length that counts itself and not the tag, and a body.

use std::ops::Range;

use super::answer::Fault;
use crate::buffer::Buffer;

const HEADER: usize = 5;

/// The next message, if it is there whole: its tag and where its body is. It counts as read.
#[inline]
pub(super) fn next(input: &mut Buffer) -> Result<Option<(u8, Range<usize>)>, Fault> {
    let start = input.start();
    let Some(&[tag, a, b, c, d]) = input.from(start).first_chunk::<HEADER>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
    if length < 4 {
        return Err(Fault::Malformed("a message of a negative length"));
    }
    let end = start + 1 + length;
    if length >= input.from(start).len() {
        return Ok(None);
    }
    input.skip_to(end);
    Ok(Some((tag, start + HEADER..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
        let mut messages = vec![];
        Buffer::new().feed(chunks, |input| {
            while let Some((tag, body)) = next(input).unwrap() {
                messages.push((tag, input.body(body).to_vec()));
            }
        });
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
    fn message_longer_than_the_buffer_is_read_whole() {
        let long = vec![7; 1 << 20];
        let messages = read(&[&message(b'D', &long), &message(b'C', b"x")]);
        assert_eq!(messages, [(b'D', long), (b'C', b"x".to_vec())]);
    }

    #[test]
    fn length_that_cannot_be_is_refused() {
        let mut input = Buffer::new();
        input.feed(&[&[b'D', 0xff, 0xff, 0xff, 0xff]], |_| {});
        assert!(next(&mut input).is_err());
    }
}
