//! Statements that have rows: planned, bound and running.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use futures::{Stream, StreamExt};
use headwater::{Answer, Prepared};

use super::catalog;
use super::encode::Encoder;
use super::error::PgError;
use super::types::settled;
use crate::detached::Threads;

pub(super) type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch, PgError>> + Send>>;

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
    /// A batch that is half sent, and its next row.
    begun: Option<(Encoder, usize)>,
}

enum Source {
    Waiting(Box<Answer>, Arc<str>, Threads),
    Running(Batches),
    Ended,
}

impl Rows {
    /// The rows of an answer, which starts when the first is read.
    pub(super) fn waiting(answer: Answer, text: &Arc<str>, threads: &Threads) -> Self {
        let told = settled(&answer.schema());
        Self { told, source: Source::Waiting(Box::new(answer), Arc::clone(text), threads.clone()), begun: None }
    }

    pub(super) fn known(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let batches = futures::stream::iter(batches.into_iter().map(Ok)).boxed();
        Self { told: settled(&schema), source: Source::Running(batches), begun: None }
    }

    /// The batch that is being sent and its next row; `None` once there is none.
    pub(super) async fn next(&mut self) -> Result<Option<(Encoder, usize)>, PgError> {
        if let Some((encoder, row)) = self.begun.take().filter(|(encoder, row)| *row < encoder.rows) {
            return Ok(Some((encoder, row)));
        }
        loop {
            self.start()?;
            let Source::Running(batches) = &mut self.source else { return Ok(None) };
            match batches.next().await {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Encoder::new(&batch, &self.told).map(|encoder| Some((encoder, 0))),
                Some(Err(error)) => {
                    self.source = Source::Ended;
                    return Err(error);
                }
                None => {
                    self.source = Source::Ended;
                    return Ok(None);
                }
            }
        }
    }

    /// Puts a batch back of which rows are left.
    pub(super) fn put_back(&mut self, encoder: Encoder, row: usize) {
        if row < encoder.rows {
            self.begun = Some((encoder, row));
        }
    }

    fn start(&mut self) -> Result<(), PgError> {
        if !matches!(self.source, Source::Waiting(..)) {
            return Ok(());
        }
        if let Source::Waiting(answer, text, threads) = std::mem::replace(&mut self.source, Source::Ended) {
            let batches = threads.run(*answer, move |error| PgError::of(&error, &text))?;
            self.source = Source::Running(Box::pin(batches));
        }
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
