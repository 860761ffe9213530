//! Values of columns: a few common ones, so that joins meet and groups gather, and the edges of each type.
//!
//! A value is a text: digits, `true` and `false`, dates as SQL writes them, bytes as hexadecimal digits.

use headwater_sql_tests::dice::Dice;

/// What a column may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Small numbers, whose sums are exact in any type and any order.
    Small,
    Int8,
    Int16,
    Int32,
    Int64,
    Unsigned32,
    Unsigned64,
    /// MariaDB's `year`.
    Year,
    /// numeric(10,2).
    Money,
    /// numeric(38,6), with room for sums.
    Wide,
    /// Doubles whose sums are exact in any order.
    TameDouble,
    /// Doubles without NaN and infinities, which not every store has.
    FiniteDouble,
    WildDouble,
    WildFloat,
    /// Text of at most 20 characters.
    Text,
    /// Text that looks like nothing else and has no line break.
    Words,
    /// Text of at most 5 characters.
    Short,
    /// Labels of an enumeration, of which the order is not that of the texts.
    Label,
    Date,
    /// Times of day.
    Time,
    Timestamp,
    /// Days and timestamps that fit into nanoseconds.
    Recent,
    Instant,
    /// Of MariaDB's `timestamp`: 1970 to 2038.
    Epoch,
    Bool,
    Bytes,
    /// UUIDs in lower case.
    Uuid,
}

impl Values {
    /// Whether floats made of these add up to the same in any order, and times fit into nanoseconds.
    pub(super) fn are_tame(self) -> bool {
        matches!(self, Self::Small | Self::TameDouble | Self::Money | Self::Recent | Self::Epoch)
    }

    /// A value.
    pub(super) fn pick(self, dice: &mut Dice) -> String {
        let (common, edges) = self.lists();
        let from = if edges.is_empty() || dice.percent(55) { common } else { edges };
        (*dice.pick(from)).to_owned()
    }

    fn lists(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Small => (INTS, &[]),
            Self::Int8 => (INTS, &["127", "-128"]),
            Self::Int16 => (INTS, &["32767", "-32768", "32766", "255"]),
            Self::Int32 => (INTS, &["2147483647", "-2147483648", "32768", "65536", "-2147483647"]),
            Self::Int64 => {
                (INTS, &["9223372036854775807", "-9223372036854775808", "2147483648", "9007199254740993", "4294967296"])
            }
            Self::Unsigned32 => (UNSIGNED, &["4294967295", "2147483648", "2147483647"]),
            Self::Year => (&["1901", "1970", "2000", "2020", "2155"], &[]),
            Self::Unsigned64 => (UNSIGNED, &["18446744073709551615", "9223372036854775808", "9223372036854775807"]),
            Self::Money => (
                &["0.00", "1.00", "2.00", "1.10", "1.50", "-0.01", "0.10", "10.00"],
                &["99999999.99", "-99999999.99", "0.01", "2.50", "-2.50"],
            ),
            Self::Wide => (
                &["0.000000", "1.000000", "2.000000", "1.100000", "-0.010000", "10.000000"],
                &["12345678901234567890123456789.123456", "-12345678901234567890123456789.123456", "0.000001"],
            ),
            Self::TameDouble => (TAME, &[]),
            Self::FiniteDouble => (TAME, FINITE),
            Self::WildDouble => (TAME, WILD),
            Self::WildFloat => (TAME, &["-0.0", "NaN", "Infinity", "-Infinity", "0.1", "16777216", "3.4028235e38"]),
            Self::Text => (COMMON_TEXTS, ODD_TEXTS),
            Self::Words => (&["a", "A", "b", "B", "ab", "it's", "a,b", "\u{E4}"], &["\"", "'", "\\", "%", "_", "aB"]),
            Self::Short => (&["a", "A", "b", "ab", "\u{E4}"], &["", " a", "abcde", "%", "'", "\\", "a_b"]),
            Self::Label => (LABELS, &[]),
            Self::Time => {
                (&["00:00:00", "01:00:00", "12:30:45.123456", "12:30:45"], &["23:59:59.999999", "00:00:00.000001"])
            }
            Self::Date => (DATES, &["0001-01-01", "9999-12-31", "1582-10-10", "1900-02-28"]),
            Self::Timestamp => {
                (TIMES, &["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"])
            }
            Self::Recent => (TIMES, &["1969-12-31 23:59:59.999999"]),
            Self::Instant => (
                &["2020-01-01 00:00:00+00:00", "2020-02-29 12:30:45.123456+00:00", "1970-01-01 00:00:00+00:00"],
                &["0001-01-01 00:00:00+00:00", "9999-12-31 23:59:59.999999+00:00", "1969-12-31 23:59:59.999999+00:00"],
            ),
            Self::Epoch => (
                &["2020-01-01 00:00:00", "2020-02-29 12:30:45.123456", "2000-01-01 00:00:00"],
                &["1970-01-01 00:00:01", "2038-01-19 03:14:07"],
            ),
            Self::Bool => (&["true", "false"], &[]),
            Self::Bytes => (&["61", "62", "41", ""], &["00", "ff", "6120", "6100", "27", "5c"]),
            Self::Uuid => (
                &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
                &["ffffffff-ffff-ffff-ffff-ffffffffffff", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
            ),
        }
    }
}

const INTS: &[&str] = &["0", "1", "2", "3", "4", "5", "-1", "-2", "10", "42"];

const UNSIGNED: &[&str] = &["0", "1", "2", "3", "5", "10", "42"];

const LABELS: &[&str] = &["b", "a", "ab", "c"];

/// Halves and quarters: exact in binary.
const TAME: &[&str] = &["0", "1", "2", "1.5", "-2.25", "0.5", "-0.5", "2.5", "1000", "0.25"];

const FINITE: &[&str] = &["0.1", "-0.1", "1e15", "9007199254740993", "1e300", "-1e300", "1e-300"];

const WILD: &[&str] = &[
    "-0.0",
    "NaN",
    "Infinity",
    "-Infinity",
    "0.1",
    "5e-324",
    "1.7976931348623157e308",
    "9007199254740993",
    "1e15",
    "1e16",
];

const COMMON_TEXTS: &[&str] = &["a", "A", "b", "B", "ab", "aB", "", "a ", "\u{E4}", "1"];

const ODD_TEXTS: &[&str] = &[
    " ",
    " a",
    "a  ",
    "\u{C4}",
    "ae",
    "\u{DF}",
    "ss",
    "\u{E9}",
    "e\u{301}",
    "%",
    "_",
    "\\",
    "\\%",
    "'",
    "''",
    "\"",
    "it's",
    "a%b",
    "a_b",
    "a\\b",
    "0",
    "-1",
    "1.5",
    "2020-01-01",
    "true",
    "NULL",
    "\u{130}",
    "\u{131}",
    "\u{FB01}",
    "\u{1F600}",
    "a\nb",
    "a\tb",
    "\u{65E5}\u{672C}",
    "\u{3A3}",
    "\u{3C2}",
    "\u{1C5}",
    "\u{A0}a",
    "abcabcabc",
];

const DATES: &[&str] = &["2020-01-01", "2020-02-29", "2020-12-31", "2021-01-01", "1970-01-01", "1969-12-31"];

const TIMES: &[&str] = &[
    "2020-01-01 00:00:00",
    "2020-02-29 12:30:45.123456",
    "2020-01-01 00:00:00.000001",
    "1970-01-01 00:00:00",
    "2020-12-31 23:59:59",
];
