//! Rows as bytes: what hash maps of state are keyed by.
//!
//! The bytes are those of the Arrow row format: equal rows have equal bytes, and their order is that of the rows. They live in memory only;
//! what is stored is Arrow IPC.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, PrimitiveArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::row::{RowConverter, RowParser, Rows, SortField};

use crate::{Error, Result};

/// Turns columns into the bytes of rows and back.
#[derive(Debug)]
pub(crate) struct Codec {
    converter: RowConverter,
    parser: RowParser,
    width: usize,
}

impl Codec {
    pub(crate) fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self> {
        Self::ordered(types.into_iter().map(|data_type| (data_type, SortOptions::default())))
    }

    /// A codec whose bytes compare as ORDER BY with these options does.
    pub(crate) fn ordered<'a>(types: impl IntoIterator<Item = (&'a DataType, SortOptions)>) -> Result<Self> {
        let types = types.into_iter().collect::<Vec<_>>();
        // Their rows come back in another layout than they went in.
        let encoded =
            |data_type: &DataType| matches!(data_type, DataType::Dictionary(..) | DataType::RunEndEncoded(..));
        if let Some((odd, _)) = types.iter().find(|(data_type, _)| encoded(data_type)) {
            return Err(Error::query(format!(
                "a column of type {odd} is not supported in views; cast it to its values' type"
            )));
        }
        let fields: Vec<SortField> = types
            .into_iter()
            .map(|(data_type, options)| SortField::new_with_options(data_type.clone(), options))
            .collect();
        if let Some(odd) = fields.iter().find(|field| !RowConverter::supports_fields(std::slice::from_ref(field))) {
            return Err(Error::query(format!("a column's type is not supported in views: {odd:?}; leave it out")));
        }
        let width = fields.len();
        let converter = RowConverter::new(fields)?;
        let parser = converter.parser();
        Ok(Self { converter, parser, width })
    }

    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<Encoded> {
        if self.width == 0 {
            return Ok(Encoded { rows: None });
        }
        debug_assert!(columns.iter().all(|column| column.len() == rows));
        Ok(Encoded { rows: Some(self.converter.convert_columns(columns)?) })
    }

    pub(crate) fn decode<'a>(&'a self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.width == 0 {
            return Ok(vec![]);
        }
        let columns = self.converter.convert_rows(rows.into_iter().map(|bytes| self.parser.parse(bytes)))?;
        Ok(columns.iter().map(calm).collect())
    }
}

/// A column of times with nothing but zeros beneath its NULLs. Decoded rows have the least of all times there, which `date_trunc` of DataFusion 55.2 computes with,
/// and overflows.
fn calm(column: &ArrayRef) -> ArrayRef {
    fn zeros<T: ArrowTimestampType>(column: &ArrayRef) -> ArrayRef {
        let times = column.as_primitive::<T>();
        let calm = times.iter().collect::<PrimitiveArray<T>>();
        Arc::new(calm.with_data_type(column.data_type().clone()))
    }
    match column.data_type() {
        _ if column.null_count() == 0 => Arc::clone(column),
        DataType::Timestamp(TimeUnit::Second, _) => zeros::<TimestampSecondType>(column),
        DataType::Timestamp(TimeUnit::Millisecond, _) => zeros::<TimestampMillisecondType>(column),
        DataType::Timestamp(TimeUnit::Microsecond, _) => zeros::<TimestampMicrosecondType>(column),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => zeros::<TimestampNanosecondType>(column),
        _ => Arc::clone(column),
    }
}

/// Rows as bytes.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    rows: Option<Rows>,
}

impl Encoded {
    pub(crate) fn bytes(&self, row: usize) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(row).data())
    }

    /// The hash of each of so many rows.
    pub(crate) fn hashes(&self, rows: usize) -> Vec<u64> {
        (0..rows).map(|row| hash(self.bytes(row))).collect()
    }
}

static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(|| {
    ahash::RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    )
});

/// Hashes maps of state the same in every run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fixed;

impl BuildHasher for Fixed {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        HASHER.build_hasher()
    }
}

/// The hash of a row. The same in every run: a history played again takes the same course.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    HASHER.hash_one(bytes)
}

/// Whether two rows are equal. Most keys are short, and compared without a call.
#[inline]
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    fn ends<const LEN: usize>(bytes: &[u8]) -> Option<([u8; LEN], [u8; LEN])> {
        bytes.first_chunk().copied().zip(bytes.last_chunk().copied())
    }
    match one.len() {
        len if len != other.len() => false,
        8..=16 => ends::<8>(one) == ends::<8>(other),
        17..=32 => ends::<16>(one) == ends::<16>(other),
        _ => one == other,
    }
}

/// Owned bytes, up to 22 of them in place.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    Inline(u8, [u8; INLINE]),
    Heap(Box<[u8]>),
}

const INLINE: usize = 22;

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(len, data) => &data[..usize::from(*len)],
            Self::Heap(data) => data,
        }
    }

    /// How many bytes it has on the heap, with what an allocator adds.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::Inline(..) => 0,
            Self::Heap(data) => data.len() + ALLOCATION,
        }
    }
}

/// What an allocation costs beyond what was asked for, in bytes; about.
const ALLOCATION: usize = 16;

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= INLINE => {
                let mut data = [0; INLINE];
                data[..bytes.len()].copy_from_slice(bytes);
                Self::Inline(len, data)
            }
            _ => Self::Heap(bytes.into()),
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // Of one length that is known, so without a call; what is not used is 0.
            (Self::Inline(len, data), Self::Inline(other_len, other)) => len == other_len && data == other,
            _ => self.as_slice() == other.as_slice(),
        }
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::hash::Hash for Bytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Key columns in the form in which they are compared: -0.0 is 0.0.
pub(crate) fn keyed(columns: Vec<ArrayRef>) -> Vec<ArrayRef> {
    columns.into_iter().map(keyed_column).collect()
}

fn keyed_column(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            if floats.values().iter().any(|value| *value == 0.0 && value.is_sign_negative()) {
                return Arc::new(floats.unary::<_, Float64Type>(|value| if value == 0.0 { 0.0 } else { value }));
            }
            column
        }
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            if floats.values().iter().any(|value| *value == 0.0 && value.is_sign_negative()) {
                return Arc::new(floats.unary::<_, Float32Type>(|value| if value == 0.0 { 0.0 } else { value }));
            }
            column
        }
        _ => column,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_that_are_null_are_zero_beneath() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(7), None]).with_timezone("UTC"));
        let codec = Codec::new([times.data_type()]).unwrap();
        let encoded = codec.encode(&[Arc::clone(&times)], 2).unwrap();
        let decoded = codec.decode([encoded.bytes(0), encoded.bytes(1)]).unwrap();
        assert_eq!(&decoded[0], &times);
        assert_eq!(decoded[0].as_primitive::<TimestampMicrosecondType>().values().to_vec(), [7, 0]);
    }

    proptest! {
        #[test]
        fn rows_are_the_same_where_all_of_their_bytes_are(one in proptest::collection::vec(any::<u8>(), 0..40), at: usize, bit in 0_u32..8) {
            prop_assert!(same(&one, &one.clone()));
            prop_assert!(!same(&one, &[&one[..], &[0]].concat()));
            if !one.is_empty() {
                let mut other = one.clone();
                other[at % one.len()] ^= 1 << bit;
                prop_assert!(!same(&one, &other));
            }
        }
    }
}
