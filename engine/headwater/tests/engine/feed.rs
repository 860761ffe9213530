//! Feeds as the command line sees them: what a check tells, and what is opened to be removed.

use std::path::Path;

use headwater::{check, open_feed};
use headwater_connectors::all;
use tempfile::TempDir;

/// A directory with a service over an empty SQLite file.
fn services(feed: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("shop.db"), "").expect("a file");
    let manifest = format!("service: shop\nsource: {{connector: sqlite, path: shop.db}}\n{feed}publishes: \"*\"\n");
    std::fs::write(directory.path().join("shop.yaml"), manifest).expect("a manifest");
    directory
}

fn faults(directory: &Path, service: &str) -> String {
    open_feed(directory, service, &all()).err().unwrap_or_default().join("\n")
}

#[tokio::test]
async fn feed_is_opened_by_its_service_and_leaves_nothing_when_it_is_removed() {
    let directory = services("feed: {mode: triggers, consent: true}\n");
    assert_eq!(check(directory.path(), &all()).await, Vec::<String>::new());
    let feed = open_feed(directory.path(), "shop", &all()).expect("a feed");
    assert_eq!(feed.mode(), "triggers");
    feed.install(&[]).await.expect("it is installed");
    let removed = feed.remove().await.expect("it is removed");
    assert_eq!(removed, ["table \"headwater_shop_feed_log\"", "table \"headwater_shop_feed_tables\""]);
    assert!(feed.remove().await.is_ok_and(|removed| removed.is_empty()));
}

#[tokio::test]
async fn service_without_a_feed_and_one_that_is_not_there_are_named() {
    let directory = services("");
    assert!(faults(directory.path(), "shop").contains("service \"shop\" has no feed switched on"));
    assert!(faults(directory.path(), "shp").contains("is of service \"shp\"; did you mean \"shop\"?"));
    let directory = services("feed: {mode: triggers, consent: false}\n");
    assert!(faults(directory.path(), "shop").contains("consent: true"));
    assert!(check(directory.path(), &all()).await.join("\n").contains("consent: true"));
}
