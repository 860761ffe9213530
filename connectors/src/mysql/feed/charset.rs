//! Text in the character set of its column, as the log has it, into UTF-8. Which sets there are is decided by `types`.

use std::borrow::Cow;

/// The Unicode characters of latin1's bytes 0x80 to 0x9F, which MySQL takes from Windows-1252; the five that it leaves out are themselves.
const LATIN1_HIGH: [char; 32] = [
    '\u{20AC}', '\u{81}', '\u{201A}', '\u{192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2C6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\u{8D}', '\u{17D}', '\u{8F}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201C}',
    '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2DC}', '\u{2122}', '\u{161}', '\u{203A}', '\u{153}', '\u{9D}',
    '\u{17E}', '\u{178}',
];

/// A character set that can be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Latin1,
    Utf16,
    Utf16Le,
    Utf32,
}

impl Charset {
    /// By the server's name for it.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Self::Utf8,
            "latin1" => Self::Latin1,
            "ucs2" | "utf16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf32" => Self::Utf32,
            _ => return None,
        })
    }

    /// The text in UTF-8, or nothing where the bytes are none of this set.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
        let text: String = match self {
            Self::Utf8 => return Some(Cow::Borrowed(bytes)),
            Self::Latin1 => bytes.iter().map(|byte| latin1(*byte)).collect(),
            Self::Utf16 => units(bytes, u16::from_be_bytes)?,
            Self::Utf16Le => units(bytes, u16::from_le_bytes)?,
            Self::Utf32 => {
                let characters = bytes.chunks(4).map(|unit| char::from_u32(u32::from_be_bytes(unit.try_into().ok()?)));
                characters.collect::<Option<_>>()?
            }
        };
        Some(Cow::Owned(text.into_bytes()))
    }
}

fn latin1(byte: u8) -> char {
    match byte {
        0x80..=0x9F => LATIN1_HIGH[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

fn units(bytes: &[u8], read: fn([u8; 2]) -> u16) -> Option<String> {
    let units: Option<Vec<u16>> = bytes.chunks(2).map(|unit| Some(read(unit.try_into().ok()?))).collect();
    String::from_utf16(&units?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, bytes: &[u8]) -> Option<String> {
        Charset::of(name)?.decode(bytes).map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn text_of_each_set_becomes_utf8() {
        assert_eq!(decoded("latin1", &[b'a', 0xe4, 0x80, 0x81]).as_deref(), Some("aä€\u{81}"));
        assert_eq!(decoded("utf16", &[0, b'a', 0xd8, 0x34, 0xdd, 0x1e]).as_deref(), Some("a𝄞"));
        assert_eq!(decoded("utf16le", &[b'a', 0]).as_deref(), Some("a"));
        assert_eq!(decoded("utf32", &[0, 1, 0xd1, 0x1e]).as_deref(), Some("𝄞"));
        assert_eq!(decoded("utf16", &[0]), None);
        assert_eq!(decoded("utf32", &[0, 1]), None);
        assert_eq!(decoded("cp932", b"a"), None);
    }
}
