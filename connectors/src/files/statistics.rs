//! What Parquet's footers tell of a table's rows, and the directories' names of its partitions.
//!
//! The footer counts rows and NULLs and has each column's least and greatest value. How many values a column has it seldom says; of integers, days and decimals the span
//! between the two ends is taken where there are at least as many rows, as for keys that count up. Of very many files some are looked into. Other formats tell
//! nothing.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::ColumnStatistics as FileStatistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::parquet::file::metadata::PageIndexPolicy;
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{ColumnDef, ColumnStatistics, ScalarValue, TableStatistics};
use object_store::{ObjectMeta, ObjectStore};

use super::discover::Format;
use super::error::Failure;
use super::infer;
use super::pinned::Pinned;
use super::table::Table;

/// The most footers that are read for the statistics of a table.
const FOOTERS_MAX: usize = 64;

/// So many at a time.
const FOOTERS_AT_ONCE: usize = 16;

/// What is known of a file.
struct Known {
    rows: u64,
    /// By the columns' names; empty where the footer tells nothing.
    columns: Vec<(String, FileStatistics)>,
}

/// What is known of a table; `None` where its format has no statistics.
pub(super) async fn of(store: Arc<dyn ObjectStore>, table: &Table) -> Result<Option<TableStatistics>, Failure> {
    if table.listing.format != Format::Parquet {
        return Ok(None);
    }
    let rows = table.shapes.iter().map(|shape| shape.rows).sum::<Option<u64>>();
    // The first and the last among them: names often go with time.
    let files = &table.listing.files;
    let footers = files.len().min(FOOTERS_MAX);
    let place = |index: usize| index * files.len().saturating_sub(1) / footers.saturating_sub(1).max(1);
    let chosen: Vec<ObjectMeta> = (0..footers).map(|index| files[place(index)].meta.clone()).collect();
    let looked = chosen.into_iter().map(|meta| look(Arc::clone(&store), meta));
    let files: Vec<Known> = stream::iter(looked).buffered(FOOTERS_AT_ONCE).try_collect().await?;
    let columns = table.def.columns.iter().map(|column| match table.partitions.contains(&column.name) {
        true => of_partition(table, &column.name, rows),
        false => of_column(&files, column, rows),
    });
    Ok(Some(TableStatistics { rows, columns: columns.collect(), ..TableStatistics::of(&table.def) }))
}

async fn look(store: Arc<dyn ObjectStore>, meta: ObjectMeta) -> Result<Known, Failure> {
    let pinned = Pinned::new(store, meta.clone());
    let (schema, footer) = infer::footer(&pinned, &meta, PageIndexPolicy::Skip, None).await?;
    let known = DFParquetMetadata::statistics_from_parquet_metadata(&footer, &schema)?;
    let names = schema.fields().iter().map(|field| field.name().clone());
    let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
    Ok(Known { rows, columns: names.zip(known.column_statistics).collect() })
}

fn of_column(files: &[Known], column: &ColumnDef, rows: Option<u64>) -> ColumnStatistics {
    let looked = files.iter().map(|file| file.rows).sum::<u64>();
    let mut nulls = Some(0);
    let mut bytes = Some(0);
    let mut ends: Option<(ScalarValue, ScalarValue)> = None;
    let mut all_ends = true;
    let mut counted = None;
    for file in files {
        let Some((_, known)) = file.columns.iter().find(|(name, _)| *name == column.name) else {
            nulls = nulls.map(|nulls| nulls + file.rows);
            continue;
        };
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
            None => all_ends &= own_nulls == Some(file.rows),
        }
    }
    let ends = ends.filter(|_| all_ends);
    let null_fraction = share(nulls, looked);
    let values = rows.zip(null_fraction).map(|(rows, nulls)| (rows as f64 * (1.0 - nulls)).round() as u64);
    let spanned = ends.as_ref().and_then(|(min, max)| span(min, max)).filter(|span| Some(*span) <= values);
    ColumnStatistics {
        distinct: counted.max(spanned),
        null_fraction,
        width_bytes: column.data_type.primitive_width().map(|bytes| bytes as f64).or_else(|| share(bytes, looked)),
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
        null_fraction: rows.and_then(|rows| share(nulls, rows)),
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

fn share(of: Option<u64>, rows: u64) -> Option<f64> {
    (rows > 0).then_some(of? as f64 / rows as f64)
}
