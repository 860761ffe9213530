//! A filter by the time: rows come and go although nothing happened to them.
//!
//! A row is shown while its condition holds at the epoch's time. When that changes next is told by the row itself (see `plan::time`), and rows
//! wait for it in the order of those moments. An epoch looks at those whose moment has come, and at those that came or went.
//!
//! Invariant: every row of the input whose condition may yet change waits under the first moment after the last epoch's time. So where a row
//! waits, and whether it is shown, is a function of the row and of that time, and a row that goes is found without an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Date32Type, Date64Type, Field, Schema, SchemaRef, TimeUnit};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;

use super::{Changes, Description, Expression, Mode, Operator, evaluate, holds};
use crate::delta::batch;
use crate::plan::{Moved, NOW_COLUMN, When, nanos_per};
use crate::rows::{Bytes, Codec, Fixed};
use crate::{Delta, Error, Result};

/// Rows that are looked at together.
const BATCH_ROWS: usize = 8_192;

/// A comparison that changes with the time.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The row's time.
    pub(crate) time: Expression,
    pub(crate) moved: Moved,
    pub(crate) when: When,
}

#[derive(Debug)]
pub(crate) struct Temporal {
    input: Box<dyn Operator>,
    /// Over the input's columns and the time.
    condition: Expression,
    text: String,
    watched: Vec<Watched>,
    /// The input's columns and the time.
    timed: SchemaRef,
    schema: SchemaRef,
    codec: Codec,
    waiting: Waiting,
    now: Option<i64>,
}

/// Rows by the moment at which to look at them again, with their weights.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    moments: BTreeMap<i64, HashMap<Bytes, i64, Fixed>>,
    rows: usize,
    heap: usize,
}

impl Waiting {
    fn add(&mut self, moment: i64, row: &[u8], weight: i64) {
        let rows = self.moments.entry(moment).or_default();
        match rows.get_mut(row) {
            Some(sum) => *sum += weight,
            None => {
                let row = Bytes::from(row);
                self.heap += row.heap();
                self.rows += 1;
                rows.insert(row, weight);
            }
        }
        if rows.get(row) == Some(&0)
            && let Some((gone, _)) = rows.remove_entry(row)
        {
            self.heap -= gone.heap();
            self.rows -= 1;
        }
        if rows.is_empty() {
            self.moments.remove(&moment);
        }
    }

    /// The rows whose moment has come.
    fn take(&mut self, now: i64) -> Vec<(Bytes, i64)> {
        let later = now.checked_add(1).map(|next| self.moments.split_off(&next)).unwrap_or_default();
        let due: Vec<(Bytes, i64)> = std::mem::replace(&mut self.moments, later).into_values().flatten().collect();
        self.rows -= due.len();
        self.heap -= due.iter().map(|(row, _)| row.heap()).sum::<usize>();
        due
    }

    /// The next moment at which there is anything to do.
    pub(crate) fn next(&self) -> Option<i64> {
        self.moments.first_key_value().map(|(moment, _)| *moment)
    }

    /// How far the time may go, up to `until`, for no more rows to be looked at than these; one moment at least.
    pub(crate) fn reach(&self, until: i64, rows_max: usize) -> i64 {
        let (mut rows, mut last) = (0, None);
        for (moment, due) in self.moments.range(..=until) {
            rows += due.len();
            if let Some(last) = last.filter(|_| rows > rows_max) {
                return last;
            }
            last = Some(*moment);
        }
        until
    }

    fn bytes(&self) -> usize {
        self.heap
            + self.rows * size_of::<(Bytes, i64)>()
            + self.moments.len() * 2 * size_of::<HashMap<Bytes, i64, Fixed>>()
    }
}

impl Temporal {
    /// The condition reads the column of the time behind those of the input.
    pub(crate) fn new(
        input: Box<dyn Operator>,
        condition: Expression,
        text: String,
        watched: Vec<Watched>,
    ) -> Result<Self> {
        let schema = SchemaRef::clone(input.schema());
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        let now = Field::new(NOW_COLUMN, DataType::Timestamp(TimeUnit::Nanosecond, None), false);
        let timed = Arc::new(Schema::new(schema.fields().iter().cloned().chain([Arc::new(now)]).collect::<Vec<_>>()));
        Ok(Self { input, condition, text, watched, timed, schema, codec, waiting: Waiting::default(), now: None })
    }

    /// For which rows the condition holds at a time.
    fn shown(&self, rows: &RecordBatch, now: i64) -> Result<BooleanArray> {
        let time: ArrayRef = Arc::new(TimestampNanosecondArray::from_value(now, rows.num_rows()));
        let columns = rows.columns().iter().cloned().chain([time]).collect();
        holds(&self.condition, &batch(&self.timed, columns, rows.num_rows())?)
    }

    /// Looks at the rows whose moment has come since the last epoch.
    fn advance(&mut self, before: i64, now: i64, out: &mut Vec<Delta>) -> Result<()> {
        let due = self.waiting.take(now);
        for due in due.chunks(BATCH_ROWS) {
            let columns = self.codec.decode(due.iter().map(|(row, _)| row.as_slice()))?;
            let rows = batch(&self.schema, columns, due.len())?;
            let (was, is) = (self.shown(&rows, before)?, self.shown(&rows, now)?);
            let weights: Vec<i64> = due
                .iter()
                .enumerate()
                .map(|(row, (_, weight))| weight * (i64::from(is.value(row)) - i64::from(was.value(row))))
                .collect();
            let changed: BooleanArray = weights.iter().map(|weight| Some(*weight != 0)).collect();
            let delta = Delta::new(rows.clone(), weights)?.filtered(&changed)?;
            if !delta.is_empty() {
                out.push(delta);
            }
            let weights: Vec<i64> = due.iter().map(|(_, weight)| *weight).collect();
            self.wait(&Delta::new(rows, weights)?, now)?;
        }
        Ok(())
    }

    /// Lets rows wait for the next moment at which their condition may change; those for which there is none are forgotten.
    fn wait(&mut self, delta: &Delta, now: i64) -> Result<()> {
        let mut next: Vec<Option<i64>> = vec![None; delta.len()];
        for watched in &self.watched {
            let times = evaluate(&watched.time, delta.rows())?;
            let times = nanos(&times)?;
            for (next, time) in next.iter_mut().zip(times) {
                let Some(time) = time else { continue };
                let moments = watched.moved.moments(time, watched.when);
                // What is beyond the clock never comes.
                let later = moments.filter_map(|moment| i64::try_from(moment).ok()).filter(|moment| *moment > now);
                *next = later.chain(*next).min();
            }
        }
        if next.iter().all(Option::is_none) {
            return Ok(());
        }
        let rows = self.codec.encode(delta.columns(), delta.len())?;
        for (row, (next, weight)) in next.iter().zip(delta.weights()).enumerate() {
            if let Some(next) = next {
                self.waiting.add(*next, rows.bytes(row), *weight);
            }
        }
        Ok(())
    }
}

/// Times of rows in nanoseconds since 1970.
fn nanos(times: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let scaled = |values: Vec<Option<i64>>, unit: i128| {
        values.into_iter().map(|value| value.map(|value| i128::from(value) * unit)).collect()
    };
    Ok(match times.data_type() {
        DataType::Timestamp(unit, _) => {
            let values = match unit {
                TimeUnit::Second => times.as_primitive::<TimestampSecondType>().iter().collect(),
                TimeUnit::Millisecond => times.as_primitive::<TimestampMillisecondType>().iter().collect(),
                TimeUnit::Microsecond => times.as_primitive::<TimestampMicrosecondType>().iter().collect(),
                TimeUnit::Nanosecond => times.as_primitive::<TimestampNanosecondType>().iter().collect(),
            };
            scaled(values, nanos_per(*unit))
        }
        DataType::Date32 => {
            let days = times.as_primitive::<Date32Type>().iter().map(|day| day.map(i64::from)).collect();
            scaled(days, nanos_per(TimeUnit::Second) * 86_400)
        }
        DataType::Date64 => {
            scaled(times.as_primitive::<Date64Type>().iter().collect(), nanos_per(TimeUnit::Millisecond))
        }
        // A literal NULL has a type of its own.
        DataType::Null => vec![None; times.len()],
        other => return Err(Error::invariant(format!("a time of type {other}"))),
    })
}

impl Operator for Temporal {
    fn step(&mut self, changes: &Changes<'_>) -> Result<Vec<Delta>> {
        let now = changes.now;
        let mut out = Vec::new();
        if let Some(before) = self.now.filter(|before| *before < now) {
            self.advance(before, now, &mut out)?;
        }
        self.now = Some(now);
        for delta in self.input.step(changes)? {
            self.wait(&delta, now)?;
            let shown = delta.filtered(&self.shown(delta.rows(), now)?)?;
            if !shown.is_empty() {
                out.push(shown);
            }
        }
        Ok(out)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn describe(&self) -> Description {
        Description {
            operator: format!("temporal filter {}", self.text),
            mode: Mode::Incremental,
            rows: self.waiting.rows,
            bytes: self.waiting.bytes(),
        }
    }

    fn children(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }

    fn waiting(&self) -> Option<&Waiting> {
        Some(&self.waiting)
    }
}
