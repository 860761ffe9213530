//! Where the columns of a table lie in the bytes of its rows.
//!
//! Both parts of a row, its key and its other columns, begin with the columns whose values are all as long: those lie at one place in every row, so
//! that one of them is read, compared and decoded without the others.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};

use crate::Result;
use crate::rows::Codec;

/// Where the bytes of a column lie in every row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    in_key: bool,
    from: usize,
    len: usize,
}

/// The columns that lie at one place, by their number.
#[derive(Debug)]
pub(super) struct Layout(Vec<Option<(Span, Codec)>>);

impl Span {
    /// Its bytes in a row.
    pub(super) fn of<'a>(&self, (key, others): (&'a [u8], &'a [u8])) -> &'a [u8] {
        &(if self.in_key { key } else { others })[self.from..self.from + self.len]
    }

    /// Whether a row has NULL there: the first byte of a value says so.
    pub(super) fn is_null(&self, row: (&[u8], &[u8])) -> bool {
        self.of(row)[0] == 0
    }

    /// Whether it lies in the key.
    pub(super) fn in_key(&self) -> bool {
        self.in_key
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Layout {
    pub(super) fn new(schema: &SchemaRef, key: &[usize], others: &[usize]) -> Result<Self> {
        let mut columns: Vec<Option<(Span, Codec)>> = schema.fields().iter().map(|_| None).collect();
        for (part, in_key) in [(key, true), (others, false)] {
            let mut from = 0;
            for column in part {
                let data_type = schema.field(*column).data_type();
                let Some(len) = width(data_type) else { break };
                columns[*column] = Some((Span { in_key, from, len }, Codec::new([data_type])?));
                from += len;
            }
        }
        Ok(Self(columns))
    }

    pub(super) fn span(&self, column: usize) -> Option<Span> {
        self.0[column].as_ref().map(|(span, _)| *span)
    }

    /// A column of some rows; `None` where it has no one place.
    pub(super) fn decode(&self, column: usize, rows: &[(&[u8], &[u8])]) -> Option<Result<ArrayRef>> {
        let (span, codec) = self.0[column].as_ref()?;
        Some(codec.decode(rows.iter().map(|row| span.of(*row))).map(|mut columns| columns.swap_remove(0)))
    }
}

/// How many bytes every value of a type has in a row, with the one that says whether it is NULL; `None` where that differs.
pub(crate) fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(2),
        other => other.primitive_width().map(|width| 1 + width),
    }
}

/// The columns of one width first, otherwise in their order.
pub(super) fn fixed_first(schema: &SchemaRef, columns: Vec<usize>) -> Vec<usize> {
    let (mut fixed, others): (Vec<usize>, Vec<usize>) =
        columns.into_iter().partition(|column| width(schema.field(*column).data_type()).is_some());
    fixed.extend(others);
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, new_empty_array, new_null_array};
    use arrow::datatypes::{IntervalUnit, TimeUnit};
    use datafusion::common::ScalarValue;

    #[test]
    fn values_of_a_type_are_as_wide_as_it_says() {
        let types = [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal32(9, 2),
            DataType::Decimal64(18, 2),
            DataType::Decimal128(38, 2),
            DataType::Decimal256(76, 2),
            DataType::Date32,
            DataType::Date64,
            DataType::Time32(TimeUnit::Second),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Duration(TimeUnit::Nanosecond),
            DataType::Interval(IntervalUnit::MonthDayNano),
        ];
        for data_type in types {
            let codec = Codec::new([&data_type]).unwrap();
            let zero =
                ScalarValue::new_zero(&data_type).unwrap_or_else(|_| ScalarValue::new_default(&data_type).unwrap());
            let len = width(&data_type).unwrap();
            for (values, is_null) in [(new_null_array(&data_type, 1), true), (zero.to_array().unwrap(), false)] {
                let encoded = codec.encode(&[values], 1).unwrap();
                assert_eq!(encoded.bytes(0).len(), len, "{data_type}");
                let span = Span { in_key: true, from: 0, len };
                assert_eq!(span.is_null((encoded.bytes(0), &[])), is_null, "{data_type}");
            }
        }
        for data_type in [DataType::Utf8, DataType::Binary, DataType::Utf8View] {
            assert_eq!(width(&data_type), None, "{}", new_empty_array(&data_type).data_type());
        }
    }
}
