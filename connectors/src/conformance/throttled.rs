//! A source that is slow.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_source::futures::StreamExt;
use headwater_source::{
    BatchStream, Capabilities, ReadContext, RemoteStatement, Result, Scan, ScanRequest, Source, TableDef,
};

/// Wraps a source and waits before every batch and before every end: with it, whoever reads ahead without bounds, holds a
/// lock while waiting or counts on order among streams is found out.
#[derive(Debug)]
pub struct Throttled {
    inner: Arc<dyn Source>,
    delay: Duration,
}

impl Throttled {
    /// Wraps a source that takes so much longer for each batch.
    pub fn new(inner: Arc<dyn Source>, delay: Duration) -> Self {
        Self { inner, delay }
    }
}

#[async_trait]
impl Source for Throttled {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.inner.tables().await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.inner.table(from).await
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        let inner = self.inner.prepare(request).await?;
        Ok(Arc::new(ThrottledScan { inner, delay: self.delay }))
    }
}

#[derive(Debug)]
struct ThrottledScan {
    inner: Arc<dyn Scan>,
    delay: Duration,
}

#[async_trait]
impl Scan for ThrottledScan {
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
        let (batches, delay) = (self.inner.open_for(partition, context).await?, self.delay);
        let slow = headwater_source::futures::stream::unfold(batches, move |mut batches| async move {
            tokio::time::sleep(delay).await;
            batches.next().await.map(|batch| (batch, batches))
        });
        Ok(slow.boxed())
    }
}
