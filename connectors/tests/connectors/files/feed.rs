//! What differs between listings.

use std::sync::Arc;

use headwater_connectors::FilesConnector;
use headwater_connectors::conformance::feed::{FeedStore, Write};
use headwater_source::{Change, OptionValue, Source, Transaction, async_trait};
use tempfile::TempDir;

use super::text;
use crate::following::{Following, conforms, open_followed, row_count};

fn followed(directory: &std::path::Path) -> Arc<dyn Source> {
    let feed = [("poll_ms", OptionValue::Count(5))];
    open_followed(&FilesConnector, "shop", directory, &[("url", text("."))], "listing", &feed).unwrap()
}

/// Each row is a file of its own. The first stays, so that there is always a table.
struct Notes(TempDir);

impl Notes {
    fn new() -> Self {
        let notes = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(notes.0.path().join("notes")).unwrap();
        notes.put(0, "first", 0);
        notes
    }

    fn path(&self, id: i64) -> std::path::PathBuf {
        self.0.path().join(format!("notes/{id}.csv"))
    }

    fn put(&self, id: i64, body: &str, n: i64) {
        // Whole at once, under its own name.
        let passing = self.0.path().join(format!(".{id}.tmp"));
        std::fs::write(&passing, format!("id,body,n\n{id},\"{}\",{n}\n", body.replace('"', "\"\""))).unwrap();
        std::fs::rename(passing, self.path(id)).unwrap();
    }
}

#[async_trait]
impl FeedStore for Notes {
    fn open(&self, _service: &str) -> Arc<dyn Source> {
        followed(self.0.path())
    }

    fn table(&self) -> &str {
        "notes/"
    }

    async fn commit(&self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { id: 0, .. } | Write::Delete { id: 0 } => {}
                Write::Put { id, body, n } => self.put(*id, body, *n),
                Write::Delete { id } => drop(std::fs::remove_file(self.path(*id))),
                Write::Rekey { from, to } if !self.path(*to).exists() => {
                    if let Ok(text) = std::fs::read_to_string(self.path(*from)) {
                        let text = text.replace(&format!("\n{from},"), &format!("\n{to},"));
                        std::fs::write(self.path(*to), text).unwrap();
                        std::fs::remove_file(self.path(*from)).unwrap();
                    }
                }
                Write::Rekey { .. } => {}
            }
        }
    }

    async fn roll_back(&self, _writes: &[Write]) {}

    async fn token(&self) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn files_feed_conforms() {
    conforms(&Notes::new()).await;
}

fn truncations(taken: &[Transaction]) -> usize {
    let changes = taken.iter().flat_map(|transaction| &transaction.changes);
    changes.filter(|change| matches!(change.change, Change::Truncate)).count()
}

#[tokio::test]
async fn new_file_brings_its_rows_and_one_that_is_replaced_the_whole_table() {
    let notes = Notes::new();
    let following = Following::installed(followed(notes.0.path()), &["notes/"]).await;
    let mut replica = following.snapshot().await;
    notes.put(1, "one", 1);
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!((truncations(&taken), taken.iter().map(row_count).sum::<usize>()), (0, 1));
    notes.put(1, "another", 2);
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!((truncations(&taken), taken.iter().map(row_count).sum::<usize>()), (1, 2));
    std::fs::remove_file(notes.path(1)).unwrap();
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!((truncations(&taken), replica.rows(0).len()), (1, 1));
    // One that has not seen the earlier listings reads the table anew where something changed, and nothing where nothing did.
    let again = Following::of(followed(notes.0.path()), &["notes/"]).await;
    assert!(again.catch_up_and_agree(&mut replica).await.is_empty());
    notes.put(2, "two", 2);
    let again = Following::of(followed(notes.0.path()), &["notes/"]).await;
    assert_eq!(truncations(&again.catch_up_and_agree(&mut replica).await), 1);
}

#[tokio::test]
async fn file_of_other_columns_is_named() {
    let notes = Notes::new();
    let following = Following::installed(followed(notes.0.path()), &["notes/"]).await;
    let mut replica = following.snapshot().await;
    std::fs::write(notes.path(7), "id,body,n,more\n7,x,1,2\n").unwrap();
    let error = following.try_catch_up(&mut replica).await.unwrap_err();
    assert!(error.to_string().contains("\"more\" is new"), "{}", error.report());
}
