//! The columns of one file: from its footer, or from the first rows of CSV and JSON.
//!
//! CSV columns get the narrowest type that gives back every sampled text's meaning: a number with a leading zero or more digits than
//! a float holds is text, so that codes and long numbers survive.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Buf;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::{GetOptions, ObjectMeta, ObjectStore};

use super::config::Config;
use super::discover::{Format, Listed};
use super::error::{Failure, sentence};
use super::pinned::Pinned;
use super::text::{self, Decode};

/// The unit in which Parquet's INT96 timestamps are read: nanoseconds would not reach the year 2300.
pub(super) const INT96_UNIT: TimeUnit = TimeUnit::Microsecond;

/// The most bytes of a JSON file, and of a CSV file's header, that are looked at.
const SAMPLE_BYTES: usize = 16 * 1024 * 1024;

/// So many lines hold the header of a CSV file, which may have line breaks in its names.
const LINES_OF_A_HEADER: usize = 256;

/// The most significant digits that a decimal text has and a 64-bit float gives back.
const FLOAT_DIGITS: usize = 17;

/// What a file holds.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The columns in the file's order, with the file's own types.
    pub(super) schema: SchemaRef,
    /// How many rows it has, where that costs nothing to know.
    pub(super) rows: Option<u64>,
    /// For each column whether Parquet's statistics that have its ends count its NULLs too: where they do not, DataFusion takes them to be none.
    pub(super) nulls_counted: Vec<bool>,
}

/// The two formats of Arrow IPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// With a footer.
    File,
    /// One message after the other.
    Stream,
}

/// Looks at a file.
pub(super) async fn shape(
    config: &Config,
    store: Arc<dyn ObjectStore>,
    file: &Listed,
    format: Format,
) -> Result<Shape, Failure> {
    let pinned = Arc::new(Pinned::new(store, file.meta.clone()));
    let shape = match format {
        Format::Parquet => parquet(&pinned, file).await,
        Format::Arrow => ipc(Arc::clone(&pinned), file).await,
        Format::Csv => csv(config, Arc::clone(&pinned), file).await,
        Format::Json => json(config, &pinned, file).await,
    };
    let shape = shape.map_err(|failure| pinned.explain(failure))?;
    match duplicate(&shape.schema) {
        Some(name) => Err(sentence(format!("it has two columns named \"{name}\""))),
        None => Ok(shape),
    }
}

async fn parquet(pinned: &Pinned, file: &Listed) -> Result<Shape, Failure> {
    let (schema, metadata) = footer(pinned, &file.meta, PageIndexPolicy::Skip, None).await?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).ok();
    let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let uncounted: HashSet<&str> = chunks
        .filter(|chunk| chunk.statistics().is_some_and(|known| known.null_count_opt().is_none()))
        .filter_map(|chunk| chunk.column_path().parts().first().map(String::as_str))
        .collect();
    let nulls_counted = schema.fields().iter().map(|field| !uncounted.contains(field.name().as_str())).collect();
    Ok(Shape { schema, rows, nulls_counted })
}

/// The columns of a Parquet file and its footer, which stays in the cache.
pub(super) async fn footer(
    pinned: &Pinned,
    meta: &ObjectMeta,
    page_index: PageIndexPolicy,
    cache: Option<Arc<FileMetadataCache>>,
) -> Result<(SchemaRef, Arc<ParquetMetaData>), Failure> {
    // A cache serves the two calls below, too.
    let cache = cache.unwrap_or_else(|| RuntimeEnv::default().cache_manager.get_file_metadata_cache());
    let footer = DFParquetMetadata::new(pinned, meta)
        .with_file_metadata_cache(Some(cache))
        .with_page_index_policy(Some(page_index))
        .with_coerce_int96(Some(INT96_UNIT));
    let schema = footer.fetch_schema().await?;
    Ok((Arc::new(schema), footer.fetch_metadata().await?))
}

/// Which of the two Arrow IPC formats a file has.
///
/// The lengths in a stream are believed by the decoder, which sets so much memory aside: one that is longer than the file is refused here.
pub(super) async fn framing(pinned: &Pinned, meta: &ObjectMeta) -> Result<Framing, Failure> {
    let head = match meta.size {
        0 => bytes::Bytes::new(),
        size => {
            let options = GetOptions { range: Some((0..size.min(8)).into()), ..GetOptions::default() };
            pinned.get_opts(&meta.location, options).await?.bytes().await?
        }
    };
    if head.starts_with(b"ARROW1") {
        return Ok(Framing::File);
    }
    match head.as_ref() {
        [0xff, 0xff, 0xff, 0xff, a, b, c, d] if u64::from(u32::from_le_bytes([*a, *b, *c, *d])) < meta.size => {
            Ok(Framing::Stream)
        }
        _ => Err(sentence("it is neither an Arrow IPC file nor an Arrow IPC stream")),
    }
}

async fn ipc(pinned: Arc<Pinned>, file: &Listed) -> Result<Shape, Failure> {
    framing(&pinned, &file.meta).await?;
    let store: Arc<dyn ObjectStore> = pinned;
    let state = SessionContext::new().state();
    let schema = ArrowFormat.infer_schema(&state, &store, std::slice::from_ref(&file.meta)).await?;
    Ok(Shape { schema, rows: None, nulls_counted: vec![] })
}

async fn csv(config: &Config, pinned: Arc<Pinned>, file: &Listed) -> Result<Shape, Failure> {
    let names = csv_names(config, &pinned, file).await?;
    let fields: Fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let mut guesses = vec![Guess::default(); fields.len()];
    let schema = Arc::new(Schema::new(fields));
    let decode = Decode {
        format: Format::Csv,
        csv: &config.csv,
        schema: Arc::clone(&schema),
        projection: (0..schema.fields().len()).collect(),
        batch_rows: config.infer_rows.min(1024),
    };
    let mut left = config.infer_rows;
    if !guesses.is_empty() {
        let mut batches = text::batches(pinned, file.clone(), None, decode).await?;
        while left > 0
            && let Some(batch) = batches.try_next().await?
        {
            let rows = left.min(batch.num_rows());
            for (guess, column) in guesses.iter_mut().zip(batch.columns()) {
                guess.look(column.slice(0, rows).as_string());
            }
            left -= rows;
        }
    }
    let typed =
        schema.fields().iter().zip(guesses).map(|(field, guess)| Field::new(field.name(), guess.data_type(), true));
    Ok(Shape { schema: Arc::new(Schema::new(typed.collect::<Vec<_>>())), rows: None, nulls_counted: vec![] })
}

async fn csv_names(config: &Config, pinned: &Pinned, file: &Listed) -> Result<Vec<String>, Failure> {
    let (sample, _) = sample(pinned, file, if config.csv.newlines_in_values { None } else { Some(1) }).await?;
    let mut format = arrow::csv::reader::Format::default()
        .with_header(config.csv.header)
        .with_delimiter(text::delimiter(&config.csv, &file.name))
        .with_quote(config.csv.quote);
    if let Some(escape) = config.csv.escape {
        format = format.with_escape(escape);
    }
    let (schema, _) = format.infer_schema(sample.reader(), Some(0))?;
    let names = schema.fields().iter().enumerate();
    Ok(names
        .map(
            |(index, field)| {
                if field.name().is_empty() { format!("column_{}", index + 1) } else { field.name().clone() }
            },
        )
        .collect())
}

async fn json(config: &Config, pinned: &Pinned, file: &Listed) -> Result<Shape, Failure> {
    let (sample, whole) = sample(pinned, file, Some(config.infer_rows)).await?;
    let end = if whole { sample.len() } else { sample.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    if end == 0 && !sample.is_empty() {
        return Err(sentence(format!("its first line is longer than {SAMPLE_BYTES} bytes")));
    }
    let inferred = arrow::json::reader::infer_json_schema(&sample[..end], Some(config.infer_rows));
    // The decoder's own message quotes the row.
    let (schema, _) =
        inferred.map_err(|_| sentence("its rows are not one JSON object per line, each key of one kind"))?;
    Ok(Shape { schema: Arc::new(Schema::new(ordered(schema.fields()))), rows: None, nulls_counted: vec![] })
}

/// The first bytes of a file, until they hold so many lines, and whether that is all of it.
async fn sample(pinned: &Pinned, file: &Listed, lines: Option<usize>) -> Result<(Vec<u8>, bool), Failure> {
    let mut bytes = text::bytes(pinned, file, None).await?;
    let mut sample = vec![];
    let mut seen = 0;
    while let Some(chunk) = bytes.try_next().await? {
        seen += chunk.iter().filter(|byte| **byte == b'\n').count();
        sample.extend_from_slice(&chunk);
        if sample.len() >= SAMPLE_BYTES || seen >= lines.unwrap_or(LINES_OF_A_HEADER) {
            return Ok((sample, false));
        }
    }
    Ok((sample, true))
}

/// JSON objects have no order of their own, and the decoder's is random: columns are ordered by name.
fn ordered(fields: &Fields) -> Fields {
    let mut fields: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
    fields.sort_by(|a, b| a.name().cmp(b.name()));
    fields
        .into_iter()
        .map(|field| {
            let data_type = ordered_type(field.data_type());
            field.with_data_type(data_type)
        })
        .collect()
}

fn ordered_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(ordered(fields)),
        DataType::List(item) => {
            let item_type = ordered_type(item.data_type());
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(item_type)))
        }
        other => other.clone(),
    }
}

fn duplicate(schema: &Schema) -> Option<&str> {
    let mut seen = std::collections::HashSet::new();
    schema.fields().iter().map(|field| field.name().as_str()).find(|name| !seen.insert(*name))
}

/// Which types the texts of a column could be.
#[derive(Debug, Clone, Copy)]
struct Guess {
    seen: bool,
    boolean: bool,
    integer: bool,
    float: bool,
    date: bool,
    timestamp: bool,
}

impl Default for Guess {
    fn default() -> Self {
        Self { seen: false, boolean: true, integer: true, float: true, date: true, timestamp: true }
    }
}

impl Guess {
    fn look(&mut self, texts: &StringArray) {
        for text in texts.iter().flatten() {
            self.seen = true;
            self.boolean &= text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
            self.integer &= is_integer(text);
            self.float &= is_float(text);
            self.timestamp &= is_timestamp(text);
            self.date &= text.len() == 10 && is_timestamp(text);
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self { seen: false, .. } => DataType::Null,
            Self { boolean: true, .. } => DataType::Boolean,
            Self { integer: true, .. } => DataType::Int64,
            Self { float: true, .. } => DataType::Float64,
            Self { date: true, .. } => DataType::Date32,
            Self { timestamp: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => DataType::Utf8,
        }
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits == "0" && text == "0" || !digits.starts_with('0');
    plain && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i64>().is_ok()
}

fn is_float(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let leading_zero =
        digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") && !digits.starts_with("0e");
    let significant = mantissa.trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit).count();
    digits.starts_with(|c: char| c.is_ascii_digit())
        && !leading_zero
        && significant <= FLOAT_DIGITS
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether a text is a date or a date and time without a zone, to the microsecond at most.
pub(super) fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let at = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    let date = digits(0..4) && at(4, b'-') && digits(5..7) && at(7, b'-') && digits(8..10);
    if !date || bytes.len() == 10 {
        return date && valid_date(text);
    }
    let time = (at(10, b'T') || at(10, b' '))
        && digits(11..13)
        && at(13, b':')
        && digits(14..16)
        && at(16, b':')
        && digits(17..19);
    let fraction = match bytes.get(19..) {
        Some([]) => true,
        Some([b'.', rest @ ..]) => (1..=6).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    time && fraction && valid_date(&text[..10]) && &text[11..13] < "24" && &text[14..16] < "60" && &text[17..19] < "60"
}

/// Whether the calendar has the day.
fn valid_date(text: &str) -> bool {
    use arrow::compute::kernels::cast_utils::Parser;
    arrow::datatypes::Date32Type::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(texts: &[&str]) -> DataType {
        let mut guess = Guess::default();
        guess.look(&StringArray::from(texts.to_vec()));
        guess.data_type()
    }

    #[test]
    fn text_that_a_number_would_not_give_back_stays_text() {
        assert_eq!(guess(&["1", "-20", "0"]), DataType::Int64);
        assert_eq!(guess(&["1", "2.50", "1e3"]), DataType::Float64);
        assert_eq!(guess(&["01234", "12345"]), DataType::Utf8);
        assert_eq!(guess(&["12345678901234567890"]), DataType::Utf8);
        assert_eq!(guess(&["0.12345678901234567890"]), DataType::Utf8);
        assert_eq!(guess(&["true", "False"]), DataType::Boolean);
        assert_eq!(guess(&["NaN", "inf"]), DataType::Utf8);
    }

    #[test]
    fn dates_and_times_are_known_by_their_form_and_the_calendar() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(guess(&["2024-02-29"]), DataType::Date32);
        assert_eq!(guess(&["2023-02-29"]), DataType::Utf8);
        assert_eq!(guess(&["2024-02-29", "2024-02-29T10:00:00.5"]), timestamp);
        assert_eq!(guess(&["2024-02-29 10:00:00Z"]), DataType::Utf8);
        assert_eq!(guess(&["2024-02-29 10:00:00.1234567"]), DataType::Utf8);
        assert_eq!(guess(&["2024-02-29 25:00:00"]), DataType::Utf8);
    }
}
