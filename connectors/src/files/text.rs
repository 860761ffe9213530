//! CSV and newline-delimited JSON: bytes in, record batches out, one batch at a time.
//!
//! Both are decoded by Arrow's own push decoders over the store's bytes, so a consumer that stops stops the reading. A file that
//! holds one record per line may be read in ranges: a range reads the lines that begin in it.

use std::ops::Range;
use std::sync::Arc;

use arrow::csv::reader::Decoder as CsvDecoder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::reader::Decoder as JsonDecoder;
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes};
use datafusion::common::DataFusionError;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{GetOptions, GetResultPayload, ObjectStore};
use regex::Regex;

use super::config::CsvDialect;
use super::discover::{Format, Listed};
use super::error::{Failure, sentence};
use super::pinned::Pinned;

/// How much of a local file is read at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// What is decoded.
#[derive(Debug, Clone)]
pub(super) struct Decode<'a> {
    /// CSV or JSON.
    pub(super) format: Format,
    /// How CSV is written.
    pub(super) csv: &'a CsvDialect,
    /// CSV: all columns of the file. JSON: the columns to yield.
    pub(super) schema: SchemaRef,
    /// CSV: the columns to yield.
    pub(super) projection: Vec<usize>,
    /// The most rows of a batch.
    pub(super) batch_rows: usize,
}

enum Decoder {
    Csv(Box<CsvDecoder>),
    Json(JsonDecoder),
}

struct State {
    bytes: BoxStream<'static, Result<Bytes, DataFusionError>>,
    decoder: Decoder,
    buffer: Bytes,
    ended: bool,
    schema: SchemaRef,
}

/// The delimiter of a file: as configured, else by its extension.
pub(super) fn delimiter(csv: &CsvDialect, name: &str) -> u8 {
    let lowered = name.to_ascii_lowercase();
    let tabs = lowered.ends_with(".tsv") || lowered.contains(".tsv.");
    csv.delimiter.unwrap_or(if tabs { b'\t' } else { b',' })
}

/// The texts that are NULL in CSV: the empty field, and the configured one.
pub(super) fn null_pattern(csv: &CsvDialect) -> Result<Option<Regex>, Failure> {
    let Some(value) = &csv.null_value else { return Ok(None) };
    Regex::new(&format!("^(?:|{})$", regex::escape(value))).map(Some).map_err(|error| Failure::Other(error.into()))
}

/// The uncompressed bytes of a file, or of the lines that begin in a range of it.
pub(super) async fn bytes(
    pinned: &Pinned,
    file: &Listed,
    range: Option<Range<u64>>,
) -> Result<BoxStream<'static, Result<Bytes, DataFusionError>>, Failure> {
    let size = file.meta.size;
    if size == 0 {
        return Ok(stream::empty().boxed());
    }
    match range {
        None => {
            let raw = raw_bytes(pinned, file, 0..size).await?;
            Ok(file.compression.convert_stream(raw)?)
        }
        Some(range) => {
            // One byte earlier: where it is a line break, a line begins at the range's first byte.
            let start = range.start.saturating_sub(1);
            let raw = raw_bytes(pinned, file, start..size).await?;
            Ok(lines(raw, start, range).boxed())
        }
    }
}

/// The record batches of a file, or of the lines that begin in a range of it.
pub(super) async fn batches(
    pinned: Arc<Pinned>,
    file: Listed,
    range: Option<Range<u64>>,
    decode: Decode<'_>,
) -> Result<BoxStream<'static, Result<RecordBatch, Failure>>, Failure> {
    let at_start = range.as_ref().is_none_or(|range| range.start == 0);
    let decoder = decode.decoder(&file.name, at_start)?;
    let bytes = bytes(&pinned, &file, range).await?;
    let state = State { bytes, decoder, buffer: Bytes::new(), ended: false, schema: decode.schema };
    let batches = stream::try_unfold(state, |mut state| async move {
        let batch = state.next().await?;
        Ok(batch.map(|batch| (batch, state)))
    });
    Ok(batches.boxed())
}

impl Decode<'_> {
    fn decoder(&self, name: &str, at_start: bool) -> Result<Decoder, Failure> {
        if self.format == Format::Json {
            let builder = arrow::json::ReaderBuilder::new(Arc::clone(&self.schema))
                .with_coerce_primitive(true)
                .with_batch_size(self.batch_rows);
            return Ok(Decoder::Json(builder.build_decoder()?));
        }
        let mut builder = arrow::csv::ReaderBuilder::new(Arc::clone(&self.schema))
            .with_header(self.csv.header && at_start)
            .with_delimiter(delimiter(self.csv, name))
            .with_quote(self.csv.quote)
            .with_batch_size(self.batch_rows)
            .with_projection(self.projection.clone());
        if let Some(escape) = self.csv.escape {
            builder = builder.with_escape(escape);
        }
        if let Some(pattern) = null_pattern(self.csv)? {
            builder = builder.with_null_regex(pattern);
        }
        Ok(Decoder::Csv(Box::new(builder.build_decoder())))
    }
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, ArrowError> {
        match self {
            Self::Csv(decoder) => decoder.decode(bytes),
            Self::Json(decoder) => decoder.decode(bytes),
        }
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        match self {
            Self::Csv(decoder) => decoder.flush(),
            Self::Json(decoder) => decoder.flush(),
        }
    }
}

impl State {
    /// The next batch: feeds the decoder until it takes no more, which is when its batch is full or the file ends.
    async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            while self.buffer.is_empty() && !self.ended {
                match self.bytes.try_next().await? {
                    Some(chunk) => self.buffer = chunk,
                    None => self.ended = true,
                }
            }
            let used = self.decoder.decode(&self.buffer).map_err(|error| complaint(error, &self.schema))?;
            self.buffer.advance(used);
            if used == 0 {
                return self.decoder.flush().map_err(|error| complaint(error, &self.schema));
            }
        }
    }
}

/// What a decoder refused, without the value that it refused.
fn complaint(error: ArrowError, schema: &SchemaRef) -> Failure {
    let text = match &error {
        ArrowError::ParseError(text) | ArrowError::CsvError(text) | ArrowError::JsonError(text) => text.as_str(),
        _ => return error.into(),
    };
    if let Some(field) = text.rfind("whilst decoding field '").map(|at| &text[at + "whilst decoding field '".len()..]) {
        let name = field.split('\'').next().unwrap_or_default();
        // The innermost name is of a nested field; the column is the first.
        let column = first_field(text).unwrap_or(name);
        let data_type = schema.field_with_name(column).map(|field| field.data_type().to_string()).unwrap_or_default();
        return Failure::Value {
            column: column.to_owned(),
            data_type,
            reason: "a JSON value of another kind in a row".to_owned(),
        };
    }
    if let Some(field) = column_number(text).and_then(|number| schema.fields().get(number)) {
        let row = number_after(text, "at line ")
            .map(|line| format!("text in line {line}"))
            .unwrap_or_else(|| "text in a row".to_owned());
        return Failure::Value { column: field.name().clone(), data_type: field.data_type().to_string(), reason: row };
    }
    match text.find("unequal lengths") {
        Some(_) => sentence("a row has more or fewer fields than the header"),
        None => sentence("its text is not well formed"),
    }
}

fn first_field(text: &str) -> Option<&str> {
    text.split("whilst decoding field '").nth(1)?.split('\'').next()
}

fn column_number(text: &str) -> Option<usize> {
    number_after(text, "for column ").or_else(|| number_after(text, "parsing column "))
}

/// The number behind the last occurrence of `words`; the values of a row may hold the words too, but come earlier or in quotes.
fn number_after(text: &str, words: &str) -> Option<usize> {
    let rest = &text[text.rfind(words)? + words.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

async fn raw_bytes(
    pinned: &Pinned,
    file: &Listed,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, DataFusionError>>, Failure> {
    let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
    let result = pinned.get_opts(&file.meta.location, options).await?;
    let (from, to) = (result.range.start, result.range.end);
    match result.payload {
        GetResultPayload::File(opened, _) => Ok(local_chunks(opened, from..to).boxed()),
        GetResultPayload::Stream(stream) => Ok(stream.map_err(DataFusionError::from).boxed()),
    }
}

/// The bytes of a local file. A file that ends early was truncated meanwhile: an error, not a short answer.
fn local_chunks(file: std::fs::File, range: Range<u64>) -> impl stream::Stream<Item = Result<Bytes, DataFusionError>> {
    stream::try_unfold((Arc::new(file), range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let reader = Arc::clone(&file);
        let (start, end) = (range.start, range.end);
        let chunk = tokio::task::spawn_blocking(move || read_chunk(&reader, start..end)).await;
        let chunk = chunk.map_err(|error| DataFusionError::External(error.into()))??;
        let next = start + chunk.len() as u64;
        Ok(Some((chunk, (file, next..end))))
    })
}

fn read_chunk(mut file: &std::fs::File, range: Range<u64>) -> std::io::Result<Bytes> {
    use std::io::{Read, Seek, SeekFrom};
    let wanted = usize::try_from(range.end - range.start).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
    let mut buffer = Vec::with_capacity(wanted);
    file.seek(SeekFrom::Start(range.start))?;
    file.take(wanted as u64).read_to_end(&mut buffer)?;
    if buffer.len() < wanted {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it was truncated while it was read"));
    }
    Ok(buffer.into())
}

/// Cuts a stream that starts at byte `position` to the lines that begin in `range`.
fn lines(
    bytes: BoxStream<'static, Result<Bytes, DataFusionError>>,
    position: u64,
    range: Range<u64>,
) -> impl stream::Stream<Item = Result<Bytes, DataFusionError>> {
    let begun = range.start == 0;
    stream::try_unfold((bytes, position, begun, false), move |(mut bytes, mut position, mut begun, done)| {
        let range = range.clone();
        async move {
            if done {
                return Ok(None);
            }
            while let Some(mut chunk) = bytes.try_next().await? {
                if !begun {
                    let skipped = memchr(&chunk).map_or(chunk.len(), |at| at + 1);
                    begun = memchr(&chunk).is_some();
                    chunk.advance(skipped);
                    position += skipped as u64;
                    // A line that begins at the range's end or later belongs to the next range.
                    if begun && position >= range.end {
                        return Ok(None);
                    }
                }
                let (chunk, last) = cut(chunk, position, range.end);
                position += chunk.len() as u64;
                if !chunk.is_empty() || last {
                    return Ok(Some((chunk, (bytes, position, begun, last))));
                }
            }
            Ok(None)
        }
    })
}

/// Keeps what lies before the first line break at or behind the last byte of the range.
fn cut(mut chunk: Bytes, position: u64, end: u64) -> (Bytes, bool) {
    let from = usize::try_from((end - 1).saturating_sub(position)).unwrap_or(usize::MAX);
    match chunk.get(from..).and_then(memchr) {
        Some(at) => {
            chunk.truncate(from + at + 1);
            (chunk, true)
        }
        None => (chunk, false),
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_is_in_just_one_range_however_the_file_is_cut() {
        let text = "a\nbb\n\nccc\ndddd\ne";
        let size = text.len() as u64;
        for at in 1..size {
            for chunk in 1..6 {
                let mut parts = vec![];
                for range in [0..at, at..size] {
                    let start = range.start.saturating_sub(1);
                    let rest = &text.as_bytes()[start as usize..];
                    let chunks: Vec<_> = rest.chunks(chunk).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                    let read: Vec<Bytes> =
                        lines(stream::iter(chunks).boxed(), start, range).try_collect().await.unwrap();
                    parts.push(read.concat());
                }
                let whole = [parts[0].as_slice(), parts[1].as_slice()].concat();
                assert_eq!(String::from_utf8(whole).unwrap(), text, "cut at {at} in chunks of {chunk}");
                assert!(parts[0].ends_with(b"\n") || parts[1].is_empty(), "cut at {at} in chunks of {chunk}");
            }
        }
    }
}
