//! A source that goes away now and then, by a plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use headwater_source::futures::stream;
use headwater_source::futures::{StreamExt, TryStreamExt};
use headwater_source::{
    BatchStream, Capabilities, Error, ReadContext, RemoteStatement, Result, Scan, ScanRequest, ServiceName, Source,
    TableDef,
};

/// Wraps a source and makes some of its calls fail: describing, opening, or in the middle of a stream.
///
/// What does not fail is the inner source's own answer, so a consumer that passes on a short answer as whole is found out.
#[derive(Debug)]
pub struct Flaky {
    inner: Arc<dyn Source>,
    faults: Arc<Faults>,
}

/// Which calls fail. The same plan fails the same calls, counted in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlakyPlan {
    /// Where the sequence starts.
    pub seed: u64,
    /// How many of a thousand calls (describe, prepare, open) fail.
    pub calls_per_mille: u64,
    /// How many of a thousand streams fail.
    pub streams_per_mille: u64,
    /// A stream that fails does so after 0 to this many batches.
    pub batches_max: u64,
}

impl FlakyPlan {
    /// A quarter of all calls and of all streams, after at most 3 batches.
    pub const fn seeded(seed: u64) -> Self {
        Self { seed, calls_per_mille: 250, streams_per_mille: 250, batches_max: 3 }
    }

    /// Every stream, after so many batches at most.
    pub const fn every_stream(seed: u64, batches_max: u64) -> Self {
        Self { seed, calls_per_mille: 0, streams_per_mille: 1000, batches_max }
    }
}

impl Flaky {
    /// Wraps a source; errors name the service.
    pub fn new(inner: Arc<dyn Source>, service: ServiceName, plan: FlakyPlan) -> Self {
        let faults = Faults { service, location: inner.location(), plan, drawn: AtomicU64::new(0) };
        Self { inner, faults: Arc::new(faults) }
    }
}

#[async_trait]
impl Source for Flaky {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.faults.call()?;
        self.inner.tables().await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.faults.call()?;
        self.inner.table(from).await
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.faults.call()?;
        let table = request.table.full_name();
        let inner = self.inner.prepare(request).await?;
        Ok(Arc::new(FlakyScan { inner, table, faults: Arc::clone(&self.faults) }))
    }
}

#[derive(Debug)]
struct FlakyScan {
    inner: Arc<dyn Scan>,
    table: String,
    faults: Arc<Faults>,
}

#[async_trait]
impl Scan for FlakyScan {
    fn statement(&self) -> &RemoteStatement {
        self.inner.statement()
    }

    fn partitions(&self) -> usize {
        self.inner.partitions()
    }

    fn asks(&self, partition: usize, context: &ReadContext) -> bool {
        self.inner.asks(partition, context)
    }

    async fn open(&self, partition: usize) -> Result<BatchStream> {
        self.open_for(partition, &ReadContext::default()).await
    }

    async fn open_for(&self, partition: usize, context: &ReadContext) -> Result<BatchStream> {
        self.faults.call()?;
        let batches = self.inner.open_for(partition, context).await?;
        Ok(match self.faults.stream() {
            None => batches,
            // A stream that is shorter fails where it would have ended.
            Some(after) => {
                let failure = self.faults.interrupted(&self.table);
                batches.take(after).chain(stream::iter([Err(failure)])).into_stream().boxed()
            }
        })
    }
}

#[derive(Debug)]
struct Faults {
    service: ServiceName,
    location: String,
    plan: FlakyPlan,
    drawn: AtomicU64,
}

impl Faults {
    fn call(&self) -> Result<()> {
        if self.draw() % 1000 >= self.plan.calls_per_mille {
            return Ok(());
        }
        let (service, location) = (self.service.clone(), self.location.clone());
        Err(Error::Unavailable { service, location, cause: "the plan says so".into() })
    }

    /// After how many batches the next stream fails, if it does.
    fn stream(&self) -> Option<usize> {
        let fails = self.draw() % 1000 < self.plan.streams_per_mille;
        let after = self.draw() % (self.plan.batches_max + 1);
        fails.then(|| usize::try_from(after).unwrap_or(usize::MAX))
    }

    fn interrupted(&self, table: &str) -> Error {
        Error::Interrupted { service: self.service.clone(), table: table.to_owned(), cause: "the plan says so".into() }
    }

    /// splitmix64 (Steele, Lea, Flood 2014) of the seed and the number of the draw.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self.plan.seed.wrapping_add(number.wrapping_add(1).wrapping_mul(STEP));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
