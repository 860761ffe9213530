//! The task of a service with a feed: its tables once, then every transaction, and again from where it was when the source went away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use headwater_source::{Error as SourceError, Feed, FeedClass, Position, TableDef, Transaction};
use headwater_views::{Error as ViewError, Loader, SourceId, TableId};
use tracing::{info, warn};

use super::feed::{Followed, Stage};
use super::registry::Shared;
use crate::{Error, Result};

/// Rows of transactions that may wait, because they depend on what has not come, before the source is read no further.
const WAITING_ROWS_MAX: usize = 1_000_000;

/// Transactions that are taken at once where they are there already.
const TRANSACTIONS_MAX: usize = 1_024;

/// The wait before a source is tried again: doubled at each failure, from this.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before a source is tried again.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Follows a service until the engine ends.
pub(super) async fn follow(shared: Arc<Shared>, followed: Arc<Followed>, feed: Arc<dyn Feed>) {
    let mut attempt = 0_u32;
    let mut anew = false;
    loop {
        let began = Instant::now();
        match follow_once(&shared, &followed, &feed, anew).await {
            // Other tables are wanted.
            Ok(()) => (attempt, anew) = (0, false),
            Err(error) => {
                anew = needs_snapshot(&shared, &followed, &error).await;
                attempt = if began.elapsed() > BACKOFF_MAX { 0 } else { attempt + 1 };
                let backoff = (BACKOFF_MIN * 2_u32.saturating_pow(attempt.min(10))).min(BACKOFF_MAX);
                let service = followed.name();
                warn!(
                    service,
                    attempt,
                    backoff_ms = backoff.as_millis() as u64,
                    error = error.report(),
                    "change feed stopped"
                );
                followed.fail(error.report());
                shared.news.send_modify(|_| {});
                tokio::time::sleep(backoff).await;
            }
        }
    }
}

/// Whether the tables have to be read anew: what the source held for us is gone, or its changes do not fit.
async fn needs_snapshot(shared: &Arc<Shared>, followed: &Followed, error: &Error) -> bool {
    let source = followed.source;
    let status = shared.with_core(move |core| core.source_status(source)).await;
    let broken = matches!(status, Ok(Ok(status)) if status.failed.is_some());
    let began_anew = matches!(error, Error::View(error) if matches!(**error, ViewError::Order { .. }));
    broken
        || began_anew
        || matches!(error.source_error(), Some(SourceError::HistoryGone { .. } | SourceError::SchemaChanged { .. }))
}

async fn follow_once(shared: &Arc<Shared>, followed: &Arc<Followed>, feed: &Arc<dyn Feed>, anew: bool) -> Result<()> {
    let mut wanted = followed.tables.subscribe();
    let (ids, definitions): (Vec<TableId>, Vec<TableDef>) =
        wanted.borrow_and_update().iter().map(|wanted| (wanted.id, (*wanted.definition).clone())).unzip();
    if ids.is_empty() {
        // Nothing is read any more, so the source need not keep anything; the next view wakes the task.
        for removed in feed.remove().await? {
            info!(service = followed.name(), removed, "feed taken away, since no view reads the service");
        }
        followed.enter(Stage::Idle);
        let _ = wanted.changed().await;
        return Ok(());
    }
    feed.install(&definitions).await?;
    let (source, needed) = (followed.source, ids.clone());
    let resumed = shared.with_core(move |core| {
        core.unload_others(source, &needed)?;
        if anew || !core.are_loaded(&needed) { Ok(None) } else { core.restart(source) }
    });
    let after = match resumed.await?.map_err(Error::from)? {
        Some(position) => feed.resume(position.order(), position.token())?,
        None => load(shared, followed, feed, &ids, &definitions, anew).await?,
    };
    let mut changes = feed.changes(&definitions, &after).await?;
    followed.enter(Stage::Following);
    info!(service = followed.name(), position = %after, "following changes");
    let started = (Instant::now(), feed.head().await?);
    let floor = started.1.clone();
    followed.saw_head(started.0, started.1);
    let (end, delivering) = (floor.clone(), Arc::clone(shared));
    shared.with_core(move |core| core.settle_restart(source, end).map(|report| delivering.deliver(report))).await??;
    if after >= floor {
        shared.caught_up(followed.name());
    }
    let mut heads = tokio::time::interval(shared.options.head_interval);
    heads.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut news = shared.news.subscribe();
    let mut is_full = false;
    loop {
        tokio::select! {
            _ = wanted.changed() => return Ok(()),
            _ = heads.tick() => {
                let at = Instant::now();
                followed.saw_head(at, feed.head().await?);
                if shared.store.is_none() {
                    acknowledge(shared, followed, feed).await?;
                }
                shared.news.send_modify(|_| {});
            }
            // Another source's epoch may have let go what waits here.
            _ = news.changed(), if is_full => {
                let status = shared.with_core(move |core| core.source_status(source)).await??;
                is_full = status.waiting_rows > WAITING_ROWS_MAX;
            }
            next = changes.next(), if !is_full => {
                let Some(first) = next else {
                    return Err(SourceError::config("the feed ended without an error").into());
                };
                let mut taken = vec![first?];
                while taken.len() < TRANSACTIONS_MAX
                    && let Some(Some(more)) = changes.next().now_or_never()
                {
                    taken.push(more?);
                }
                is_full = apply(shared, followed, &ids, taken).await? > WAITING_ROWS_MAX;
                let position = shared.published.latest().vector.position(followed.name()).cloned();
                if position.is_some_and(|position| position >= floor) {
                    shared.caught_up(followed.name());
                }
            }
        }
    }
}

/// Transactions go into the maintenance, and epochs follow. How many rows still wait.
async fn apply(shared: &Arc<Shared>, followed: &Followed, ids: &[TableId], taken: Vec<Transaction>) -> Result<usize> {
    let (source, ids, delivering) = (followed.source, ids.to_vec(), Arc::clone(shared));
    let applied = shared.with_core(move |core| {
        taken.into_iter().try_for_each(|transaction| core.offer(source, transaction, &ids))?;
        delivering.step(core);
        core.source_status(source)
    });
    let status = applied.await??;
    status.failed.map_or(Ok(status.waiting_rows), |reason| Err(SourceError::config(reason).into()))
}

/// Without a state directory nothing is read on after a restart: what is applied may be forgotten.
async fn acknowledge(shared: &Shared, followed: &Followed, feed: &Arc<dyn Feed>) -> Result<()> {
    let position = shared.published.latest().vector.position(followed.name()).cloned();
    if let Some(position) = position {
        feed.acknowledge(&position).await?;
    }
    Ok(())
}

/// Reads all tables at one position; `anew` where what was held of the source is no use any more.
async fn load(
    shared: &Arc<Shared>,
    followed: &Arc<Followed>,
    feed: &Arc<dyn Feed>,
    ids: &[TableId],
    definitions: &[TableDef],
    anew: bool,
) -> Result<Position> {
    followed.enter(Stage::Loading);
    followed.loaded_rows.store(0, Ordering::Relaxed);
    let at = Instant::now();
    let snapshot = feed.snapshot(definitions).await?;
    let position = snapshot.position.clone();
    info!(service = followed.name(), %position, tables = ids.len(), "reading tables");
    let mut loaders = Vec::with_capacity(ids.len());
    for (id, mut rows) in ids.iter().zip(snapshot.tables) {
        let mut loader = loader(shared, *id).await?;
        while let Some(batch) = rows.next().await {
            loader = pushed(followed, loader, batch?).await?;
        }
        loaders.push(loader);
    }
    let (source, begun) = (followed.source, position.clone());
    shared
        .with_core(move |core| {
            let held = core.source_status(source)?.position;
            // A log that was thrown away counts from its beginning again.
            if anew && held.is_some_and(|held| held > begun) { core.begin_history(source) } else { Ok(()) }
        })
        .await??;
    let (end, delivering) = (position.clone(), Arc::clone(shared));
    let unsettled = shared.with_core(move |core| {
        core.load(source, end, loaders).map(|mut report| {
            let unsettled = std::mem::take(&mut report.unsettled);
            delivering.deliver(report);
            unsettled
        })
    });
    for other in unsettled.await?? {
        shared.spawn(tell_end(Arc::clone(shared), other));
    }
    followed.snapshots.fetch_add(1, Ordering::Relaxed);
    followed.saw_head(at, position.clone());
    Ok(position)
}

/// Where the rows of a table are collected.
pub(super) async fn loader(shared: &Arc<Shared>, table: TableId) -> Result<Loader> {
    Ok(shared.with_core(move |core| core.loader(table)).await??)
}

/// Adds a batch of a snapshot on a thread that may block.
pub(super) async fn pushed(
    followed: &Arc<Followed>,
    mut loader: Loader,
    batch: arrow::record_batch::RecordBatch,
) -> Result<Loader> {
    followed.loaded_rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    let pushed = tokio::task::spawn_blocking(move || loader.push(&batch).map(|()| loader)).await;
    let pushed = pushed.map_err(|error| super::registry::refused("reading a table", &error.to_string()))?;
    Ok(pushed?)
}

/// Tells where a source's log ends now, once the source answers: views over it and what was just loaded wait for that.
async fn tell_end(shared: Arc<Shared>, source: SourceId) {
    let end = end_of(&shared, source).await;
    let delivering = Arc::clone(&shared);
    let told = shared.with_core(move |core| core.settle(source, end).map(|report| delivering.deliver(report))).await;
    if let Err(error) = told.and_then(|told| told.map_err(Error::from)) {
        warn!(?source, error = error.report(), "the end of a source's log could not be told");
    }
}

/// `None` where nothing is followed that has an end.
async fn end_of(shared: &Arc<Shared>, source: SourceId) -> Option<Position> {
    loop {
        let followed = shared.followed.read().values().find(|followed| followed.source == source).cloned()?;
        let feed = followed.feed.as_ref().filter(|feed| feed.class() == FeedClass::Transactional)?;
        let at = Instant::now();
        match feed.head().await {
            Ok(end) => {
                followed.saw_head(at, end.clone());
                return Some(end);
            }
            // What is loaded next is newer than what asked.
            Err(_) if followed.stage().0 == Stage::Idle => return None,
            Err(_) => tokio::time::sleep(BACKOFF_MIN).await,
        }
    }
}
