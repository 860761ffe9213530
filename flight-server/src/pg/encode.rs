//! Values of a batch as clients get them, as text or in binary.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, DurationNanosecondType, IntervalMonthDayNanoType, IntervalUnit, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};
use postgres_types::Type;

use super::error::{INTERNAL, PgError, UNSUPPORTED};
use super::{numeric, time, types};

/// The format of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    pub(super) fn of(code: i16) -> Result<Self, PgError> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            _ => Err(PgError::new("08P01", format!("there is no format {code}"))),
        }
    }

    pub(super) fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// The columns of a batch, ready to be written row by row.
pub(super) struct Encoder {
    columns: Vec<Values>,
    pub(super) rows: usize,
}

/// A column in the one form that its type has here.
enum Values {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array),
    BigNumeric(Decimal256Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray, &'static str),
    /// Months, days and microseconds.
    Interval(Vec<Option<(i32, i32, i64)>>),
    List {
        lists: ListArray,
        items: Box<Values>,
        element: u32,
        /// Whether it is a vector of the catalog, which is written with spaces.
        is_vector: bool,
    },
    /// Everything else, as it is shown: text that is written once for each value.
    Shown(ArrayRef),
    /// Records as JSON.
    Json(ArrayRef),
}

impl Encoder {
    /// Takes a batch whose columns clients were told to be of this schema.
    pub(super) fn new(batch: &RecordBatch, told: &SchemaRef) -> Result<Self, PgError> {
        if batch.num_columns() != told.fields().len() {
            return Err(PgError::new(INTERNAL, "the answer has other columns than were announced"));
        }
        let columns = batch.columns().iter().zip(told.fields()).map(|(column, field)| {
            let wanted = types::plain(field.data_type());
            let column = if *column.data_type() == wanted {
                ArrayRef::clone(column)
            } else {
                cast(column, &wanted).map_err(unfit)?
            };
            Values::of(&column, &types::of_field(field))
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()?, rows: batch.num_rows() })
    }

    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Writes one value with its length before it.
    pub(super) fn put(&self, out: &mut BytesMut, column: usize, row: usize, format: Format) -> Result<(), PgError> {
        let Some(values) = self.columns.get(column) else {
            return Err(PgError::new(INTERNAL, "the answer has fewer columns than were announced"));
        };
        values.put(out, row, format)
    }

    /// Writes a value as text; whether it is one, and not NULL.
    pub(super) fn text(&self, out: &mut impl Write, column: usize, row: usize) -> Result<bool, PgError> {
        match self.columns.get(column) {
            Some(values) if !values.is_null(row) => values.text(out, row).map(|()| true),
            _ => Ok(false),
        }
    }
}

fn unfit(error: ArrowError) -> PgError {
    PgError::new("22000", format!("a value does not fit what was announced: {error}"))
}

impl Values {
    fn of(array: &ArrayRef, told: &Type) -> Result<Self, PgError> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int16 => Self::Int2(array.as_primitive().clone()),
            DataType::Int32 => Self::Int4(array.as_primitive().clone()),
            DataType::Int64 => Self::Int8(array.as_primitive().clone()),
            DataType::Float32 => Self::Float4(array.as_primitive().clone()),
            DataType::Float64 => Self::Float8(array.as_primitive().clone()),
            DataType::Decimal128(..) => Self::Numeric(array.as_primitive().clone()),
            DataType::Decimal256(..) => Self::BigNumeric(array.as_primitive().clone()),
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::Binary => Self::Bytes(array.as_binary().clone()),
            DataType::Date32 => Self::Date(array.as_primitive().clone()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(array.as_primitive().clone(), if zone.is_some() { "+00" } else { "" })
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(
                array
                    .as_primitive::<IntervalMonthDayNanoType>()
                    .iter()
                    .map(|value| value.map(|value| (value.months, value.days, value.nanoseconds.div_euclid(1000))))
                    .collect(),
            ),
            DataType::Duration(TimeUnit::Nanosecond) => Self::Interval(
                array
                    .as_primitive::<DurationNanosecondType>()
                    .iter()
                    .map(|value| value.map(|value| (0, 0, value.div_euclid(1000))))
                    .collect(),
            ),
            DataType::List(item) => match *told {
                Type::TEXT => Self::Shown(ArrayRef::clone(array)),
                _ => {
                    let lists = array.as_list::<i32>().clone();
                    let element = types::of_field(item);
                    let items = Box::new(Self::of(lists.values(), &element)?);
                    let is_vector = matches!(*told, Type::INT2_VECTOR | Type::OID_VECTOR);
                    Self::List { lists, items, element: element.oid(), is_vector }
                }
            },
            DataType::Struct(_) | DataType::Map(..) => Self::Json(ArrayRef::clone(array)),
            _ => Self::Shown(ArrayRef::clone(array)),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(array) => array.is_null(row),
            Self::Int2(array) => array.is_null(row),
            Self::Int4(array) => array.is_null(row),
            Self::Int8(array) => array.is_null(row),
            Self::Float4(array) => array.is_null(row),
            Self::Float8(array) => array.is_null(row),
            Self::Numeric(array) => array.is_null(row),
            Self::BigNumeric(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Timestamp(array, _) => array.is_null(row),
            Self::Interval(values) => values[row].is_none(),
            Self::List { lists, .. } => lists.is_null(row),
            Self::Shown(array) | Self::Json(array) => array.is_null(row) || *array.data_type() == DataType::Null,
        }
    }

    fn put(&self, out: &mut BytesMut, row: usize, format: Format) -> Result<(), PgError> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let start = out.len();
        out.put_i32(0);
        match (format, self) {
            // The text of a text needs no detour.
            (_, Self::Text(array)) => out.put_slice(array.value(row).as_bytes()),
            (Format::Text, _) => self.text(out, row)?,
            (Format::Binary, _) => self.binary(out, row)?,
        }
        let length = i32::try_from(out.len() - start - 4);
        let length = length.map_err(|_| PgError::new("54000", "a value is larger than the protocol has room for"))?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn binary(&self, out: &mut BytesMut, row: usize) -> Result<(), PgError> {
        let out_of_range = || PgError::new("22008", "a date or time is out of PostgreSQL's range");
        match self {
            Self::Bool(array) => out.put_u8(u8::from(array.value(row))),
            Self::Int2(array) => out.put_i16(array.value(row)),
            Self::Int4(array) => out.put_i32(array.value(row)),
            Self::Int8(array) => out.put_i64(array.value(row)),
            Self::Float4(array) => out.put_f32(array.value(row)),
            Self::Float8(array) => out.put_f64(array.value(row)),
            Self::Numeric(array) => numeric::put(out, &array.value_as_string(row)),
            Self::BigNumeric(array) => numeric::put(out, &array.value_as_string(row)),
            Self::Bytes(array) => out.put_slice(array.value(row)),
            Self::Date(array) => {
                let days = array.value(row).checked_sub(time::POSTGRES_EPOCH_DAYS).ok_or_else(out_of_range)?;
                out.put_i32(days);
            }
            Self::Time(array) => out.put_i64(array.value(row)),
            Self::Timestamp(array, _) => {
                let since = array.value(row).checked_sub(time::POSTGRES_EPOCH_MICROSECONDS);
                out.put_i64(since.ok_or_else(out_of_range)?);
            }
            Self::Interval(values) => {
                let (months, days, microseconds) = values[row].unwrap_or_default();
                out.put_i64(microseconds);
                out.put_i32(days);
                out.put_i32(months);
            }
            Self::List { lists, items, element, is_vector } => {
                let (first, end) = bounds(lists, row);
                out.put_i32(i32::from(first != end));
                out.put_i32(i32::from((first..end).any(|item| items.is_null(item))));
                out.put_u32(*element);
                if first != end {
                    let length = i32::try_from(end - first);
                    out.put_i32(length.map_err(|_| PgError::new(UNSUPPORTED, "an array has too many items"))?);
                    out.put_i32(i32::from(!is_vector));
                }
                for item in first..end {
                    items.put(out, item, Format::Binary)?;
                }
            }
            Self::Text(_) | Self::Shown(_) | Self::Json(_) => self.text(out, row)?,
        }
        Ok(())
    }

    fn text(&self, out: &mut impl Write, row: usize) -> Result<(), PgError> {
        let written = match self {
            Self::Bool(array) => out.write_str(if array.value(row) { "t" } else { "f" }),
            Self::Int2(array) => write!(out, "{}", array.value(row)),
            Self::Int4(array) => write!(out, "{}", array.value(row)),
            Self::Int8(array) => write!(out, "{}", array.value(row)),
            Self::Float4(array) => {
                let value = array.value(row);
                match value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
                    true => write!(out, "{value}"),
                    false => out.write_str(&float(&format!("{value:e}"), f64::from(value))),
                }
            }
            Self::Float8(array) => {
                let value = array.value(row);
                match value == 0.0 || (1e-4..1e15).contains(&value.abs()) {
                    true => write!(out, "{value}"),
                    false => out.write_str(&float(&format!("{value:e}"), value)),
                }
            }
            Self::Numeric(array) => out.write_str(&array.value_as_string(row)),
            Self::BigNumeric(array) => out.write_str(&array.value_as_string(row)),
            Self::Text(array) => out.write_str(array.value(row)),
            Self::Bytes(array) => {
                let bytes = array.value(row);
                out.write_str("\\x").and_then(|()| bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")))
            }
            Self::Date(array) => time::date(out, i64::from(array.value(row))),
            Self::Time(array) => time::time(out, array.value(row)),
            Self::Timestamp(array, zone) => time::timestamp(out, array.value(row), zone),
            Self::Interval(values) => {
                let (months, days, microseconds) = values[row].unwrap_or_default();
                time::interval(out, months, days, microseconds)
            }
            Self::List { lists, items, is_vector: true, .. } => {
                let (first, end) = bounds(lists, row);
                for item in first..end {
                    if item > first {
                        out.write_char(' ').map_err(unwritten)?;
                    }
                    items.text(out, item)?;
                }
                Ok(())
            }
            Self::List { lists, items, .. } => {
                let mut text = String::new();
                list_text(&mut text, items, bounds(lists, row))?;
                out.write_str(&text)
            }
            Self::Shown(array) => {
                let options = FormatOptions::default();
                let shown = ArrayFormatter::try_new(array, &options).map_err(unfit)?;
                write!(out, "{}", shown.value(row))
            }
            Self::Json(array) => out.write_str(&json(array, row)?),
        };
        written.map_err(unwritten)
    }
}

fn unwritten(_: std::fmt::Error) -> PgError {
    PgError::new(INTERNAL, "a value can't be written")
}

fn bounds(lists: &ListArray, row: usize) -> (usize, usize) {
    let offsets = lists.value_offsets();
    let at = |index: usize| usize::try_from(offsets[index]).unwrap_or_default();
    (at(row), at(row + 1))
}

/// An array as text: `{1,NULL,"a \"b\""}`.
fn list_text(out: &mut String, items: &Values, (first, end): (usize, usize)) -> Result<(), PgError> {
    out.push('{');
    for item in first..end {
        if item > first {
            out.push(',');
        }
        if items.is_null(item) {
            out.push_str("NULL");
            continue;
        }
        let mut text = String::new();
        items.text(&mut text, item)?;
        let needs_quotes = text.is_empty()
            || text.eq_ignore_ascii_case("null")
            || text.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
        if needs_quotes {
            let _never = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        } else {
            out.push_str(&text);
        }
    }
    out.push('}');
    Ok(())
}

/// A float that PostgreSQL writes with an exponent, or as a word. `shortest` are its digits as Rust writes them.
fn float(shortest: &str, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A record as JSON.
fn json(array: &ArrayRef, row: usize) -> Result<String, PgError> {
    let field = arrow::datatypes::Field::new("v", array.data_type().clone(), true);
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![array.slice(row, 1)]).map_err(unfit)?;
    let mut bytes = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut bytes);
    writer.write(&batch).and_then(|()| writer.finish()).map_err(unfit)?;
    drop(writer);
    let line = String::from_utf8(bytes).map_err(|_| PgError::new(INTERNAL, "a record can't be written"))?;
    // {"v": ...}
    let inner = line.trim_end().strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
    Ok(inner.unwrap_or(&line).to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int32Array, UInt64Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn texts(array: ArrayRef) -> Vec<Option<String>> {
        let batch = RecordBatch::try_from_iter_with_nullable([("x", array, true)]).unwrap();
        let encoder = Encoder::new(&batch, &types::settled(&batch.schema())).unwrap();
        (0..encoder.rows)
            .map(|row| {
                let mut text = String::new();
                encoder.text(&mut text, 0, row).unwrap().then_some(text)
            })
            .collect()
    }

    #[test]
    fn floats_are_written_as_postgres_writes_them() {
        let values = [
            0.0,
            -0.0,
            1.0,
            1.5,
            -0.1,
            1e20,
            1e-5,
            0.0001,
            123_456_789_012_345.0,
            1e15,
            f64::NAN,
            f64::INFINITY,
            5e-324,
        ];
        let found = texts(Arc::new(Float64Array::from(values.to_vec())));
        let found: Vec<&str> = found.iter().map(|text| text.as_deref().unwrap()).collect();
        assert_eq!(
            found,
            [
                "0",
                "-0",
                "1",
                "1.5",
                "-0.1",
                "1e+20",
                "1e-05",
                "0.0001",
                "123456789012345",
                "1e+15",
                "NaN",
                "Infinity",
                "5e-324"
            ]
        );
    }

    #[test]
    fn floats_have_an_exponent_from_where_postgres_writes_one() {
        let wide = |value: f64| texts(Arc::new(Float64Array::from(vec![value])))[0].clone().unwrap();
        let narrow = |value: f32| texts(Arc::new(Float32Array::from(vec![value])))[0].clone().unwrap();
        for (value, text) in [
            (1e15_f64.next_down(), "999999999999999.9"),
            (1e-4_f64.next_down(), "9.999999999999999e-05"),
            (-123_456.789, "-123456.789"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(wide(value), text);
        }
        for (value, text) in [
            (1e6_f32.next_down(), "999999.94"),
            (1e6, "1e+06"),
            (1e-4, "0.0001"),
            (1e-4_f32.next_down(), "9.999999e-05"),
            (0.1, "0.1"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
        ] {
            assert_eq!(narrow(value), text);
        }
    }

    #[test]
    fn largest_unsigned_number_and_arrays_with_null_are_written_whole() {
        assert_eq!(texts(Arc::new(UInt64Array::from(vec![u64::MAX]))), [Some("18446744073709551615".to_owned())]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        assert_eq!(texts(Arc::new(lists)), [Some("{1,NULL}".to_owned()), None, Some("{}".to_owned())]);
    }

    #[test]
    fn texts_in_arrays_are_quoted_where_they_must_be() {
        let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        for text in ["a", "", "null", "a b", "a\"b", "a\\b"] {
            builder.values().append_value(text);
        }
        builder.append(true);
        let found = texts(Arc::new(builder.finish()));
        assert_eq!(found, [Some(r#"{a,"","null","a b","a\"b","a\\b"}"#.to_owned())]);
    }

    #[test]
    fn binary_value_has_its_length_before_it() {
        let array: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("x", array, true)]).unwrap();
        let encoder = Encoder::new(&batch, &batch.schema()).unwrap();
        let mut out = BytesMut::new();
        encoder.put(&mut out, 0, 0, Format::Binary).unwrap();
        encoder.put(&mut out, 0, 1, Format::Binary).unwrap();
        assert_eq!(&out[..], [0, 0, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
    }
}
