//! What a query asked of the sources and what came back.

use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use crate::RemoteScanExec;

/// A remote statement and what it cost so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteStatementReport {
    /// The service that was asked.
    pub service: String,
    /// The table's name in SQL.
    pub table: String,
    /// The statement with its binds' types.
    pub statement: String,
    /// How often it was sent: once for each partition, none where the answer did not need it.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Bytes of the record batches received, as Arrow holds them.
    pub bytes: u64,
    /// Milliseconds spent waiting for the source, summed over partitions.
    pub elapsed_ms: u64,
}

/// What all remote statements of a query cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteTotals {
    /// Statements sent: round trips, each with as many rows as came.
    pub statements: u64,
    /// Rows received.
    pub rows: u64,
    /// Bytes of the record batches received, as Arrow holds them.
    pub bytes: u64,
}

/// The remote statements of one running or finished query. Cheap to clone; may be read at any time.
#[derive(Debug, Clone)]
pub struct RemoteLog {
    plan: Arc<dyn ExecutionPlan>,
}

impl RemoteLog {
    /// The log of a physical plan.
    pub fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan }
    }

    /// Every remote statement, in the order of the plan.
    pub fn statements(&self) -> Vec<RemoteStatementReport> {
        let mut reports = Vec::new();
        collect(&self.plan, &mut reports);
        reports
    }

    /// The sums over all of them.
    pub fn totals(&self) -> RemoteTotals {
        let sum = |totals: RemoteTotals, report: RemoteStatementReport| RemoteTotals {
            statements: totals.statements + report.statements,
            rows: totals.rows + report.rows,
            bytes: totals.bytes + report.bytes,
        };
        self.statements().into_iter().fold(RemoteTotals::default(), sum)
    }
}

fn collect(plan: &Arc<dyn ExecutionPlan>, reports: &mut Vec<RemoteStatementReport>) {
    if let Some(scan) = plan.downcast_ref::<RemoteScanExec>() {
        reports.push(scan.report());
    }
    for child in plan.children() {
        collect(child, reports);
    }
}

impl fmt::Display for RemoteStatementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} rows, {} bytes, {} ms: {}",
            self.service, self.rows, self.bytes, self.elapsed_ms, self.statement
        )
    }
}
