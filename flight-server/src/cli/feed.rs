//! `headwater feed`: what follows a service's changes, at its source.

use std::sync::Arc;

use headwater::Feed;

use super::args::{FeedArgs, FeedCommand};
use super::failure::{Failure, say};

pub(super) async fn run(command: &FeedCommand) -> Result<(), Failure> {
    match command {
        FeedCommand::Drop(args) => drop_feed(args).await,
        FeedCommand::Status(args) => status(args).await,
    }
}

async fn drop_feed(args: &FeedArgs) -> Result<(), Failure> {
    let removed = open(args)?.remove().await.map_err(|error| Failure::failed(error.report()))?;
    if removed.is_empty() {
        return say(&format!("{}: nothing was there to remove", args.service));
    }
    removed.iter().try_for_each(|line| say(&format!("{}: removed {line}", args.service)))
}

async fn status(args: &FeedArgs) -> Result<(), Failure> {
    let feed = open(args)?;
    let status = feed.status().await.map_err(|error| Failure::failed(error.report()))?;
    let head = feed.head().await.map_err(|error| Failure::failed(error.report()))?;
    say(&format!("{}: mode {}, the log ends at {head}", args.service, feed.mode()))?;
    if let Some(oldest) = status.oldest {
        say(&format!("{}: can be read on from {oldest}", args.service))?;
    }
    match status.retained_bytes {
        Some(bytes) => say(&format!("{}: {bytes} bytes of log are kept for it", args.service)),
        None => Ok(()),
    }
}

fn open(args: &FeedArgs) -> Result<Arc<dyn Feed>, Failure> {
    headwater::open_feed(&args.services, &args.service, &headwater_connectors::all()).map_err(|faults| {
        for fault in &faults {
            eprintln!("error: {fault}");
        }
        Failure::Told
    })
}
