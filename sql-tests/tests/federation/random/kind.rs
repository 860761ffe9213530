//! The kinds of values that expressions are typed by: what is compared and computed with what.

use arrow::datatypes::{DataType, TimeUnit};

/// A kind of value. Types of one kind mix freely in SQL: integers of every width, decimals of every scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Int,
    Decimal,
    Double,
    Text,
    Date,
    /// A time of day.
    Time,
    Timestamp,
    /// A point in time, in UTC.
    Instant,
    Bool,
    Bytes,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Int,
        Self::Decimal,
        Self::Double,
        Self::Text,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::Instant,
        Self::Bool,
        Self::Bytes,
    ];

    /// The kind of an Arrow type; `None` for what no table here has.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            _ if data_type.is_integer() => Some(Self::Int),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(Self::Decimal),
            DataType::Float32 | DataType::Float64 => Some(Self::Double),
            DataType::Utf8 => Some(Self::Text),
            DataType::Date32 => Some(Self::Date),
            DataType::Time64(TimeUnit::Microsecond) => Some(Self::Time),
            DataType::Timestamp(_, None) => Some(Self::Timestamp),
            DataType::Timestamp(_, Some(_)) => Some(Self::Instant),
            DataType::Boolean => Some(Self::Bool),
            DataType::Binary => Some(Self::Bytes),
            _ => None,
        }
    }

    /// A value as a literal of DataFusion's SQL. `text` is as in [`super::values`].
    pub(super) fn literal(self, text: &str) -> String {
        let quoted = headwater_sql_tests::everywhere::literal(text);
        match self {
            // The least 64-bit integer has no literal: without its sign it is too large.
            Self::Int if text == "-9223372036854775808" => "(-9223372036854775807 - 1)".to_owned(),
            Self::Int if text.starts_with('-') => format!("({text})"),
            Self::Int | Self::Bool => text.to_owned(),
            Self::Decimal => {
                let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                format!("CAST({quoted} AS DECIMAL({}, {scale}))", if text.len() > 18 { 38 } else { 18 })
            }
            Self::Double => format!("CAST({quoted} AS DOUBLE)"),
            Self::Text => quoted,
            Self::Date => format!("DATE {quoted}"),
            Self::Time => format!("arrow_cast({quoted}, 'Time64(Microsecond)')"),
            Self::Timestamp => format!("arrow_cast({quoted}, 'Timestamp(Microsecond, None)')"),
            Self::Instant => format!("arrow_cast({quoted}, 'Timestamp(Microsecond, Some(\"UTC\"))')"),
            Self::Bytes => format!("X'{text}'"),
        }
    }

    /// NULL of this kind.
    pub(super) fn null(self) -> String {
        let data_type = match self {
            Self::Int => "BIGINT",
            Self::Decimal => "DECIMAL(10, 2)",
            Self::Double => "DOUBLE",
            Self::Text => "VARCHAR",
            Self::Date => "DATE",
            Self::Time => return "arrow_cast(NULL, 'Time64(Microsecond)')".to_owned(),
            Self::Timestamp => return "arrow_cast(NULL, 'Timestamp(Microsecond, None)')".to_owned(),
            Self::Instant => return "arrow_cast(NULL, 'Timestamp(Microsecond, Some(\"UTC\"))')".to_owned(),
            Self::Bool => "BOOLEAN",
            Self::Bytes => "BYTEA",
        };
        format!("CAST(NULL AS {data_type})")
    }

    /// The simplest value: what a shrunk expression ends in.
    pub(super) fn simplest(self) -> String {
        self.literal(match self {
            Self::Int | Self::Double => "1",
            Self::Decimal => "1.00",
            Self::Text => "a",
            Self::Date => "2020-01-01",
            Self::Time => "01:00:00",
            Self::Timestamp => "2020-01-01 00:00:00",
            Self::Instant => "2020-01-01 00:00:00+00:00",
            Self::Bool => "true",
            Self::Bytes => "61",
        })
    }
}
