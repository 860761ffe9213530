//! Results as CSV, JSON, Arrow or a table.
//!
//! Every format writes batch by batch: nothing but a table's first rows is held back.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use parking_lot::Mutex;

use super::args::Format;
use super::failure::Failure;
use super::table::Table;

/// Writes one result to `out`.
pub(super) struct Output<W> {
    encoder: Encoder,
    encoded: Encoded,
    out: W,
}

enum Encoder {
    Table(Table),
    Csv(Box<csv::Writer<Encoded>>, SchemaRef),
    Json(json::Writer<Encoded, json::writer::LineDelimited>),
    Arrow(StreamWriter<Encoded>),
}

/// What the encoders write into: memory that is handed over after each batch, so that a failure to write is told from one to encode.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<Vec<u8>>>);

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Output<W> {
    pub(super) fn new(format: Format, schema: &SchemaRef, out: W) -> Result<Self, Failure> {
        let encoded = Encoded::default();
        let encoder = match format {
            Format::Table => Encoder::Table(Table::new(schema)),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(encoded.clone());
                let schema = flat_schema(schema);
                // The header is written with the first batch, and there may be none.
                writer.write(&RecordBatch::new_empty(Arc::clone(&schema))).map_err(|error| encoding(&error))?;
                Encoder::Csv(Box::new(writer), schema)
            }
            Format::Json => Encoder::Json(json::WriterBuilder::new().with_explicit_nulls(true).build(encoded.clone())),
            Format::Arrow => {
                Encoder::Arrow(StreamWriter::try_new(encoded.clone(), schema).map_err(|error| encoding(&error))?)
            }
        };
        Ok(Self { encoder, encoded, out })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        match &mut self.encoder {
            Encoder::Table(table) => table.write(batch, &mut self.out)?,
            Encoder::Csv(writer, schema) => {
                let batch = flat(batch, schema).map_err(|error| encoding(&error))?;
                writer.write(&batch).map_err(|error| encoding(&error))?;
            }
            Encoder::Json(writer) => {
                // The writer puts the error in the place of such a value.
                let instants = batch.columns().iter().filter(|column| column.data_type().is_temporal());
                instants.map(as_text).collect::<Result<Vec<_>, _>>().map_err(|error| encoding(&error))?;
                writer.write(batch).map_err(|error| encoding(&error))?;
            }
            Encoder::Arrow(writer) => writer.write(batch).map_err(|error| encoding(&error))?,
        }
        self.hand_over()
    }

    /// Writes what is held back.
    pub(super) fn show(&mut self) -> Result<(), Failure> {
        if let Encoder::Table(table) = &mut self.encoder {
            table.show(&mut self.out)?;
        }
        self.hand_over()
    }

    /// Ends the result.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        match &mut self.encoder {
            Encoder::Table(table) => table.finish(&mut self.out)?,
            Encoder::Csv(..) => {}
            Encoder::Json(writer) => writer.finish().map_err(|error| encoding(&error))?,
            Encoder::Arrow(writer) => writer.finish().map_err(|error| encoding(&error))?,
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        let mut bytes = self.encoded.0.lock();
        self.out.write_all(&bytes).map_err(|error| Failure::writing(&error))?;
        bytes.clear();
        self.out.flush().map_err(|error| Failure::writing(&error))
    }
}

fn encoding(error: &ArrowError) -> Failure {
    Failure::with_hint(format!("the result can't be written in this format: {error}"), "try another --format")
}

/// The schema that a CSV file can hold: lists, structs and maps become their text.
fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type().is_nested() {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn flat(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |column: &ArrayRef| {
        if column.data_type().is_nested() { as_text(column) } else { Ok(Arc::clone(column)) }
    };
    let columns: Vec<ArrayRef> = batch.columns().iter().map(column).collect::<Result<_, _>>()?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let values = (0..column.len()).map(|row| match column.is_null(row) {
        true => Ok(None),
        false => formatter.value(row).try_to_string().map(Some),
    });
    Ok(Arc::new(values.collect::<Result<StringArray, _>>()?))
}

/// An output that nobody reads any more.
#[cfg(test)]
struct ClosedPipe;

#[cfg(test)]
impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch() -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a,\"b\"", "ü"]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None]));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true), ("list", lists, true)])
            .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut output = Output::new(format, &batch().schema(), &mut bytes).unwrap();
        for batch in batches {
            output.write(batch).unwrap();
        }
        output.finish().unwrap();
        drop(output);
        bytes
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(written(format, batches)).unwrap()
    }

    #[test]
    fn csv_has_one_header_and_quotes_what_needs_it() {
        let expected = "id,name,list\n1,\"a,\"\"b\"\"\",\"[1, 2]\"\n,ü,\n,ü,\n";
        assert_eq!(text(Format::Csv, &[batch(), batch().slice(1, 1)]), expected);
    }

    #[test]
    fn csv_without_rows_still_has_its_header() {
        assert_eq!(text(Format::Csv, &[]), "id,name,list\n");
    }

    #[test]
    fn date_that_no_calendar_has_is_an_error_in_every_format_of_text() {
        let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![0, i32::MAX]));
        let batch = RecordBatch::try_from_iter([("day", days)]).unwrap();
        for format in [Format::Table, Format::Csv, Format::Json] {
            let mut output = Output::new(format, &batch.schema(), Vec::new()).unwrap();
            assert!(output.write(&batch).and_then(|()| output.finish()).is_err(), "{format:?}");
        }
    }

    #[test]
    fn json_is_an_object_per_line_with_its_nulls() {
        let expected =
            "{\"id\":1,\"name\":\"a,\\\"b\\\"\",\"list\":[1,2]}\n{\"id\":null,\"name\":\"ü\",\"list\":null}\n";
        assert_eq!(text(Format::Json, &[batch()]), expected);
        assert_eq!(text(Format::Json, &[]), "");
    }

    #[test]
    fn arrow_reads_back_as_it_was() {
        let bytes = written(Format::Arrow, &[batch(), batch()]);
        let read: Vec<RecordBatch> = StreamReader::try_new(&*bytes, None).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [batch(), batch()]);
    }

    #[test]
    fn closed_pipe_is_told_from_a_failure() {
        for format in [Format::Table, Format::Csv, Format::Json, Format::Arrow] {
            let mut output = Output::new(format, &batch().schema(), ClosedPipe).unwrap();
            let result = output.write(&batch()).and_then(|()| output.finish());
            assert!(matches!(result, Err(Failure::OutputClosed)), "{format:?}: {result:?}");
        }
    }
}
