//! The limits of an engine in force: its memory, how many queries run, and how many statements run at each store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use headwater_federation::{ConnectionsOn, Gates, StatementTraces};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Passed;
use crate::memory::QueryMemory;
use crate::metrics::{Counters, Metrics};
use crate::spill::Spill;
use crate::{Limits, QueryObserver, Result};

/// How many consumers of memory an error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("Invariant: five is not zero");

/// How many spilled runs are merged at a time where there is memory enough; more runs are merged in several rounds.
const MERGE_FAN_IN_MAX: usize = 16;

/// What reading one spilled run takes, in bytes: a few batches of wide rows.
const RUN_BYTES: usize = 4 << 20;

/// How many sorts should be able to merge side by side, each in all of its partitions.
const MERGES: usize = 4;

/// What all sessions of an engine share.
#[derive(Debug)]
pub(crate) struct Governor {
    runtime: Arc<RuntimeEnv>,
    memory_bytes: usize,
    /// None where spilling is forbidden.
    spill: Option<Spill>,
    gates: Arc<Gates>,
    queries: Arc<Semaphore>,
    queries_max: usize,
    queries_waiting_max: usize,
    query_wait: Duration,
    last_query: AtomicU64,
    counters: Counters,
    observer: Option<Arc<dyn QueryObserver>>,
    connections: Option<Arc<ConnectionsOn>>,
}

/// A query's right to run. Dropping it lets the next one in.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Governor {
    /// Puts limits in force.
    pub(crate) fn new(
        limits: &Limits,
        observer: Option<Arc<dyn QueryObserver>>,
        connections: Option<ConnectionsOn>,
    ) -> Result<Arc<Self>> {
        limits.check()?;
        let memory_bytes = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
        let spill = match limits.spill_bytes {
            0 => None,
            bytes => Some(Spill::open(&limits.spill_directory, bytes)?),
        };
        let mode = match &spill {
            None => DiskManagerMode::Disabled,
            Some(spill) => DiskManagerMode::Custom(Arc::new(spill.clone())),
        };
        let disk =
            DiskManagerBuilder::default().with_mode(mode).with_max_spill_merge_fan_in(merge_fan_in(memory_bytes));
        let pool = TrackConsumersPool::new(QueryMemory::new(memory_bytes, partitions()), CONSUMERS_NAMED);
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc()?;
        Ok(Arc::new(Self {
            runtime,
            memory_bytes,
            spill,
            gates: Gates::new(limits.statements_max, limits.statement_wait),
            queries: Arc::new(Semaphore::new(limits.queries_max)),
            queries_max: limits.queries_max,
            queries_waiting_max: limits.queries_waiting_max,
            query_wait: limits.query_wait,
            last_query: AtomicU64::new(0),
            counters: Counters::default(),
            observer,
            connections: connections.map(Arc::new),
        }))
    }

    /// Where queries take memory and spill.
    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// How much memory that is.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What queries did.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What queries did, and what they hold now.
    pub(crate) fn metrics(&self) -> Metrics {
        let running = self.queries_max.saturating_sub(self.queries.available_permits());
        Metrics {
            queries_running: running as u64,
            memory_bytes: self.runtime.memory_pool.reserved() as u64,
            memory_bytes_max: self.memory_bytes as u64,
            spill_bytes: self.spill.as_ref().map_or(0, Spill::bytes),
            ..self.counters.read()
        }
    }

    /// A number that no other query of the engine has.
    pub(crate) fn next_query(&self) -> u64 {
        self.last_query.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who is told of each statement once it is over.
    pub(crate) fn observer(&self) -> Option<&Arc<dyn QueryObserver>> {
        self.observer.as_ref()
    }

    /// The context of a query's tasks, with its leave to send statements; and what those that are sent are told to, where somebody wants to know.
    pub(crate) fn admitted(
        &self,
        query: u64,
        context: TaskContext,
    ) -> (Arc<TaskContext>, Option<Arc<StatementTraces>>) {
        let mut config = context.session_config().clone().with_extension(Arc::new(self.gates.admission(query)));
        if let Some(connections) = &self.connections {
            config.set_extension(Arc::clone(connections));
        }
        let traces = self.observer.as_ref().map(|_| Arc::<StatementTraces>::default());
        if let Some(traces) = &traces {
            config.set_extension(Arc::clone(traces));
        }
        (Arc::new(context.with_session_config(config)), traces)
    }

    /// The right to run, where nobody need be waited for.
    pub(crate) fn turn_now(&self) -> Option<Turn> {
        Arc::clone(&self.queries).try_acquire_owned().ok()
    }

    /// Waits for the right to run; those who ask first get it first, and where too many wait already nobody waits.
    pub(crate) async fn turn(&self) -> Result<Turn, Passed> {
        let waited_ms = u64::try_from(self.query_wait.as_millis()).unwrap_or(u64::MAX);
        let (queries_max, queries_waiting_max) = (self.queries_max, self.queries_waiting_max);
        let waiting = self.counters.waiting(queries_waiting_max);
        let Some(_waiting) = waiting else { return Err(Passed::Waiting { queries_max, queries_waiting_max }) };
        match tokio::time::timeout(self.query_wait, Arc::clone(&self.queries).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                let waiting = self.counters.read().queries_waiting.saturating_sub(1);
                Err(Passed::Queries { queries_max, waiting, waited_ms })
            }
        }
    }
}

/// How many spilled runs are merged at a time. Left to itself, a merge takes as many as there is memory for, and leaves the merge beside
/// it none.
fn merge_fan_in(memory_bytes: usize) -> usize {
    (memory_bytes / (MERGES * partitions() * RUN_BYTES)).clamp(2, MERGE_FAN_IN_MAX)
}

/// How many partitions the plans of a new session have.
fn partitions() -> usize {
    SessionConfig::new().target_partitions().max(1)
}
