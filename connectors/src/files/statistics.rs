//! What Parquet's footers tell of a table's rows, and the directories' names of its partitions.
//!
//! The footer counts rows and NULLs and has each column's least and greatest value. How many values a column has it seldom says; of numbers and days the span
//! between the two ends is taken where there are at least as many rows, as for keys that count up. Other formats tell nothing.

use std::collections::HashSet;

use datafusion::common::ColumnStatistics as FileStatistics;
use datafusion::common::stats::Precision;
use headwater_source::{ColumnDef, ColumnStatistics, ScalarValue, TableStatistics};

use super::discover::Format;
use super::table::Table;

/// What is known of a table; `None` where its format has no statistics.
pub(super) fn of(table: &Table) -> Option<TableStatistics> {
    if table.listing.format != Format::Parquet {
        return None;
    }
    let rows = table.shapes.iter().map(|shape| shape.rows).sum::<Option<u64>>();
    let columns = table.def.columns.iter().map(|column| match table.partitions.contains(&column.name) {
        true => of_partition(table, &column.name, rows),
        false => of_column(table, column, rows),
    });
    Some(TableStatistics { rows, columns: columns.collect(), ..TableStatistics::of(&table.def) })
}

fn of_column(table: &Table, column: &ColumnDef, rows: Option<u64>) -> ColumnStatistics {
    let mut nulls = Some(0);
    let mut bytes = Some(0);
    let mut ends: Option<(ScalarValue, ScalarValue)> = None;
    let mut all_ends = true;
    let mut counted = None;
    for shape in &table.shapes {
        let own = shape.rows.unwrap_or_default();
        let Ok(index) = shape.schema.index_of(&column.name) else {
            nulls = nulls.map(|nulls| nulls + own);
            continue;
        };
        let Some(known) = shape.columns.get(index) else { return ColumnStatistics::default() };
        let own_nulls = number(&known.null_count);
        nulls = nulls.zip(own_nulls).map(|(nulls, own)| nulls + own);
        bytes = bytes.zip(number(&known.byte_size)).map(|(bytes, own)| bytes + own);
        counted = counted.max(number(&known.distinct_count));
        match ends_of(known, column) {
            Some((min, max)) => {
                ends = Some(match ends {
                    None => (min, max),
                    Some((least, greatest)) => {
                        (if min < least { min } else { least }, if max > greatest { max } else { greatest })
                    }
                });
            }
            None => all_ends &= own_nulls == Some(own),
        }
    }
    let ends = ends.filter(|_| all_ends);
    let values = rows.zip(nulls).map(|(rows, nulls)| rows.saturating_sub(nulls));
    let spanned = ends.as_ref().and_then(|(min, max)| span(min, max)).filter(|span| Some(*span) <= values);
    ColumnStatistics {
        distinct: counted.max(spanned),
        null_fraction: share(nulls, rows),
        width_bytes: column.data_type.primitive_width().map(|bytes| bytes as f64).or_else(|| share(bytes, rows)),
        min: ends.as_ref().map(|(min, _)| min.clone()),
        max: ends.map(|(_, max)| max),
    }
}

/// The same of a column that is in the names of directories.
fn of_partition(table: &Table, name: &str, rows: Option<u64>) -> ColumnStatistics {
    let mut values = HashSet::new();
    let mut nulls = Some(0);
    for (file, shape) in table.listing.files.iter().zip(&table.shapes) {
        match file.partitions.iter().find(|(key, _)| key == name) {
            Some((_, Some(value))) => _ = values.insert(value.as_str()),
            _ => nulls = nulls.zip(shape.rows).map(|(nulls, rows)| nulls + rows),
        }
    }
    let width = values.iter().map(|value| value.len()).sum::<usize>() as f64 / values.len().max(1) as f64;
    let text = |value: &&str| ScalarValue::Utf8(Some((*value).to_owned()));
    ColumnStatistics {
        distinct: Some(values.len() as u64),
        null_fraction: share(nulls, rows),
        width_bytes: Some(width),
        min: values.iter().min().map(text),
        max: values.iter().max().map(text),
    }
}

/// A file's least and greatest value, as the table has them.
fn ends_of(known: &FileStatistics, column: &ColumnDef) -> Option<(ScalarValue, ScalarValue)> {
    let end = |value: &Precision<ScalarValue>| {
        let value = value.get_value()?.cast_to(&column.data_type).ok()?;
        (!value.is_null()).then_some(value)
    };
    end(&known.min_value).zip(end(&known.max_value))
}

/// How many values there are from the least to the greatest, of a type that counts.
fn span(min: &ScalarValue, max: &ScalarValue) -> Option<u64> {
    let whole = |value: &ScalarValue| -> Option<i128> {
        Some(match value {
            ScalarValue::Boolean(value) => i128::from((*value)?),
            ScalarValue::Int8(value) => i128::from((*value)?),
            ScalarValue::Int16(value) => i128::from((*value)?),
            ScalarValue::Int32(value) | ScalarValue::Date32(value) => i128::from((*value)?),
            ScalarValue::Int64(value) => i128::from((*value)?),
            ScalarValue::UInt8(value) => i128::from((*value)?),
            ScalarValue::UInt16(value) => i128::from((*value)?),
            ScalarValue::UInt32(value) => i128::from((*value)?),
            ScalarValue::UInt64(value) => i128::from((*value)?),
            ScalarValue::Decimal128(value, ..) => (*value)?,
            _ => return None,
        })
    };
    u64::try_from(whole(max)?.checked_sub(whole(min)?)?.checked_add(1)?).ok()
}

fn number(known: &Precision<usize>) -> Option<u64> {
    known.get_value().map(|number| *number as u64)
}

fn share(of: Option<u64>, rows: Option<u64>) -> Option<f64> {
    Some(of? as f64 / rows.filter(|rows| *rows > 0)? as f64)
}
