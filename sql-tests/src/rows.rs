//! Answers, and whether two are the same: the same columns and types, the same multiset of rows, exactly.

use std::collections::HashMap;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How the floats of two answers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floats {
    /// To the last bit; NaN is NaN.
    Exact,
    /// Up to a share of 10^-12: sums depend on the order of rows in their last digits.
    Near,
}

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
        self.difference_within(other, Floats::Exact)
    }

    /// What differs between this answer and another, as multisets; `None` where nothing does.
    pub fn difference_within(&self, other: &Self, floats: Floats) -> Option<String> {
        if self.columns != other.columns {
            return Some(format!("columns {:?} are not {:?}", self.columns, other.columns));
        }
        let (left, right) = (self.clone().sorted().rows, other.clone().sorted().rows);
        if left == right || (floats == Floats::Near && self.is_near(other)) {
            return None;
        }
        Some(format!(
            "{} rows are not {}; only in the first {:?}; only in the second {:?}",
            left.len(),
            right.len(),
            missing(&left, &right),
            missing(&right, &left)
        ))
    }

    /// Why these are not as many rows of `whole` as a cut leaves, whichever they are; `None` where they are.
    pub fn no_cut_of(&self, whole: &Self, limit: Option<usize>, offset: Option<usize>) -> Option<String> {
        if self.columns != whole.columns {
            return Some(format!("columns {:?} are not {:?}", self.columns, whole.columns));
        }
        let left = whole.rows.len().saturating_sub(offset.unwrap_or(0));
        let expected = limit.map_or(left, |limit| left.min(limit));
        if self.rows.len() != expected {
            return Some(format!("{} rows where the cut leaves {expected}", self.rows.len()));
        }
        let strange = missing(&self.rows, &whole.rows);
        (!strange.is_empty()).then(|| format!("rows that are not there without the cut: {strange:?}"))
    }

    /// Whether the rows pair up so that floats are near and all else is equal.
    fn is_near(&self, other: &Self) -> bool {
        let (left, right) = (self.floats_last(), other.floats_last());
        let same = |(left, right): (&Keyed, &Keyed)| {
            left.0 == right.0 && left.1.iter().zip(&right.1).all(|(left, right)| near(*left, *right))
        };
        left.len() == right.len() && left.iter().zip(&right).all(same)
    }

    /// The rows in order of what is not a float, then of the floats.
    fn floats_last(&self) -> Vec<Keyed> {
        let is_float = |at: usize| matches!(self.columns[at].1, DataType::Float32 | DataType::Float64);
        let keyed = |row: &Vec<Option<String>>| {
            let others = row.iter().enumerate().filter(|(at, _)| !is_float(*at)).map(|(_, value)| value.clone());
            let floats = row.iter().enumerate().filter(|(at, _)| is_float(*at)).map(|(_, value)| value.as_deref());
            (others.collect(), floats.map(|value| value.and_then(|text| text.parse().ok())).collect())
        };
        let mut rows: Vec<Keyed> = self.rows.iter().map(keyed).collect();
        rows.sort_by(|left, right| left.0.cmp(&right.0).then_with(|| total_order(&left.1, &right.1)));
        rows
    }
}

/// A row as what is not a float, and the floats.
type Keyed = (Vec<Option<String>>, Vec<Option<f64>>);

fn total_order(left: &[Option<f64>], right: &[Option<f64>]) -> std::cmp::Ordering {
    let by_value = |(left, right): (&Option<f64>, &Option<f64>)| match (left, right) {
        (Some(left), Some(right)) => left.total_cmp(right),
        _ => left.is_some().cmp(&right.is_some()),
    };
    left.iter().zip(right).map(by_value).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}

fn near(left: Option<f64>, right: Option<f64>) -> bool {
    const SHARE: f64 = 1e-12;
    match (left, right) {
        (Some(left), Some(right)) => {
            left.total_cmp(&right).is_eq() || (left - right).abs() <= SHARE * left.abs().max(right.abs())
        }
        _ => left.is_none() && right.is_none(),
    }
}

/// Rows of the first that the second has not, or not so often: the first five.
fn missing(these: &[Vec<Option<String>>], those: &[Vec<Option<String>>]) -> Vec<Vec<Option<String>>> {
    let mut counts = HashMap::<&Vec<Option<String>>, usize>::new();
    those.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    let mut missing = Vec::new();
    for row in these {
        match counts.get_mut(row) {
            Some(count) if *count > 0 => *count -= 1,
            _ => missing.push(row.clone()),
        }
        if missing.len() == 5 {
            break;
        }
    }
    missing
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
