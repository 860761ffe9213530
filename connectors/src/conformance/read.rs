//! Reads from the source under test.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use headwater_source::futures::TryStreamExt;
use headwater_source::{Error, Result as SourceResult, Scan, ScanRequest, Source, TableDef};

use super::{Expectations, Failures, Violation};

pub(super) type Checked<T = ()> = Result<T, Violation>;

/// How often a read is tried where failures are expected.
const TRIES_MAX: usize = 1000;

/// The source under test and what it is to hold.
pub(super) struct Subject {
    pub(super) source: Arc<dyn Source>,
    pub(super) table: Arc<TableDef>,
    pub(super) expected: RecordBatch,
    pub(super) from: String,
    failures: Failures,
}

impl Subject {
    pub(super) async fn new(source: Arc<dyn Source>, expectations: &Expectations) -> Checked<Self> {
        let Expectations { table: from, rows, failures } = expectations.clone();
        let mut subject =
            Self { source, table: Arc::new(TableDef::new([from.clone()], vec![])), expected: rows, from, failures };
        subject.table = Arc::new(subject.described().await?);
        Ok(subject)
    }

    /// The table, described by name.
    pub(super) async fn described(&self) -> Checked<TableDef> {
        self.persist("a table is described", || self.source.table(&self.from)).await
    }

    /// A request for all rows and columns.
    pub(super) fn all(&self) -> ScanRequest {
        ScanRequest::all(Arc::clone(&self.table))
    }

    /// Reads all partitions of a request, each batch as it came.
    pub(super) async fn read(&self, rule: &'static str, request: &ScanRequest) -> Checked<Vec<RecordBatch>> {
        let scan = self.prepare(rule, request).await?;
        let mut batches = Vec::new();
        for partition in 0..scan.partitions() {
            batches.extend(self.read_partition(rule, scan.as_ref(), partition).await?);
        }
        let schema = request.schema();
        for batch in &batches {
            ensure(rule, batch.schema() == schema, || {
                format!("a batch has the schema {:?}, asked was {schema:?}", batch.schema())
            })?;
        }
        Ok(batches)
    }

    /// The same as one batch.
    pub(super) async fn read_whole(&self, rule: &'static str, request: &ScanRequest) -> Checked<RecordBatch> {
        let batches = self.read(rule, request).await?;
        concat_batches(&request.schema(), &batches).map_err(broken(rule))
    }

    pub(super) async fn prepare(&self, rule: &'static str, request: &ScanRequest) -> Checked<Arc<dyn Scan>> {
        self.persist(rule, || self.source.prepare(request.clone())).await
    }

    pub(super) async fn read_partition(
        &self,
        rule: &'static str,
        scan: &dyn Scan,
        partition: usize,
    ) -> Checked<Vec<RecordBatch>> {
        self.persist(rule, || async move { scan.open(partition).await?.try_collect().await }).await
    }

    /// Tries until it succeeds, where failures are expected; otherwise once.
    pub(super) async fn persist<T, F: Future<Output = SourceResult<T>>>(
        &self,
        rule: &'static str,
        attempt: impl Fn() -> F,
    ) -> Checked<T> {
        let tries = if self.failures == Failures::Retried { TRIES_MAX } else { 1 };
        let mut tried = 0;
        loop {
            tried += 1;
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Error::Unavailable { .. } | Error::Interrupted { .. }) if tried < tries => {}
                Err(error) => return Err(Violation { rule, detail: error.report() }),
            }
        }
    }
}

/// A promise that must hold.
pub(super) fn ensure(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

/// Turns Arrow's errors into violations.
pub(super) fn broken(rule: &'static str) -> impl Fn(ArrowError) -> Violation {
    move |error| Violation { rule, detail: error.to_string() }
}
