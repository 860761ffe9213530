//! A result as a table for people.
//!
//! The widths come from the first rows; those that follow are written as they arrive, and a wider value only pushes its
//! line. Control characters are shown, not sent: a value must not drive the terminal.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use super::failure::Failure;

/// How many rows the widths are taken from.
const MEASURED_ROWS: usize = 1000;

/// How a missing value is shown.
const NULL: &str = "NULL";

/// A table that is being written.
pub(super) struct Table {
    header: Vec<String>,
    right_aligned: Vec<bool>,
    /// The rows before the widths are known; each cell as its lines.
    waiting: Vec<Vec<Vec<String>>>,
    widths: Option<Vec<usize>>,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self {
            header: schema.fields().iter().map(|field| visible(field.name())).collect(),
            right_aligned: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            waiting: Vec::new(),
            widths: None,
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, out: &mut impl Write) -> Result<(), Failure> {
        let options = FormatOptions::default().with_null(NULL);
        let formatters: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::failed(format!("the result can't be shown: {error}")))?;
        for row in 0..batch.num_rows() {
            let cells: Vec<Vec<String>> =
                formatters.iter().map(|formatter| cell(formatter, row)).collect::<Result<_, _>>()?;
            match &self.widths {
                Some(widths) => self.line(&cells, widths, out)?,
                None => self.waiting.push(cells),
            }
            if self.widths.is_none() && self.waiting.len() >= MEASURED_ROWS {
                self.begin(out)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        if self.widths.is_none() && !self.header.is_empty() {
            self.begin(out)?;
        }
        Ok(())
    }

    /// Writes the rows that wait, where there are any.
    pub(super) fn show(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        if self.widths.is_none() && !self.waiting.is_empty() { self.begin(out) } else { Ok(()) }
    }

    /// Takes the widths from what there is and writes it.
    fn begin(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.waiting);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let cells = rows.iter().flat_map(|row| &row[column]).map(|line| line.width());
                cells.chain([self.header[column].width()]).max().unwrap_or(0)
            })
            .collect();
        let header: Vec<Vec<String>> = self.header.iter().map(|name| vec![name.clone()]).collect();
        self.line(&header, &widths, out)?;
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}", rule.join("+")).map_err(|error| Failure::writing(&error))?;
        for row in &rows {
            self.line(row, &widths, out)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    /// Writes a row, which is as high as its highest cell.
    fn line(&self, cells: &[Vec<String>], widths: &[usize], out: &mut impl Write) -> Result<(), Failure> {
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let parts: Vec<String> = (0..cells.len())
                .map(|column| {
                    let text = cells[column].get(line).map_or("", String::as_str);
                    let pad = " ".repeat(widths[column].saturating_sub(text.width()));
                    if self.right_aligned[column] { format!(" {pad}{text} ") } else { format!(" {text}{pad} ") }
                })
                .collect();
            writeln!(out, "{}", parts.join("|").trim_end()).map_err(|error| Failure::writing(&error))?;
        }
        Ok(())
    }
}

fn cell(formatter: &ArrayFormatter<'_>, row: usize) -> Result<Vec<String>, Failure> {
    let text = formatter
        .value(row)
        .try_to_string()
        .map_err(|error| Failure::failed(format!("a value can't be shown: {error}")))?;
    // Plans come with a line break at their end.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.split('\n').map(visible).collect())
}

/// The text with its control characters as escapes.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn shown(batches: &[RecordBatch]) -> String {
        let mut table = Table::new(&batches[0].schema());
        let mut bytes = Vec::new();
        for batch in batches {
            table.write(batch, &mut bytes).unwrap();
        }
        table.finish(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn batch(numbers: Vec<Option<i64>>, texts: Vec<&str>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("text", texts, true)]).unwrap()
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let table = shown(&[batch(vec![Some(1), None, Some(12345)], vec!["a", "日本", "b\nsecond line"])]);
        let expected = "
     n | text
-------+-------------
     1 | a
  NULL | 日本
 12345 | b
       | second line
";
        assert_eq!(table, expected[1..]);
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        let table = shown(&[batch(vec![Some(1)], vec!["\u{1b}[2J\r"])]);
        assert!(table.contains("\\u{1b}[2J\\r"), "{table}");
    }

    #[test]
    fn rows_past_the_measured_ones_keep_the_widths() {
        let many = batch((0..1500).map(Some).collect(), vec!["x"; 1500]);
        let table = shown(&[many]);
        assert_eq!(table.lines().count(), 1502);
        assert_eq!(table.lines().last(), Some(" 1499 | x"));
    }

    #[test]
    fn result_without_rows_still_has_its_header() {
        assert_eq!(shown(&[batch(vec![], vec![])]), " n | text\n---+------\n");
    }
}
