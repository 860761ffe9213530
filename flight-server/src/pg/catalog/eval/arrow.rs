//! Values as Arrow: what a query yields, and what a client binds.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListArray,
    RecordBatch, RecordBatchOptions, StringBuilder, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;

use super::plan::Column;
use super::run::{Row, World};
use super::value::{Kind, Real, Value};
use crate::pg::error::{INTERNAL, PgError};
use crate::pg::types::PG_TYPE;

/// The columns of a result. What Arrow has no word for (`oid`, `name`, ...) stands beside its type.
pub(super) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| field(&column.name, &column.kind)).collect::<Vec<_>>()))
}

fn field(name: &str, kind: &Kind) -> Field {
    let metadata = [(PG_TYPE.to_owned(), kind.pg().oid().to_string())].into();
    Field::new(name, data_type(kind), true).with_metadata(metadata)
}

fn data_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int2 => DataType::Int16,
        Kind::Int4 | Kind::Oid => DataType::Int32,
        Kind::Int8 => DataType::Int64,
        Kind::Float4 => DataType::Float32,
        Kind::Float8 => DataType::Float64,
        Kind::List(element) | Kind::Vector(element) => DataType::List(Arc::new(field("item", element))),
        Kind::Unknown | Kind::Text | Kind::Name | Kind::Char | Kind::Reg(_) | Kind::Record(_) => DataType::Utf8,
    }
}

/// The parameters of a statement.
pub(super) fn parameters(kinds: &[Kind]) -> SchemaRef {
    let field = |(kind, number): (&Kind, usize)| {
        let data_type = match kind {
            kind if kind.is_integer() => DataType::Int64,
            Kind::List(element) | Kind::Vector(element) if element.is_integer() => {
                DataType::new_list(DataType::Int64, true)
            }
            Kind::List(_) | Kind::Vector(_) => DataType::new_list(DataType::Utf8, true),
            Kind::Bool => DataType::Boolean,
            Kind::Float4 | Kind::Float8 => DataType::Float64,
            _ => DataType::Utf8,
        };
        let told = kind.pg().oid().to_string();
        Field::new(format!("${number}"), data_type, true).with_metadata([(PG_TYPE.to_owned(), told)].into())
    };
    Arc::new(Schema::new(kinds.iter().zip(1..).map(field).collect::<Vec<_>>()))
}

/// The rows of a result.
pub(super) fn batch(world: &World<'_>, columns: &[Column], rows: &[Row]) -> Result<RecordBatch, PgError> {
    let arrays = columns.iter().enumerate().map(|(index, column)| {
        let values: Vec<&Value> = rows.iter().map(|row| row.get(index).unwrap_or(&Value::Null)).collect();
        array(world, &column.kind, &values)
    });
    let arrays = arrays.collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> PgError {
    PgError::new(INTERNAL, error.to_string())
}

fn array(world: &World<'_>, kind: &Kind, values: &[&Value]) -> Result<ArrayRef, PgError> {
    macro_rules! numbers {
        ($builder:ty, $number:ty) => {{
            let mut builder = <$builder>::new();
            for value in values {
                let number = value.int().map(<$number>::try_from).transpose();
                builder.append_option(number.map_err(|_| PgError::new("22003", "a number is out of range"))?);
            }
            Arc::new(builder.finish())
        }};
    }
    Ok(match kind {
        Kind::Bool => {
            let mut builder = BooleanBuilder::new();
            values.iter().for_each(|value| {
                builder.append_option(match value {
                    Value::Bool(flag) => Some(*flag),
                    _ => None,
                });
            });
            Arc::new(builder.finish())
        }
        Kind::Int2 => numbers!(Int16Builder, i16),
        Kind::Int4 | Kind::Oid => numbers!(Int32Builder, i32),
        Kind::Int8 => numbers!(Int64Builder, i64),
        Kind::Float4 => {
            let mut builder = Float32Builder::new();
            values.iter().for_each(|value| builder.append_option(value.float().map(|number| number as f32)));
            Arc::new(builder.finish())
        }
        Kind::Float8 => {
            let mut builder = Float64Builder::new();
            values.iter().for_each(|value| builder.append_option(value.float()));
            Arc::new(builder.finish())
        }
        Kind::List(element) | Kind::Vector(element) => list(world, element, values)?,
        kind => {
            let mut builder = StringBuilder::new();
            for value in values {
                builder.append_option((!value.is_null()).then(|| world.text_of(value, kind)));
            }
            Arc::new(builder.finish())
        }
    })
}

fn list(world: &World<'_>, element: &Kind, values: &[&Value]) -> Result<ArrayRef, PgError> {
    let items: Vec<&Value> = values.iter().flat_map(|value| value.items().unwrap_or_default()).collect();
    let lengths = values.iter().map(|value| value.items().map_or(0, <[Value]>::len));
    let nulls = NullBuffer::from_iter(values.iter().map(|value| value.items().is_some()));
    let inner = match items.is_empty() {
        true => new_empty_array(&data_type(element)),
        false => array(world, element, &items)?,
    };
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(Arc::new(field("item", element)), offsets, inner, Some(nulls));
    Ok(Arc::new(list.map_err(|error| internal(&error))?))
}

/// A value that a client bound.
pub(super) fn value_of(value: &ScalarValue) -> Value {
    match value {
        ScalarValue::Boolean(Some(flag)) => Value::Bool(*flag),
        ScalarValue::Int64(Some(number)) => Value::Int(*number),
        ScalarValue::Float64(Some(number)) => Value::Float(Real(*number)),
        ScalarValue::Utf8(Some(text)) => Value::text(text),
        ScalarValue::List(list) if !arrow::array::Array::is_null(list.as_ref(), 0) => {
            let items = list.value(0);
            let item =
                |index: usize| ScalarValue::try_from_array(&items, index).map_or(Value::Null, |item| value_of(&item));
            Value::list((0..items.len()).map(item).collect())
        }
        _ => Value::Null,
    }
}
