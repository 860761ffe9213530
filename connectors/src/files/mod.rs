//! Reads the files of a service as tables: Parquet, CSV, newline-delimited JSON and Arrow IPC, on this machine or in an object store.
//!
//! A table is a file, a directory or a glob under the source's `url`; directories named `key=value` add columns. Every query lists the
//! files anew and looks into those that changed, so a changed schema is noticed before the first row; every read is pinned to
//! the version that was listed, so a file that is replaced meanwhile is an error and never a mixture.
//!
//! # What was rejected
//! - DataFusion's `ListingTable`: its errors do not name the file, it caches listings, and it reads a replaced file as it comes.
//! - DataFusion's CSV and JSON scans: they ignore a NULL text, read 1.5 as the integer 1, and split quoted line breaks.
//! - Sorting here: the engine sorts as well, and files have no index that would make a top-N cheaper.

mod adapt;
mod config;
mod discover;
mod error;
mod feed;
mod infer;
mod left;
mod pinned;
mod read;
mod scan;
mod statistics;
mod store;
mod table;
mod text;
mod translate;
mod types;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{
    Capabilities, Connector, Error, FeedDef, FeedOptions, OpenContext, Operator, OptionDef, Options, Result, Rule,
    Scan, ScanRequest, Source, Support, TableDef, TableStatistics, ValueClass,
};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parking_lot::Mutex;

use config::Config;
use discover::{Format, Listed, Listing};
use error::{Failure, Site};
use feed::{FilesFeed, Followed};
use infer::Shape;
use scan::FilesScan;
use store::{Place, Root};
use table::Table;

/// How many files are looked into at once.
const INFER_AT_ONCE: usize = 16;

/// How many files' shapes are remembered; past it, all are forgotten.
const SHAPES_MAX: usize = 200_000;

/// The kind of source that reads files.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilesConnector;

impl Connector for FilesConnector {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn options(&self) -> &'static [OptionDef] {
        config::OPTIONS
    }

    fn feeds(&self) -> &'static [FeedDef] {
        feed::FEEDS
    }

    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FilesSource::open(context, options)?))
    }

    fn open_followed(
        &self,
        context: OpenContext<'_>,
        options: &Options,
        feed: &FeedOptions,
    ) -> Result<Arc<dyn Source>> {
        let source = Arc::new(FilesSource::open(context, options)?);
        let feed = Arc::new(FilesFeed::new(Arc::clone(&source), feed));
        Ok(Arc::new(Followed { source, feed }))
    }
}

/// The filters are applied by Arrow to the very values that are yielded, so everything that compares is exact.
const RULES: &[Rule] = &[
    (Operator::Equal, ValueClass::Boolean, Support::Exact),
    (Operator::Equal, ValueClass::Integer, Support::Exact),
    (Operator::Equal, ValueClass::Float, Support::Exact),
    (Operator::Equal, ValueClass::Decimal, Support::Exact),
    (Operator::Equal, ValueClass::Text, Support::Exact),
    (Operator::Equal, ValueClass::Bytes, Support::Exact),
    (Operator::Equal, ValueClass::Date, Support::Exact),
    (Operator::Equal, ValueClass::Time, Support::Exact),
    (Operator::Equal, ValueClass::Timestamp, Support::Exact),
    (Operator::Equal, ValueClass::TimestampTz, Support::Exact),
    (Operator::NotEqual, ValueClass::Boolean, Support::Exact),
    (Operator::NotEqual, ValueClass::Integer, Support::Exact),
    (Operator::NotEqual, ValueClass::Float, Support::Exact),
    (Operator::NotEqual, ValueClass::Decimal, Support::Exact),
    (Operator::NotEqual, ValueClass::Text, Support::Exact),
    (Operator::NotEqual, ValueClass::Bytes, Support::Exact),
    (Operator::NotEqual, ValueClass::Date, Support::Exact),
    (Operator::NotEqual, ValueClass::Time, Support::Exact),
    (Operator::NotEqual, ValueClass::Timestamp, Support::Exact),
    (Operator::NotEqual, ValueClass::TimestampTz, Support::Exact),
    (Operator::Order, ValueClass::Boolean, Support::Exact),
    (Operator::Order, ValueClass::Integer, Support::Exact),
    (Operator::Order, ValueClass::Float, Support::Exact),
    (Operator::Order, ValueClass::Decimal, Support::Exact),
    (Operator::Order, ValueClass::Text, Support::Exact),
    (Operator::Order, ValueClass::Bytes, Support::Exact),
    (Operator::Order, ValueClass::Date, Support::Exact),
    (Operator::Order, ValueClass::Time, Support::Exact),
    (Operator::Order, ValueClass::Timestamp, Support::Exact),
    (Operator::Order, ValueClass::TimestampTz, Support::Exact),
    (Operator::IsNull, ValueClass::Boolean, Support::Exact),
    (Operator::IsNull, ValueClass::Integer, Support::Exact),
    (Operator::IsNull, ValueClass::Float, Support::Exact),
    (Operator::IsNull, ValueClass::Decimal, Support::Exact),
    (Operator::IsNull, ValueClass::Text, Support::Exact),
    (Operator::IsNull, ValueClass::Bytes, Support::Exact),
    (Operator::IsNull, ValueClass::Date, Support::Exact),
    (Operator::IsNull, ValueClass::Time, Support::Exact),
    (Operator::IsNull, ValueClass::Timestamp, Support::Exact),
    (Operator::IsNull, ValueClass::TimestampTz, Support::Exact),
    (Operator::IsNull, ValueClass::Opaque, Support::Exact),
    (Operator::Like, ValueClass::Text, Support::Exact),
    (Operator::NotLike, ValueClass::Text, Support::Exact),
];

/// What is looked for in a file's rows while they are read.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::new("files", RULES);

/// By file and format: the version that was looked into, and what it holds.
type Shapes = HashMap<(Path, Format), (ObjectMeta, Arc<Shape>)>;

#[derive(Debug)]
struct FilesSource {
    config: Config,
    location: String,
    /// An object store's client, kept for its connections. A local directory is opened anew each time, so that it may come later.
    root: Mutex<Option<Root>>,
    /// What was found in a file, as long as it is the same version.
    shapes: Mutex<Shapes>,
}

#[async_trait]
impl Source for FilesSource {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        let site = self.site("");
        let root = self.root().await.map_err(|failure| site.store(failure))?;
        let found = root.tables(self.config.format).await.map_err(|failure| site.store(failure))?;
        let mut tables = vec![];
        for table in found {
            match self.describe(&root, &table.from).await {
                Ok(Some(described)) => tables.push(TableDef { name: table.name, ..described.def }),
                Ok(None) => {}
                Err(failure @ Failure::Store(_)) => return Err(site.store(failure)),
                // One unreadable file hides neither the others nor itself: a query on it says what is wrong.
                Err(failure) => {
                    let error = self.site(&table.from).file(&table.from, failure);
                    tracing::warn!(service = %self.config.service, table = table.from, error = error.report(), "table left out");
                }
            }
        }
        Ok(tables)
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        let site = self.site(from);
        let root = self.root().await.map_err(|failure| site.store(failure))?;
        let failed = |failure| match failure {
            failure @ Failure::Store(_) => site.store(failure),
            failure => site.file(from, failure),
        };
        if let Some(table) = self.describe(&root, from).await.map_err(failed)? {
            return Ok(table.def);
        }
        let found = root.tables(self.config.format).await.map_err(failed)?;
        if let Some(named) = discover::by_name(&found, from)
            && let Some(table) = self.describe(&root, &named.from).await.map_err(failed)?
        {
            return Ok(table.def);
        }
        let known = discover::known(&found, from);
        Err(Error::TableNotFound { service: self.config.service.clone(), table: from.to_owned(), known })
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        let from = table.path.last().map(String::as_str).unwrap_or_default();
        let site = self.site(from);
        let root = self.root().await.map_err(|failure| site.store(failure))?;
        let failed = |failure| match failure {
            failure @ Failure::Store(_) => site.store(failure),
            failure => site.file(from, failure),
        };
        match self.describe(&root, from).await.map_err(failed)? {
            Some(table) => statistics::of(Arc::clone(&root.store), &table).await.map_err(failed),
            None => Ok(None),
        }
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        let from = request.table.path.last().cloned().unwrap_or_default();
        let site = self.site(&from);
        let root = self.root().await.map_err(|failure| site.store(failure))?;
        let failed = |failure| match failure {
            failure @ Failure::Store(_) => site.store(failure),
            failure => site.file(&from, failure),
        };
        let changed =
            |change: String| Error::SchemaChanged { service: self.config.service.clone(), table: from.clone(), change };
        let table = self.describe(&root, &from).await.map_err(failed)?;
        let table = table.ok_or_else(|| changed("its files are gone".to_owned()))?;
        if let Some(change) = table.change_since(&request.table) {
            return Err(changed(change));
        }
        let store = Arc::clone(&root.store);
        let scan = FilesScan::plan(&self.config, store, site.clone(), table, request).map_err(failed)?;
        Ok(Arc::new(scan))
    }
}

impl FilesSource {
    fn open(context: OpenContext<'_>, options: &Options) -> Result<Self> {
        let config = Config::parse(context, options)?;
        let location = config.place.describe(config.store.endpoint.as_deref());
        Ok(Self { config, location, root: Mutex::new(None), shapes: Mutex::new(HashMap::new()) })
    }

    fn site(&self, table: &str) -> Site {
        Site { service: self.config.service.clone(), location: self.location.clone(), table: table.to_owned() }
    }

    async fn root(&self) -> Result<Root, Failure> {
        let kept = self.root.lock().clone();
        if let Some(root) = kept {
            return Ok(root);
        }
        let root = Root::open(&self.config).await?;
        if matches!(self.config.place, Place::Remote { .. }) {
            *self.root.lock() = Some(root.clone());
        }
        Ok(root)
    }

    /// The table as its files are now, or `None` where there are none.
    async fn describe(&self, root: &Root, from: &str) -> Result<Option<Table>, Failure> {
        let Some(listing) = root.resolve(from, self.config.format).await? else { return Ok(None) };
        let shapes = self.shapes(root, &listing).await?;
        Table::build(listing, shapes, &self.root_name()).map(Some)
    }

    async fn shapes(&self, root: &Root, listing: &Listing) -> Result<Vec<Arc<Shape>>, Failure> {
        let looked =
            stream::iter(listing.files.clone()).map(|file| self.shape(Arc::clone(&root.store), file, listing.format));
        looked.buffered(INFER_AT_ONCE).try_collect().await
    }

    async fn shape(&self, store: Arc<dyn ObjectStore>, file: Listed, format: Format) -> Result<Arc<Shape>, Failure> {
        let key = (file.meta.location.clone(), format);
        let kept = self.shapes.lock().get(&key).filter(|(meta, _)| pinned::same_version(meta, &file.meta)).cloned();
        if let Some((_, shape)) = kept {
            return Ok(shape);
        }
        let site = self.site(&file.name);
        let shape = infer::shape(&self.config, store, &file, format).await;
        let shape = Arc::new(shape.map_err(|failure| named(&site, &file.name, failure))?);
        let mut shapes = self.shapes.lock();
        if shapes.len() >= SHAPES_MAX {
            shapes.clear();
        }
        shapes.insert(key, (file.meta, Arc::clone(&shape)));
        Ok(shape)
    }

    fn root_name(&self) -> String {
        match &self.config.place {
            Place::Local(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            Place::Remote { bucket, prefix, .. } => prefix.filename().unwrap_or(bucket).to_owned(),
        }
    }
}

/// Fixes which file a decoder complained of, while it is known. A store's failure stays one.
fn named(site: &Site, file: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Store(error @ (object_store::Error::NotFound { .. } | object_store::Error::Precondition { .. })) => {
            site.file(file, Failure::Store(error)).into()
        }
        failure @ Failure::Store(_) => failure,
        failure => site.file(file, failure).into(),
    }
}
