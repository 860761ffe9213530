//! Statements that have rows: planned, bound and running.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use futures::{Stream, StreamExt, stream};
use headwater::{Answer, Prepared};

use super::catalog;
use super::error::PgError;
use super::types::settled;
use super::written::{Form, Written, written};
use crate::detached::Threads;

/// A statement that has rows.
#[derive(Clone)]
pub(super) enum Planned {
    /// Of the engine.
    Engine(Prepared),
    /// Of `pg_catalog`.
    Catalog(Arc<catalog::Statement>),
    /// Rows that are there already.
    Known(RecordBatch),
    /// Of the engine, which runs it as it is once its rows are asked for. Its columns are known then.
    Immediate,
}

impl Planned {
    /// The columns, as far as they are known before values are bound.
    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Engine(prepared) => settled(&prepared.schema()),
            Self::Catalog(statement) => settled(&statement.schema()),
            Self::Known(batch) => batch.schema(),
            Self::Immediate => Arc::new(Schema::empty()),
        }
    }

    pub(super) fn parameters(&self) -> SchemaRef {
        match self {
            Self::Engine(prepared) => prepared.parameters(),
            Self::Catalog(statement) => statement.parameters(),
            Self::Known(_) | Self::Immediate => Arc::new(Schema::empty()),
        }
    }

    /// Binds values, and plans to the end. Rows are computed when they are read.
    pub(super) async fn bind(
        &self,
        values: Vec<ScalarValue>,
        text: &Arc<str>,
        threads: &Threads,
    ) -> Result<Rows, PgError> {
        match self {
            Self::Engine(prepared) => {
                let answer = prepared.execute(values).await.map_err(|error| PgError::of(&error, text))?;
                Ok(Rows::waiting(answer, text, threads))
            }
            Self::Catalog(statement) => {
                let batch = statement.run(values, threads).await?;
                Ok(Rows::known(batch.schema(), vec![batch]))
            }
            Self::Known(batch) => Ok(Rows::known(batch.schema(), vec![batch.clone()])),
            Self::Immediate => Ok(Rows::known(self.schema(), vec![])),
        }
    }
}

/// Rows that a client fetches, all at once or so many at a time.
pub(super) struct Rows {
    /// What the client is told the columns are.
    pub(super) told: SchemaRef,
    source: Source,
    /// What is written and not sent.
    begun: Option<Written>,
}

enum Source {
    Waiting(Box<Answer>, Arc<str>, Threads),
    Known(Vec<RecordBatch>),
    Running(Pin<Box<dyn Stream<Item = Result<Written, PgError>> + Send>>),
    Ended,
}

impl Rows {
    /// The rows of an answer, which starts when the first is read.
    pub(super) fn waiting(answer: Answer, text: &Arc<str>, threads: &Threads) -> Self {
        let told = settled(&answer.schema());
        Self { told, source: Source::Waiting(Box::new(answer), Arc::clone(text), threads.clone()), begun: None }
    }

    pub(super) fn known(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { told: settled(&schema), source: Source::Known(batches), begun: None }
    }

    /// The next rows that are to be sent; `None` once there are none. All are written in the form that is asked for first.
    pub(super) async fn next(&mut self, form: &Form) -> Result<Option<Written>, PgError> {
        if let Some(written) = self.begun.take().filter(|written| written.rows() > 0) {
            return Ok(Some(written));
        }
        self.start(form)?;
        let Source::Running(rows) = &mut self.source else { return Ok(None) };
        let next = rows.next().await.transpose();
        if !matches!(next, Ok(Some(_))) {
            self.source = Source::Ended;
        }
        next
    }

    /// Puts rows back that were not sent.
    pub(super) fn put_back(&mut self, written: Written) {
        self.begun = Some(written);
    }

    fn start(&mut self, form: &Form) -> Result<(), PgError> {
        let (told, form) = (Arc::clone(&self.told), form.clone());
        self.source = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Waiting(answer, text, threads) => {
                let error = move |error| PgError::of(&error, &text);
                let rows = threads.run_written(*answer, error, |batches| written(batches, told, form))?;
                Source::Running(Box::pin(rows))
            }
            Source::Known(batches) => {
                Source::Running(Box::pin(written(stream::iter(batches.into_iter().map(Ok)), told, form)))
            }
            other => other,
        };
        Ok(())
    }
}

/// Rows of texts.
pub(super) fn texts(columns: &[&str], rows: &[Vec<String>]) -> Result<RecordBatch, PgError> {
    let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let column = |index: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.get(index).map(String::as_str))))
    };
    let arrays = (0..columns.len()).map(column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| PgError::new(super::error::INTERNAL, error.to_string()))
}
