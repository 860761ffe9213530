//! Places in the write-ahead log: 64 bits, which Postgres writes as two hexadecimal halves.

/// The size of a page of the log; a server with another is refused.
pub(super) const PAGE_BYTES: u64 = 8192;
/// What a page begins with, and what a page begins with where a file of the log begins.
const PAGE_HEADER_BYTES: u64 = 24;
const FILE_HEADER_BYTES: u64 = 40;
/// The smallest file of the log: every file begins at a multiple of it.
const FILE_BYTES_MIN: u64 = 1 << 20;

/// As Postgres prints it.
pub(super) fn printed(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// Reads what Postgres prints.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let half = |half: &str| match half.len() {
        1..=8 if half.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(half, 16).ok(),
        _ => None,
    };
    Some(half(high)? << 32 | half(low)?)
}

/// The end of what is written before a place at which something is about to be. Right behind a page's header that is the end of the page
/// before: nothing else will ever end there, and whoever waited for the place itself would wait for the next write.
pub(super) fn end_before(lsn: u64) -> u64 {
    match lsn % PAGE_BYTES {
        PAGE_HEADER_BYTES => lsn - PAGE_HEADER_BYTES,
        FILE_HEADER_BYTES if lsn % FILE_BYTES_MIN == FILE_HEADER_BYTES => lsn - FILE_HEADER_BYTES,
        _ => lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_printed_as_it_is_read_and_other_text_is_refused() {
        for lsn in [0, 1, 0x16_B374_D848, u64::MAX] {
            assert_eq!(parse(&printed(lsn)), Some(lsn));
        }
        assert_eq!(printed(0x16_B374_D848), "16/B374D848");
        for text in ["", "16", "/1", "1/", "g/1", "+1/1", "123456789/1", "1/2/3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn place_behind_a_header_is_the_end_of_the_page_before() {
        assert_eq!(end_before(8192 * 3 + 24), 8192 * 3);
        assert_eq!(end_before(16 << 20 | 40), 16 << 20);
        assert_eq!(end_before(8192 * 3 + 40), 8192 * 3 + 40);
        assert_eq!(end_before(8192 * 3 + 32), 8192 * 3 + 32);
    }
}
