//! The task of a service without a feed: its tables are read anew at an interval, and the difference shows.
//!
//! Its class is weaker, and every result says so: a position is the number of a reading, tables of one reading may have been read at
//! different moments, and what came and went between two readings never shows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt;
use headwater_source::{Position, ScanRequest};
use tracing::warn;

use super::feed::{Followed, Stage, Wanted};
use super::follow::{loader, pushed};
use super::registry::Shared;
use crate::Result;

/// Reads a service again and again until the engine ends.
pub(super) async fn poll(shared: Arc<Shared>, followed: Arc<Followed>) {
    let mut tables = followed.tables.subscribe();
    loop {
        let wanted = tables.borrow_and_update().clone();
        if !wanted.is_empty() {
            match poll_once(&shared, &followed, &wanted).await {
                Ok(()) => {
                    followed.enter(Stage::Polling);
                    shared.caught_up(followed.name());
                }
                Err(error) => {
                    warn!(service = followed.name(), error = error.report(), "tables could not be read anew");
                    followed.fail(error.report());
                }
            }
            shared.news.send_modify(|_| {});
        }
        tokio::select! {
            _ = tables.changed() => {}
            () = tokio::time::sleep(shared.options.poll_interval_of(followed.name())) => {}
        }
    }
}

async fn poll_once(shared: &Arc<Shared>, followed: &Arc<Followed>, wanted: &[Wanted]) -> Result<()> {
    let first = shared.published.latest().vector.position(followed.name()).is_none();
    if first {
        followed.enter(Stage::Loading);
    }
    followed.loaded_rows.store(0, Ordering::Relaxed);
    let (source, ids) = (followed.source, wanted.iter().map(|table| table.id).collect::<Vec<_>>());
    shared.with_core(move |core| core.unload_others(source, &ids)).await??;
    let at = Instant::now();
    let mut loaders = Vec::with_capacity(wanted.len());
    for table in wanted {
        let mut loader = loader(shared, table.id).await?;
        let scan = followed.service.source().prepare(whole(table)).await?;
        for partition in 0..scan.partitions() {
            let mut rows = scan.open(partition).await?;
            while let Some(batch) = rows.next().await {
                loader = pushed(followed, loader, batch?).await?;
            }
        }
        loaders.push(loader);
    }
    let before = shared.with_core(move |core| core.source_status(source)).await??.position;
    let next = before.as_ref().map_or(1, |position| position.order() + 1);
    // Readings that were shown and not stored before a restart were fewer than epochs.
    let shown = if before.is_some() && !followed.has_polled() { shared.published.latest().number } else { 0 };
    let number = next.max(shown);
    let position = Position::new(number, number.to_string());
    let (end, delivering) = (position.clone(), Arc::clone(shared));
    let loaded =
        shared.with_core(move |core| core.load_polled(source, end, loaders).map(|report| delivering.deliver(report)));
    loaded.await??;
    followed.snapshots.fetch_add(1, Ordering::Relaxed);
    followed.saw_head(at, position);
    Ok(())
}

/// All rows of a table.
fn whole(table: &Wanted) -> ScanRequest {
    ScanRequest::all(Arc::clone(&table.definition))
}
