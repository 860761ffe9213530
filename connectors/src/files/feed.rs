//! Changes by listings: `feed: {mode: listing}`. Files do not change, they come and go; what differs between two listings is what changed.
//!
//! Files that came bring their rows. What a file held that is gone, or that another has replaced, is nowhere any more: then the table is
//! emptied and all of its files are read anew. A file is told from another by its path, its ETag or else its time, and its size.
//!
//! A position is the time of a listing, in microseconds since 1970, and a digest of each table's listing. It promises less than that of a
//! database ([`FeedClass::Listing`]): who writes several files is seen between them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::stream::{self, TryStreamExt};
use headwater_source::{
    BatchStream, Capabilities, Change, Error, Feed, FeedClass, FeedDef, FeedOptions, FeedStatus, Lack, OptionDef,
    OptionKind, Position, Result, RowChanges, RowOp, Scan, ScanRequest, Source, TableChange, TableDef, TableStatistics,
    TablesAt, Transaction, TransactionStream,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::FilesSource;
use super::discover::Listed;
use super::error::Failure;
use super::scan::FilesScan;
use super::table::Table;

/// The feeds of files.
pub(super) const FEEDS: &[FeedDef] = &[FeedDef { mode: MODE, options: OPTIONS, doc: "What differs between listings." }];

const MODE: &str = "listing";
const POLL_MS: &str = "poll_ms";

const OPTIONS: &[OptionDef] = &[OptionDef {
    name: POLL_MS,
    kind: OptionKind::Count,
    required: false,
    doc: "How often the files are listed, in milliseconds. Default 1000.",
}];

const POLL_MS_DEFAULT: u64 = 1000;

/// So many listings are remembered, to tell which files came since; what is not remembered is read anew.
const LISTINGS_MAX: usize = 256;

/// So often files may be replaced while they are read, one listing after another.
const TRIES: usize = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The files of a table as one listing has them: a text for each.
type Files = Arc<Vec<String>>;

/// A source of files with its feed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) source: Arc<FilesSource>,
    pub(super) feed: Arc<FilesFeed>,
}

/// The changes of one source's files.
pub(super) struct FilesFeed {
    source: Arc<FilesSource>,
    poll: Duration,
    /// The latest place that anybody asked for: a stream moves on to it though nothing came.
    wanted: Arc<AtomicU64>,
    remembered: Mutex<HashMap<String, Files>>,
}

/// A table as one listing has it.
struct Seen {
    digest: String,
    files: Files,
    table: Option<Table>,
}

impl FilesFeed {
    /// Reads the options.
    pub(super) fn new(source: Arc<FilesSource>, options: &FeedOptions) -> Self {
        let poll = options.options.count(POLL_MS, POLL_MS_DEFAULT).max(1);
        Self { source, poll: Duration::from_millis(poll), wanted: Arc::default(), remembered: Mutex::default() }
    }

    /// What is there now. Files that go between the listing and a look into them make it look again.
    async fn see(&self, tables: &[TableDef]) -> Result<Vec<Seen>> {
        for _ in 1..TRIES {
            match self.see_once(tables).await {
                Err(Error::SchemaChanged { .. }) => tokio::time::sleep(PAUSE).await,
                seen => return seen,
            }
        }
        self.see_once(tables).await
    }

    async fn see_once(&self, tables: &[TableDef]) -> Result<Vec<Seen>> {
        let site = self.source.site("");
        let root = self.source.root().await.map_err(|failure| site.store(failure))?;
        let mut all = Vec::with_capacity(tables.len());
        for table in tables {
            let from = table.path.last().cloned().unwrap_or_default();
            let site = self.source.site(&from);
            let found = self.source.describe(&root, &from).await.map_err(|failure| match failure {
                failure @ Failure::Store(_) => site.store(failure),
                failure => site.file(&from, failure),
            })?;
            if let Some(change) = found.as_ref().and_then(|found| found.change_since(table)) {
                return Err(Error::SchemaChanged { service: site.service, table: from, change });
            }
            let files: Vec<String> = found.iter().flat_map(|found| &found.listing.files).map(version).collect();
            let digest = digest(&files);
            let files = Arc::new(files);
            let mut remembered = self.remembered.lock();
            if remembered.len() >= LISTINGS_MAX {
                remembered.clear();
            }
            remembered.insert(digest.clone(), Arc::clone(&files));
            all.push(Seen { digest, files, table: found });
        }
        Ok(all)
    }

    /// The rows of a table, or of those of its files that are wanted.
    async fn rows(&self, def: &TableDef, table: Table, wanted: impl Fn(&Listed) -> bool) -> Result<Vec<RecordBatch>> {
        let Some(scan) = self.scan(def, table, wanted).await? else { return Ok(vec![]) };
        let mut batches = vec![];
        for partition in 0..scan.partitions() {
            batches.extend(scan.open(partition).await?.try_collect::<Vec<_>>().await?);
        }
        Ok(batches)
    }

    async fn scan(&self, def: &TableDef, table: Table, wanted: impl Fn(&Listed) -> bool) -> Result<Option<FilesScan>> {
        let from = def.path.last().cloned().unwrap_or_default();
        let site = self.source.site(&from);
        let root = self.source.root().await.map_err(|failure| site.store(failure))?;
        let Table { def: now, mut listing, shapes, partitions } = table;
        let mut kept = vec![];
        for (file, shape) in std::mem::take(&mut listing.files).into_iter().zip(shapes) {
            if wanted(&file) {
                listing.files.push(file);
                kept.push(shape);
            }
        }
        if listing.files.is_empty() {
            return Ok(None);
        }
        let table = Table { def: now, listing, shapes: kept, partitions };
        let request = ScanRequest::all(Arc::new(def.clone()));
        let scan = FilesScan::plan(&self.source.config, Arc::clone(&root.store), site.clone(), table, request);
        scan.map(Some).map_err(|failure| site.file(&from, failure))
    }

    /// What differs from what was seen last.
    async fn changes_since(
        &self,
        tables: &[TableDef],
        last: &[Known],
    ) -> Result<Option<(Vec<Known>, Vec<TableChange>)>> {
        let seen = self.see_once(tables).await?;
        if seen.iter().zip(last).all(|(seen, last)| seen.digest == last.digest) {
            return Ok(None);
        }
        let (mut known, mut changes) = (vec![], vec![]);
        for (index, (seen, last)) in seen.into_iter().zip(last).enumerate() {
            known.push(Known { digest: seen.digest.clone(), files: Some(Arc::clone(&seen.files)) });
            if seen.digest == last.digest {
                continue;
            }
            // Only files that came: their rows are all that is new.
            let before = last.files.as_ref().filter(|files| files.iter().all(|file| seen.files.contains(file)));
            if before.is_none() {
                changes.push(TableChange { table: index, change: Change::Truncate });
            }
            let Some(table) = seen.table else { continue };
            let is_new = |file: &Listed| before.is_none_or(|before| !before.contains(&version(file)));
            for batch in self.rows(&tables[index], table, is_new).await? {
                let ops = vec![RowOp::Insert; batch.num_rows()];
                let rows = RecordBatch::try_new(RowChanges::schema(&tables[index]), batch.columns().to_vec());
                let rows = rows.map_err(|error| self.source.site("").file("", Failure::Other(Box::new(error))))?;
                changes
                    .push(TableChange { table: index, change: Change::Rows(RowChanges { rows, ops, kept: vec![] }) });
            }
        }
        Ok(Some((known, changes)))
    }
}

/// What is known of a table's files at a position.
#[derive(Clone)]
struct Known {
    digest: String,
    /// The files, where this process has seen them.
    files: Option<Files>,
}

impl fmt::Debug for FilesFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilesFeed({})", self.source.location)
    }
}

/// What tells a version of a file from all others.
fn version(file: &Listed) -> String {
    let tag = file.meta.e_tag.clone().unwrap_or_else(|| file.meta.last_modified.timestamp_micros().to_string());
    format!("{}\0{tag}\0{}", file.name, file.meta.size)
}

/// FNV-1a over 128 bits: the same in every build, unlike the library's own hashes.
fn digest(files: &[String]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = files.iter().flat_map(|file| file.bytes().chain([0xff]));
    format!("{:032x}", bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
}

/// The time, in microseconds since 1970. A listing's is taken before the files are listed: what is written later is not in it.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// The place of a listing that began at a time.
fn position<'a>(order: u64, tables: &[TableDef], digests: impl Iterator<Item = &'a String>) -> Position {
    let paths = tables.iter().map(|table| table.path.last().cloned().unwrap_or_default());
    let digests: BTreeMap<String, &String> = paths.zip(digests).collect();
    // A map of texts is always JSON.
    Position::new(order, serde_json::to_string(&digests).unwrap_or_default())
}

#[async_trait]
impl Feed for FilesFeed {
    fn mode(&self) -> &'static str {
        MODE
    }

    fn class(&self) -> FeedClass {
        FeedClass::Listing
    }

    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>> {
        self.see(tables).await.map(|_| vec![])
    }

    async fn install(&self, tables: &[TableDef]) -> Result<()> {
        self.see(tables).await.map(|_| ())
    }

    async fn remove(&self) -> Result<Vec<String>> {
        Ok(vec![])
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        let begun = now();
        let seen = self.see(tables).await?;
        let position = position(begun, tables, seen.iter().map(|seen| &seen.digest));
        let mut streams: Vec<BatchStream> = vec![];
        for (def, seen) in tables.iter().zip(seen) {
            let scan = match seen.table {
                Some(table) => self.scan(def, table, |_| true).await?,
                None => None,
            };
            let Some(scan) = scan else {
                streams.push(Box::pin(stream::empty()));
                continue;
            };
            let scan = Arc::new(scan);
            let partitions = stream::iter((0..scan.partitions()).map(Ok));
            let opened = partitions.and_then(move |partition| {
                let scan = Arc::clone(&scan);
                async move { scan.open(partition).await }
            });
            streams.push(Box::pin(opened.try_flatten()));
        }
        Ok(TablesAt { position, tables: streams })
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        let digests: BTreeMap<String, String> =
            serde_json::from_str(after.token()).map_err(|_| Error::Unsupported {
                service: self.source.config.service.clone(),
                reason: format!("a position {:?} that is none of listings", after.token()),
            })?;
        let remembered = self.remembered.lock();
        let known = |table: &TableDef| {
            let digest = digests.get(table.path.last().map(String::as_str).unwrap_or_default()).cloned();
            let digest = digest.unwrap_or_default();
            Known { files: remembered.get(&digest).cloned(), digest }
        };
        let known: Vec<Known> = tables.iter().map(known).collect();
        drop(remembered);
        let feed = Self {
            source: Arc::clone(&self.source),
            poll: self.poll,
            wanted: Arc::clone(&self.wanted),
            remembered: Mutex::default(),
        };
        let (sender, receiver) = mpsc::channel(1);
        let mut watching = Watching { feed, tables: tables.to_vec(), known, place: after.order() };
        tokio::spawn(async move {
            if let Err(error) = watching.run(&sender).await {
                drop(sender.send(Err(error)).await);
            }
        });
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|next| (next, receiver))
        })))
    }

    async fn acknowledge(&self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let now = position(now(), &[], std::iter::empty());
        self.wanted.fetch_max(now.order(), Ordering::AcqRel);
        Ok(now)
    }

    fn covers(&self, _position: &Position, _token: &str) -> Result<bool> {
        Err(Error::Unsupported {
            service: self.source.config.service.clone(),
            reason: "a token: files have none that a writer could get".to_owned(),
        })
    }

    async fn status(&self) -> Result<FeedStatus> {
        Ok(FeedStatus::default())
    }
}

/// A stream's task.
struct Watching {
    feed: FilesFeed,
    tables: Vec<TableDef>,
    known: Vec<Known>,
    place: u64,
}

impl Watching {
    async fn run(&mut self, sender: &mpsc::Sender<Result<Transaction>>) -> Result<()> {
        let mut tick = tokio::time::interval(self.feed.poll);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = sender.closed() => return Ok(()),
            }
            let wanted = self.feed.wanted.load(Ordering::Acquire) > self.place;
            let begun = now();
            let changes = match self.feed.changes_since(&self.tables, &self.known).await {
                Ok(Some((known, changes))) => {
                    self.known = known;
                    changes
                }
                Ok(None) if wanted => vec![],
                Ok(None) => {
                    failures = 0;
                    continue;
                }
                // Replaced while it was read, most likely: the next listing has the new one.
                Err(Error::SchemaChanged { .. }) if failures < TRIES => {
                    failures += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            failures = 0;
            // The clock may have been set back; positions grow all the same.
            let order = begun.max(self.place + 1);
            let position = position(order, &self.tables, self.known.iter().map(|known| &known.digest));
            self.place = position.order();
            let transaction = Transaction { position, committed_us: None, depends_on: vec![], changes };
            if sender.send(Ok(transaction)).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Source for Followed {
    fn location(&self) -> String {
        self.source.location()
    }

    fn capabilities(&self) -> &Capabilities {
        self.source.capabilities()
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.source.tables().await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.source.table(from).await
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        self.source.statistics(table).await
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.source.prepare(request).await
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        Some(Arc::clone(&self.feed) as Arc<dyn Feed>)
    }
}
