//! One state of a source for all statements of a query.
//!
//! Where a plan sends more than one statement to a source, or one in parts, they share a [`SharedSnapshot`]: the first that starts asks
//! the source for a state to be held, all read that one, and whoever starts last lets go of it: a statement that has started reads on by
//! itself. A source that can't hold a state gives none, and its statements then read what each of them finds.
//!
//! Invariant: a state is handed out at most as often as was announced to the source. A plan that is run again gets another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use headwater_source::{QueryId, Result, Snapshot, Source};
use tokio::sync::Mutex;

use crate::RemoteScanExec;
use crate::region::{KeyedExec, SharedExec, SharedRows};
use crate::scan::scans_of;

/// The state that a query's statements of one source read.
pub(crate) struct SharedSnapshot {
    source: Arc<dyn Source>,
    statements: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What the source gave, once it was asked.
    asked: Option<Option<Snapshot>>,
    /// How many statements have had their share of it.
    served: usize,
}

impl SharedSnapshot {
    fn new(source: Arc<dyn Source>, statements: usize) -> Self {
        Self { source, statements, held: Mutex::default() }
    }

    /// The state for one statement, where the source can hold one. It is to be kept until the statement has started.
    pub(crate) async fn get(&self, query: Option<QueryId>) -> Result<Option<Snapshot>> {
        let mut held = self.held.lock().await;
        let snapshot = match &held.asked {
            Some(snapshot) => snapshot.clone(),
            None => self.source.snapshot(self.statements, query).await?,
        };
        held.asked = Some(snapshot.clone());
        held.serve(self.statements);
        Ok(snapshot)
    }

    /// Says that a statement is not sent after all.
    pub(crate) async fn pass(&self) {
        self.held.lock().await.serve(self.statements);
    }
}

impl Held {
    fn serve(&mut self, statements: usize) {
        self.served += 1;
        if self.served >= statements {
            *self = Self::default();
        }
    }
}

impl fmt::Debug for SharedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSnapshot({} statements at {})", self.statements, self.source.location())
    }
}

/// Lets the statements of a plan that go to the same source read one state.
pub(crate) fn share_snapshots(plan: &Arc<dyn ExecutionPlan>) {
    let mut of_source: BTreeMap<String, Vec<&RemoteScanExec>> = BTreeMap::new();
    for scan in scans_of(plan) {
        of_source.entry(scan.source_key()).or_default().push(scan);
    }
    for (source, scans) in of_source {
        let statements = Sent::to(&source).by(plan);
        if let (Some(first), true) = (scans.first(), statements > 1) {
            let shared = Arc::new(SharedSnapshot::new(Arc::clone(first.source()), statements));
            scans.iter().for_each(|scan| scan.share(Arc::clone(&shared)));
        }
    }
}

/// What of a plan was counted that sends statements to a source.
struct Sent<'a> {
    source: &'a str,
    scans: Vec<&'a RemoteScanExec>,
    shared: Vec<&'a Arc<SharedRows>>,
}

impl<'a> Sent<'a> {
    fn to(source: &'a str) -> Self {
        Self { source, scans: vec![], shared: vec![] }
    }

    /// The most statements that a plan sends, of those that were not counted yet. One whose rows are shared is sent once, of sub-plans of which one is run for all those
    /// of the first are, and of two alternatives only one is.
    fn by(&mut self, plan: &'a Arc<dyn ExecutionPlan>) -> usize {
        if let Some(scan) = plan.downcast_ref::<RemoteScanExec>() {
            let again = self.scans.iter().any(|sent| sent.shares_rows(scan));
            self.scans.push(scan);
            return if scan.source_key() == self.source && !again { scan.partitions() } else { 0 };
        }
        if plan.downcast_ref::<SharedExec>().is_some_and(|node| !node.is_first(&mut self.shared)) {
            return 0;
        }
        match (plan.is::<KeyedExec>(), plan.children().as_slice()) {
            (true, [keys, remote, fallback]) => self.by(keys) + self.by(remote).max(self.by(fallback)),
            (_, children) => children.iter().map(|child| self.by(child)).sum(),
        }
    }
}
