//! Answers, and whether two are the same: the same columns and types, the same multiset of rows, exactly.

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// An answer in a form that can be compared and printed: values as text that is exact for every type, NULL as `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Names and types of the columns.
    pub columns: Vec<(String, DataType)>,
    /// The rows, in the order in which they came.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Reads batches of one schema.
    pub fn of(schema: &SchemaRef, batches: &[RecordBatch]) -> Self {
        let columns = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        let rows = batches.iter().flat_map(|batch| {
            assert_eq!(batch.schema().fields().len(), schema.fields().len(), "a batch has the columns of its answer");
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                assert_eq!(
                    field.data_type(),
                    column.data_type(),
                    "column {:?} has the type of its schema",
                    field.name()
                );
                assert!(field.is_nullable() || column.null_count() == 0, "column {:?} is not nullable", field.name());
            }
            rows_of(batch)
        });
        Self { columns, rows: rows.collect() }
    }

    /// The same answer with its rows in an order of their own.
    pub fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }

    /// The rows as text, for an assertion to be read: `NULL` for NULL.
    pub fn texts(&self) -> Vec<Vec<&str>> {
        self.rows.iter().map(|row| row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect()).collect()
    }

    /// The values of the only column, as text.
    pub fn column(&self) -> Vec<&str> {
        assert_eq!(self.columns.len(), 1, "the answer has one column");
        self.rows.iter().map(|row| row[0].as_deref().unwrap_or("NULL")).collect()
    }

    /// What differs between this answer and another, as multisets; `None` where nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.columns != other.columns {
            return Some(format!("columns {:?} are not {:?}", self.columns, other.columns));
        }
        let (left, right) = (self.clone().sorted().rows, other.clone().sorted().rows);
        if left == right {
            return None;
        }
        let only = |these: &[Vec<Option<String>>], those: &[Vec<Option<String>>]| {
            let mut those = those.to_vec();
            let mut missing = Vec::new();
            for row in these {
                match those.iter().position(|other| other == row) {
                    Some(index) => drop(those.swap_remove(index)),
                    None => missing.push(row.clone()),
                }
                if missing.len() == 5 {
                    break;
                }
            }
            missing
        };
        Some(format!(
            "{} rows are not {}; only in the first {:?}; only in the second {:?}",
            left.len(),
            right.len(),
            only(&left, &right),
            only(&right, &left)
        ))
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatters: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("every type of an answer can be printed"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let value = |(column, formatter): (usize, &ArrayFormatter<'_>)| {
                (!batch.column(column).is_null(row)).then(|| formatter.value(row).to_string())
            };
            formatters.iter().enumerate().map(value).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    fn rows(values: Vec<Option<f64>>) -> Rows {
        let column: ArrayRef = Arc::new(Float64Array::from(values));
        let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        Rows::of(&batch.schema(), &[batch])
    }

    #[test]
    fn order_does_not_matter_and_every_value_does() {
        assert_eq!(rows(vec![Some(1.0), None]).difference(&rows(vec![None, Some(1.0)])), None);
        for other in [vec![Some(1.0)], vec![Some(1.0), None, None], vec![Some(1.0 + f64::EPSILON), None]] {
            assert!(rows(vec![Some(1.0), None]).difference(&rows(other.clone())).is_some(), "{other:?}");
        }
        assert!(rows(vec![Some(0.0)]).difference(&rows(vec![Some(-0.0)])).is_some());
        assert!(rows(vec![Some(1.0); 2]).difference(&rows(vec![Some(1.0), Some(2.0)])).is_some());
    }

    #[test]
    fn type_matters_and_text_null_is_not_null() {
        let text = |value: Option<&str>| {
            let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
            let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
            Rows::of(&batch.schema(), &[batch])
        };
        assert!(text(Some("1.0")).difference(&rows(vec![Some(1.0)])).is_some());
        assert!(text(Some("")).difference(&text(None)).is_some());
    }
}
