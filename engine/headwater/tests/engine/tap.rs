//! A source whose streams flow or hang as a test wants, and that knows how many of them are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use headwater_source::futures::{StreamExt, stream};
use headwater_source::{
    BatchStream, Capabilities, ColumnDef, Error, RemoteStatement, Result, Scan, ScanRequest, ServiceName, Source,
    TableDef, ValueClass, async_trait,
};

const CAPABILITIES: Capabilities = Capabilities::new("tap", &[]);

/// A table `drops(id)` with rows 0, 1, 2, ...
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    flow: Flow,
    streams: Arc<Streams>,
}

/// How a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// No row ever comes.
    Never,
    /// One batch, and then nothing more, but no end.
    Once,
    /// So many batches, with a pause for others to run before each.
    Batches(usize),
}

#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    most: AtomicUsize,
}

/// A stream that is open. Dropping it closes it.
struct Open(Arc<Streams>);

impl Tap {
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, streams: Arc::default() }
    }

    /// How many streams are open.
    pub(crate) fn open(&self) -> usize {
        self.streams.open.load(Ordering::SeqCst)
    }

    /// How many streams were open at a time, at most.
    pub(crate) fn most(&self) -> usize {
        self.streams.most.load(Ordering::SeqCst)
    }
}

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        let open = streams.open.fetch_add(1, Ordering::SeqCst) + 1;
        streams.most.fetch_max(open, Ordering::SeqCst);
        Self(Arc::clone(streams))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Source for Tap {
    fn location(&self) -> String {
        "tap".to_owned()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let id = ColumnDef::new("id", DataType::Int64, "integer", ValueClass::Integer);
        Ok(vec![TableDef::new(["drops"], vec![id])])
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let tables = self.tables().await?;
        tables.into_iter().find(|table| table.name == from).ok_or_else(|| Error::TableNotFound {
            service: ServiceName::parse("tap").expect("a name"),
            table: from.to_owned(),
            known: vec!["drops".to_owned()],
        })
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        let statement = RemoteStatement { text: "drops".to_owned(), binds: vec![] };
        Ok(Arc::new(TapScan { tap: self.clone(), schema: request.schema(), statement }))
    }
}

#[derive(Debug)]
struct TapScan {
    tap: Tap,
    schema: SchemaRef,
    statement: RemoteStatement,
}

/// The rows of a batch.
const ROWS: usize = 100;

fn batch(schema: &SchemaRef, number: usize) -> RecordBatch {
    let first = (number * ROWS) as i64;
    let ids = Int64Array::from_iter_values(first..first + ROWS as i64);
    match schema.fields().is_empty() {
        true => RecordBatch::try_new_with_options(
            Arc::clone(schema),
            vec![],
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(ROWS)),
        ),
        false => RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(ids)]),
    }
    .expect("a batch")
}

#[async_trait]
impl Scan for TapScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    async fn open(&self, _: usize) -> Result<BatchStream> {
        let open = Open::new(&self.tap.streams);
        let schema = Arc::clone(&self.schema);
        let count = match self.tap.flow {
            Flow::Never => 0,
            Flow::Once => 1,
            Flow::Batches(count) => count,
        };
        let batches = stream::iter(0..count).then(move |number| {
            let batch = batch(&schema, number);
            async move {
                tokio::task::yield_now().await;
                Ok(batch)
            }
        });
        let held = move |item| {
            let _held = &open;
            item
        };
        Ok(match self.tap.flow {
            Flow::Batches(_) => batches.map(held).boxed(),
            Flow::Never | Flow::Once => batches.chain(stream::pending()).map(held).boxed(),
        })
    }
}
