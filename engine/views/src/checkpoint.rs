//! State that outlives the process: the rows of the tables and the vector that they are at.
//!
//! The state of operators is not stored: a view is a function of its tables, and computing it anew from them reads no source. A part is an
//! Arrow IPC stream; the manifest names the parts with their checksums. A table's first part holds its rows, those after it what changed
//! since, each row with a weight; once they have grown to half of the table, its rows are written anew. Whoever stores a checkpoint writes the
//! parts before the manifest, and removes afterwards what the manifest no longer names.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use headwater_source::Position;

use crate::{Delta, Error, Result};

/// What is to be written.
#[derive(Debug)]
pub struct Checkpoint {
    /// The epoch of which it is.
    pub epoch: u64,
    /// The manifest: what names the parts.
    pub manifest: Vec<u8>,
    /// Parts that are new since the checkpoint before.
    pub parts: Vec<Part>,
    /// The names of all parts that the manifest needs, new ones among them.
    pub needed: Vec<String>,
}

/// One file of a checkpoint.
#[derive(Debug)]
pub struct Part {
    /// Its name, once and for all: no other part ever has it.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A part that was stored, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) checksum: u32,
    pub(crate) rows: u64,
}

/// What a manifest says of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredTable {
    pub(crate) service: String,
    pub(crate) position: Option<Position>,
    pub(crate) name: String,
    pub(crate) full_name: String,
    pub(crate) key: Vec<String>,
    pub(crate) parts: Vec<Stored>,
}

/// The only format there is yet.
const FORMAT: &str = "1";
const FORMAT_KEY: &str = "headwater.views.format";
const EPOCH_KEY: &str = "headwater.views.epoch";
const NOW_KEY: &str = "headwater.views.now";
const WEIGHT: &str = "headwater.weight";

/// Rows with weights as a part.
pub(crate) fn encode_part(name: String, schema: &SchemaRef, deltas: &[Delta]) -> Result<(Part, Stored)> {
    let bytes = encode_deltas(schema, deltas)?;
    let rows = deltas.iter().map(Delta::len).sum::<usize>() as u64;
    let stored = Stored { name: name.clone(), checksum: crc32fast::hash(&bytes), rows };
    Ok((Part { name, bytes }, stored))
}

/// The rows of a part, with the schema without weights.
pub(crate) fn decode_part(stored: &Stored, bytes: &[u8]) -> Result<(SchemaRef, Vec<Delta>)> {
    let damaged = |reason: String| Error::Checkpoint { part: stored.name.clone(), reason };
    if crc32fast::hash(bytes) != stored.checksum {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    decode_deltas(bytes).map_err(|error| damaged(error.report()))
}

/// Rows of these columns with their weights as an Arrow IPC stream, whose last column the weights are.
///
/// # Errors
/// Rows of other columns.
pub fn encode_deltas(schema: &SchemaRef, deltas: &[Delta]) -> Result<Vec<u8>> {
    let fields = schema.fields().iter().cloned().chain([Arc::new(Field::new(WEIGHT, DataType::Int64, false))]);
    let stored_schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = deltas.iter().map(|delta| {
        let weights: ArrayRef = Arc::new(Int64Array::from(delta.weights().to_vec()));
        let columns = delta.columns().iter().cloned().chain([weights]).collect();
        Ok(RecordBatch::try_new(Arc::clone(&stored_schema), columns)?)
    });
    write(&stored_schema, &batches.collect::<Result<Vec<_>>>()?)
}

/// What [`encode_deltas`] wrote: the columns without the weights, and the rows.
///
/// # Errors
/// The bytes are no such stream.
pub fn decode_deltas(bytes: &[u8]) -> Result<(SchemaRef, Vec<Delta>)> {
    let (schema, batches) = read(bytes)?;
    let Some((_, columns)) = schema.fields().split_last().filter(|(weight, _)| weight.name() == WEIGHT) else {
        return Err(Error::invariant("rows that were stored have no weights"));
    };
    let plain = Arc::new(Schema::new(columns.to_vec()));
    let delta = |batch: &RecordBatch| -> Result<Delta> {
        let (weights, columns) =
            batch.columns().split_last().ok_or_else(|| Error::invariant("rows that were stored have no columns"))?;
        let rows = crate::delta::batch(&plain, columns.to_vec(), batch.num_rows())?;
        let weights = weights.as_primitive_opt::<Int64Type>();
        let weights = weights.ok_or_else(|| Error::invariant("weights that were stored are no numbers"))?;
        Delta::new(rows, weights.values().clone())
    };
    Ok((Arc::clone(&plain), batches.iter().map(delta).collect::<Result<_>>()?))
}

/// `at` is the epoch and its time.
pub(crate) fn encode_manifest(at: (u64, i64), tables: &[StoredTable]) -> Result<Vec<u8>> {
    let lines: Vec<(&StoredTable, &Stored)> =
        tables.iter().flat_map(|table| table.parts.iter().map(move |part| (table, part))).collect();
    let text = |of: &dyn Fn(&(&StoredTable, &Stored)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(of)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("service", text(&|(table, _)| table.service.clone())),
        (
            "order",
            Arc::new(
                lines.iter().map(|(table, _)| table.position.as_ref().map(Position::order)).collect::<UInt64Array>(),
            ),
        ),
        (
            "token",
            Arc::new(
                lines
                    .iter()
                    .map(|(table, _)| table.position.as_ref().map(|position| position.token().to_owned()))
                    .collect::<StringArray>(),
            ),
        ),
        ("table", text(&|(table, _)| table.name.clone())),
        ("full_name", text(&|(table, _)| table.full_name.clone())),
        // A column's name may hold any character but this one, which no source lets into a name.
        ("key", text(&|(table, _)| table.key.join("\u{1f}"))),
        ("part", text(&|(_, part)| part.name.clone())),
        ("checksum", Arc::new(UInt32Array::from_iter_values(lines.iter().map(|(_, part)| part.checksum)))),
        ("rows", Arc::new(UInt64Array::from_iter_values(lines.iter().map(|(_, part)| part.rows)))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, matches!(name, "order" | "token"))),
    )?;
    let metadata = HashMap::from([
        (FORMAT_KEY.to_owned(), FORMAT.to_owned()),
        (EPOCH_KEY.to_owned(), at.0.to_string()),
        (NOW_KEY.to_owned(), at.1.to_string()),
    ]);
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
    let mut bytes = write(&schema, &[batch.with_schema(Arc::clone(&schema))?])?;
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

/// The epoch and its time, and the tables.
pub(crate) fn decode_manifest(bytes: &[u8]) -> Result<((u64, i64), Vec<StoredTable>)> {
    let damaged = |reason: &str| Error::Checkpoint { part: "manifest".to_owned(), reason: reason.to_owned() };
    let (bytes, checksum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it is empty"))?;
    if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum is wrong"));
    }
    let (schema, batches) = read(bytes).map_err(|error| damaged(&error.to_string()))?;
    if schema.metadata().get(FORMAT_KEY).map(String::as_str) != Some(FORMAT) {
        return Err(damaged("it is of another version of the engine"));
    }
    let epoch = schema.metadata().get(EPOCH_KEY).and_then(|epoch| epoch.parse().ok());
    let epoch = epoch.ok_or_else(|| damaged("it has no epoch"))?;
    // Manifests of before there was a time have none, and no view that went by it.
    let now = schema.metadata().get(NOW_KEY).and_then(|now| now.parse().ok()).unwrap_or_default();
    let mut tables: Vec<StoredTable> = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let (table, part) = manifest_line(batch, row).ok_or_else(|| damaged("a column is missing"))?;
            match tables.last_mut().filter(|last| (&last.service, &last.name) == (&table.service, &table.name)) {
                Some(last) => last.parts.push(part),
                None => tables.push(StoredTable { parts: vec![part], ..table }),
            }
        }
    }
    Ok(((epoch, now), tables))
}

fn manifest_line(batch: &RecordBatch, row: usize) -> Option<(StoredTable, Stored)> {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        arrow::array::Array::is_valid(column, row).then(|| column.value(row).to_owned())
    };
    let number = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<UInt64Type>()?;
        arrow::array::Array::is_valid(column, row).then(|| column.value(row))
    };
    let position = number("order").zip(text("token")).map(|(order, token)| Position::new(order, token));
    let key = text("key")?;
    let table = StoredTable {
        service: text("service")?,
        position,
        name: text("table")?,
        full_name: text("full_name")?,
        key: if key.is_empty() { vec![] } else { key.split('\u{1f}').map(str::to_owned).collect() },
        parts: vec![],
    };
    let checksum = batch.column_by_name("checksum")?.as_primitive_opt::<UInt32Type>()?.value(row);
    Some((table, Stored { name: text("part")?, checksum, rows: number("rows")? }))
}

fn write(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

fn read(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<Result<Vec<_>, _>>()?))
}
