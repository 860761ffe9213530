//! The rows that every source holds for the suite: common types, NULLs, duplicates and edge values.
//!
//! The values are those that all of the sources can store. What only some can (NUL in text, infinity, NaN, years before
//! 1000) is for the connectors' own tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;

/// How many rows there are.
pub const ROWS: usize = 97;

/// Integers.
pub const INTEGERS: &[i64] = &[i64::MIN, -1, 0, 1, 7, 7, 1 << 53, (1 << 53) + 1, i64::MAX];
/// Units of 10^-2 of a decimal(12,2).
pub const CENTS: &[i128] = &[-999_999_999_999, -1, 0, 1, 10, 1250, 1250, 100_000, 999_999_999_999];
/// Floats.
pub const FLOATS: &[f64] = &[f64::MIN, -1.5, -0.0, 0.0, f64::MIN_POSITIVE, 0.1, 0.1 + 0.2, 1.5, 1e300, f64::MAX];
/// Texts.
pub const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "a ",
    " a",
    "ab",
    "b",
    "B",
    "é",
    "É",
    "e\u{301}",
    "ss",
    "ß",
    "日本",
    "😀",
    "\u{fffd}",
    "it's",
    "''",
    "say \"hi\"",
    "back\\slash",
    "\\",
    "\\') OR 1=1 -- ",
    "x'; DROP TABLE conformance; --",
    "100%",
    "under_score",
    "1",
    "1.0",
    "01",
    "line\nbreak",
    "tab\t",
    "NULL",
    "true",
    "?1",
    "$1",
    ":a",
    "Straße",
    "2024-02-29",
    "zz",
];
/// Days since 1970-01-01: years 1000 and 1582, both sides of 1970, two leap days, the last day of 9999.
pub const DAYS: &[i32] = &[-354_285, -141_427, -1, 0, 11_016, 19_782, 19_782, 2_932_896];
/// Microseconds since 1970-01-01: year 1000, both sides of 1970, four moments of 2024-02-29, the end of 9999.
pub const MICROS: &[i64] = &[
    -30_610_224_000_000_000,
    -1,
    0,
    1_709_164_800_000_000,
    1_709_210_096_000_000,
    1_709_210_096_123_456,
    1_709_251_199_999_999,
    253_402_300_799_999_999,
];
/// Binary strings.
pub const BYTES: &[&[u8]] = &[b"", b"\0", b"\0\xff", b"a", b"A", b"abc", b"\xff", b"\xc3\x28"];

/// The rows. Each column cycles through its values and one NULL, so they meet in many combinations.
pub fn rows() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(1..=ROWS as i64))),
        ("whole", Arc::new(cycle(INTEGERS).collect::<Int64Array>())),
        ("amount", Arc::new(decimals())),
        ("ratio", Arc::new(cycle(FLOATS).collect::<Float64Array>())),
        ("label", Arc::new(cycle(TEXTS).collect::<StringArray>())),
        ("flag", Arc::new(cycle(&[true, false]).collect::<BooleanArray>())),
        ("day", Arc::new(cycle(DAYS).collect::<Date32Array>())),
        ("moment", Arc::new(cycle(MICROS).collect::<TimestampMicrosecondArray>())),
        ("raw", Arc::new(cycle(BYTES).collect::<BinaryArray>())),
    ];
    let (names, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let fields: Vec<Field> = names
        .iter()
        .zip(&arrays)
        .map(|(name, array): (&&str, &ArrayRef)| Field::new(*name, array.data_type().clone(), *name != "id"))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("Invariant: the columns are of one length")
}

fn decimals() -> Decimal128Array {
    cycle(CENTS)
        .collect::<Decimal128Array>()
        .with_precision_and_scale(12, 2)
        .expect("Invariant: 12 digits, 2 of them places")
}

fn cycle<T: Copy>(values: &[T]) -> impl Iterator<Item = Option<T>> {
    (0..ROWS).map(|row| values.get(row % (values.len() + 1)).copied())
}
