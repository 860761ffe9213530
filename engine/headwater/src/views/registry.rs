//! The views of an engine: their definitions, the maintenance behind them, and the services that are followed for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use headwater_federation::Catalog;
use headwater_views::{Maintenance, Options, Published, Report, Vector, ViewId, ViewState};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

use super::ask::ViewName;
use super::clock;
use super::cover::Shape;
use super::feed::Followed;
use super::files::ViewFiles;
use super::history::{Bounds, History};
use super::journal::Frame;
use super::place::StateStore;
use super::store::{New, Store};
use super::subscribe::ViewDelta;
use crate::access::Sight;
use crate::access::guard::may_read;
use crate::{Engine, Error, Result};

/// How an engine keeps its views.
#[derive(Debug, Clone)]
pub struct ViewOptions {
    /// Where definitions and checkpoints are kept. Without it, views last as long as the engine and are read from their sources anew by the next.
    pub state: Option<StateStore>,
    /// How often what changed is written there. Default 10 s.
    pub checkpoint_interval: Duration,
    /// How often a source without a feed is read anew. Default 60 s.
    pub poll_interval: Duration,
    /// The same for services by their names; a manifest's `feed: {mode: poll, interval_seconds: ...}` comes first.
    pub poll_intervals: BTreeMap<String, Duration>,
    /// How often a source is asked where its log ends, which tells how stale its views are. Default 1 s.
    pub head_interval: Duration,
    /// How long there is at least between two epochs that happen only because the time goes on, for views that read now(). Default 100 ms.
    pub clock_interval: Duration,
    /// How long a query waits for views that are not as fresh as it demands. Default 30 s.
    pub stale_wait: Duration,
    /// Changed rows that an epoch takes at most, but for a single transaction with more. Default 100,000.
    pub epoch_rows: usize,
    /// How many epochs that changed a view are kept for those who subscribe to it: so far a subscriber may be behind, or go on from. Default 4,096.
    pub history_epochs: usize,
    /// How many bytes they may take for each view, but for a single epoch that takes more. Default 64 MiB.
    pub history_bytes: usize,
    /// How many subscriptions there may be at a time. Default 1,000.
    pub subscriptions_max: usize,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            state: None,
            checkpoint_interval: Duration::from_secs(10),
            poll_interval: Duration::from_secs(60),
            poll_intervals: BTreeMap::new(),
            head_interval: Duration::from_secs(1),
            clock_interval: Duration::from_millis(100),
            stale_wait: Duration::from_secs(30),
            epoch_rows: 100_000,
            history_epochs: 4_096,
            history_bytes: 64 << 20,
            subscriptions_max: 1_000,
        }
    }
}

impl ViewOptions {
    /// How long after a reading a service without a feed is read again.
    pub(super) fn poll_interval_of(&self, service: &str) -> Duration {
        self.poll_intervals.get(service).copied().unwrap_or(self.poll_interval)
    }

    pub(super) fn history(&self) -> Bounds {
        Bounds { epochs: self.history_epochs, bytes: self.history_bytes }
    }
}

/// The views of an engine. Its tasks end when it is dropped.
#[derive(Debug)]
pub(crate) struct Views {
    shared: Arc<Shared>,
}

/// What the tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) options: ViewOptions,
    pub(super) catalog: Arc<Catalog>,
    pub(super) core: Mutex<Maintenance>,
    pub(super) published: Published,
    /// The number of the newest epoch, for those who wait for one; also sent when a source's head was seen.
    pub(super) news: watch::Sender<u64>,
    /// The next moment at which a view changes by itself.
    pub(super) next_moment: watch::Sender<Option<i64>>,
    pub(super) histories: Mutex<BTreeMap<ViewId, Arc<History>>>,
    pub(super) subscribers: Arc<Semaphore>,
    pub(super) definitions: RwLock<BTreeMap<ViewName, Definition>>,
    pub(super) followed: RwLock<BTreeMap<String, Arc<Followed>>>,
    /// Services whose views are not shown before they have come to where the log ended when the engine started: what was shown before a restart
    /// was never ahead of that.
    pub(super) behind: Mutex<BTreeSet<String>>,
    pub(super) store: Option<Store>,
    /// One first journal of a view at a time is written, so that no more threads wait for it.
    pub(super) keeping: Arc<tokio::sync::Mutex<()>>,
    /// One statement that defines views at a time.
    pub(super) defining: tokio::sync::Mutex<()>,
    /// The views of the state directory are being brought back, and no source is followed yet.
    pub(super) restoring: AtomicBool,
    /// Views of the state directory and of files that are not back yet.
    pub(super) returning: watch::Sender<Vec<New>>,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

/// A view as it was created.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) view: ViewId,
    /// What its journal is known by; one that is replaced has another.
    pub(super) id: String,
    pub(crate) sql: String,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    /// Whether it reads now().
    pub(crate) tells_time: bool,
    /// The search path under which the query's names were looked up.
    pub(crate) search_path: Vec<String>,
    /// The file that defines it; `None` where it was made by SQL.
    pub(crate) file: Option<String>,
    /// What queries it may answer.
    pub(crate) shape: Arc<Shape>,
}

/// The bits of an epoch's number below the millisecond in which its engine started: an engine without a checkpoint begins with numbers that none
/// before it has come to, so long as those made no more epochs than this leaves for each millisecond. Such numbers fit 53 bits until 2248.
const EPOCH_BITS: u32 = 10;

impl Views {
    /// Opens the registry; what a state directory holds of tables is there at once, and the views follow by `restore`.
    pub(crate) fn open(catalog: Arc<Catalog>, options: ViewOptions, view_memory_bytes: u64) -> Result<Arc<Self>> {
        let view_memory_bytes = usize::try_from(view_memory_bytes).unwrap_or(usize::MAX);
        let epoch_rows = options.epoch_rows;
        let limits = Options { view_memory_bytes, epoch_rows, first_epoch: first_epoch(), ..Options::default() };
        let subscribers = Arc::new(Semaphore::new(options.subscriptions_max.min(Semaphore::MAX_PERMITS)));
        let store = options.state.as_ref().map(Store::open).transpose()?;
        let core = match &store {
            Some(store) => store.restore(limits)?,
            None => Maintenance::new(limits),
        };
        let published = core.reader();
        let behind = published.latest().vector.iter().map(|(service, _)| service.to_owned()).collect();
        let shared = Arc::new(Shared {
            options,
            catalog,
            core: Mutex::new(core),
            published,
            news: watch::Sender::new(0),
            next_moment: watch::Sender::new(None),
            histories: Mutex::default(),
            subscribers,
            definitions: RwLock::default(),
            followed: RwLock::default(),
            behind: Mutex::new(behind),
            store,
            keeping: Arc::default(),
            defining: tokio::sync::Mutex::default(),
            restoring: AtomicBool::new(false),
            returning: watch::Sender::new(vec![]),
            tasks: Mutex::default(),
        });
        Ok(Arc::new(Self { shared }))
    }

    /// Brings the views of the state directory back, and stores what changes from now on.
    pub(crate) fn start(&self, engine: &Engine, files: Option<&ViewFiles>) -> Result<()> {
        let stored = self.shared.stored_definitions()?;
        let views = match files {
            Some(files) => files.over(stored, &engine.session().search_path()),
            None => stored,
        };
        self.shared.spawn(Arc::clone(&self.shared).keep_time());
        if self.shared.store.is_some() {
            self.shared.spawn(Arc::clone(&self.shared).keep());
        }
        if !views.is_empty() {
            self.shared.restoring.store(true, Ordering::SeqCst);
            self.shared.returning.send_replace(views);
            // Those that got a name for their journal just now keep it.
            self.shared.store_definitions()?;
            self.shared.spawn(Arc::clone(&self.shared).recreate(engine.downgrade()));
        }
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.shared.tasks.lock().iter().for_each(tokio::task::AbortHandle::abort);
        self.shared.followed.read().values().for_each(|followed| followed.stop());
        if let Some(store) = &self.shared.store {
            store.close();
        }
    }
}

impl Shared {
    /// A task that ends with the engine.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle.clone());
        handle
    }

    /// Works on the maintenance on a thread that may block.
    pub(super) async fn with_core<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Maintenance) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut core = shared.core.lock();
            core.set_clock(clock::now());
            work(&mut core)
        })
        .await;
        done.map_err(|error| refused("keeping views", &format!("the maintenance stopped: {error}")))
    }

    /// Epochs until nothing waits that could come, and every view is at the time.
    pub(super) fn step(&self, core: &mut Maintenance) {
        loop {
            let report = core.step();
            let more = report.more;
            self.deliver(report);
            if !more {
                return;
            }
        }
    }

    /// Tells of what an epoch did. Called under the maintenance's lock, so that subscribers see epochs in their order.
    pub(super) fn deliver(&self, report: Report) {
        for (view, error) in &report.failed_views {
            let name = self.name_of(*view);
            warn!(view = name, error = error.report(), "materialized view stopped");
        }
        for (source, error) in &report.failed_sources {
            error!(
                ?source,
                error = error.report(),
                "changes of a source do not fit its rows; its tables are read anew"
            );
        }
        let Some(epoch) = report.epoch else { return };
        self.next_moment.send_if_modified(|known| std::mem::replace(known, report.next_moment) != report.next_moment);
        for change in report.changes {
            let vector = epoch.view(change.view).map_or_else(Vector::default, |shown| shown.vector.clone());
            let history = self.history(change.view);
            match change.first {
                true => history.begin(epoch.number, vector),
                false => {
                    let (epoch, delta) = (epoch.number, change.delta);
                    let told = ViewDelta { epoch, vector, delta, restarted: false };
                    self.note(&history, &Frame::Delta(&told));
                    history.push(Arc::new(told));
                }
            }
        }
        self.news.send_replace(epoch.number);
    }

    pub(super) fn name_of(&self, view: ViewId) -> String {
        let definitions = self.definitions.read();
        let found = definitions.iter().find(|(_, definition)| definition.view == view);
        found.map_or_else(|| "?".to_owned(), |(name, _)| name.to_string())
    }

    pub(crate) fn definition(&self, name: &ViewName) -> Result<Definition> {
        let found = self.definitions.read().get(name).cloned();
        found.ok_or_else(|| self.unknown(name, None))
    }

    /// The error of a name that no view has, with a hint at one that whoever asks may know of.
    pub(crate) fn unknown(&self, name: &ViewName, sight: Option<&Sight>) -> Error {
        let definitions = self.definitions.read();
        let known = definitions.iter().filter(|(_, definition)| may_read(sight, &definition.shape.table));
        let known: Vec<String> = known.map(|(name, _)| name.to_string()).collect();
        let hint = headwater_source::nearest(&name.to_string(), known.iter().map(String::as_str))
            .map(|name| format!("; did you mean \"{name}\"?"))
            .unwrap_or_default();
        refused(&format!("materialized view \"{name}\""), &format!("there is none of that name{hint}"))
    }

    /// Waits until a view is shown or has failed, for at most so long. Its state then.
    pub(super) async fn settled(self: &Arc<Self>, view: ViewId, limit: Duration) -> ViewState {
        let mut news = self.news.subscribe();
        let settled = async {
            loop {
                match self.with_core(move |core| core.view_status(view)).await {
                    Ok(Ok(status)) if status.state == ViewState::Loading => {}
                    Ok(Ok(status)) => return status.state,
                    Ok(Err(error)) => return ViewState::Failed(error.report()),
                    Err(error) => return ViewState::Failed(error.report()),
                }
                if news.changed().await.is_err() {
                    return ViewState::Loading;
                }
            }
        };
        tokio::time::timeout(limit, settled).await.unwrap_or(ViewState::Loading)
    }

    /// A service has come to where its log ended when the engine started.
    pub(super) fn caught_up(&self, service: &str) {
        if self.behind.lock().remove(service) {
            info!(service, "views are as fresh as before the restart");
            self.news.send_modify(|_| {});
        }
    }
}

/// A number of epochs that no engine before this one has come to.
fn first_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() << EPOCH_BITS
}

pub(super) fn refused(what: &str, reason: &str) -> Error {
    Error::Refused { what: what.to_owned(), reason: reason.to_owned() }
}
